"""Trials under way: each has its own tasks, population, generator and evaluator."""

import dataclasses
import functools
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from zero_jax.evaluation import Candidates, Counts, Evaluator, Scores
from zero_jax.program.memory import Interface
from zero_jax.run.hall import Entry, HallOfFame, entries_from, entries_tree
from zero_jax.search import Best, HasLineage, HasPopulation, Islands, Searcher
from zero_jax.support.checked import Fields
from zero_jax.support.codec import decode, encode

WORK_PER_ROUND = 100_000
"""Trials that run in parallel wait for each other after so much work (`_work`), some 70 ms on a core: seldom, since
waking a thread takes time, and often, since one that has found something waits for the others."""


def _work(counts: Counts) -> float:
    """How much work it was, in programs asked for: as fitted to searches for linear regression, where cohorts differ by
    a sixth in the time they take, and by a fifteenth in the time for this much work. It must not depend on a clock.
    """
    return counts.considered + 3 * (counts.evaluated + counts.equivalent) + counts.train_steps / 250


EXHAUSTED = 1_000_000
"""After so many programs in a row none of which had to be trained, nothing new is left."""

COHORTS_PER_CHECKPOINT, STEPS_PER_CHECKPOINT = 50, 10_000_000_000
"""Groups of islands wait for each other after so many cohorts of each, or so many train steps, so that a checkpoint can
be written: seldom enough to cost less than 2%, and counted, not timed, since the order of cohorts depends on it. They
also do after the first cohort of each, so that there soon is a checkpoint."""


_STORED = (
    *("number", "cohorts", "owed", "trained_at", "idle", "counted", "migrations"),
    *("states", "evaluators", "halls"),
)
"""What `Trial.tree` tells."""


def _difference(now: Counts, before: Counts) -> Counts:
    return Counts(*(a - b for a, b in zip(now, before, strict=True)))


class _Cohort(NamedTuple):
    """Programs that a device is evaluating: of which group of islands, and the evaluator's steps."""

    group: int
    candidates: Candidates
    steps: Generator[None, None, Scores]


@dataclasses.dataclass(frozen=True)
class Terms:
    """How a trial goes on, and when it ends.

    Attributes:
      train_steps: Its budget.
      sufficient_fitness: It ends as soon as its best program exceeds this.
      groups: How many groups of islands there are. While a device evaluates the programs of one, the host selects and
        mutates those of the next; the order does not depend on how long anything takes.
      migrate_every: After how many programs of all islands these exchange programs; 0 for never. All groups wait for
        each other then.
    """

    train_steps: int = 10**18
    sufficient_fitness: float = 2.0
    groups: int = 1
    migrate_every: int = 0


