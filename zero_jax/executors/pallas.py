"""The GPU executor: populations handed to the Pallas kernel (`kernel.py`)."""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from zero_jax.executors import kernel
from zero_jax.executors.contract import Array, OpSets
from zero_jax.executors.kernel import Shape
from zero_jax.executors.layout import Layout, layout_for
from zero_jax.programs import COMPONENTS, Programs
from zero_jax.tasks import Tasks

# Of JAX 0.11; nothing that a user could do. `choice.py` falls back to XLA once it has come true.
warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")


def _words(programs: Programs, sets: OpSets) -> tuple[tuple[int, ...], Array]:
    """The ops of the jump table, and `[P, L + 1]` instructions in a word each; ops that are not covered do nothing."""
    ops = tuple(sorted({0}.union(*sets)))
    table = np.zeros((len(COMPONENTS), 65), np.int32)
    for component, part in enumerate(sets):
        for number in part:
            table[component, number] = ops.index(number)
    of_slot = np.repeat(np.arange(len(COMPONENTS)), programs.capacity)
    code = jnp.asarray(programs.code)
    word = jnp.asarray(table)[of_slot[None], code[..., 0]]
    for place in (1, 2, 3):
        word = word | (code[..., place] << (8 * place))
    return ops, jnp.pad(word, ((0, 0), (0, 1)))  # one more, since the next word is fetched before the last one runs


def _padded(array: Array, *sizes: int) -> Array:
    """Zeros behind the last axes, so that these have such sizes."""
    before = array.ndim - len(sizes)
    missing = [(0, 0)] * before + [(0, size - n) for size, n in zip(sizes, array.shape[before:], strict=True)]
    return jnp.pad(array, missing)


def _memory_shapes(shape: Shape, count: int) -> list[jax.ShapeDtypeStruct]:
    """The memory of some programs; at least one address of a kind, since no array may be empty."""
    tasks = shape.groups * shape.lanes
    return [
        jax.ShapeDtypeStruct((count, max(1, n), tasks) + (shape.width,) * axis, jnp.float32)
        for axis, n in enumerate(shape.memory)
    ]


def _memory_specs(shape: Shape) -> list[pl.BlockSpec]:
    return [
        pl.BlockSpec((None, max(1, n), shape.lanes) + (shape.width,) * axis, lambda p, g, a=axis: (p, 0, g) + (0,) * a)
        for axis, n in enumerate(shape.memory)
    ]


def _program_specs(shape: Shape) -> list[pl.BlockSpec]:
    slots = shape.starts[-1]
    return [pl.BlockSpec((None, size), lambda p, g: (p, 0)) for size in (slots + 1, 3 * slots, len(COMPONENTS))]


def _options(shape: Shape) -> dict[str, Any]:
    if shape.interpret:
        return {"interpret": True}
    return {"compiler_params": plt.CompilerParams(num_warps=shape.warps, num_stages=1)}


def _one() -> pl.BlockSpec:
    return pl.BlockSpec((1,), lambda p, g: (0,))


