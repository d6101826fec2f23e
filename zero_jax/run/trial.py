"""Trials under way: each has its own tasks, population, generator and evaluator."""

import dataclasses
import functools
from collections import deque
from collections.abc import Generator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from zero_jax.evaluation import Candidates, Counts, Evaluator, Scores
from zero_jax.program.memory import Interface
from zero_jax.run.hall import Entries, Entry, HallOfFame
from zero_jax.search import Best, HasLineage, HasNiches, HasPopulation, Islands, Searcher
from zero_jax.support.codec import Count, Length, Part, decode, encode


def _work(counts: Counts) -> float:
    """The work behind these counts, in units of one program. The weights were fitted to searches for linear regression,
    where cohorts differ by a sixth in time and by a fifteenth in time per work. It must not depend on a clock.
    """
    return counts.considered + 3 * (counts.evaluated + counts.equivalent) + counts.train_steps / 250


EXHAUSTED = 1_000_000
"""A search that asks for this many programs in a row without any to train has nothing new left."""

COHORTS_PER_CHECKPOINT, STEPS_PER_CHECKPOINT = 50, 10_000_000_000
"""Groups of islands wait for each other after this many cohorts of each, or train steps, so that a checkpoint can be
written. That costs less than 2%. It is counted, not timed, since the order of cohorts depends on it. They also wait
after the first cohort of each, for an early checkpoint."""


class _Stored(NamedTuple):
    """What a `Trial` is restored from: `G` groups of islands, `V` task variants."""

    number: int
    cohorts: Count
    owed: float
    trained_at: tuple[Count, Count]
    idle: Annotated[tuple[Count, ...], Length("G")]
    counted: Counts
    migrations: Count
    states: Annotated[tuple[Part, ...], Length("G")]
    evaluators: Annotated[tuple[Part, ...], Length("V")]
    halls: Annotated[tuple[Entries, ...], Length("V")]


def _difference(now: Counts, before: Counts) -> Counts:
    return Counts(*(a - b for a, b in zip(now, before, strict=True)))


class _Cohort(NamedTuple):
    """Programs that a device is evaluating, the group of islands they belong to, and the evaluator's steps."""

    group: int
    candidates: Candidates
    steps: Generator[None, None, Scores]


