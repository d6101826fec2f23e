"""From programs in canonical form to the rows that `machine.py` runs: places in memory, and superinstructions."""

import functools

import numpy as np

from zero_jax.executors.fusion import MATVEC_SUM, RANK_ONE, SCALED_RANK_ONE, TAKES, fuse_all, write_cell
from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd.layout import Layout
from zero_jax.program.canonical import IN1, IN2, OUT, RANDOM
from zero_jax.program.memory import MemorySize
from zero_jax.program.ops import Number as N
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import compiled, compiled_into_caller


@functools.lru_cache(maxsize=64)
def places(memory: MemorySize, layout: Layout, tasks: int = m.W) -> np.ndarray:
    """Where each address is in memory, in floats, and how many registers it takes, `[A + 4, 2]` int64.

    The last but three is where free memory begins; those behind it stand for operands that are not there.
    """
    numbers = np.array(layout.value_numbers())
    first = np.cumsum([0, *np.repeat(numbers, memory)])
    if layout.registers:
        numbers[1:] = tasks * numbers[1:] // m.W
    return np.stack([[*(first * m.W), 0, 0, 0], [*np.repeat(numbers, memory), 0, 0, 0, 0]], axis=1).astype(np.int64)


def most_rows(programs: Programs) -> int:
    """How many rows a program can have: Predict is there twice, and five rows are not the program's."""
    return programs.starts[-1] + programs.capacity[1] + 5


@compiled_into_caller
def translate(code, data, length, starts, table, ends, places, fuse, scratch, rows, constants, shape):  # type: ignore[no-untyped-def]
    """Writes the rows of a program in canonical form.

    Args:
      code: of one program, as the next three.
      data: its constants.
      length: its lengths.
      starts: the first slot of each component.
      table: `canonical.table` of its memory size.
      ends: `[3]`, its `Interface`.
      places: from `places`.
      fuse: whether to make superinstructions; only where there are at most 64 addresses.
      scratch: bits, four arrays uint64 `[L]`, used bool `[L]`, cells int64 `[L, 8]`: op, four operands, the instruction
        it came from, output, ordinal; operands and output as addresses among all kinds.
      rows: int64 `[most_rows, 10]`, to be filled: Setup, NEXT, Predict, CHECK, Learn, NEXT, Predict again, JUDGE, and
        an update of Learn's that waits for the next example, if there is one (`carry.py`).
      constants: the same as float32 `[most_rows, 20]`.
      shape: int64 `[6]`, to be filled: how many rows each component has, the end of the memory in use, whether Predict
        writes features or label, and the row of the update that waits, or 0.
    """
    bits, used, cells = scratch
    free, highest, n, takers = len(places) - 4, max(ends[1], ends[2]), 0, False
    shape[4] = shape[5] = 0
    for c in range(3):
        first, ordinal = n, 0
        for k in range(starts[c], starts[c] + length[c]):
            op = code[k, 0]
            a, b, out = table[op, IN1] + code[k, 1], table[op, IN2] + code[k, 2], table[op, OUT] + code[k, 3]
            write_cell(cells, n, k, code, table)
            cells[n, 7] = ordinal
            ordinal += table[op, RANDOM]
            takers = takers or TAKES[op, 0]
            highest = max(highest, max(out, max(a if a < free else 0, b if b < free else 0)))
            if c == 1 and (out == ends[0] or out == ends[1]):
                shape[4] = 1
            n += 1
        shape[c] = n - first
    if fuse and takers:
        fuse_all(code, length, starts, table, ends, bits, used, cells, shape)
        if _carried(cells, ends, shape):
            shape[2] -= 1
            shape[5] = shape[0] + 2 * shape[1] + shape[2] + 4
    at = _write(cells, 0, shape[0], m.NEXT, 0, data, places, rows, constants)
    at = _write(cells, shape[0], shape[1], m.CHECK, at, data, places, rows, constants)
    at = _write(cells, shape[0] + shape[1], shape[2], m.NEXT, at, data, places, rows, constants)
    at = _write(cells, shape[0], shape[1], m.JUDGE, at, data, places, rows, constants)
    if shape[5]:
        _write(cells, shape[0] + shape[1] + shape[2], 1, m.NEXT, at, data, places, rows, constants)
    shape[3] = places[highest + 1, 0]


@compiled_into_caller
def _write(cells, first, count, then, at, data, places, rows, constants):  # type: ignore[no-untyped-def]
    """Writes `count` rows from row `at` on, and one of the op `then`; returns what comes after."""
    for k in range(first, first + count):
        rows[at, m.OP] = cells[k, 0]
        for operand in range(1, 5):
            rows[at, operand] = places[max(cells[k, operand], 0), 0]
        out, source = cells[k, 6], cells[k, 5]
        rows[at, m.OUT], rows[at, m.COUNT], rows[at, m.ORDINAL] = places[out, 0], places[out, 1], cells[k, 7]
        for i in range(3):
            constants[at, m.CONSTANTS + i] = data[source, i]
        at += 1
    rows[at, m.OP] = then
    return at + 1


# ---------------------------------------------------------------------------------------------- across examples


@compiled
def _carried(cells, ends, shape):  # type: ignore[no-untyped-def]
    """Finds an update in Learn and a product in Predict that `carry.py` can run in one pass, and moves them together.

    The update goes to the end of Learn and the product, of the same matrix and the features, to the beginning of
    Predict, if nothing on the way touches what they use. Returns whether there are two such.
    """
    first, last = shape[0], shape[0] + shape[1]
    for j in range(first, last):
        if cells[j, 0] != N.MATRIX_VECTOR_PRODUCT and cells[j, 0] != MATVEC_SUM:
            continue
        matrix, out, added = cells[j, 1], cells[j, 6], cells[j, 3]
        if cells[j, 2] != ends[1] or added == ends[1] or out == ends[0] or out == ends[1]:
            continue
        for i in range(last + shape[2] - 1, last - 1, -1):
            if cells[i, 6] != matrix:
                continue
            operands = 3 if cells[i, 0] == RANK_ONE else 4
            if (cells[i, 0] != RANK_ONE and cells[i, 0] != SCALED_RANK_ONE) or cells[i, operands] != matrix:
                break
            if not (_may_wait(cells, i, last + shape[2], out) and _may_lead(cells, first, j)):
                break
            _move(cells, i, last + shape[2] - 1)
            _move(cells, j, first)
            return True
    return False


@compiled
def _may_wait(cells, i, end, out):  # type: ignore[no-untyped-def]
    """Whether row i does not use `out`, and no row behind it, up to `end`, writes what it uses or uses its output."""
    for operand in range(1, 5):
        if cells[i, operand] == out:
            return False
        for k in range(i + 1, end):
            if cells[k, operand] == cells[i, 6] or (cells[i, operand] >= 0 and cells[k, 6] == cells[i, operand]):
                return False
    return True


@compiled
def _may_lead(cells, first, j):  # type: ignore[no-untyped-def]
    """Whether nothing before row j, from `first` on, writes what it uses, or uses or writes what it writes."""
    for k in range(first, j):
        if cells[k, 6] == cells[j, 6]:
            return False
        for operand in range(1, 5):
            if cells[k, operand] == cells[j, 6] or (cells[j, operand] >= 0 and cells[k, 6] == cells[j, operand]):
                return False
    return True


@compiled
def _move(cells, at, to):  # type: ignore[no-untyped-def]
    """Moves one row to another place; those in between make room."""
    step = 1 if to > at else -1
    while at != to:
        for field in range(8):
            cells[at, field], cells[at + step, field] = cells[at + step, field], cells[at, field]
        at += step
