"""Calls of the kernel: programs and tasks as it reads them, and its results as executors return them.

Axes: `P` programs, `L` slots, `T` tasks, `G` groups of lanes, `F` features.
"""

import importlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zero_jax.executors.dispatch import OpSets
from zero_jax.executors.fusion import ALL_OPS, Superinstruction
from zero_jax.executors.gpu.layout import Layout, Shape, shape_of
from zero_jax.program import ops as op_table
from zero_jax.program.memory import COMPONENTS
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks


class Trained(NamedTuple):
    """What training returns.

    Attributes:
      fitness, steps: `[P, T]` float32 and int32.
      errors: `[P, T, E * (N + K)]` float32, training and validation, epoch by epoch, 0 after a stop; None where they
        are not wanted.
      memory: what runs leave, as `before` of `train`; None where nothing was given.
    """

    fitness: Array
    steps: Array
    errors: Array | None
    memory: tuple[Array, ...] | None


def train(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, sets: OpSets, *, errors: bool = False,
    before: tuple[Array, ...] | None = None, layout: Layout | None = None,
) -> Trained:  # fmt: skip
    """Trains programs on tasks, all at once.

    Args:
      programs: `P` of them, NO_OP in slots that are not in use, random instructions numbered (`liveness.number_draws`);
        one whose first length is negative is skipped.
      tasks: `T` of them.
      seed: uint32, of the random stream.
      max_abs_error: a larger error, or NaN, stops a run.
      sets: the ops to dispatch; others do nothing.
      errors: whether to return the error of each example too.
      before: the memory that runs begin with, in place of zeros: scalars `[P, T, S]`, vectors `[P, T, V, F]` and
        matrices `[P, T, M, F, F]`.
      layout: by default that of the table. It changes no result.
    """
    shape = shape_of(
        programs.memory, tuple(programs.starts), tasks.features, len(tasks), layout,
        accuracy=tasks.loss == "accuracy", classes=tasks.vector_classes, errors=errors,
        carries=before is not None,
    )  # fmt: skip
    epochs, n, k = tasks.order.shape[0], tasks.train_x.shape[1], tasks.valid_x.shape[1]
    x = jnp.swapaxes(jnp.concatenate([tasks.train_x, tasks.valid_x], 1), 0, 1)
    y = jnp.swapaxes(jnp.concatenate([tasks.train_y, tasks.valid_y], 1), 0, 1)
    behind = jnp.broadcast_to(n + jnp.arange(k, dtype=jnp.int32), (epochs, k))
    examples = {
        "sizes": jnp.array([len(tasks), n, k, epochs, before is not None], jnp.int32),
        "limit": max_abs_error.reshape(1),
        "order": jnp.concatenate([jnp.asarray(tasks.order, jnp.int32), behind], 1),
        "x": jnp.swapaxes(_in_groups(shape, jnp.asarray(x, jnp.float32)), 2, 3),
        "y": _in_groups(shape, jnp.asarray(y, jnp.float32)),
    }
    if before is not None:
        examples["before"] = packed_memory(shape, before)
    filled = _call(shape, programs, sets, seed, jnp.asarray(tasks.ids), examples)
    fitness, steps, kept = (filled[name][..., : len(tasks)] for name in ("fitness", "steps", "errors"))
    left = None if before is None else unpacked_memory(shape, filled["after"], len(tasks))
    return Trained(fitness, steps, jnp.swapaxes(kept, 1, 2) if errors else None, left)


def execute(
    programs: Programs, memory: Any, ids: Array, seed: Array, component: int, sets: OpSets, layout: Layout | None = None
) -> tuple[Array, ...]:
    """Runs one component once on a memory: scalars `[P, T, S]`, vectors `[P, T, V, F]`, matrices `[P, T, M, F, F]`."""
    tasks, features = memory[0].shape[1], memory[1].shape[-1]
    shape = shape_of(programs.memory, tuple(programs.starts), features, tasks, layout, component=component)
    none = {
        "sizes": jnp.array([tasks, 0, 0, 0, 1], jnp.int32),
        "limit": jnp.zeros(1),
        "order": jnp.zeros((1, 1), jnp.int32),
        "x": jnp.zeros((1, 1, 1, 1)),
        "y": jnp.zeros((1, 1, 1)),
        "before": packed_memory(shape, memory),
    }
    return unpacked_memory(shape, _call(shape, programs, sets, seed, ids, none)["after"], tasks)


