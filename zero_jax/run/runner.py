"""`Runner`: the loop that carries an `Experiment` out, its searches under way in this process."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zero_jax.evaluation import Counts, Scores
from zero_jax.executors.api import check_fits
from zero_jax.executors.base import Options, Request
from zero_jax.executors.registry import choose
from zero_jax.program import library
from zero_jax.program.memory import Interface
from zero_jax.program.programs import concatenate
from zero_jax.run import folder as runs
from zero_jax.run import tensorboard
from zero_jax.run.config import LEARNING_RATES
from zero_jax.run.config import Experiment as Experiment
from zero_jax.run.folder import Baseline, Outcome, Progress, RunFolder, progress_from
from zero_jax.run.hall import Entry, HallOfFame, entries_from, entries_tree, hall_fields, lineage_fields, merged
from zero_jax.run.identity import Identity
from zero_jax.run.strands import Strand, population_told, rounds
from zero_jax.search import Best
from zero_jax.support import checked, stopping
from zero_jax.support import threads as parallel
from zero_jax.support.checked import Fields
from zero_jax.support.codec import decode, encode
from zero_jax.support.stopping import Stop
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role

EARLY_SECONDS = 1.0
"""When the first checkpoint is due, where they come less often."""


def strand_of(experiment: Experiment, number: int, seed: int) -> Strand:
    """The search of the experiment of that number, from a seed."""
    searcher = experiment.searcher()
    return Strand(
        number,
        searcher,
        seed,
        [experiment.evaluator(one, "search", searcher.ops) for one in experiment.worker_tasks(number)],
        experiment.train_steps,
        experiment.sufficient_fitness,
        experiment.groups,
        experiment.migrate_every * experiment.islands,
    )


class Runner:
    """The state of one run, whose searches are under way in this process."""

    resumed_by = "zero-jax search --resume {folder}"

    def __init__(self, experiment: Experiment, report: Callable[[Progress], None] | None = None) -> None:
        self.check_kind(experiment)
        experiment = experiment.self_contained()
        if experiment.tensorboard:
            tensorboard.check_installed()
        self.experiment = experiment
        self.report = report or (lambda progress: None)
        self.folder: RunFolder | None = None
        self.searcher = experiment.searcher()
        experiment.check_tasks()
        self.select_tasks = experiment.tasks("select")
        self.search_tasks, unseen_tasks = experiment.worker_tasks(), experiment.tasks("unseen")
        for tasks in (*self.search_tasks, self.select_tasks, unseen_tasks):  # mistakes show before anything is written
            check_fits(experiment.space, self.searcher.ops, tasks, experiment.max_bytes, experiment.executor)
        roles = {"search_tasks": self.search_tasks, "select_tasks": [self.select_tasks], "unseen_tasks": [unseen_tasks]}
        self.identity = Identity.of(dataclasses.asdict(experiment), roles)
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
        self.strands: list[Strand] = []
        self.searched = False
        self.stop = Stop()
        self.written = self.began

    def check_kind(self, experiment: Experiment) -> None:
        """Whether such a runner is for this experiment.

        Raises:
          ValueError: if not.
        """
        if experiment.actors:
            raise ValueError(
                f"this run shares its islands among {experiment.actors} actors of Ray: begin it, and go on with "
                "it, with --ray (zero-jax search) or zero_jax.run.cluster (Python)"
            )

    def run(self) -> Outcome:
        """All of it, or what is left."""
        with stopping.handled() as self.stop:
            try:
                if self.folder and self.experiment.tensorboard:
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
                self._write_hall(self.under_way(self.strands))
                self.folder.write_outcome(outcome)
        return outcome

    def load(self) -> None:
        """Compiles the loops, or loads them from disk; then the clock starts."""
        self._load(self.search_tasks)
        self.began = time.monotonic()
        # The first checkpoint comes soon, so that little is lost where the first minute is interrupted within a cohort.
        self.written = self.began - max(0.0, self.experiment.checkpoint_seconds - EARLY_SECONDS)

    def _load(self, sets: Sequence[Tasks]) -> None:
        """Has one program trained on one example, and children made of one cohort."""
        state, candidates = self.searcher.ask(self.searcher.init(0))
        self.searcher.ask(self.searcher.tell(state, candidates, Scores.of(np.zeros(len(candidates)))))
        programs = candidates.programs
        for tasks in sets:
            request = Request(programs.memory, tasks, Options(max_bytes=self.experiment.max_bytes))
            if choose(self.experiment.executor, request).compiles_once:
                self.experiment.evaluator(tasks.shortened(1, 1), "search")(programs[:1])

    def search(self) -> None:
        """Experiments, until one is good enough on T_select, there are no more, or there is a reason to leave."""
        self.strands = self.strands or [s for _ in range(self.experiment.side_by_side) for s in self._next()]
        try:
            with self.stop.deferred():
                if self._advanced(self.strands):
                    return
        except KeyboardInterrupt:  # within a cohort: what there was at the last checkpoint stands
            self.interrupted = True
        self.interrupted |= bool(self.stop.signal)
        if self.interrupted and self.folder:  # before the judgement, which may take a while
            self.folder.write_outcome(self.outcome())
        for strand in self.strands:
            if strand.evaluations:
                self._select(strand)
        if self.interrupted:
            raise KeyboardInterrupt

    def _advanced(self, strands: list[Strand]) -> bool:
        """Whether the search came to its end, and not to a reason to leave it; there is a checkpoint then."""
        experiment = self.experiment
        if self.had_ended:
            return False
        for _ in rounds(strands, experiment.threads or parallel.cores(), experiment.side_by_side == 1):
            self._record(strands)
            before = list(strands)
            for i, strand in reversed(list(enumerate(strands))):
                if strand.ended:
                    self._select(strand)
                    last = self._solved() or not strand.counts.train_steps  # nor would the next train any
                    strands[i : i + 1] = [] if last else self._next()
            self.searched = self._solved() or not strands
            if self.searched:
                self._checkpoint(before)
                return True
            leaving = self._leaving(strands)
            if leaving or time.monotonic() - self.written >= experiment.checkpoint_seconds:
                self._checkpoint(strands)
            if leaving:
                return False
        raise AssertionError("rounds end only here")

    def _leaving(self, strands: Sequence[Strand]) -> bool:
        """Whether a signal or the time limit asks to leave, and the search can be written down as it is."""
        limit, seconds = self.experiment.time_limit, self.progress.seconds
        self.timed_out = 0 < limit <= seconds
        late = self.timed_out and seconds >= limit + stopping.GRACE_SECONDS
        return late or ((self.timed_out or bool(self.stop.signal)) and all(strand.settled for strand in strands))

    def _next(self) -> list[Strand]:
        """The next experiment, if there is one."""
        if self.experiment.experiments and self.started == self.experiment.experiments:
            return []
        self.started += 1
        return [self._strand(self.started)]

    def _strand(self, number: int) -> Strand:
        return strand_of(self.experiment, number, self.experiment.derived_seed("search", number))

    def _checkpoint(self, strands: Sequence[Strand]) -> None:
        """Writes down where the run is, unless some search cannot be left where it is."""
        if self.folder and (self.searched or all(strand.settled for strand in strands)):
            self._write_checkpoint({"strands": [strand.tree() for strand in strands]}, self.under_way(strands))

    def _write_checkpoint(self, searches: dict[str, Any], under_way: Sequence[Entry]) -> None:
        """Writes down where the run is, its searches as told, and what entries they have for the hall of fame."""
        assert self.folder is not None
        told = {
            "started": self.started,
            "searched": self.searched,
            "progress": self.progress._asdict(),
            "counts": encode(self.counts),
            "seconds": time.monotonic() - self.began,
            "best": entries_tree([self.best] if self.best else []),
            "hall": entries_tree(self.hall),
        }
        self.folder.checkpoint(told | searches)
        self._write_hall(under_way)
        self.written = time.monotonic()

    def under_way(self, strands: Sequence[Strand]) -> list[Entry]:
        """What experiments under way have for the hall of fame."""
        return [entry._replace(experiment=s.number) for s in strands for entry in s.entries()]

    def _write_hall(self, under_way: Sequence[Entry]) -> None:
        """The hall of fame so far, experiments under way included, and the lineage of its best."""
        assert self.folder is not None
        interface = Interface.of(self.experiment.space.memory, self.select_tasks)
        others = [self.earlier] if self.earlier and self._best_of_all() is self.earlier else []
        self.folder.write("hall.json", hall_fields(merged([*self.hall, *under_way, *others]), interface))
        best = self.best or max(under_way, key=lambda entry: entry.fitness, default=None)
        if best:
            self.folder.write("lineage.json", lineage_fields(best, interface))

    def restore(self, tree: dict[str, Any]) -> None:
        """Goes on from what a checkpoint holds.

        Raises:
          ValueError: saying what in it does not belong to such a run; the runner is of no use then.
        """
        stored = Fields({name: tree.get(name) for name in _STORED}, "run", _STORED)
        self.started, self.searched = stored.whole("started"), stored.flag("searched")
        self.progress = progress_from(stored["progress"])
        self.exhausted = self.progress.exhausted
        self.counts = decode(Counts, stored["counts"], "run.counts")
        seconds = stored.number("seconds", 0)
        self.began -= seconds
        space = self.experiment.space
        self.best = next(iter(entries_from(stored["best"], space, "run.best")), None)
        self.hall = entries_from(stored["hall"], space, "run.hall")
        self._restore_searches(tree)
        limit = self.experiment.time_limit
        self.had_ended = self.searched or 0 < limit <= seconds
        self.timed_out = self.had_ended and not self.searched

    def _restore_searches(self, tree: dict[str, Any]) -> None:
        most = self.experiment.side_by_side
        for stored, where in Fields({"strands": tree.get("strands")}, "run", ("strands",)).items("strands"):
            if len(self.strands) == most or not isinstance(stored, dict):
                raise ValueError(f"{where} does not belong there: {most} experiments are under way at most")
            strand = self._strand(checked.whole(stored.get("number"), f"{where}.number", 1, self.started))
            strand.restore(stored, where)
            self.strands.append(strand)
        if self.searched and self.extended and not self._solved():
            going_on = [strand for strand in self.strands if not strand.ended] or self._next()
            self.strands, self.searched = going_on or self.strands, not going_on

    def _record(self, strands: Sequence[Strand]) -> None:
        """Counts what the last round did, writes the records that are due, and reports."""
        for strand in strands:
            self.exhausted += strand.exhausted
            told = population_told(strand.fitness, strand.hashes) if strand.is_due() else {}
            self._count(strand.number, strand.new_counts(), strand.best_fitness, told)
        try:
            self.report(self.progress)
        except KeyboardInterrupt:  # all is counted, so the search can be left as it is
            self.stop.signal = self.stop.signal or signal.SIGINT

    def _count(self, number: int, new: Counts, best_fitness: float, told: dict[str, Any]) -> None:
        """Counts what an experiment did, and writes a record, if something is told of its population."""
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

    def _select(self, strand: Strand) -> None:
        """Judges the candidates of an experiment, an interrupted one too, on T_select."""
        found = strand.candidates(self.experiment.candidates)
        self._judge(strand.number, found, strand.entries())

    def _judge(self, number: int, found: list[Entry], hall: list[Entry]) -> None:
        found, hall = ([entry._replace(experiment=number) for entry in entries] for entries in (found, hall))
        if self.best is None:  # stands, unjudged, should Ctrl-C come (again) before the judgement
            self.best = max(found, key=lambda entry: entry.fitness)
        programs = concatenate([entry.program for entry in found])
        scores = self.experiment.fitness(programs, self.select_tasks, "select").tolist()
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
        if earlier is None or earlier.program.memory != self.experiment.space.memory:
            return
        tasks = self.search_tasks[0]
        judge = self.experiment.evaluator(tasks, "search")
        hall = HallOfFame(judge.examples, judge.costs, interface=Interface.of(earlier.program.memory, tasks))
        entry = hall.entry(Best(earlier.program, earlier.fitness, earlier.evaluations))
        self.earlier = earlier._replace(cost=entry.cost)

    def _is_sufficient(self, best: Entry | None) -> bool:
        fitness = best.select_fitness if best else None
        return fitness is not None and fitness > self.experiment.sufficient_fitness

    def judge(self) -> None:
        """The best program, and the baselines, on unseen tasks."""
        best = self._best_of_all()
        assert best is not None
        unseen = self.experiment.tasks("unseen")
        self.unseen = float(self.experiment.fitness(best.program, unseen, "unseen")[0])
        search_tasks = self.experiment.tasks("search", best.experiment)
        self.baselines = tuple(self._baseline(name, search_tasks, unseen) for name in self.experiment.baselines)

    def _best_of_all(self) -> Entry | None:
        """The best program, be it one that the run had before it was interrupted and has not met again."""
        under_way = self.under_way(self.strands) if self.best is None else []
        best = self.best or max(under_way, key=lambda entry: entry.fitness, default=None)
        if self.earlier is None or best is None:
            return best or self.earlier
        return self.earlier if _rank(self.earlier) > _rank(best) else best

    def _baseline(self, name: str, search_tasks: Tasks, unseen: Tasks) -> Baseline:
        programs = concatenate([library.baseline(name, search_tasks, learning_rate=r) for r in LEARNING_RATES])
        scores = self.experiment.fitness(programs, search_tasks, "search")
        winner = int(np.argmax(scores))
        select = self.experiment.fitness(programs[winner], self.select_tasks, "select")
        final = self.experiment.fitness(programs[winner], unseen, "unseen")
        return Baseline(name, LEARNING_RATES[winner], float(scores[winner]), float(select[0]), float(final[0]))

    def outcome(self) -> Outcome:
        """All of it."""
        best = self._best_of_all()
        numbers: dict[Role, int] = {"search": best.experiment if best else 1, "select": 0, "unseen": 0}
        return Outcome(
            best.program if best else None,
            best.experiment if best else 0,
            best.fitness if best else 0.0,
            best.select_fitness if best else None,
            self.unseen,
            self.experiment.sufficient_fitness,
            self._is_sufficient(best),
            self.interrupted,
            self.progress,
            self.baselines,
            self.select_tasks.loss,
            self.task_counts,
            self.folder.path if self.folder else None,
            {role: self.experiment.seeds(role, number) for role, number in numbers.items()},
            self.timed_out,
            self.had_ended and self.was_judged,
        )


_STORED = ("started", "searched", "progress", "counts", "seconds", "best", "hall")
"""What a checkpoint holds of any run, its searches aside."""


def _rank(entry: Entry) -> tuple[bool, float, float]:
    """What makes one best program better than another: T_select, as far as they were judged there."""
    return entry.select_fitness is not None, entry.select_fitness or 0.0, entry.fitness
