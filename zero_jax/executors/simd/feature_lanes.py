"""The interpreter with features as lanes: one instruction at a time, one task after another.

A vector of one task is `R` registers of sixteen features, the last filled up with numbers that mean nothing; a matrix
is F columns of as many. An address holds the values of sixteen tasks, of which only those that exist are computed;
scalars of sixteen tasks stand side by side, as in `machine.py`, which runs what is scalar or element by element. A
product of matrix and vector takes F * R multiply-adds for each task there is; with tasks as lanes, F * F for sixteen.

Ops that evolved programs use little are run by `machine.py` too: their operands are transposed, sixteen tasks side by
side, and what comes out is transposed back. That would take longest where one number is made of a whole matrix, so
reductions to a scalar run here.
"""

import numpy as np

from zero_jax.executors.simd import across
from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd import vector as v
from zero_jax.program import ops
from zero_jax.program.ops import Number as N
from zero_jax.support.compiled import compiled

W = v.WIDTH

_ELEMENTWISE = (
    N.VECTOR_DIVISION, N.MATRIX_DIVISION, N.VECTOR_ABS, N.MATRIX_ABS, N.VECTOR_RECIPROCAL, N.MATRIX_RECIPROCAL,
    N.MATRIX_HEAVYSIDE, N.MATRIX_DIFF, N.MATRIX_PRODUCT, N.VECTOR_MIN, N.MATRIX_MIN, N.MATRIX_MAX,
)  # fmt: skip
_ALIKE = (ops.INPUT_KINDS <= 0).all(1) & (ops.OUTPUT_KINDS <= 0)
_ALIKE[list(_ELEMENTWISE)] = True
"""`[65]` whether `machine.other` runs an op as it stands: it is scalar, or element by element."""

_REDUCED = np.zeros(len(_ALIKE), np.bool_)
_REDUCED[[N.VECTOR_NORM, N.MATRIX_NORM, N.VECTOR_MEAN, N.MATRIX_MEAN, N.VECTOR_ST_DEV, N.MATRIX_ST_DEV]] = True
"""`[65]` whether an op makes one number of all numbers of a vector or a matrix."""

_IN1, _IN2, _OUT = (np.ascontiguousarray(kinds) for kinds in (*ops.INPUT_KINDS.T, ops.OUTPUT_KINDS))
_READS_OUTPUT = np.array([op.reads_output for op in ops.OPS])


