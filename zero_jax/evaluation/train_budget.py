"""The train budget: programs that cost too much are not trained (upstream's train budget)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from zero_jax.evaluation.base import Batch, Fate, Nothing, Steps
from zero_jax.evaluation.cost import within_budget
from zero_jax.tasks import Tasks


@dataclasses.dataclass(frozen=True)
class TrainBudget:
    """Programs that cost more than `times` the library's 2-layer network get fitness 0 untrained.

    Instructions count as they stand, dead ones too, as upstream counts them.

    Attributes:
      times: the budget, in multiples of that network.

    Raises:
      ValueError: a budget that is not above 0.
    """

    times: float = 2.0

    def __post_init__(self) -> None:
        if not self.times > 0:
            raise ValueError(f"the train budget must be above 0, not {self.times}")

    def memory(self, tasks: Tasks) -> Nothing:
        """As in `Stage`."""
        return Nothing()

    def run(self, batch: Batch, memory: Nothing, following: Callable[[Batch], Steps]) -> Steps:
        """As in `Stage`."""
        programs = batch.candidates.programs
        fits = within_budget(programs, batch.examples, self.times, batch.costs, batch.rows)
        within, results = np.flatnonzero(fits), batch.results(Fate.OVER_BUDGET)
        results.put(within, (yield from following(batch[within])))
        results.saved[Fate.OVER_BUDGET] += (len(batch) - len(within)) * batch.examples * batch.tasks
        return results

    def check(self, memory: Any, like: Any, calls: int, where: str) -> None:
        """As in `Stage`."""
