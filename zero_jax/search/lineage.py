"""Where programs come from: of each line of descent, the programs that beat all their ancestors.

A search that kept every ancestor of every program would soon hold little else. What is worth telling is the steps up:
an individual refers to the last of its ancestors, itself included, that was fitter than all before it; that one to the
last before it that was, and so on. Those that nobody living descends from are freed with the last reference.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from zero_jax.programs import Programs, concatenate, programs_from, programs_tree


@dataclasses.dataclass(slots=True, eq=False)
class Ancestor:
    """A program that was fitter than all its ancestors.

    Attributes:
      fitness: its fitness.
      evaluations: how many programs its search had been told when it was.
      births: how many generations of descent lie between it and `before`; 0 where there is none.
      programs: a batch that it is in.
      row: where.
      before: the last of its ancestors like it; None for one of the first population.
    """

    fitness: float
    evaluations: int
    births: int
    programs: Programs
    row: int
    before: "Ancestor | None"

    @property
    def program(self) -> Programs:
        """A batch of this one program."""
        return self.programs[self.row]


@dataclasses.dataclass(frozen=True, eq=False)
class Lines:
    """The lines of a population of `I * P`, island by island; never changed in place.

    Attributes:
      ancestors: `[I * P]` objects, each an `Ancestor`: the fittest of the line.
      fitness: `[I * P]` float64, theirs.
      births: `[I * P]` int64: how many generations ago that was.
      parents: `[I * C]` int64: whose children were asked for last.
    """

    ancestors: np.ndarray
    fitness: np.ndarray
    births: np.ndarray
    parents: np.ndarray


def first(programs: Programs, fitness: np.ndarray) -> Lines:
    """The lines of a first population: each program begins one."""
    n = len(programs)
    ancestors = np.empty(n, object)
    ancestors[:] = [Ancestor(f, n, 0, programs, row, None) for row, f in enumerate(fitness.tolist())]
    return Lines(ancestors, fitness.copy(), np.zeros(n, np.int64), np.zeros(0, np.int64))


def born(lines: Lines, programs: Programs, fitness: np.ndarray, evaluations: int) -> Lines:
    """The lines of the children of `lines.parents`."""
    parents = lines.parents
    ancestors, known, births = lines.ancestors[parents], lines.fitness[parents], lines.births[parents] + 1
    up = np.flatnonzero(fitness > known)
    if len(up):
        kept = programs[up]
        told = zip(fitness[up].tolist(), births[up].tolist(), ancestors[up], strict=True)
        ancestors[up] = [Ancestor(f, evaluations, b, kept, row, a) for row, (f, b, a) in enumerate(told)]
        births[up] = 0
    return Lines(ancestors, np.maximum(known, fitness), births, parents)


def placed(lines: Lines, children: Lines, rows: np.ndarray) -> Lines:
    """The lines of a population in which children have taken the places `rows`."""
    ancestors, fitness, births = lines.ancestors.copy(), lines.fitness.copy(), lines.births.copy()
    ancestors[rows], fitness[rows], births[rows] = children.ancestors, children.fitness, children.births
    return Lines(ancestors, fitness, births, lines.parents)


def ending_in(lines: Lines | None, row: int, program: Programs, fitness: float, evaluations: int) -> Ancestor:
    """The line of a program that its island has seen no better one than, as one that ends in this program.

    It may have come, by migration, from ancestors that were fitter on tasks of their own: the line goes round those.
    """
    before, births = (lines.ancestors[row], int(lines.births[row])) if lines else (None, 0)
    if before is not None and births == 0:
        return before
    while before is not None and before.fitness >= fitness:
        before, births = before.before, births + before.births
    return Ancestor(fitness, evaluations, births if before else 0, program, 0, before)


def chain(last: Ancestor) -> list[Ancestor]:
    """The line that leads to an ancestor, from its first on."""
    found = [last]
    while found[-1].before is not None:
        found.append(found[-1].before)
    return found[::-1]


def tree(ancestors: Sequence[Ancestor]) -> dict[str, Any]:
    """Ancestors, and all that they descend from, as arrays and plain values; `from_tree` gives them back in order.

    Equal ones are one, whether or not they are the same object: so the tree does not depend on what was read back.
    """
    numbers: dict[int, int] = {}  # of objects
    known: dict[tuple[Any, ...], int] = {}
    found: list[Ancestor] = []
    for last in ancestors:
        line: list[Ancestor] = []
        one: Ancestor | None = last
        while one is not None and id(one) not in numbers:
            line.append(one)
            one = one.before
        for one in reversed(line):
            key = _key(one, numbers)
            numbers[id(one)] = known.setdefault(key, len(found))
            if numbers[id(one)] == len(found):
                found.append(one)
    befores = [-1 if one.before is None else numbers[id(one.before)] for one in found]
    return {
        "which": np.array([numbers[id(one)] for one in ancestors], np.int64),
        "fitness": np.array([one.fitness for one in found], np.float64),
        "evaluations": np.array([one.evaluations for one in found], np.int64),
        "births": np.array([one.births for one in found], np.int64),
        "before": np.array(befores, np.int64),
        "programs": programs_tree(_gathered(found)) if found else None,
    }


def _key(one: Ancestor, numbers: dict[int, int]) -> tuple[Any, ...]:
    programs, row = one.programs, one.row
    program = (programs.code[row].tobytes(), programs.data[row].tobytes(), programs.length[row].tobytes())
    before = -1 if one.before is None else numbers[id(one.before)]
    return before, one.fitness, one.evaluations, one.births, *program


def _gathered(found: list[Ancestor]) -> Programs:
    """One batch of them all; those that lie in one batch are copied together."""
    batches: dict[int, list[int]] = {}
    for i, one in enumerate(found):
        batches.setdefault(id(one.programs), []).append(i)
    parts = [found[rows[0]].programs[np.array([found[i].row for i in rows])] for rows in batches.values()]
    order = np.concatenate([np.array(rows) for rows in batches.values()])
    return concatenate(parts)[np.argsort(order)]


def from_tree(stored: dict[str, Any]) -> list[Ancestor]:
    """The inverse of `tree`.

    Raises:
      ValueError: programs that are none.
    """
    if stored["programs"] is None:
        return []
    programs = programs_from(stored["programs"])
    columns = (stored[name].tolist() for name in ("fitness", "evaluations", "births"))
    told = enumerate(zip(*columns, strict=True))
    found = [Ancestor(fitness, n, births, programs, row, None) for row, (fitness, n, births) in told]
    for one, before in zip(found, stored["before"].tolist(), strict=True):
        one.before = None if before < 0 else found[before]
    return [found[i] for i in stored["which"].tolist()]


def lines_tree(lines: Lines | None, best: Ancestor | None) -> dict[str, Any]:
    """Lines, if there are any, and that of the best, as arrays and plain values."""
    last = [*(lines.ancestors if lines else []), *([best] if best else [])]
    return {name: getattr(lines, name, None) for name in ("fitness", "births", "parents")} | {"ancestors": tree(last)}


def lines_from(stored: dict[str, Any]) -> tuple[Lines | None, Ancestor | None]:
    """The inverse of `lines_tree`."""
    found = from_tree(stored["ancestors"])
    if stored["fitness"] is None:
        return None, next(iter(found), None)
    n = len(stored["fitness"])
    ancestors = np.empty(n, object)
    ancestors[:] = found[:n]
    lines = Lines(ancestors, stored["fitness"], stored["births"], stored["parents"])
    return lines, found[n] if len(found) > n else None