def evaluate_programs(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, sets: OpSets, *, interpret: bool = False,
    errors: bool = False, layout: Layout | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    """Trains programs on tasks, all at once.

    Args:
      programs: `P` of them, NO_OP in slots that are not in use, random instructions numbered (`dataflow.number_draws`);
        one whose first length is negative is skipped.
      tasks: `T` of them.
      seed: uint32, of the random stream.
      max_abs_error: a larger error, or NaN, stops a run.
      sets: the ops to dispatch; others do nothing.
      interpret: whether to run on any device, slowly.
      errors: whether to return the error of each example too.
      layout: lanes and warps; by default those of the table.

    Returns:
      Fitness `[P, T]` float32 and train_steps `[P, T]` int32; with `errors` also `[P, T, E * (N + K)]` float32,
      training and validation, epoch by epoch, 0 after a stop.
    """
    ops, words = _words(programs, sets)
    layout = layout or layout_for(tasks.features, len(tasks))
    n, k = tasks.train_x.shape[1], tasks.valid_x.shape[1]
    shape = Shape(
        ops, tuple(programs.starts), programs.memory, tasks.features, len(tasks), *layout, n, k, tasks.order.shape[0],
        tasks.loss == "accuracy", errors, interpret,
    )  # fmt: skip
    count, lanes, width, all_lanes = words.shape[0], shape.lanes, shape.width, shape.groups * shape.lanes
    examples = n + k
    x = jnp.concatenate([jnp.swapaxes(tasks.train_x, 0, 1), jnp.swapaxes(tasks.valid_x, 0, 1)])
    y = jnp.concatenate([jnp.swapaxes(tasks.train_y, 0, 1), jnp.swapaxes(tasks.valid_y, 0, 1)])
    behind = jnp.broadcast_to(n + jnp.arange(k, dtype=jnp.int32), (shape.epochs, k))
    rows = jnp.concatenate([jnp.asarray(tasks.order), behind], 1)
    arguments = (
        words, jnp.asarray(programs.data).reshape(count, -1), jnp.asarray(programs.length), seed.reshape(1),
        jnp.array([shape.features], jnp.int32), max_abs_error.reshape(1), rows, _padded(x, all_lanes, width),
        _padded(y, all_lanes), _padded(jnp.asarray(tasks.ids), all_lanes),
    )  # fmt: skip
    told = [jax.ShapeDtypeStruct((count, all_lanes), kind) for kind in (jnp.float32, jnp.int32) * 2]
    told_specs = [pl.BlockSpec((None, lanes), lambda p, g: (p, g)) for _ in told]
    if errors:
        told.append(jax.ShapeDtypeStruct((count, shape.epochs * examples, all_lanes), jnp.float32))
        told_specs.append(pl.BlockSpec((None, shape.epochs * examples, lanes), lambda p, g: (p, 0, g)))
    result = pl.pallas_call(
        partial(kernel.train, shape),
        grid=(count, shape.groups),
        in_specs=[
            *_program_specs(shape), _one(), _one(), _one(),
            pl.BlockSpec(rows.shape, lambda p, g: (0, 0)),
            pl.BlockSpec((examples, lanes, width), lambda p, g: (0, g, 0)),
            pl.BlockSpec((examples, lanes), lambda p, g: (0, g)),
            pl.BlockSpec((lanes,), lambda p, g: (g,)),
        ],
        out_shape=[*told, *_memory_shapes(shape, count)],
        out_specs=[*told_specs, *_memory_specs(shape)],
        name="zero_jax_train",
        **_options(shape),
    )(*arguments)  # fmt: skip
    fitness, steps, _, _, *rest = (part[..., : shape.tasks] for part in result[: len(told)])
    return fitness, steps, *(jnp.swapaxes(part, 1, 2) for part in rest)


def execute_programs(
    programs: Programs, memory: Any, ids: Array, seed: Array, component: int, sets: OpSets, *, interpret: bool = False,
    layout: Layout | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    """Runs one component once on a memory: scalars `[P, T, S]`, vectors `[P, T, V, F]`, matrices `[P, T, M, F, F]`."""
    ops, words = _words(programs, sets)
    tasks, features = memory[0].shape[1], memory[1].shape[-1]
    layout = layout or layout_for(features, tasks)
    shape = Shape(ops, tuple(programs.starts), programs.memory, features, tasks, *layout, interpret=interpret)
    count = words.shape[0]
    shapes = _memory_shapes(shape, count)
    moved = [jnp.swapaxes(part, 1, 2) for part in memory]
    padded = [_padded(part, *whole.shape[1:]) for part, whole in zip(moved, shapes, strict=True)]
    specs = _memory_specs(shape)
    after = pl.pallas_call(
        partial(kernel.execute, shape, component),
        grid=(count, shape.groups),
        in_specs=[*_program_specs(shape), _one(), _one(), pl.BlockSpec((shape.lanes,), lambda p, g: (g,)), *specs],
        out_shape=shapes,
        out_specs=specs,
        input_output_aliases={6: 0, 7: 1, 8: 2},
        name="zero_jax_execute",
        **_options(shape),
    )(
        words, jnp.asarray(programs.data).reshape(count, -1), jnp.asarray(programs.length), seed.reshape(1),
        jnp.array([shape.features], jnp.int32), _padded(ids, shape.groups * shape.lanes), *padded,
    )  # fmt: skip
    back = [jnp.swapaxes(part, 1, 2) for part in after]
    return tuple(part[tuple(slice(n) for n in given.shape)] for part, given in zip(back, memory, strict=True))
