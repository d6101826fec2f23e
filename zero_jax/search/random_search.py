"""Random search: the baseline that evolution is measured against (SPEC 6)."""

import dataclasses

import numpy as np

from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace, random_programs
from zero_jax.search.state import SearchState, check_ops, check_population, check_sizes, checked_fitness, with_results
from zero_jax.support.bounds import check_number


@dataclasses.dataclass(frozen=True)
class RandomSearch:
    """Draws programs from a space, `cohort` at a time; remembers the best.

    The state's population is the cohort asked for last, on one island.

    Raises:
      ValueError: a cohort below 1, or too large for the memory that it may take.

    Example:
      >>> setup, predict = Component(["SCALAR_CONST_SET"], (1, 2, 2)), Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (1, 4, 4))
      >>> space = SearchSpace((4, 3, 1), setup, predict, learn)
      >>> search = RandomSearch(space, cohort=8)
      >>> state, programs = search.ask(search.init(seed=0))
      >>> search.tell(state, programs, np.zeros(8)).evaluations
      8
    """

    space: SearchSpace
    cohort: int = 1000

    def __post_init__(self) -> None:
        check_number("cohort", self.cohort)
        check_population(self.space, 1, self.cohort)

    @property
    def ops(self) -> tuple[tuple[int, ...], ...]:
        """The ops that programs of each component can hold: those of the space."""
        return self.space.ops

    def init(self, seed: int | np.random.SeedSequence) -> SearchState:
        """The state before anything is evaluated."""
        rng = np.random.default_rng(seed)
        nothing = random_programs(self.space, 1, np.random.default_rng(0))
        return SearchState(nothing, np.full((1, 1), np.nan), 0, 0, nothing, -np.inf, dict(rng.bit_generator.state))

    def check(self, state: SearchState) -> None:
        """Whether a state that comes from a file is one of this search.

        Raises:
          ValueError: saying what is not.
        """
        check_sizes(state, self.space, 1, self.cohort if state.evaluations else 1)
        check_ops(state.population, self.ops)
        if state.lines is not None or state.niches is not None:
            raise ValueError("the state is of another search: it has lines of descent, or niches")

    def ask(self, state: SearchState) -> tuple[SearchState, Programs]:
        """The state, its generator advanced, and `cohort` random programs."""
        rng = state.generator()
        programs = random_programs(self.space, self.cohort, rng)
        return dataclasses.replace(state, rng=dict(rng.bit_generator.state)), programs

    def tell(self, state: SearchState, programs: Programs, fitness: np.ndarray) -> SearchState:
        """The state once the programs have their fitness `[cohort]`."""
        fitness = checked_fitness(programs, fitness)
        return with_results(state, programs, fitness, population=programs, fitness=fitness[None])
