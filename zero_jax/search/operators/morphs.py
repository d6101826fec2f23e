"""Larger programs that do the same: the function-preserving changes of network morphism (Wei et al. 2016).

Axes: `n` programs, `L` slots.
"""

import numpy as np

from zero_jax.program import ops
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace

SUMS, PRODUCTS = (
    tuple(ops.BY_NAME[name].number for name in names)
    for names in (
        ("SCALAR_SUM", "VECTOR_SUM", "MATRIX_SUM"),
        ("SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "SCALAR_MATRIX_PRODUCT"),
    )
)
"""By kind of value: the op that adds another, and the op that multiplies it by a scalar."""

CONSTANT = ops.BY_NAME["SCALAR_CONST_SET"].number


def morph(
    programs: Programs,
    row: int,
    space: SearchSpace,
    most: np.ndarray,
    rng: np.random.Generator,
    interface: Interface | None = None,
) -> bool:
    """Changes one program in place so that it does the same with one or two more instructions, if it can.

    Args:
      programs: whose arrays are NumPy's and nobody else's.
      row: which of them.
      space: its ops and addresses are used.
      most: `[3]` how many instructions each component may have.
      rng: where randomness comes from; it is advanced.
      interface: where label, features and prediction are; None for scalar labels.

    Returns:
      Whether it was changed.

    Example:
      >>> from zero_jax import Component, library
      >>> network = library.program("network").resized(capacity=(20, 10, 20))
      >>> adds = Component(["VECTOR_SUM"], (0, 10, 10))
      >>> space = SearchSpace((10, 10, 3), Component(["SCALAR_CONST_SET"], (0, 20, 20)), adds, adds)
      >>> before = int(network.length.sum())
      >>> morph(network, 0, space, np.array([20, 10, 20]), np.random.default_rng(0)), int(network.length.sum()) - before
      (True, 1)
    """
    program = _Program(programs, row, space, most, interface)
    places = [(c, i) for c in range(3) for i in range(len(program.parts[c]))]
    for at in rng.permutation(len(places)):
        for name in rng.permutation(["duplicate", "add_zero", "multiply_by_one", "split"]):
            if getattr(program, str(name))(*places[at], rng):
                program.write(programs, row)
                return True
    return False


class _Program:
    """One program as lists of instructions, each `[op, in1, in2, out, *constants]`."""

    def __init__(
        self, programs: Programs, row: int, space: SearchSpace, most: np.ndarray, interface: Interface | None
    ) -> None:
        rows = np.concatenate([programs.code[row].astype(float), programs.data[row].astype(float)], axis=1).tolist()
        starts, length = programs.starts, np.asarray(programs.length)[row]
        self.parts = [rows[starts[c] : starts[c] + length[c]] for c in range(3)]
        self.space, self.most = space, most
        used = {_kind_of(number, space) for number in resolved(interface, space.memory)}
        for one in (instruction for part in self.parts for instruction in part):
            used |= {(kind, int(one[1 + i])) for i, kind in enumerate(ops.INPUT_KINDS[int(one[0])]) if kind >= 0}
            used.add((_output(one), int(one[3])))
        self.free = [[a for a in range(n) if (kind, a) not in used] for kind, n in enumerate(space.memory)]

    def write(self, programs: Programs, row: int) -> None:
        """Puts it back."""
        for c, part in enumerate(self.parts):
            first = programs.starts[c]
            whole = np.array(part).reshape(-1, 7)
            programs.code[row, first : first + len(part)] = whole[:, :4]
            programs.data[row, first : first + len(part)] = whole[:, 4:]
            programs.length[row, c] = len(part)

    def duplicate(self, c: int, i: int, rng: np.random.Generator) -> bool:
        """Computes a value twice; one later read is of the copy."""
        one = self.parts[c][i]
        kind = _output(one)
        reads = self._reads_after(c, i)
        if not self._repeatable(one) or not self.free[kind] or not reads or not self._room(c):
            return False
        copy = self.free[kind][0]
        at, column = reads[rng.integers(len(reads))]
        self.parts[c][at][column] = copy
        self.parts[c].insert(i, [*one[:3], copy, *one[4:]])
        return True

    def add_zero(self, c: int, i: int, rng: np.random.Generator) -> bool:
        """Adds an address that is never written to a value."""
        return self._followed(c, i, self._sum(c, self.parts[c][i]))

    def multiply_by_one(self, c: int, i: int, rng: np.random.Generator) -> bool:
        """Multiplies a value by a scalar that Setup sets to 1."""
        return self._followed(c, i, self._product(c, self.parts[c][i]), one=True)

    def split(self, c: int, i: int, rng: np.random.Generator) -> bool:
        """Computes a value into an unused address, then copies it."""
        one = self.parts[c][i]
        kind = _output(one)
        if not self._repeatable(one) or not self.free[kind]:
            return False
        place = self.free[kind].pop()  # what the copy reads besides is another
        through = [*one[:3], place, *one[4:]]
        summed = bool(rng.integers(2))
        copy = (self._sum if summed else self._product)(c, through)
        if copy is None or not self._followed(c, i, [*copy[:3], one[3], *copy[4:]], one=not summed):
            self.free[kind].append(place)
            return False
        self.parts[c][i + (c == 0 and not summed)] = through
        return True

    def _followed(self, c: int, i: int, by: list[float] | None, one: bool = False) -> bool:
        """Inserts an instruction behind another, and with `one` the constant in Setup, if there is room."""
        if by is None or not self._room(c, 1 + (one and c == 0)) or (one and not self._room(0)):
            return False
        self.parts[c].insert(i + 1, by)
        if one:
            self.parts[0].insert(0, [CONSTANT, 0, 0, self.free[0][0], 1.0, 0.0, 0.0])
        return True

    def _sum(self, c: int, one: list[float]) -> list[float] | None:
        kind = _output(one)
        if kind < 0 or SUMS[kind] not in self.space.ops[c] or not self.free[kind]:
            return None
        return [SUMS[kind], one[3], self.free[kind][0], one[3], 0.0, 0.0, 0.0]

    def _product(self, c: int, one: list[float]) -> list[float] | None:
        kind = _output(one)
        if kind < 0 or PRODUCTS[kind] not in self.space.ops[c] or CONSTANT not in self.space.ops[0] or not self.free[0]:
            return None
        return [PRODUCTS[kind], self.free[0][0], one[3], one[3], 0.0, 0.0, 0.0]

    def _room(self, c: int, more: int = 1) -> bool:
        return len(self.parts[c]) + more <= self.most[c]

    def _repeatable(self, one: list[float]) -> bool:
        """Whether an instruction gives the same wherever it writes to, and when it runs twice."""
        op = ops.OPS[int(one[0])]
        return op.output != "" and not op.random and not op.reads_output

    def _reads_after(self, c: int, i: int) -> list[tuple[int, int]]:
        """Where the value of an instruction is read in its component, before it is overwritten: row and column."""
        kind, address, found = _output(self.parts[c][i]), self.parts[c][i][3], []
        for at in range(i + 1, len(self.parts[c])):
            one = self.parts[c][at]
            found += [
                (at, 1 + n) for n, of in enumerate(ops.INPUT_KINDS[int(one[0])]) if of == kind and one[1 + n] == address
            ]
            if _output(one) == kind and one[3] == address:
                break
        return found


def _output(one: list[float]) -> int:
    return int(ops.OUTPUT_KINDS[int(one[0])])


def _kind_of(number: int, space: SearchSpace) -> tuple[int, int]:
    """The kind and the address of a number that counts scalars first, then vectors, then matrices."""
    for kind, n in enumerate(space.memory):
        if number < n:
            return kind, number
        number -= n
    raise ValueError("the number is beyond the memory")