@dataclasses.dataclass(frozen=True)
class Terms:
    """The settings of a trial.

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
      terms: its settings.
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
        """The search state of each group, first drawn by the thread that advances the trial."""
        seeds = [self.seed, *np.random.SeedSequence(self.seed).generate_state(self.groups - 1).tolist()]
        return [self.searcher.init(seed) for seed in seeds]

    @functools.cached_property
    def _has_lineage(self) -> bool:  # checking a protocol takes as long as a hundred calls
        return isinstance(self.states[0], HasLineage)

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
        """How many programs have been evaluated."""
        return sum(state.evaluations for state in self.states)

    @property
    def populations(self) -> list[HasPopulation]:
        """Those whose first programs have been evaluated, if the search has populations."""
        return [state for state in self.states if state.evaluations and isinstance(state, HasPopulation)]

    @property
    def fitness(self) -> np.ndarray:
        """`[I, P]` of all islands whose first programs have been evaluated; `[0, 0]` without a population."""
        return np.concatenate([state.fitness for state in self.populations] or [np.zeros((0, 0))])

    @property
    def hashes(self) -> np.ndarray:
        """`[I * P]` of their canonical forms."""
        return np.concatenate([state.hashes for state in self.populations] or [np.zeros(0, np.uint64)])

    @property
    def ended(self) -> bool:
        """Whether the budget is spent, the fitness sufficient, or nothing new is left."""
        spent = self.counts.train_steps >= self.terms.train_steps or self.exhausted
        return self.evaluations > 0 and (spent or self.best_fitness > self.terms.sufficient_fitness)

    @property
    def exhausted(self) -> bool:
        """Whether the search has no new programs left to ask for."""
        if all(self.searcher.exhausted(state) for state in self.states):
            return True
        return self.evaluations - self._trained_at[0] >= EXHAUSTED

    def advance(self, work: float) -> None:
        """Evaluates cohorts worth this much work, or fewer if the trial ends. Excess work counts next time."""
        self.owed += work
        while self.owed > 0 and not self.ended:
            before = self.counts
            self.evaluate_cohort()
            self.owed -= _work(_difference(self.counts, before))

    def evaluate_cohort(self) -> None:
        """Completes one cohort (ask, evaluate, tell), while others are under way."""
        before = self.cohorts
        while self.cohorts == before:
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
        lines = asked.origins(scores.fresh) if self._has_lineage else None
        hall = self.halls[cohort.group % len(self.halls)]
        hall.offer_scored(cohort.candidates, scores, self.states[cohort.group].evaluations, lines)

    def _migration_due(self) -> bool:
        begun = all(state.evaluations for state in self.states)  # a group may end before another has begun
        return (
            self.terms.migrate_every > 0
            and begun
            and self.evaluations >= (self.migrations + 1) * self.terms.migrate_every
        )

    def _migrate(self) -> None:
        """Lets islands exchange programs if it is time. The draw depends on the seed and the number of the exchange."""
        if self._migration_due():
            self.migrations = self.evaluations // self.terms.migrate_every
            rng = np.random.default_rng([self.seed, self.migrations])
            assert isinstance(self.searcher, Islands)
            self.states = self.searcher.migrate(self.states, rng)

    def candidates(self, count: int) -> list[Entry]:
        """Up to `count` of the best programs on each task variant, as evolution left them; none on a variant whose
        first programs have not been evaluated yet.
        """
        return [entry for kind in range(len(self.halls)) for entry in self.candidates_of_kind(kind, count)]

    def candidates_of_kind(self, kind: int, count: int) -> list[Entry]:
        """Those on one task variant, the best first."""
        hall = self.halls[kind]
        states = self.states[kind :: len(self.halls)]
        first = self._best_of(states)
        if first is None:
            return []
        best = hall.entry(first)
        found = [*hall.entries(), *(hall.entry(one) for one in self._of_niches(states))]
        others = {(entry.fitness, entry.cost): entry for entry in found if entry.fitness < best.fitness}
        return [best, *sorted(others.values(), key=lambda entry: -entry.fitness)][:count]

    def _of_niches(self, states: Sequence[Any]) -> list[Best]:
        """The best program of each niche, where the search has niches: more different than the best of all."""
        if not isinstance(self.searcher, HasNiches):
            return []
        return [best for state in states for best in self.searcher.best_of_niches(state)]

    def entries(self) -> list[Entry]:
        """All that its halls of fame hold."""
        return [entry for hall in self.halls for entry in hall.entries()]

    @property
    def settled(self) -> bool:
        """Whether no cohort is under way. Only then can a checkpoint be written."""
        return not self._under_way

    def settle(self) -> None:
        """Completes the cohorts under way and starts none."""
        while self._under_way:
            self._step(self._under_way.popleft())

    def tree(self) -> dict[str, Any]:
        """The state of the trial, for `files.packed`. Cohorts under way are left out; their groups count as idle."""
        stored = _Stored(
            self.number,
            self.cohorts,
            self.owed,
            self._trained_at,
            (*self._idle, *(cohort.group for cohort in self._under_way)),
            self._counted,
            self.migrations,
            tuple(Part(encode(state)) for state in self.states),
            tuple(Part(evaluator.tree()) for evaluator in self.evaluators),
            tuple(hall.entries() for hall in self.halls),
        )
        return encode(stored)

    def restore(self, tree: Any, where: str = "search") -> None:
        """Restores what `tree` returned for a trial with the same arguments.

        Raises:
          ValueError: the tree is damaged or belongs to another search. The trial cannot be used afterwards.
        """
        axes = {"G": self.groups, "V": len(self.evaluators)}
        stored = decode(_Stored, tree, where, axes, like=self.searcher.space)
        if stored.number != self.number:
            raise ValueError(f"{where}.number is {stored.number}, not {self.number}")
        if sorted(stored.idle) != list(range(self.groups)):
            raise ValueError(f"{where}.idle is {list(stored.idle)}, not each of {self.groups} groups once")
        self.states = [self.searcher.restored(*state) for state in stored.states]
        for evaluator, part in zip(self.evaluators, stored.evaluators, strict=True):
            evaluator.restore(*part)
        for hall, entries in zip(self.halls, stored.halls, strict=True):
            hall.restore(entries)
        if any(before > now for before, now in zip(stored.counted, self.counts, strict=True)):
            raise ValueError(f"{where}.counted has more than the evaluators have")
        self._idle, self._counted, self._trained_at = deque(stored.idle), stored.counted, stored.trained_at
        self.cohorts, self.owed, self.migrations = stored.cohorts, stored.owed, stored.migrations
        self._settled_at = self.cohorts, self.counts.train_steps

    def new_counts(self) -> Counts:
        """The counts since the last call."""
        now = self.counts
        new = _difference(now, self._counted)
        self._counted = now
        return new


def record_due(cohorts: int, recorded: int) -> bool:
    """Whether a record is due after this many cohorts, if the last was written after `recorded`."""
    step = 10
    while cohorts >= step * 100:
        step *= 10
    return cohorts // step > recorded // step


def population_record(fitness: np.ndarray, hashes: np.ndarray) -> dict[str, Any]:
    """The part of a record on the population: quantiles of the fitness `[I, P]`, of all and of each island, and the
    share of distinct programs, by the `hashes` `[n]` of their canonical forms.
    """
    points = (0, 0.25, 0.5, 0.75, 1)
    if not fitness.size:  # a search without a population
        return {}
    return {
        "quantiles": tuple(np.quantile(fitness, points).tolist()),
        "islands": tuple(tuple(np.quantile(island, points).tolist()) for island in fitness),
        "diversity": len(np.unique(hashes)) / len(hashes),
    }
