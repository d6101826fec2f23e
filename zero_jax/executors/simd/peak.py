"""The loop that the machine's multiply-add rate is measured with."""

import numpy as np

from zero_jax.executors.simd import vector as v
from zero_jax.support.compiled import entry_point

OPERATIONS = 2 * v.WIDTH * 12
"""Floating-point operations of one round."""


@entry_point
def multiply_add(rounds):  # type: ignore[no-untyped-def]
    """Twelve chains of multiply-adds on Lanes, enough to hide their latency."""
    x, y = v.splat(np.float32(0.999)), v.splat(np.float32(0.001))
    a, b, c, d, e, f = x, y, x, y, x, y
    g, h, i, j, k, m = x, y, x, y, x, y
    for _ in range(rounds):
        a, b, c, d = v.fma(a, x, y), v.fma(b, x, y), v.fma(c, x, y), v.fma(d, x, y)
        e, f, g, h = v.fma(e, x, y), v.fma(f, x, y), v.fma(g, x, y), v.fma(h, x, y)
        i, j, k, m = v.fma(i, x, y), v.fma(j, x, y), v.fma(k, x, y), v.fma(m, x, y)
    total = v.add(v.add(v.add(a, b), v.add(c, d)), v.add(v.add(e, f), v.add(g, h)))
    return v.within(v.add(total, v.add(v.add(i, j), v.add(k, m))), y)
