"""A worker: evolves some islands of a trial, or all of them, in this process or, through Ray, in another.

What it is given and what it returns are numbers, arrays and plain values.
"""

import os
import time
from typing import Annotated, Any, NamedTuple

import numpy as np

from zero_jax.evaluation import Counts
from zero_jax.run import build
from zero_jax.run.config import RunConfig
from zero_jax.run.hall import Entries, Entry
from zero_jax.run.searchers import islands, part
from zero_jax.run.trial import Trial
from zero_jax.search import Islands
from zero_jax.support import files, threads
from zero_jax.support.codec import Part, Range, encode

UNLIMITED = 2**62


class Order(NamedTuple):
    """What a worker is to do next: one cohort at least.

    Attributes:
      seconds: how long to continue.
      steps: after how many train steps to stop earlier.
      work: continue until this much work is done instead, which does not depend on a clock (`Trial.advance`).
      save: whether to return what the trial can be resumed from.
      pool: what workers have offered to each other, if this one is to take from it first: packed individuals.
    """

    seconds: float = 0.0
    steps: int = UNLIMITED
    work: float = 0.0
    save: bool = False
    pool: tuple[bytes, ...] = ()


class Saved(NamedTuple):
    """What a worker's part of a trial can be resumed from.

    Attributes:
      checkpoint: `Trial.tree`.
      entries: of its halls of fame, encoded.
      best_fitness: on T_search.
      exhausted: whether it finds nothing new to train.
    """

    checkpoint: Part
    entries: Part
    best_fitness: Annotated[float, Range(most=1, finite=False)]
    exhausted: bool


class Population(NamedTuple):
    """The programs of a worker. Axes: `I` islands of its own, `P` programs each.

    Attributes:
      fitness: `[I, P]`.
      hashes: `[I * P]` of canonical forms.
    """

    fitness: np.ndarray
    hashes: np.ndarray


class Done(NamedTuple):
    """What a worker did.

    Attributes:
      counts: what became of programs since it last answered.
      cohorts: how many it evaluated since then.
      best_fitness: the best on T_search so far.
      exhausted: whether it finds nothing new to train.
      population: its programs; None of a worker in this process, which can be asked for them.
      offer: what it offers to other islands, if it is time: packed individuals.
      saved: if it was asked for.
    """

    counts: Counts
    cohorts: int
    best_fitness: float
    exhausted: bool
    population: Population | None = None
    offer: bytes | None = None
    saved: Saved | None = None


class Worker:
    """Evolves trials, one after the other.

    Args:
      config: of the run.
      index: which share of the islands it evolves, from 0; None for all of them.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> config = PRESETS["affine"][1].replace(
      ...     method="evolution", parallel_trials=1, islands=2, workers=2, population=10, cohort=5
      ... )
      >>> worker = Worker(config, 0)
      >>> worker.begin(1)
      >>> worker.advance(Order()).population.fitness.shape  # one island of two: its first population
      (1, 10)
    """

    def __init__(self, config: RunConfig, index: int | None = None) -> None:
        self.config = config
        self.index = index
        self.migrate_every = 0  # between workers
        if index is not None:
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share a GPU
            self.config = _share(config)
            self.migrate_every = config.schedule.migrate_every * islands(self.config.searcher)
        self._trial: Trial | None = None
        self._cohorts = 0

    @property
    def trial(self) -> Trial:
        """The trial under way."""
        assert self._trial is not None, "begin comes first"
        return self._trial

    def begin(self, number: int, checkpoint: Part | None = None) -> None:
        """Begins the trial of that number, or resumes it. All workers have the same T_search, each its own generator.

        Raises:
          ValueError: a checkpoint that is damaged or of another trial.
        """
        # Seeds are hashes of their purpose: other words would give other searches.
        purpose = "search" if self.index is None else f"search of actor {self.index}"
        self._trial = build.trial(self.config, number, build.derived_seed(self.config, purpose, number))
        if checkpoint is not None:
            self._trial.restore(*checkpoint)
        self._cohorts = self._trial.cohorts

    def advance(self, order: Order) -> Done:
        """Continues the trial."""
        schedule = self.config.schedule
        with threads.limited(1 if schedule.parallel_trials > 1 else schedule.threads):
            return self._advanced(order)

    def _advanced(self, order: Order) -> Done:
        trial = self.trial
        if order.pool:
            self._take(order.pool)
        if order.work:
            trial.advance(order.work)
            return self._done()
        end, steps = time.monotonic() + order.seconds, trial.counts.train_steps + order.steps
        while True:
            trial.evaluate_cohort()
            due = self._migration_due()
            if due or trial.ended or trial.counts.train_steps >= steps or time.monotonic() >= end:
                break
        offer = self._offer() if due else None
        return self._done(offer, order.save)

    def save(self) -> Done:
        """Ends the cohorts under way; returns what the trial can be resumed from."""
        return self._done(None, True)

    def candidates(self, count: int) -> list[list[Entry]]:
        """The `count` best programs on each kind of tasks."""
        return [self.trial.candidates_of_kind(kind, count) for kind in range(len(self.trial.halls))]

    def candidates_tree(self, count: int) -> list[Any]:
        """The same, encoded."""
        return [encode(kind, Entries) for kind in self.candidates(count)]

    def population(self) -> Population:
        """Its programs that were evaluated."""
        return Population(self.trial.fitness, self.trial.hashes)

    def _done(self, offer: bytes | None = None, save: bool = False) -> Done:
        trial = self.trial
        if save:
            trial.settle()  # before it is counted
        new, cohorts = trial.new_counts(), trial.cohorts - self._cohorts
        self._cohorts = trial.cohorts
        population = self.population() if self.index is not None else None
        best, exhausted = trial.best_fitness, trial.exhausted
        return Done(new, cohorts, best, exhausted, population, offer, self.saved() if save else None)

    def saved(self) -> Saved:
        """What the trial can be resumed from; cohorts under way are left out."""
        trial = self.trial
        entries = encode([entry._replace(trial=trial.number) for entry in trial.entries()], Entries)
        return Saved(Part(trial.tree()), Part(entries), trial.best_fitness, trial.exhausted)

    def _migration_due(self) -> bool:
        trial = self.trial
        started = all(state.evaluations for state in trial.states)  # a group may end before another has begun
        return started and 0 < self.migrate_every <= trial.evaluations - trial.migrations * self.migrate_every

    def _offer(self) -> bytes:
        trial = self.trial
        trial.settle()
        trial.migrations = trial.evaluations // self.migrate_every
        assert isinstance(trial.searcher, Islands)
        return files.packed(encode(trial.searcher.offered(trial.states, self._generator(0))))

    def _take(self, pool: tuple[bytes, ...]) -> None:
        trial = self.trial
        trial.settle()
        if not all(state.evaluations for state in trial.states):
            return
        assert isinstance(trial.searcher, Islands)
        offers = [trial.searcher.offer_from(files.unpacked(packed), "migrants") for packed in pool]
        trial.states = trial.searcher.taken(trial.states, offers, self._generator(1))

    def _generator(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.trial.seed, self.trial.migrations, purpose])


def _share(config: RunConfig) -> RunConfig:
    """The config of one worker of several: its share of the islands on a thread or a device of its own."""
    schedule = config.schedule
    alone = {"workers": 0, "threads": schedule.threads or 1, "devices": 0}
    # Within a trial nothing migrates: offers go through the crew.
    return config.replace(
        searcher=part(config.searcher, schedule.workers), migrate_every=0, out=None, tensorboard=False, **alone
    )
