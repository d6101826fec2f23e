"""One worker's share of a search: some of the islands, on a thread or a GPU of their own.

A plain class, so that it runs without Ray, too. What it is told and what it answers are numbers, arrays and bytes.
"""

import os
import time
from typing import NamedTuple

import numpy as np

from zero_jax.evaluation.evaluator import Counts
from zero_jax.run import build
from zero_jax.run.config import RunConfig
from zero_jax.run.hall import entries_tree
from zero_jax.run.searchers import islands, part
from zero_jax.run.trial import Trial
from zero_jax.search.operators.migration import Migrants, offered, taken
from zero_jax.support import files


class Order(NamedTuple):
    """What a worker is to do next.

    Attributes:
      seconds: how long to go on, a cohort at least.
      steps: how many train steps to end after, earlier than that.
      keep: whether to write down where its search is.
      pool: what workers have offered to each other, if it is to take from it first: packed `Migrants`.
    """

    seconds: float
    steps: int
    keep: bool = False
    pool: tuple[bytes, ...] = ()


class Kept(NamedTuple):
    """What a worker's search goes on from.

    Attributes:
      checkpoint: `Trial.tree`, packed.
      entries: of its halls of fame, packed.
      best_fitness: on T_search.
    """

    checkpoint: bytes
    entries: bytes
    best_fitness: float


class Done(NamedTuple):
    """What a worker did. Axes: `I` islands of its own, `P` programs each.

    Attributes:
      counts: what became of the programs since it last answered.
      cohorts: how many it evaluated since then.
      best_fitness: the best on T_search so far.
      fitness: `[I, P]` of its programs.
      hashes: `[I * P]` of their canonical forms.
      offer: what it offers to other islands, if it is time: packed `Migrants`.
      kept: if asked for.
      exhausted: whether it finds nothing new to train.
    """

    counts: Counts
    cohorts: int
    best_fitness: float
    fitness: np.ndarray
    hashes: np.ndarray
    offer: bytes | None
    kept: Kept | None
    exhausted: bool


class Found(NamedTuple):
    """What a worker has found in a trial.

    Attributes:
      candidates: for T_select, those of each kind of tasks, packed.
      counts: what became of programs since it last answered.
      kept: where its search ended.
    """

    candidates: bytes
    counts: Counts
    kept: Kept


class Share:
    """The islands of one worker.

    Args:
      config: the whole.
      index: of the worker, from 0.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> whole = PRESETS["teacher"][1].replace(islands=2, workers=2, population=10, cohort=5)
      >>> share = Share(whole, 0)
      >>> share.begin(1)
      >>> share.advance(Order(seconds=0.0, steps=1)).fitness.shape  # one island of two: its first population
      (1, 10)
    """

    def __init__(self, config: RunConfig, index: int) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share a GPU
        self.index = index
        alone = {"workers": 0, "threads": config.schedule.threads or 1, "devices": 0}
        self.config = config.replace(
            searcher=part(config.searcher, config.schedule.workers),
            migrate_every=0,  # within a trial; here it goes through whoever gives orders
            out=None,
            tensorboard=False,
            **alone,
        )
        self.migrate_every = config.schedule.migrate_every * islands(self.config.searcher)
        self.trial: Trial | None = None
        self._cohorts = 0

    def begin(self, number: int, checkpoint: bytes | None = None) -> None:
        """Begins the trial of that number, or goes on with it. All workers have one T_search, and each a generator
        of its own.
        """
        seed = build.derived_seed(self.config, f"search of worker {self.index}", number)
        self.trial = build.trial(self.config, number, seed)
        if checkpoint is not None:
            self.trial.restore(files.unpacked(checkpoint))
        self._cohorts = self.trial.cohorts

    def advance(self, order: Order) -> Done:
        """Goes on with the trial for a while."""
        trial = self._trial()
        if order.pool:
            self._take(order.pool)
        end, steps = time.monotonic() + order.seconds, trial.counts.train_steps + order.steps
        while True:
            trial.evaluate_cohort()
            due = self._migration_due(trial)
            if due or trial.ended or trial.counts.train_steps >= steps or time.monotonic() >= end:
                break
        offer = self._offer() if due else None
        if order.keep:
            trial.settle()  # before it is counted
        new, cohorts = trial.new_counts(), trial.cohorts - self._cohorts
        self._cohorts = trial.cohorts
        best = trial.state.best_fitness
        kept = self._keep() if order.keep else None
        return Done(new, cohorts, best, trial.fitness, trial.hashes, offer, kept, trial.exhausted)

    def found(self, count: int) -> Found | None:
        """The `count` best programs of each kind of tasks, and the halls of fame; None before there is anything."""
        trial = self._trial()
        trial.settle()
        if not all(state.evaluations for state in trial.states):
            return None
        candidates = [entries_tree(trial.candidates_of_kind(kind, count)) for kind in range(len(trial.halls))]
        counts = trial.new_counts()
        return Found(files.packed(candidates), counts, self._keep())

    def _trial(self) -> Trial:
        assert self.trial is not None, "begin comes first"
        return self.trial

    def _keep(self) -> Kept:
        trial = self._trial()
        trial.settle()
        entries = [entry._replace(trial=trial.number) for entry in trial.entries()]
        return Kept(files.packed(trial.tree()), files.packed(entries_tree(entries)), trial.state.best_fitness)

    def _migration_due(self, trial: Trial) -> bool:
        told = all(state.evaluations for state in trial.states)  # a group may end before another has begun
        return told and 0 < self.migrate_every <= trial.evaluations - trial.migrations * self.migrate_every

    def _offer(self) -> bytes:
        trial = self._trial()
        trial.settle()
        trial.migrations = trial.evaluations // self.migrate_every
        return files.packed(offered(trial.states, self._generator(0)).tree())

    def _take(self, pool: tuple[bytes, ...]) -> None:
        trial = self._trial()
        trial.settle()
        if not all(state.evaluations for state in trial.states):
            return
        offers = [Migrants.from_tree(files.unpacked(told), trial.searcher.space) for told in pool]
        trial.states = taken(trial.states, offers, self._generator(1))

    def _generator(self, purpose: int) -> np.random.Generator:
        trial = self._trial()
        return np.random.default_rng([trial.seed, trial.migrations, purpose])