class Trial:
    """A search under way.

    Args:
      number: of the trial.
      searcher: of one group of islands.
      seed: of the search.
      evaluators: of its T_search; or several, each of other tasks, which groups of islands take in turn.
      terms: how it goes on, and when it ends.
    """

    def __init__(
        self, number: int, searcher: Searcher, seed: int, evaluators: Sequence[Evaluator], terms: Terms
    ) -> None:
        self.number = number
        self.searcher = searcher
        self.seed = seed
        self.evaluators = evaluators
        interface = Interface.of(searcher.space.memory, evaluators[0].tasks)
        self.halls = [HallOfFame(one.examples, one.costs, interface=interface) for one in evaluators]
        self.terms = terms
        self.groups = terms.groups
        self.migrations = 0
        self.cohorts = 0
        self.owed = 0.0
        self._trained_at = 0, 0
        self._idle = deque(range(terms.groups))
        self._under_way: deque[_Cohort] = deque()
        self._counted = Counts()
        self._settled_at = 0, 0
        self._settling = False

    @functools.cached_property
    def states(self) -> list[Any]:
        """Where the search of each group is: first asked for, and so drawn, by the thread that advances it."""
        seeds = [self.seed, *np.random.SeedSequence(self.seed).generate_state(self.groups - 1).tolist()]
        return [self.searcher.init(seed) for seed in seeds]

    @property
    def counts(self) -> Counts:
        """Of all evaluators."""
        if len(self.evaluators) == 1:
            return self.evaluators[0].counts
        return Counts(*map(sum, zip(*(evaluator.counts for evaluator in self.evaluators), strict=True)))

    @property
    def best(self) -> Best | None:
        """The best program of all groups."""
        return self._best_of(self.states)

    def _best_of(self, states: Sequence[Any]) -> Best | None:
        known = [best for best in map(self.searcher.best, states) if best is not None]
        return max(known, key=lambda best: best.fitness, default=None)

    @property
    def best_fitness(self) -> float:
        """Its fitness; -inf before the first evaluation."""
        return self.best.fitness if self.best else -np.inf

    @property
    def evaluations(self) -> int:
        """How many programs have been told."""
        return sum(state.evaluations for state in self.states)

    @property
    def populations(self) -> list[HasPopulation]:
        """Those whose first programs have been evaluated, if the search has populations."""
        return [state for state in self.states if state.evaluations and isinstance(state, HasPopulation)]

    @property
    def fitness(self) -> np.ndarray:
        """`[I, P]` of all islands whose first programs have been evaluated."""
        return np.concatenate([state.fitness for state in self.populations])

    @property
    def hashes(self) -> np.ndarray:
        """`[I * P]` of their canonical forms."""
        return np.concatenate([state.hashes for state in self.populations])

    @property
    def ended(self) -> bool:
        """Whether the budget is spent, the fitness sufficient, or nothing new is left."""
        spent = self.counts.train_steps >= self.terms.train_steps or self.exhausted
        return self.evaluations > 0 and (spent or self.best_fitness > self.terms.sufficient_fitness)

    @property
    def exhausted(self) -> bool:
        """Whether none of so many programs in a row was new that the search has nothing new to ask for."""
        if all(self.searcher.exhausted(state) for state in self.states):
            return True
        return self.evaluations - self._trained_at[0] >= EXHAUSTED

    def advance(self, work: float) -> None:
        """Evaluates cohorts worth so much work, less if it ends; what it did too much counts next time."""
        self.owed += work
        while self.owed > 0 and not self.ended:
            before = self.counts
            self.evaluate_cohort()
            self.owed -= _work(_difference(self.counts, before))

    def evaluate_cohort(self) -> None:
        """Asks for programs, evaluates them, and tells their fitness: one cohort's, while others are under way."""
        told = self.cohorts
        while self.cohorts == told:
            if self._idle and not self._settling:
                group = self._idle.popleft()
                self.states[group], candidates = self.searcher.ask(self.states[group])
                evaluator = self.evaluators[group % len(self.evaluators)]
                self._step(_Cohort(group, candidates, evaluator.steps(candidates)))
            else:
                self._step(self._under_way.popleft())

    def _step(self, cohort: _Cohort) -> None:
        """Gives a device the next work for a cohort, or ends it."""
        try:
            next(cohort.steps)
        except StopIteration as end:
            self._end(cohort, end.value)
        else:
            self._under_way.append(cohort)

    def _end(self, cohort: _Cohort, scores: Scores) -> None:
        asked = self.states[cohort.group]
        self.states[cohort.group] = self.searcher.tell(asked, cohort.candidates, scores)
        self._offer(cohort, asked, scores)
        self.cohorts += 1
        self._idle.append(cohort.group)
        steps = self.counts.train_steps
        if steps > self._trained_at[1]:
            self._trained_at = self.evaluations, steps
        if self.settled:
            self._migrate()
            self._settling, self._settled_at = False, (self.cohorts, steps)
        cohorts_since, steps_since = self.cohorts - self._settled_at[0], steps - self._settled_at[1]
        often = COHORTS_PER_CHECKPOINT if self._settled_at[0] else 1
        if cohorts_since >= often * self.groups or steps_since >= STEPS_PER_CHECKPOINT:
            self._settling = True
        if self._migration_due() and not self.settled:
            self._settling = True

    def _offer(self, cohort: _Cohort, asked: Any, scores: Scores) -> None:
        """Shows a cohort's new programs to the hall of fame."""
        lines = asked.origins(scores.fresh) if isinstance(asked, HasLineage) else None
        hall = self.halls[cohort.group % len(self.halls)]
        hall.offer_scored(cohort.candidates, scores, self.states[cohort.group].evaluations, lines)

    def _migration_due(self) -> bool:
        told = all(state.evaluations for state in self.states)  # a group may end before another has begun
        return (
            self.terms.migrate_every > 0
            and told
            and self.evaluations >= (self.migrations + 1) * self.terms.migrate_every
        )

    def _migrate(self) -> None:
        """Islands exchange programs, if it is time; how depends on the seed and how often they did."""
        if self._migration_due():
            self.migrations = self.evaluations // self.terms.migrate_every
            rng = np.random.default_rng([abs(self.seed), self.migrations])
            assert isinstance(self.searcher, Islands)
            self.states = self.searcher.migrate(self.states, rng)

    def candidates(self, count: int) -> list[Entry]:
        """The best program on each kind of tasks, as evolution left it, and the next best, up to `count` of each kind;
        of a kind whose first programs have not been told yet, none.
        """
        return [entry for kind in range(len(self.halls)) for entry in self.candidates_of_kind(kind, count)]

    def candidates_of_kind(self, kind: int, count: int) -> list[Entry]:
        """Those on one kind of tasks, the best first."""
        hall = self.halls[kind]
        first = self._best_of(self.states[kind :: len(self.halls)])
        if first is None:
            return []
        best = hall.entry(first)
        return [best, *(entry for entry in hall.entries() if entry.fitness < best.fitness)][:count]

    def entries(self) -> list[Entry]:
        """All that its halls of fame hold."""
        return [entry for hall in self.halls for entry in hall.entries()]

    @property
    def settled(self) -> bool:
        """Whether no cohort is under way: only then can a search be written down."""
        return not self._under_way

    def settle(self) -> None:
        """Ends the cohorts under way, and begins none."""
        while self._under_way:
            self._step(self._under_way.popleft())

    def tree(self) -> dict[str, Any]:
        """All that the search continues from, as `files.packed` takes it. Cohorts under way are left out; their groups
        are idle.
        """
        return {
            "number": self.number,
            "cohorts": self.cohorts,
            "owed": self.owed,
            "trained_at": list(self._trained_at),
            "idle": [*self._idle, *(cohort.group for cohort in self._under_way)],
            "counted": encode(self._counted),
            "migrations": self.migrations,
            "states": [encode(state) for state in self.states],
            "evaluators": [evaluator.tree() for evaluator in self.evaluators],
            "halls": [entries_tree(hall.entries()) for hall in self.halls],
        }

    def restore(self, tree: Any, where: str = "search") -> None:
        """Goes on from what `tree` told of a trial with the same arguments.

        Raises:
          ValueError: saying what in it, as errors call it, is damaged or of another search; this trial is then of no
            more use.
        """
        told = Fields(tree, where, _STORED)
        if told.whole("number") != self.number:
            raise ValueError(f"{told.where('number')} is {told['number']}, not {self.number}")
        states = [self.searcher.restored(*state) for state in told.items("states", self.groups)]
        for kind, evaluator in enumerate(self.evaluators):
            evaluator.restore(*told.items("evaluators", len(self.evaluators))[kind])
            tree_of_hall, name = told.items("halls", len(self.halls))[kind]
            self.halls[kind].restore(entries_from(tree_of_hall, self.searcher.space, name))
        idle = told.wholes("idle", self.groups)
        if sorted(idle) != list(range(self.groups)):
            raise ValueError(f"{told.where('idle')} is {idle}, not each of {self.groups} groups once")
        counted = decode(Counts, told["counted"], told.where("counted"))
        if any(before > now for before, now in zip(counted, self.counts, strict=True)):
            raise ValueError(f"{told.where('counted')} has more than the evaluators have")
        self.states, self._idle, self._counted = states, deque(idle), counted
        evaluations, steps = told.wholes("trained_at", 2)
        self._trained_at = evaluations, steps
        self.cohorts, self.owed, self.migrations = told.whole("cohorts"), told.number("owed"), told.whole("migrations")
        self._settled_at = self.cohorts, self.counts.train_steps

    def new_counts(self) -> Counts:
        """What was counted since this was last asked for."""
        now = self.counts
        new = _difference(now, self._counted)
        self._counted = now
        return new


def record_due(cohorts: int, recorded: int) -> bool:
    """Whether there is to be a record after so many cohorts, the last having been made after `recorded`."""
    step = 10
    while cohorts >= step * 100:
        step *= 10
    return cohorts // step > recorded // step


def population_record(fitness: np.ndarray, hashes: np.ndarray) -> dict[str, Any]:
    """Quantiles of all fitnesses `[I, P]` and of each island's, and how many programs are different, by the `hashes`
    `[n]` of their canonical forms, for a record.
    """
    points = (0, 0.25, 0.5, 0.75, 1)
    return {
        "quantiles": tuple(np.quantile(fitness, points).tolist()),
        "islands": tuple(tuple(np.quantile(island, points).tolist()) for island in fitness),
        "diversity": len(np.unique(hashes)) / len(hashes),
    }
