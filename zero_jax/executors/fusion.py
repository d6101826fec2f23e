"""Superinstructions, for every executor that has them: which there are, and where a program can have them.

A superinstruction does the work of two or three instructions where nothing else reads the value that one hands to the
other. They need not stand side by side, if nothing in between touches what either uses.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from zero_jax.program import canonical
from zero_jax.program import ops as op_table
from zero_jax.program.canonical import IN1, IN2, OUT, decode, liveness, table
from zero_jax.program.memory import Interface
from zero_jax.program.ops import Number as N
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import compiled, compiled_into_caller, entry_point


@dataclasses.dataclass(frozen=True)
class Superinstruction:
    """A row like those of the op table, with up to four inputs.

    Attributes:
      number, name, inputs, output, c: as in `ops.Op`; `c` may read `c`, `d` and `VC(i)` too.
    """

    number: int
    name: str
    inputs: str
    output: str
    c: str
    random: ClassVar[bool] = False
    reads_output: ClassVar[bool] = False


_DOT = "o = 0.0f; for (k = 0; k < F; k++) o += {} * VB(k); o += c;"

SUPERINSTRUCTIONS = tuple(
    Superinstruction(len(op_table.OPS) + i, *row)
    for i, row in enumerate(
        (
            ("SCALAR_FMA", "sss", "s", "o = a * b + c;"),
            ("SCALAR_DIFF_PRODUCT", "sss", "s", "o = (a - b) * c;"),
            ("DOT_SUM", "vvs", "s", _DOT.format("VA(k)")),
            ("SCALED_SUM", "svv", "v", "o = a * b + c;"),
            ("SCALED_PRODUCT", "svv", "v", "o = a * b * c;"),
            ("STEP_PRODUCT", "vv", "v", "o = (a > 0.0f ? 1.0f : 0.0f) * b;"),
            ("GATED_SCALE", "svv", "v", "o = a * b * (c > 0.0f ? 1.0f : 0.0f);"),
            ("MATVEC_SUM", "mvv", "v", _DOT.format("MA(i, k)")),
            ("RANK_ONE", "vvm", "m", "o = VA(i) * VB(j) + c;"),
            ("SCALED_RANK_ONE", "svvm", "m", "o = a * VB(i) * VC(j) + d;"),
            ("VECTOR_SUM_OF_THREE", "vvv", "v", "o = a + b + c;"),
            ("DIFF_SCALE", "ssv", "v", "o = (a - b) * c;"),
        )
    )
)
"""All of them; `c` says what each computes."""

(
    SCALAR_FMA, SCALAR_DIFF_PRODUCT, DOT_SUM, SCALED_SUM, SCALED_PRODUCT, STEP_PRODUCT, GATED_SCALE, MATVEC_SUM,
    RANK_ONE, SCALED_RANK_ONE, VECTOR_SUM_OF_THREE, DIFF_SCALE,
) = (row.number for row in SUPERINSTRUCTIONS)  # fmt: skip

_N_OPS = len(op_table.OPS)

ALL_OPS: tuple[op_table.Op | Superinstruction, ...] = (*op_table.OPS, *SUPERINSTRUCTIONS)
"""Ops and superinstructions by number."""

_P1, _P2, _Q1, _Q2, _Q3, _Q4 = 0, 1, 4, 5, 6, 7
"""The operands of the instruction that gives its value, and of the one that takes it."""

FUSIONS = (
    # the giver, the taker, which operand it takes, what they become, and the operands of that
    (N.SCALAR_PRODUCT, N.SCALAR_SUM, 0, SCALAR_FMA, (_P1, _P2, _Q2)),
    (N.SCALAR_PRODUCT, N.SCALAR_SUM, 1, SCALAR_FMA, (_P1, _P2, _Q1)),
    (N.SCALAR_DIFF, N.SCALAR_PRODUCT, 0, SCALAR_DIFF_PRODUCT, (_P1, _P2, _Q2)),
    (N.SCALAR_DIFF, N.SCALAR_PRODUCT, 1, SCALAR_DIFF_PRODUCT, (_P1, _P2, _Q1)),
    (N.VECTOR_INNER_PRODUCT, N.SCALAR_SUM, 0, DOT_SUM, (_P1, _P2, _Q2)),
    (N.VECTOR_INNER_PRODUCT, N.SCALAR_SUM, 1, DOT_SUM, (_P1, _P2, _Q1)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_SUM, 0, SCALED_SUM, (_P1, _P2, _Q2)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_SUM, 1, SCALED_SUM, (_P1, _P2, _Q1)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_PRODUCT, 0, SCALED_PRODUCT, (_P1, _P2, _Q2)),
    (N.SCALAR_VECTOR_PRODUCT, N.VECTOR_PRODUCT, 1, SCALED_PRODUCT, (_P1, _P2, _Q1)),
    (N.VECTOR_HEAVYSIDE, N.VECTOR_PRODUCT, 0, STEP_PRODUCT, (_P1, _Q2)),
    (N.VECTOR_HEAVYSIDE, N.VECTOR_PRODUCT, 1, STEP_PRODUCT, (_P1, _Q1)),
    (N.VECTOR_HEAVYSIDE, SCALED_PRODUCT, 2, GATED_SCALE, (_Q1, _Q2, _P1)),
    (N.SCALAR_VECTOR_PRODUCT, STEP_PRODUCT, 1, GATED_SCALE, (_P1, _P2, _Q1)),
    (N.MATRIX_VECTOR_PRODUCT, N.VECTOR_SUM, 0, MATVEC_SUM, (_P1, _P2, _Q2)),
    (N.MATRIX_VECTOR_PRODUCT, N.VECTOR_SUM, 1, MATVEC_SUM, (_P1, _P2, _Q1)),
    (N.VECTOR_OUTER_PRODUCT, N.MATRIX_SUM, 0, RANK_ONE, (_P1, _P2, _Q2)),
    (N.VECTOR_OUTER_PRODUCT, N.MATRIX_SUM, 1, RANK_ONE, (_P1, _P2, _Q1)),
    (N.SCALAR_VECTOR_PRODUCT, RANK_ONE, 0, SCALED_RANK_ONE, (_P1, _P2, _Q2, _Q3)),
    (N.VECTOR_SUM, N.VECTOR_SUM, 0, VECTOR_SUM_OF_THREE, (_P1, _P2, _Q2)),
    (N.VECTOR_SUM, N.VECTOR_SUM, 1, VECTOR_SUM_OF_THREE, (_P1, _P2, _Q1)),
    (N.SCALAR_DIFF, N.SCALAR_VECTOR_PRODUCT, 0, DIFF_SCALE, (_P1, _P2, _Q2)),
)
"""What becomes one: the pairs of the 2-layer network, and those that head a count over evolved populations
(`experiments/throughput/pairs.py`)."""

_FUSION = np.full((len(ALL_OPS), len(ALL_OPS), 3), -1, np.int64)
_SOURCES = np.full((len(FUSIONS), 4), -1, np.int64)
for _i, (_from, _to, _slot, _, _operands) in enumerate(FUSIONS):
    _FUSION[_from, _to, _slot] = _i
    _SOURCES[_i, : len(_operands)] = _operands
_FUSED = np.array([fusion[3] for fusion in FUSIONS])
TAKES = np.asarray((_FUSION >= 0).any(axis=0))
"""`[op, operand]`: whether there is a superinstruction for what some instruction hands it there."""


@compiled
def fuse_all(code, length, starts, table, ends, bits, used, cells, shape):  # type: ignore[no-untyped-def]
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
            if not TAKES[cells[j, 0], slot]:
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


# ---------------------------------------------------------------------------------------------- populations


def fused(programs: Programs, interface: Interface) -> Programs:
    """Programs in canonical form, with superinstructions where there can be some.

    A superinstruction has its first two operands where an op has them, and the others where an op has constants. So
    what this returns is for a kernel's eyes alone. Programs with more than 64 addresses are returned as they are.
    """
    if sum(programs.memory) > 64 or not sum(programs.capacity):
        return programs
    code, data, length = (np.array(part) for part in (programs.code, programs.data, programs.length))
    slots, within_kind = programs.starts[-1], np.concatenate([np.arange(n) for n in programs.memory])
    bits, cells = tuple(np.zeros((4, slots), np.uint64)), np.zeros((slots, 8), np.int64)
    scratch = bits, np.zeros(slots, np.bool_), cells, np.zeros(3, np.int64)
    known = np.array(programs.starts), table(programs.memory), np.array(interface), within_kind
    _fuse_programs(code, data, length, *known, *scratch)
    return programs.with_arrays(code, data, length)


@entry_point(helpers=(canonical.__file__,))
def _fuse_programs(code, data, length, starts, table, ends, within_kind, bits, used, cells, shape):  # type: ignore[no-untyped-def]
    """Fuses each program, in place."""
    for p in range(len(code)):
        n, takers = 0, False
        for c in range(3):
            shape[c] = length[p, c]
            for k in range(starts[c], starts[c] + length[p, c]):
                op = code[p, k, 0]
                write_cell(cells, n, k, code[p], table)
                takers = takers or TAKES[op, 0]
                n += 1
        if takers:
            fuse_all(code[p], length[p], starts, table, ends, bits, used, cells, shape)
            n = 0
            for c in range(3):
                for k in range(starts[c], starts[c] + shape[c]):
                    _read_cell(cells, n, k, within_kind, code[p], data[p])
                    n += 1
                length[p, c] = shape[c]


@compiled_into_caller
def write_cell(cells, n, k, code, table):  # type: ignore[no-untyped-def]
    """Row n of `cells` becomes instruction k: op, operands, where it came from, output; addresses among all kinds."""
    op = code[k, 0]
    cells[n, 0], cells[n, 1], cells[n, 2] = op, table[op, IN1] + code[k, 1], table[op, IN2] + code[k, 2]
    cells[n, 3], cells[n, 4], cells[n, 5], cells[n, 6] = -1, -1, k, table[op, OUT] + code[k, 3]


@compiled_into_caller
def _read_cell(cells, n, k, within_kind, code, data):  # type: ignore[no-untyped-def]
    """Instruction k becomes row n of `cells`, which came from behind it or is the same one."""
    op, source = cells[n, 0], cells[n, 5]
    for i in range(3):
        data[k, i] = data[source, i]
    for i in range(4):
        code[k, i] = code[source, i]
    if op >= _N_OPS:
        code[k, 0], code[k, 3] = op, within_kind[cells[n, 6]]
        for i in range(2):
            code[k, 1 + i] = within_kind[cells[n, 1 + i]]
            data[k, i] = within_kind[cells[n, 3 + i]] if cells[n, 3 + i] >= 0 else 0
