"""The interpreter with tasks as lanes: one instruction at a time, sixteen tasks at once.

Memory is one array of floats, `[number, lane]`: an address names its first number, and a vector is F numbers, a matrix
F * F, row by row. An instruction is a row of ten int64: op, the places of up to four operands (in floats), the place
of the output, how many numbers the output has, the ordinal in the random stream, and three constants as float32. Ops 0
to 64 are those of `ops.py`; the ones above are superinstructions (`fusion.py`). Ops that evolved programs
use most are unrolled for a known F (`step`), the others loop (`other`).
"""

import numpy as np

from zero_jax.executors.fusion import (
    DIFF_SCALE,
    DOT_SUM,
    GATED_SCALE,
    MATVEC_SUM,
    RANK_ONE,
    SCALAR_DIFF_PRODUCT,
    SCALAR_FMA,
    SCALED_PRODUCT,
    SCALED_RANK_ONE,
    SCALED_SUM,
    STEP_PRODUCT,
    VECTOR_SUM_OF_THREE,
)
from zero_jax.executors.simd import vector as v
from zero_jax.program.ops import Number as N
from zero_jax.support.compiled import compiled, compiled_into_caller

OP, A, B, C, D, OUT, COUNT, ORDINAL = range(8)  # the columns of a row
COLUMNS, ROW_BYTES, CONSTANTS = 10, 80, 16  # the last: where the first constant is in a row, counted in float32

# What `training.py` does between the components; no instructions of a program.
NEXT, CHECK, JUDGE = 77, 78, 79

W = v.WIDTH


@compiled
def map1(fn, memory, a, out, n):  # type: ignore[no-untyped-def]
    """A function of each of n registers."""
    for i in range(n):
        v.store(memory, out + i * W, fn(v.load(memory, a + i * W)))


@compiled
def map2(fn, memory, a, b, out, n):  # type: ignore[no-untyped-def]
    """A function of each two of n registers."""
    for i in range(n):
        v.store(memory, out + i * W, fn(v.load(memory, a + i * W), v.load(memory, b + i * W)))


@compiled
def _scale(memory, a, b, out, n):  # type: ignore[no-untyped-def]
    factor = v.load(memory, a)
    for i in range(n):
        v.store(memory, out + i * W, v.mul(factor, v.load(memory, b + i * W)))


@compiled
def _fill(memory, out, n, value):  # type: ignore[no-untyped-def]
    for i in range(n):
        v.store(memory, out + i * W, value)


@compiled
def copy(memory, a, out, n):  # type: ignore[no-untyped-def]
    """Copies n registers."""
    for i in range(n):
        v.store(memory, out + i * W, v.load(memory, a + i * W))


