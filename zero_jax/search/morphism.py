"""Evolution that grows programs without changing what they do (network morphism, Wei et al. 2016; Elsken et al. 2017).

Axes: `n` programs, `L` slots.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores, Stage
from zero_jax.search.base import State, register
from zero_jax.search.operators import credit
from zero_jax.search.operators.morphs import morph
from zero_jax.search.operators.mutation import mutate_in_place
from zero_jax.search.regularized_evolution import EvolutionState, RegularizedEvolution
from zero_jax.support.codec import Range
from zero_jax.tasks import Tasks


@dataclasses.dataclass(frozen=True, eq=False)
class GrowthState(EvolutionState):
    """The state of `MorphismEvolution`.

    Attributes:
      stage: on which share of the features the population was evaluated; -1 for all of them, at first.
      again: the stage on which it is being evaluated again; None while children are asked for.
    """

    stage: Annotated[int, Range(-1, 10**6)] = -1
    again: Annotated[int, Range(0, 10**6)] | None = None


@register("morphism")
@dataclasses.dataclass(frozen=True)
class MorphismEvolution(RegularizedEvolution):
    """Regularized evolution whose children may be larger than their parents and do the same, until they are mutated.

    Fitness never falls by a morphism, so programs can grow in steps that no single mutation would survive:

    - *duplicate*: a value is computed a second time, into an address that nothing uses, and one later read is of that.
    - *add zero*: a value is replaced by its sum with an address that is never written.
    - *multiply by one*: a value is replaced by its product with a scalar that Setup sets to 1.
    - *split*: a value is computed into an unused address, and then copied by adding zero or multiplying by one.

    Each takes the ops that the space gives the component. With `grow_every` the largest sizes begin at the initial ones
    and grow by one instruction a component at a time, and tasks grow too: programs are evaluated on the first share of
    the features that `features` says, then on the next (progressive growth, Karras et al. 2018). Where a share gives
    way to the next, the population is evaluated again. Only fitness on all features decides which program is the best.

    Attributes:
      morphism: Probability that a child is a morphism of its parent, in place of a mutant.
      grow_every: Evaluations after which each component may have one instruction more; 0 for the largest sizes at once.
      features: Shares of the features, growing to 1.0, with each of which programs are evaluated in turn.
      features_every: Evaluations after which one gives way to the next.

    Raises:
      ValueError: also a probability or a number out of range, or shares that do not grow to 1.
    """

    morphism: float = 0.3
    grow_every: int = 0
    features: tuple[float, ...] = (1.0,)
    features_every: int = 20_000

    state_type: ClassVar[type[State]] = GrowthState

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.morphism < 1:
            raise ValueError(f"morphism must be from 0 to below 1, not {self.morphism}")
        if not 0 <= self.grow_every <= 10**15:
            raise ValueError(f"grow_every must be at least 0, not {self.grow_every}")
        if not self.features or self.features[-1] != 1 or (np.diff(self.features) <= 0).any() or self.features[0] <= 0:
            raise ValueError(f"features are shares above 0 that grow to 1.0, not {self.features}")
        if not 1 <= self.features_every <= 10**15:
            raise ValueError(f"features_every must be at least 1, not {self.features_every}")

    def stage(self, evaluations: int) -> int:
        """Which share of the features counts after this many evaluations."""
        return min(len(self.features) - 1, evaluations // self.features_every)

    def ask(self, state: Any) -> tuple[Any, Candidates]:
        """As in the base; some children are morphisms of their parents. At a new share, the population."""
        if not state.evaluations:
            return super().ask(state)
        self.check_kind(state)
        stage = self.stage(state.evaluations)
        if stage != state.stage and len(self.features) > 1:
            state = dataclasses.replace(state, again=stage)
            return state, self._on(stage, self.candidates(state.programs))
        rng = state.generator()
        parents = self.parents(state, rng)
        children = state.programs[parents]  # copies
        grown = np.flatnonzero(rng.random(len(parents)) < self.morphism)
        most = self.largest(state.evaluations)
        grown = np.array(
            [row for row in grown.tolist() if morph(children, row, self.space, most, rng, self.interface)], np.int64
        )
        mutated = np.setdiff1d(np.arange(len(parents)), grown)
        applied = np.zeros(len(parents), np.int64)
        weights = credit.weights(state.credit, self.mutations)
        some = children[mutated]
        applied[mutated] = mutate_in_place(some, self.space, self.mutations, rng, self.interface, weights)
        fits = (np.asarray(some.length) <= np.maximum(most, np.asarray(children.length)[mutated])).all(1)
        for name in ("code", "data", "length"):  # one that has grown too large stays as its parent was
            getattr(children, name)[mutated[fits]] = getattr(some, name)[fits]
        return self.asked(state, rng, parents, applied), self._on(stage, self.candidates(children))

    def _on(self, stage: int, candidates: Candidates) -> Candidates:
        return dataclasses.replace(candidates, features_share=self.features[stage])

    def tell(self, state: Any, candidates: Candidates, scores: Scores) -> Any:
        """As in the base; fitness on a share of the features does not make a program the best."""
        if not state.evaluations:
            return super().tell(state, candidates, scores)
        best = state.best
        if state.again is None:
            after = super().tell(state, candidates, scores)
        else:
            after = dataclasses.replace(self.with_first(state, candidates, scores), stage=state.again, again=None)
        return after if candidates.features_share == 1 else dataclasses.replace(after, best=best)

    def check_work(self, tasks: Tasks, stages: Sequence[Stage]) -> None:
        """As in `Searcher`: classes are features of their own."""
        if tasks.vector_labels and len(self.features) > 1:
            raise ValueError(
                "features: tasks of several classes cannot lose features, in which labels are: leave it out"
            )

    def largest(self, evaluations: int) -> np.ndarray:
        """`[3]` how many instructions a child may have in each component after so many evaluations."""
        first, most = np.array(self.space.initial_size), np.array(self.space.max_size)
        return np.minimum(most, first + evaluations // self.grow_every) if self.grow_every else most
