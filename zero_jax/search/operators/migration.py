"""Migration: islands exchange individuals (upstream's federated search).

Axes: `I` islands, `P` individuals per island.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from zero_jax.search.operators.population import Individuals
from zero_jax.search.operators.records import join, put, split, take

SAMPLE = 100
"""How many individuals of an island take part: half are offered to all islands, half are replaced."""


class OnIslands(Protocol):
    """The state of a search with islands."""

    @property
    def individuals(self) -> Any:
        """`Individuals`, island by island."""

    @property
    def islands(self) -> int:
        """I."""


S = TypeVar("S", bound=OnIslands)


def migrate(states: Sequence[S], rng: np.random.Generator, sample: int = SAMPLE) -> list[S]:
    """Each island draws a sample of its individuals, offers half of them, and takes the same number from all offers, at
    random, in the places of the other half. Places are ages, and stay.

    Args:
      states: of one search or several, with populations of one size, all of them evaluated.
      rng: the source of randomness.
      sample: at most P of an island take part.

    Returns:
      The states after it; `best` and `evaluations` are unchanged.

    Example:
      >>> from zero_jax import RegularizedEvolution, Scores
      >>> from zero_jax.run.presets import PRESETS
      >>> space = PRESETS["demo"][1].searcher.space
      >>> search = RegularizedEvolution(space, islands=2, population=6, tournament=2, cohort=3)
      >>> state, candidates = search.ask(search.init(0))
      >>> state = search.tell(state, candidates, Scores.of(np.arange(12.0)))
      >>> after, = migrate([state], np.random.default_rng(0))
      >>> after.fitness.tolist()  # three of six places of each island are taken by what both offer
      [[7.0, 11.0, 2.0, 3.0, 5.0, 5.0], [11.0, 7.0, 5.0, 2.0, 10.0, 11.0]]
    """
    drawn = _drawn(states, rng, sample)
    half = drawn.shape[1] // 2
    offers, replaced = drawn[:, :half].reshape(-1), drawn[:, half:]
    taken = np.array([rng.choice(offers, half, replace=False) for _ in range(len(drawn))], np.int64)
    whole = join([state.individuals for state in states])
    return _with(states, put(whole, replaced.reshape(-1), take(whole, taken.reshape(-1))))


def offered(states: Sequence[OnIslands], rng: np.random.Generator, sample: int = SAMPLE) -> Individuals:
    """What islands offer to islands on other machines: half of a sample of each."""
    drawn = _drawn(states, rng, sample)
    which = drawn[:, : drawn.shape[1] // 2].reshape(-1)
    return take(join([state.individuals for state in states]), which)


def taken(
    states: Sequence[S], offers: Sequence[Individuals], rng: np.random.Generator, sample: int = SAMPLE
) -> list[S]:
    """The states after each island has taken as many of all offers, at random, in places drawn at random."""
    drawn = _drawn(states, rng, sample)
    pool = join(offers)
    half = min(drawn.shape[1] // 2, len(pool))
    which = np.array([rng.choice(len(pool), half, replace=False) for _ in range(len(drawn))], np.int64)
    whole = join([state.individuals for state in states])
    return _with(states, put(whole, drawn[:, :half].reshape(-1), take(pool, which.reshape(-1))))


def _drawn(states: Sequence[OnIslands], rng: np.random.Generator, sample: int) -> np.ndarray:
    """`[I, even]` individuals drawn from each island, numbered through all of them."""
    islands = sum(state.islands for state in states)
    size = len(states[0].individuals) // states[0].islands
    even = min(sample, size) // 2 * 2
    drawn = np.array([rng.permutation(size)[:even] for _ in range(islands)])
    return drawn + np.arange(islands)[:, None] * size


def _with(states: Sequence[S], whole: Any) -> list[S]:
    """The states with other individuals, those of all states."""
    parts = split(whole, [len(state.individuals) for state in states])
    return [
        dataclasses.replace(state, individuals=part)  # type: ignore[type-var]
        for state, part in zip(states, parts, strict=True)
    ]
