"""Lineage: of each line of descent, the programs that beat all their ancestors.

A search that kept every ancestor of every program would soon hold little else. So it keeps the steps up: an individual
refers to the last of its ancestors, itself included, that was fitter than all before it; that one refers to the one
before, and so on. Ancestors without living descendants are freed with the last reference to them.

Axes: `N` individuals.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from zero_jax.program.programs import Programs, concatenate
from zero_jax.support.codec import Array, Known, Length, decode, encode


@dataclasses.dataclass(slots=True, eq=False)
class Ancestor:
    """A program that was fitter than all its ancestors.

    Attributes:
      fitness: its fitness.
      evaluations: how many programs its search had evaluated by then, its cohort included.
      births: how many generations of descent lie between it and `before`; 0 if there is none.
      programs: a batch that it is in.
      row: its row there.
      before: the last ancestor of this kind; None for a program of the first population.
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
        return decode, (AnyAncestor, encode(self, AnyAncestor))


def chain(last: Ancestor) -> list[Ancestor]:
    """The line that leads to an ancestor, its first program first."""
    line = [last]
    while line[-1].before is not None:
        line.append(line[-1].before)
    return line[::-1]


# ---------------------------------------------------------------------------------------------- on disk


class _Stored(NamedTuple):
    """Ancestors and all that they descend from, each once. Axes: `A` of them, `W` references.

    Attributes:
      which: int64 `[W]`, -1 for none.
      fitness, evaluations, births: of each.
      before: int64 `[A]`, always less than its own number; -1 for none.
      programs: `A` programs; None if there are none.
    """

    which: Annotated[np.ndarray, Array(np.int64, ("W",), least=-1, below="A")]
    fitness: Annotated[np.ndarray, Array(np.float64, ("A",))]
    evaluations: Annotated[np.ndarray, Array(np.int64, ("A",), least=0)]
    births: Annotated[np.ndarray, Array(np.int64, ("A",), least=0)]
    before: Annotated[np.ndarray, Array(np.int64, ("A",), least=-1)]
    programs: Annotated[Programs | None, Length("A")]

    def validate(self) -> None:
        """Refuses circles, and ancestors without programs."""
        if (self.before >= np.arange(len(self.before))).any():
            raise ValueError("before has an ancestor that does not come before its descendant")
        if (self.programs is None) != (len(self.fitness) == 0):
            raise ValueError("programs are missing, or belong to no ancestors")


@dataclasses.dataclass(frozen=True)
class Chains:
    """How an object array of ancestors is stored; None stands for no ancestor."""

    axis: str | int

    def encode(self, value: Sequence[Ancestor | None]) -> Any:
        """Shared ancestors are stored once. Equal ones are one, whether or not they are the same object: so the tree
        does not depend on what was read back.
        """
        numbers: dict[int, int] = {}  # of objects
        known: dict[tuple[Any, ...], int] = {}
        ancestors: list[Ancestor] = []
        for last in value:
            line: list[Ancestor] = []
            one = last
            while one is not None and id(one) not in numbers:
                line.append(one)
                one = one.before
            for one in reversed(line):
                key = _key(one, numbers)
                numbers[id(one)] = known.setdefault(key, len(ancestors))
                if numbers[id(one)] == len(ancestors):
                    ancestors.append(one)
        number = [-1 if one is None else numbers[id(one)] for one in value]
        before = [-1 if one.before is None else numbers[id(one.before)] for one in ancestors]
        return encode(
            _Stored(
                np.array(number, np.int64),
                np.array([one.fitness for one in ancestors], np.float64),
                np.array([one.evaluations for one in ancestors], np.int64),
                np.array([one.births for one in ancestors], np.int64),
                np.array(before, np.int64),
                _gathered(ancestors) if ancestors else None,
            )
        )

    def decode(self, tree: Any, where: str, known: Known) -> np.ndarray:
        """The inverse."""
        stored = known.decode(_Stored, tree, where)
        expected = known.length(self.axis)
        if expected not in (None, len(stored.which)):
            raise ValueError(f"{where} has {len(stored.which)} ancestors, not {expected}")
        columns = zip(stored.fitness.tolist(), stored.evaluations.tolist(), stored.births.tolist(), strict=True)
        ancestors = [Ancestor(*plain, stored.programs, row, None) for row, plain in enumerate(columns)]
        for one, place in zip(ancestors, stored.before.tolist(), strict=True):
            one.before = None if place < 0 else ancestors[place]
        references = np.empty(len(stored.which), object)
        references[:] = [None if i < 0 else ancestors[i] for i in stored.which.tolist()]
        return references


