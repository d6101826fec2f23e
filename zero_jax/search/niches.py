"""Search by niches: a small population for each function that Predict can compute.

Axes: `N` niches, `P` programs in a niche, `C` children in a cohort, `K` sets of initial values of a child.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores, Share
from zero_jax.program.programs import Programs, concatenate, program_bytes
from zero_jax.program.space import Component
from zero_jax.search.base import Best, Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_layout, check_ops
from zero_jax.search.niche_state import EMPTY, KNOWN, NicheState
from zero_jax.search.operators import credit
from zero_jax.search.operators.expressions import Prediction
from zero_jax.search.operators.learners import (
    TRIES,
    blank,
    new_mutants,
    random_learners,
    structures,
    with_sets,
)  # fmt: skip
from zero_jax.search.operators.mutation import Mutations, mutate_repeatedly, vary_initial_values
from zero_jax.search.operators.predictions import all_listed, explored, predictions
from zero_jax.search.operators.selection import MOST_DRAWS, by_rank
from zero_jax.support.bounds import check_bytes, check_number

TUNED, VARIANTS, SPREADS = 4, 256, (1.0, 0.4)
"""How many niches' best programs are tuned at a time; by how many sets of initial values in each round; and how far
these spread: the standard deviation of the logarithm of a factor."""

EXPLORED, SETTLERS = 0.05, 0.1
"""The share of niches that give way to new functions at a time; and of a new niche's places that are filled at once."""


