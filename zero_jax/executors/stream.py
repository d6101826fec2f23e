"""The stream of random numbers that all executors share. Numbers are counted, not carried: each is a hash of the seed,
the task, the element and the number of the draw.

Axes: `P` programs, `T` tasks, `F` features.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zero_jax.tasks import Tasks

MAX_RUNS = 2**22
"""How often a component may run on a task: the stream counts runs in 22 bits."""

MAX_DRAWS = 2**8
"""How many random instructions a component may have: the stream counts them in 8 bits."""


def runs(tasks: Tasks) -> int:
    """How often Predict runs on a task."""
    return int(tasks.order.shape[0] * (tasks.train_x.shape[1] + tasks.valid_x.shape[1]))


def pcg4d(x: Array, y: Array, z: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """A hash of four uint32 to four uint32 (Jarzynski & Olano, JCGT 9(3), 2020)."""
    x, y, z, w = (v * jnp.uint32(1664525) + jnp.uint32(1013904223) for v in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    x, y, z, w = (v ^ (v >> jnp.uint32(16)) for v in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    return x, y, z, w


def draw_number(component: Array | int, run: Array, ordinal: Array) -> Array:
    """The number of a draw in the stream of (seed, task): component, run and ordinal packed into 32 bits.

    `run` takes 22 bits, `ordinal` 8, `component` 2.
    """
    parts = (jnp.asarray(part).astype(jnp.uint32) for part in (run, ordinal, component))
    run_bits, ordinal_bits, component_bits = parts
    return (run_bits << jnp.uint32(10)) | (ordinal_bits << jnp.uint32(2)) | component_bits


def draws(
    shape: Sequence[int],
    seed: Array,
    tasks: Array,
    number: Array,
    features: int | None = None,
    first: Array | int = 0,
    tasks_last: bool = False,
) -> tuple[Array, Array]:
    """Two uniforms in [0, 1) for each element of a value, a pure function of (seed, task, element, number).

    Args:
      shape: of the value: `()`, `(F,)` or `(F, F)`, or longer where it is padded. Elements count row by row.
      seed: uint32.
      tasks: `[T]` int32 task ids.
      number: uint32, from `draw_number`.
      features: F, where `shape` is padded.
      first: the number of the first element, for a part of a value.
      tasks_last: whether tasks are the last axis of what is returned.

    Returns:
      Two arrays `[T, *shape]`, or `[*shape, T]`, float32, multiples of 2**-24.
    """
    full = (*shape, tasks.shape[0]) if tasks_last else (tasks.shape[0], *shape)
    element = jnp.zeros(full, jnp.uint32)
    for axis in range(len(shape)) if tasks_last else range(1, len(full)):
        stride = np.uint32(full[axis] if features is None else features)
        element = element * stride + lax.broadcasted_iota(jnp.uint32, full, axis)
    element = element + jnp.asarray(first).astype(jnp.uint32)
    task = tasks.astype(jnp.uint32)
    if not tasks_last:
        task = task.reshape((-1,) + (1,) * len(shape))
    first, second, _, _ = pcg4d(*(jnp.broadcast_to(v, full) for v in (seed, task, element, number)))
    return unit(first), unit(second)


def fingerprints(errors: Array) -> Array:
    """Hashes `[P, T, R]` errors of each program to `[P, 4]` uint32: equal for errors that are equal to the bit.

    Sums of hashes of bits and place; -0 counts as 0, and all NaN as one.
    """
    exact = jnp.where(jnp.isnan(errors), jnp.nan, jnp.where(errors == 0, 0.0, errors))
    bits = lax.bitcast_convert_type(exact, jnp.uint32).reshape(errors.shape[0], -1)
    place = lax.broadcasted_iota(jnp.uint32, bits.shape, 1)
    hashes = pcg4d(bits, place, bits ^ jnp.uint32(0x9E3779B9), place)
    return jnp.stack([h.sum(1, dtype=jnp.uint32) for h in hashes], 1)


def unit(bits: Array) -> Array:
    """A float32 in [0, 1) from the upper 24 bits."""
    return (bits >> jnp.uint32(8)).astype(jnp.int32).astype(jnp.float32) * np.float32(2**-24)


def seed_bits(seed: Any) -> Array:
    """A seed as uint32; of a larger integer the lower 32 bits.

    Raises:
      ValueError: the seed is not a whole number.
    """
    if isinstance(seed, int | np.integer):
        return jnp.asarray(int(seed) & 0xFFFFFFFF, jnp.uint32)
    if not isinstance(seed, jax.Array | np.ndarray):
        raise ValueError(f"seed must be one whole number, not {seed!r}")
    array = jnp.asarray(seed)
    if array.ndim or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"seed must be one whole number, not {seed!r}")
    return array.astype(jnp.uint32)
