"""Regularized evolution (Real et al. 2019) with islands on the batch axis (SPEC 4).

Axes: `I` islands, `P` programs per island, `C` children per island and cohort, `T` draws per tournament.
"""

import dataclasses

import numpy as np

from zero_jax.program import library
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace, random_programs
from zero_jax.search.operators.lineage import born, first, placed
from zero_jax.search.operators.mutation import Mutations, mutate_in_place
from zero_jax.search.state import SearchState, check_ops, check_population, check_sizes, checked_fitness, with_results
from zero_jax.support.bounds import check_number
from zero_jax.support.compiled import address_of, entry_point, generator_at
from zero_jax.support.foreign import shown

MOST_DRAWS = 10**8
"""So many draws the tournaments of a cohort may have: a second of a compiled loop, in which Ctrl-C has to wait."""


@dataclasses.dataclass(frozen=True)
class RegularizedEvolution:
    """I independent populations of P programs that age, compete in tournaments and mutate.

    For each of C children an island draws T programs with replacement; the fittest (of equals, the first drawn) is
    copied and mutated. The children are evaluated in one call and replace the C oldest programs. C = 1 is the paper's
    algorithm, C = P a generation. Every program, the ones about to die included, competes.

    Attributes:
      space: what programs may be.
      islands: I.
      population: P.
      tournament: T.
      cohort: C.
      mutations: how children differ from their parents.
      initial: The first programs: random, no_op, linear, network, the path of a program, or the folder of a run, for
        its best program. A file may hold several programs: islands take them in turn. All but random ones are padded
        with NO_OP to the initial sizes. In Python, also the text of a program, of several lines, or `Programs`.

    Raises:
      ValueError: a number below 1 or beyond `bounds.BOUNDS`, a cohort larger than the population, more memory
        than is allowed, an initial program that does not fit the space.

    Example:
      >>> space = SearchSpace((4, 3, 1), (56,), (27,), (2, 3, 18, 23), (1, 1, 1), (2, 1, 4), (2, 1, 4))
      >>> search = RegularizedEvolution(space, islands=2, population=10, tournament=3, cohort=5)
      >>> state = search.init(seed=0)
      >>> state, programs = search.ask(state)             # all 20 of the first population
      >>> state = search.tell(state, programs, np.zeros(20))
      >>> state, children = search.ask(state)             # 5 children of each island
      >>> len(programs), len(children)
      (20, 10)
    """

    space: SearchSpace
    islands: int = 1
    population: int = 1000
    tournament: int = 10
    cohort: int = 100
    mutations: Mutations = Mutations()
    initial: str | Programs = "random"

    def __post_init__(self) -> None:
        for name in ("islands", "population", "tournament", "cohort"):
            check_number(name, getattr(self, name))
        if self.cohort > self.population:
            raise ValueError(f"a cohort of {self.cohort} does not fit into a population of {self.population}")
        check_population(self.space, self.islands, self.population)
        draws = self.islands * self.cohort * self.tournament
        if draws > MOST_DRAWS:
            raise ValueError(
                f"{self.islands:,} islands x cohort {self.cohort:,} x tournament {self.tournament:,} are {draws:,} "
                f"draws at a time; {MOST_DRAWS:,} are allowed: take a smaller tournament or cohort"
            )
        if not any(self.space.ops):
            raise ValueError("no component of the space has ops, so nothing can be mutated")
        first = first_programs(self.space, self.initial)
        if first is not None and len(first) > self.population:
            raise ValueError(f"{len(first)} initial programs do not fit into a population of {self.population}")

    @property
    def ops(self) -> tuple[tuple[int, ...], ...]:
        """The ops that programs of each component can hold: those of the space and of the initial programs."""
        first = first_programs(self.space, self.initial)
        if first is None:
            return self.space.ops
        parts = zip(self.space.ops, first.starts[:3], first.starts[1:], strict=True)
        return tuple(tuple(sorted({*allowed, *np.unique(first.code[:, a:b, 0]).tolist()})) for allowed, a, b in parts)

    def init(self, seed: int | np.random.SeedSequence) -> SearchState:
        """The state before anything is evaluated: the first population, drawn from `seed`."""
        rng = np.random.default_rng(seed)
        n = self.islands * self.population
        first = first_programs(self.space, self.initial)
        programs = random_programs(self.space, n, rng) if first is None else first[self.taken_in_turn(first)]
        unknown = np.full((self.islands, self.population), np.nan)
        return SearchState(programs, unknown, 0, 0, programs[0], -np.inf, _rng_state(rng))

    def taken_in_turn(self, first: Programs) -> np.ndarray:
        """`[I * P]` which initial program stands in each place."""
        return np.tile(np.arange(self.population) % len(first), self.islands)

    def check(self, state: SearchState) -> None:
        """Whether a state that comes from a file is one of this search.

        Raises:
          ValueError: saying what is not.
        """
        check_sizes(state, self.space, self.islands, self.population)
        check_ops(state.population, self.ops)
        parents = 0 if state.lines is None else len(state.lines.parents)
        if (state.lines is None) != (state.evaluations == 0) or parents not in (0, self.islands * self.cohort):
            raise ValueError("the state is of another search: it lacks lines of descent, or has others")
        self._check_niches(state)

    def _check_niches(self, state: SearchState) -> None:
        if state.niches is not None:
            raise ValueError("the state is of another search: it has niches")

    def ask(self, state: SearchState) -> tuple[SearchState, Programs]:
        """The programs to evaluate next.

        Returns:
          The state, its generator advanced, and the first population (I * P programs) or else the children (I * C),
          island by island.

        Raises:
          ValueError: the state of a search of other sizes.
        """
        check_sizes(state, self.space, self.islands, self.population)
        if state.evaluations == 0:
            return state, state.population
        rng = state.generator()
        rows = np.empty(self.islands * self.cohort, np.int64)
        hold_tournaments(state.fitness, self.tournament, rows, rng)
        children = state.population[rows]  # copies
        mutate_in_place(children, self.space, self.mutations, rng)
        lines = state.lines and dataclasses.replace(state.lines, parents=rows)
        return dataclasses.replace(state, rng=_rng_state(rng), lines=lines), children

    def tell(self, state: SearchState, programs: Programs, fitness: np.ndarray) -> SearchState:
        """The state once the programs asked for have their fitness `[I * P]` or `[I * C]`.

        Raises:
          ValueError: a fitness that is NaN or infinite, or not one for each program asked for.
        """
        fitness = checked_fitness(programs, fitness)
        if state.evaluations == 0:
            lines = first(programs, fitness)
            known = fitness.reshape(self.islands, self.population)
            return with_results(state, programs, fitness, lines, fitness=known, lines=lines)
        if len(programs) != self.islands * self.cohort:
            raise ValueError(f"{self.islands * self.cohort} programs were asked for, not {len(programs)}")
        slots = (state.oldest + np.arange(self.cohort)) % self.population
        rows = (np.arange(self.islands)[:, None] * self.population + slots).reshape(-1)
        old = state.population
        assert state.lines is not None
        lines = born(state.lines, programs, fitness, state.evaluations + len(programs))
        if self.cohort == self.population:  # a whole generation: nothing of the old one is left
            known = fitness.reshape(self.islands, self.cohort)
            return with_results(
                state, programs, fitness, lines, population=programs, fitness=known, oldest=0, lines=lines
            )
        arrays = [np.array(part) for part in (old.code, old.data, old.length)]
        for array, new in zip(arrays, (programs.code, programs.data, programs.length), strict=True):
            array[rows] = new
        known = state.fitness.copy()
        known[:, slots] = fitness.reshape(self.islands, self.cohort)
        return with_results(
            state,
            programs,
            fitness,
            lines,
            population=old.with_arrays(*arrays),
            fitness=known,
            oldest=(state.oldest + self.cohort) % self.population,
            lines=placed(state.lines, lines, rows),
        )


