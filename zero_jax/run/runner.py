"""`Runner`: the loop that runs a config: trials by a crew of workers, judging, records and checkpoints."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from zero_jax.evaluation import Counts, Scores
from zero_jax.executors.api import check_fits
from zero_jax.executors.base import Options, Request
from zero_jax.executors.registry import choose
from zero_jax.program.memory import Interface
from zero_jax.run import build, tensorboard
from zero_jax.run.config import RunConfig
from zero_jax.run.crew import Course, Crew, LocalCrew, StoredTrial
from zero_jax.run.folder import RunFolder
from zero_jax.run.hall import Entries, Entry, hall_fields, lineage_fields, merged
from zero_jax.run.identity import Identity
from zero_jax.run.judge import Judge
from zero_jax.run.outcome import COUNTED, Outcome, Progress, progress_from
from zero_jax.run.trial import population_record, record_due
from zero_jax.run.worker import Done
from zero_jax.support import stopping
from zero_jax.support.codec import Count, Part, Range, decode, encode
from zero_jax.support.stopping import Stop
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role

EARLY_SECONDS = 1.0
"""When the first checkpoint is due, where they come less often."""

Report = Callable[[Progress], None]


class Runner:
    """One run.

    Args:
      config: the settings.
      report: called with the progress after every round of work.
      crew: makes the workers.
    """

    def __init__(
        self, config: RunConfig, report: Report | None = None, crew: Callable[[RunConfig], Crew] = LocalCrew
    ) -> None:
        config = build.self_contained(config)
        self.crew = crew(config)
        if config.output.tensorboard:
            tensorboard.check_installed()
        self.config = config
        self.report = report or (lambda progress: None)
        self.folder: RunFolder | None = None
        self.searcher = build.searcher(config)
        build.check_tasks(config)
        self.select_tasks = build.tasks(config, "select")
        self.search_tasks, unseen_tasks = build.variant_tasks(config), build.tasks(config, "unseen")
        how = config.evaluation
        for tasks in (*self.search_tasks, self.select_tasks, unseen_tasks):  # mistakes show before anything is written
            check_fits(config.searcher.space, self.searcher.ops, tasks, how.max_bytes, how.executor)
        roles = {"search_tasks": self.search_tasks, "select_tasks": [self.select_tasks], "unseen_tasks": [unseen_tasks]}
        self.identity = Identity.of(config.tree(), roles)
        self.task_counts = (len(self.search_tasks[0]), len(self.select_tasks), len(unseen_tasks))
        self.judge = Judge(config, self.search_tasks[0], self.select_tasks)
        self.began = time.monotonic()
        self.started = 0
        self.progress = Progress(1, 0, 0, 0, 0.0, 0.0)
        self.counts = Counts()
        self.exhausted = 0
        self.interrupted = self.timed_out = self.had_ended = self.extended = self.was_judged = False
        self.active: list[Course] = []
        self.searched = False
        self.stop = Stop()
        self.written = self.began

    def run(self) -> Outcome:
        """All of it, or what is left."""
        with stopping.handled() as self.stop:
            try:
                if self.folder and self.config.output.tensorboard:
                    self.folder.curves = tensorboard.Curves(self.folder.path)
                try:
                    if not self.searched:
                        self.search()
                    best = self._best_of_all()
                    assert best is not None
                    self.judge.report(best)
                except KeyboardInterrupt:
                    self.interrupted = True
                return self._finished()
            except OSError as error:
                if self.folder is None:
                    raise
                again = self.crew.resumed_by.format(folder=self.folder.path)
                raise OSError(f"{error}: the run has stopped; once that is fixed, {again} resumes it") from error
            finally:
                self.crew.close()
                if self.folder:
                    self.folder.close()

    def _finished(self) -> Outcome:
        """The outcome, written whatever signals come."""
        outcome = self.outcome()
        with contextlib.suppress(KeyboardInterrupt), self.stop.deferred(None):
            if self.folder:
                self._write_hall(self._under_way(self.active))
                self.folder.write_outcome(outcome)
        return outcome

    def load(self) -> None:
        """Compiles the loops, or loads them from disk; then the clock starts."""
        self._load(self.search_tasks)
        self.began = time.monotonic()
        # The first checkpoint comes soon, so that little is lost where the first minute is interrupted within a cohort.
        self.written = self.began - max(0.0, self.config.output.checkpoint_seconds - EARLY_SECONDS)

    def _load(self, sets: Sequence[Tasks]) -> None:
        """Has one program trained on one example, and children made of one cohort."""
        state, candidates = self.searcher.ask(self.searcher.init(0))
        if not candidates.keeps_memory and candidates.relaxed is None:  # fitness is all that can be made up
            self.searcher.ask(self.searcher.tell(state, candidates, Scores.of(np.zeros(len(candidates)))))
        programs = candidates.programs
        how = self.config.evaluation
        for tasks in sets:
            request = Request(programs.memory, tasks, Options(max_bytes=how.max_bytes))
            if choose(how.executor, request).compiles_once:
                build.evaluator(self.config, tasks.shortened(1, 1), "search")(programs[:1])

    # ------------------------------------------------------------------------------------------ the search

    def search(self) -> None:
        """Trials, until one is good enough on T_select, there are no more, or there is a reason to leave."""
        self.active = self.active or [one for _ in range(self.config.schedule.parallel_trials) for one in self._next()]
        try:
            with self.stop.deferred():
                before = time.monotonic()
                self.crew.wait()
                self.began += time.monotonic() - before
                if self._advanced():
                    return
        except KeyboardInterrupt:  # within a cohort: the last checkpoint stands
            self.interrupted = True
        self.interrupted |= bool(self.stop.signal)
        if self.interrupted and self.folder:  # before the judgement, which may take a while
            self.folder.write_outcome(self.outcome())
        for course in self.active:
            self._select(course)
        if self.interrupted:
            raise KeyboardInterrupt

    def _advanced(self) -> bool:
        """Whether the search came to its end, and not to a reason to leave it; there is a checkpoint then."""
        if self.had_ended:
            return False
        while True:
            self._take_in(self.crew.round(self.active))
            before = list(self.active)
            for i, course in reversed(list(enumerate(self.active))):
                if course.ended(self.config.schedule.train_steps):
                    self._take_in(self.crew.finish(course))
                    self._select(course)
                    last = self.judge.solved or not course.spent  # nor would the next trial train any
                    self.active[i : i + 1] = [] if last else self._next()
            self.searched = self.judge.solved or not self.active
            if self.searched:
                self._checkpoint(before)
                return True
            for course in before:
                if course not in self.active:
                    self.crew.forget(course)
            if self._leaving():
                for course in self.active:
                    self._take_in(self.crew.finish(course))
                if self.crew.settled(self.active):
                    self._checkpoint(self.active)
                return False
            due = time.monotonic() - self.written >= self.config.output.checkpoint_seconds
            if due and self.crew.ready(self.active):
                self._checkpoint(self.active)

    def _leaving(self) -> bool:
        """Whether a signal or the time limit asks to leave, and the trials can be left as they are."""
        limit, seconds = self.config.schedule.time_limit, self.progress.seconds
        self.timed_out = 0 < limit <= seconds
        late = self.timed_out and seconds >= limit + stopping.GRACE_SECONDS
        return late or ((self.timed_out or bool(self.stop.signal)) and self.crew.settled(self.active))

    def _target(self, number: int) -> float:
        """The fitness that is sufficient on T_search of that trial."""
        sets = build.variant_tasks(self.config, number)
        return max(build.target(self.config, tasks) for tasks in sets)

    def _next(self) -> list[Course]:
        """The next trial, if there is one."""
        if self.config.schedule.trials and self.started == self.config.schedule.trials:
            return []
        self.started += 1
        course = Course(self.started, self._target(self.started))
        self.crew.begin(course)
        return [course]

    def _take_in(self, results: Iterable[tuple[Course, Done]]) -> None:
        """Counts what was done, writes the records that are due, and reports."""
        done = None
        for course, done in results:
            self._count(course, done)
        if done is None:
            return
        try:
            self.report(self.progress)
        except KeyboardInterrupt:  # all is counted, so the search can be left as it is
            self.stop.signal = self.stop.signal or signal.SIGINT

    def _count(self, course: Course, done: Done) -> None:
        """Counts what was done for a trial, and writes a record if one is due."""
        self.counts = Counts(*map(sum, zip(self.counts, done.counts, strict=True)))
        course.spent += done.counts.train_steps
        course.cohorts += done.cohorts
        if course.exhausted and not course.counted:
            course.counted = True
            self.exhausted += 1
        ended = course.ended(self.config.schedule.train_steps) and self.crew.is_idle(course)
        due = ended or record_due(course.cohorts, course.recorded)
        population = self.crew.population(course) if due else None
        if population:
            course.recorded = course.cohorts
        self.progress = Progress(
            course.number,
            self.counts.considered,
            self.counts.evaluated,
            self.counts.train_steps,
            time.monotonic() - self.began,
            course.best_fitness,
            **{name: getattr(self.counts, name) for name in COUNTED},
            saved_steps=sum(getattr(self.counts, name) for name in Counts._fields if name.startswith("saved")),
            lost=self.crew.lost,
            exhausted=self.exhausted,
            **(population_record(*population) if population else {}),
        )
        if population and self.folder:
            self.folder.record(self.progress)

    def _select(self, course: Course) -> None:
        """Judges the candidates of a trial, an interrupted one too, on T_select."""
        count = self.config.schedule.candidates
        kinds = zip(*self.crew.candidates(course, count), strict=True)
        by_kind = [[entry for some in by_worker for entry in some] for by_worker in kinds]
        candidates = [entry for kind in by_kind for entry in _fittest(kind, count)]
        if candidates:
            self.judge.select(course.number, candidates, self.crew.entries(course))
        elif not (self.interrupted or self.timed_out):
            raise OSError(f"all workers were lost at the end of trial {course.number}, and with them all programs")

    # ------------------------------------------------------------------------------------------ what is written

    def _checkpoint(self, courses: Sequence[Course]) -> None:
        """Writes where the run is."""
        self.written = time.monotonic()
        if self.folder is None:
            return
        best = self.judge.best
        stored = _Stored(
            self.started,
            self.searched,
            Part(self.progress._asdict()),
            self.counts,
            self.written - self.began,
            [best] if best else [],
            self.judge.hall,
            tuple(course.stored(self.crew.saved(course)) for course in courses),
        )
        self.folder.checkpoint(encode(stored))
        self._write_hall(self._under_way(courses))
        self.written = time.monotonic()

    def _under_way(self, courses: Sequence[Course]) -> list[Entry]:
        """What trials under way have for the hall of fame."""
        return [entry for course in courses for entry in self.crew.entries(course)]

    def _write_hall(self, under_way: Sequence[Entry]) -> None:
        """The hall of fame so far, trials under way included, and the lineage of its best."""
        assert self.folder is not None
        judge, interface = self.judge, Interface.of(self.config.searcher.space.memory, self.select_tasks)
        others = [judge.earlier] if judge.earlier and self._best_of_all() is judge.earlier else []
        self.folder.write("hall.json", hall_fields(merged([*judge.hall, *under_way, *others]), interface))
        best = judge.best or max(under_way, key=lambda entry: entry.fitness, default=None)
        if best:
            self.folder.write("lineage.json", lineage_fields(best, interface))

    def restore(self, tree: dict[str, Any]) -> None:
        """Continues from what a checkpoint holds.

        Raises:
          ValueError: saying what in it does not belong to such a run; the runner is of no use then.
        """
        stored = decode(_Stored, tree, "run", like=self.config.searcher.space)
        self.started, self.searched, self.counts = stored.started, stored.searched, stored.counts
        self.progress = progress_from(*stored.progress)
        self.exhausted, self.crew.lost = self.progress.exhausted, self.progress.lost
        self.began -= stored.seconds
        self.judge.best, self.judge.hall = next(iter(stored.best), None), stored.hall
        self._restore_trials(stored.trials)
        limit = self.config.schedule.time_limit
        self.had_ended = self.searched or 0 < limit <= stored.seconds
        self.timed_out = self.had_ended and not self.searched

    def _restore_trials(self, trials: Sequence[StoredTrial]) -> None:
        most = self.config.schedule.parallel_trials
        if len(trials) > most:
            raise ValueError(f"run.trials has {len(trials)}: {most} trials are under way at most")
        for i, trial in enumerate(trials):
            if trial.number > self.started:
                raise ValueError(f"run.trials[{i}].number is {trial.number}, and {self.started} have begun")
            course = Course(trial.number, self._target(trial.number), trial.spent, trial.cohorts, trial.recorded)
            self.crew.begin(course, trial.workers, f"run.trials[{i}]")
            self.active.append(course)
        if self.searched and self.extended and not self.judge.solved:
            going_on = [
                course for course in self.active if not course.ended(self.config.schedule.train_steps)
            ] or self._next()
            self.active, self.searched = going_on or self.active, not going_on

    def _best_of_all(self) -> Entry | None:
        return self.judge.best_of_all(self._under_way(self.active) if self.judge.best is None else [])

    def outcome(self) -> Outcome:
        """All of it."""
        best, judge = self._best_of_all(), self.judge
        numbers: dict[Role, int] = {"search": best.trial if best else 1, "select": 0, "unseen": 0}
        return Outcome(
            best.program if best else None,
            best.trial if best else 0,
            best.fitness if best else 0.0,
            best.select_fitness if best else None,
            judge.unseen,
            judge.target,
            judge.is_sufficient(best),
            self.interrupted,
            self.progress,
            judge.baselines,
            judge.references,
            self.select_tasks.loss,
            self.task_counts,
            self.folder.path if self.folder else None,
            {role: build.seeds(self.config, role, number) for role, number in numbers.items()},
            self.timed_out,
            self.had_ended and self.was_judged,
        )


class _Stored(NamedTuple):
    """What a checkpoint holds of a run; `schemas.Record` describes its progress."""

    started: Count
    searched: bool
    progress: Part
    counts: Counts
    seconds: Annotated[float, Range(0)]
    best: Entries
    hall: Entries
    trials: tuple[StoredTrial, ...]


def _fittest(entries: Sequence[Entry], count: int) -> list[Entry]:
    """The fittest; of equals one, since the hall of fame distinguishes programs by fitness."""
    distinct = {entry.fitness: entry for entry in reversed(entries)}
    return sorted(distinct.values(), key=lambda entry: -entry.fitness)[:count]
