"""Local search: climb by single mutations, begin again where nothing nearby is better (White, Nolen and Savani 2021).

Axes: `C` climbers.
"""

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.programs import Programs
from zero_jax.program.space import random_programs
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_layout, check_ops
from zero_jax.search.operators.mutation import Mutations, mutate
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Array, Length


@dataclasses.dataclass(frozen=True, eq=False)
class LocalState(State):
    """The state of `LocalSearch`.

    Attributes:
      climbers: where each stands.
      heights: float64 `[C]`, the fitness there; -inf where a climber has just been set down.
      failures: int64 `[C]`, how many neighbours in a row were no better.
    """

    climbers: Annotated[Programs, Length("C")]
    heights: Annotated[np.ndarray, Array(np.float64, ("C",), finite=False)]
    failures: Annotated[np.ndarray, Array(np.int64, ("C",), least=0)]

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        if np.isnan(self.heights).any() or (self.heights == np.inf).any():
            raise ValueError("heights has NaN or infinity")


@register("local")
@dataclasses.dataclass(frozen=True)
class LocalSearch(Searcher):
    """Climbers that go to a neighbour, a program one mutation away, if it is at least as fit.

    A climber that `patience` neighbours in a row have not improved is set down on a new random program. On tables of
    architectures this is as good as methods with more to them, so that a comparison should have it.

    Attributes:
      cohort: Number of climbers; each tries one neighbour at a time (C).
      patience: Neighbours without improvement after which a climber begins again.
      mutations: What a neighbour is; all climbers move, whatever its `probability`.

    Raises:
      ValueError: numbers out of range.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> search = LocalSearch(PRESETS["demo"][1].searcher.space, cohort=5)
      >>> state, candidates = search.ask(search.init(seed=0))
      >>> search.tell(state, candidates, Scores.of(np.arange(5.0))).heights.tolist()
      [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    cohort: int = 100
    patience: int = 300
    mutations: Mutations = Mutations()

    state_type: ClassVar[type[State]] = LocalState

    def __post_init__(self) -> None:
        check_number("cohort", self.cohort)
        check_number("patience", self.patience)

    def init(self, seed: int | np.random.SeedSequence) -> LocalState:
        """The state before the first evaluation."""
        rng = np.random.default_rng(seed)
        climbers = random_programs(self.space, self.cohort, rng)
        nowhere = np.full(self.cohort, -np.inf)
        return LocalState(0, None, Rng.of(rng), climbers, nowhere, np.zeros(self.cohort, np.int64))

    def ask(self, state: LocalState) -> tuple[LocalState, Candidates]:
        """A neighbour of each climber, or where it has been set down."""
        self.check_kind(state)
        rng = state.generator()
        moves = dataclasses.replace(self.mutations, probability=1.0)
        neighbours = mutate(state.climbers, self.space, moves, rng, self.interface)
        programs = _chosen(np.isfinite(state.heights), neighbours, state.climbers)
        return dataclasses.replace(state, rng=Rng.of(rng)), self.candidates(programs)

    def tell(self, state: LocalState, candidates: Candidates, scores: Scores) -> LocalState:
        """The state after the climbers have moved."""
        fitness, rng = combined(candidates, scores), state.generator()
        if len(fitness) != self.cohort:
            raise ValueError(f"{self.cohort} candidates were asked for, not {len(fitness)}")
        failures = np.where(fitness > state.heights, 0, state.failures + 1)
        lost = failures >= self.patience
        climbers = _chosen(fitness >= state.heights, candidates.programs, state.climbers)
        heights = np.where(lost, -np.inf, np.maximum(fitness, state.heights))
        climbers = _chosen(lost, random_programs(self.space, self.cohort, rng), climbers)
        changes = {"climbers": climbers, "heights": heights, "failures": np.where(lost, 0, failures)}
        return with_scores(state, candidates, fitness, rng=Rng.of(rng), **changes)

    def check(self, state: LocalState) -> None:
        """As in `Searcher`."""
        super().check(state)
        check_layout(state.climbers, self.space)
        check_ops(state.climbers, self.ops)
        if len(state.climbers) != self.cohort:
            raise ValueError(f"the state is of another search: {len(state.climbers)} climbers, not {self.cohort}")


def _chosen(which: np.ndarray, one: Programs, other: Programs) -> Programs:
    """The programs of one batch where `which` is true, else those of the other."""
    parts = [(np.asarray(a), np.asarray(b)) for a, b in zip(_arrays(one), _arrays(other), strict=True)]
    return one.with_arrays(*(np.where(which.reshape(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in parts))


def _arrays(programs: Programs) -> tuple[np.ndarray, ...]:
    return programs.code, programs.data, programs.length