def hold_tournaments(fitness: np.ndarray, draws: int, rows: np.ndarray, rng: np.random.Generator) -> None:
    """For each of the same number of children of every island, the row of its parent: the fittest of some draws with
    replacement; of equals, the first drawn.
    """
    _hold_tournaments(fitness, draws, rows, address_of(rng))


@entry_point
def _hold_tournaments(fitness, draws, rows, address):  # type: ignore[no-untyped-def]
    rng = generator_at(address)
    islands, population = fitness.shape
    for i in range(len(rows)):
        island = i // (len(rows) // islands)
        best = int(rng.random() * population)
        for _ in range(draws - 1):
            drawn = int(rng.random() * population)
            if fitness[island, drawn] > fitness[island, best]:
                best = drawn
        rows[i] = island * population + best


def _rng_state(rng: np.random.Generator) -> dict:
    return dict(rng.bit_generator.state)


def first_programs(space: SearchSpace, initial: str | Programs) -> Programs | None:
    """The programs that the first population is made of; None where it is random."""
    if isinstance(initial, Programs):
        if not len(initial):
            raise ValueError("the initial programs must be at least one")
        return _filled(initial, space)
    if initial == "random":
        return None
    if initial == "no_op":
        return _filled(Programs.from_lists([[[], [], []]], space.memory), space)
    if initial in ("linear", "network"):
        return _filled(library.program(initial), space)
    if isinstance(initial, str):
        return _filled(library.load(initial, space.memory), space)
    raise ValueError(f"initial must be random, no_op, linear, network, a file or programs, not {shown(initial)}")


def _filled(programs: Programs, space: SearchSpace) -> Programs:
    """Programs with NO_OP behind each component up to the initial sizes, as upstream starts from one."""
    sizes = space.initial_size
    padded = [
        [part + [[0]] * (size - len(part)) for part, size in zip(components, sizes, strict=True)]
        for components in programs.to_lists()
    ]
    try:
        return Programs.from_lists(padded, space.memory, space.capacity)
    except ValueError as error:
        raise ValueError(f"the initial program does not fit the space: {error}") from None
