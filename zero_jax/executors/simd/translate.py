"""From programs in canonical form to the rows that `machine.py` runs: places in memory, and superinstructions.

A superinstruction does the work of two or three instructions where nothing else reads the value that one hands to the
other. They need not stand side by side, if nothing in between touches what either uses.
"""

import functools

import numpy as np

from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd.layout import Layout
from zero_jax.program.canonical import IN1, IN2, OUT, RANDOM, decode, liveness
from zero_jax.program.memory import MemorySize
from zero_jax.program.ops import Number as N
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import compiled, compiled_into_caller

_P1, _P2, _Q1, _Q2, _Q3, _Q4 = 0, 1, 4, 5, 6, 7
"""The operands of the instruction that gives its value, and of the one that takes it."""

FUSIONS = (
    # the giver, the taker, which operand it takes, what they become, and the operands of that
    (N.SCALAR_PRODUCT, N.SCALAR_SUM, 0, m.SCALAR_FMA, (_P1, _P2, _Q2)),
    (N.SCALAR_PRODUCT, N.SCALAR_SUM, 1, m.SCALAR_FMA, (_P1, _P2, _Q1)),
    (N.SCALAR_DIFF, N.SCALAR_PRODUCT, 0, m.SCALAR_DIFF_PRODUCT, (_P1, _P2, _Q2)),
    (N.SCALAR_DIFF, N.SCALAR_PRODUCT, 1, m.SCALAR_DIFF_PRODUCT, (_P1, _P2, _Q1)),
    (N.VECTOR_INNER_PRODUCT, N.SCALAR_SUM, 0, m.DOT_SUM, (_P1, _P2, _Q2)),
    (N.VECTOR_INNER_PRODUCT, N.SCALAR_SUM, 1, m.DOT_SUM, (_P1, _P2, _Q1)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_SUM, 0, m.SCALED_SUM, (_P1, _P2, _Q2)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_SUM, 1, m.SCALED_SUM, (_P1, _P2, _Q1)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_PRODUCT, 0, m.SCALED_PRODUCT, (_P1, _P2, _Q2)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_PRODUCT, 1, m.SCALED_PRODUCT, (_P1, _P2, _Q1)),
    (N.VECTOR_HEAVYSIDE, N.VECTOR_PRODUCT, 0, m.STEP_PRODUCT, (_P1, _Q2)),
    (N.VECTOR_HEAVYSIDE, N.VECTOR_PRODUCT, 1, m.STEP_PRODUCT, (_P1, _Q1)),
    (N.VECTOR_HEAVYSIDE, m.SCALED_PRODUCT, 2, m.GATED_SCALE, (_Q1, _Q2, _P1)),
    (N.SCALAR_VECTOR_PRODUCT, m.STEP_PRODUCT, 1, m.GATED_SCALE, (_P1, _P2, _Q1)),
    (N.MATRIX_VECTOR_PRODUCT, N.VECTOR_SUM, 0, m.MATVEC_SUM, (_P1, _P2, _Q2)),
    (N.MATRIX_VECTOR_PRODUCT, N.VECTOR_SUM, 1, m.MATVEC_SUM, (_P1, _P2, _Q1)),
    (N.VECTOR_OUTER_PRODUCT, N.MATRIX_SUM, 0, m.RANK_ONE, (_P1, _P2, _Q2)),
    (N.VECTOR_OUTER_PRODUCT, N.MATRIX_SUM, 1, m.RANK_ONE, (_P1, _P2, _Q1)),
    (N.SCALAR_VECTOR_PRODUCT, m.RANK_ONE, 0, m.SCALED_RANK_ONE, (_P1, _P2, _Q2, _Q3)),
    (N.VECTOR_SUM, N.VECTOR_SUM, 0, m.VECTOR_SUM_OF_THREE, (_P1, _P2, _Q2)),
    (N.VECTOR_SUM, N.VECTOR_SUM, 1, m.VECTOR_SUM_OF_THREE, (_P1, _P2, _Q1)),
    (N.SCALAR_DIFF, N.SCALAR_VECTOR_PRODUCT, 0, m.DIFF_SCALE, (_P1, _P2, _Q2)),
)
"""What becomes one: the pairs of the 2-layer network, and those that head a count over evolved populations
(`experiments/throughput/pairs.py`)."""

_N_OPS = m.DIFF_SCALE + 1
_FUSION = np.full((_N_OPS, _N_OPS, 3), -1, np.int64)
_SOURCES = np.full((len(FUSIONS), 4), -1, np.int64)
for _i, (_from, _to, _slot, _, _operands) in enumerate(FUSIONS):
    _FUSION[_from, _to, _slot] = _i
    _SOURCES[_i, : len(_operands)] = _operands
