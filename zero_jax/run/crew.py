"""Who works at a run's trials: workers in this process, on threads; `zero_jax.run.cluster` has those of Ray."""

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NamedTuple, Protocol

import numpy as np

from zero_jax.run.config import RunConfig
from zero_jax.run.hall import Entry
from zero_jax.run.worker import Done, Order, Population, Saved, Worker
from zero_jax.support import threads as parallel
from zero_jax.support.codec import Count, Range

WORK_PER_ROUND = 100_000
"""Trials that run in parallel meet after this much work (`trial._work`), about 70 ms on a core. Waking a thread takes
time, and a trial that has succeeded waits for the others."""


@dataclasses.dataclass(eq=False)
class Course:
    """How far a trial is.

    Attributes:
      number: of the trial, from 1.
      target: the fitness on T_search that is sufficient.
      spent: train steps, lost ones included.
      cohorts: how many were evaluated.
      recorded: after how many of them the last record was made.
      best_fitness: the best on T_search that its workers have.
      exhausted: whether they find nothing new to train.
      counted: whether that was counted.
    """

    number: int
    target: float
    spent: int = 0
    cohorts: int = 0
    recorded: int = 0
    best_fitness: float = -np.inf
    exhausted: bool = False
    counted: bool = False

    def ended(self, train_steps: int) -> bool:
        """Whether the budget is spent, the fitness sufficient, or nothing new is left."""
        spent = self.spent >= train_steps or self.exhausted
        return self.cohorts > 0 and (spent or self.best_fitness > self.target)

    def stored(self, workers: Sequence[Saved | None]) -> "StoredTrial":
        """It and what its workers saved."""
        return StoredTrial(self.number, self.spent, self.cohorts, self.recorded, tuple(workers))


class StoredTrial(NamedTuple):
    """A `Course` and its workers in a checkpoint; what these saved is checked when workers resume from it."""

    number: Annotated[int, Range(1)]
    spent: Count
    cohorts: Count
    recorded: Count
    workers: tuple[Saved | None, ...]

    def validate(self) -> None:
        """Refuses a record of cohorts that were not evaluated yet."""
        if self.recorded > self.cohorts:
            raise ValueError(f"recorded is {self.recorded}, more than its {self.cohorts} cohorts")


class Crew(Protocol):
    """The workers of a run.

    Attributes:
      lost: how many workers were lost and started again.
      resumed_by: the command that resumes a run with such workers.
    """

    lost: int
    resumed_by: str

    def begin(self, course: Course, saved: Sequence[Saved | None] = (), where: str = "trial") -> None:
        """Begins a trial, or resumes it from what its workers saved."""

    def wait(self) -> None:
        """Waits until all workers have begun."""

    def round(self, courses: Sequence[Course]) -> Iterable[tuple[Course, Done]]:
        """Has workers work for a while; what they did."""

    def finish(self, course: Course) -> Iterable[tuple[Course, Done]]:
        """Ends the work under way at a trial that counts; what was done since the last round."""

    def is_idle(self, course: Course) -> bool:
        """Whether nothing is under way at a trial between two rounds."""

    def settled(self, courses: Sequence[Course]) -> bool:
        """Whether all trials can be left as they are now."""

    def ready(self, courses: Sequence[Course]) -> bool:
        """Whether a checkpoint can be written now; if not, workers prepare for it."""

    def saved(self, course: Course) -> list[Saved | None]:
        """What each worker's part of a trial can be resumed from."""

    def population(self, course: Course) -> Population | None:
        """All programs of a trial; None where not all workers have evaluated some."""

    def candidates(self, course: Course, count: int) -> list[list[list[Entry]]]:
        """For each worker with results, for each kind of tasks, its `count` best programs."""

    def entries(self, course: Course) -> list[Entry]:
        """What a trial has for the hall of fame."""

    def forget(self, course: Course) -> None:
        """Frees what a trial that has ended still holds."""

    def close(self) -> None:
        """Ends all workers."""


class LocalCrew:
    """Workers in this process: one for each trial. What they do depends on nothing but the config, to the bit."""

    lost = 0
    resumed_by = "zero-jax resume {folder}"

    def __init__(self, config: RunConfig) -> None:
        if config.schedule.workers:
            raise ValueError(
                f"this run shares its islands among {config.schedule.workers} Ray workers: begin and resume it with "
                "--ray (zero-jax search) or zero_jax.run.cluster (Python)"
            )
        self.config = config
        self._workers: dict[int, Worker] = {}
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, course: Course, saved: Sequence[Saved | None] = (), where: str = "trial") -> None:
        """As in `Crew`."""
        worker = Worker(self.config)
        if len(saved) > 1 or None in saved:
            raise ValueError(f"{where} has {len(saved)} workers, not one")
        worker.begin(course.number, saved[0].checkpoint if saved and saved[0] else None)
        if saved:
            course.best_fitness, course.exhausted = worker.trial.best_fitness, worker.trial.exhausted
        self._workers[course.number] = worker

    def wait(self) -> None:
        """As in `Crew`."""

    def round(self, courses: Sequence[Course]) -> list[tuple[Course, Done]]:
        """One trial alone advances by a cohort, on the caller's thread; several by equal work, each on a thread of its
        own if there are enough cores.
        """
        workers = [self._workers[course.number] for course in courses]
        if self.config.schedule.parallel_trials == 1:
            results = [workers[0].advance(Order())]
        else:
            # Each advances by a cohort at least.
            work = WORK_PER_ROUND + max(0.0, *(-worker.trial.owed for worker in workers))
            results = self._together(workers, Order(work=work))
        for course, done in zip(courses, results, strict=True):
            course.best_fitness, course.exhausted = done.best_fitness, done.exhausted
        return list(zip(courses, results, strict=True))

    def _together(self, workers: Sequence[Worker], order: Order) -> list[Done]:
        if self._pool is None:
            threads = self.config.schedule.threads or parallel.cores()
            self._pool = ThreadPoolExecutor(max(1, min(threads, len(workers))), thread_name_prefix="zero-jax trial")
        futures = [self._pool.submit(worker.advance, order) for worker in workers]
        try:
            return [future.result() for future in futures]
        except BaseException:
            parallel.stop_all()
            raise

    def finish(self, course: Course) -> list[tuple[Course, Done]]:
        """As in `Crew`."""
        return []  # cohorts under way are left out, and evaluated again after a resume

    def is_idle(self, course: Course) -> bool:
        """As in `Crew`."""
        return True

    def settled(self, courses: Sequence[Course]) -> bool:
        """As in `Crew`."""
        return all(self._workers[course.number].trial.settled for course in courses)

    def ready(self, courses: Sequence[Course]) -> bool:
        """As in `Crew`."""
        return self.settled(courses)

    def saved(self, course: Course) -> list[Saved | None]:
        """As in `Crew`."""
        return [self._workers[course.number].saved()]

    def population(self, course: Course) -> Population | None:
        """As in `Crew`."""
        return self._workers[course.number].population()

    def candidates(self, course: Course, count: int) -> list[list[list[Entry]]]:
        """As in `Crew`."""
        worker = self._workers[course.number]
        return [worker.candidates(count)] if worker.trial.evaluations else []

    def entries(self, course: Course) -> list[Entry]:
        """As in `Crew`."""
        trial = self._workers[course.number].trial
        return [entry._replace(trial=course.number) for entry in trial.entries()]

    def forget(self, course: Course) -> None:
        """As in `Crew`."""
        del self._workers[course.number]

    def close(self) -> None:
        """As in `Crew`."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
