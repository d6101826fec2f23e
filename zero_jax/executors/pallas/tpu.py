"""The Pallas kernel on TPUs: its machine there (`kernel.py`), and the calls that hand it programs.

A TPU works on registers of 8 x 128 numbers, so 128 tasks are the lanes and features lie in front of them. A program's
memory stays in the core's fast memory (VMEM), `[address, feature, feature, lane]`; its instructions are scalars in
another (SMEM); examples are copied from the large memory (HBM) one ahead.

Compiled for a TPU v5e without one (`experiments/throughput/v5e.py`) and interpreted in tests. It has never run on a
TPU, so `auto` does not take it.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from zero_jax.executors.dispatch import OpSets
from zero_jax.executors.pallas import kernel
from zero_jax.executors.pallas.kernel import Shape, packed
from zero_jax.executors.pallas.layout import LANES
from zero_jax.executors.pallas.training import Outputs, Training
from zero_jax.program import ops as op_table
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

# ---------------------------------------------------------------------------------------------- the machine


class _Machine(kernel.Machine):
    """A TPU core; arguments as `kernel.Machine` says."""

    def __init__(self, shape: Shape, words: Any, constants: Any, ids: Any, seed: Any, memory: dict[str, Any]) -> None:
        features = op_table.Features(shape.features, lambda x, axis: jnp.sum(x, axis - 1), self._sum, behind=1)
        super().__init__(shape, words, constants, ids, seed, features, memory)

    def _sum(self, term: Callable[[Array], Array]) -> Array:
        return lax.fori_loop(
            jnp.int32(1), jnp.int32(self.shape.features), lambda k, sum_: sum_ + term(k), term(jnp.int32(0))
        )

    def branch(self, index: Array, branches: Sequence[Callable[[], None]]) -> None:
        """A tree, since a switch becomes a chain of as many conditions as it has branches."""
        middle = len(branches) // 2
        if not middle:
            branches[0]()
            return
        first, second = branches[:middle], branches[middle:]
        lax.cond(
            index < middle, lambda: self.branch(index, first), lambda: self.branch(index - jnp.int32(middle), second)
        )

    def arctan(self, x: Array) -> Array:
        return arctan(x)

    def function(self, op: op_table.Op) -> Callable[..., Array]:
        return _FUNCTIONS.get(op.name, super().function(op))

    def column(self, address: Array, k: Array) -> Array:
        return self.memory["m"][address, :, k]

    def row(self, address: Array, k: Array) -> Array:
        return self.memory["m"][address, k]

    def write_row(self, address: Array, k: Array, value: Array) -> None:
        self.memory["m"][address, k] = value


def arctan(x: Array) -> Array:
    """The arctangent, which Pallas lacks for TPUs, within 3 units in the last place: reduced to |x| < tan(pi / 8), then
    a polynomial (S. L. Moshier's Cephes library, atanf).
    """
    size = jnp.abs(x)
    large, middle = size > 2.414213562373095, size > 0.4142135623730950
    small = jnp.where(large, -1.0 / size, jnp.where(middle, (size - 1.0) / (size + 1.0), size))
    offset = jnp.where(large, np.pi / 2, jnp.where(middle, np.pi / 4, 0.0))
    square = small * small
    series = 8.05374449538e-2 * square - 1.38776856032e-1
    series = (series * square + 1.99777106478e-1) * square - 3.33329491539e-1
    angle = offset + (series * square * small + small)
    return jnp.where(x < 0, -angle, angle)


def _arcsin(x: Array) -> Array:
    return 2.0 * arctan(x / (1.0 + jnp.sqrt((1.0 - x) * (1.0 + x))))


def _arccos(x: Array) -> Array:
    return 2.0 * arctan(jnp.sqrt((1.0 - x) / (1.0 + x)))


_FUNCTIONS = {"SCALAR_ARCSIN": _arcsin, "SCALAR_ARCCOS": _arccos, "SCALAR_ARCTAN": arctan}


class _Examples:
    """Examples copied from HBM, the next one while the last is at work.

    Args:
      count: N + K.
      rows: `[E * (N + K)]` where the examples of each epoch lie in the next one.
      source: `[N + K, F + 1, lanes]` features and labels, in HBM.
      buffer: `[2, F + 1, lanes]`.
      arrived: `[2]` semaphores.
      under_way: `[1]` which half of the buffer is being written, or -1.
    """

    def __init__(self, count: int, rows: Any, source: Any, buffer: Any, arrived: Any, under_way: Any) -> None:
        self.count = count
        self.rows = rows
        self.source = source
        self.buffer = buffer
        self.arrived = arrived
        self.under_way = under_way

    def _copy(self, row: Array, half: Array) -> Any:
        return pltpu.make_async_copy(self.source.at[row], self.buffer.at[half], self.arrived.at[half])

    def _start(self, epoch: Array, number: Array) -> None:
        half = number % 2
        self._copy(self.rows[epoch * self.count + number], half).start()
        self.under_way[0] = half

    def begin(self) -> None:
        self.under_way[0] = jnp.int32(-1)

    def example(self, epoch: Array, number: Array, predicting: Array) -> tuple[Array, Array]:
        @pl.when(predicting)
        def _() -> None:
            pl.when(number == 0)(lambda: self._start(epoch, number))
            self.end()
            pl.when(number + 1 < self.count)(lambda: self._start(epoch, number + 1))

        half = number % 2
        return self.buffer[half, :-1], self.buffer[half, -1]

    def label(self, epoch: Array, number: Array) -> Array:
        return self.buffer[number % 2, -1]

    def end(self) -> None:
        half = self.under_way[0]

        @pl.when(half >= 0)
        def _() -> None:
            self._copy(jnp.int32(0), half).wait()  # for as many bytes, wherever they come from
            self.under_way[0] = jnp.int32(-1)


def _train(shape: Shape, *refs: Any) -> None:
    """One program on one group of tasks."""
    words, constants, lengths, seed, limit, rows, source, ids, fitness, steps, *errors = refs[: 10 + shape.errors]
    lost, alive, s, v, m, buffer, arrived, under_way = refs[10 + shape.errors :]
    machine = _Machine(shape, words, constants, ids, seed, dict(zip(op_table.KINDS, (s, v, m), strict=True)))
    group = pl.program_id(1)
    examples = _Examples(shape.train + shape.valid, rows, source.at[:, group], buffer, arrived, under_way)
    outputs = Outputs(fitness, steps, lost, alive, *errors, *[None] * (not shape.errors))
    lane = group * LANES + lax.broadcasted_iota(jnp.int32, (1, LANES), 1)[0]
    Training(shape, machine, lengths, limit, examples, outputs).run(lane)


def _execute(shape: Shape, component: int, *refs: Any) -> None:
    """One run of one component on a given memory."""
    words, constants, lengths, seed, ids, *arrays = refs
    here = pl.program_id(0), pl.program_id(1)
    before, after, memory = (dict(zip(op_table.KINDS, arrays[i : i + 3], strict=True)) for i in (0, 3, 6))
    for kind in op_table.KINDS:
        pltpu.sync_copy(before[kind].at[here], memory[kind])
    machine = _Machine(shape, words, constants, ids, seed, memory)
    kernel.run_once(machine, lengths, component)
    for kind in op_table.KINDS:
        pltpu.sync_copy(memory[kind], after[kind].at[here])


# ---------------------------------------------------------------------------------------------- calls


def lowered_for_v5e() -> AbstractContextManager[Any]:
    """A context in which the kernel is lowered for a TPU v5e on a machine without one.

    From 0.12 on, JAX lowers a kernel for one kind of TPU, that of the default device unless it is given another.
    """
    if not hasattr(jax.sharding, "AbstractDevice"):
        return nullcontext()
    known = inspect.signature(jax.sharding.AbstractDevice).parameters
    kind: dict[str, Any] = {"device_kind": "TPU v5 lite", "num_cores": 1, "platform": "tpu"}
    device = jax.sharding.AbstractDevice(**{name: kind[name] for name in known})
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device))


def _of_program(*sizes: int, memory_space: Any = pltpu.VMEM) -> pl.BlockSpec:
    """A block of `[P, 1, ...]`, one a program."""
    return pl.BlockSpec((None, None, *sizes), lambda p, g: (p,) + (0,) * (1 + len(sizes)), memory_space=memory_space)


def _of_group(*sizes: int | None) -> pl.BlockSpec:
    """A block of `[P, groups, ...]`, one a program and group of tasks."""
    return pl.BlockSpec((None, None, *sizes), lambda p, g: (p, g) + (0,) * len(sizes), memory_space=pltpu.VMEM)


def _whole(memory_space: Any) -> pl.BlockSpec:
    return pl.BlockSpec(memory_space=memory_space)


def _program(programs: Programs, sets: OpSets) -> tuple[tuple[int, ...], list[Array], list[pl.BlockSpec]]:
    """The ops of the jump table; `[P, 1, ...]` words, constants and lengths; and their blocks."""
    ops, words, constants = packed(programs, sets)
    count = words.shape[0]
    parts = (words, constants, jnp.asarray(programs.length))
    arrays = [part.reshape(count, 1, -1) for part in parts]
    return ops, arrays, [_of_program(part.shape[-1], memory_space=pltpu.SMEM) for part in arrays]


def _lanes_last(array: Array, axis: int, groups: int) -> Array:
    """Tasks, from one axis, as the last, with zeros behind the last of them."""
    last = jnp.moveaxis(array, axis, -1)
    return jnp.pad(last, [(0, 0)] * (last.ndim - 1) + [(0, groups * LANES - last.shape[-1])])


def _memory_sizes(shape: Shape) -> list[tuple[int, ...]]:
    """At least one address of a kind, since no array may be empty."""
    return [(max(1, n), *(shape.features,) * axis, LANES) for axis, n in enumerate(shape.memory)]


def _options(interpret: Any) -> dict[str, Any]:
    if interpret:
        return {"interpret": interpret}
    return {"compiler_params": pltpu.CompilerParams(dimension_semantics=("parallel", "parallel"))}


def _shape(programs: Programs, ops: tuple[int, ...], features: int, tasks: int, **more: Any) -> Shape:
    return Shape(
        ops, tuple(programs.starts), programs.memory, features, features, tasks, LANES, by_row=features > 8, **more
    )


def evaluate_programs(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, sets: OpSets, *, interpret: Any = False,
    errors: bool = False,
) -> tuple[Array, ...]:  # fmt: skip
    """Trains programs on tasks, all at once; arguments and results are those of `gpu.evaluate_programs`, but
    `interpret` may also be `pltpu.InterpretParams`, to imitate a TPU more closely.
    """
    ops, program, program_specs = _program(programs, sets)
    n, k, epochs = tasks.train_x.shape[1], tasks.valid_x.shape[1], tasks.order.shape[0]
    shape = _shape(
        programs, ops, tasks.features, len(tasks), train=n, valid=k, epochs=epochs, accuracy=tasks.loss == "accuracy",
        classes=tasks.vector_classes, errors=errors, interpret=bool(interpret),
    )  # fmt: skip
    x = jnp.concatenate([jnp.asarray(tasks.train_x), tasks.valid_x], 1)
    y = jnp.concatenate([jnp.asarray(tasks.train_y), tasks.valid_y], 1)
    source = _lanes_last(jnp.concatenate([x, y[..., None]], 2), 0, shape.groups)
    by_group = jnp.swapaxes(source.reshape(n + k, shape.features + 1, shape.groups, LANES), 1, 2)
    behind = jnp.broadcast_to(n + jnp.arange(k, dtype=jnp.int32), (epochs, k))
    rows = jnp.concatenate([jnp.asarray(tasks.order), behind], 1)
    ids = _lanes_last(jnp.asarray(tasks.ids), 0, shape.groups).reshape(shape.groups, 1, LANES)
    count = program[0].shape[0]
    outputs = [(1, jnp.float32), (1, jnp.int32)] + [(rows.size, jnp.float32)] * errors
    result = pl.pallas_call(
        partial(_train, shape),
        grid=(count, shape.groups),
        in_specs=[
            *program_specs, *[_whole(pltpu.SMEM)] * 3, _whole(pl.ANY),
            pl.BlockSpec((None, None, LANES), lambda p, g: (g, 0, 0), memory_space=pltpu.VMEM),
        ],
        out_shape=[jax.ShapeDtypeStruct((count, shape.groups, size, LANES), kind) for size, kind in outputs],
        out_specs=[_of_group(None, LANES), _of_group(None, LANES), *[_of_group(rows.size, LANES)] * errors],
        scratch_shapes=[
            pltpu.VMEM((LANES,), jnp.float32), pltpu.VMEM((LANES,), jnp.int32),
            *[pltpu.VMEM(size, jnp.float32) for size in _memory_sizes(shape)],
            pltpu.VMEM((2, shape.features + 1, LANES), jnp.float32), pltpu.SemaphoreType.DMA((2,)),
            pltpu.SMEM((1,), jnp.int32),
        ],
        name="zero_jax_train",
        **_options(interpret),
    )(*program, seed.reshape(1), max_abs_error.reshape(1), rows.reshape(-1), by_group, ids)  # fmt: skip
    fitness, steps, *rest = result
    whole = [part.reshape(count, -1)[:, : shape.tasks] for part in (fitness, steps)]
    by_task = [jnp.swapaxes(part, 2, 3).reshape(count, -1, rows.size)[:, : shape.tasks] for part in rest]
    return *whole, *by_task


def execute_programs(
    programs: Programs, memory: Any, ids: Array, seed: Array, component: int, sets: OpSets, *, interpret: Any = False
) -> tuple[Array, ...]:  # fmt: skip
    """Runs one component once on a memory, as `gpu.execute_programs` does."""
    ops, program, program_specs = _program(programs, sets)
    tasks, features = memory[0].shape[1], memory[1].shape[-1]
    shape = _shape(programs, ops, features, tasks, interpret=bool(interpret))
    count, groups, sizes = program[0].shape[0], shape.groups, _memory_sizes(shape)

    def laid_out(part: Array, size: tuple[int, ...]) -> Array:
        last = _lanes_last(part, 1, groups).reshape(*part.shape[:1], *part.shape[2:], groups, LANES)
        by_group = jnp.moveaxis(last, -2, 1)
        return jnp.pad(by_group, [(0, 0)] * 2 + [(0, size[0] - part.shape[2])] + [(0, 0)] * (len(size) - 1))

    after = pl.pallas_call(
        partial(_execute, shape, component),
        grid=(count, groups),
        in_specs=[
            *program_specs, _whole(pltpu.SMEM),
            pl.BlockSpec((None, None, LANES), lambda p, g: (g, 0, 0), memory_space=pltpu.VMEM),
            *[_whole(pl.ANY)] * 3,
        ],
        out_shape=[jax.ShapeDtypeStruct((count, groups, *size), jnp.float32) for size in sizes],
        out_specs=[_whole(pl.ANY)] * 3,
        scratch_shapes=[pltpu.VMEM(size, jnp.float32) for size in sizes],
        name="zero_jax_execute",
        **_options(interpret),
    )(
        *program, seed.reshape(1), _lanes_last(ids, 0, groups).reshape(groups, 1, LANES),
        *[laid_out(part, size) for part, size in zip(memory, sizes, strict=True)],
    )  # fmt: skip

    def back(part: Array, given: Array) -> Array:
        by_task = jnp.moveaxis(part, -1, 2).reshape(count, groups * LANES, *part.shape[2:-1])
        return by_task[:, :tasks, : given.shape[2]]

    return tuple(back(part, given) for part, given in zip(after, memory, strict=True))