@compiled
def step(registers, size, features, tasks, op, row, memory, scratch, seed, ids, at, count):  # type: ignore[no-untyped-def]
    """Runs one instruction on `memory`, for the first `tasks` of sixteen tasks.

    `registers` is a `vector.Size` of R, `scratch` the place in memory of `Layout.scratch_numbers` that are free; the
    others are as for `machine.step`.
    """
    r, n = v.registers(registers, features), v.number(size, features)
    a, b, out = v.integer(row, m.A), v.integer(row, m.B), v.integer(row, m.OUT)
    c, d = v.integer(row, m.C), v.integer(row, m.D)
    if op == N.SCALAR_SUM:
        v.store(memory, out, v.add(v.load(memory, a), v.load(memory, b)))
    elif op == N.SCALAR_DIFF:
        v.store(memory, out, v.sub(v.load(memory, a), v.load(memory, b)))
    elif op == N.SCALAR_PRODUCT:
        v.store(memory, out, v.mul(v.load(memory, a), v.load(memory, b)))
    elif op == N.SCALAR_CONST_SET:
        v.store(memory, out, v.splat(v.real(row, m.CONSTANTS)))
    elif op == m.SCALAR_FMA:
        v.store(memory, out, v.fma(v.load(memory, a), v.load(memory, b), v.load(memory, c)))
    elif op == m.SCALAR_DIFF_PRODUCT:
        v.store(memory, out, v.mul(v.sub(v.load(memory, a), v.load(memory, b)), v.load(memory, c)))
    elif op == N.VECTOR_HEAVYSIDE:
        m.map1(v.positive, memory, a, out, tasks * r)
    elif op == N.VECTOR_SUM:
        m.map2(v.add, memory, a, b, out, tasks * r)
    elif op == N.VECTOR_DIFF:
        m.map2(v.sub, memory, a, b, out, tasks * r)
    elif op == N.VECTOR_PRODUCT:
        m.map2(v.mul, memory, a, b, out, tasks * r)
    elif op == N.VECTOR_MAX:
        m.map2(v.maximum, memory, a, b, out, tasks * r)
    elif op == N.MATRIX_SUM:
        m.map2(v.add, memory, a, b, out, tasks * n * r)
    elif op == N.SCALAR_VECTOR_PRODUCT:
        _scale(memory, a, b, out, tasks, r)
    elif op == N.SCALAR_MATRIX_PRODUCT:
        _scale(memory, a, b, out, tasks, n * r)
    elif op == N.SCALAR_BROADCAST:
        for i in range(tasks * r):
            v.store(memory, out + i * W, v.splat(v.real(memory, a + i // r)))
    elif op == N.VECTOR_INNER_PRODUCT:
        for t in range(tasks):
            v.put_real(memory, out + t, _dot(memory, a + t * r * W, b + t * r * W, n, r))
    elif op == m.DOT_SUM:
        for t in range(tasks):
            product = _dot(memory, a + t * r * W, b + t * r * W, n, r)
            v.put_real(memory, out + t, product + v.real(memory, c + t))
    elif op == N.VECTOR_OUTER_PRODUCT:
        _outer(memory, a, b, out, tasks, n, r)
    elif op == N.MATRIX_VECTOR_PRODUCT or op == m.MATVEC_SUM:
        # With several registers a vector may not be written before all of it is read.
        to = scratch if r > 1 and out == b else out
        if op == N.MATRIX_VECTOR_PRODUCT:
            _matvec(memory, a, b, c, False, to, tasks, n, r)
        else:
            _matvec(memory, a, b, c, True, to, tasks, n, r)
        if to != out:
            m.copy(memory, to, out, tasks * r)
    elif op == m.RANK_ONE:
        _rank_one(memory, a, a, b, False, c, out, tasks, n, r)
    elif op == m.SCALED_RANK_ONE:
        _rank_one(memory, a, b, c, True, d, out, tasks, n, r)
    elif op == m.SCALED_SUM:
        for i in range(tasks * r):
            factor = v.splat(v.real(memory, a + i // r))
            v.store(memory, out + i * W, v.fma(factor, v.load(memory, b + i * W), v.load(memory, c + i * W)))
    elif op == m.SCALED_PRODUCT:
        for i in range(tasks * r):
            scaled = v.mul(v.splat(v.real(memory, a + i // r)), v.load(memory, b + i * W))
            v.store(memory, out + i * W, v.mul(scaled, v.load(memory, c + i * W)))
    elif op == m.STEP_PRODUCT:
        for i in range(tasks * r):
            v.store(memory, out + i * W, v.mul(v.positive(v.load(memory, a + i * W)), v.load(memory, b + i * W)))
    elif op == m.GATED_SCALE:
        for i in range(tasks * r):
            scaled = v.mul(v.splat(v.real(memory, a + i // r)), v.load(memory, b + i * W))
            v.store(memory, out + i * W, v.mul(scaled, v.positive(v.load(memory, c + i * W))))
    elif op == m.VECTOR_SUM_OF_THREE:
        for i in range(tasks * r):
            two = v.add(v.load(memory, a + i * W), v.load(memory, b + i * W))
            v.store(memory, out + i * W, v.add(two, v.load(memory, c + i * W)))
    elif op == m.DIFF_SCALE:
        for i in range(tasks * r):
            factor = v.splat(v.real(memory, a + i // r) - v.real(memory, b + i // r))
            v.store(memory, out + i * W, v.mul(factor, v.load(memory, c + i * W)))
    elif _REDUCED[op]:
        for t in range(tasks):
            columns = n if _IN1[op] == 2 else 1
            v.put_real(memory, out + t, _reduced(op, memory, a + t * columns * r * W, columns, n, r))
    elif _ALIKE[op]:
        m.other(op, features, row, memory, scratch, seed, ids, at, count)
    else:
        _transposed(r, features, op, row, memory, scratch, seed, ids, at, count)


@compiled
def _scale(memory, a, b, out, tasks, each):  # type: ignore[no-untyped-def]
    for t in range(tasks):
        factor = v.splat(v.real(memory, a + t))
        for i in range(t * each * W, (t + 1) * each * W, W):
            v.store(memory, out + i, v.mul(factor, v.load(memory, b + i)))


@compiled
def _dot(memory, a, b, n, r):  # type: ignore[no-untyped-def]
    last = (r - 1) * W
    total = across.kept(v.mul(v.load(memory, a + last), v.load(memory, b + last)), n - last)
    for i in range(0, last, W):
        total = v.fma(v.load(memory, a + i), v.load(memory, b + i), total)
    return across.total(total)


@compiled
def _outer(memory, a, b, out, tasks, n, r):  # type: ignore[no-untyped-def]
    for t in range(tasks):
        for k in range(r):
            x, to = v.load(memory, a + (t * r + k) * W), out + (t * n * r + k) * W
            for i in range(n):
                factor = v.splat(v.real(memory, b + t * r * W + i))
                v.store(memory, to + i * r * W, v.mul(x, factor))


@compiled
def _matvec(memory, a, b, c, plus, out, tasks, n, r):  # type: ignore[no-untyped-def]
    """`dot(m_a, v_b)`, column by column; two sums side by side hide latency; `plus` adds v_c."""
    for t in range(tasks):
        for k in range(r):
            columns, x = a + (t * n * r + k) * W, b + t * r * W
            s0 = s1 = v.splat(np.float32(0))
            for i in range(0, n // 2 * 2, 2):
                m0 = columns + i * r * W
                s0 = v.fma(v.load(memory, m0), v.splat(v.real(memory, x + i)), s0)
                s1 = v.fma(v.load(memory, m0 + r * W), v.splat(v.real(memory, x + i + 1)), s1)
            if n % 2:
                s0 = v.fma(v.load(memory, columns + (n - 1) * r * W), v.splat(v.real(memory, x + n - 1)), s0)
            total = v.add(s0, s1)
            if plus:
                total = v.add(total, v.load(memory, c + (t * r + k) * W))
            v.store(memory, out + (t * r + k) * W, total)


@compiled
def _rank_one(memory, scale, a, b, scaled, c, out, tasks, n, r):  # type: ignore[no-untyped-def]
    """`outer(v_a, v_b) + m_c`; `scaled` multiplies v_a by the scalar first."""
    for t in range(tasks):
        for k in range(r):
            x, columns = v.load(memory, a + (t * r + k) * W), (t * n * r + k) * W
            if scaled:
                x = v.mul(v.splat(v.real(memory, scale + t)), x)
            for i in range(n):
                at_column = columns + i * r * W
                factor = v.splat(v.real(memory, b + t * r * W + i))
                v.store(memory, out + at_column, v.fma(x, factor, v.load(memory, c + at_column)))


@compiled
def _reduced(op, memory, a, columns, n, r):  # type: ignore[no-untyped-def]
    """The norm, mean or standard deviation of one task's vector or matrix."""
    zero, share = np.float32(0), np.float32(1.0 / (columns * n))
    if op == N.VECTOR_NORM or op == N.MATRIX_NORM:
        return np.sqrt(_squares(memory, a, zero, zero, columns, n, r))
    if op == N.VECTOR_MEAN or op == N.MATRIX_MEAN:
        return _sum(memory, a, zero, columns, n, r) * share
    first = v.real(memory, a)  # differences from it, as `functions.stdev`
    mean = _sum(memory, a, first, columns, n, r) * share
    return np.sqrt(_squares(memory, a, first, mean, columns, n, r) * share)


@compiled
def _sum(memory, a, first, columns, n, r):  # type: ignore[no-untyped-def]
    """The sum of differences from `first`; what fills registers up is left out at the end."""
    last, centre = (r - 1) * W, v.splat(first)
    full = ends = v.splat(np.float32(0))
    for column in range(a, a + columns * r * W, r * W):
        for i in range(column, column + last, W):
            full = v.add(full, v.sub(v.load(memory, i), centre))
        ends = v.add(ends, v.sub(v.load(memory, column + last), centre))
    return across.total(v.add(full, across.kept(ends, n - last)))


@compiled
def _squares(memory, a, first, mean, columns, n, r):  # type: ignore[no-untyped-def]
    """The sum of squared differences from `first`, less `mean`."""
    last, centre, shift = (r - 1) * W, v.splat(first), v.splat(mean)
    full = ends = v.splat(np.float32(0))
    for column in range(a, a + columns * r * W, r * W):
        for i in range(column, column + last, W):
            x = v.sub(v.sub(v.load(memory, i), centre), shift)
            full = v.fma(x, x, full)
        x = v.sub(v.sub(v.load(memory, column + last), centre), shift)
        ends = v.fma(x, x, ends)
    return across.total(v.add(full, across.kept(ends, n - last)))


# ---------------------------------------------------------------------------------------------- with tasks as lanes


@compiled
def _transposed(r, n, op, row, memory, scratch, seed, ids, at, count):  # type: ignore[no-untyped-def]
    """An op as `machine.other` runs it, on operands with tasks as lanes."""
    value = r * W * n * W
    first, second, result = scratch, scratch + value, scratch + 2 * value
    free, mine = scratch + 3 * value, scratch + 4 * value
    kind_a, kind_b, kind_out = _IN1[op], _IN2[op], _OUT[op]
    a = to_tasks(memory, kind_a, v.integer(row, m.A), first, n, r)
    b = to_tasks(memory, kind_b, v.integer(row, m.B), second, n, r)
    out = v.integer(row, m.OUT)
    here = result if kind_out > 0 else out
    if _READS_OUTPUT[op]:
        to_tasks(memory, kind_out, out, result, n, r)
    numbers = 1 if kind_out == 0 else (n if kind_out == 1 else n * n)
    address = memory + 4 * mine
    for column in range(m.COLUMNS):
        v.put_integer(address, column, v.integer(row, column))
    v.put_integer(address, m.A, a)
    v.put_integer(address, m.B, b)
    v.put_integer(address, m.OUT, here)
    v.put_integer(address, m.COUNT, numbers)
    m.other(op, n, address, memory, free, seed, ids, at, count)
    to_features(memory, kind_out, here, out, n, r)


@compiled
def to_tasks(memory, kind, place, to, n, r):  # type: ignore[no-untyped-def]
    """Writes a value with tasks as lanes, `[number, task]`, and returns where that is; scalars stay where they are."""
    if kind <= 0:
        return place
    for k in range(r):
        if kind == 1:
            across.transpose(memory, place + k * W, r * W, to + k * W * W, W)
        else:
            for i in range(n):
                across.transpose(memory, place + (i * r + k) * W, n * r * W, to + (k * W * n + i) * W, n * W)
    return to


@compiled
def to_features(memory, kind, source, place, n, r):  # type: ignore[no-untyped-def]
    """The way back; scalars stay where they are."""
    if kind <= 0:
        return
    for k in range(r):
        if kind == 1:
            across.transpose(memory, source + k * W * W, W, place + k * W, r * W)
        else:
            for i in range(n):
                across.transpose(memory, source + (k * W * n + i) * W, n * W, place + (i * r + k) * W, n * r * W)