@register("niches")
@dataclasses.dataclass(frozen=True)
class NicheSearch(Searcher):
    """Quality diversity with the function that Predict computes as the niche.

    What a program can compute is a small set; how it learns is what needs search. Fitness alone drops the stepping
    stones: a hidden layer that is not trained yet loses to linear programs. In a niche of its own Learn improves
    in place, from rules that became learners in other niches.

    Attributes:
      space: The program space; its Setup holds initial values (`initial_values`).
      niches: The most functions of Predict that get a niche, the shortest first.
      niche_size: Number of programs in a niche (P), one of each structure.
      tournament: Number of programs that compete to become a parent.
      children: Number of children at a time (C).
      sets: Sets of initial values with which each child is evaluated; the best counts (K).
      migration: Share of children whose parent comes from a niche drawn anew; they keep its Setup and Learn.
      repeat_mutation: Probability that a mutant is mutated once more, and so on.
      mutations: How children differ from their parents; their `probability` and `components` do not count: every child
        is mutated, in Setup or Learn, since Predict is the niche.
      setup_share: Share of mutations that change an initial value; the others change Learn.
      fidelity: Shares of tasks and examples with which children are evaluated, one rung after the other.
      climb_after: Evaluations after which a rung gives way to the next.
      tune_every: Evaluations after which the best niches are tuned: the initial values of their best programs, on all
        tasks and examples.
      explore_every: Evaluations after which the worst niches give way to variations of the functions of the best ones,
        if Predict can compute more functions than there are niches; 0 for never.
      patience: Evaluations without a better program, in full, after which the search has stalled: the trial ends, and
        the run starts another with new tasks.

    Raises:
      ValueError: Setup without initial values, or numbers out of range.
    """

    niches: int = 200
    niche_size: int = 100
    tournament: int = 10
    children: int = 500
    sets: int = 1
    migration: float = 0.1
    repeat_mutation: float = 0.5
    mutations: Mutations = Mutations(
        types=(
            "insert_instruction", "remove_instruction", "alter_param", "randomize_instruction", "swap_instructions",
            "reconnect", "duplicate_instruction", "remove_and_mend", "rebuild_value", "rebuild_update",
        ),
        weights=(0.2, 0.1, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05),
    )  # fmt: skip
    setup_share: float = 0.2
    fidelity: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    climb_after: int = 500_000
    tune_every: int = 125_000
    explore_every: int = 25_000
    patience: int = 750_000

    only_fitness: ClassVar[bool] = False
    state_type: ClassVar[type[State]] = NicheState

    def __post_init__(self) -> None:
        for name in ("niches", "niche_size", "tournament", "children", "sets", "climb_after", "tune_every", "patience"):
            check_number(name, getattr(self, name))
        check_number("explore_every", self.explore_every)
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
        places, mutants = self.niches * self.niche_size, self.children * max(TRIES)
        what = (
            f"{self.niches:,} niches of {self.niche_size:,} programs or {self.children:,} children, {self.sets:,} sets"
        )
        check_bytes(what, max(places, mutants) * self.sets * program_bytes(self.space.capacity), "take fewer")
        if self.children * self.tournament > MOST_DRAWS:
            raise ValueError(f"tournaments draw at most {MOST_DRAWS:,} programs at a time: take fewer children")

    @classmethod
    def adapted(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """With initial values in place of Setup's instructions."""
        space = settings["space"]
        if space.initial_values:
            return settings
        scalars, vectors, matrices = (size > least for size, least in zip(space.memory, (2, 1, 0), strict=True))
        ops = ["SCALAR_CONST_SET"] * scalars + ["VECTOR_GAUSSIAN_SET"] * vectors + ["MATRIX_GAUSSIAN_SET"] * matrices
        return settings | {"space": dataclasses.replace(space, setup=Component(ops), initial_values=True)}

    @functools.cached_property
    def _explores(self) -> bool:
        return self.explore_every > 0 and not all_listed(self.space, self.niches, self.interface)

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
        """The function of each niche, at first."""
        return predictions(self.space, self.niches, self.interface)

    def _empty_niches(self, some: Sequence[Prediction]) -> Programs:
        """A program for each function that has its Predict and nothing else: the champions of empty niches."""
        programs = blank(self.space, len(some))
        first, least = programs.starts[1], self.space.min_size[1]
        for row, one in enumerate(some):  # behind a shorter one stand no-ops
            programs.code[row, first : first + len(one.code)] = one.code
            programs.length[row, 1] = max(len(one.code), least)
        return programs

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
            champions=self._empty_niches(self.predictions),
            champion_fitness=np.full(n, EMPTY),
            champion_hashes=np.zeros(n, np.uint64),
            tuned_fitness=np.full(n, EMPTY),
            known=np.zeros(KNOWN, np.uint64),
            phase="begin",
            rung=0,
            tunings=0,
            tuning=0,
            explorations=1,
            asked=nothing,
            asked_structures=nothing.astype(np.uint64),
            tuned=None,
            credit=credit.start(self.mutations),
        )

    def ask(self, state: NicheState) -> tuple[NicheState, Candidates]:
        """What to evaluate next: K programs for each child; or variants of the best programs, on all tasks."""
        rng = state.generator()
        if state.phase == "tune":
            return self._tuning(state, rng)
        known, n = state.known.copy(), len(state.champions)
        if state.phase == "begin":  # some programs in full, so that there is a best one
            children, niches = self._first(state.champions, np.ones(n, np.int64), 1, known, rng)
            return self._asked(state, rng, niches, children, known), self.candidates(children)
        if state.phase == "first":
            children, niches = self._first(
                state.champions, np.full(n, self.niche_size), n * self.niche_size, known, rng
            )
        elif state.phase == "again":
            filled, places = np.nonzero(state.place_fitness > EMPTY)
            best = np.flatnonzero(state.champion_fitness > EMPTY)
            children = concatenate([state.places[filled * self.niche_size + places], state.champions[best]])
            niches = np.concatenate([filled, best])
        elif state.phase == "explore":
            children, niches, state = self._explored(state, known, rng)
        else:
            children, niches, state = self._children(state, known, rng)
        share = self.fidelity[state.rung]
        candidates = self.candidates(with_sets(children, self.space, self.sets, rng, self.interface))
        candidates = dataclasses.replace(candidates, tasks_share=share[0], examples_share=share[1])
        return self._asked(state, rng, niches, children, known), candidates

    def _asked(
        self, state: NicheState, rng: np.random.Generator, niches: np.ndarray, children: Programs, known: np.ndarray
    ) -> NicheState:
        changes: dict[str, Any] = {"asked": niches, "asked_structures": structures(children, self.interface)}
        return dataclasses.replace(state, rng=Rng.of(rng), known=known, **changes)

    def tell(self, state: NicheState, candidates: Candidates, scores: Scores) -> NicheState:
        """The state after the evaluation of the candidates.

        Raises:
          ValueError: a fitness that is NaN, or not one for each candidate asked for.
        """
        fitness = combined(candidates, scores)
        per = {"begin": 1, "tune": VARIANTS}.get(state.phase, self.sets)
        expected = per * (len(state.tuned) if state.phase == "tune" and state.tuned else len(state.asked))
        if len(candidates) != expected:
            raise ValueError(f"{expected} candidates were asked for, not {len(candidates)}")
        by_child = fitness.reshape(-1, per)
        winners = np.arange(len(by_child)) * per + by_child.argmax(1)
        programs, best = candidates.programs[winners], by_child.max(1)
        if (candidates.tasks_share, candidates.examples_share) == (1.0, 1.0):
            state = with_scores(state, candidates, fitness)
        else:
            state = dataclasses.replace(state, evaluations=state.evaluations + len(candidates))
        if state.phase == "begin":
            return dataclasses.replace(state, phase="first")
        if state.phase == "tune":
            return self._tuned(state, programs)
        return self._next(state.settled(programs, by_child[:, 0], best, candidates.hashes[winners]))

    def exhausted(self, state: NicheState) -> bool:
        """As in `Searcher`: whether it has stalled."""
        return state.best is not None and state.evaluations - state.best.evaluations >= self.patience

    def best_of_niches(self, state: NicheState) -> list[Best]:
        """As in `HasNiches`."""
        return state.best_of_niches() if self.fidelity[state.rung] == (1.0, 1.0) else []

    # ------------------------------------------------------------------------------------------ children

    def _seat(self, programs: Programs, champions: Programs, niches: np.ndarray) -> None:
        """Gives programs the Predict of a niche, which is that of its champion."""
        first, last = programs.starts[1:3]
        programs.code[:, first:last], programs.data[:, first:last] = champions.code[niches, first:last], 0
        programs.length[:, 1] = champions.length[niches, 1]

    def _first(
        self, champions: Programs, wanted: np.ndarray, enough: int, known: np.ndarray, rng: np.random.Generator
    ) -> tuple[Programs, np.ndarray]:
        """Random programs that can learn, at most `wanted` of each niche, until there are `enough`; their niches."""

        def seat(programs: Programs, niches: np.ndarray) -> None:
            self._seat(programs, champions, niches)

        return random_learners(seat, wanted, enough, known, self.space, rng, self.interface)

    def _children(
        self, state: NicheState, known: np.ndarray, rng: np.random.Generator
    ) -> tuple[Programs, np.ndarray, NicheState]:
        """Mutants that can learn and are new, their niches, and the state that knows which mutations made them."""
        weights = by_rank(state.champion_fitness)
        niches = rng.choice(len(weights), self.children, p=weights / weights.sum())
        filled = np.where(state.champion_fitness > EMPTY, weights, 0)
        others = rng.choice(len(weights), self.children, p=filled / filled.sum())
        moves = (rng.random(self.children) < self.migration) | (filled[niches] == 0)
        source = np.where(moves, others, niches)
        parents, bars = state.winners(source, self.tournament, rng)
        return self._born(state, parents, bars, niches, source != niches, known, rng)

    def _explored(
        self, state: NicheState, known: np.ndarray, rng: np.random.Generator
    ) -> tuple[Programs, np.ndarray, NicheState]:
        """As `_children`, in the worst niches, which are given new functions; rules move in from others."""
        filled = np.where(state.champion_fitness > EMPTY, by_rank(state.champion_fitness), 0)
        first, last = state.champions.starts[1:3]
        settlers = min(max(2, int(SETTLERS * self.niche_size)), self.children)
        most = max(1, min(int(EXPLORED * len(filled)), self.children // settlers))
        found = explored(state.champions.code[:, first:last], filled, most, self.space, rng, self.interface)
        if not found:
            return self._children(state, known, rng)
        worst = np.argsort(state.champion_fitness, kind="stable")[: len(found)]
        models = np.repeat([number for number, _ in found], settlers)
        others = rng.choice(len(filled), len(models), p=filled / filled.sum())
        source = np.where(np.arange(len(models)) % 2, others, models)
        parents, bars = state.winners(source, self.tournament, rng)
        state = state.renewed(worst, self._empty_niches([one for _, one in found]))
        niches = np.repeat(worst, settlers)
        return self._born(state, parents, bars, niches, np.ones(len(niches), bool), known, rng)

    def _born(
        self,
        state: NicheState,
        parents: Programs,
        bars: np.ndarray,
        niches: np.ndarray,
        moved: np.ndarray,
        known: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[Programs, np.ndarray, NicheState]:
        """Children in some niches; of parents that moved there, these themselves if they are new."""
        self._seat(parents, state.champions, niches)
        settings = self.space, self._moves, self.repeat_mutation, rng, self.interface
        shares = credit.weights(state.credit, self.mutations)
        children, done, applied = new_mutants(
            parents,
            lambda some: mutate_repeatedly(some, *settings, shares),
            known,
            self.interface,
            unevaluated=moved,
        )
        if not len(done):  # nothing new nearby: parents once more
            return parents, niches, state
        known_now = credit.asked(state.credit, applied, bars[done])
        return children, niches[done], dataclasses.replace(state, credit=known_now)

    # ------------------------------------------------------------------------------------------ what comes next

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
        """The next cohort, perhaps on the next rung or in new niches."""
        if state.rung + 1 < len(self.fidelity) and state.evaluations >= (state.rung + 1) * self.climb_after:
            return dataclasses.replace(state, phase="again", rung=state.rung + 1, tuned=None)
        if self._explores and state.evaluations >= state.explorations * self.explore_every:
            explorations = state.evaluations // self.explore_every + 1
            return dataclasses.replace(state, phase="explore", explorations=explorations, tuned=None)
        return dataclasses.replace(state, phase="evolve", tuned=None)

    def _tuning(self, state: NicheState, rng: np.random.Generator) -> tuple[NicheState, Candidates]:
        """Variants of the programs that are being tuned, the first of each as it is."""
        assert state.tuned is not None
        many = state.tuned[np.repeat(np.arange(len(state.tuned)), VARIANTS)]
        vary_initial_values(many, self.space, SPREADS[state.tuning], 0.0, VARIANTS, rng)
        return dataclasses.replace(state, rng=Rng.of(rng)), self.candidates(many)

    def _tuned(self, state: NicheState, programs: Programs) -> NicheState:
        """The state after a round of tuning."""
        if state.tuning + 1 < len(SPREADS):
            return dataclasses.replace(state, tuning=state.tuning + 1, tuned=programs)
        return self._evolving(state)

    # ------------------------------------------------------------------------------------------ states from files

    def check(self, state: NicheState) -> None:
        """As in `Searcher`."""
        super().check(state)
        credit.check(state.credit, self.mutations, len(state.asked))
        n, size = len(self.predictions), self.niche_size
        if state.place_fitness.shape != (n, size):
            has = f"niches and programs of each {state.place_fitness.shape}, not {(n, size)}"
            raise ValueError(f"the state is of another search: {has}")
        for programs in (state.places, state.champions, state.tuned):
            if programs is not None:
                check_layout(programs, self.space)
                check_ops(programs, self.ops)
        tuning = state.phase == "tune"
        if state.rung >= len(self.fidelity) or state.tuning >= len(SPREADS) or (tuning and not state.tuned):
            raise ValueError("the state is of another search: its rung or its tuning does not fit")
        if state.phase in ("evolve", "explore", "again") and not (state.champion_fitness > EMPTY).any():
            raise ValueError("the state is of another search: all niches are empty")
        niches, rows = np.nonzero(state.place_fitness > EMPTY)
        held = state.places[niches * size + rows]
        champions = state.champions if self._explores else self._empty_niches(self.predictions)
        first, last = held.starts[1:3]
        same = (held.code[:, first:last] == champions.code[niches, first:last]).all()
        same &= (held.length[:, 1] == champions.length[niches, 1]).all()
        genes = (held.length[:, 0] == len(self.space.genes)).all()
        if not same or not genes or (structures(held, self.interface) != state.structures[niches, rows]).any():
            raise ValueError("the state is of another search: its programs do not fit their niches")
