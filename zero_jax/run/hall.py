"""The hall of fame of a search: its best programs by fitness, and by fitness against cost.

Axes: `P` programs, `T` tasks.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.evaluation.cost import cost, network_cost
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate
from zero_jax.search.base import Best
from zero_jax.search.operators import lineage
from zero_jax.search.operators.lineage import Ancestor, Chains
from zero_jax.support.codec import Array, Known, Length, encode

SCHEMA = 3
"""The version of hall.json and lineage.json."""

SIZE = 20
"""How many programs are kept for their fitness alone."""

Lines = tuple[np.ndarray, np.ndarray]
"""`[n]` the fittest ancestor of each program, and how many generations ago that was."""


class Entry(NamedTuple):
    """A program of the hall of fame.

    Attributes:
      fitness: on T_search.
      cost: to train it, in multiples of the library's 2-layer network.
      evaluations: how many programs had been evaluated by then, its cohort included.
      program: a batch of this one, in canonical form.
      line: the fittest of its ancestors; None if there is none.
      births: how many generations ago that was.
      trial: the number of the trial.
      select_fitness: on T_select; None if it was not judged there.
    """

    fitness: float
    cost: float
    evaluations: int
    program: Programs
    line: Ancestor | None = None
    births: int = 0
    trial: int = 0
    select_fitness: float | None = None


class HallOfFame:
    """Keeps the best programs of one trial that it is offered.

    Of programs with equal fitness, to the bit, the cheapest is kept, and of equally cheap ones the first.

    Args:
      examples: how many training examples one run sees, for the cost.
      table: `[65]` what each op costs.
      size: how many are kept for their fitness alone; the Pareto front comes on top.

    Example:
      >>> from zero_jax.evaluation.cost import UPSTREAM
      >>> from zero_jax.program import library
      >>> hall = HallOfFame(100, UPSTREAM, size=1)
      >>> two = concatenate([library.program(name).resized((6, 9, 2), (3, 5, 11)) for name in ("linear", "network")])
      >>> hall.offer(two, np.array([0.8, 0.9]), hall.costs(two), 2)
      >>> [(entry.fitness, round(entry.cost, 2)) for entry in hall.entries()]  # the cheaper one is on the front
      [(0.9, 1.0), (0.8, 0.26)]
    """

    def __init__(self, examples: int, table: np.ndarray, size: int = SIZE, interface: Interface | None = None) -> None:
        self.examples = examples
        self.table = table
        self.size = size
        self.interface = interface
        self._best: list[Entry] = []
        self._front: list[Entry] = []
        self._index()

    def costs(self, programs: Programs) -> np.ndarray:
        """`[n]` what programs cost to train, in multiples of the library's 2-layer network."""
        return cost(programs, self.examples, self.table) / network_cost(self.examples, self.table)

    def _index(self) -> None:
        """What `offer` compares with, as arrays: the best by fitness, the front by cost, both rising."""
        self._best.sort(key=lambda entry: entry.fitness)
        self._front.sort(key=lambda entry: entry.cost)
        self._best_fitness, self._best_cost = _columns(self._best)
        self._front_fitness, self._front_cost = _columns(self._front)

    def offer_scored(
        self, candidates: Candidates, scores: Scores, evaluations: int, lines: Lines | None = None
    ) -> None:
        """Takes in the fresh candidates that are good enough, in canonical form; `lines` are theirs."""
        fresh = scores.fresh
        self.offer(candidates.forms.programs, scores.combined[fresh], scores.cost[fresh], evaluations, lines, fresh)

    def offer(
        self,
        programs: Programs,
        fitness: np.ndarray,
        costs: np.ndarray,
        evaluations: int,
        lines: Lines | None = None,
        which: np.ndarray | None = None,
    ) -> None:
        """Takes in those of `n` programs that are good enough.

        Args:
          programs: programs in canonical form.
          fitness: `[n]` of all tasks together.
          costs: `[n]` as `costs` returns them.
          evaluations: how many programs had been evaluated.
          lines: what they descend from.
          which: `[n]` which of the programs are offered; by default all.
        """
        which = np.arange(len(fitness)) if which is None else which
        worthy = np.flatnonzero((fitness > 0) & self._is_worthy(fitness, costs))
        worthy = worthy[np.argsort(-fitness[worthy], kind="stable")]  # the best first: fewer are taken to be dropped
        while len(worthy):
            i, rest = worthy[0], worthy[1:]
            line, births = (lines[0][i], int(lines[1][i])) if lines else (None, 0)
            one = programs[which[i : i + 1]]  # a copy
            self._take(Entry(float(fitness[i]), float(costs[i]), evaluations, one, line, births))
            worthy = rest[self._is_worthy(fitness[rest], costs[rest])]

    def _is_worthy(self, fitness: np.ndarray, costs: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self._best_fitness, fitness).clip(max=max(0, len(self._best) - 1))
        if len(self._best):
            equal = self._best_fitness[place] == fitness
            full = len(self._best) >= self.size
            better = np.where(equal, costs < self._best_cost[place], (fitness > self._best_fitness[0]) | (not full))
        else:
            better = np.ones(len(fitness), bool)
        cheaper = np.searchsorted(self._front_cost, costs, side="right") - 1
        beaten = np.concatenate([self._front_fitness, [-np.inf]])[cheaper]  # -1: nothing is cheaper
        return better | (fitness > beaten)

    def _take(self, entry: Entry) -> None:
        self._best = _fittest([*self._best, entry], self.size)
        self._front = _pareto([*self._front, entry])
        self._index()

    def entry(self, best: Best) -> Entry:
        """The entry of the best program of a search, dead code included."""
        costs = self.costs(pruned(best.program, self.interface))
        last = best.ancestor
        line, births = (last.before, last.births) if last else (None, 0)
        return Entry(best.fitness, float(costs[0]), best.evaluations, best.program, line, births)

    def entries(self) -> list[Entry]:
        """All of them, the best first."""
        kept = {id(entry): entry for entry in (*self._best, *self._front)}
        return sorted(kept.values(), key=lambda entry: (-entry.fitness, entry.cost))

    def restore(self, entries: Sequence[Entry]) -> None:
        """Continues from what `entries` returned."""
        self._best, self._front = _fittest(list(entries), self.size), _pareto(list(entries))
        self._index()


