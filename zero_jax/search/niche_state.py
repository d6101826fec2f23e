"""What a search by niches continues from.

Axes: `N` niches, `P` programs in a niche, `A` programs asked for last, without their further sets of initial values.
"""

import dataclasses
from typing import Annotated, Literal

import numpy as np

from zero_jax.program.programs import Programs
from zero_jax.search.base import Best, State
from zero_jax.search.operators import credit
from zero_jax.search.operators.credit import Credit
from zero_jax.search.operators.learners import copied, copy_rows, settle
from zero_jax.support.codec import Array, Count, Length

KNOWN = 2**19
"""How many of the programs it has asked for a search remembers."""

EMPTY = -1.0
"""The fitness of a place without a program."""

Phase = Literal["begin", "first", "evolve", "explore", "tune", "again"]


@dataclasses.dataclass(frozen=True, eq=False)
class NicheState(State):
    """The state of `NicheSearch`.

    Attributes:
      places: `N * P` programs, niche by niche.
      place_fitness: float64 `[N, P]` of what stands in each place, `EMPTY` where nothing does.
      structures: uint64 `[N, P]`, hashes of Predict and Learn in canonical form, without initial values.
      ring: int64 `[N]`, the place in each niche that is filled next.
      champions: the best program of each niche so far, at the present fidelity; its Predict is that of the niche.
      champion_fitness, champion_hashes: float64 and uint64 `[N]`, theirs.
      tuned_fitness: float64 `[N]`, what it was when a niche was last tuned.
      known: uint64, hashes of programs asked for, each in the place that its last bits say.
      phase: what the next `ask` proposes, and after it what was proposed.
      rung: of the fidelity ladder.
      tunings: after how many times `tune_every` evaluations the best niches are tuned next; `tuning` counts the rounds
        of one under way.
      explorations: after how many times `explore_every` evaluations new functions are sought next.
      asked: int64 `[A]`, the niches of what was asked for last.
      asked_structures: uint64 `[A]`, their structures.
      tuned: the programs that are being tuned, if any.
      credit: which mutation types succeed; None unless their frequencies adapt.
    """

    places: Annotated[Programs, Length("N*P")]
    place_fitness: Annotated[np.ndarray, Array(np.float64, ("N", "P"))]
    structures: Annotated[np.ndarray, Array(np.uint64, ("N", "P"))]
    ring: Annotated[np.ndarray, Array(np.int64, ("N",), least=0, below="P")]
    champions: Annotated[Programs, Length("N")]
    champion_fitness: Annotated[np.ndarray, Array(np.float64, ("N",))]
    champion_hashes: Annotated[np.ndarray, Array(np.uint64, ("N",))]
    tuned_fitness: Annotated[np.ndarray, Array(np.float64, ("N",))]
    known: Annotated[np.ndarray, Array(np.uint64, (KNOWN,))]
    phase: Phase
    rung: Count
    tunings: Count
    tuning: Count
    explorations: Count
    asked: Annotated[np.ndarray, Array(np.int64, ("A",), least=0, below="N")]
    asked_structures: Annotated[np.ndarray, Array(np.uint64, ("A",))]
    tuned: Programs | None
    credit: Credit | None = None

    def settled(self, programs: Programs, own: np.ndarray, fitness: np.ndarray, hashes: np.ndarray) -> "NicheState":
        """The state after the `A` programs asked for have taken their places; on a new rung, all places are new.

        Args:
          programs: each with the best of its sets of initial values.
          own: float64 `[A]`, their fitness with their own initial values.
          fitness: float64 `[A]`, with the best ones.
          hashes: uint64 `[A]`, of their canonical forms.
        """
        again = self.phase == "again"
        places = np.full_like(self.place_fitness, EMPTY) if again else self.place_fitness.copy()
        structures = np.zeros_like(self.structures) if again else self.structures.copy()
        ring = np.zeros_like(self.ring) if again else self.ring.copy()
        owners = np.full(places.size, -1, np.int64)
        settle(places, structures, ring, self.asked, self.asked_structures, own, fitness, owners)
        rows = np.flatnonzero(owners >= 0)
        everywhere, champions = copied(self.places), copied(self.champions)
        copy_rows(everywhere, rows, programs, owners[rows])

        champion_fitness = np.full_like(self.champion_fitness, EMPTY) if again else self.champion_fitness.copy()
        champion_hashes = self.champion_hashes.copy()
        order = np.argsort(-fitness, kind="stable")
        niches, first = np.unique(self.asked[order], return_index=True)
        better = fitness[order[first]] > champion_fitness[niches]
        niches, winners = niches[better], order[first[better]]
        champion_fitness[niches], champion_hashes[niches] = fitness[winners], hashes[winners]
        copy_rows(champions, niches, programs, winners)
        return dataclasses.replace(
            self,
            places=everywhere,
            place_fitness=places,
            structures=structures,
            ring=ring,
            champions=champions,
            champion_fitness=champion_fitness,
            champion_hashes=champion_hashes,
            tuned_fitness=np.full_like(champion_fitness, EMPTY) if again else self.tuned_fitness,
            credit=credit.settled(self.credit, fitness),
        )

    def winners(self, niches: np.ndarray, size: int, rng: np.random.Generator) -> tuple[Programs, np.ndarray]:
        """The winner of a tournament of that size in each of some niches, and its fitness.

        In a tournament of empty places the best program of the niche wins.
        """
        places = self.place_fitness.shape[1]
        drawn = rng.integers(0, places, (len(niches), size))
        rows = drawn[np.arange(len(niches)), self.place_fitness[niches[:, None], drawn].argmax(1)]
        programs, fitness = self.places[niches * places + rows], self.place_fitness[niches, rows]
        empty = fitness == EMPTY
        fitness[empty] = self.champion_fitness[niches[empty]]
        copy_rows(programs, np.flatnonzero(empty), self.champions, niches[empty])
        return programs, fitness

    def renewed(self, niches: np.ndarray, champions: Programs) -> "NicheState":
        """The state with some niches emptied, and with other functions.

        Args:
          niches: int64, which.
          champions: for each a program with nothing but its Predict.
        """
        everyone = copied(self.champions)
        copy_rows(everyone, niches, champions, np.arange(len(niches)))

        def emptied(values: np.ndarray, value: float) -> np.ndarray:
            values = values.copy()
            values[niches] = value
            return values

        return dataclasses.replace(
            self,
            place_fitness=emptied(self.place_fitness, EMPTY),
            structures=emptied(self.structures, 0),
            ring=emptied(self.ring, 0),
            champions=everyone,
            champion_fitness=emptied(self.champion_fitness, EMPTY),
            champion_hashes=emptied(self.champion_hashes, 0),
            tuned_fitness=emptied(self.tuned_fitness, EMPTY),
        )

    def best_of_niches(self) -> list[Best]:
        """The best of each niche that has one, the best first."""
        order = np.argsort(-self.champion_fitness, kind="stable")[: int((self.champion_fitness > EMPTY).sum())]
        return [Best(self.champions[i], float(self.champion_fitness[i]), self.evaluations) for i in order]

    @property
    def programs(self) -> Programs:
        """`N`: the best of each niche."""
        return self.champions

    @property
    def fitness(self) -> np.ndarray:
        """`[1, N]` float64, theirs, at the present fidelity; 0 for an empty niche."""
        return np.maximum(self.champion_fitness, 0.0)[None]

    @property
    def hashes(self) -> np.ndarray:
        """`[N]` uint64, of their canonical forms."""
        return self.champion_hashes