@dataclasses.dataclass(frozen=True)
class _Chain:
    """The same for one ancestor."""

    def encode(self, value: Ancestor | None) -> Any:
        return None if value is None else Chains(1).encode([value])

    def decode(self, tree: Any, where: str, known: Known) -> Ancestor | None:
        return None if tree is None else Chains(1).decode(tree, where, known)[0]


AnyAncestor = Annotated[Ancestor | None, _Chain()]
"""An ancestor, or none, as a field of what the codec stores."""


def _key(one: Ancestor, numbers: dict[int, int]) -> tuple[Any, ...]:
    programs, row = one.programs, one.row
    program = (programs.code[row].tobytes(), programs.data[row].tobytes(), programs.length[row].tobytes())
    before = -1 if one.before is None else numbers[id(one.before)]
    return before, one.fitness, one.evaluations, one.births, *program


def _gathered(ancestors: list[Ancestor]) -> Programs:
    """One batch of them all; those that lie in one batch are copied together."""
    batches: dict[int, list[int]] = {}
    for i, one in enumerate(ancestors):
        batches.setdefault(id(one.programs), []).append(i)
    parts = [ancestors[rows[0]].programs[np.array([ancestors[i].row for i in rows])] for rows in batches.values()]
    order = np.concatenate([np.array(rows) for rows in batches.values()])
    return concatenate(parts)[np.argsort(order)]


# ---------------------------------------------------------------------------------------------- lines of a population


@dataclasses.dataclass(frozen=True, eq=False)
class Lines:
    """The lines of individuals; never changed in place.

    Attributes:
      ancestors: object `[N]`, each the fittest `Ancestor` of its line; None before the first evaluation.
      fitness: float64 `[N]`, theirs.
      births: int64 `[N]`, how many generations ago that was.
    """

    ancestors: Annotated[np.ndarray, Chains("N")]
    fitness: Annotated[np.ndarray, Array(np.float64, ("N",), finite=False)]
    births: Annotated[np.ndarray, Array(np.int64, ("N",), least=0)]


def no_lines(n: int) -> Lines:
    """Those of `n` programs before their evaluation."""
    return Lines(np.full(n, None), np.full(n, -np.inf), np.zeros(n, np.int64))


def first_lines(programs: Programs, fitness: np.ndarray) -> Lines:
    """The lines of a first population: each program begins one."""
    n = len(programs)
    ancestors = np.empty(n, object)
    ancestors[:] = [Ancestor(f, n, 0, programs, row, None) for row, f in enumerate(fitness.tolist())]
    return Lines(ancestors, fitness.copy(), np.zeros(n, np.int64))


def inherited(lines: Lines, parents: np.ndarray, programs: Programs, fitness: np.ndarray, evaluations: int) -> Lines:
    """The lines of children.

    Args:
      lines: of the population.
      parents: `[n]` the row of the parent of each child.
      programs: `n` children.
      fitness: `[n]` theirs.
      evaluations: how many programs have been evaluated, these included.
    """
    ancestors, best, births = lines.ancestors[parents], lines.fitness[parents], lines.births[parents] + 1
    up = np.flatnonzero(fitness > best)
    if len(up):
        kept = programs[up]
        steps = zip(fitness[up].tolist(), births[up].tolist(), ancestors[up], strict=True)
        ancestors[up] = [Ancestor(f, evaluations, b, kept, row, a) for row, (f, b, a) in enumerate(steps)]
        births[up] = 0
    return Lines(ancestors, np.maximum(best, fitness), births)


def ending_in(lines: Lines, row: int, program: Programs, fitness: float, evaluations: int) -> Ancestor:
    """The line of a program that is fitter than all before it on its island, as a line that ends in this program.

    By migration it may come from ancestors that were fitter on other tasks: the line leaves those out.
    """
    before, births = lines.ancestors[row], int(lines.births[row])
    if births == 0:
        return before
    while before is not None and before.fitness >= fitness:
        before, births = before.before, births + before.births
    return Ancestor(fitness, evaluations, births if before else 0, program, 0, before)
