"""Evolution towards a front of fitness, cost and size (NSGA-II, Deb et al. 2002).

Axes: `I` islands, `P` programs per island, `C` children per island, `n` individuals, `K` objectives.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.programs import Programs
from zero_jax.search.base import State, combined, register, with_scores
from zero_jax.search.operators import credit
from zero_jax.search.operators.population import Individuals, unevaluated
from zero_jax.search.operators.records import join, take
from zero_jax.search.operators.selection import hold_tournaments
from zero_jax.search.regularized_evolution import EvolutionState, RegularizedEvolution
from zero_jax.search.weighted import CostedIndividuals, known_costs
from zero_jax.support.codec import Array


@dataclasses.dataclass(frozen=True, eq=False)
class FrontIndividuals(CostedIndividuals):
    """Individuals with all that the front is made of.

    Attributes:
      sizes: int64 `[N]`, how many instructions the canonical form has; 0 before the evaluation.
    """

    sizes: Annotated[np.ndarray, Array(np.int64, ("N",), least=0)]


@dataclasses.dataclass(frozen=True, eq=False)
class FrontState(EvolutionState):
    """The state of `FrontEvolution`.

    Attributes:
      individuals: with their costs and sizes.
    """

    individuals: FrontIndividuals

    def front(self) -> np.ndarray:
        """Rows of the individuals, of all islands, that no other is better than: the fittest first, each form once."""
        some = self.individuals
        rows = np.flatnonzero(fronts(objectives(some)) == 0)
        rows = rows[np.lexsort((some.sizes[rows], some.costs[rows], -some.fitness[rows]))]
        return rows[np.sort(np.unique(some.hashes[rows], return_index=True)[1])]


@register("nsga2")
@dataclasses.dataclass(frozen=True)
class FrontEvolution(RegularizedEvolution):
    """Evolution by three objectives: high fitness, low cost and few instructions.

    Parents win tournaments by front, and within one by crowding distance. Of an island's programs and their children
    the best P stay, by the same order; of equal canonical forms one. Programs do not age.

    Attributes:
      population: Number of programs on each island (P).
      tournament: Number of programs that compete to become a parent (T); two in the paper.
      cohort: Number of children per island and evaluation (C); P in the paper.
    """

    population: int = 100
    tournament: int = 2
    cohort: int = 100

    state_type: ClassVar[type[State]] = FrontState
    individuals_type: ClassVar[type[Individuals]] = FrontIndividuals

    def unevaluated(self, programs: Programs) -> FrontIndividuals:
        """As in the base."""
        n = len(programs)
        return FrontIndividuals(**vars(unevaluated(programs)), costs=np.full(n, np.nan), sizes=np.zeros(n, np.int64))

    def traits(self, state: Any, candidates: Candidates, scores: Scores) -> dict[str, np.ndarray]:
        """As in the base."""
        sizes = np.asarray(candidates.forms.programs.length, np.int64).sum(1)
        return {"costs": known_costs(scores), "sizes": sizes}

    def worth(self, individuals: Any) -> np.ndarray:
        """`[N]` the front's number, negative, and a share of 1 for the crowding distance."""
        values = objectives(individuals)
        values[repeats(individuals.hashes)] = np.inf
        numbers = fronts(values)
        return -numbers + 0.9 * (1 - 1 / (1 + crowding(values, numbers)))

    def parents(self, state: Any, rng: np.random.Generator) -> np.ndarray:
        """As in the base, each island by its own fronts."""
        worth = np.stack([self.worth(take(state.individuals, rows)) for rows in self._islands()])
        return hold_tournaments(worth, self.tournament, self.islands * self.cohort, rng)

    def _islands(self) -> np.ndarray:
        """`[I, P]` the rows of each island."""
        return np.arange(self.islands * self.population).reshape(self.islands, -1)

    def tell(self, state: Any, candidates: Candidates, scores: Scores) -> Any:
        """As in the base; of an island's programs and their children the best P stay."""
        if state.evaluations == 0:
            return super().tell(state, candidates, scores)
        children = self.children(state, candidates, scores)
        stay = []
        for old, new in zip(self._islands(), np.arange(len(children)).reshape(self.islands, -1), strict=True):
            both = join([take(state.individuals, old), take(children, new)])
            stay.append(take(both, np.argsort(-self.worth(both), kind="stable")[: self.population]))
        fitness = combined(candidates, scores)
        changes = {"individuals": join(stay), "credit": credit.settled(state.credit, fitness)}
        return with_scores(state, candidates, fitness, children.lines, **changes)


def objectives(individuals: FrontIndividuals) -> np.ndarray:
    """`[n, 3]` what is to be small."""
    return np.stack([-individuals.fitness, individuals.costs, individuals.sizes.astype(np.float64)], 1)


def repeats(hashes: np.ndarray) -> np.ndarray:
    """`[n]` whether an earlier one is equal."""
    repeated = np.ones(len(hashes), bool)
    repeated[np.unique(hashes, return_index=True)[1]] = False
    return repeated


def fronts(values: np.ndarray) -> np.ndarray:
    """`[n]` the number of the front on which each of several lies, from 0; objectives `[n, K]` are to be small.

    On front 0 are those that no other is at least as good as in all objectives and better in one; front 1 is what front
    0 would be without them, and so on.

    Example:
      >>> fronts(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
      array([0, 0, 1, 2])
    """
    no_worse = np.all(values[:, None] <= values[None], axis=2)
    dominates = no_worse & np.any(values[:, None] < values[None], axis=2)
    above = dominates.sum(0)
    numbers = np.full(len(values), -1)
    number = 0
    while (numbers < 0).any():
        now = (numbers < 0) & (above == 0)
        numbers[now] = number
        above = above - dominates[now].sum(0)
        number += 1
    return numbers


def crowding(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`[n]` how far the neighbours on the same front are: the sum over the objectives, each scaled to its range.

    The ends of a front have infinite distance.
    """
    distances = np.zeros(len(values))
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        for column in np.nan_to_num(values[rows], posinf=0.0).T:
            order = np.argsort(column, kind="stable")
            span = column[order[-1]] - column[order[0]]
            distances[rows[order[[0, -1]]]] = np.inf
            if span > 0:
                distances[rows[order[1:-1]]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances
