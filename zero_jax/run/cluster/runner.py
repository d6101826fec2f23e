"""`run` and `resume` with actors: gives them work, adds up what they did, and starts again those that are lost."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zero_jax.evaluation import Counts
from zero_jax.run import api as experiments
from zero_jax.run.cluster.connection import check_room, connected, default_actors, first_line, installed, resources
from zero_jax.run.cluster.share import Done, Found, Kept, Order, Share
from zero_jax.run.config import Experiment, from_folder
from zero_jax.run.folder import Outcome, Progress, check_out
from zero_jax.run.hall import Entry, entries_from
from zero_jax.run.runner import Runner
from zero_jax.run.strands import Strand, population_told, record_due
from zero_jax.support import files
from zero_jax.support.checked import Fields

ROUND_SECONDS = 0.5
"""An actor is given work for so long at a time: thousands of times what a call takes, and short enough for Ctrl-C."""

START_SECONDS = 120.0
"""How long to wait for an actor at the start, and for any of them where all are being started again."""

TRIES = 10
"""An actor that is lost more often than this without having done anything in between ends the run."""


def run(experiment: Experiment, report: Callable[[Progress], None] | None = None, address: str = "") -> Outcome:
    """Carries an experiment out as `zero_jax.run.api.run` does, its islands shared among `experiment.actors` actors
    of Ray; 0 takes as many as the cluster has GPUs, or else CPUs.

    Actors evaluate on their own, programs migrate between them as they come by, and all draw on one budget: so what is
    found depends on how fast each is. One that is lost is started again from its last checkpoint, with a warning.

    Args:
      experiment: what to do.
      report: called with the progress whenever an actor has answered.
      address: HOST:PORT of a Ray cluster that this machine belongs to, or auto; empty to start a local one for it.

    Raises:
      ValueError: without Ray; settings that do not go together; a cluster too small for all actors.
      OSError: a cluster that does not answer; an actor that is lost again and again.
    """
    dataclasses.replace(experiment, actors=experiment.actors or 1)  # mistakes show before a cluster is started
    if experiment.out is not None:
        check_out(experiment.out)
    with connected(address):
        if not experiment.actors:
            experiment = dataclasses.replace(experiment, actors=default_actors(experiment))
        return experiments.begun(ActorRunner(experiment, report))


def resume(
    folder: str | Path, report: Callable[[Progress], None] | None = None, address: str = "", **more: Any
) -> Outcome:
    """Goes on with a run from the last checkpoints of its actors; not to the bit, since each is of another moment.

    Args:
      folder: as in `zero_jax.run.api.resume`.
      report: likewise.
      address: as in `run`.
      **more: as in `zero_jax.run.api.resume`; an experiment that has ended does not go on with more `train_steps`,
        later ones have them.

    Raises:
      ValueError, OSError: as `run`, and as `zero_jax.run.api.resume`.
    """
    _check_has_actors(from_folder(folder))
    with connected(address):
        extension = experiments.Extension(**more)
        return experiments.resumed(folder, lambda experiment: ActorRunner(experiment, report), extension)


def _check_has_actors(experiment: Experiment) -> None:
    if not experiment.actors:
        raise ValueError("this run does not share its islands among actors of Ray: go on with it without --ray")


@dataclasses.dataclass
class _Slot:
    """What is known here of an actor, and of the next where it was lost.

    Attributes:
      index: from 0.
      handle: Ray's.
      call: what it has been asked and has not answered.
      begun: whether it has the experiment under way.
      promised: train steps that it may use before it answers.
      best_fitness: its best.
      population: `[I, P]` fitness and `[I * P]` hashes of its islands, when last told.
      offer: what it last offered to other islands.
      taking: whether it is to take from what is offered.
      kept: what it can be started again from.
      keeping: whether it is to say that anew.
      losses: how often it was lost since it last did something.
      exhausted: whether it finds nothing new to train.
    """

    index: int
    handle: Any = None
    call: Any = None
    begun: bool = False
    promised: int = 0
    best_fitness: float = -np.inf
    population: tuple[np.ndarray, np.ndarray] | None = None
    offer: bytes | None = None
    taking: bool = False
    kept: Kept | None = None
    keeping: bool = False
    losses: int = 0
    exhausted: bool = False


class ActorRunner(Runner):
    """The state of one run, whose searches are under way in actors."""

    resumed_by = "zero-jax search --resume {folder} --ray"

    def __init__(self, experiment: Experiment, report: Callable[[Progress], None] | None = None) -> None:
        super().__init__(experiment, report)
        self.ray = installed()
        kind, _ = resources(experiment)  # once: a cluster may lose its last GPU for a while
        self.needs = {"num_cpus": experiment.threads or 1, "num_gpus": int(kind == "GPU"), "max_restarts": 0}
        self.slots = [_Slot(index) for index in range(experiment.actors)]
        self.number = 0  # of the experiment under way
        self.spent = 0  # train steps, of those that were lost too
        self.cohorts = 0
        self.recorded = 0
        self.keeping = False

    def check_kind(self, experiment: Experiment) -> None:
        """Whether it has actors, and the cluster room for them."""
        _check_has_actors(experiment)
        check_room(experiment)

    def search(self) -> None:
        """Experiments, until one is good enough on T_select or there are no more."""
        try:
            self._hire_all()
            while self.number or self._next_experiment():
                self._advance()
                if self.timed_out:
                    self._leave()
                    return
                self._close(self._all_found())
                if self._solved() or not self.spent:  # nor would the next experiment train any
                    break
            self.searched = True
            self._write()
        except KeyboardInterrupt:
            self.interrupted = True
            if self.number:
                self._leave()
            raise
        finally:
            for slot in self.slots:
                self._dismiss(slot)

    # ------------------------------------------------------------------------------------------ experiments

    def _hire_all(self) -> None:
        """Starts all actors before the clock goes on."""
        began = time.monotonic()
        for slot in self.slots:
            slot.handle = self._hired(slot.index)
        if self.number:
            for slot in self.slots:
                self._begin(slot)
        else:
            self._next_experiment()
        while any(not slot.begun for slot in self.slots):
            self._answer(1.0)
            if time.monotonic() - began > START_SECONDS:
                there = sum(slot.begun for slot in self.slots)
                raise OSError(f"{there} of {len(self.slots)} actors could be started in {START_SECONDS:g} seconds")
        self.began += time.monotonic() - began

    def _next_experiment(self) -> bool:
        """Begins the next experiment, if there is one."""
        if self.searched or not self._next_is_allowed():
            return False
        self.started += 1
        self.number, self.spent, self.cohorts, self.recorded = self.started, 0, 0, 0
        for i, old in enumerate(self.slots):
            self.slots[i] = _Slot(old.index, old.handle, losses=old.losses)
            self._begin(self.slots[i])
        return True

    def _next_is_allowed(self) -> bool:
        return not self.experiment.experiments or self.started < self.experiment.experiments

    def _advance(self) -> None:
        """All actors go on until the experiment ends."""
        heard = time.monotonic()
        while not self._ended():
            for slot in self.slots:
                if slot.begun and slot.call is None:
                    self._order(slot)
            answered = self._answer(1.0)
            if answered or any(slot.begun for slot in self.slots):
                heard = time.monotonic()
            elif time.monotonic() - heard > START_SECONDS:
                raise OSError(f"all actors were lost, and none could be started again in {START_SECONDS:g} seconds")
            self._keep()
            if 0 < self.experiment.time_limit <= self.progress.seconds:
                self.timed_out = True
                break
        while any(slot.begun and slot.call is not None for slot in self.slots):
            self._answer(1.0)
        self.exhausted += all(slot.exhausted for slot in self.slots)
        if self.cohorts > self.recorded:
            self._record_all(Counts(), True)

    def _ended(self) -> bool:
        """Whether the budget is spent, the fitness sufficient, or nothing new is left."""
        spent = self.spent >= self.experiment.train_steps or all(slot.exhausted for slot in self.slots)
        return spent or self._best_fitness() > self.experiment.sufficient_fitness

    def _best_fitness(self) -> float:
        return max(slot.best_fitness for slot in self.slots)

    def _leave(self) -> None:
        """Writes down where all actors are, and judges what they have so far."""
        found = self._all_found()
        self._write()
        if self.folder:
            self.folder.write_outcome(self.outcome())
        self._close(found)

    def _close(self, found: list[Found]) -> None:
        """Judges the candidates of an experiment, one that was left too, on T_select."""
        count = self.experiment.candidates
        if found:
            told = [[entries_from(kind) for kind in files.unpacked(one.candidates)] for one in found]
            candidates = [e for kind in zip(*told, strict=True) for e in _best([e for of in kind for e in of], count)]
            self._judge(self.number, candidates, self._entries())
        elif not (self.interrupted or self.timed_out):
            raise OSError(f"all actors were lost at the end of experiment {self.number}, and with them all programs")
        self.number = 0

    def _all_found(self) -> list[Found]:
        """What each actor has found; of one that is lost, what it had at its last checkpoint."""
        count = self.experiment.candidates
        calls = [slot.handle.found.remote(count) if slot.begun else None for slot in self.slots]
        answers = []
        for slot, call in zip(self.slots, calls, strict=True):
            found = None
            try:
                found = self._got(call) if call is not None else self._found_here(slot)
            except _LostError:
                found = self._found_here(slot)
            if found is not None:
                if any(found.counts):
                    self._record_all(found.counts, False)
                slot.kept = found.kept
                answers.append(found)
        return answers

    def _found_here(self, slot: _Slot) -> Found | None:
        if slot.kept is None:
            return None
        share = Share(self.experiment, slot.index)
        share.begin(self.number, slot.kept.checkpoint)
        return share.found(self.experiment.candidates)

    # ------------------------------------------------------------------------------------------ actors

    def _hired(self, index: int) -> Any:
        return self.ray.remote(Share).options(**self.needs).remote(self.experiment, index)

    def _dismiss(self, slot: _Slot) -> None:
        if slot.handle is not None:
            with contextlib.suppress(Exception):
                self.ray.kill(slot.handle)
            slot.handle = None

    def _begin(self, slot: _Slot) -> None:
        slot.begun, slot.promised = False, 0
        slot.call = slot.handle.begin.remote(self.number, slot.kept and slot.kept.checkpoint)

    def _order(self, slot: _Slot) -> None:
        """Gives an actor work: a share of the train steps that nobody has been promised, so that the budget is met."""
        free = self.experiment.train_steps - self.spent - sum(slot.promised for slot in self.slots)
        if free <= 0:
            return
        slot.promised = -(-free // len(self.slots))
        pool = tuple(other.offer for other in self.slots if other.offer) if slot.taking else ()
        slot.taking = False
        slot.call = slot.handle.advance.remote(Order(ROUND_SECONDS, slot.promised, slot.keeping, pool))

    def _answer(self, seconds: float) -> bool:
        """Waits so long for any actor to answer, and takes in what it says; whether one did."""
        calls = {slot.call: slot for slot in self.slots if slot.call is not None}
        if not calls:
            return False
        ready, _ = self.ray.wait(list(calls), num_returns=1, timeout=seconds)
        for call in ready:
            slot = calls[call]
            slot.call = None
            try:
                done = self._got(call)
            except _LostError as lost:
                self._replace(slot, str(lost))
            else:
                slot.begun = True
                if done is not None:
                    self._received(slot, done)
        return bool(ready)

    def _got(self, call: Any) -> Any:
        """An answer; mistakes that an actor met are raised as they are."""
        try:
            return self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, ValueError | OSError | MemoryError) else error
            raise cause from None
        except self.ray.exceptions.RayError as error:
            raise _LostError(first_line(error)) from error

    def _received(self, slot: _Slot, done: Done) -> None:
        slot.promised, slot.losses, slot.exhausted = 0, 0, done.exhausted
        slot.best_fitness, slot.population = done.best_fitness, (done.fitness, done.hashes)
        self.cohorts += done.cohorts
        if done.offer is not None:
            slot.offer, slot.taking = done.offer, True
        if done.kept is not None:
            slot.kept, slot.keeping = done.kept, False
        self._record_all(done.counts, record_due(self.cohorts, self.recorded))
        self.report(self.progress)

    def _record_all(self, counts: Counts, due: bool) -> None:
        """Counts what an actor did; a record, if it is due, is of all islands, as soon as all have been told of."""
        self.spent += counts.train_steps
        told = [slot.population for slot in self.slots if slot.population]
        columns = []
        if due and len(told) == len(self.slots):
            self.recorded = self.cohorts
            columns = [np.concatenate(column) for column in zip(*told, strict=True)]
        self._count(self.number, counts, self._best_fitness(), population_told(*columns) if columns else {})

    def _replace(self, slot: _Slot, why: str) -> None:
        """Starts an actor again from its last checkpoint, or from the beginning of the experiment."""
        self.lost += 1
        slot.losses += 1
        if slot.losses > TRIES:
            raise OSError(f"actor {slot.index} was lost {slot.losses} times in a row before it did anything: {why}")
        where = "its last checkpoint" if slot.kept else "the beginning of the experiment"
        warnings.warn(f"actor {slot.index} was lost ({why}); it is started again from {where}", stacklevel=2)
        self._dismiss(slot)
        slot.handle = self._hired(slot.index)
        slot.best_fitness = slot.kept.best_fitness if slot.kept else -np.inf
        slot.keeping = False
        self._begin(slot)

    # ------------------------------------------------------------------------------------------ checkpoints

    def _keep(self) -> None:
        """Has actors write down where they are, each when it comes by, if it is time; then writes it all."""
        if not self.keeping and time.monotonic() - self.written >= self.experiment.checkpoint_seconds:
            self.keeping = True
            for slot in self.slots:
                slot.keeping = slot.begun
        if self.keeping and not any(slot.keeping for slot in self.slots):
            self.keeping = False
            self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        if self.folder is None:
            return
        actors = [slot.kept and _with_arrays(slot.kept) for slot in self.slots]
        own = {name: getattr(self, name) for name in _STORED if name != "actors"}
        self._write_checkpoint(own | {"actors": actors}, self._entries())

    def _entries(self) -> list[Entry]:
        """What actors had for the hall of fame at their last checkpoints."""
        return [e for slot in self.slots if slot.kept for e in entries_from(files.unpacked(slot.kept.entries))]

    def under_way(self, strands: Sequence[Strand]) -> list[Entry]:
        """What actors had for the hall of fame at their last checkpoints, while an experiment is under way."""
        return self._entries() if self.number else []

    def _restore_searches(self, tree: dict[str, Any]) -> None:
        told = Fields({name: tree.get(name) for name in _STORED}, "run", _STORED)
        self.number = told.whole("number", most=self.started)
        self.spent, self.cohorts, self.lost = (told.whole(name) for name in ("spent", "cohorts", "lost"))
        self.recorded = told.whole("recorded", most=self.cohorts)
        if self.searched and self.extended and not self._solved():
            self.searched = not self._next_is_allowed()
        for slot, (kept, where) in zip(self.slots, told.items("actors", len(self.slots)), strict=True):
            if kept is not None:
                slot.kept = _kept_from(kept, where, self.experiment)
                slot.best_fitness = slot.kept.best_fitness


_STORED = ("number", "spent", "cohorts", "recorded", "lost", "actors")
"""What a checkpoint tells of searches in actors."""


def _kept_from(tree: Any, where: str, experiment: Experiment) -> Kept:
    """The inverse of `_with_arrays`. Its search is checked by the actor that goes on with it."""
    told = Fields(tree, where, Kept._fields)
    checkpoint, entries = (told.array(name, np.uint8, (None,)).tobytes() for name in ("checkpoint", "entries"))
    for name, packed in (("checkpoint", checkpoint), ("entries", entries)):
        try:
            unpacked = files.unpacked(packed)
        except ValueError as error:
            raise ValueError(f"{told.where(name)}: {error}") from None
    entries_from(unpacked, experiment.space, told.where("entries"))
    return Kept(checkpoint, entries, told.number("best_fitness"))


class _LostError(Exception):
    """An actor that does not answer any more."""


def _with_arrays(kept: Kept) -> dict[str, Any]:
    """As `zero_jax.support.files.packed` takes it."""
    return {name: np.frombuffer(x, np.uint8) if isinstance(x, bytes) else x for name, x in kept._asdict().items()}


def _best(entries: list[Entry], count: int) -> list[Entry]:
    """The fittest; of equals one, since the hall of fame tells programs apart by fitness."""
    found = {entry.fitness: entry for entry in reversed(entries)}
    return sorted(found.values(), key=lambda entry: -entry.fitness)[:count]
