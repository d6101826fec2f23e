"""Evolution that spends few evaluations: on programs that can learn, are new, and differ from the others.

Axes: `I` islands, `P` programs per island, `C` children per island and cohort, `n` programs asked for, `L` slots.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.canonical import Canonical, canonical
from zero_jax.program.programs import Programs
from zero_jax.search.base import Rng, State, combined, register, with_scores
from zero_jax.search.operators import credit
from zero_jax.search.operators.learners import copied, copy_rows, first_of_each, structures
from zero_jax.search.operators.mutation import Mutations, mutate_repeatedly
from zero_jax.search.operators.population import Individuals, unevaluated
from zero_jax.search.operators.records import put, take
from zero_jax.search.operators.selection import hold_tournaments
from zero_jax.search.operators.validity import CONDITIONS, conditions
from zero_jax.search.regularized_evolution import EvolutionState, RegularizedEvolution, first_programs
from zero_jax.support.codec import Array, Count
from zero_jax.support.compiled import entry_point

KNOWN = 2**16
"""How many of the programs that it asked for a search remembers."""

TRIES, ROUNDS, PATIENCE, SAMPLED, FOUNDED = 8, 2000, 20, 100, 100
"""How many mutants of a parent are looked at in a round; after how many rounds children are taken as they are; after
how many rounds a parent is replaced by another; for how many rounds first programs are drawn anew until they can learn;
and after how many more rounds those that cannot yet are mutants of those that can."""

STALE = 100
"""A search ends after this many programs in a row without a new one among thousands of mutants each."""


@dataclasses.dataclass(frozen=True, eq=False)
class NichedIndividuals(Individuals):
    """Individuals that each fill a niche.

    Attributes:
      structures: uint64 `[N]`, hashes of their structures.
    """

    structures: Annotated[np.ndarray, Array(np.uint64, ("N",))]


@dataclasses.dataclass(frozen=True, eq=False)
class EfficientState(EvolutionState):
    """The state of `EfficientEvolution`.

    Attributes:
      individuals: with their structures.
      ring: int64 `[I]`, the place on each island that the next program without a niche takes.
      known: uint64, hashes of programs asked for, each in the place that its last bits say.
      asked_structures: uint64 `[n]`, of the programs asked for last.
      stale: how many programs in a row were asked for although they were not new.
    """

    individuals: NichedIndividuals
    ring: Annotated[np.ndarray, Array(np.int64, ("I",), least=0)]
    known: Annotated[np.ndarray, Array(np.uint64, (KNOWN,))]
    asked_structures: Annotated[np.ndarray, Array(np.uint64, (None,))]
    stale: Count

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        if len(self.ring) != self.islands or (self.ring >= len(self.individuals) // self.islands).any():
            raise ValueError("ring does not fit the islands")


@register("efficient")
@dataclasses.dataclass(frozen=True)
class EfficientEvolution(RegularizedEvolution):
    """Regularized evolution that wastes few evaluations.

    It differs from its base in four ways. In `experiments/efficiency.py` the first and the third decide; without the
    fourth, or with `repeat_mutation` = 0, it did as well within the noise of 10 seeds.

    1. *Only programs that can learn* (`can_learn`) are asked for, and none twice, by canonical form, among the last
       `KNOWN`. If `ROUNDS` rounds yield no such program, others are taken.
    2. *A child differs from its parent in what it does*: mutants that do the same are not evaluated but mutated
       further, so lineages drift through dead code at no cost. A mutant is mutated once more with probability
       `repeat_mutation`, and so on.
    3. *Niches*: an island holds one program of each structure (Predict and Learn in canonical form, without constants),
       the fittest. A child of a new structure replaces one of equal fitness, if there is one, or else the program in
       the next place of a ring; so variations that do not matter cannot fill the island. The first population and
       migrants may hold a structure twice.
    4. New constants have log-uniform magnitudes (`constant_init`).

    Attributes:
      repeat_mutation: Probability that a mutant is mutated once more, and so on.
      constant_init: How new constants are drawn; it takes precedence over the setting of `Mutations`.

    Example:
      >>> from zero_jax import Component, SearchSpace
      >>> from zero_jax.search.operators.validity import can_learn
      >>> setup = Component(["SCALAR_CONST_SET", "VECTOR_CONST_SET"], (5, 5, 5))
      >>> predict = Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (4, 4, 4))
      >>> space = SearchSpace((4, 3, 1), setup, predict, learn)
      >>> search = EfficientEvolution(space, population=20, cohort=5)
      >>> state, candidates = search.ask(search.init(seed=0))
      >>> bool(can_learn(candidates.programs).all()), len(set(candidates.hashes.tolist()))
      (True, 20)
      >>> state = search.tell(state, candidates, Scores.of(np.linspace(0, 1, 20)))
      >>> state, children = search.ask(state)
      >>> bool(can_learn(children.programs).all()), len(children)
      (True, 5)
    """

    population: int = 100
    cohort: int = 10
    repeat_mutation: float = 0.3
    constant_init: Literal["uniform", "log"] = "log"

    state_type: ClassVar[type[State]] = EfficientState
    individuals_type: ClassVar[type[Individuals]] = NichedIndividuals

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.repeat_mutation < 1:
            raise ValueError(f"repeat_mutation must be from 0 to below 1, not {self.repeat_mutation}")
        self._always()

    def _always(self) -> Mutations:
        return dataclasses.replace(self.mutations, probability=1.0, constant_init=self.constant_init)

    def init(self, seed: int | np.random.SeedSequence) -> EfficientState:
        """The state before the first evaluation: the first population, drawn from `seed`.

        Raises:
          ValueError: no program of the space can learn from its mistakes.
        """
        rng = np.random.default_rng(seed)
        n = self.islands * self.population
        known = np.zeros(KNOWN, np.uint64)
        given = first_programs(self.space, self.initial)
        if given is None:
            empty = Programs.from_lists([[[[0]] * size for size in self.space.initial_size]], self.space.memory)
            start = empty.resized(capacity=self.space.capacity)[np.zeros(n, np.int64)]
            anew = dataclasses.replace(self._always(), types=("randomize_algorithm",), weights=())
            search = _Mutants(self, anew, known, rng, climbs=SAMPLED)
        else:
            start = given[self.taken_in_turn(given)]
            search = _Mutants(self, self._always(), known, rng, climbs=0)
        programs = search.of(start, self._form(start).hashes[:, 0]).programs
        if not (conditions(programs, self.interface) == CONDITIONS).any():
            raise ValueError(
                "no program that can learn from its mistakes was found in this space "
                "(zero_jax.search.operators.validity): leave method='efficient' for evolution, or give Predict and "
                "Learn more ops"
            )
        kinds = structures(programs, self.interface)
        individuals = NichedIndividuals(**vars(unevaluated(programs)), structures=kinds)
        no_parents, ring = np.zeros(0, np.int64), np.zeros(self.islands, np.int64)
        whole = 0, None, Rng.of(rng), individuals, self.islands, 0, no_parents, ring, known, kinds, 0
        return EfficientState(*whole, credit=credit.start(self.mutations))

    def exhausted(self, state: Any) -> bool:
        """As in `Searcher`."""
        return state.stale >= STALE

    def check(self, state: Any) -> None:
        """As in `Searcher`."""
        super().check(state)
        if len(state.asked_structures) not in [self.islands * n for n in (self.population, self.cohort)]:
            raise ValueError(
                f"the state is of another search: it asked for {len(state.asked_structures)} programs last"
            )
        if (structures(state.programs, self.interface) != state.individuals.structures).any():
            raise ValueError("the state is of another search: its structures are not those of its programs")

    def ask(self, state: Any) -> tuple[Any, Candidates]:
        """As in the base: the first population, or the children, island by island."""
        self.check_kind(state)
        if state.evaluations == 0:
            return state, self.candidates(state.programs)
        rng, known = state.generator(), state.known.copy()
        rows = hold_tournaments(state.fitness, self.tournament, self.islands * self.cohort, rng)
        weights = credit.weights(state.credit, self.mutations)
        search = _Mutants(self, self._always(), known, rng, state, rows, weights=weights)
        children = search.of(state.programs[rows], state.hashes[rows])
        candidates = Candidates(children.programs, children.forms, self.interface)
        stale = state.stale + search.forced if search.forced == len(candidates) else 0
        changes = {"asked_structures": structures(children.programs, self.interface), "stale": stale, "known": known}
        return self.asked(state, rng, rows, children.applied, **changes), candidates

    def traits(self, state: Any, candidates: Candidates, scores: Scores) -> dict[str, np.ndarray]:
        """As in the base."""
        return {"structures": state.asked_structures}

    def _form(self, programs: Programs) -> Canonical:
        return canonical(programs, interface=self.interface)

    def tell(self, state: Any, candidates: Candidates, scores: Scores) -> Any:
        """As in the base; children take the places that niches leave them.

        Raises:
          ValueError: a fitness that is NaN, or not one for each candidate asked for.
        """
        fitness = combined(candidates, scores)
        if state.evaluations == 0:
            return self.with_first(state, candidates, scores)
        niched = self.children(state, candidates, scores)
        kept, ring = state.individuals.structures.copy(), state.ring.copy()
        owners = np.full(self.islands * self.population, -1, np.int64)
        _settle(state.fitness.copy(), kept, ring, niched.structures, fitness, owners)
        rows = np.flatnonzero(owners >= 0)
        individuals = put(state.individuals, rows, take(niched, owners[rows]))
        changes = {"individuals": individuals, "ring": ring, "credit": credit.settled(state.credit, fitness)}
        return with_scores(state, candidates, fitness, niched.lines, **changes)


@dataclasses.dataclass
class _Children:
    """Programs, their canonical forms, and by which types they were mutated last, as bits."""

    programs: Programs
    forms: Canonical
    applied: np.ndarray


@dataclasses.dataclass
class _Mutants:
    """Looks among mutants for programs that can learn and are not known.

    Mutants that do what their parent does take its place and are mutated further; from round `climbs` on, so do those
    that are as close to learning. A parent without success is replaced from time to time: with a state, by another of
    its population (`rows`, changed in place); without one, by a first program that can learn.

    Attributes:
      searcher: the search.
      mutations: which mutations.
      known: hashes of known programs; changed in place.
      rng: the source of randomness.
      state: of the search; None for the first population.
      rows: of the parents in its population.
      weights: float64, of the types, in place of those of `mutations`.
      climbs: the round from which on closeness to learning counts.
      forced: how many programs had no new mutant in all rounds, so that others stand in their places.
    """

    searcher: EfficientEvolution
    mutations: Mutations
    known: np.ndarray
    rng: np.random.Generator
    state: EfficientState | None = None
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    climbs: int = ROUNDS
    forced: int = 0

    def of(self, parents: Programs, hashes: np.ndarray) -> _Children:
        """A mutant of each of `n` programs, whose hashes are known."""
        n, searcher = len(parents), self.searcher
        current, now = copied(parents), hashes.copy()  # what is mutated, and its hashes
        forms = hashes.copy()
        todo, heights = np.arange(n), np.zeros(n, np.int64)
        same_forms = Canonical(copied(parents), np.zeros((n, 2), np.uint64))
        result = _Children(copied(parents), same_forms, np.zeros(n, np.int64))
        for round_ in range(ROUNDS):
            mutations = searcher._always() if self.climbs <= round_ else self.mutations
            mutants = current[np.repeat(todo, TRIES)]
            settings = searcher.space, mutations, searcher.repeat_mutation, self.rng
            applied = mutate_repeatedly(mutants, *settings, searcher.interface, self.weights)
            form = searcher._form(mutants)
            hashes, held = form.hashes[:, 0], conditions(form.programs, searcher.interface)
            good = ((held == CONDITIONS) & (self.known[hashes % KNOWN] != hashes)) | (round_ == ROUNDS - 1)
            same = hashes == np.repeat(forms[todo], TRIES)
            hit, chosen = first_of_each(good & ~same, TRIES)
            if self.climbs <= round_:
                same = held >= np.repeat(heights[todo], TRIES)
            hit[hit] = _is_first(hashes[chosen[hit]]) | (round_ == ROUNDS - 1)
            copy_rows(result.programs, todo[hit], mutants, chosen[hit])
            result.applied[todo[hit]] = applied[chosen[hit]]
            copy_rows(result.forms.programs, todo[hit], form.programs, chosen[hit])
            result.forms.hashes[todo[hit]] = form.hashes[chosen[hit]]
            self.known[hashes[chosen[hit]] % KNOWN] = hashes[chosen[hit]]
            drifts, neutral = first_of_each(same, TRIES)
            drifts &= ~hit
            copy_rows(current, todo[drifts], mutants, neutral[drifts])
            now[todo[drifts]] = hashes[neutral[drifts]]
            heights[todo[drifts]] = held[neutral[drifts]]
            todo = todo[~hit]
            if not len(todo):
                break
            if round_ == ROUNDS - 2:
                self.forced = len(todo)
            if round_ % PATIENCE == PATIENCE - 1:
                self._replace(todo, current, now, result, round_)
                forms[todo] = now[todo]
        if len(todo):  # all their mutants do what they do: they stand as they were
            rest = searcher._form(result.programs[todo])
            copy_rows(result.forms.programs, todo, rest.programs, np.arange(len(todo)))
            result.forms.hashes[todo] = rest.hashes
        return result

    def _replace(self, todo: np.ndarray, current: Programs, now: np.ndarray, result: _Children, round_: int) -> None:
        """Replaces the parents of those that have had no success."""
        if self.state is not None and self.rows is not None:
            others = hold_tournaments(self.state.fitness, self.searcher.tournament, len(self.rows), self.rng)
            self.rows[todo] = others[todo]
            copy_rows(current, todo, self.state.programs, self.rows[todo])
            now[todo] = self.state.hashes[self.rows[todo]]
        elif round_ > self.climbs + FOUNDED and len(todo) < len(now):
            some = self.rng.choice(np.delete(np.arange(len(now)), todo), len(todo))
            copy_rows(current, todo, result.programs, some)
            now[todo] = result.forms.hashes[some, 0]


@entry_point
def _settle(fitness, structures, ring, new_structures, new_fitness, owners):  # type: ignore[no-untyped-def]
    """Gives children places, one after the other, and each place the number of the child that has it in the end."""
    islands, population = fitness.shape
    cohort = len(new_fitness) // islands
    for i in range(len(new_fitness)):
        island = i // cohort
        base = island * population
        place, equal, dropped = -1, -1, False
        for j in range(population):
            if structures[base + j] == new_structures[i]:
                dropped = new_fitness[i] <= fitness[island, j]
                place = j
                break
            if equal < 0 and new_fitness[i] > 0 and fitness[island, j] == new_fitness[i]:
                equal = j
        if dropped:
            continue
        if place < 0:
            place = equal
        if place < 0:
            place = ring[island]
            ring[island] = (place + 1) % population
        fitness[island, place] = new_fitness[i]
        structures[base + place] = new_structures[i]
        owners[base + place] = i


def _is_first(hashes: np.ndarray) -> np.ndarray:
    """`[m]` whether none before is equal."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first
