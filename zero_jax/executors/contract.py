"""What every executor takes and returns, and the stream of random numbers that all of them share.

Axes: `P` programs, `T` tasks, `F` features, `L` instruction slots.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zero_jax.program import ops as op_table
from zero_jax.program.memory import COMPONENTS, MemorySize

Array = jax.Array

OpSets = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The ops that a dispatcher covers, sorted, for Setup, Predict and Learn."""

MAX_RUNS = 2**22
"""How often one component may run on one task: the random stream counts runs in 22 bits."""

MAX_DRAWS = 2**8
"""How many random instructions one component may have: the random stream counts them in 8 bits."""


class Evaluation(NamedTuple):
    """What an evaluation returns.

    Attributes:
      fitness: `[P, T]` float32, of each program on each task, in [0, 1].
      train_steps: `[P, T]` int32, training examples whose Predict ran, the stopping one included.
    """

    fitness: Array
    train_steps: Array


class Memory(NamedTuple):
    """The memory of every program on every task.

    Attributes:
      scalars: `[P, T, S]`.
      vectors: `[P, T, V, F]`.
      matrices: `[P, T, M, F, F]`.
    """

    scalars: Array
    vectors: Array
    matrices: Array


# ---------------------------------------------------------------------------------------------- fitness


def rmse_fitness(mean_squared_error: Array, arctan: Callable[[Array], Array] = jnp.arctan) -> Array:
    """1 - (2 / pi) atan(RMSE) (SPEC 2.4); its gradient is 0 where the error is."""
    positive = mean_squared_error > 0
    rmse = jnp.where(positive, jnp.sqrt(jnp.where(positive, mean_squared_error, 1.0)), 0.0)
    return 1.0 - (2.0 / np.pi) * arctan(rmse)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + jnp.exp(-x))


class Classes(NamedTuple):
    """What vector labels and predictions mean (SPEC 2). Arrays have features along one `axis`, batch axes around it.

    Attributes:
      number: C; the first C elements count.
      axis: that of features.
    """

    number: int
    axis: int

    def _numbers(self, x: Array) -> Array:
        return lax.broadcasted_iota(jnp.int32, x.shape, self.axis % x.ndim)

    def label(self, like: Array, number: Array) -> Array:
        """1 at the class of that number (an array without the axis), 0 elsewhere; shaped as `like`."""
        each = jnp.expand_dims(number, self.axis)
        return (self._numbers(like).astype(jnp.float32) == each).astype(jnp.float32)

    def probabilities(self, logits: Array) -> Array:
        """The first C elements after softmax, the others as they are; all C are NaN where one is, or infinite."""
        inside = self._numbers(logits) < self.number
        top = jnp.max(jnp.where(inside, logits, -jnp.inf), self.axis, keepdims=True)
        each = jnp.where(inside, jnp.exp(logits - top), 0.0)
        return jnp.where(inside, each / jnp.sum(each, self.axis, keepdims=True), logits)

    def error(self, probabilities: Array, number: Array) -> Array:
        """The largest |label - probability|, NaN where probabilities are; without the axis."""
        inside = self._numbers(probabilities) < self.number
        away = jnp.where(inside, jnp.abs(self.label(probabilities, number) - probabilities), 0.0)
        undefined = jnp.sum((away != away).astype(jnp.int32), self.axis) > 0  # not every device's maximum keeps a NaN
        return jnp.where(undefined, jnp.nan, jnp.max(away, self.axis))

    def predicted(self, logits: Array) -> Array:
        """The number of the class with the largest element, the last of equal ones, as float32; a NaN is none, and
        class 0 is predicted where all are.
        """
        numbers = self._numbers(logits)
        usable = (numbers < self.number) & (logits == logits)
        top = jnp.max(jnp.where(usable, logits, -jnp.inf), self.axis, keepdims=True)
        return jnp.max(jnp.where(usable & (logits == top), numbers, 0), self.axis).astype(jnp.float32)


def program_fitness(fitness: Any, combine: str = "mean") -> np.ndarray:
    """One fitness a program from one a task (SPEC 2.5).

    Args:
      fitness: `[P, T]`.
      combine: `mean`, or `median` (the upper one for an even number of tasks).

    Returns:
      `[P]` float64.

    Raises:
      ValueError: another `combine`.

    Example:
      >>> program_fitness([[0.0, 0.5, 1.0, 1.0]], "median").tolist()
      [1.0]
    """
    values = np.asarray(fitness, np.float64)
    if combine == "mean":
        return values.mean(-1)
    if combine == "median":
        return np.sort(values, -1)[..., values.shape[-1] // 2]
    raise ValueError(f"combine must be 'mean' or 'median', not {combine!r}")


# ---------------------------------------------------------------------------------------------- the random stream


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
    """The number of a draw in the stream of (seed, task): component, run and ordinal (SPEC 2) packed into 32 bits.

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
      ValueError: a seed that is not a whole number.
    """
    if isinstance(seed, int | np.integer):
        return jnp.asarray(int(seed) & 0xFFFFFFFF, jnp.uint32)
    if not isinstance(seed, jax.Array | np.ndarray):
        raise ValueError(f"seed must be one whole number, not {seed!r}")
    array = jnp.asarray(seed)
    if array.ndim or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"seed must be one whole number, not {seed!r}")
    return array.astype(jnp.uint32)


# ---------------------------------------------------------------------------------------------- the dispatcher's ops


def op_sets(ops: Any, memory: MemorySize) -> OpSets:
    """Normalises the `ops` argument of `evaluate`.

    Args:
      ops: None for all 65; numbers for all components; or three collections, for Setup, Predict and Learn.
      memory: ops whose operands it does not have are left out, since no program can use them.

    Raises:
      ValueError: something else, or a number outside 0 to 64.
    """
    if ops is not None and not isinstance(ops, Iterable):
        raise ValueError(f"ops must be op numbers, or three collections of them, not {ops!r}")
    numbers: list[Any] = list(range(65)) if ops is None else list(ops)
    nested = numbers and all(isinstance(part, Iterable) for part in numbers)
    if nested and len(numbers) != len(COMPONENTS):
        raise ValueError(f"ops must be op numbers, or three collections of them, not {ops!r}")
    triple = numbers if nested else [numbers] * len(COMPONENTS)
    absent = {kind for kind, n in zip(op_table.KINDS, memory, strict=True) if n == 0}
    sets = []
    for part in triple:
        if any(not isinstance(n, int | np.integer) or not 0 <= n <= 64 for n in part):
            raise ValueError(f"ops must be whole numbers from 0 to 64, not {part!r}")
        usable = (op_table.OPS[int(n)] for n in part)
        sets.append(tuple(sorted({op.number for op in usable if not absent & {*op.inputs, op.output}})))
    return cast(OpSets, tuple(sets))
