"""The hall of fame of a search: its best programs by fitness, and by fitness against cost.

Axes: `P` programs, `T` tasks.
"""

import json
from typing import Any, NamedTuple

import numpy as np

from zero_jax.evaluation.cost import cost
from zero_jax.program import library
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate, programs_from, programs_tree
from zero_jax.program.space import SearchSpace
from zero_jax.search.operators import lineage
from zero_jax.search.operators.lineage import Ancestor
from zero_jax.support.checked import Fields

SCHEMA = 3
"""The version of hall.json and lineage.json."""

SIZE = 20
"""How many programs are kept for their fitness alone."""


class Entry(NamedTuple):
    """A program of the hall of fame.

    Attributes:
      fitness: on T_search.
      cost: to train it, in multiples of the library's 2-layer network.
      evaluations: how many programs had been asked for when it was found, it and its cohort included.
      program: a batch of this one, in canonical form.
      line: the fittest of its ancestors; None where there is none.
      births: how many generations ago that was.
      trial: the number of the trial.
      select_fitness: on T_select; None where it was not judged there.
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
      >>> hall = HallOfFame(100, UPSTREAM, size=1)
      >>> two = concatenate([library.program(name).resized((6, 9, 2), (3, 5, 11)) for name in ("linear", "network")])
      >>> hall.offer(two, np.array([0, 1]), np.array([0.8, 0.9]), 2)
      >>> [(entry.fitness, round(entry.cost, 2)) for entry in hall.entries()]  # the cheaper one is on the front
      [(0.9, 1.0), (0.8, 0.26)]
    """

    def __init__(self, examples: int, table: np.ndarray, size: int = SIZE, interface: Interface | None = None) -> None:
        self.examples = examples
        self.table = table
        self.size = size
        self.interface = interface
        self._unit = float(cost(library.program("network"), examples, table)[0])
        self._best: list[Entry] = []
        self._front: list[Entry] = []
        self._index()

    def _index(self) -> None:
        """What `offer` compares with, as arrays: the best by fitness, the front by cost, both rising."""
        self._best.sort(key=lambda entry: entry.fitness)
        self._front.sort(key=lambda entry: entry.cost)
        self._best_fitness, self._best_cost = _columns(self._best)
        self._front_fitness, self._front_cost = _columns(self._front)

    def offer(
        self,
        programs: Programs,
        which: np.ndarray,
        fitness: np.ndarray,
        evaluations: int,
        lines: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Takes in those of `n` programs that are good enough.

        Args:
          programs: `P` programs in canonical form.
          which: `[n]` which of them are offered.
          fitness: `[n]` of all tasks together.
          evaluations: how many programs had been asked for.
          lines: `[n]` the fittest ancestor of each, and how many generations ago that was.
        """
        costs = cost(programs, self.examples, self.table, which) / self._unit
        for i in np.flatnonzero((fitness > 0) & self._is_worthy(fitness, costs)).tolist():
            if self._is_worthy(fitness[i : i + 1], costs[i : i + 1])[0]:  # those taken in since may be better
                line, births = (lines[0][i], int(lines[1][i])) if lines else (None, 0)
                one = programs[which[i : i + 1]]  # a copy
                self._take(Entry(float(fitness[i]), float(costs[i]), evaluations, one, line, births))

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

    def entry(self, last: Ancestor) -> Entry:
        """What it would say of the last of a line, dead code and all."""
        costs = cost(pruned(last.program, self.interface), self.examples, self.table) / self._unit
        return Entry(last.fitness, float(costs[0]), last.evaluations, last.program, last.before, last.births)

    def entries(self) -> list[Entry]:
        """All of them, the best first."""
        found = {id(entry): entry for entry in (*self._best, *self._front)}
        return sorted(found.values(), key=lambda entry: (-entry.fitness, entry.cost))

    def tree(self) -> dict[str, Any] | None:
        """All of it as arrays and plain values."""
        return entries_tree(self.entries())

    def restore(self, tree: Any, like: SearchSpace | Programs | None = None, where: str = "hall") -> None:
        """Goes on from what `tree` told.

        Raises:
          ValueError: as `entries_from`.
        """
        found = entries_from(tree, like, where)
        self._best, self._front = _fittest(found, self.size), _pareto(found)
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
    found: dict[float, Entry] = {}
    for entry in entries:
        if entry.fitness not in found or entry.cost < found[entry.fitness].cost:
            found[entry.fitness] = entry
    return sorted(found.values(), key=lambda entry: -entry.fitness)[:size]


def _pareto(entries: list[Entry]) -> list[Entry]:
    """Those than which none is as fit and as cheap; of equals the first."""
    found: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.cost, -entry.fitness)):
        if not found or entry.fitness > found[-1].fitness:
            found.append(entry)
    return found


def _columns(entries: list[Entry]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([e.fitness for e in entries]), np.array([e.cost for e in entries])


_PLAIN = ("fitness", "cost", "evaluations", "births", "trial", "select_fitness")


def entries_tree(entries: list[Entry]) -> dict[str, Any] | None:
    """Entries as arrays and plain values; None where there are none."""
    if not entries:
        return None
    return {
        "rows": [{name: getattr(entry, name) for name in _PLAIN} for entry in entries],
        "programs": programs_tree(concatenate([entry.program for entry in entries])),
        "has_line": [entry.line is not None for entry in entries],
        "lines": lineage.tree([entry.line for entry in entries if entry.line is not None]),
    }


def entries_from(tree: Any, like: SearchSpace | Programs | None = None, where: str = "hall") -> list[Entry]:
    """The inverse of `entries_tree`.

    Args:
      tree: what that gave.
      like: a space or programs whose capacity and memory all programs must have, if any.
      where: what errors call it.

    Raises:
      ValueError: anything that `entries_tree` does not give.
    """
    if tree is None:
        return []
    told = Fields(tree, where, ("rows", "programs", "has_line", "lines"))
    rows = [_plain_from(*row) for row in told.items("rows")]
    programs = programs_from(told["programs"], like, told.where("programs"), len(rows))
    has_line = told.items("has_line", len(rows))
    lines = lineage.from_tree(told["lines"], programs, told.where("lines"))
    if any(type(has) is not bool for has, _ in has_line) or sum(has for has, _ in has_line) != len(lines):
        raise ValueError(f"{told.where('has_line')} does not say which of the entries have the {len(lines)} lines")
    following = iter(lines)
    return [
        Entry(program=programs[i], line=next(following) if has else None, **row)
        for i, (row, (has, _)) in enumerate(zip(rows, has_line, strict=True))
    ]


def _plain_from(tree: Any, where: str) -> dict[str, Any]:
    """The plain values of an entry."""
    told = Fields(tree, where, _PLAIN)
    select = None if told["select_fitness"] is None else told.number("select_fitness")
    counts = {name: told.whole(name) for name in ("evaluations", "births", "trial")}
    return {"fitness": told.number("fitness"), "cost": told.number("cost", 0), "select_fitness": select} | counts


# ---------------------------------------------------------------------------------------------- files


def hall_told(rows: list[tuple[Entry, bool, bool]], interface: Interface | None = None) -> dict[str, Any]:
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


def lineage_told(entry: Entry, interface: Interface | None = None) -> dict[str, Any]:
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
            dict(zip(names, told, strict=True)) | {"program": json.loads(program.to_json())} for *told, program in steps
        ],
    }
