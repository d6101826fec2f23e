"""One actor's share of a search: some of the islands, on a thread or a GPU of their own.

A plain class, so that it runs without Ray, too. What it is told and what it answers are numbers, arrays and bytes.
"""

import dataclasses
import os
import time
from typing import NamedTuple

import numpy as np

from zero_jax.evaluation import Counts
from zero_jax.run.config import Experiment
from zero_jax.run.hall import entries_tree
from zero_jax.run.runner import strand_of
from zero_jax.run.strands import Strand
from zero_jax.search import Islands
from zero_jax.support import files
from zero_jax.support.codec import encode


class Order(NamedTuple):
    """What an actor is to do next.

    Attributes:
      seconds: how long to go on, a cohort at least.
      steps: how many train steps to end after, earlier than that.
      keep: whether to write down where its search is.
      pool: what actors have offered to each other, if it is to take from it first: packed individuals.
    """

    seconds: float
    steps: int
    keep: bool = False
    pool: tuple[bytes, ...] = ()


class Kept(NamedTuple):
    """What an actor's search goes on from.

    Attributes:
      checkpoint: `Strand.tree`, packed.
      entries: of its halls of fame, packed.
      best_fitness: on T_search.
    """

    checkpoint: bytes
    entries: bytes
    best_fitness: float


class Done(NamedTuple):
    """What an actor did. Axes: `I` islands of its own, `P` programs each.

    Attributes:
      counts: what became of the programs since it last answered.
      cohorts: how many it evaluated since then.
      best_fitness: the best on T_search so far.
      fitness: `[I, P]` of its programs.
      hashes: `[I * P]` of their canonical forms.
      offer: what it offers to other islands, if it is time: packed individuals.
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
    """What an actor has found in an experiment.

    Attributes:
      candidates: for T_select, those of each kind of tasks, packed.
      counts: what became of programs since it last answered.
      kept: where its search ended.
    """

    candidates: bytes
    counts: Counts
    kept: Kept


class Share:
    """The islands of one actor.

    Args:
      experiment: the whole.
      index: of the actor, from 0.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> whole = dataclasses.replace(PRESETS["teacher"][1], islands=2, actors=2, population=10, cohort=5)
      >>> share = Share(whole, 0)
      >>> share.begin(1)
      >>> share.advance(Order(seconds=0.0, steps=1)).fitness.shape  # one island of two: its first population
      (1, 10)
    """

    def __init__(self, experiment: Experiment, index: int) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share a GPU
        self.index = index
        self.experiment = dataclasses.replace(
            experiment,
            islands=experiment.islands // experiment.actors,
            actors=0,
            threads=experiment.threads or 1,
            devices=0,
            migrate_every=0,  # within a strand; here it goes through whoever gives orders
            out=None,
            tensorboard=False,
        )
        self.migrate_every = experiment.migrate_every * self.experiment.islands
        self.strand: Strand | None = None
        self._cohorts = 0

    def begin(self, number: int, checkpoint: bytes | None = None) -> None:
        """Begins the experiment of that number, or goes on with it. All actors have one T_search, and each a generator
        of its own.
        """
        seed = self.experiment.derived_seed(f"search of actor {self.index}", number)
        self.strand = strand_of(self.experiment, number, seed)
        if checkpoint is not None:
            self.strand.restore(files.unpacked(checkpoint))
        self._cohorts = self.strand.cohorts

    def advance(self, order: Order) -> Done:
        """Goes on with the experiment for a while."""
        strand = self._strand()
        if order.pool:
            self._take(order.pool)
        end, steps = time.monotonic() + order.seconds, strand.counts.train_steps + order.steps
        while True:
            strand.evaluate_cohort()
            due = self._migration_due(strand)
            if due or strand.ended or strand.counts.train_steps >= steps or time.monotonic() >= end:
                break
        offer = self._offer() if due else None
        if order.keep:
            strand.settle()  # before it is counted
        new, cohorts = strand.new_counts(), strand.cohorts - self._cohorts
        self._cohorts = strand.cohorts
        best = strand.best_fitness
        kept = self._keep() if order.keep else None
        return Done(new, cohorts, best, strand.fitness, strand.hashes, offer, kept, strand.exhausted)

    def found(self, count: int) -> Found | None:
        """The `count` best programs of each kind of tasks, and the halls of fame; None before there is anything."""
        strand = self._strand()
        strand.settle()
        if not all(state.evaluations for state in strand.states):
            return None
        candidates = [entries_tree(strand.candidates_of_kind(kind, count)) for kind in range(len(strand.halls))]
        counts = strand.new_counts()
        return Found(files.packed(candidates), counts, self._keep())

    def _strand(self) -> Strand:
        assert self.strand is not None, "begin comes first"
        return self.strand

    def _keep(self) -> Kept:
        strand = self._strand()
        strand.settle()
        entries = [entry._replace(experiment=strand.number) for entry in strand.entries()]
        return Kept(files.packed(strand.tree()), files.packed(entries_tree(entries)), strand.best_fitness)

    def _migration_due(self, strand: Strand) -> bool:
        told = all(state.evaluations for state in strand.states)  # a group may end before another has begun
        return told and 0 < self.migrate_every <= strand.evaluations - strand.migrations * self.migrate_every

    def _offer(self) -> bytes:
        strand = self._strand()
        strand.settle()
        strand.migrations = strand.evaluations // self.migrate_every
        assert isinstance(strand.searcher, Islands)
        return files.packed(encode(strand.searcher.offered(strand.states, self._generator(0))))

    def _take(self, pool: tuple[bytes, ...]) -> None:
        strand = self._strand()
        strand.settle()
        if not all(state.evaluations for state in strand.states):
            return
        assert isinstance(strand.searcher, Islands)
        offers = [strand.searcher.offer_from(files.unpacked(one), "migrants") for one in pool]
        strand.states = strand.searcher.taken(strand.states, offers, self._generator(1))

    def _generator(self, purpose: int) -> np.random.Generator:
        strand = self._strand()
        return np.random.default_rng([strand.seed, strand.migrations, purpose])
