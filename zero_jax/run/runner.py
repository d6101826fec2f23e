"""`Runner`: the loop that carries an `RunConfig` out, its searches under way in this process."""

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zero_jax.evaluation.evaluator import Counts, counts_from
from zero_jax.executors.api import check_fits
from zero_jax.executors.choice import choose
from zero_jax.program import library
from zero_jax.program.memory import Interface
from zero_jax.program.programs import concatenate
from zero_jax.run import build, tensorboard
from zero_jax.run import folder as runs
from zero_jax.run.build import LEARNING_RATES
from zero_jax.run.config import RunConfig as RunConfig
from zero_jax.run.folder import Baseline, Outcome, Progress, RunFolder, progress_from
from zero_jax.run.hall import Entry, HallOfFame, entries_from, entries_tree, hall_told, lineage_told, merged
from zero_jax.run.identity import Identity
from zero_jax.run.trial import Trial, population_told, rounds
from zero_jax.search.operators.lineage import Ancestor
from zero_jax.support import checked, stopping
from zero_jax.support import threads as parallel
from zero_jax.support.checked import Fields
from zero_jax.support.stopping import Stop
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role

EARLY_SECONDS = 1.0
"""When the first checkpoint is due, where they come less often."""


class Runner:
    """The state of one run, whose searches are under way in this process."""

    resumed_by = "zero-jax search --resume {folder}"

    def __init__(self, config: RunConfig, report: Callable[[Progress], None] | None = None) -> None:
        self.check_kind(config)
        config = build.self_contained(config)
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
        self.began = time.monotonic()
        self.started = 0
        self.progress = Progress(1, 0, 0, 0, 0.0, 0.0)
        self.counts = Counts()
        self.lost = 0
        self.exhausted = 0
        self.best: Entry | None = None
        self.earlier: Entry | None = None
        self.hall: list[Entry] = []
        self.unseen: float | None = None
        self.baselines: tuple[Baseline, ...] = ()
        self.interrupted = self.timed_out = self.had_ended = self.extended = self.was_judged = False
        self.trials: list[Trial] = []
        self.searched = False
        self.stop = Stop()
        self.written = self.began

    def check_kind(self, config: RunConfig) -> None:
        """Whether such a runner is for this config.

        Raises:
          ValueError: if not.
        """
        if config.schedule.workers:
            raise ValueError(
                f"this run shares its islands among {config.schedule.workers} workers of Ray: begin it, and go on with "
                "it, with --ray (zero-jax search) or zero_jax.run.cluster (Python)"
            )

    def run(self) -> Outcome:
        """All of it, or what is left."""
        with stopping.handled() as self.stop:
            try:
                if self.folder and self.config.output.tensorboard:
                    self.folder.curves = tensorboard.Curves(self.folder.path)
                try:
                    if not self.searched:
                        self.search()
                    self.judge()
                except KeyboardInterrupt:
                    self.interrupted = True
                return self._finished()
            except OSError as error:
                if self.folder is None:
                    raise
                again = self.resumed_by.format(folder=self.folder.path)
                raise OSError(f"{error}: the run has stopped; once that is mended, {again} goes on") from error
            finally:
                if self.folder:
                    self.folder.close()

    def _finished(self) -> Outcome:
        """The outcome, written down whatever signals come."""
        outcome = self.outcome()
        with contextlib.suppress(KeyboardInterrupt), self.stop.deferred(None):
            if self.folder:
                self._write_hall(self.under_way(self.trials))
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
        state, programs = self.searcher.ask(self.searcher.init(0))
        self.searcher.ask(self.searcher.tell(state, programs, np.zeros(len(programs))))
        how = self.config.evaluation
        for tasks in sets:
            if choose(how.executor, programs.memory, tasks, how.max_bytes) == "simd":
                build.evaluator(self.config, tasks.shortened(1, 1), "search")(programs[:1])

    def search(self) -> None:
        """Trials, until one is good enough on T_select, there are no more, or there is a reason to leave."""
        self.trials = self.trials or [s for _ in range(self.config.schedule.parallel_trials) for s in self._next()]
        try:
            with self.stop.deferred():
                if self._advanced(self.trials):
                    return
        except KeyboardInterrupt:  # within a cohort: what there was at the last checkpoint stands
            self.interrupted = True
        self.interrupted |= bool(self.stop.signal)
        if self.interrupted and self.folder:  # before the judgement, which may take a while
            self.folder.write_outcome(self.outcome())
        for trial in self.trials:
            if trial.evaluations:
                self._select(trial)
        if self.interrupted:
            raise KeyboardInterrupt

    def _advanced(self, trials: list[Trial]) -> bool:
        """Whether the search came to its end, and not to a reason to leave it; there is a checkpoint then."""
        config = self.config
        if self.had_ended:
            return False
        for _ in rounds(trials, config.schedule.threads or parallel.cores(), config.schedule.parallel_trials == 1):
            self._record(trials)
            before = list(trials)
            for i, trial in reversed(list(enumerate(trials))):
                if trial.ended:
                    self._select(trial)
                    last = self._solved() or not trial.counts.train_steps  # nor would the next train any
                    trials[i : i + 1] = [] if last else self._next()
            self.searched = self._solved() or not trials
            if self.searched:
                self._checkpoint(before)
                return True
            leaving = self._leaving(trials)
            if leaving or time.monotonic() - self.written >= config.output.checkpoint_seconds:
                self._checkpoint(trials)
            if leaving:
                return False
        raise AssertionError("rounds end only here")

    def _leaving(self, trials: Sequence[Trial]) -> bool:
        """Whether a signal or the time limit asks to leave, and the search can be written down as it is."""
        limit, seconds = self.config.schedule.time_limit, self.progress.seconds
        self.timed_out = 0 < limit <= seconds
        late = self.timed_out and seconds >= limit + stopping.GRACE_SECONDS
        return late or ((self.timed_out or bool(self.stop.signal)) and all(trial.settled for trial in trials))

    def _next(self) -> list[Trial]:
        """The next trial, if there is one."""
        if self.config.schedule.trials and self.started == self.config.schedule.trials:
            return []
        self.started += 1
        return [self._trial(self.started)]

    def _trial(self, number: int) -> Trial:
        return build.trial(self.config, number, build.derived_seed(self.config, "search", number))

    def _checkpoint(self, trials: Sequence[Trial]) -> None:
        """Writes down where the run is, unless some search cannot be left where it is."""
        if self.folder and (self.searched or all(trial.settled for trial in trials)):
            self._write_checkpoint({"trials": [trial.tree() for trial in trials]}, self.under_way(trials))

    def _write_checkpoint(self, searches: dict[str, Any], under_way: Sequence[Entry]) -> None:
        """Writes down where the run is, its searches as told, and what entries they have for the hall of fame."""
        assert self.folder is not None
        told = {
            "started": self.started,
            "searched": self.searched,
            "progress": self.progress._asdict(),
            "counts": self.counts._asdict(),
            "seconds": time.monotonic() - self.began,
            "best": entries_tree([self.best] if self.best else []),
            "hall": entries_tree(self.hall),
        }
        self.folder.checkpoint(told | searches)
        self._write_hall(under_way)
        self.written = time.monotonic()

    def under_way(self, trials: Sequence[Trial]) -> list[Entry]:
        """What trials under way have for the hall of fame."""
        return [entry._replace(trial=s.number) for s in trials for entry in s.entries()]

    def _write_hall(self, under_way: Sequence[Entry]) -> None:
        """The hall of fame so far, trials under way included, and the lineage of its best."""
        assert self.folder is not None
        interface = Interface.of(self.config.searcher.space.memory, self.select_tasks)
        others = [self.earlier] if self.earlier and self._best_of_all() is self.earlier else []
        self.folder.write("hall.json", hall_told(merged([*self.hall, *under_way, *others]), interface))
        best = self.best or max(under_way, key=lambda entry: entry.fitness, default=None)
        if best:
            self.folder.write("lineage.json", lineage_told(best, interface))

    def restore(self, tree: dict[str, Any]) -> None:
        """Goes on from what a checkpoint holds.

        Raises:
          ValueError: saying what in it does not belong to such a run; the runner is of no use then.
        """
        stored = Fields({name: tree.get(name) for name in _STORED}, "run", _STORED)
        self.started, self.searched = stored.whole("started"), stored.flag("searched")
        self.progress = progress_from(stored["progress"])
        self.exhausted = self.progress.exhausted
        self.counts = counts_from(stored["counts"], "run.counts")
        seconds = stored.number("seconds", 0)
        self.began -= seconds
        space = self.config.searcher.space
        self.best = next(iter(entries_from(stored["best"], space, "run.best")), None)
        self.hall = entries_from(stored["hall"], space, "run.hall")
        self._restore_searches(tree)
        limit = self.config.schedule.time_limit
        self.had_ended = self.searched or 0 < limit <= seconds
        self.timed_out = self.had_ended and not self.searched

    def _restore_searches(self, tree: dict[str, Any]) -> None:
        most = self.config.schedule.parallel_trials
        for stored, where in Fields({"trials": tree.get("trials")}, "run", ("trials",)).items("trials"):
            if len(self.trials) == most or not isinstance(stored, dict):
                raise ValueError(f"{where} does not belong there: {most} trials are under way at most")
            trial = self._trial(checked.whole(stored.get("number"), f"{where}.number", 1, self.started))
            trial.restore(stored, where)
            self.trials.append(trial)
        if self.searched and self.extended and not self._solved():
            going_on = [trial for trial in self.trials if not trial.ended] or self._next()
            self.trials, self.searched = going_on or self.trials, not going_on

    def _record(self, trials: Sequence[Trial]) -> None:
        """Counts what the last round did, writes the records that are due, and reports."""
        for trial in trials:
            self.exhausted += trial.exhausted
            told = population_told(trial.fitness, trial.hashes) if trial.is_due() else {}
            self._count(trial.number, trial.new_counts(), trial.state.best_fitness, told)
        try:
            self.report(self.progress)
        except KeyboardInterrupt:  # all is counted, so the search can be left as it is
            self.stop.signal = self.stop.signal or signal.SIGINT

    def _count(self, number: int, new: Counts, best_fitness: float, told: dict[str, Any]) -> None:
        """Counts what a trial did, and writes a record, if something is told of its population."""
        self.counts = Counts(*map(sum, zip(self.counts, new, strict=True)))
        self.progress = Progress(
            number,
            self.counts.considered,
            self.counts.evaluated,
            self.counts.train_steps,
            time.monotonic() - self.began,
            best_fitness,
            **{name: getattr(self.counts, name) for name in runs.COUNTED},
            saved_steps=sum(getattr(self.counts, name) for name in Counts._fields if name.startswith("saved")),
            lost=self.lost,
            exhausted=self.exhausted,
            **told,
        )
        if told and self.folder:
            self.folder.record(self.progress)

    def _select(self, trial: Trial) -> None:
        """Judges the candidates of a trial, an interrupted one too, on T_select."""
        found = trial.candidates(self.config.schedule.candidates)
        self._judge(trial.number, found, trial.entries())

    def _judge(self, number: int, found: list[Entry], hall: list[Entry]) -> None:
        found, hall = ([entry._replace(trial=number) for entry in entries] for entries in (found, hall))
        if self.best is None:  # stands, unjudged, should Ctrl-C come (again) before the judgement
            self.best = max(found, key=lambda entry: entry.fitness)
        programs = concatenate([entry.program for entry in found])
        scores = build.fitness(self.config, programs, self.select_tasks, "select").tolist()
        judged = [entry._replace(select_fitness=score) for entry, score in zip(found, scores, strict=True)]
        known = {(entry.fitness, entry.cost) for entry in judged}
        hall = judged + [entry for entry in hall if (entry.fitness, entry.cost) not in known]
        self.hall = [entry for entry, _, _ in merged([*self.hall, *hall])]
        best = max(judged, key=lambda entry: entry.select_fitness or 0.0)  # of equals, the fitter on T_search
        before = self.best.select_fitness
        if before is None or (best.select_fitness or 0.0) > before:
            self.best = best

    def _solved(self) -> bool:
        return self._is_sufficient(self.best)

    def take_earlier(self, earlier: Entry | None) -> None:
        """Keeps the best program that the run had written before, in case it does not come to it again."""
        if earlier is None or earlier.program.memory != self.config.searcher.space.memory:
            return
        tasks = self.search_tasks[0]
        judge = build.evaluator(self.config, tasks, "search")
        hall = HallOfFame(judge.examples, judge.costs, interface=Interface.of(earlier.program.memory, tasks))
        entry = hall.entry(Ancestor(earlier.fitness, earlier.evaluations, 0, earlier.program, 0, None))
        self.earlier = earlier._replace(cost=entry.cost)

    def _is_sufficient(self, best: Entry | None) -> bool:
        fitness = best.select_fitness if best else None
        return fitness is not None and fitness > self.config.schedule.sufficient_fitness

    def judge(self) -> None:
        """The best program, and the baselines, on unseen tasks."""
        best = self._best_of_all()
        assert best is not None
        unseen = build.tasks(self.config, "unseen")
        self.unseen = float(build.fitness(self.config, best.program, unseen, "unseen")[0])
        search_tasks = build.tasks(self.config, "search", best.trial)
        self.baselines = tuple(self._baseline(name, search_tasks, unseen) for name in self.config.output.baselines)

    def _best_of_all(self) -> Entry | None:
        """The best program, be it one that the run had before it was interrupted and has not met again."""
        under_way = self.under_way(self.trials) if self.best is None else []
        best = self.best or max(under_way, key=lambda entry: entry.fitness, default=None)
        if self.earlier is None or best is None:
            return best or self.earlier
        return self.earlier if _rank(self.earlier) > _rank(best) else best

    def _baseline(self, name: str, search_tasks: Tasks, unseen: Tasks) -> Baseline:
        programs = concatenate([library.baseline(name, search_tasks, learning_rate=rate) for rate in LEARNING_RATES])
        scores = build.fitness(self.config, programs, search_tasks, "search")
        winner = int(np.argmax(scores))
        select = build.fitness(self.config, programs[winner], self.select_tasks, "select")
        final = build.fitness(self.config, programs[winner], unseen, "unseen")
        return Baseline(name, LEARNING_RATES[winner], float(scores[winner]), float(select[0]), float(final[0]))

    def outcome(self) -> Outcome:
        """All of it."""
        best = self._best_of_all()
        numbers: dict[Role, int] = {"search": best.trial if best else 1, "select": 0, "unseen": 0}
        return Outcome(
            best.program if best else None,
            best.trial if best else 0,
            best.fitness if best else 0.0,
            best.select_fitness if best else None,
            self.unseen,
            self.config.schedule.sufficient_fitness,
            self._is_sufficient(best),
            self.interrupted,
            self.progress,
            self.baselines,
            self.select_tasks.loss,
            self.task_counts,
            self.folder.path if self.folder else None,
            {role: build.seeds(self.config, role, number) for role, number in numbers.items()},
            self.timed_out,
            self.had_ended and self.was_judged,
        )


_STORED = ("started", "searched", "progress", "counts", "seconds", "best", "hall")
"""What a checkpoint holds of any run, its searches aside."""


def _rank(entry: Entry) -> tuple[bool, float, float]:
    """What makes one best program better than another: T_select, as far as they were judged there."""
    return entry.select_fitness is not None, entry.select_fitness or 0.0, entry.fitness
