"""Evolution that spends its evaluations sparingly: on programs that can learn, are new, and are unlike the others.

Axes: `I` islands, `P` programs per island, `C` children per island and cohort, `n` programs asked for, `L` slots.
"""

import dataclasses
from typing import Literal

import numpy as np

from zero_jax.program.canonical import Canonical, canonical
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.search.operators.lineage import Lines, born, first, placed
from zero_jax.search.operators.mutation import Mutations, mutate_in_place
from zero_jax.search.operators.validity import CONDITIONS, conditions
from zero_jax.search.regularized_evolution import RegularizedEvolution, first_programs, hold_tournaments
from zero_jax.search.state import Niches, SearchState, check_sizes, checked_fitness, with_results
from zero_jax.support.compiled import entry_point

KNOWN = 2**16
"""How many programs a search remembers having asked for."""

TRIES, ROUNDS, PATIENCE, SAMPLED, FOUNDED = 8, 2000, 20, 100, 100
"""How many mutants of a parent are looked at in a round; how many rounds it may take until children are taken as they
are; after how many a parent is replaced by another; for how many first programs are drawn anew until they can learn;
and after how many more those that cannot yet are mutants of those that can."""


@dataclasses.dataclass(frozen=True)
class EfficientEvolution(RegularizedEvolution):
    """Regularized evolution in which few evaluations are wasted.

    It differs from its base in four things. In `experiments/efficiency.py` the first and the third decide; without the
    fourth, or with `again` = 0, it did as well within the noise of 10 seeds.

    1. *Only programs that can learn* (`can_learn`) are asked for, and none again, by canonical form, of the last
       that it remembers (`KNOWN`); where none is found in `ROUNDS` rounds, others are.
    2. *A child differs in what it does*: mutants that do what their parent does are not evaluated but mutated on, so
       that lineages drift through dead code free of charge. With probability `again` a mutant is mutated once more, and
       so on.
    3. *Niches*: an island holds one program of each structure (Predict and Learn in canonical form, constants aside),
       the fittest. A child of a new structure replaces one of equal fitness, if there is one, or else what stands in
       the next place of a ring; so what can be varied in ways that do not matter cannot fill it. The first population
       and migrants may hold a structure twice.
    4. New constants have log-uniform magnitudes (`born`).

    Attributes:
      again: how likely one more mutation is.
      born: how new constants are drawn, as in `Mutations`, whose own setting does not count here.
      interface: where label, features and prediction live; by default that of scalar labels.

    Example:
      >>> from zero_jax import Component, SearchSpace
      >>> from zero_jax.search.operators.validity import can_learn
      >>> setup = Component(["SCALAR_CONST_SET", "VECTOR_CONST_SET"], (5, 5, 5))
      >>> predict = Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (4, 4, 4))
      >>> space = SearchSpace((4, 3, 1), setup, predict, learn)
      >>> search = EfficientEvolution(space, population=20, cohort=5)
      >>> state, programs = search.ask(search.init(seed=0))
      >>> bool(can_learn(programs).all()), len(set(canonical(programs).hashes[:, 0].tolist()))
      (True, 20)
      >>> state, children = search.ask(search.tell(state, programs, np.linspace(0, 1, 20)))
      >>> bool(can_learn(children).all()), len(children)
      (True, 5)
    """

    population: int = 100
    cohort: int = 10
    again: float = 0.3
    born: Literal["uniform", "log"] = "log"
    interface: Interface | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.again < 1:
            raise ValueError(f"again must be from 0 to below 1, not {self.again}")
        self._always()

    @property
    def _interface(self) -> Interface:
        return resolved(self.interface, self.space.memory)

    def _always(self) -> Mutations:
        return dataclasses.replace(self.mutations, probability=1.0, born=self.born)

    def init(self, seed: int | np.random.SeedSequence) -> SearchState:
        """The state before anything is evaluated: the first population, drawn from `seed`."""
        rng = np.random.default_rng(seed)
        n = self.islands * self.population
        known = np.zeros(KNOWN, np.uint64)
        given = first_programs(self.space, self.initial)
        if given is None:
            empty = Programs.from_lists([[[[0]] * size for size in self.space.initial_size]], self.space.memory)
            start = empty.resized(capacity=self.space.capacity)[np.zeros(n, np.int64)]
            anew = dataclasses.replace(self._always(), types=("randomize_algorithm",), weights=())
            programs, _ = self._new(start, anew, known, rng, climbs=SAMPLED)
        else:
            programs, _ = self._new(given[self.taken_in_turn(given)], self._always(), known, rng, climbs=0)
        if not (conditions(programs, self.interface) == CONDITIONS).any():
            raise ValueError(
                "no program was found that can learn from its mistakes in this space "
                "(zero_jax.search.operators.validity): leave method='efficient' for evolution, or give Predict and "
                "Learn more ops"
            )
        kinds = structures(programs, self.interface)
        niches = Niches(kinds, np.zeros(self.islands, np.int64), known, kinds, self._interface)
        unknown = np.full((self.islands, self.population), np.nan)
        bits = dict(rng.bit_generator.state)
        return SearchState(programs, unknown, 0, 0, programs[0], -np.inf, bits, niches=niches)

    def _check_niches(self, state: SearchState) -> None:
        told, sizes = state.niches, [self.islands * n for n in (self.population, self.cohort)]
        if told is None or len(told.known) != KNOWN or len(told.asked_structures) not in sizes:
            raise ValueError("the state is of another search: it lacks niches, or has others")
        if told.interface != self._interface:
            raise ValueError("the state is of another search: of programs for other labels")

    def ask(self, state: SearchState) -> tuple[SearchState, Programs]:
        """As in the base: the first population, or the children, island by island."""
        check_sizes(state, self.space, self.islands, self.population)
        if state.evaluations == 0:
            return state, state.population
        self._check_niches(state)
        assert state.niches is not None
        rng, known = state.generator(), state.niches.known.copy()
        rows = np.empty(self.islands * self.cohort, np.int64)
        hold_tournaments(state.fitness, self.tournament, rows, rng)
        children, forced = self._new(state.population[rows], self._always(), known, rng, state, rows)
        stale = state.niches.stale + forced if forced == len(children) else 0
        kinds = structures(children, self.interface)
        niches = dataclasses.replace(state.niches, known=known, asked_structures=kinds, stale=stale)
        lines = state.lines and dataclasses.replace(state.lines, parents=rows)
        return dataclasses.replace(state, rng=dict(rng.bit_generator.state), lines=lines, niches=niches), children

    def _new(
        self,
        parents: Programs,
        mutations: Mutations,
        known: np.ndarray,
        rng: np.random.Generator,
        state: SearchState | None = None,
        rows: np.ndarray | None = None,
        climbs: int = ROUNDS,
    ) -> tuple[Programs, int]:
        """A mutant of each of `n` programs that can learn and is not `known`, which become known; and of how many there
        was none in all rounds, so that another stands in its place.

        Mutants that do what their parent does take its place and are mutated on; from round `climbs` on, those do that
        are as close to learning. Who stays without success has another parent from time to time: with a state, of its
        population (`rows`, changed in place); without one, a first program that has been found.
        """
        n = len(parents)
        current = _copied(parents)
        forms = self._form(current).hashes[:, 0].copy()
        todo, heights = np.arange(n), np.zeros(n, np.int64)
        result, forced = _copied(parents), 0
        for round_ in range(ROUNDS):
            now = self._always() if climbs <= round_ else mutations
            mutants = self._mutated(current[np.repeat(todo, TRIES)], now, rng)
            form = self._form(mutants)
            hashes, held = form.hashes[:, 0], conditions(form.programs, self.interface)
            good = ((held == CONDITIONS) & (known[hashes % KNOWN] != hashes)) | (round_ == ROUNDS - 1)
            same = hashes == np.repeat(forms[todo], TRIES)
            chosen, hit = _first_of_each(good & ~same)
            if climbs <= round_:
                same = held >= np.repeat(heights[todo], TRIES)
            hit[hit] = _is_first(hashes[chosen[hit]]) | (round_ == ROUNDS - 1)
            _copy_rows(result, todo[hit], mutants, chosen[hit])
            known[hashes[chosen[hit]] % KNOWN] = hashes[chosen[hit]]
            neutral, drifts = _first_of_each(same)
            drifts &= ~hit
            _copy_rows(current, todo[drifts], mutants, neutral[drifts])
            heights[todo[drifts]] = held[neutral[drifts]]
            todo = todo[~hit]
            if not len(todo):
                break
            if round_ == ROUNDS - 2:
                forced = len(todo)
            if round_ % PATIENCE < PATIENCE - 1:
                continue
            if state is not None and rows is not None:
                others = np.empty(len(rows), np.int64)
                hold_tournaments(state.fitness, self.tournament, others, rng)
                rows[todo] = others[todo]
                _copy_rows(current, todo, state.population, rows[todo])
            elif round_ > climbs + FOUNDED and len(todo) < n:
                _copy_rows(current, todo, result, rng.choice(np.delete(np.arange(n), todo), len(todo)))
            forms[todo] = self._form(current[todo]).hashes[:, 0]
        return result, forced

    def _form(self, programs: Programs) -> Canonical:
        return canonical(programs, interface=self.interface)

    def _mutated(self, programs: Programs, mutations: Mutations, rng: np.random.Generator) -> Programs:
        """Changes programs in place."""
        mutate_in_place(programs, self.space, mutations, rng)
        more = np.flatnonzero(rng.random(len(programs)) < self.again)
        while len(more):
            some = programs[more]
            mutate_in_place(some, self.space, mutations, rng)
            _copy_rows(programs, more, some, np.arange(len(more)))
            more = more[rng.random(len(more)) < self.again]
        return programs

    def tell(self, state: SearchState, programs: Programs, fitness: np.ndarray) -> SearchState:
        """As in the base; children take the places that niches leave them.

        Raises:
          ValueError: a fitness that is NaN, or not one for each program asked for.
        """
        if state.evaluations == 0:
            fitness = checked_fitness(programs, fitness)
            lines = first(programs, fitness)
            known = fitness.reshape(self.islands, self.population)
            return with_results(state, programs, fitness, lines, fitness=known, lines=lines)
        fitness = checked_fitness(programs, fitness)
        if len(programs) != self.islands * self.cohort:
            raise ValueError(f"{self.islands * self.cohort} programs were asked for, not {len(programs)}")
        assert state.niches is not None
        assert state.lines is not None
        niches, known = state.niches, state.fitness.copy()
        kept, ring = niches.structures.copy(), niches.ring.copy()
        owners = np.full(self.islands * self.population, -1, np.int64)
        _settle(known, kept, ring, niches.asked_structures, fitness, owners)
        rows = np.flatnonzero(owners >= 0)
        children = owners[rows]
        population = _copied(state.population)
        _copy_rows(population, rows, programs, children)
        lines = born(state.lines, programs, fitness, state.evaluations + len(programs))
        some = Lines(lines.ancestors[children], lines.fitness[children], lines.births[children], lines.parents)
        return with_results(
            state,
            programs,
            fitness,
            lines,
            population=population,
            fitness=known,
            lines=placed(state.lines, some, rows),
            niches=dataclasses.replace(niches, structures=kept, ring=ring),
        )


def structures(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """`[n]` uint64 hashes of what Predict and Learn do, whatever the constants."""
    length = np.array(programs.length)
    length[:, 0] = 0
    bare = programs.with_arrays(programs.code, np.zeros_like(programs.data), length)
    return canonical(bare, interface=interface).hashes[:, 0]


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


def _first_of_each(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `[m * TRIES]` flags, the first that is set in each `TRIES`, as an index of all, and whether there is one."""
    flags = flags.reshape(-1, TRIES)
    return np.arange(len(flags)) * TRIES + flags.argmax(1), np.asarray(flags.any(1))


def _is_first(hashes: np.ndarray) -> np.ndarray:
    """`[m]` whether none before is equal."""
    found = np.zeros(len(hashes), bool)
    found[np.unique(hashes, return_index=True)[1]] = True
    return found


def _copied(programs: Programs) -> Programs:
    return programs.with_arrays(*(np.array(part) for part in (programs.code, programs.data, programs.length)))


def _copy_rows(to: Programs, rows: np.ndarray, source: Programs, which: np.ndarray) -> None:
    to.code[rows], to.data[rows], to.length[rows] = source.code[which], source.data[which], source.length[which]
