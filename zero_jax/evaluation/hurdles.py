"""Hurdles: programs that are not good enough on a part of the work are not trained on the rest (SPEC 4)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from zero_jax.support import checked
from zero_jax.tasks import Tasks

WINDOW = 1000
"""A threshold is a quantile of the last so many different fitnesses."""

LEAST = 100
"""Nobody is stopped before so many different fitnesses are known."""


@dataclasses.dataclass(frozen=True)
class Rung:
    """A part of the work, and who passes.

    Attributes:
      tasks: the share of the tasks, the first ones; at least one.
      examples: the share of the training and validation examples of each, the first ones; below 1 they are seen once.
      quantile: programs below this quantile of recent fitnesses on this part are stopped.

    Raises:
      ValueError: shares outside (0, 1], a quantile outside [0, 1).

    Example:
      >>> Rung(tasks=0.5).examples
      1.0
    """

    tasks: float = 1.0
    examples: float = 1.0
    quantile: float = 0.75

    def __post_init__(self) -> None:
        for name in ("tasks", "examples"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"a rung's share of {name} must be above 0 and at most 1, not {getattr(self, name)}")
        if not 0 <= self.quantile < 1:
            raise ValueError(f"a rung's quantile must be at least 0 and below 1, not {self.quantile}")

    def part(self, tasks: Tasks) -> Tasks:
        """The rung's part of the tasks."""
        first = np.arange(max(1, round(self.tasks * len(tasks))))
        order = tasks.order
        some: Tasks = jax.tree.map(lambda leaf: leaf if leaf is order else leaf[first], tasks)
        if self.examples == 1:
            return some
        train, valid = (max(1, round(self.examples * x.shape[1])) for x in (tasks.train_x, tasks.valid_x))
        return some.shortened(train, valid)


class Hurdles:
    """Rungs, and the recent fitnesses at each.

    Args:
      rungs: in the order in which programs come to them.
    """

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self.rungs = tuple(rungs)
        self._recent = [np.zeros(0) for _ in self.rungs]

    def __len__(self) -> int:
        return len(self.rungs)

    def passed(self, number: int, fitness: np.ndarray) -> np.ndarray:
        """Which programs, by their fitness `[n]` at a rung, go on; their fitnesses count from the next call on."""
        recent = self._recent[number]
        enough = len(recent) >= LEAST
        threshold = np.quantile(recent, self.rungs[number].quantile) if enough else -np.inf
        _, first = np.unique(fitness, return_index=True)
        new = fitness[np.sort(first)]
        self._recent[number] = np.concatenate([recent, new[~np.isin(new, recent)]])[-WINDOW:]
        return fitness >= threshold

    def tree(self) -> list[Any]:
        """What later calls depend on."""
        return list(self._recent)

    def restore(self, tree: Any, where: str = "hurdles") -> None:
        """Goes on from what `tree` told.

        Raises:
          ValueError: no fitnesses of as many rungs; `where` is what it calls them.
        """
        recent = enumerate(checked.items(tree, where, len(self.rungs)))
        found = [checked.array(one, f"{where}[{i}]", np.float64, (None,), finite=True) for i, one in recent]
        if any(len(one) > WINDOW or len(np.unique(one)) < len(one) for one in found):
            raise ValueError(f"{where} has more than {WINDOW} fitnesses of a rung, or some of them twice")
        self._recent = found
