"""Evolution for programs that are good and cheap, by one number (Tan et al. 2019, MnasNet).

Axes: `N` individuals, `n` candidates.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.programs import Programs
from zero_jax.search.base import State, combined, register
from zero_jax.search.operators.population import Individuals, unevaluated
from zero_jax.search.regularized_evolution import EvolutionState, RegularizedEvolution
from zero_jax.support.codec import Array, Range

LEAST_COST = 1e-3
"""Cheaper programs count as this cheap: those that do nothing must not win by it."""


@dataclasses.dataclass(frozen=True, eq=False)
class CostedIndividuals(Individuals):
    """Individuals whose cost is known.

    Attributes:
      costs: float64 `[N]`, of training, in multiples of the library's 2-layer network; NaN before the evaluation.
    """

    costs: Annotated[np.ndarray, Array(np.float64, ("N",), finite=False)]


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedState(EvolutionState):
    """The state of `WeightedEvolution`.

    Attributes:
      individuals: with their costs.
      best_reward: of the best program, which is that of the highest reward; -inf before the first.
    """

    individuals: CostedIndividuals
    best_reward: Annotated[float, Range(finite=False)] = dataclasses.field(default=-np.inf, kw_only=True)

    @property
    def best_value(self) -> float:
        """As in `State`."""
        return self.best_reward


@register("weighted")
@dataclasses.dataclass(frozen=True)
class WeightedEvolution(RegularizedEvolution):
    """Regularized evolution by fitness x (cost / target)^exponent, the reward of MnasNet (equation 2).

    Tournaments compare rewards, and the best program is the one of the highest reward; the fitness that is reported is
    its own. An exponent of 0 is plain evolution.

    Attributes:
      target_cost: The cost at which reward and fitness are equal, in multiples of the library's 2-layer network.
      exponent: How much cost counts: at -0.07 (MnasNet) twice the cost has to bring 5% more fitness.

    Raises:
      ValueError: also a target cost that is not above 0, or an exponent above 0.
    """

    target_cost: float = 1.0
    exponent: float = -0.07

    state_type: ClassVar[type[State]] = WeightedState
    individuals_type: ClassVar[type[Individuals]] = CostedIndividuals

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.target_cost < np.inf:
            raise ValueError(f"target_cost must be above 0, not {self.target_cost}")
        if not -np.inf < self.exponent <= 0:
            raise ValueError(f"exponent must be at most 0, so that cost does not pay, not {self.exponent}")

    def unevaluated(self, programs: Programs) -> CostedIndividuals:
        """As in the base."""
        return CostedIndividuals(**vars(unevaluated(programs)), costs=np.full(len(programs), np.nan))

    def traits(self, state: Any, candidates: Candidates, scores: Scores) -> dict[str, np.ndarray]:
        """As in the base."""
        return {"costs": known_costs(scores)}

    def rewards(self, fitness: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """`[N]` of programs of a fitness and a cost."""
        return np.asarray(fitness * (np.maximum(costs, LEAST_COST) / self.target_cost) ** self.exponent)

    def value(self, individuals: Any) -> np.ndarray:
        """`[N]` rewards."""
        return self.rewards(individuals.fitness, individuals.costs)

    def tell(self, state: Any, candidates: Candidates, scores: Scores) -> Any:
        """As in the base."""
        after = super().tell(state, candidates, scores)
        if after.best is state.best:
            return after
        rewards = self.rewards(combined(candidates, scores), known_costs(scores))
        return dataclasses.replace(after, best_reward=float(rewards.max()))


def known_costs(scores: Scores) -> np.ndarray:
    """`[n]` the costs of candidates; 1, that of the network, where it is not known."""
    return np.nan_to_num(np.asarray(scores.cost, np.float64), nan=1.0)
