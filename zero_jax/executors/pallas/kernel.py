"""The Pallas executor's kernel: an interpreter of one program on one group of tasks, in which an opcode is a branch.

The tasks are the lanes that an instruction works on at once. What differs between the machines that it runs on is in
`Machine`'s hooks: `gpu.py` has those of NVIDIA GPUs, `tpu.py` those of TPUs. `training.py` has the training.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zero_jax.executors import stream
from zero_jax.executors.dispatch import OpSets
from zero_jax.program import ops as op_table
from zero_jax.program.memory import COMPONENTS, MemorySize
from zero_jax.program.programs import Programs

SETUP, PREDICT, LEARN = range(3)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the kernel's code depends on.

    Attributes:
      ops: the ops in its jump table, by the number that instructions have for them in the kernel.
      starts: the slots at which components begin, and the end of the last.
      memory: how many addresses there are.
      features: F.
      width: how long the axes of features are, F or more.
      tasks: T.
      lanes: how many tasks a block takes.
      by_row: whether random matrices are drawn row by row.
      warps: of a block on a GPU.
      train, valid, epochs: N, K, E.
      accuracy: whether the loss is accuracy.
      classes: C where labels are vectors, else 0.
      errors: whether to return every example's error.
      interpret: whether to run the kernel's meaning on any device, slowly, rather than compile it.
    """

    ops: tuple[int, ...]
    starts: tuple[int, ...]
    memory: MemorySize
    features: int
    width: int
    tasks: int
    lanes: int
    by_row: bool
    warps: int = 1
    train: int = 0
    valid: int = 0
    epochs: int = 0
    accuracy: bool = False
    classes: int = 0
    errors: bool = False
    interpret: bool = False

    @property
    def groups(self) -> int:
        """Blocks a program."""
        return -(-self.tasks // self.lanes)


# ---------------------------------------------------------------------------------------------- programs


def packed(programs: Programs, sets: OpSets) -> tuple[tuple[int, ...], Array, Array]:
    """The ops of the jump table; `[P, L + 1]` instructions in a word each, those that are not covered doing nothing;
    and their constants `[P, 3 (L + 1)]`. One slot more than there are: no array may be empty, and the next word is
    fetched before the last instruction runs.
    """
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
    constants = jnp.pad(jnp.asarray(programs.data), ((0, 0), (0, 1), (0, 0)))
    return ops, jnp.pad(word, ((0, 0), (0, 1))), constants.reshape(len(constants), -1)


# ---------------------------------------------------------------------------------------------- the interpreter


class Machine:
    """Runs instructions of the block's program on its memory. The methods that a subclass fills in come first.

    Args:
      shape: what the code depends on.
      words, constants: `[L + 1]`, `[3 (L + 1)]` the program, as `packed` makes it.
      ids: `[lanes]` task ids, for the random stream.
      seed: `[1]` uint32.
      features: how this machine lays out values.
      memory: for each kind, `[addresses, ...]`, then the shape of a value.
    """

    def __init__(
        self, shape: Shape, words: Any, constants: Any, ids: Any, seed: Any, features: op_table.Features,
        memory: dict[str, Any],
    ) -> None:  # fmt: skip
        self.shape = shape
        self.words = words
        self.constants = constants
        self.ids = ids
        self.seed = seed
        self.features = features
        self.memory = memory

    def barrier(self) -> None:
        """All threads of the block have come here, and see what the others wrote."""

    def settle(self) -> None:
        """All threads have read what one of them may write next."""

    def branch(self, index: Array, branches: Sequence[Callable[[], None]]) -> None:
        """Runs one of them."""
        raise NotImplementedError

    def arctan(self, x: Array) -> Array:
        """Elementwise."""
        return jnp.arctan(x)

    def function(self, op: op_table.Op) -> Callable[..., Array]:
        """The op's function of inputs and constants."""
        return partial(op.value, self.features)

    def column(self, address: Array, k: Array) -> Array:
        """A column of a matrix in memory."""
        raise NotImplementedError

    def row(self, address: Array, k: Array) -> Array:
        """A row of a matrix in memory."""
        raise NotImplementedError

    def write_row(self, address: Array, k: Array, value: Array) -> None:
        """Writes a row of a matrix."""
        raise NotImplementedError

    def value(self, kind: str) -> tuple[int, ...]:
        """The shape of a value on all lanes."""
        axes = (self.shape.width,) * op_table.KINDS.index(kind)
        return (*axes, self.shape.lanes) if self.features.behind else (self.shape.lanes, *axes)

    def read(self, kind: str, address: Any) -> Array:
        """A value on all lanes."""
        return self.memory[kind][address]

    def write(self, kind: str, address: Any, value: Array) -> None:
        """Writes a value, zero behind F; what follows must wait at a barrier."""
        full = jnp.broadcast_to(value, self.value(kind))
        for axis in range(-1, -op_table.KINDS.index(kind) - 1, -1):
            full = self.inside(full, axis)
        self.memory[kind][address] = full

    def inside(self, value: Array, axis: int) -> Array:
        """Zeros behind F along an axis of features."""
        if self.shape.width == self.shape.features:
            return value
        return jnp.where(self.features.numbers(value, axis) < self.shape.features, value, 0.0)

    def clear(self, used: Array) -> None:
        """All zeros, unless the block has no program."""
        for kind in op_table.KINDS:
            zeros = jnp.zeros(self.value(kind), jnp.float32)
            addresses = jnp.where(used, jnp.int32(self.memory[kind].shape[0]), jnp.int32(0))
            lax.fori_loop(jnp.int32(0), addresses, lambda a, _, k=kind, z=zeros: self.write(k, a, z), None)
        self.barrier()

    def run(self, component: Any, length: Any, count: Any) -> None:
        """One run of a component, its `count`-th."""
        start = _pick(component, self.shape.starts[:3])

        def instruction(slot: Array, word: Array) -> Array:
            following = self.words[slot + 1]  # fetched while this instruction runs
            self._instruction(word, slot, stream.draw_number(component, count, jnp.uint32(0)))
            return following

        lax.fori_loop(start, start + length, instruction, self.words[start])

    def _instruction(self, word: Array, slot: Array, draw: Array) -> None:
        byte = jnp.int32(255)
        fields = [lax.shift_right_logical(word, jnp.int32(shift)) & byte for shift in (0, 8, 16, 24)]
        rows = [op_table.OPS[number] for number in self.shape.ops]
        self.branch(fields[0], [partial(self._run_op, op, fields[1:], slot, draw) for op in rows])
        self.barrier()

    def _run_op(self, op: op_table.Op, fields: list[Array], slot: Array, draw: Array) -> None:
        if not op.output:
            return
        out = fields[2]
        args: list[Any] = [self._operand(op, kind, fields[i], i) for i, kind in enumerate(op.inputs)]
        if op.reads_output:
            args.append(self.read(op.output, out))
        args += [self.constants[3 * slot + i] for i in range(len(op.constants))]
        if op.random:
            ordinal = self.constants[3 * slot + 2].astype(jnp.int32).astype(jnp.uint32)
            self._draw(op, out, args, draw | (ordinal << jnp.uint32(2)))
            return
        value = self.function(op)(*args)
        if op.output in op.inputs or op.reads_output:
            self.settle()  # the output may be an input
        self.write(op.output, out, value)

    def _draw(self, op: op_table.Op, out: Array, constants: list[Array], number: Array) -> None:
        """Writes random values."""
        features = self.shape.features
        by_row = op.output == "m" and self.shape.by_row
        axes = (self.shape.width,) * op_table.KINDS.index("v" if by_row else op.output)

        def drawn(first: Array | int) -> Array:
            ids, last = self.ids[...], bool(self.features.behind)
            return self.function(op)(*constants, *stream.draws(axes, self.seed[0], ids, number, features, first, last))

        if by_row:
            times(features, lambda k, _: self.write_row(out, k, self.inside(drawn(k * features), -1)), None)
        else:
            self.write(op.output, out, drawn(0))

    def _operand(self, op: op_table.Op, kind: str, address: Array, place: int) -> Any:
        if op.product:
            return partial((self.column, self.row)[place], address)
        return self.read(kind, address)


def times(count: int, body: Callable[[Array, Any], Any], first: Any) -> Any:
    """A loop whose number is an int32 even where JAX would make it an int64."""
    return lax.fori_loop(jnp.int32(0), jnp.int32(count), body, first)


def _pick(index: Any, values: tuple[int, ...]) -> Array:
    """`values[index]` for a traced index."""
    picked = jnp.int32(values[0])
    for i, value in enumerate(values[1:], 1):
        picked = jnp.where(index == i, jnp.int32(value), picked)
    return picked


def run_once(machine: Machine, lengths: Any, component: int) -> None:
    """The first run of one component, on the memory as it is."""
    machine.run(jnp.int32(component), lengths[component], jnp.int32(0))
