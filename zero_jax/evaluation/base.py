"""The contract of evaluation: what goes in (`Candidates`), what comes out (`Scores`), and the stages between.

Axes: `P` candidates, `n` candidates of a batch, `T` tasks.
"""

import dataclasses
import enum
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from zero_jax.executors.base import Memory, Pending
from zero_jax.executors.fitness import program_fitness
from zero_jax.program.canonical import Canonical, canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.support.codec import Count
from zero_jax.support.given import real_array
from zero_jax.tasks import Tasks


class Fate(enum.IntEnum):
    """What became of a candidate."""

    TRAINED = 0
    """It was trained in full."""
    REPEATED = 1
    """It equals an earlier one of its cohort."""
    KNOWN = 2
    """It equals one of an earlier cohort, whose fitness was remembered."""
    EQUIVALENT = 3
    """By a probe, it does what an earlier one does."""
    OVER_BUDGET = 4
    """It costs more than the train budget, and got fitness 0 untrained."""
    STOPPED = 5
    """A hurdle stopped it; its fitness is the mean of what it was trained on."""


class Counts(NamedTuple):
    """How many programs met which fate.

    Attributes:
      considered: all of them: the sum of the next five.
      evaluated: those that were trained.
      repeated: those equal to an earlier one of their cohort.
      known: those remembered from an earlier cohort.
      equivalent: those that, by a probe, do what an earlier one does.
      over_budget: those over the train budget, which got fitness 0.
      stopped: those evaluated that a hurdle stopped.
      empty: those within the train budget that never write a prediction: without dead code nothing is left of them, so
        they are equal, and only the first is trained.
      train_steps: training examples that the trained ones saw, without probes.
      saved_repeated, saved_known, saved_equivalent: training examples that others saw for those three.
      saved_over_budget, saved_stopped: training examples that those two would have seen at most.
    """

    considered: Count = 0
    evaluated: Count = 0
    repeated: Count = 0
    known: Count = 0
    equivalent: Count = 0
    over_budget: Count = 0
    stopped: Count = 0
    empty: Count = 0
    train_steps: Count = 0
    saved_repeated: Count = 0
    saved_known: Count = 0
    saved_equivalent: Count = 0
    saved_over_budget: Count = 0
    saved_stopped: Count = 0


@dataclasses.dataclass(frozen=True)
class Share:
    """A part of the work: the first tasks, and the first examples and features of each.

    Attributes:
      tasks: the share of the tasks; at least one is used.
      examples: the share of the training examples, seen once below 1; and of the validation examples, except those of
        classes: a count of mistakes is coarse enough as it is.
      features: the share of the features; at least one is used.

    Raises:
      ValueError: a share outside (0, 1].

    Example:
      >>> Share(tasks=1.5)
      Traceback (most recent call last):
      ValueError: the share of tasks must be above 0 and at most 1, not 1.5
    """

    tasks: float = 1.0
    examples: float = 1.0
    features: float = 1.0

    def __post_init__(self) -> None:
        for name in ("tasks", "examples", "features"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"the share of {name} must be above 0 and at most 1, not {getattr(self, name)}")

    def part(self, tasks: Tasks) -> Tasks:
        """That part of the tasks."""
        order, first = tasks.order, np.arange(max(1, round(self.tasks * len(tasks))))
        some: Tasks = jax.tree.map(lambda leaf: leaf if leaf is order else leaf[first], tasks)
        if self.features < 1:
            some = some.narrowed(max(1, round(self.features * tasks.features)))
        if self.examples == 1:
            return some
        train, valid = (max(1, round(self.examples * x.shape[1])) for x in (tasks.train_x, tasks.valid_x))
        valid = valid if tasks.loss == "rmse" else tasks.valid_x.shape[1]
        return some.shortened(train, valid)


