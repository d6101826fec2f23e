"""One pass over a matrix where an example ends and the next begins: Learn's last update of it, Predict's first product.

`translate.py` finds the two, a rank-one update and the product of the same matrix with the features, and moves them to
the end of Learn and to the beginning of Predict. In one pass the matrix is loaded once instead of twice, and what was
just stored need not be waited for. Every number comes out as it would from the two instructions.
"""

import numpy as np

from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd import vector as v
from zero_jax.support.compiled import compiled

W = v.WIDTH


@compiled
def with_task_lanes(size, features, update, product, memory, x):  # type: ignore[no-untyped-def]
    """Runs both where tasks are lanes.

    `size` and `features` are as for `machine.step`; `update` and `product` are addresses of their rows, `memory` that
    of float32, aligned, and `x` the place of the new features, counted from there.
    """
    n, scaled = v.number(size, features), v.integer(update, m.OP) == m.SCALED_RANK_ONE
    plus, c, out = v.integer(product, m.OP) == m.MATVEC_SUM, v.integer(product, m.C), v.integer(product, m.OUT)
    if scaled:
        a, b = v.integer(update, m.B), v.integer(update, m.C)
    else:
        a, b = v.integer(update, m.A), v.integer(update, m.B)
    matrix = v.integer(update, m.OUT)
    scale = v.load(memory, v.integer(update, m.A))
    nothing = v.splat(np.float32(-0.0))  # which added changes nothing, not even -0
    for r in range(0, n // 4 * 4, 2):  # two rows at a time need no more registers than there are
        f0, f1 = v.load(memory, a + r * W), v.load(memory, a + r * W + W)
        if scaled:
            f0, f1 = v.mul(scale, f0), v.mul(scale, f1)
        m0, m1, s0, s1 = matrix + r * n * W, matrix + (r + 1) * n * W, nothing, nothing
        for i in range(n):
            old, new = v.load(memory, b + i * W), v.load(memory, x + i * W)
            e0, e1 = v.fma(f0, old, v.load(memory, m0 + i * W)), v.fma(f1, old, v.load(memory, m1 + i * W))
            v.store(memory, m0 + i * W, e0)
            v.store(memory, m1 + i * W, e1)
            s0, s1 = v.fma(e0, new, s0), v.fma(e1, new, s1)
        if plus:
            s0, s1 = v.add(s0, v.load(memory, c + r * W)), v.add(s1, v.load(memory, c + r * W + W))
        v.store(memory, out + r * W, s0)
        v.store(memory, out + r * W + W, s1)
    for r in range(n // 4 * 4, n):  # as in `machine.step`
        f0 = v.load(memory, a + r * W)
        if scaled:
            f0 = v.mul(scale, f0)
        for i in range(n):
            place = matrix + (r * n + i) * W
            v.store(memory, place, v.fma(f0, v.load(memory, b + i * W), v.load(memory, place)))
        s0 = m.dot(memory, matrix + r * n * W, x, n)
        if plus:
            s0 = v.add(s0, v.load(memory, c + r * W))
        v.store(memory, out + r * W, s0)


@compiled
def with_feature_lanes(registers, size, features, tasks, update, product, memory, x):  # type: ignore[no-untyped-def]
    """Runs both where features are lanes: the arguments are as for `feature_lanes.step` and `with_task_lanes`."""
    r, n, scaled = (
        v.registers(registers, features),
        v.number(size, features),
        v.integer(update, m.OP) == m.SCALED_RANK_ONE,
    )
    plus, c, out = v.integer(product, m.OP) == m.MATVEC_SUM, v.integer(product, m.C), v.integer(product, m.OUT)
    if scaled:
        a, b = v.integer(update, m.B), v.integer(update, m.C)
    else:
        a, b = v.integer(update, m.A), v.integer(update, m.B)
    scale, matrix = v.integer(update, m.A), v.integer(update, m.OUT)
    for t in range(tasks):
        old, new = b + t * r * W, x + t * r * W
        for k in range(r):
            left, columns = v.load(memory, a + (t * r + k) * W), matrix + (t * n * r + k) * W
            if scaled:
                left = v.mul(v.splat(v.real(memory, scale + t)), left)
            s0 = s1 = v.splat(np.float32(0))
            for i in range(0, n // 2 * 2, 2):
                m0, m1 = columns + i * r * W, columns + (i + 1) * r * W
                e0 = v.fma(left, v.splat(v.real(memory, old + i)), v.load(memory, m0))
                e1 = v.fma(left, v.splat(v.real(memory, old + i + 1)), v.load(memory, m1))
                v.store(memory, m0, e0)
                v.store(memory, m1, e1)
                s0 = v.fma(e0, v.splat(v.real(memory, new + i)), s0)
                s1 = v.fma(e1, v.splat(v.real(memory, new + i + 1)), s1)
            if n % 2:
                m0 = columns + (n - 1) * r * W
                e0 = v.fma(left, v.splat(v.real(memory, old + n - 1)), v.load(memory, m0))
                v.store(memory, m0, e0)
                s0 = v.fma(e0, v.splat(v.real(memory, new + n - 1)), s0)
            total = v.add(s0, s1)
            if plus:
                total = v.add(total, v.load(memory, c + (t * r + k) * W))
            v.store(memory, out + (t * r + k) * W, total)