def merged(entries: list[Entry], size: int = SIZE) -> list[tuple[Entry, bool, bool]]:
    """The hall of fame of several trials: entries, the best first, whether each is among the `size` fittest, and
    whether it is on the front. Of those judged on T_select the `size` fittest there stay, too.
    """
    best = {id(entry) for entry in _fittest(entries, size)}
    front = {id(entry) for entry in _pareto(entries)}
    judged = [entry for entry in entries if entry.select_fitness is not None]
    judged.sort(key=lambda entry: (-(entry.select_fitness or 0.0), -entry.fitness, entry.cost))
    chosen = best | front | {id(entry) for entry in judged[:size]}
    kept = [entry for entry in entries if id(entry) in chosen]
    return [(e, id(e) in best, id(e) in front) for e in sorted(kept, key=lambda e: (-e.fitness, e.cost))]


def _fittest(entries: list[Entry], size: int) -> list[Entry]:
    kept: dict[float, Entry] = {}
    for entry in entries:
        if entry.fitness not in kept or entry.cost < kept[entry.fitness].cost:
            kept[entry.fitness] = entry
    return sorted(kept.values(), key=lambda entry: -entry.fitness)[:size]


def _pareto(entries: list[Entry]) -> list[Entry]:
    """Those than which none is as fit and as cheap; of equals the first."""
    kept: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.cost, -entry.fitness)):
        if not kept or entry.fitness > kept[-1].fitness:
            kept.append(entry)
    return kept


