"""Ray workers: gives them work, exchanges migrants between them, and starts lost ones again."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zero_jax.run.cluster.connection import check_room, first_line, installed, resources
from zero_jax.run.config import RunConfig
from zero_jax.run.crew import Course
from zero_jax.run.hall import Entries, Entry
from zero_jax.run.worker import Done, Order, Population, Saved, Worker
from zero_jax.support.codec import decode

ROUND_SECONDS = 0.5
"""For how long a worker is given work at a time: thousands of times what a call takes, and short enough for Ctrl-C."""

START_SECONDS = 120.0
"""How long to wait for a worker at the start, and for any of them where all are being started again."""

TRIES = 10
"""A worker that is lost more often than this without having done anything in between ends the run."""


@dataclasses.dataclass
class Seat:
    """What is known here of a worker, and of the next where it was lost.

    Attributes:
      index: from 0.
      handle: Ray's.
      call: what it was asked and has not answered.
      begun: whether it has the trial under way.
      promised: train steps that it may use before it answers.
      best_fitness: its best.
      population: of its islands, when it last answered.
      offer: what it last offered to other islands.
      taking: whether it is to take from what is offered.
      saved: what it can be started again from.
      saving: whether it is to save that again.
      losses: how often it was lost since it last did something.
      exhausted: whether it finds nothing new to train.
    """

    index: int
    handle: Any = None
    call: Any = None
    begun: bool = False
    promised: int = 0
    best_fitness: float = -np.inf
    population: Population | None = None
    offer: bytes | None = None
    taking: bool = False
    saved: Saved | None = None
    saving: bool = False
    losses: int = 0
    exhausted: bool = False


class RayCrew:
    """Ray workers, each with a share of the islands of one trial. All draw on one budget, and nothing waits for all."""

    resumed_by = "zero-jax resume {folder} --ray"

    def __init__(self, config: RunConfig) -> None:
        check_has_workers(config)
        check_room(config)
        self.config = config
        self.ray = installed()
        kind, _ = resources(config)  # once: a cluster may lose its last GPU for a while
        needs = {"num_cpus": config.schedule.threads or 1, "num_gpus": int(kind == "GPU"), "max_restarts": 0}
        self._hire = self.ray.remote(Worker).options(**needs).remote
        self.seats = [Seat(index) for index in range(config.schedule.workers)]
        self.lost = 0
        self._course: Course | None = None
        self._heard = time.monotonic()
        self._saving = False

    def begin(self, course: Course, saved: Sequence[Saved | None] = (), where: str = "trial") -> None:
        """As in `Crew`."""
        if saved and len(saved) != len(self.seats):
            raise ValueError(f"{where} has {len(saved)} workers, not {len(self.seats)}")
        for i, one in enumerate(saved):  # the rest is checked by the worker that resumes from it
            if one is None:
                raise ValueError(f"{where}.workers[{i}] is None: nothing was saved of that worker")
            decode(Entries, *one.entries, like=self.config.searcher.space)
        self._course = course
        for i, old in enumerate(self.seats):
            seat = self.seats[i] = Seat(old.index, old.handle, losses=old.losses)
            seat.saved = saved[i] if saved else None
            if seat.saved:
                seat.best_fitness, seat.exhausted = seat.saved.best_fitness, seat.saved.exhausted
        self._sum_up()

    def wait(self) -> None:
        """As in `Crew`."""
        began = time.monotonic()
        self._begin_all()
        while any(not seat.begun for seat in self.seats):
            list(self._answers(1.0))
            if time.monotonic() - began > START_SECONDS:
                there = sum(seat.begun for seat in self.seats)
                raise OSError(f"{there} of {len(self.seats)} workers could be started in {START_SECONDS:g} seconds")

    def round(self, courses: Sequence[Course]) -> list[tuple[Course, Done]]:
        """As in `Crew`."""
        self._begin_all()
        for seat in self.seats:
            if seat.begun and seat.call is None:
                self._order(seat)
        results = list(self._answers(1.0))
        if results or any(seat.begun for seat in self.seats):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > START_SECONDS:
            raise OSError(f"all workers were lost, and none could be started again in {START_SECONDS:g} seconds")
        return results

    def finish(self, course: Course) -> Iterator[tuple[Course, Done]]:
        """As in `Crew`."""
        while any(seat.begun and seat.call is not None for seat in self.seats):
            yield from self._answers(1.0)
        for seat in self.seats:
            if seat.begun:
                seat.call = seat.handle.save.remote()
        while any(seat.begun and seat.call is not None for seat in self.seats):
            yield from self._answers(1.0)

    def is_idle(self, course: Course) -> bool:
        """As in `Crew`."""
        return all(seat.call is None or not seat.begun for seat in self.seats)

    def settled(self, courses: Sequence[Course]) -> bool:
        """As in `Crew`."""
        return True  # each worker settles when it saves

    def ready(self, courses: Sequence[Course]) -> bool:
        """As in `Crew`."""
        if not self._saving:
            self._saving = True
            for seat in self.seats:
                seat.saving = seat.begun
        self._saving = any(seat.saving for seat in self.seats)
        return not self._saving

    def saved(self, course: Course) -> list[Saved | None]:
        """As in `Crew`."""
        return [seat.saved for seat in self.seats]

    def population(self, course: Course) -> Population | None:
        """As in `Crew`."""
        known = [seat.population for seat in self.seats if seat.population]
        if len(known) < len(self.seats):
            return None
        return Population(*(np.concatenate(columns) for columns in zip(*known, strict=True)))

    def candidates(self, course: Course, count: int) -> list[list[list[Entry]]]:
        """As in `Crew`; of a worker that is lost, what it had when it was last saved."""
        calls = [seat.handle.candidates_tree.remote(count) if seat.begun else None for seat in self.seats]
        results = []
        for seat, call in zip(self.seats, calls, strict=True):
            try:
                if call is None:
                    raise LostError
                results.append([decode(Entries, kind) for kind in self._got(call)])
            except LostError:
                if seat.saved is not None:
                    worker = Worker(self.config, seat.index)
                    worker.begin(course.number, seat.saved.checkpoint)
                    results.append(worker.candidates(count))
        return results

    def entries(self, course: Course) -> list[Entry]:
        """As in `Crew`."""
        return [entry for seat in self.seats if seat.saved for entry in decode(Entries, *seat.saved.entries)]

    def forget(self, course: Course) -> None:
        """As in `Crew`."""

    def close(self) -> None:
        """As in `Crew`."""
        for seat in self.seats:
            self._dismiss(seat)

    # ------------------------------------------------------------------------------------------ calls

    def _begin_all(self) -> None:
        """Has workers begin that have not been asked to, hiring those that are missing."""
        for seat in self.seats:
            if not seat.begun and seat.call is None:
                self._begin(seat)

    def _begin(self, seat: Seat) -> None:
        assert self._course is not None
        if seat.handle is None:
            seat.handle = self._hire(self.config, seat.index)
        seat.begun, seat.promised = False, 0
        seat.call = seat.handle.begin.remote(self._course.number, seat.saved and seat.saved.checkpoint)

    def _dismiss(self, seat: Seat) -> None:
        if seat.handle is not None:
            with contextlib.suppress(Exception):
                self.ray.kill(seat.handle)
            seat.handle = None

    def _order(self, seat: Seat) -> None:
        """Gives a worker work: a share of the train steps that none has been promised, so that the budget is met."""
        assert self._course is not None
        free = self.config.schedule.train_steps - self._course.spent - sum(one.promised for one in self.seats)
        if free <= 0:
            return
        seat.promised = -(-free // len(self.seats))
        pool = tuple(other.offer for other in self.seats if other.offer) if seat.taking else ()
        seat.taking = False
        seat.call = seat.handle.advance.remote(Order(ROUND_SECONDS, seat.promised, save=seat.saving, pool=pool))

    def _answers(self, seconds: float) -> Iterator[tuple[Course, Done]]:
        """Waits this long for any worker to answer; what it did."""
        assert self._course is not None
        calls = {seat.call: seat for seat in self.seats if seat.call is not None}
        ready, _ = self.ray.wait(list(calls), num_returns=1, timeout=seconds) if calls else ([], [])
        for call in ready:
            seat = calls[call]
            seat.call = None
            try:
                done = self._got(call)
            except LostError as lost:
                self._replace(seat, str(lost))
            else:
                seat.begun = True
                if done is not None:
                    self._received(seat, done)
                    yield self._course, done

    def _got(self, call: Any) -> Any:
        """An answer; mistakes that a worker met are raised as they are."""
        try:
            return self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, ValueError | OSError | MemoryError) else error
            raise cause from None
        except self.ray.exceptions.RayError as error:
            raise LostError(first_line(error)) from error

    def _received(self, seat: Seat, done: Done) -> None:
        seat.promised, seat.losses, seat.exhausted = 0, 0, done.exhausted
        seat.best_fitness, seat.population = done.best_fitness, done.population or seat.population
        if done.offer is not None:
            seat.offer, seat.taking = done.offer, True
        if done.saved is not None:
            seat.saved, seat.saving = done.saved, False
        self._sum_up()

    def _replace(self, seat: Seat, why: str) -> None:
        """Starts a worker again from what it last saved, or from the beginning of the trial."""
        self.lost += 1
        seat.losses += 1
        if seat.losses > TRIES:
            raise OSError(f"worker {seat.index} was lost {seat.losses} times in a row before it did anything: {why}")
        where = "its last checkpoint" if seat.saved else "the beginning of the trial"
        warnings.warn(f"worker {seat.index} was lost ({why}); it is started again from {where}", stacklevel=2)
        self._dismiss(seat)
        seat.best_fitness = seat.saved.best_fitness if seat.saved else -np.inf
        seat.saving = False
        self._begin(seat)
        self._sum_up()

    def _sum_up(self) -> None:
        assert self._course is not None
        self._course.best_fitness = max(seat.best_fitness for seat in self.seats)
        self._course.exhausted = all(seat.exhausted for seat in self.seats)


class LostError(Exception):
    """A worker that does not answer any more."""


def check_has_workers(config: RunConfig) -> None:
    """Refuses a config without workers.

    Raises:
      ValueError: if so.
    """
    if not config.schedule.workers:
        raise ValueError("this run does not share its islands among Ray workers: resume it without --ray")
