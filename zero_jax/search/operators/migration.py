"""Migration: islands exchange programs (SPEC 4).

Axes: `I` islands, `P` programs per island.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zero_jax.program.programs import Programs, programs_from
from zero_jax.program.space import SearchSpace
from zero_jax.search.efficient import structures
from zero_jax.search.operators import lineage
from zero_jax.search.operators.lineage import Lines
from zero_jax.search.state import SearchState
from zero_jax.support.checked import Fields

SAMPLE = 100
"""How many programs of an island take part: half are offered to all islands, half give way to what others offer."""


def migrate(states: Sequence[SearchState], rng: np.random.Generator, sample: int = SAMPLE) -> list[SearchState]:
    """Each island draws a sample of its programs, offers half of them, and takes as many from all that is offered, at
    random, in the places of the other half; places are ages, and stay.

    Args:
      states: of one search or several, with populations of one size, all of them evaluated.
      rng: what is drawn from.
      sample: at most P of an island take part.

    Returns:
      The states after it; `best` and `evaluations` are as they were.

    Example:
      >>> from zero_jax import RegularizedEvolution
      >>> from zero_jax.run.presets import PRESETS
      >>> search = RegularizedEvolution(PRESETS["linear"][1].space, islands=2, population=6, tournament=2, cohort=3)
      >>> state, programs = search.ask(search.init(0))
      >>> state = search.tell(state, programs, np.arange(12.0))
      >>> after, = migrate([state], np.random.default_rng(0))
      >>> after.fitness.tolist()  # three of six places of each island are taken by what both offer
      [[7.0, 11.0, 2.0, 3.0, 5.0, 5.0], [11.0, 7.0, 5.0, 2.0, 10.0, 11.0]]
    """
    drawn = _drawn(states, rng, sample)
    half = drawn.shape[1] // 2
    offered, replaced = drawn[:, :half].reshape(-1), drawn[:, half:]
    taken = np.array([rng.choice(offered, half, replace=False) for _ in range(len(drawn))], np.int64)
    return _with(states, replaced, [column[taken] for column in _whole(states)])


class Migrants(NamedTuple):
    """Programs on their way to other islands, with all that belongs to them.

    Attributes:
      code, data, length: `[n, ...]` theirs, as in `Programs`.
      fitness: `[n]` float64.
      ancestors, best, births: `[n]` their lines, as `ancestors`, `fitness` and `births` of `Lines`.
    """

    code: np.ndarray
    data: np.ndarray
    length: np.ndarray
    fitness: np.ndarray
    ancestors: np.ndarray
    best: np.ndarray
    births: np.ndarray

    def tree(self) -> dict[str, Any]:
        """All of it as arrays and plain values, as `zero_jax.support.files.packed` takes them."""
        return self._asdict() | {"ancestors": lineage.tree(self.ancestors.tolist())}

    @classmethod
    def from_tree(cls, tree: Any, like: SearchSpace | Programs, where: str = "migrants") -> "Migrants":
        """The inverse of `tree`.

        Args:
          tree: what that gave.
          like: a space or programs whose capacity and memory the programs must have.
          where: what errors call it.

        Raises:
          ValueError: anything that `tree` does not give.
        """
        told = Fields(tree, where, cls._fields)
        fitness = told.array("fitness", np.float64, (None,), finite=True)
        n = len(fitness)
        arrays = {name: told[name] for name in ("code", "data", "length")}
        sizes = {"capacity": list(like.capacity), "memory": list(like.memory)}
        programs = programs_from(arrays | sizes, like, where, n)
        found = lineage.from_tree(told["ancestors"], like, told.where("ancestors"))
        if len(found) != n:
            raise ValueError(f"{told.where('ancestors')} has {len(found)} for {n} programs")
        ancestors = np.empty(n, object)
        ancestors[:] = found
        best, births = told.array("best", np.float64, (n,), finite=True), told.array("births", np.int64, (n,), least=0)
        return cls(programs.code, programs.data, programs.length, fitness, ancestors, best, births)


def offered(states: Sequence[SearchState], rng: np.random.Generator, sample: int = SAMPLE) -> Migrants:
    """What islands offer to others that are elsewhere, on another machine: half of a sample of each."""
    drawn = _drawn(states, rng, sample)
    which = drawn[:, : drawn.shape[1] // 2].reshape(-1)
    return Migrants(*(column[which] for column in _whole(states)))


def taken(
    states: Sequence[SearchState], offers: Sequence[Migrants], rng: np.random.Generator, sample: int = SAMPLE
) -> list[SearchState]:
    """The states after each island has taken as many of all offers, at random, in places drawn at random."""
    drawn = _drawn(states, rng, sample)
    pool = [np.concatenate(columns) for columns in zip(*offers, strict=True)]
    half = min(drawn.shape[1] // 2, len(pool[0]))
    which = np.array([rng.choice(len(pool[0]), half, replace=False) for _ in range(len(drawn))], np.int64)
    return _with(states, drawn[:, :half], [column[which] for column in pool])


def _drawn(states: Sequence[SearchState], rng: np.random.Generator, sample: int) -> np.ndarray:
    """`[I, even]` programs drawn from each island, numbered through all of them."""
    islands, size = sum(len(state.fitness) for state in states), states[0].fitness.shape[1]
    even = min(sample, size) // 2 * 2
    drawn = np.array([rng.permutation(size)[:even] for _ in range(islands)])
    return drawn + np.arange(islands)[:, None] * size


def _whole(states: Sequence[SearchState]) -> list[np.ndarray]:
    """All that belongs to programs: `[I * P, ...]` each, of all states."""
    return [np.concatenate(parts) for parts in zip(*map(_columns, states), strict=True)]


def _with(states: Sequence[SearchState], places: np.ndarray, columns: Sequence[np.ndarray]) -> list[SearchState]:
    """The states with other programs in some places, numbered through all of them."""
    whole = _whole(states)
    for column, new in zip(whole, columns, strict=True):
        column[places] = new
    ends = np.cumsum([state.fitness.size for state in states])[:-1]
    parts = zip(*(np.split(column, ends) for column in whole), strict=True)
    return [_with_columns(state, *part) for state, part in zip(states, parts, strict=True)]


def _columns(state: SearchState) -> list[np.ndarray]:
    """All that belongs to a program: `[I * P, ...]` each."""
    programs, lines = state.population, state.lines
    assert lines is not None
    parts = (programs.code, programs.data, programs.length)
    return [*map(np.asarray, parts), state.fitness.reshape(-1), lines.ancestors, lines.fitness, lines.births]


def _with_columns(
    state: SearchState, code: Any, data: Any, length: Any, fitness: Any, ancestors: Any, best: Any, births: Any
) -> SearchState:
    """The inverse."""
    assert state.lines is not None
    population = state.population.with_arrays(code, data, length)
    niches = state.niches
    if niches is not None:
        niches = dataclasses.replace(niches, structures=structures(population, niches.interface))
    return dataclasses.replace(
        state,
        population=population,
        fitness=fitness.reshape(state.fitness.shape),
        lines=Lines(ancestors, best, births, state.lines.parents),
        niches=niches,
    )
