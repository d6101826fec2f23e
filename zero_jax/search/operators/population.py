"""Populations: individuals on islands, and what belongs to each of them.

Axes: `N` individuals, island by island.
"""

import dataclasses
from typing import Annotated

import numpy as np

from zero_jax.program.programs import Programs
from zero_jax.search.operators.lineage import Lines, no_lines
from zero_jax.support.codec import Array, Length


@dataclasses.dataclass(frozen=True, eq=False)
class Individuals:
    """What belongs to individuals, and travels with them when they migrate; never changed in place.

    Attributes:
      programs: `N` programs.
      fitness: float64 `[N]`, NaN before the evaluation.
      hashes: uint64 `[N]`, of the canonical forms; 0 before the evaluation.
      lines: what they descend from.
    """

    programs: Annotated[Programs, Length("N")]
    fitness: Annotated[np.ndarray, Array(np.float64, ("N",), finite=False)]
    hashes: Annotated[np.ndarray, Array(np.uint64, ("N",))]
    lines: Lines

    def __len__(self) -> int:
        return len(self.fitness)

    def validate(self) -> None:
        """Refuses individuals of which only some were evaluated."""
        evaluated = np.isfinite(self.fitness)
        lines = np.isfinite(self.lines.fitness), np.array([one is not None for one in self.lines.ancestors], bool)
        if not len(self) or not (evaluated.all() or np.isnan(self.fitness).all()):
            raise ValueError("some fitnesses are not finite, or there are none")
        if any((one != evaluated).any() for one in lines):
            raise ValueError("there are fitnesses without a line of descent, or the other way round")

    @property
    def evaluated(self) -> bool:
        """Whether they have been evaluated."""
        return bool(np.isfinite(self.fitness[0]))


def unevaluated(programs: Programs) -> Individuals:
    """Individuals before their evaluation."""
    n = len(programs)
    return Individuals(programs, np.full(n, np.nan), np.zeros(n, np.uint64), no_lines(n))
