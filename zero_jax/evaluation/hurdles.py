"""Hurdles: programs that do badly on a part of the work are not trained on the rest (Real et al. 2020, section 3.2)."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import numpy as np

from zero_jax.evaluation.base import Batch, Fate, Share, Steps
from zero_jax.support.codec import Array
from zero_jax.tasks import Tasks

WINDOW = 1000
"""A threshold is a quantile of this many of the last different fitnesses."""

LEAST = 100
"""No program is stopped before this many different fitnesses are known."""


@dataclasses.dataclass(frozen=True)
class Rung(Share):
    """A part of the work, and which programs pass.

    Attributes:
      tasks, examples: as in `Share`.
      quantile: programs below this quantile of recent fitnesses on this part are stopped.

    Raises:
      ValueError: shares outside (0, 1], a quantile outside [0, 1).

    Example:
      >>> Rung(tasks=0.5).examples
      1.0
    """

    quantile: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.quantile < 1:
            raise ValueError(f"the quantile of a rung must be at least 0 and below 1, not {self.quantile}")


@dataclasses.dataclass
class Recent:
    """The last different fitnesses at each rung.

    Attributes:
      fitness: float64 `[n]` of each rung, at most `WINDOW`, in the order in which they came.
    """

    fitness: tuple[Annotated[np.ndarray, Array(np.float64, (None,))], ...]

    def validate(self) -> None:
        """Refuses more than `WINDOW` fitnesses of a rung, and equal ones."""
        if any(len(one) > WINDOW or len(np.unique(one)) < len(one) for one in self.fitness):
            raise ValueError(f"a rung has more than {WINDOW} fitnesses, or some of them twice")

    def passed(self, number: int, fitness: np.ndarray, quantile: float) -> np.ndarray:
        """`[n]` bool: which programs pass a rung, by their fitness `[n]` there; it counts from the next call on."""
        recent = self.fitness[number]
        threshold = np.quantile(recent, quantile) if len(recent) >= LEAST else -np.inf
        _, first = np.unique(fitness, return_index=True)
        new = fitness[np.sort(first)]
        recent = np.concatenate([recent, new[~np.isin(new, recent)]])[-WINDOW:]
        self.fitness = (*self.fitness[:number], recent, *self.fitness[number + 1 :])
        return fitness >= threshold


@dataclasses.dataclass(frozen=True)
class Hurdles:
    """Stops programs at the first rung that they do not pass. They keep their mean fitness there, for all tasks.

    Attributes:
      rungs: in the order in which programs come to them.
    """

    rungs: tuple[Rung, ...]

    def memory(self, tasks: Tasks) -> Recent:
        """As in `Stage`."""
        return Recent(tuple(np.zeros(0) for _ in self.rungs))

    def run(self, batch: Batch, memory: Recent, following: Callable[[Batch], Steps]) -> Steps:
        """As in `Stage`."""
        results, going = batch.results(Fate.STOPPED), np.arange(len(batch))
        for number, rung in enumerate(self.rungs):
            if not len(going):
                break
            waiting = batch.launch(batch.rows[going], rung, False)
            yield
            early, spent = waiting()
            score = early.mean(1, dtype=np.float64)
            passed = memory.passed(number, score, rung.quantile)
            results.train_steps[going, : spent.shape[1]] += spent
            stopped = going[~passed]
            results.fitness[stopped] = score[~passed, None]
            most = len(stopped) * batch.examples * batch.tasks
            results.saved[Fate.STOPPED] += most - int(results.train_steps[stopped].sum(dtype=np.int64))
            going = going[passed]
        spent = results.train_steps[going]
        rest = yield from following(batch[going])
        results.put(going, rest._replace(train_steps=rest.train_steps + spent))
        return results

    def check(self, memory: Recent, like: Recent, calls: int, where: str) -> None:
        """As in `Stage`."""
        if len(memory.fitness) != len(self.rungs):
            raise ValueError(f"{where}.fitness is of {len(memory.fitness)} rungs, not {len(self.rungs)}")
