"""Evolution with parents by epsilon-lexicase selection (La Cava et al. 2016), down-sampled (Hernandez et al. 2019).

Axes: `I` islands, `P` programs per island, `C` children per island, `T` tasks.
"""

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.programs import Programs
from zero_jax.search.base import State, register
from zero_jax.search.operators.population import Individuals, unevaluated
from zero_jax.search.regularized_evolution import EvolutionState, RegularizedEvolution
from zero_jax.support.codec import Array


@dataclasses.dataclass(frozen=True, eq=False)
class LexicaseIndividuals(Individuals):
    """Individuals whose fitness on each task is known.

    Attributes:
      by_task: float32 `[N, T]`; `[N, 0]` before the evaluation.
    """

    by_task: Annotated[np.ndarray, Array(np.float32, ("N", "T"))]


@dataclasses.dataclass(frozen=True, eq=False)
class LexicaseState(EvolutionState):
    """The state of `LexicaseEvolution`.

    Attributes:
      individuals: with their fitness on each task.
    """

    individuals: LexicaseIndividuals


@register("lexicase")
@dataclasses.dataclass(frozen=True)
class LexicaseEvolution(RegularizedEvolution):
    """Regularized evolution whose parents are good on some tasks, not on average.

    For each child the tasks are put in random order, and the programs of the island go through them: those stay whose
    fitness on the task is within epsilon of the best left. Of the last ones one is drawn. Epsilon is the median
    absolute deviation of the island's fitness on the task. So specialists, which tournaments lose, have children too.

    Attributes:
      tournament: Does not count here.
      selection_tasks: Share of the tasks that selection looks at, drawn anew for each cohort (down-sampling).

    Raises:
      ValueError: also a share that is not above 0 and at most 1.
    """

    selection_tasks: float = 1.0

    state_type: ClassVar[type[State]] = LexicaseState
    individuals_type: ClassVar[type[Individuals]] = LexicaseIndividuals

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.selection_tasks <= 1:
            raise ValueError(f"selection_tasks is a share, above 0 and at most 1, not {self.selection_tasks}")

    def unevaluated(self, programs: Programs) -> LexicaseIndividuals:
        """As in the base."""
        return LexicaseIndividuals(**vars(unevaluated(programs)), by_task=np.zeros((len(programs), 0), np.float32))

    def traits(self, state: Any, candidates: Candidates, scores: Scores) -> dict[str, np.ndarray]:
        """As in the base."""
        return {"by_task": np.asarray(scores.fitness, np.float32)}

    def parents(self, state: Any, rng: np.random.Generator) -> np.ndarray:
        """As in the base, by lexicase selection."""
        fitness = state.individuals.by_task
        tasks = fitness.shape[1]
        some = rng.permutation(tasks)[: max(1, round(self.selection_tasks * tasks))]
        islands = fitness[:, some].reshape(self.islands, self.population, -1)
        rows = [chosen(island, self.cohort, rng) for island in islands]
        return (np.array(rows) + np.arange(self.islands)[:, None] * self.population).ravel()


def deviations(fitness: np.ndarray) -> np.ndarray:
    """`[T]` the median absolute deviation of fitness `[P, T]` on each task."""
    return np.asarray(np.median(np.abs(fitness - np.median(fitness, axis=0)), axis=0))


def chosen(fitness: np.ndarray, children: int, rng: np.random.Generator) -> np.ndarray:
    """`[C]` int64 rows of fitness `[P, T]` that lexicase selection chooses as parents.

    Example:
      >>> specialists = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.4]])  # the last has the best mean
      >>> sorted(set(chosen(specialists, 50, np.random.default_rng(0)).tolist()))
      [0, 1]
    """
    epsilon = deviations(fitness)
    rows = np.empty(children, np.int64)
    for i in range(children):
        left = np.arange(len(fitness))
        for task in rng.permutation(fitness.shape[1]):
            on_task = fitness[left, task]
            left = left[on_task >= on_task.max() - epsilon[task]]
            if len(left) == 1:
                break
        rows[i] = left[rng.integers(len(left))]
    return rows