def _call(
    shape: Shape, programs: Programs, sets: OpSets, seed: Array, ids: Array, more: dict[str, Array]
) -> dict[str, Array]:
    """What the kernel fills; `more` is what has nothing to do with the programs."""
    count, lengths = programs.code.shape[0], jnp.asarray(programs.length, jnp.int32)
    # Longest first, or a few would go on when all others have ended. Memories of blocks stay where they are.
    in_place = shape.carries or shape.component is not None
    order = jnp.arange(count) if in_place else jnp.argsort(-lengths[:, 1:].sum(1))
    given = {
        "seed": seed.reshape(1),
        "rows": jnp.pad(rows(shape, programs, sets), ((0, 0), (0, 1), (0, 0)))[order],
        "lengths": lengths[order],
        "ids": jnp.pad(ids.astype(jnp.int32), (0, shape.all_lanes - len(ids))),
        "before": jnp.zeros((1, 1)),
        **more,
    }
    blocks, runs = count * shape.groups, more["order"].size
    results = {
        "fitness": (count, shape.all_lanes),
        "steps": (count, shape.all_lanes),
        "errors": (count, runs, shape.all_lanes) if shape.errors else (1, 1, 1),
        "after": (blocks, shape.memory_words) if shape.keeps_memory else (1, 1),
    }
    carrier = importlib.import_module(f"zero_jax.executors.gpu.{shape.carrier}_carrier")
    filled: dict[str, Array] = carrier.call(shape, blocks, given, results)
    back = jnp.argsort(order)
    return {name: part[back] if part.shape[0] == count and not in_place else part for name, part in filled.items()}


def rows(shape: Shape, programs: Programs, sets: OpSets) -> Array:
    """`[P, L, 8]` int32, as `source.ARGUMENTS` says. Ops that are not covered do nothing."""
    covered = np.zeros((len(COMPONENTS), len(ALL_OPS)), np.int32)
    covered[:, len(op_table.OPS) :] = np.arange(len(op_table.OPS), len(ALL_OPS))
    for component, part in enumerate(sets):
        covered[component, list(part)] = list(part)
    of_slot = np.repeat(np.arange(len(COMPONENTS)), programs.capacity)
    code, data = jnp.asarray(programs.code, jnp.int32), jnp.asarray(programs.data, jnp.float32)
    op = jnp.asarray(covered)[of_slot[None], code[..., 0]]
    first, size = (shape.lanes * jnp.asarray(part, jnp.int32) for part in (shape.starts[:3], shape.elements))

    def places(kinds: np.ndarray, addresses: Array) -> Array:
        kind = jnp.asarray(kinds)[op]
        return jnp.where(kind >= 0, first[kind] + size[kind] * addresses, 0)

    operands, more = places(_KINDS[:, :3], code[..., 1:4]), places(_KINDS[:, 3:], data[..., :2].astype(jnp.int32))
    fused = (op >= len(op_table.OPS))[..., None]
    bits = lax.bitcast_convert_type(data, jnp.int32)
    rest = jnp.where(fused, more, bits[..., :2]), bits[..., 2:], jnp.zeros_like(op)[..., None]
    return jnp.concatenate([op[..., None], operands, *rest], -1)


def _kinds(op: op_table.Op | Superinstruction) -> list[int]:
    """Of in1, in2, out, and two more inputs; -1 where there is none."""
    inputs = [op_table.KINDS.index(kind) for kind in op.inputs] + [-1] * (4 - len(op.inputs))
    return [*inputs[:2], op_table.KINDS.index(op.output) if op.output else -1, *inputs[2:]]


_KINDS = np.array([_kinds(op) for op in ALL_OPS])


# ---------------------------------------------------------------------------------------------- tasks in groups


def _in_groups(shape: Shape, array: Array) -> Array:
    """`[n, T, ...]` as `[n, G, lanes, ...]`, zeros where no task is."""
    missing = [(0, 0)] * array.ndim
    missing[1] = (0, shape.all_lanes - array.shape[1])
    return jnp.pad(array, missing).reshape(array.shape[0], shape.groups, shape.lanes, *array.shape[2:])


def packed_memory(shape: Shape, memory: Any) -> Array:
    """Scalars `[P, T, S]`, vectors `[P, T, V, F]`, matrices `[P, T, M, F, F]` as blocks hold them, `[P * G, words]`."""
    scalars, vectors, matrices = memory
    count = scalars.shape[0]
    padded = jnp.pad(matrices, [(0, 0)] * 4 + [(0, shape.row - shape.features)])
    flat = jnp.concatenate([part.reshape(*part.shape[:2], -1) for part in (scalars, vectors, padded)], -1)
    grouped = _in_groups(shape, flat)
    words = jnp.swapaxes(grouped, 2, 3).reshape(count * shape.groups, -1)
    return jnp.pad(words, ((0, 0), (0, shape.memory_words - words.shape[1])))


def unpacked_memory(shape: Shape, words: Array, tasks: int) -> tuple[Array, ...]:
    """The inverse of `packed_memory`, for the first `tasks` lanes."""
    count, features = words.shape[0] // shape.groups, shape.features
    elements = words[:, : shape.starts[-1] * shape.lanes].reshape(count, shape.groups, shape.starts[-1], shape.lanes)
    flat = jnp.moveaxis(elements, 3, 2).reshape(count, shape.all_lanes, shape.starts[-1])[:, :tasks]
    scalars, vectors, matrices = jnp.split(flat, shape.starts[1:3], -1)
    return (
        scalars,
        vectors.reshape(count, tasks, shape.memory.vectors, features),
        matrices.reshape(count, tasks, shape.memory.matrices, features, shape.row)[..., :features],
    )
