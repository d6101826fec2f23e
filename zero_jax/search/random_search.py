"""Random search: the baseline against which evolution is measured (Real et al. 2020, section 4.1)."""

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.programs import Programs
from zero_jax.program.space import random_programs
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_layout, check_population
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Array, Length


@dataclasses.dataclass(frozen=True, eq=False)
class RandomState(State):
    """The state of `RandomSearch`; the last cohort is its population, on one island.

    Attributes:
      programs: the last cohort; one empty program before the first.
      fitness: float64 `[1, P]`, NaN before the first evaluation.
      hashes: uint64 `[P]`, of the canonical forms.
    """

    programs: Annotated[Programs, Length("P")]
    fitness: Annotated[np.ndarray, Array(np.float64, (1, "P"), finite=False)]
    hashes: Annotated[np.ndarray, Array(np.uint64, ("P",))]

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        finite = np.isfinite(self.fitness) if self.evaluations else np.isnan(self.fitness)
        if not self.fitness.size or not finite.all():
            raise ValueError("fitness is missing after an evaluation, or there before one")


@register("random")
@dataclasses.dataclass(frozen=True)
class RandomSearch(Searcher):
    """Draws programs from a space, `cohort` at a time, and remembers the best.

    Attributes:
      cohort: Number of programs drawn and evaluated together.

    Raises:
      ValueError: a cohort below 1, or too large for the memory that it may take.

    Example:
      >>> from zero_jax import Component, SearchSpace
      >>> setup, predict = Component(["SCALAR_CONST_SET"], (1, 2, 2)), Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (1, 4, 4))
      >>> space = SearchSpace((4, 3, 1), setup, predict, learn)
      >>> search = RandomSearch(space, cohort=8)
      >>> state, candidates = search.ask(search.init(seed=0))
      >>> search.tell(state, candidates, Scores.of(np.zeros(8))).evaluations
      8
    """

    cohort: int = 1000

    state_type: ClassVar[type[State]] = RandomState

    def __post_init__(self) -> None:
        check_number("cohort", self.cohort)
        check_population(self.space, 1, self.cohort)

    def init(self, seed: int | np.random.SeedSequence) -> RandomState:
        """The state before the first evaluation."""
        nothing = random_programs(self.space, 1, np.random.default_rng(0))
        rng = Rng.of(np.random.default_rng(seed))
        return RandomState(0, None, rng, nothing, np.full((1, 1), np.nan), np.zeros(1, np.uint64))

    def ask(self, state: RandomState) -> tuple[RandomState, Candidates]:
        """The state, its generator advanced, and `cohort` random programs."""
        self.check_kind(state)
        rng = state.generator()
        candidates = self.candidates(random_programs(self.space, self.cohort, rng))
        return dataclasses.replace(state, rng=Rng.of(rng)), candidates

    def tell(self, state: RandomState, candidates: Candidates, scores: Scores) -> RandomState:
        """The state after the evaluation of a cohort."""
        fitness = combined(candidates, scores)
        cohort: dict[str, Any] = {"programs": candidates.programs, "hashes": candidates.hashes}
        return with_scores(state, candidates, fitness, **cohort, fitness=fitness[None])

    def check(self, state: RandomState) -> None:
        """As in `Searcher`."""
        super().check(state)
        check_layout(state.programs, self.space)
        expected = self.cohort if state.evaluations else 1
        if len(state.programs) != expected:
            raise ValueError(f"the state is of another search: a cohort of {len(state.programs)}, not {expected}")
