"""Migration: islands exchange programs (SPEC 4).

Axes: `I` islands, `P` programs per island.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from zero_jax.search.lineage import Lines
from zero_jax.search.state import SearchState

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
      >>> from zero_jax.presets import PRESETS
      >>> search = RegularizedEvolution(PRESETS["linear"][1].space, islands=2, population=6, tournament=2, cohort=3)
      >>> state, programs = search.ask(search.init(0))
      >>> state = search.tell(state, programs, np.arange(12.0))
      >>> after, = migrate([state], np.random.default_rng(0))
      >>> after.fitness.tolist()  # three of six places of each island are taken by what both offer
      [[7.0, 11.0, 2.0, 3.0, 5.0, 5.0], [11.0, 7.0, 5.0, 2.0, 10.0, 11.0]]
    """
    counts = [len(state.fitness) for state in states]
    islands, size = sum(counts), states[0].fitness.shape[1]
    half = min(sample, size) // 2
    drawn = np.array([rng.permutation(size)[: 2 * half] for _ in range(islands)]) + np.arange(islands)[:, None] * size
    offered, replaced = drawn[:, :half].reshape(-1), drawn[:, half:]
    taken = np.array([rng.choice(offered, half, replace=False) for _ in range(islands)], np.int64)

    def exchanged(parts: Sequence[np.ndarray]) -> list[np.ndarray]:  # `[I * P, ...]` of each state
        whole = np.concatenate(parts)
        whole[replaced] = whole[taken]  # all are read before any is written
        return np.split(whole, np.cumsum(counts)[:-1] * size)

    columns = zip(*map(_columns, states), strict=True)
    return [_with_columns(*told) for told in zip(states, *map(exchanged, columns), strict=True)]


def _columns(state: SearchState) -> list[np.ndarray]:
    """All that belongs to a program: `[I * P, ...]` each."""
    programs, lines = state.population, state.lines
    assert lines is not None
    parts = (programs.code, programs.data, programs.length)
    niches = [] if state.niches is None else [state.niches.forms, state.niches.structures]
    told = [state.fitness.reshape(-1), lines.ancestors, lines.fitness, lines.births]
    return [*map(np.asarray, parts), *told, *niches]


def _with_columns(
    state: SearchState,
    code: Any,
    data: Any,
    length: Any,
    fitness: Any,
    ancestors: Any,
    best: Any,
    births: Any,
    *niches: Any,
) -> SearchState:
    """The inverse."""
    assert state.lines is not None
    return dataclasses.replace(
        state,
        population=state.population.with_arrays(code, data, length),
        fitness=fitness.reshape(state.fitness.shape),
        lines=Lines(ancestors, best, births, state.lines.parents),
        niches=state.niches and dataclasses.replace(state.niches, forms=niches[0], structures=niches[1]),
    )
