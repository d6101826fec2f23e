"""Search by niches: a small population for each function that Predict can compute.

Axes: `N` niches, `P` programs in a niche, `C` children in a cohort, `K` sets of initial values of a child.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores, Share
from zero_jax.program.programs import Programs, concatenate, program_bytes
from zero_jax.search.base import Best, Rng, Searcher, State, combined, register
from zero_jax.search.operators.learners import blank, copy_rows, new_learners, new_mutants, settle, structures
from zero_jax.search.operators.mutation import Mutations, mutate_in_place, mutate_repeatedly, vary_initial_values
from zero_jax.search.operators.predictions import Prediction, predictions
from zero_jax.search.operators.validity import CONDITIONS, conditions
from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.support.codec import Array, Count, Length

KNOWN = 2**19
"""How many of the programs that it asked for a search remembers."""

DRAWN, DRAWS = 20_000, 60
"""First programs are drawn this many at a time, this often at most."""

TUNED, VARIANTS, SPREADS = 4, 256, (1.0, 0.4)
"""How many niches' best programs are tuned at a time; by how many sets of initial values in each round; and how far
these spread: the standard deviation of the logarithm of a factor."""

ANEW = Mutations(types=("randomize_algorithm",), probability=1.0)

REDRAWN = 0.15
"""How often an initial value of a further set is drawn anew."""

EMPTY = -1.0
"""The fitness of a place without a program."""

Phase = Literal["first", "evolve", "tune", "again"]


@dataclasses.dataclass(frozen=True, eq=False)
class NicheState(State):
    """The state of `NicheSearch`.

    Attributes:
      places: `N * P` programs, niche by niche.
      place_fitness: float64 `[N, P]` of what stands in each place, `EMPTY` where nothing does.
      structures: uint64 `[N, P]`, hashes of Predict and Learn in canonical form, without initial values.
      ring: int64 `[N]`, the place in each niche that is filled next.
      champions: the best program of each niche so far, at the present fidelity.
      champion_fitness, champion_hashes: float64 and uint64 `[N]`, theirs.
      tuned_fitness: float64 `[N]`, what it was when a niche was last tuned.
      known: uint64, hashes of programs asked for, each in the place that its last bits say.
      phase: what was asked for last, or will be first.
      rung: of the fidelity ladder.
      tunings: how often the best niches have been tuned; `tuning` counts the rounds of one under way.
      asked: int64 `[n]`, the niches of what was asked for last.
      asked_structures: uint64 `[n]`, their structures.
      tuned: the programs that are being tuned, if any.
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
    asked: Annotated[np.ndarray, Array(np.int64, (None,), least=0, below="N")]
    asked_structures: Annotated[np.ndarray, Array(np.uint64, (None,))]
    tuned: Programs | None

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

    def validate(self) -> None:
        """As in `State`, but a best program is known only after the first tuning."""


