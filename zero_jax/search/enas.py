"""A controller whose programs share trained memory: efficient neural architecture search (Pham et al. 2018).

Axes: `n` programs of a cohort, `L` slots, `A` addresses (scalars, then vectors, then matrices), `T` tasks, `F`
features.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores, Stage
from zero_jax.evaluation.hurdles import Hurdles
from zero_jax.executors.base import Memory
from zero_jax.program.canonical import canonical
from zero_jax.program.programs import Programs, concatenate
from zero_jax.search.base import State, combined, register, with_scores
from zero_jax.search.checks import check_layout
from zero_jax.search.operators.inheritance import inheriting, learned
from zero_jax.search.reinforce import ControllerState, Reinforce, stored
from zero_jax.support.codec import Array, Count, Length
from zero_jax.tasks import Tasks

Phase = Literal["begin", "memory", "policy", "judge"]


@dataclasses.dataclass(frozen=True, eq=False)
class SharedState(ControllerState):
    """The state of `Enas`.

    Attributes:
      scalars, vectors, matrices: the shared memory: float32 `[T, S]`, `[T, V, F]`, `[T, M, F, F]`; of no tasks and
        features before the first cohort.
      trained: bool `[A]`, which addresses some program has learned at.
      phase: what is asked for: first programs alone; programs that train the shared memory; programs that the
        controller learns from; or the best of these, alone.
      turn: how many cohorts of the phase are done.
      shortlist: `J` programs to be judged, the best first; a single empty one at first.
      shortlist_fitness: float64 `[J]`, with shared memory; NaN for the empty one.
    """

    scalars: Annotated[np.ndarray, Array(np.float32, ("T", None))]
    vectors: Annotated[np.ndarray, Array(np.float32, ("T", None, "F"))]
    matrices: Annotated[np.ndarray, Array(np.float32, ("T", None, "F", "F"))]
    trained: Annotated[np.ndarray, Array(np.bool_, (None,))]
    phase: Phase
    turn: Count
    shortlist: Annotated[Programs, Length("J")]
    shortlist_fitness: Annotated[np.ndarray, Array(np.float64, ("J",), finite=False)]

    @property
    def shared(self) -> Memory:
        """The shared memory."""
        return Memory(self.scalars, self.vectors, self.matrices)

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        if np.isnan(self.shortlist_fitness).any() and len(self.shortlist) > 1:
            raise ValueError("shortlist_fitness has NaN")
        if (self.phase == "begin") != (self.evaluations == 0):
            raise ValueError("the phase is begin after the first evaluation, or another before it")


@register("enas")
@dataclasses.dataclass(frozen=True)
class Enas(Reinforce):
    """Programs start from memory that others have trained, so that a part of the examples is enough to compare them.

    There is one shared memory, a value for each address and task. A program begins with it at the addresses that its
    Learn updates from step to step (`learned`), where its Setup has no say, and with what its Setup leaves elsewhere:
    learning rates are part of a program, weights are not. Two phases take turns, as in the paper: cohorts that train,
    the mean of what the best of them leave becoming the shared memory, while the controller rests; and cohorts from
    whose fitness the controller learns, as in `Reinforce`, while the memory rests. Then the best are judged as they are
    alone, in full: no fitness that shared memory has brought about is ever reported.

    The price is bias: a program is compared by what it makes of others' memory. `experiments/searchers.py` reports the
    rank correlation of that with its fitness alone.

    Attributes:
      share: Share of the training examples that a program with shared memory sees.
      teachers: Share of a cohort, the best of it, whose memory is written back.
      memory_cohorts: How many cohorts train the shared memory, in turn with
      policy_cohorts: how many that the controller learns from.
      judged: How many of the best programs of a turn are evaluated alone.

    Raises:
      ValueError: as `Reinforce`; numbers out of range.
    """

    share: float = 0.2
    teachers: float = 0.1
    memory_cohorts: int = 4
    policy_cohorts: int = 8
    judged: int = 20

    only_fitness: ClassVar[bool] = False
    state_type: ClassVar[type[State]] = SharedState

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_cohorts", "policy_cohorts", "judged"):
            if not 1 <= getattr(self, name) <= 100_000:
                raise ValueError(f"{name} must be from 1 to 100,000, not {getattr(self, name)}")
        for name in ("share", "teachers"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, above 0 and at most 1, not {getattr(self, name)}")

    # ------------------------------------------------------------------------------------------ the contract

    def init(self, seed: int | np.random.SeedSequence) -> SharedState:
        """The state before the first evaluation."""
        begin, (scalars, vectors, matrices) = super().init(seed), self.space.memory
        return SharedState(
            **vars(begin),
            scalars=np.zeros((0, scalars), np.float32),
            vectors=np.zeros((0, vectors, 0), np.float32),
            matrices=np.zeros((0, matrices, 0, 0), np.float32),
            trained=np.zeros(sum(self.space.memory), bool),
            phase="begin",
            turn=0,
            shortlist=self.written(begin.tokens),
            shortlist_fitness=np.full(1, np.nan),
        )

    def ask(self, state: Any) -> tuple[SharedState, Candidates]:
        """The state, its generator advanced, and programs with or without shared memory."""
        self.check_kind(state)
        if state.phase == "judge":
            return state, self.candidates(state.shortlist)
        state, candidates = super().ask(state)
        if state.phase == "begin":
            return state, dataclasses.replace(candidates, keeps_memory=True)
        programs = inheriting(candidates.programs, state.trained, self.interface)
        return state, dataclasses.replace(
            self.candidates(programs),
            examples_share=self.share,
            memory=state.shared,
            keeps_memory=state.phase == "memory",
        )

    def tell(self, state: Any, candidates: Candidates, scores: Scores) -> SharedState:
        """The state after a cohort, in the next phase where one ends."""
        fitness = combined(candidates, scores)
        n = len(state.shortlist if state.phase == "judge" else state.tokens)
        if len(fitness) != n:
            raise ValueError(f"{n} candidates were asked for, not {len(fitness)}")
        if state.phase == "judge":
            state = with_scores(state, candidates, fitness)
            none = np.full(1, np.nan)
            return dataclasses.replace(
                state, phase="memory", turn=0, shortlist=state.shortlist[:1], shortlist_fitness=none
            )
        programs = self.written(state.tokens)
        if state.phase == "begin":
            state = with_scores(state, candidates, fitness)
            return dataclasses.replace(self._written_back(state, programs, fitness, scores), phase="memory")
        turn, evaluations = state.turn + 1, state.evaluations + len(candidates)
        following: Phase
        if state.phase == "memory":
            after, last, following = self._written_back(state, programs, fitness, scores), self.memory_cohorts, "policy"
        else:
            after, last, following = self._learned(state, programs, fitness), self.policy_cohorts, "judge"
        phase, turn = (following, 0) if turn >= last else (state.phase, turn)
        return dataclasses.replace(after, evaluations=evaluations, phase=phase, turn=turn)

    def check_work(self, tasks: Tasks, stages: Sequence[Stage]) -> None:
        """As in `Searcher`: memory is shared on one fidelity."""
        if any(isinstance(stage, Hurdles) for stage in stages):
            raise ValueError(
                "enas compares programs by what they make of shared memory, on one fidelity: leave out hurdles, or "
                "take reinforce, which has the same controller and no shared memory"
            )

    def written(self, tokens: np.ndarray) -> Programs:
        """The programs that tokens `[n, L, 7]` stand for."""
        return self._functions.controller.programs(tokens)

    def _learned(self, state: SharedState, programs: Programs, fitness: np.ndarray) -> SharedState:
        """The state after the controller has learned from a cohort, the best of which are noted."""
        if not np.isnan(state.shortlist_fitness).any():
            programs = concatenate([state.shortlist, programs])
            known = np.concatenate([state.shortlist_fitness, fitness])
        else:
            known = fitness
        hashes = canonical(programs, interface=self.interface).hashes[:, 0]
        order = np.argsort(-known, kind="stable")
        first = np.sort(np.unique(hashes[order], return_index=True)[1])[: self.judged]
        best = order[first]
        learned, baseline = self.lesson(state, fitness)
        return dataclasses.replace(
            state,
            learned=stored(learned),
            baseline=baseline,
            shortlist=programs[best],
            shortlist_fitness=known[best],
        )

    def _written_back(self, state: SharedState, programs: Programs, fitness: np.ndarray, scores: Scores) -> SharedState:
        """The state with, at each address, the mean of what the best programs of a cohort that learn there leave."""
        if scores.memory is None:
            raise ValueError("enas needs the memory that training leaves: evaluate its candidates with an Evaluator")
        memory = [np.asarray(part, np.float32) for part in scores.memory]
        best = np.argsort(-fitness, kind="stable")[: max(1, int(self.teachers * len(fitness)))]
        taught = learned(programs[best], self.interface)
        before = state.shared if len(state.scalars) else [np.zeros_like(part[0]) for part in memory]
        parts, first = [], 0
        for left, old in zip(memory, before, strict=True):
            new = np.array(old)
            for address in range(left.shape[2]):
                values = left[best[taught[:, first + address]], :, address]
                values = values[np.isfinite(values).all(axis=tuple(range(1, values.ndim)))]
                if len(values):
                    new[:, address] = values.mean(0)
            parts.append(new)
            first += left.shape[2]
        scalars, vectors, matrices = parts
        trained = state.trained | taught.any(0)
        return dataclasses.replace(state, scalars=scalars, vectors=vectors, matrices=matrices, trained=trained)

    def check(self, state: Any) -> None:
        """As in `Searcher`."""
        super().check(state)
        check_layout(state.shortlist, self.space)
        sizes = state.scalars.shape[1], state.vectors.shape[1], state.matrices.shape[1]
        if sizes != tuple(self.space.memory) or len(state.trained) != sum(sizes):
            raise ValueError(f"the state is of another search: shared memory of {sizes} addresses")
