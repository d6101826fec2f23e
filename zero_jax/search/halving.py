"""Successive halving (Jamieson and Talwalkar 2016) and Hyperband (Li et al. 2017) over the fidelity of evaluations.

Axes: `n` proposals of a bracket.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.programs import Programs
from zero_jax.search.base import SEARCHERS, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_layout, check_ops
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Array, Count, Length, Part, encode
from zero_jax.support.foreign import shown


@dataclasses.dataclass(frozen=True, eq=False)
class HalvingState(State):
    """The state of `SuccessiveHalving` and `Hyperband`.

    Attributes:
      inner: the state of the proposer, as it stands after it has proposed.
      proposals: those of the bracket; one empty program before the first.
      fitness: float64 `[n]`, of the last rung that each reached; NaN before the first.
      left: int64, which of them are asked for, the best of the rung before; empty before the first.
      rung: of those.
      brackets: how many have ended.
    """

    inner: Part
    proposals: Annotated[Programs, Length("n")]
    fitness: Annotated[np.ndarray, Array(np.float64, ("n",), finite=False)]
    left: Annotated[np.ndarray, Array(np.int64, (None,), least=0)]
    rung: Count
    brackets: Count

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        if (self.left >= len(self.proposals)).any() or len(np.unique(self.left)) != len(self.left):
            raise ValueError("left has a proposal that is not there, or one twice")


@register("halving")
@dataclasses.dataclass(frozen=True)
class SuccessiveHalving(Searcher):
    """Evaluates what another searcher proposes on a small part of the work, and the best of each rung on more.

    A bracket begins with all that the proposer asks for at a time, n programs, on the share eta^-rungs of the work.
    The best n / eta go on to eta times as much, and so on; the last rung is the full work. Then the proposer is given
    the fitness of each on the last rung that it reached, and proposes again.

    Attributes:
      proposer: The search that proposes, with its own defaults: random, evolution, or another by name.
      proposals: How many programs it proposes at a time, if it has a cohort.
      eta: The best 1 / eta of a rung go on, to eta times the work.
      rungs: How many rungs come before the full work.
      least_tasks: Share of the tasks below which the work gets smaller by fewer examples instead.

    Raises:
      ValueError: an unknown proposer, or one that asks for a fidelity itself; numbers out of range.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> search = SuccessiveHalving(PRESETS["demo"][1].searcher.space, proposals=90, eta=3, rungs=2)
      >>> [(programs, round(share, 2)) for programs, share in search.schedule(90, search.rungs)]
      [(90, 0.11), (30, 0.33), (10, 1.0)]
    """

    proposer: str = "random"
    proposals: int = 900
    eta: int = 3
    rungs: int = 2
    least_tasks: float = 0.5

    only_fitness: ClassVar[bool] = False
    state_type: ClassVar[type[State]] = HalvingState

    def __post_init__(self) -> None:
        check_number("proposals", self.proposals)
        if not 2 <= self.eta <= 1000:
            raise ValueError(f"eta must be from 2 to 1,000, not {self.eta}")
        if not 1 <= self.rungs <= 10:
            raise ValueError(f"rungs must be from 1 to 10, not {self.rungs}")
        if not 0 < self.least_tasks <= 1:
            raise ValueError(f"least_tasks is a share, above 0 and at most 1, not {self.least_tasks}")
        self._proposer()  # refuses what cannot be

    def _proposer(self) -> Any:
        return _proposer(self.proposer, self.space, self.interface, self.proposals)

    def schedule(self, n: int, rungs: int) -> list[tuple[int, float]]:
        """For each rung how many of `n` programs are evaluated, and on which share of the work."""
        return [(max(1, n // self.eta**i), float(self.eta) ** (i - rungs)) for i in range(rungs + 1)]

    def rungs_of(self, bracket: int) -> int:
        """How many rungs a bracket has before the full work."""
        return self.rungs

    @property
    def ops(self) -> tuple[tuple[int, ...], ...]:
        """As in `Searcher`: those of the proposer."""
        return self._proposer().ops

    # ------------------------------------------------------------------------------------------ the contract

    def init(self, seed: int | np.random.SeedSequence) -> HalvingState:
        """The state before the first evaluation."""
        proposer = self._proposer()
        inner = proposer.init(seed)
        nothing = proposer.ask(inner)[1].programs[:1]
        none = np.zeros(0, np.int64)
        return HalvingState(0, None, inner.rng, Part(encode(inner)), nothing, np.full(1, np.nan), none, 0, 0)

    def ask(self, state: HalvingState) -> tuple[HalvingState, Candidates]:
        """What to evaluate next, at the fidelity of its rung; at first one program in full, so that there is a best."""
        self.check_kind(state)
        if not len(state.left):
            proposer = self._proposer()
            inner, proposed = proposer.ask(proposer.restored(state.inner.tree, "state.inner"))
            n = len(proposed)
            state = dataclasses.replace(
                state,
                rng=inner.rng,
                inner=Part(encode(inner)),
                proposals=proposed.programs,
                fitness=np.full(n, np.nan),
                left=np.arange(n),
                rung=0,
            )
        if not state.evaluations:
            return state, self.candidates(state.proposals[:1])
        share = self.schedule(1, self.rungs_of(state.brackets))[state.rung][1]
        tasks = max(share, self.least_tasks)
        candidates = self.candidates(state.proposals[state.left])
        return state, dataclasses.replace(candidates, tasks_share=tasks, examples_share=min(1.0, share / tasks))

    def tell(self, state: HalvingState, candidates: Candidates, scores: Scores) -> HalvingState:
        """The state after a rung: the best go on, or the bracket ends."""
        fitness = combined(candidates, scores)
        if not state.evaluations:
            return with_scores(state, candidates, fitness)
        known = state.fitness.copy()
        known[state.left] = fitness
        schedule = self.schedule(len(state.proposals), self.rungs_of(state.brackets))
        if state.rung < len(schedule) - 1:
            best = np.argsort(-fitness, kind="stable")[: schedule[state.rung + 1][0]]
            evaluations = state.evaluations + len(candidates)
            rung = state.rung + 1
            return dataclasses.replace(state, evaluations=evaluations, fitness=known, left=state.left[best], rung=rung)
        state = with_scores(state, candidates, fitness)
        proposer = self._proposer()
        inner = proposer.restored(state.inner.tree, "state.inner")
        inner = proposer.tell(inner, self.candidates(state.proposals), Scores.of(known))
        none = np.zeros(0, np.int64)
        return dataclasses.replace(
            state, inner=Part(encode(inner)), fitness=known, left=none, rung=0, brackets=state.brackets + 1
        )

    def exhausted(self, state: HalvingState) -> bool:
        """Whether the proposer is."""
        if len(state.left):
            return False
        proposer = self._proposer()
        return bool(proposer.exhausted(proposer.restored(state.inner.tree, "state.inner")))

    def check(self, state: HalvingState) -> None:
        """As in `Searcher`."""
        super().check(state)
        check_layout(state.proposals, self.space)
        check_ops(state.proposals, self.ops)
        self._proposer().restored(state.inner.tree, "inner")
        if state.rung > self.rungs_of(state.brackets):
            raise ValueError(f"the state is of another search: rung {state.rung} of {self.rungs_of(state.brackets)}")


@register("hyperband")
@dataclasses.dataclass(frozen=True)
class Hyperband(SuccessiveHalving):
    """Successive halving that hedges how small the first part of the work may be.

    Its brackets begin `rungs`, ..., 1, 0 rungs before the full work. Each such beginning is repeated so often that all
    get about the same work, as Hyperband's brackets do by their numbers of programs.
    """

    def rungs_of(self, bracket: int) -> int:
        """As in the base."""
        return self._turns[bracket % len(self._turns)]

    @functools.cached_property
    def _turns(self) -> tuple[int, ...]:
        """The rungs of the brackets of one round: the less work a bracket is, the more often it comes."""
        work = [sum(n * share for n, share in self.schedule(self.proposals, rungs)) for rungs in range(self.rungs + 1)]
        return tuple(rungs for rungs in reversed(range(self.rungs + 1)) for _ in range(round(max(work) / work[rungs])))


@functools.lru_cache(maxsize=64)
def _proposer(name: str, space: Any, interface: Any, proposals: int) -> Any:
    """The search that proposes."""
    kind: Any = SEARCHERS.get(name)
    if kind is None or issubclass(kind, SuccessiveHalving):
        fitting = ", ".join(one for one, kind in SEARCHERS.items() if not issubclass(kind, SuccessiveHalving))
        raise ValueError(f"proposer: unknown or halving itself: {shown(name)}; expected one of {fitting}")
    names = {field.name for field in dataclasses.fields(kind)}
    if not kind.only_fitness:
        raise ValueError(f"proposer {name!r} asks for more than fitness on all of the work: take evolution, or another")
    settings: dict[str, Any] = {"space": space} | ({"population": proposals} if "population" in names else {})
    settings |= {"cohort": proposals} if "cohort" in names else {}
    return kind(**kind.adapted(settings), interface=interface)