@register("niches")
@dataclasses.dataclass(frozen=True)
class NicheSearch(Searcher):
    """Quality diversity with the function that Predict computes as the niche.

    What a program can compute is a small set; how it learns is what needs search. Fitness alone drops the stepping
    stones: a hidden layer that is not trained yet loses against linear programs. In a niche of its own Learn improves
    in place, from rules that became learners in other niches.

    Attributes:
      space: The program space; its Setup holds initial values (`initial_values`).
      niches: The most functions of Predict that get a niche, the shortest first.
      niche_size: Number of programs in a niche (P), one of each structure.
      tournament: Number of programs that compete to become a parent.
      children: Number of children at a time (C).
      sets: Sets of initial values with which each child is evaluated; the best counts (K).
      migration: Share of children whose Setup and Learn come from another niche.
      repeat_mutation: Probability that a mutant is mutated once more, and so on.
      mutations: How children differ from their parents; their `probability` and `components` do not count: every child
        is mutated, in Setup or Learn, since Predict is the niche.
      setup_share: Share of mutations that change an initial value; the others change Learn.
      fidelity: Shares of tasks and examples for the short evaluations, one rung after the other.
      climb_after: Evaluations after which a rung gives way to the next.
      tune_every: Evaluations after which the best niches are tuned: the initial values of their best programs, on all
        tasks and examples.

    Raises:
      ValueError: Setup without initial values, or numbers out of range.
    """

    niches: int = 200
    niche_size: int = 100
    tournament: int = 5
    children: int = 200
    sets: int = 4
    migration: float = 0.1
    repeat_mutation: float = 0.5
    mutations: Mutations = Mutations(
        types=(
            "insert_instruction", "remove_instruction", "alter_param", "randomize_instruction", "swap_instructions",
        ),
        weights=(0.3, 0.15, 0.3, 0.15, 0.1),
    )  # fmt: skip
    setup_share: float = 0.3
    fidelity: tuple[tuple[float, float], ...] = ((0.5, 0.1), (0.5, 0.4))
    climb_after: int = 1_500_000
    tune_every: int = 250_000

    state_type: ClassVar[type[State]] = NicheState

    def __post_init__(self) -> None:
        for name in ("niches", "niche_size", "tournament", "children", "sets", "climb_after", "tune_every"):
            check_number(name, getattr(self, name))
        for name in ("migration", "repeat_mutation", "setup_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        if not self.space.genes:
            raise ValueError(
                "niche search needs a Setup of initial values: set the space's initial_values, and give Setup ops such "
                "as SCALAR_CONST_SET, VECTOR_GAUSSIAN_SET and MATRIX_GAUSSIAN_SET"
            )
        if not self.fidelity:
            raise ValueError("fidelity needs at least one rung, such as ((0.5, 0.1),)")
        for rung in self.fidelity:
            Share(*rung)
        what = f"{self.niches:,} niches of {self.niche_size:,} programs"
        check_bytes(what, self.niches * self.niche_size * program_bytes(self.space.capacity), "take fewer")

    @property
    def cohort(self) -> int:
        """How many programs are asked for at a time."""
        return self.children * self.sets

    @functools.cached_property
    def _moves(self) -> Mutations:
        shares = self.setup_share, 0.0, 1 - self.setup_share
        return dataclasses.replace(self.mutations, components=shares, probability=1.0)

    @functools.cached_property
    def predictions(self) -> list[Prediction]:
        """The function of each niche."""
        return predictions(self.space, self.niches, self.interface)

    @functools.cached_property
    def _predict(self) -> tuple[np.ndarray, np.ndarray]:
        """Predict of each niche: code `[N, slots, 4]` and lengths `[N]`."""
        sizes = np.array([len(one.code) for one in self.predictions], np.int32)
        code = np.zeros((len(sizes), self.space.capacity[1], 4), np.int32)
        for row, one in zip(code, self.predictions, strict=True):
            row[: len(one.code)] = one.code
        return code, sizes

    # ------------------------------------------------------------------------------------------ the contract

    def init(self, seed: int | np.random.SeedSequence) -> NicheState:
        """The state before the first evaluation."""
        n, rng = len(self.predictions), np.random.default_rng(seed)
        nothing = np.zeros(0, np.int64)
        return NicheState(
            evaluations=0,
            best=None,
            rng=Rng.of(rng),
            places=blank(self.space, n * self.niche_size),
            place_fitness=np.full((n, self.niche_size), EMPTY),
            structures=np.zeros((n, self.niche_size), np.uint64),
            ring=np.zeros(n, np.int64),
            champions=blank(self.space, n),
            champion_fitness=np.full(n, EMPTY),
            champion_hashes=np.zeros(n, np.uint64),
            tuned_fitness=np.full(n, EMPTY),
            known=np.zeros(KNOWN, np.uint64),
            phase="first",
            rung=0,
            tunings=0,
            tuning=0,
            asked=nothing,
            asked_structures=nothing.astype(np.uint64),
            tuned=None,
        )

    def ask(self, state: NicheState) -> tuple[NicheState, Candidates]:
        """What to evaluate next: K programs for each child; or variants of the best programs, on all tasks."""
        rng = state.generator()
        if state.phase == "tune":
            return self._tuning(state, rng)
        known = state.known.copy()
        if state.phase == "first":
            children, niches = self._first(known, rng)
        elif state.phase == "again":
            niches, places = np.nonzero(state.place_fitness > EMPTY)
            children = state.places[niches * self.niche_size + places]
        else:
            children, niches = self._children(state, known, rng)
        kinds = structures(children, self.interface)
        programs = self._with_sets(children, rng)
        share = self.fidelity[state.rung]
        changes: dict[str, Any] = {"asked": niches, "asked_structures": kinds, "known": known}
        candidates = dataclasses.replace(self.candidates(programs), tasks_share=share[0], examples_share=share[1])
        return dataclasses.replace(state, rng=Rng.of(rng), **changes), candidates

    def tell(self, state: NicheState, candidates: Candidates, scores: Scores) -> NicheState:
        """The state after the evaluation of the candidates."""
        fitness = combined(candidates, scores)
        evaluations = state.evaluations + len(candidates)
        state = dataclasses.replace(state, evaluations=evaluations)
        per = VARIANTS if state.phase == "tune" else self.sets
        by_child = fitness.reshape(-1, per)
        winners = np.arange(len(by_child)) * per + by_child.argmax(1)
        programs, best = candidates.programs[winners], by_child.max(1)
        if state.phase == "tune":
            return self._tuned(state, programs, best)
        return self._next(self._settled(state, programs, best, candidates.hashes[winners]))

    # ------------------------------------------------------------------------------------------ children

    def _seat(self, programs: Programs, niches: np.ndarray) -> None:
        """Gives programs the Predict of a niche."""
        code, sizes = self._predict
        first, last = programs.starts[1], programs.starts[2]
        programs.code[:, first:last], programs.data[:, first:last] = code[niches], 0
        programs.length[:, 1] = sizes[niches]

    def _first(self, known: np.ndarray, rng: np.random.Generator) -> tuple[Programs, np.ndarray]:
        """Random programs that can learn, up to P for each niche."""
        missing = np.full(len(self.predictions), self.niche_size)
        parts: list[tuple[Programs, np.ndarray]] = []
        for _ in range(DRAWS):
            open_ = np.flatnonzero(missing)
            if not len(open_):
                break
            niches = np.repeat(open_, max(1, DRAWN // len(open_)))
            programs = blank(self.space, len(niches))
            programs.length[:] = self.space.initial_size
            mutate_in_place(programs, self.space, ANEW, rng)
            self._seat(programs, niches)
            rows = np.flatnonzero(new_learners(programs, known, self.interface)[0])
            rank = np.arange(len(rows)) - np.searchsorted(
                niches[rows], niches[rows]
            )  # how many of its niche come before
            rows = rows[rank < missing[niches[rows]]]
            np.subtract.at(missing, niches[rows], 1)
            parts.append((programs[rows], niches[rows]))
        niches = np.concatenate([part[1] for part in parts])
        if not len(niches):
            raise ValueError(
                "no program that can learn from its mistakes was found in this space: give Learn more ops or more "
                "instructions, or use method='evolution'"
            )
        return concatenate([part[0] for part in parts]), niches

    def _children(self, state: NicheState, known: np.ndarray, rng: np.random.Generator) -> tuple[Programs, np.ndarray]:
        """Mutants that can learn and are new, and their niches."""
        ranks = np.argsort(np.argsort(-state.champion_fitness))
        weights = np.where(state.champion_fitness > EMPTY, 1 / (ranks + 2.0), 0)
        niches = rng.choice(len(weights), self.children, p=weights / weights.sum())
        source = np.where(rng.random(self.children) < self.migration, rng.permutation(niches), niches)
        drawn = rng.integers(0, self.niche_size, (self.children, self.tournament))
        winners = state.place_fitness[source[:, None], drawn].argmax(1)
        rows = drawn[np.arange(self.children), winners]
        parents = state.places[source * self.niche_size + rows]
        empty = state.place_fitness[source, rows] == EMPTY
        copy_rows(parents, np.flatnonzero(empty), state.champions, source[empty])
        self._seat(parents, niches)
        children, done = new_mutants(parents, functools.partial(self._mutate, rng=rng), known, self.interface)
        return (children, niches[done]) if len(done) else (parents, niches)  # nothing new nearby: parents once more

    def _mutate(self, programs: Programs, rng: np.random.Generator) -> None:
        mutate_repeatedly(programs, self.space, self._moves, self.repeat_mutation, rng)

    def _with_sets(self, programs: Programs, rng: np.random.Generator) -> Programs:
        """K of each program: itself, and copies with other initial values."""
        many = programs[np.repeat(np.arange(len(programs)), self.sets)]
        vary_initial_values(many, self.space, 1.0, REDRAWN, self.sets, rng)
        idle = np.flatnonzero(conditions(many, self.interface) < CONDITIONS)  # by a zero where there should be none
        if len(idle):
            some = programs[np.repeat(idle // self.sets, 2)]
            vary_initial_values(some, self.space, 1.0, 0.0, 2, rng)
            copy_rows(many, idle, some, np.arange(len(idle)) * 2 + 1)
        return many

    # ------------------------------------------------------------------------------------------ what becomes of them

    def _settled(self, state: NicheState, programs: Programs, fitness: np.ndarray, hashes: np.ndarray) -> NicheState:
        """The state after children have taken their places."""
        again = state.phase == "again"
        places = np.full_like(state.place_fitness, EMPTY) if again else state.place_fitness.copy()
        structures = np.zeros_like(state.structures) if again else state.structures.copy()
        ring = np.zeros_like(state.ring) if again else state.ring.copy()
        champion_fitness = np.full_like(state.champion_fitness, EMPTY) if again else state.champion_fitness.copy()
        owners = np.full(places.size, -1, np.int64)
        settle(places, structures, ring, state.asked, state.asked_structures, fitness, owners)
        rows = np.flatnonzero(owners >= 0)
        everywhere, champions = state.places[:], state.champions[:]
        copy_rows(everywhere, rows, programs, owners[rows])
        order = np.argsort(-fitness, kind="stable")
        niches, first = np.unique(state.asked[order], return_index=True)
        better = fitness[order[first]] > champion_fitness[niches]
        niches, winners = niches[better], order[first[better]]
        champion_hashes = state.champion_hashes.copy()
        champion_fitness[niches], champion_hashes[niches] = fitness[winners], hashes[winners]
        copy_rows(champions, niches, programs, winners)
        return dataclasses.replace(
            state,
            places=everywhere,
            place_fitness=places,
            structures=structures,
            ring=ring,
            champions=champions,
            champion_fitness=champion_fitness,
            champion_hashes=champion_hashes,
            tuned_fitness=np.full_like(champion_fitness, EMPTY) if again else state.tuned_fitness,
        )

    def _next(self, state: NicheState) -> NicheState:
        """Decides what to ask for next."""
        if state.evaluations >= state.tunings * self.tune_every:
            best = np.argsort(-state.champion_fitness, kind="stable")[:TUNED]
            best = best[(state.champion_fitness > EMPTY)[best] & (state.champion_fitness > state.tuned_fitness)[best]]
            state = dataclasses.replace(state, tunings=state.evaluations // self.tune_every + 1)
            if len(best):
                tuned_fitness = state.tuned_fitness.copy()
                tuned_fitness[best] = state.champion_fitness[best]
                return dataclasses.replace(
                    state, phase="tune", tuning=0, tuned=state.champions[best], tuned_fitness=tuned_fitness
                )
        return self._evolving(state)

    def _evolving(self, state: NicheState) -> NicheState:
        """The next cohort, perhaps on the next rung."""
        if state.rung + 1 < len(self.fidelity) and state.evaluations >= (state.rung + 1) * self.climb_after:
            return dataclasses.replace(state, phase="again", rung=state.rung + 1, tuned=None)
        return dataclasses.replace(state, phase="evolve", tuned=None)

    def _tuning(self, state: NicheState, rng: np.random.Generator) -> tuple[NicheState, Candidates]:
        """Variants of the programs that are being tuned, the first of each as it is."""
        assert state.tuned is not None
        many = state.tuned[np.repeat(np.arange(len(state.tuned)), VARIANTS)]
        vary_initial_values(many, self.space, SPREADS[state.tuning], 0.0, VARIANTS, rng)
        return dataclasses.replace(state, rng=Rng.of(rng)), self.candidates(many)

    def _tuned(self, state: NicheState, programs: Programs, fitness: np.ndarray) -> NicheState:
        """The state after a round of tuning."""
        winner = int(fitness.argmax())
        if fitness[winner] > state.best_fitness:
            best = Best(programs[winner], float(fitness[winner]), state.evaluations)
            state = dataclasses.replace(state, best=best)
        if state.tuning + 1 < len(SPREADS):
            return dataclasses.replace(state, tuning=state.tuning + 1, tuned=programs)
        return self._evolving(state)
