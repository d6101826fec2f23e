"""Where programs come from: of each line of descent, the programs that beat all their ancestors.

A search that kept every ancestor of every program would soon hold little else. What is worth telling is the steps up:
an individual refers to the last of its ancestors, itself included, that was fitter than all before it; that one to the
last before it that was, and so on. Those that nobody living descends from are freed with the last reference.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from zero_jax.program.programs import Programs, concatenate, programs_from, programs_tree
from zero_jax.program.space import SearchSpace
from zero_jax.support.checked import Fields


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

    def __reduce__(self) -> tuple[Any, ...]:
        """As a tree, since a long line would be too deep for pickle and copy, which recurse."""
        return _from_tree_of_one, (tree([self]),)


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


def from_tree(stored: Any, like: SearchSpace | Programs | None = None, where: str = "lineage") -> list[Ancestor]:
    """The inverse of `tree`.

    Args:
      stored: what that gave.
      like: a space or programs whose capacity and memory all programs must have, if any.
      where: what errors call it.

    Raises:
      ValueError: anything that `tree` does not give.
    """
    told = Fields(stored, where, ("which", "fitness", "evaluations", "births", "before", "programs"))
    fitness = told.array("fitness", np.float64, (None,), finite=True)
    n = len(fitness)
    evaluations, births = (told.array(name, np.int64, (n,), least=0) for name in ("evaluations", "births"))
    before = told.array("before", np.int64, (n,), least=-1)
    if (before >= np.arange(n)).any():
        raise ValueError(f"{told.where('before')} has an ancestor that does not come before its descendant")
    which = told.array("which", np.int64, (None,), least=0, most=n - 1)
    if n == 0 and told["programs"] is None:
        return []
    programs = programs_from(told["programs"], like, told.where("programs"), n)
    columns = zip(fitness.tolist(), evaluations.tolist(), births.tolist(), strict=True)
    found = [Ancestor(*plain, programs, row, None) for row, plain in enumerate(columns)]
    for one, place in zip(found, before.tolist(), strict=True):
        one.before = None if place < 0 else found[place]
    return [found[i] for i in which.tolist()]


def _from_tree_of_one(stored: dict[str, Any]) -> Ancestor:
    (found,) = from_tree(stored)
    return found


def lines_tree(lines: Lines | None, best: Ancestor | None) -> dict[str, Any]:
    """Lines, if there are any, and that of the best, as arrays and plain values."""
    last = [*(lines.ancestors if lines else []), *([best] if best else [])]
    return {name: getattr(lines, name, None) for name in ("fitness", "births", "parents")} | {"ancestors": tree(last)}


def lines_from(stored: Any, population: Programs, where: str = "lines") -> tuple[Lines | None, Ancestor | None]:
    """The inverse of `lines_tree`, for the lines of a population.

    Raises:
      ValueError: anything that `lines_tree` does not give of one as large.
    """
    told, n = Fields(stored, where, ("fitness", "births", "parents", "ancestors")), len(population)
    found = from_tree(told["ancestors"], population, told.where("ancestors"))
    none = all(told[name] is None for name in ("fitness", "births", "parents"))
    many = 0 if none else n
    if not many <= len(found) <= many + 1:
        raise ValueError(f"{told.where('ancestors')} has {len(found)}, not {many}, or one more for the best program")
    best = found[many] if len(found) > many else None
    if none:
        return None, best
    ancestors = np.empty(n, object)
    ancestors[:] = found[:n]
    fitness, births = (
        told.array("fitness", np.float64, (n,), finite=True),
        told.array("births", np.int64, (n,), least=0),
    )
    return Lines(ancestors, fitness, births, told.array("parents", np.int64, (None,), least=0, most=n - 1)), best
