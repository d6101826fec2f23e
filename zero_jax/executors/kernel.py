"""The GPU executor's kernel: an interpreter of one program on one group of tasks, in which an opcode is a true branch.

A program on a group of tasks is one block of GPU threads; the tasks are the lanes that an instruction works on at once.
The memory of a block is `[address, lane, feature(, feature)]` in the GPU's global memory, of which the blocks that run
at a time fit its caches. What threads write there, others read only behind a barrier.

Triton takes arrays whose axes are powers of two, so lanes and features are padded: ops know the true F, and what they
write is zero behind it, so that sums need no masks.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from zero_jax import ops as op_table
from zero_jax.executors import contract
from zero_jax.executors.contract import Array
from zero_jax.executors.layout import power_of_two
from zero_jax.programs import MemorySize

SETUP, PREDICT, LEARN = range(3)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the kernel's code depends on.

    Attributes:
      ops: the ops in its jump table, by the number that instructions have for them in the kernel.
      starts: the slots at which components begin, and the end of the last.
      memory: how many addresses there are.
      features: F.
      tasks: T.
      lanes: how many tasks a block takes, a power of two.
      warps, by_row: as in `Layout`.
      train, valid, epochs: N, K, E.
      accuracy: whether the loss is accuracy.
      errors: whether to return every example's error.
      interpret: whether to run the kernel's meaning on any device, slowly, rather than compile it for a GPU.
    """

    ops: tuple[int, ...]
    starts: tuple[int, ...]
    memory: MemorySize
    features: int
    tasks: int
    lanes: int
    warps: int
    by_row: bool
    train: int = 0
    valid: int = 0
    epochs: int = 0
    accuracy: bool = False
    errors: bool = False
    interpret: bool = False

    @property
    def width(self) -> int:
        """F, padded."""
        return power_of_two(self.features)

    @property
    def groups(self) -> int:
        """Blocks a program."""
        return -(-self.tasks // self.lanes)

    def value(self, kind: str) -> tuple[int, ...]:
        """The shape of a value on all lanes."""
        return (self.lanes,) + (self.width,) * op_table.KINDS.index(kind)


# ---------------------------------------------------------------------------------------------- the interpreter


class _Machine:
    """Runs instructions of the block's program on its memory.

    Args:
      shape: what the code depends on.
      words, constants: `[L + 1]`, `[3 L]` the program.
      ids: `[lanes]` task ids, for the random stream.
      seed: `[1]` uint32.
      size: `[1]` F.
      memory: for each kind, `[addresses, lanes, ...]`.
    """

    def __init__(
        self, shape: Shape, words: Any, constants: Any, ids: Any, seed: Any, size: Any, memory: dict[str, Any]
    ) -> None:
        self.shape = shape
        self.words = words
        self.constants = constants
        self.ids = ids
        self.seed = seed
        self.size = size
        self.memory = memory
        self.features = op_table.Features(shape.features, jnp.sum, self._sum)

    def _sum(self, term: Callable[[Array], Array]) -> Array:
        """The sum of matrices `term(k)` over features; the loop's end is data, or the compiler would unroll it and take
        three times the registers.
        """
        zeros = jnp.zeros(self.shape.value("m"), jnp.float32)
        return lax.fori_loop(0, self.size[0], lambda k, sum_: sum_ + term(k), zeros)

    def barrier(self) -> None:
        """All threads of the block have come here, and see what the others wrote."""
        if not self.shape.interpret:
            plt.debug_barrier()

    def read(self, kind: str, address: Any) -> Array:
        """A value on all lanes."""
        return self.memory[kind][address]

    def write(self, kind: str, address: Any, value: Array) -> None:
        """Writes a value, zero behind F; what follows must wait at a barrier."""
        full = jnp.broadcast_to(value, self.shape.value(kind))
        for axis in range(1, full.ndim):
            full = self._inside(full, axis)
        self.memory[kind][address] = full

    def _inside(self, value: Array, axis: int) -> Array:
        """Zeros behind F along an axis."""
        if self.shape.width == self.shape.features:
            return value
        return jnp.where(lax.broadcasted_iota(jnp.int32, value.shape, axis) < self.shape.features, value, 0.0)

    def clear(self, used: Array) -> None:
        """All zeros, unless the block has no program."""
        for kind in op_table.KINDS:
            zeros = jnp.zeros(self.shape.value(kind), jnp.float32)
            addresses = jnp.where(used, jnp.int32(self.memory[kind].shape[0]), jnp.int32(0))
            lax.fori_loop(0, addresses, lambda a, _, k=kind, z=zeros: self.write(k, a, z), None)
        self.barrier()

    def run(self, component: Any, length: Any, count: Any) -> None:
        """One run of a component, its `count`-th."""
        start = _pick(component, self.shape.starts[:3])

        def instruction(slot: Array, word: Array) -> Array:
            following = self.words[slot + 1]  # fetched while this instruction runs
            self._instruction(word, slot, contract.draw_number(component, count, jnp.uint32(0)))
            return following

        lax.fori_loop(start, start + length, instruction, self.words[start])

    def _instruction(self, word: Array, slot: Array, draw: Array) -> None:
        byte = jnp.int32(255)
        fields = [lax.shift_right_logical(word, jnp.int32(shift)) & byte for shift in (0, 8, 16, 24)]
        rows = [op_table.OPS[number] for number in self.shape.ops]
        lax.switch(fields[0], [partial(self._branch, op, fields[1:], slot, draw) for op in rows])
        self.barrier()

    def _branch(self, op: op_table.Op, fields: list[Array], slot: Array, draw: Array) -> None:
        if not op.output:
            return
        out = fields[2]
        args: list[Any] = [self._operand(op, kind, fields[i], i) for i, kind in enumerate(op.inputs)]
        if op.reads_output:
            args.append(self.read(op.output, out))
        args += [self.constants[3 * slot + i] for i in range(len(op.constants))]
        if op.random:
            ordinal = self.constants[3 * slot + 2].astype(jnp.uint32)
            self._draw(op, out, args, draw | (ordinal << jnp.uint32(2)))
            return
        value = op.value(self.features, *args)
        if op.output in op.inputs or op.reads_output:
            self.barrier()  # the output may be an input: all threads have read before any writes
        self.write(op.output, out, value)

    def _draw(self, op: op_table.Op, out: Array, constants: list[Array], number: Array) -> None:
        """Writes random values."""
        features = self.shape.features
        by_row = op.output == "m" and self.shape.by_row
        values = self.shape.value("v" if by_row else op.output)[1:]

        def drawn(first: Array | int) -> Array:
            return op.value(
                self.features, *constants, *contract.draws(values, self.seed[0], self.ids[...], number, features, first)
            )

        if not by_row:
            self.write(op.output, out, drawn(0))
            return

        def row(k: Array, _: None) -> None:
            self.memory["m"][out, :, k, :] = self._inside(drawn(k * features), 1)

        lax.fori_loop(0, features, row, None)

    def _operand(self, op: op_table.Op, kind: str, address: Array, place: int) -> Any:
        if not op.product:
            return self.read(kind, address)
        matrices = self.memory[kind]
        return (lambda k: matrices[address, :, :, k], lambda k: matrices[address, :, k, :])[place]


def _pick(index: Any, values: tuple[int, ...]) -> Array:
    """`values[index]` for a traced index."""
    picked = jnp.int32(values[0])
    for i, value in enumerate(values[1:], 1):
        picked = jnp.where(index == i, jnp.int32(value), picked)
    return picked


# ---------------------------------------------------------------------------------------------- training


class _At(NamedTuple):
    """How far a block has come, as far as registers hold it.

    Attributes:
      example: of the epoch.
      component: which runs next.
    """

    example: Array
    component: Array


def train(shape: Shape, *refs: Any) -> None:
    """One program on one group of tasks, all epochs (SPEC 2)."""
    words, constants, lengths, seed, size, limit, rows, x, y, ids, fitness, steps, lost, alive, *rest = refs
    memory = dict(zip(op_table.KINDS, rest[-3:], strict=True))
    machine = _Machine(shape, words, constants, ids, seed, size, memory)
    told = (fitness, steps, lost, alive, rest[0] if shape.errors else None)
    training = _Training(shape, machine, lengths, limit, rows, x, y, *told)
    used = lengths[0] >= 0
    machine.clear(used)
    fitness[...], steps[...] = jnp.zeros((shape.lanes,), jnp.float32), jnp.zeros((shape.lanes,), jnp.int32)
    lane = pl.program_id(1) * shape.lanes + lax.broadcasted_iota(jnp.int32, (shape.lanes,), 0)
    alive[...] = ((lane < shape.tasks) & used).astype(jnp.int32)
    if shape.errors:
        zero = jnp.zeros((shape.lanes,), jnp.float32)
        lax.fori_loop(0, rest[0].shape[0], lambda i, _: rest[0].__setitem__(i, zero), None)
    if shape.epochs == 1:
        training.epoch(jnp.int32(0), jnp.int32(SETUP))
    else:
        lax.fori_loop(0, shape.epochs, training.epoch, jnp.int32(SETUP))


class _Training:
    """Training and validation of one program on one group of tasks.

    Args:
      shape: what the code depends on.
      machine: runs the components.
      lengths: `[3]` instructions in use.
      limit: `[1]` a larger error in training stops a run.
      rows: `[E, N + K]` where the examples of each epoch lie in `x` and `y`.
      x, y: `[N + K, lanes, features]`, `[N + K, lanes]`.
      fitness, steps, lost, alive: `[lanes]` to be written: the best fitness of the epochs so far, training examples
        seen so far, the sum of losses in this validation, and whether a run has not stopped (1 or 0). In memory, since
        registers are better spent on blocks that run at a time.
      errors: `[E * (N + K), lanes]` to be written, or None.
    """

    def __init__(
        self,
        shape: Shape,
        machine: _Machine,
        lengths: Any,
        limit: Any,
        rows: Any,
        x: Any,
        y: Any,
        fitness: Any,
        steps: Any,
        lost: Any,
        alive: Any,
        errors: Any,
    ) -> None:
        self.shape = shape
        self.machine = machine
        self.lengths = lengths
        self.limit = limit
        self.rows = rows
        self.x = x
        self.y = y
        self.fitness = fitness
        self.steps = steps
        self.lost = lost
        self.alive = alive
        self.errors = errors
        self.examples = shape.train + shape.valid

    def epoch(self, epoch: Array, component: Array) -> Array:
        """Training on all examples, and validation; begins and ends with the component that runs next."""
        self.lost[...] = jnp.zeros((self.shape.lanes,), jnp.float32)
        self.machine.barrier()  # all threads must see the same runs alive, or they would part ways
        at = lax.while_loop(
            lambda at: at.example < self.examples,
            partial(self._component, epoch),
            _At(jnp.where(jnp.max(self.alive[...]) > 0, jnp.int32(0), jnp.int32(self.examples)), component),
        )
        mean = self.lost[...] / self.shape.valid
        fitness = 1.0 - mean if self.shape.accuracy else contract.rmse_fitness(mean)
        self.fitness[...] = jnp.maximum(self.fitness[...], jnp.where(self.alive[...] > 0, fitness, 0.0))
        return at.component

    def _component(self, epoch: Array, at: _At) -> _At:
        """Runs the next component on the next example. One loop over all components, since each place in the code that
        runs instructions has a jump table and all ops of its own.
        """
        row = self.rows[epoch, at.example]
        x, y = self.x[row], self.y[row]
        predicting, learning = at.component == PREDICT, at.component == LEARN
        self.machine.write("v", 0, jnp.where(at.component == SETUP, 0.0, x))
        self.machine.write("s", 0, jnp.where(learning, y, 0.0))
        self.machine.barrier()
        runs = jnp.where(learning, jnp.int32(self.shape.train), jnp.int32(self.examples))
        self.machine.run(at.component, self.lengths[at.component], epoch * runs + at.example)
        training = at.example < self.shape.train
        last = lax.cond(predicting, lambda: self._judge(epoch, at.example, training), lambda: at.example)
        learns_next = predicting & training
        stays = learns_next | (at.component == SETUP)
        return _At(jnp.where(stays, last, last + 1), jnp.where(learns_next, jnp.int32(LEARN), jnp.int32(PREDICT)))

    def _judge(self, epoch: Array, example: Array, training: Array) -> Array:
        """What follows Predict: the error, and which runs stop; the example where training is, behind all others where
        every run has stopped.
        """
        alive, y = self.alive[...] > 0, self.y[self.rows[epoch, example]]
        logit = prediction = self.machine.read("s", 1)
        if self.shape.accuracy:
            prediction = jnp.where(training, contract.sigmoid(logit), logit)
            if self.shape.warps > 1:
                self.machine.barrier()
            self.machine.write("s", 1, prediction)
            self.machine.barrier()
        error = y - prediction
        if self.errors is not None:
            self.errors[epoch * self.examples + example] = jnp.where(alive, error, 0.0)
        self.steps[...] = self.steps[...] + (alive & training).astype(jnp.int32)
        fine = jnp.abs(error) <= self.limit[0]  # false for NaN
        if self.shape.accuracy:
            fine = fine | ~training
            loss = ((logit > 0) != (y > 0.5)).astype(jnp.float32)
        else:
            loss = error * error
        self.lost[...] = self.lost[...] + jnp.where(training, 0.0, loss)
        alive = (alive & fine).astype(jnp.int32)
        self.alive[...] = alive
        return jnp.where(jnp.max(alive) > 0, example, jnp.int32(self.examples))


def execute(shape: Shape, component: int, *refs: Any) -> None:
    """One run of one component on a given memory."""
    words, constants, lengths, seed, size, ids, _, _, _, *rest = refs
    memory = dict(zip(op_table.KINDS, rest, strict=True))
    machine = _Machine(shape, words, constants, ids, seed, size, memory)
    machine.run(jnp.int32(component), lengths[component], jnp.int32(0))