_FUSED = np.array([fusion[3] for fusion in FUSIONS])
_TAKES = np.asarray((_FUSION >= 0).any(axis=0))
"""`[op, operand]`: whether there is a superinstruction for what some instruction hands it there."""


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
            cells[n, 0], cells[n, 1], cells[n, 2], cells[n, 3], cells[n, 4] = op, a, b, -1, -1
            cells[n, 5], cells[n, 6], cells[n, 7] = k, out, ordinal
            ordinal += table[op, RANDOM]
            takers = takers or _TAKES[op, 0]
            highest = max(highest, max(out, max(a if a < free else 0, b if b < free else 0)))
            if c == 1 and (out == ends[0] or out == ends[1]):
                shape[4] = 1
            n += 1
        shape[c] = n - first
    if fuse and takers:
        _fuse_all(code, length, starts, table, ends, bits, used, cells, shape)
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


@compiled
def _fuse_all(code, length, starts, table, ends, bits, used, cells, shape):  # type: ignore[no-untyped-def]
    """Makes superinstructions in each component."""
    decode(code, length, starts, table, bits)
    after = liveness(length, starts, ends, bits, used)
    n = first = 0
    for c in range(3):
        live = after[0] if c == 0 else (after[1] if c == 1 else after[2])
        _live_after(starts[c], starts[c] + length[c], live, bits)
        for k in range(shape[c]):
            for field in range(8):
                cells[n + k, field] = cells[first + k, field]
        first += shape[c]
        end = _fuse(cells, n, n + shape[c], bits)
        shape[c], n = end - n, end


@compiled
def _live_after(first, last, live, bits):  # type: ignore[no-untyped-def]
    """`bits[3]` `[L]`: what is live after each instruction, all of which are live."""
    for k in range(last - 1, first - 1, -1):
        bits[3][k] = live
        live = (live & ~bits[1][k]) | bits[0][k] | bits[2][k]


@compiled
def _fuse(cells, first, n, bits):  # type: ignore[no-untyped-def]
    """Joins instructions of one component, rows `first` to `n - 1` of `cells`; returns where the rows now end.

    A row of `cells`: op, four operands, the instruction it came from, output, ordinal.
    """
    j = first
    while j < n:
        joined = False
        for slot in range(3):
            if not _TAKES[cells[j, 0], slot]:
                continue
            cell = cells[j, 1 + slot]
            i = _giver(cells, first, j, cell)
            if i < 0 or not _may_join(cells, i, j, cell, slot, bits[3][cells[j, 5]]):
                continue
            fusion = _FUSION[cells[i, 0], cells[j, 0], slot]
            a, b, c, d = cells[j, 1], cells[j, 2], cells[j, 3], cells[j, 4]
            for operand in range(4):
                source = _SOURCES[fusion, operand]
                taken = -1
                if source >= 4:
                    taken = a if source == 4 else (b if source == 5 else (c if source == 6 else d))
                elif source >= 0:
                    taken = cells[i, 1 + source]
                cells[j, 1 + operand] = taken
            cells[j, 0] = _FUSED[fusion]
            for k in range(i, n - 1):
                for field in range(8):
                    cells[k, field] = cells[k + 1, field]
            n -= 1
            j -= 1
            joined = True
            break
        if not joined:
            j += 1
    return n


@compiled
def _giver(cells, first, j, cell):  # type: ignore[no-untyped-def]
    """The last row before j that writes a cell, or -1."""
    for i in range(j - 1, first - 1, -1):
        if cells[i, 6] == cell:
            return i
    return -1


@compiled
def _may_join(cells, i, j, cell, slot, live_after):  # type: ignore[no-untyped-def]
    """Whether what row i writes to a cell reaches only operand `slot` of row j, and i may run as late as j."""
    if _FUSION[cells[i, 0], cells[j, 0], slot] < 0:
        return False
    if cells[j, 6] != cell and (live_after >> np.uint64(cell)) & np.uint64(1) != np.uint64(0):
        return False
    for other in range(4):
        if other != slot and cells[j, 1 + other] == cell:
            return False
    for k in range(i + 1, j):
        for operand in range(4):
            if cells[k, 1 + operand] == cell or (cells[i, 1 + operand] == cells[k, 6]):
                return False
    return True


# ---------------------------------------------------------------------------------------------- across examples


@compiled
def _carried(cells, ends, shape):  # type: ignore[no-untyped-def]
    """Finds an update in Learn and a product in Predict that `carry.py` can run in one pass, and moves them together.

    The update goes to the end of Learn and the product, of the same matrix and the features, to the beginning of
    Predict, if nothing on the way touches what they use. Returns whether there are two such.
    """
    first, last = shape[0], shape[0] + shape[1]
    for j in range(first, last):
        if cells[j, 0] != N.MATRIX_VECTOR_PRODUCT and cells[j, 0] != m.MATVEC_SUM:
            continue
        matrix, out, added = cells[j, 1], cells[j, 6], cells[j, 3]
        if cells[j, 2] != ends[1] or added == ends[1] or out == ends[0] or out == ends[1]:
            continue
        for i in range(last + shape[2] - 1, last - 1, -1):
            if cells[i, 6] != matrix:
                continue
            operands = 3 if cells[i, 0] == m.RANK_ONE else 4
            if (cells[i, 0] != m.RANK_ONE and cells[i, 0] != m.SCALED_RANK_ONE) or cells[i, operands] != matrix:
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