@compiled
def dot(memory, a, b, n):  # type: ignore[no-untyped-def]
    """Four sums side by side hide the latency of the additions."""
    s0 = v.mul(v.load(memory, a), v.load(memory, b))
    if n < 4:
        for i in range(1, n):
            s0 = v.fma(v.load(memory, a + i * W), v.load(memory, b + i * W), s0)
        return s0
    s1 = v.mul(v.load(memory, a + W), v.load(memory, b + W))
    s2 = v.mul(v.load(memory, a + 2 * W), v.load(memory, b + 2 * W))
    s3 = v.mul(v.load(memory, a + 3 * W), v.load(memory, b + 3 * W))
    for k in range(1, n // 4):
        i = k * 4 * W
        s0 = v.fma(v.load(memory, a + i), v.load(memory, b + i), s0)
        s1 = v.fma(v.load(memory, a + i + W), v.load(memory, b + i + W), s1)
        s2 = v.fma(v.load(memory, a + i + 2 * W), v.load(memory, b + i + 2 * W), s2)
        s3 = v.fma(v.load(memory, a + i + 3 * W), v.load(memory, b + i + 3 * W), s3)
    for i in range(n // 4 * 4, n):
        s0 = v.fma(v.load(memory, a + i * W), v.load(memory, b + i * W), s0)
    return v.add(v.add(s0, s1), v.add(s2, s3))


@compiled
def _matvec(memory, a, b, c, plus, out, n):  # type: ignore[no-untyped-def]
    """`dot(m_a, v_b)`, four rows at a time so that v_b is read a quarter as often; `plus` adds v_c."""
    blocks = n // 4
    for block in range(blocks):
        r = block * 4
        m0 = a + r * n * W
        m1, m2, m3 = m0 + n * W, m0 + 2 * n * W, m0 + 3 * n * W
        x = v.load(memory, b)
        s0, s1 = v.mul(v.load(memory, m0), x), v.mul(v.load(memory, m1), x)
        s2, s3 = v.mul(v.load(memory, m2), x), v.mul(v.load(memory, m3), x)
        for i in range(1, n):
            x = v.load(memory, b + i * W)
            s0, s1 = v.fma(v.load(memory, m0 + i * W), x, s0), v.fma(v.load(memory, m1 + i * W), x, s1)
            s2, s3 = v.fma(v.load(memory, m2 + i * W), x, s2), v.fma(v.load(memory, m3 + i * W), x, s3)
        if plus:
            s0, s1 = v.add(s0, v.load(memory, c + r * W)), v.add(s1, v.load(memory, c + r * W + W))
            s2, s3 = v.add(s2, v.load(memory, c + r * W + 2 * W)), v.add(s3, v.load(memory, c + r * W + 3 * W))
        v.store(memory, out + r * W, s0)
        v.store(memory, out + r * W + W, s1)
        v.store(memory, out + r * W + 2 * W, s2)
        v.store(memory, out + r * W + 3 * W, s3)
    for r in range(blocks * 4, n):
        s0 = dot(memory, a + r * n * W, b, n)
        if plus:
            s0 = v.add(s0, v.load(memory, c + r * W))
        v.store(memory, out + r * W, s0)


@compiled_into_caller
def step(size, features, op, row, memory, scratch, seed, ids, at, count):  # type: ignore[no-untyped-def]
    """Runs one instruction on `memory`.

    Args:
      size: a `vector.Size` of F, or of 0: compiled for that F, or for any.
      features: F.
      op, row: its op, and the address of its row.
      memory, scratch: the address of float32, aligned; the place in it of F * F numbers that are free.
      seed, ids, at, count: of the random stream: the seed, the task ids, the first of this group, and the number of the
        draw but for the ordinal.
    """
    n = v.number(size, features)
    a, b, out = v.integer(row, A), v.integer(row, B), v.integer(row, OUT)
    if op == N.SCALAR_SUM:
        v.store(memory, out, v.add(v.load(memory, a), v.load(memory, b)))
    elif op == N.SCALAR_DIFF:
        v.store(memory, out, v.sub(v.load(memory, a), v.load(memory, b)))
    elif op == N.SCALAR_PRODUCT:
        v.store(memory, out, v.mul(v.load(memory, a), v.load(memory, b)))
    elif op == N.VECTOR_HEAVYSIDE:
        map1(v.positive, memory, a, out, n)
    elif op == N.SCALAR_VECTOR_PRODUCT:
        _scale(memory, a, b, out, n)
    elif op == N.VECTOR_SUM:
        map2(v.add, memory, a, b, out, n)
    elif op == N.VECTOR_DIFF:
        map2(v.sub, memory, a, b, out, n)
    elif op == N.VECTOR_PRODUCT:
        map2(v.mul, memory, a, b, out, n)
    elif op == N.VECTOR_INNER_PRODUCT:
        v.store(memory, out, dot(memory, a, b, n))
    elif op == N.VECTOR_OUTER_PRODUCT:
        for r in range(n):
            _scale(memory, a + r * W, b, out + r * n * W, n)
    elif op == N.MATRIX_VECTOR_PRODUCT or op == MATVEC_SUM:
        c = v.integer(row, C)
        to = scratch if out == b or (op == MATVEC_SUM and out == c) else out
        if op == N.MATRIX_VECTOR_PRODUCT:
            _matvec(memory, a, b, c, False, to, n)
        else:
            _matvec(memory, a, b, c, True, to, n)
        if to != out:
            copy(memory, to, out, n)
    elif op == N.MATRIX_SUM:
        map2(v.add, memory, a, b, out, n * n)
    elif op == N.VECTOR_MAX:
        map2(v.maximum, memory, a, b, out, n)
    elif op == N.SCALAR_CONST_SET:
        v.store(memory, out, v.splat(v.real(row, CONSTANTS)))
    elif op == SCALAR_FMA:
        v.store(memory, out, v.fma(v.load(memory, a), v.load(memory, b), v.load(memory, v.integer(row, C))))
    elif op == SCALAR_DIFF_PRODUCT:
        difference = v.sub(v.load(memory, a), v.load(memory, b))
        v.store(memory, out, v.mul(difference, v.load(memory, v.integer(row, C))))
    elif op == DOT_SUM:
        v.store(memory, out, v.add(dot(memory, a, b, n), v.load(memory, v.integer(row, C))))
    elif op == SCALED_SUM:
        factor, c = v.load(memory, a), v.integer(row, C)
        for i in range(n):
            total = v.fma(factor, v.load(memory, b + i * W), v.load(memory, c + i * W))
            v.store(memory, out + i * W, total)
    elif op == SCALED_PRODUCT:
        factor, c = v.load(memory, a), v.integer(row, C)
        for i in range(n):
            scaled = v.mul(factor, v.load(memory, b + i * W))
            v.store(memory, out + i * W, v.mul(scaled, v.load(memory, c + i * W)))
    elif op == STEP_PRODUCT:
        for i in range(n):
            step = v.positive(v.load(memory, a + i * W))
            v.store(memory, out + i * W, v.mul(step, v.load(memory, b + i * W)))
    elif op == GATED_SCALE:
        factor, c = v.load(memory, a), v.integer(row, C)
        for i in range(n):
            scaled = v.mul(factor, v.load(memory, b + i * W))
            v.store(memory, out + i * W, v.mul(scaled, v.positive(v.load(memory, c + i * W))))
    elif op == RANK_ONE:
        c = v.integer(row, C)
        for r in range(n):
            factor = v.load(memory, a + r * W)
            for i in range(n):
                at_element = (r * n + i) * W
                total = v.fma(factor, v.load(memory, b + i * W), v.load(memory, c + at_element))
                v.store(memory, out + at_element, total)
    elif op == SCALED_RANK_ONE:
        scale, c, d = v.load(memory, a), v.integer(row, C), v.integer(row, D)
        for r in range(n):
            factor = v.mul(scale, v.load(memory, b + r * W))
            for i in range(n):
                at_element = (r * n + i) * W
                total = v.fma(factor, v.load(memory, c + i * W), v.load(memory, d + at_element))
                v.store(memory, out + at_element, total)
    elif op == VECTOR_SUM_OF_THREE:
        c = v.integer(row, C)
        for i in range(n):
            two = v.add(v.load(memory, a + i * W), v.load(memory, b + i * W))
            v.store(memory, out + i * W, v.add(two, v.load(memory, c + i * W)))
    elif op == DIFF_SCALE:
        factor, c = v.sub(v.load(memory, a), v.load(memory, b)), v.integer(row, C)
        for i in range(n):
            v.store(memory, out + i * W, v.mul(factor, v.load(memory, c + i * W)))
    else:
        other(op, features, row, memory, scratch, seed, ids, at, count)


@compiled
def other(op, features, row, memory, scratch, seed, ids, at, count):  # type: ignore[no-untyped-def]
    """The ops that are not unrolled."""
    n, a, b, out, size = features, v.integer(row, A), v.integer(row, B), v.integer(row, OUT), v.integer(row, COUNT)
    if op == N.SCALAR_DIVISION or op == N.VECTOR_DIVISION or op == N.MATRIX_DIVISION:
        map2(v.div, memory, a, b, out, size)
    elif op == N.SCALAR_ABS or op == N.VECTOR_ABS or op == N.MATRIX_ABS:
        map1(v.absolute, memory, a, out, size)
    elif op == N.SCALAR_RECIPROCAL or op == N.VECTOR_RECIPROCAL or op == N.MATRIX_RECIPROCAL:
        map1(v.reciprocal, memory, a, out, size)
    elif op <= N.SCALAR_HEAVYSIDE:
        _function(op, memory, a, out)
    elif op == N.MATRIX_HEAVYSIDE:
        map1(v.positive, memory, a, out, size)
    elif op == N.SCALAR_BROADCAST:
        _fill(memory, out, size, v.load(memory, a))
    elif op == N.SCALAR_MATRIX_PRODUCT:
        _scale(memory, a, b, out, size)
    elif op == N.VECTOR_COLUMN_BROADCAST:
        for r in range(n):
            _fill(memory, out + r * n * W, n, v.load(memory, a + r * W))
    elif op == N.VECTOR_ROW_BROADCAST:
        for r in range(n):
            copy(memory, a, out + r * n * W, n)
    elif op == N.MATRIX_TRANSPOSE:
        for r in range(n):
            for i in range(n):
                v.store(memory, scratch + (i * n + r) * W, v.load(memory, a + (r * n + i) * W))
        copy(memory, scratch, out, size)
    elif op == N.MATRIX_DIFF:
        map2(v.sub, memory, a, b, out, size)
    elif op == N.MATRIX_PRODUCT:
        map2(v.mul, memory, a, b, out, size)
    elif op == N.MATRIX_MATRIX_PRODUCT:
        _matmul(memory, a, b, scratch, n)
        copy(memory, scratch, out, size)
    elif op == N.SCALAR_MIN or op == N.VECTOR_MIN:
        map2(v.minimum, memory, a, b, out, size)
    elif op == N.MATRIX_MIN:
        map2(v.matrix_minimum, memory, a, b, out, size)
    elif op == N.SCALAR_MAX:
        map2(v.maximum, memory, a, b, out, size)
    elif op == N.MATRIX_MAX:
        map2(v.matrix_maximum, memory, a, b, out, size)
    elif op <= N.MATRIX_ST_DEV:
        _reduction(op, memory, a, out, n)
    elif op == N.VECTOR_CONST_SET:
        place = _place(n, v.real(row, CONSTANTS))
        v.store(memory, out + place * W, v.splat(v.real(row, CONSTANTS + 1)))
    elif op == N.MATRIX_CONST_SET:
        place = _place(n, v.real(row, CONSTANTS)) * n + _place(n, v.real(row, CONSTANTS + 1))
        v.store(memory, out + place * W, v.splat(v.real(row, CONSTANTS + 2)))
    elif op >= N.SCALAR_UNIFORM_SET:
        _random(op, row, memory, seed, ids, at, count)


@compiled
def _function(op, memory, a, out):  # type: ignore[no-untyped-def]
    x = v.load(memory, a)
    if op == N.SCALAR_SIN:
        x = v.sine(x)
    elif op == N.SCALAR_COS:
        x = v.cosine(x)
    elif op == N.SCALAR_TAN:
        x = v.tangent(x)
    elif op == N.SCALAR_ARCSIN:
        x = v.arcsine(x)
    elif op == N.SCALAR_ARCCOS:
        x = v.arccosine(x)
    elif op == N.SCALAR_ARCTAN:
        x = v.arctangent(x)
    elif op == N.SCALAR_EXP:
        x = v.exponential(x)
    elif op == N.SCALAR_LOG:
        # A sum makes a subnormal number zero; the C library would take its bits apart.
        x = v.logarithm(v.add(x, v.splat(np.float32(0))))
    elif op == N.SCALAR_HEAVYSIDE:
        x = v.not_negative(x)
    v.store(memory, out, x)


@compiled
def _sum(memory, a, step, n):  # type: ignore[no-untyped-def]
    total = v.load(memory, a)
    for i in range(1, n):
        total = v.add(total, v.load(memory, a + i * step))
    return total


@compiled
def _squares(memory, a, step, n):  # type: ignore[no-untyped-def]
    total = v.mul(v.load(memory, a), v.load(memory, a))
    for i in range(1, n):
        x = v.load(memory, a + i * step)
        total = v.add(total, v.mul(x, x))
    return total


@compiled
def _deviation(memory, a, n):  # type: ignore[no-untyped-def]
    """Around the first value, as `ops.py` does."""
    share, first = v.splat(np.float32(1.0 / n)), v.load(memory, a)
    total = v.sub(first, first)
    for i in range(1, n):
        total = v.add(total, v.sub(v.load(memory, a + i * W), first))
    mean, squares = v.mul(total, share), v.splat(np.float32(0))
    for i in range(n):
        around = v.sub(v.sub(v.load(memory, a + i * W), first), mean)
        squares = v.add(squares, v.mul(around, around))
    return v.root(v.mul(squares, share))


@compiled
def _reduction(op, memory, a, out, n):  # type: ignore[no-untyped-def]
    share = v.splat(np.float32(1.0 / n))
    if op == N.VECTOR_NORM:
        v.store(memory, out, v.root(_squares(memory, a, W, n)))
    elif op == N.MATRIX_NORM:
        v.store(memory, out, v.root(_squares(memory, a, W, n * n)))
    elif op == N.MATRIX_COLUMN_NORM:
        for i in range(n):
            v.store(memory, out + i * W, v.root(_squares(memory, a + i * W, n * W, n)))
    elif op == N.MATRIX_ROW_NORM:
        for r in range(n):
            v.store(memory, out + r * W, v.root(_squares(memory, a + r * n * W, W, n)))
    elif op == N.VECTOR_MEAN:
        v.store(memory, out, v.mul(_sum(memory, a, W, n), share))
    elif op == N.MATRIX_MEAN:
        v.store(memory, out, v.mul(_sum(memory, a, W, n * n), v.splat(np.float32(1.0 / (n * n)))))
    elif op == N.MATRIX_ROW_MEAN:
        for r in range(n):
            v.store(memory, out + r * W, v.mul(_sum(memory, a + r * n * W, W, n), share))
    elif op == N.MATRIX_ROW_ST_DEV:
        for r in range(n):
            v.store(memory, out + r * W, _deviation(memory, a + r * n * W, n))
    elif op == N.VECTOR_ST_DEV:
        v.store(memory, out, _deviation(memory, a, n))
    elif op == N.MATRIX_ST_DEV:
        v.store(memory, out, _deviation(memory, a, n * n))


@compiled
def _matmul(memory, a, b, out, n):  # type: ignore[no-untyped-def]
    for r in range(n):
        for i in range(n):
            total = v.mul(v.load(memory, a + r * n * W), v.load(memory, b + i * W))
            for k in range(1, n):
                total = v.fma(v.load(memory, a + (r * n + k) * W), v.load(memory, b + (k * n + i) * W), total)
            v.store(memory, out + (r * n + i) * W, total)


@compiled
def _place(n, index):  # type: ignore[no-untyped-def]
    """The element that an index constant names, computed in float32 as `ops.py` does."""
    return int(min(max(np.floor(np.float32(index) * np.float32(n)), 0), n - 1))


@compiled
def _random(op, row, memory, seed, ids, at, count):  # type: ignore[no-untyped-def]
    draw = count | (v.integer(row, ORDINAL) << 2)
    first, second = v.splat(v.real(row, CONSTANTS)), v.splat(v.real(row, CONSTANTS + 1))
    for i in range(v.integer(row, COUNT)):
        u, w = v.draws(seed, ids, at, i, draw)
        if op >= N.SCALAR_GAUSSIAN_SET:
            radius = v.root(v.mul(v.splat(np.float32(-2)), v.logarithm(v.sub(v.splat(np.float32(1)), u))))
            value = v.mul(radius, v.cosine(v.mul(v.splat(np.float32(2 * np.pi)), w)))
            value = v.fma(second, value, first)
        elif v.real(row, CONSTANTS) > v.real(row, CONSTANTS + 1):
            value = first
        else:
            value = v.fma(v.sub(second, first), u, first)
        v.store(memory, v.integer(row, OUT) + i * W, value)
