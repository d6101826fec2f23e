"""What searchers refuse: states from elsewhere that compiled loops cannot take, and populations without bounds."""

from collections.abc import Sequence

import numpy as np

from zero_jax.program.memory import COMPONENTS
from zero_jax.program.programs import Programs, program_bytes
from zero_jax.program.space import SearchSpace
from zero_jax.support.bounds import check_bytes


def check_layout(programs: Programs, space: SearchSpace) -> None:
    """Refuses programs of another layout than those of a space: compiled loops rely on it.

    Raises:
      ValueError: saying what differs.
    """
    for name in ("capacity", "memory"):
        has, expected = tuple(getattr(programs, name)), tuple(getattr(space, name))
        if has != expected:
            raise ValueError(f"the state is of another search: programs of {name} {has}, not {expected}")


def check_ops(programs: Programs, ops: Sequence[Sequence[int]]) -> None:
    """Refuses programs with other ops in a component than these and NO_OP.

    Raises:
      ValueError: naming the first.
    """
    starts, code = programs.starts, np.asarray(programs.code)
    for name, allowed, first, last in zip(COMPONENTS, ops, starts[:3], starts[1:], strict=True):
        others = np.setdiff1d(code[:, first:last, 0], [0, *allowed])
        if len(others):
            raise ValueError(f"the state is of another search: op {others[0]} in {name}, which this one does not use")


def check_population(space: SearchSpace, islands: int, population: int) -> None:
    """Refuses a population that would take too much memory, before any is taken.

    Raises:
      ValueError: if so.
    """
    what = f"{islands:,} islands of {population:,} programs of up to {sum(space.capacity):,} instructions"
    check_bytes(what, islands * population * program_bytes(space.capacity), "take fewer islands or programs")