def _columns(entries: list[Entry]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([e.fitness for e in entries]), np.array([e.cost for e in entries])


class _Stored(NamedTuple):
    """Entries by column; `select_fitness` is NaN where there is none."""

    fitness: Annotated[np.ndarray, Array(np.float64, ("n",))]
    cost: Annotated[np.ndarray, Array(np.float64, ("n",), least=0)]
    evaluations: Annotated[np.ndarray, Array(np.int64, ("n",), least=0)]
    births: Annotated[np.ndarray, Array(np.int64, ("n",), least=0)]
    trial: Annotated[np.ndarray, Array(np.int64, ("n",), least=0)]
    select_fitness: Annotated[np.ndarray, Array(np.float64, ("n",), finite=False)]
    lines: Annotated[np.ndarray, Chains("n")]
    programs: Annotated[Programs | None, Length("n")]

    def validate(self) -> None:
        """Refuses entries without programs."""
        if (self.programs is None) != (len(self.fitness) == 0) or np.isinf(self.select_fitness).any():
            raise ValueError("programs are missing, or a fitness is not finite")


_NUMBERS = {"fitness": float, "cost": float, "evaluations": int, "births": int, "trial": int}


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The coder of `Entries`."""

    def encode(self, entries: Sequence[Entry]) -> Any:
        columns = {
            name: np.array([getattr(entry, name) for entry in entries], np.float64 if kind is float else np.int64)
            for name, kind in _NUMBERS.items()
        }
        select = np.array([np.nan if e.select_fitness is None else e.select_fitness for e in entries], np.float64)
        lines = np.empty(len(entries), object)
        lines[:] = [entry.line for entry in entries]
        programs = concatenate([entry.program for entry in entries]) if entries else None
        return encode(_Stored(**columns, select_fitness=select, lines=lines, programs=programs))

    def decode(self, tree: Any, where: str, known: Known) -> list[Entry]:
        stored = known.decode(_Stored, tree, where)
        columns = [getattr(stored, name).tolist() for name in _NUMBERS]
        numbers = [dict(zip(_NUMBERS, row, strict=True)) for row in zip(*columns, strict=True)]
        selected = [None if np.isnan(one) else one for one in stored.select_fitness.tolist()]
        return [
            Entry(program=stored.programs[i], line=stored.lines[i], select_fitness=one, **row)
            for i, (row, one) in enumerate(zip(numbers, selected, strict=True))
        ]


Entries = Annotated[list[Entry], _Columns()]
"""Entries as the codec stores them, by column. `like`, if given, has the capacity and memory of their programs."""


# ---------------------------------------------------------------------------------------------- files


def hall_fields(rows: list[tuple[Entry, bool, bool]], interface: Interface | None = None) -> dict[str, Any]:
    """hall.json: what `merged` gives."""
    return {
        "schema": SCHEMA,
        "interface": interface,
        "rows": [
            {
                "trial": entry.trial,
                "evaluations": entry.evaluations,
                "search_fitness": entry.fitness,
                "select_fitness": entry.select_fitness,
                "cost": entry.cost,
                "instructions": int(np.asarray(pruned(entry.program, interface).length).sum()),
                "best": best,
                "pareto": front,
                "program": json.loads(entry.program.to_json()),
            }
            for entry, best, front in rows
        ],
    }


def lineage_fields(entry: Entry, interface: Interface | None = None) -> dict[str, Any]:
    """lineage.json: the programs of a line that beat all their ancestors, the first ancestor first, up to an entry."""
    line = lineage.chain(entry.line) if entry.line else []
    steps = [(one.evaluations, one.fitness, one.births, one.program) for one in line]
    steps.append((entry.evaluations, entry.fitness, entry.births, entry.program))
    names = ("evaluations", "fitness", "births")
    return {
        "schema": SCHEMA,
        "interface": interface,
        "trial": entry.trial,
        "steps": [
            dict(zip(names, values, strict=True)) | {"program": json.loads(program.to_json())}
            for *values, program in steps
        ],
    }
