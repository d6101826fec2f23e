"""The Pallas kernel on NVIDIA GPUs: its machine there (`kernel.py`), and the calls that hand it programs.

A program on a group of tasks is one block of threads. The memory of a block is `[address, lane, feature(, feature)]` in
the GPU's global memory, of which the blocks that run at a time fit its caches. What threads write there, others read
only behind a barrier.

Triton takes arrays whose axes are powers of two, so lanes and features are padded: ops know the true F, and what they
write is zero behind it, so that sums need no masks.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from zero_jax.executors.dispatch import OpSets
from zero_jax.executors.pallas import kernel
from zero_jax.executors.pallas.kernel import Shape, packed
from zero_jax.executors.pallas.layout import Layout, layout_for, power_of_two
from zero_jax.executors.pallas.training import Outputs, Training
from zero_jax.program import ops as op_table
from zero_jax.program.memory import COMPONENTS
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

# JAX 0.11 says so, and a user can do nothing about it. Once it is gone, `executor.py` refuses and XLA serves.
warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")


# ---------------------------------------------------------------------------------------------- the machine


class _Machine(kernel.Machine):
    """A block of GPU threads.

    Args:
      size: `[1]` F.
      others: as `kernel.Machine` says.
    """

    def __init__(
        self, shape: Shape, words: Any, constants: Any, ids: Any, seed: Any, size: Any, memory: dict[str, Any]
    ) -> None:
        features = op_table.Features(shape.features, jnp.sum, self._sum)
        super().__init__(shape, words, constants, ids, seed, features, memory)
        self.size = size

    def _sum(self, term: Callable[[Array], Array]) -> Array:
        """The sum of matrices `term(k)` over features; the loop's end is data, or the compiler would unroll it and take
        three times the registers.
        """
        zeros = jnp.zeros(self.value("m"), jnp.float32)
        return lax.fori_loop(jnp.int32(0), self.size[0], lambda k, sum_: sum_ + term(k), zeros)

    def barrier(self) -> None:
        if not self.shape.interpret:
            plt.debug_barrier()

    def settle(self) -> None:
        if self.shape.warps > 1:
            self.barrier()

    def branch(self, index: Array, branches: Sequence[Callable[[], None]]) -> None:
        lax.switch(index, branches)  # a jump table

    def column(self, address: Array, k: Array) -> Array:
        return self.memory["m"][address, :, :, k]

    def row(self, address: Array, k: Array) -> Array:
        return self.memory["m"][address, :, k, :]

    def write_row(self, address: Array, k: Array, value: Array) -> None:
        self.memory["m"][address, :, k, :] = value


class _Examples:
    """Examples in global memory.

    Args:
      rows: `[E, N + K]` where the examples of each epoch lie in the next two.
      x, y: `[N + K, lanes, features]`, `[N + K, lanes]`.
    """

    def __init__(self, rows: Any, x: Any, y: Any) -> None:
        self.rows = rows
        self.x = x
        self.y = y

    def begin(self) -> None:
        pass

    def example(self, epoch: Array, number: Array, predicting: Array) -> tuple[Array, Array]:
        row = self.rows[epoch, number]
        return self.x[row], self.y[row]

    def label(self, epoch: Array, number: Array) -> Array:
        return self.y[self.rows[epoch, number]]

    def end(self) -> None:
        pass


def _train(shape: Shape, *refs: Any) -> None:
    """One program on one group of tasks."""
    words, constants, lengths, seed, size, limit, rows, x, y, ids, *outputs, s, v, m = refs
    memory = dict(zip(op_table.KINDS, (s, v, m), strict=True))
    machine = _Machine(shape, words, constants, ids, seed, size, memory)
    lane = pl.program_id(1) * shape.lanes + lax.broadcasted_iota(jnp.int32, (shape.lanes,), 0)
    write = Outputs(*outputs, *[None] * (not shape.errors))
    Training(shape, machine, lengths, limit, _Examples(rows, x, y), write).run(lane)


def _execute(shape: Shape, component: int, *refs: Any) -> None:
    """One run of one component on a given memory."""
    words, constants, lengths, seed, size, ids, _, _, _, *memory = refs
    machine = _Machine(shape, words, constants, ids, seed, size, dict(zip(op_table.KINDS, memory, strict=True)))
    kernel.run_once(machine, lengths, component)


# ---------------------------------------------------------------------------------------------- calls


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
    slots = shape.starts[-1] + 1
    return [pl.BlockSpec((None, size), lambda p, g: (p, 0)) for size in (slots, 3 * slots, len(COMPONENTS))]


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
      programs: `P` of them, NO_OP in slots that are not in use, random instructions numbered (`liveness.number_draws`);
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
    ops, words, constants = packed(programs, sets)
    layout = layout or layout_for(tasks.features, len(tasks))
    n, k = tasks.train_x.shape[1], tasks.valid_x.shape[1]
    shape = Shape(
        ops, tuple(programs.starts), programs.memory, tasks.features, power_of_two(tasks.features), len(tasks),
        layout.lanes, layout.by_row, layout.warps, n, k, tasks.order.shape[0], tasks.loss == "accuracy",
        tasks.vector_classes, errors, interpret,
    )  # fmt: skip
    count, lanes, width, all_lanes = words.shape[0], shape.lanes, shape.width, shape.groups * shape.lanes
    examples = n + k
    x = jnp.concatenate([jnp.swapaxes(tasks.train_x, 0, 1), jnp.swapaxes(tasks.valid_x, 0, 1)])
    y = jnp.concatenate([jnp.swapaxes(tasks.train_y, 0, 1), jnp.swapaxes(tasks.valid_y, 0, 1)])
    behind = jnp.broadcast_to(n + jnp.arange(k, dtype=jnp.int32), (shape.epochs, k))
    rows = jnp.concatenate([jnp.asarray(tasks.order), behind], 1)
    arguments = (
        words, constants, jnp.asarray(programs.length), seed.reshape(1),
        jnp.array([shape.features], jnp.int32), max_abs_error.reshape(1), rows, _padded(x, all_lanes, width),
        _padded(y, all_lanes), _padded(jnp.asarray(tasks.ids), all_lanes),
    )  # fmt: skip
    outputs = [jax.ShapeDtypeStruct((count, all_lanes), kind) for kind in (jnp.float32, jnp.int32) * 2]
    output_specs = [pl.BlockSpec((None, lanes), lambda p, g: (p, g)) for _ in outputs]
    if errors:
        outputs.append(jax.ShapeDtypeStruct((count, shape.epochs * examples, all_lanes), jnp.float32))
        output_specs.append(pl.BlockSpec((None, shape.epochs * examples, lanes), lambda p, g: (p, 0, g)))
    result = pl.pallas_call(
        partial(_train, shape),
        grid=(count, shape.groups),
        in_specs=[
            *_program_specs(shape), _one(), _one(), _one(),
            pl.BlockSpec(rows.shape, lambda p, g: (0, 0)),
            pl.BlockSpec((examples, lanes, width), lambda p, g: (0, g, 0)),
            pl.BlockSpec((examples, lanes), lambda p, g: (0, g)),
            pl.BlockSpec((lanes,), lambda p, g: (g,)),
        ],
        out_shape=[*outputs, *_memory_shapes(shape, count)],
        out_specs=[*output_specs, *_memory_specs(shape)],
        name="zero_jax_train",
        **_options(shape),
    )(*arguments)  # fmt: skip
    fitness, steps, _, _, *rest = (part[..., : shape.tasks] for part in result[: len(outputs)])
    return fitness, steps, *(jnp.swapaxes(part, 1, 2) for part in rest)


def execute_programs(
    programs: Programs, memory: Any, ids: Array, seed: Array, component: int, sets: OpSets, *, interpret: bool = False,
    layout: Layout | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    """Runs one component once on a memory: scalars `[P, T, S]`, vectors `[P, T, V, F]`, matrices `[P, T, M, F, F]`."""
    ops, words, constants = packed(programs, sets)
    tasks, features = memory[0].shape[1], memory[1].shape[-1]
    layout = layout or layout_for(features, tasks)
    shape = Shape(
        ops, tuple(programs.starts), programs.memory, features, power_of_two(features), tasks, layout.lanes,
        layout.by_row, layout.warps, interpret=interpret,
    )  # fmt: skip
    count = words.shape[0]
    shapes = _memory_shapes(shape, count)
    moved = [jnp.swapaxes(part, 1, 2) for part in memory]
    padded = [_padded(part, *whole.shape[1:]) for part, whole in zip(moved, shapes, strict=True)]
    specs = _memory_specs(shape)
    after = pl.pallas_call(
        partial(_execute, shape, component),
        grid=(count, shape.groups),
        in_specs=[*_program_specs(shape), _one(), _one(), pl.BlockSpec((shape.lanes,), lambda p, g: (g,)), *specs],
        out_shape=shapes,
        out_specs=specs,
        input_output_aliases={6: 0, 7: 1, 8: 2},
        name="zero_jax_execute",
        **_options(shape),
    )(
        words, constants, jnp.asarray(programs.length), seed.reshape(1),
        jnp.array([shape.features], jnp.int32), _padded(ids, shape.groups * shape.lanes), *padded,
    )  # fmt: skip
    back = [jnp.swapaxes(part, 1, 2) for part in after]
    return tuple(part[tuple(slice(n) for n in given.shape)] for part, given in zip(back, memory, strict=True))