class Relaxed(Protocol):
    """Something whose fitness on tasks has a gradient."""

    def gradient(self, tasks: Tasks, seed: int) -> tuple[Any, int]:
        """The gradient of its fitness, a tree of arrays, and how many train steps that took, an example of a task each.

        Raises:
          ValueError: tasks on which there is none.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Programs to evaluate.

    Attributes:
      programs: `P` programs.
      forms: their canonical forms, computed once, by `of`; caches, executors and records use them.
      interface: where label, features and prediction are, which the forms depend on; None for scalar labels.
      tasks_share, examples_share, features_share: the fidelity: on which part of the work they are to be evaluated, as
        in `Share`.
      memory: what runs begin with in place of zeros, before Setup; the same for all candidates: `[T, ...]`, of all
        tasks. It and the next make no use of what stages know.
      keeps_memory: whether the scores have the memory that training leaves.
      relaxed: what a gradient is wanted of, beside the fitness of the programs.

    Example:
      >>> from zero_jax import library
      >>> candidates = Candidates.of(library.program("linear"))
      >>> len(candidates), candidates.forms.hashes.shape
      (1, (1, 2))
    """

    programs: Programs
    forms: Canonical
    interface: Interface | None = None
    tasks_share: float = 1.0
    examples_share: float = 1.0
    features_share: float = 1.0
    memory: Memory | None = None
    keeps_memory: bool = False
    relaxed: "Relaxed | None" = None

    def __len__(self) -> int:
        return len(self.programs)

    @classmethod
    def of(cls, programs: Programs, interface: Interface | None = None, threads: int | None = None) -> "Candidates":
        """Programs with their canonical forms, for tasks of an interface; `threads` as in `canonical`."""
        return cls(programs, canonical(programs, threads, interface), interface)

    @property
    def hashes(self) -> np.ndarray:
        """`[P]` uint64: equal for programs of one canonical form."""
        return self.forms.hashes[:, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """The results of an evaluation.

    Attributes:
      fitness: `[P, T]` float32.
      combined: `[P]` float64, the fitness of all tasks together.
      cost: `[P]` float64, of training the canonical form, in multiples of the library's 2-layer network; NaN if
        unknown.
      train_steps: `[P, T]` int32, those made now: 0 for a fitness that was known.
      fates: `[P]` uint8, each a `Fate`.
      fresh: int64, which of them were new and have the fitness of the full work: what a hall of fame may take in.
      memory: what training left, `[P, T, ...]` float32, where candidates ask for it.
      gradient: of what is relaxed, a tree of arrays, where candidates ask for it.
    """

    fitness: np.ndarray
    combined: np.ndarray
    cost: np.ndarray
    train_steps: np.ndarray
    fates: np.ndarray
    fresh: np.ndarray
    memory: Memory | None = None
    gradient: Any = None

    @classmethod
    def of(cls, fitness: Any, combine: str = "mean") -> "Scores":
        """Those of candidates whose fitness, `[P, T]` or `[P]`, is all that is known.

        Example:
          >>> Scores.of([[0.5, 1.0]]).combined.tolist()
          [0.75]
        """
        values = real_array("fitness", fitness)
        combined = values.astype(np.float64) if values.ndim < 2 else program_fitness(values, combine)
        by_task = (values if values.ndim > 1 else values.reshape(-1, 1)).astype(np.float32)
        n, steps = len(by_task), np.zeros(by_task.shape, np.int32)
        fates = np.full(n, Fate.TRAINED, np.uint8)
        return cls(by_task, combined, np.full(n, np.nan), steps, fates, np.arange(n))


# ---------------------------------------------------------------------------------------------- stages


class Results(NamedTuple):
    """What is known of a batch.

    Attributes:
      fitness: `[n, T]` float32.
      train_steps: `[n, T]` int32.
      fates: `[n]` uint8.
      saved: `[6]` int64, train steps that were not made, by `Fate`.
    """

    fitness: np.ndarray
    train_steps: np.ndarray
    fates: np.ndarray
    saved: np.ndarray

    @classmethod
    def empty(cls, n: int, tasks: int, fate: int = Fate.TRAINED) -> "Results":
        """Those of `n` candidates of which nothing is known."""
        fates = np.full(n, fate, np.uint8)
        return cls(np.zeros((n, tasks), np.float32), np.zeros((n, tasks), np.int32), fates, np.zeros(6, np.int64))

    def put(self, rows: np.ndarray, some: "Results") -> None:
        """Takes over the results of some rows."""
        self.fitness[rows], self.train_steps[rows], self.fates[rows] = some.fitness, some.train_steps, some.fates
        self.saved[:] += some.saved


Part = Any
"""A part of the tasks: hashable, with a method `part(tasks)`, as `Share` is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Those candidates that have come to a stage.

    Attributes:
      candidates: all candidates of the call.
      rows: `[n]` which of them have come here.
      number: of the call, from 1.
      tasks, examples: how many tasks there are, and how many training examples one run sees, epochs counted.
      costs: `[65]` what each op costs.
      fingerprints: whether the executor can compute fingerprints.
      launch: begins to train the canonical forms of some rows on all tasks (None) or a part of them; or, with True, to
        compute `[n, 2]` uint64 fingerprints of all their errors there.
    """

    candidates: Candidates
    rows: np.ndarray
    number: int
    tasks: int
    examples: int
    costs: np.ndarray
    fingerprints: bool
    launch: Callable[[np.ndarray, Part | None, bool], Pending]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: np.ndarray) -> "Batch":
        return dataclasses.replace(self, rows=self.rows[which])

    @property
    def hashes(self) -> np.ndarray:
        """`[n, 2]` uint64 of the canonical forms."""
        return self.candidates.forms.hashes[self.rows]

    def results(self, fate: int = Fate.TRAINED) -> Results:
        """Empty results for all of them."""
        return Results.empty(len(self), self.tasks, fate)


Steps = Generator[None, None, Results]
"""Yields whenever a device has work, so that the host can do something else, and returns the results."""


class Stage(Protocol):
    """Saves work: takes a batch and the next stage, and returns results for the batch.

    A stage is a frozen dataclass of settings. What it remembers on one set of tasks is a separate object that
    `zero_jax.support.codec` can save, and that is not shared between fidelities.
    """

    def memory(self, tasks: Tasks) -> Any:
        """What it remembers before the first batch."""

    def run(self, batch: Batch, memory: Any, following: Callable[[Batch], Steps]) -> Steps:
        """Results of a batch. `following` evaluates those candidates about which this stage knows nothing."""

    def check(self, memory: Any, like: Any, calls: int, where: str) -> None:
        """Refuses, by ValueError, a memory from a file that this stage could not have left after `calls` calls; `like`
        is what `memory` returns for these tasks, and `where` the name in errors.
        """


class Nothing(NamedTuple):
    """The memory of a stage that has none."""
