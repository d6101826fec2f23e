"""The reference executor: a vmapped `lax.switch`, on anything that JAX runs on.

Axes: `P` programs, `T` tasks, `N` training and `K` validation examples, `F` features. The memory of a block of
programs is `{"s": [P, S, T], "v": [P, V, T, F], "m": [P, M, T, F, F]}`: one dynamic slice reads an address for all
tasks, and tasks with their features are the contiguous axes that the CPU's vector units run over.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from zero_jax.executors import stream
from zero_jax.executors.base import Evaluation
from zero_jax.executors.dispatch import OpSets
from zero_jax.executors.fitness import Classes, rmse_fitness, sigmoid
from zero_jax.program import ops as op_table
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

Values = Mapping[str, Array]
SETUP, PREDICT, LEARN = range(3)


class BlockState(NamedTuple):
    """How far a block has come.

    Attributes:
      memory: see the module's docstring.
      running: `[P, T]` bool: not stopped yet.
      best: `[P, T]` float32: the best fitness of the epochs so far.
      train_steps: `[P, T]` int32.
      epochs: `[P, T]` int32: epochs completed, validation included.
    """

    memory: Values
    running: Array
    best: Array
    train_steps: Array
    epochs: Array


def evaluate_block(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, sets: OpSets, differentiable: bool
) -> Evaluation:
    """Trains and validates a block of programs together (Real et al. 2020, figure 1).

    Args:
      programs: `P` of them, NO_OP in slots that are not in use, random instructions numbered (`liveness.number_draws`).
      tasks: `T` of them.
      seed: uint32, of the random stream.
      max_abs_error: a larger error, or NaN, stops a run.
      sets: the ops to dispatch; others do nothing.
      differentiable: whether gradients with respect to `programs.data` are wanted.
    """
    settings = (tasks, seed, max_abs_error, sets)
    if not differentiable:
        done = _Training(programs, *settings).run()
        return Evaluation(done.best, done.train_steps)
    # Runs that stop have no gradient, and what they computed (inf, NaN) must not meet a cotangent: a first pass finds
    # how many epochs each run completes, and the second computes nothing beyond that.
    fixed = programs.with_arrays(programs.code, lax.stop_gradient(programs.data), programs.length)
    ahead = _Training(fixed, *settings).run()
    return Evaluation(_Training(programs, *settings, ahead.epochs).run().best, ahead.train_steps)


def carry_block(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, sets: OpSets, memory: Values
) -> BlockState:
    """As `evaluate_block`, from memory `{"s": [S, T], "v": [V, T, F], "m": [M, T, F, F]}` of all programs."""
    training = _Training(programs, tasks, seed, max_abs_error, sets)
    training.start = {kind: training.start[kind] + memory[kind][None] for kind in training.start}
    return training.run()


def execute_block(programs: Programs, memory: Values, ids: Array, seed: Array, component: int, sets: OpSets) -> Values:
    """Runs one component once on a given memory."""
    return _Machine(programs, ids, seed, sets, masked=False).run(component, memory, jnp.uint32(0), None)


def empty_memory(programs: Programs, tasks: int, features: int) -> Values:
    """All zeros."""
    scalars, vectors, matrices = programs.memory
    batch = programs.code.shape[0]
    return {
        "s": jnp.zeros((batch, scalars, tasks), jnp.float32),
        "v": jnp.zeros((batch, vectors, tasks, features), jnp.float32),
        "m": jnp.zeros((batch, matrices, tasks, features, features), jnp.float32),
    }


# ---------------------------------------------------------------------------------------------- training


class _Training:
    """Training and validation of a block, all epochs.

    Args:
      programs, tasks, seed, max_abs_error, sets: as in `evaluate_block`.
      completed: None, or `[P, T]`, how many epochs each run completes: then it computes those epochs and no others, and
        differentiably.
    """

    def __init__(
        self,
        programs: Programs,
        tasks: Tasks,
        seed: Array,
        max_abs_error: Array,
        sets: OpSets,
        completed: Array | None = None,
    ) -> None:
        self.completed = completed
        self.masked = completed is not None
        self.machine = _Machine(programs, tasks.ids, seed, sets, self.masked)
        self.shape = (programs.code.shape[0], tasks.ids.shape[0])
        self.start: Values = empty_memory(programs, self.shape[1], tasks.train_x.shape[2])
        self.accuracy = tasks.loss == "accuracy"
        self.classes = Classes(tasks.classes, -1) if tasks.vector_classes else None
        self.max_abs_error = max_abs_error
        self.order = jnp.asarray(tasks.order)
        examples = (tasks.train_x, tasks.train_y, tasks.valid_x, tasks.valid_y)
        # Example by example: [N, T, F], [N, T], [K, T, F], [K, T].
        self.train_x, self.train_y, self.valid_x, self.valid_y = (jnp.swapaxes(part, 0, 1) for part in examples)
        self.n_train, self.n_valid = self.train_x.shape[0], self.valid_x.shape[0]

    def run(self) -> BlockState:
        """All epochs."""
        memory = self.machine.run(
            SETUP, self.start, jnp.int32(0), None if self.completed is None else self.completed > 0
        )
        count = jnp.zeros(self.shape, jnp.int32)
        start = BlockState(memory, jnp.ones(self.shape, bool), jnp.zeros(self.shape, jnp.float32), count, count)
        epochs = self.order.shape[0]
        if epochs == 1:
            return self._epoch(jnp.int32(0), start)
        if self.masked:
            return lax.scan(lambda at, epoch: (self._epoch(epoch, at), None), start, jnp.arange(epochs))[0]
        return lax.fori_loop(0, epochs, self._epoch, start)

    def _epoch(self, epoch: Array, at: BlockState) -> BlockState:
        mask = None if self.completed is None else epoch < self.completed
        loop = _scan if self.masked else _while_any_runs
        lost = jnp.zeros(self.shape, jnp.float32)
        at, lost = loop(self.n_train, lambda i, at, lost: (self._train_step(i, epoch, at, mask), lost), at, lost)
        at, lost = loop(self.n_valid, lambda j, at, lost: self._valid_step(j, epoch, at, lost, mask), at, lost)
        mean = lost / self.n_valid
        fitness = 1.0 - mean if self.accuracy else rmse_fitness(mean)
        ended = at.running if mask is None else mask
        best = jnp.where(ended, jnp.maximum(at.best, fitness), at.best)
        return at._replace(best=best, epochs=at.epochs + ended.astype(jnp.int32))

    def _train_step(self, i: Array, epoch: Array, at: BlockState, mask: Array | None) -> BlockState:
        x, y = self.train_x[self.order[epoch, i]], self.train_y[self.order[epoch, i]]
        memory = self._predict(at.memory, x, epoch * (self.n_train + self.n_valid) + i, mask)
        if self.classes:
            prediction = self.classes.probabilities(memory["v"][:, 2])
            memory = {**memory, "v": memory["v"].at[:, 2].set(prediction)}
            error = self.classes.error(prediction, y[None])
        else:
            prediction = memory["s"][:, 1]
            if self.accuracy:
                prediction = sigmoid(prediction)
                memory = {**memory, "s": memory["s"].at[:, 1].set(prediction)}
            error = y[None] - prediction
        steps = at.train_steps + at.running.astype(jnp.int32)
        running = self._goes_on(at.running, error)
        memory = self.machine.run(LEARN, self._present(memory, x, y), epoch * self.n_train + i, mask)
        return at._replace(memory=memory, running=running, train_steps=steps)

    def _valid_step(
        self, j: Array, epoch: Array, at: BlockState, lost: Array, mask: Array | None
    ) -> tuple[BlockState, Array]:
        x, y = self.valid_x[j], self.valid_y[j]
        memory = self._predict(at.memory, x, epoch * (self.n_train + self.n_valid) + self.n_train + j, mask)
        prediction = memory["s"][:, 1]
        if self.accuracy:
            # sigmoid(s) > 0.5 where s > 0, without the rounding; a NaN is class 0.
            wrong = (prediction > 0) != (y > 0.5)[None]
            if self.classes:
                wrong = self.classes.predicted(memory["v"][:, 2]) != y[None]
            return at._replace(memory=memory), lost + wrong.astype(jnp.float32)
        error = y[None] - prediction
        return at._replace(memory=memory, running=self._goes_on(at.running, error)), lost + error * error

    def _predict(self, memory: Values, x: Array, count: Array, mask: Array | None) -> Values:
        return self.machine.run(PREDICT, self._present(memory, x, None), count, mask)

    def _present(self, memory: Values, x: Array, y: Array | None) -> Values:
        """The memory with features `[T, F]` in v0 and labels `[T]`, or zeros, in s0 or, as vectors, in v1."""
        memory = {**memory, "v": memory["v"].at[:, 0].set(x)}
        if self.classes:
            return {**memory, "v": memory["v"].at[:, 1].set(0.0 if y is None else self.classes.label(x, y))}
        return {**memory, "s": memory["s"].at[:, 0].set(jnp.zeros_like(x[:, 0]) if y is None else y)}

    def _goes_on(self, running: Array, error: Array) -> Array:
        """Whether runs go on after an error; a NaN compares false. Masked runs are known not to stop."""
        return running if self.masked else running & (jnp.abs(error) <= self.max_abs_error)


Step = Callable[[Array, BlockState, Array], tuple[BlockState, Array]]


def _while_any_runs(n: int, step: Step, at: BlockState, lost: Array) -> tuple[BlockState, Array]:
    """`n` steps, or fewer where every run has stopped."""
    _, at, lost = lax.while_loop(
        lambda c: (c[0] < n) & c[1].running.any(),
        lambda c: (c[0] + 1, *step(c[0], c[1], c[2])),
        (jnp.int32(0), at, lost),
    )
    return at, lost


def _scan(n: int, step: Step, at: BlockState, lost: Array) -> tuple[BlockState, Array]:
    """`n` steps that reverse-mode differentiation can follow, keeping one memory a step and recomputing the rest."""
    kept = jax.checkpoint(step)
    return lax.scan(lambda c, i: (kept(i, *c), None), (at, lost), jnp.arange(n))[0]


# ---------------------------------------------------------------------------------------------- the interpreter


class _Machine:
    """Runs components of a block of programs.

    Args:
      programs: the block.
      ids: `[T]` task ids, for the random stream.
      seed: uint32.
      sets: the ops to dispatch.
      masked: whether gradients must pass: loops of static length, and branches that are not taken compute on a
        constant, since 0 times the infinite slope of, say, a division by zero would be NaN.
    """

    def __init__(self, programs: Programs, ids: Array, seed: Array, sets: OpSets, masked: bool) -> None:
        self.programs = programs
        self.ids = ids
        self.seed = seed
        self.sets = sets
        self.masked = masked
        self.longest = jnp.max(jnp.asarray(programs.length), 0, initial=0)

    def run(self, component: int, memory: Values, count: Array, mask: Array | None) -> Values:
        """One run of a component, its `count`-th; only where `mask` `[P, T]` is true, if given."""
        start, end = self.programs.starts[component], self.programs.starts[component + 1]
        allowed = [op_table.OPS[number] for number in self.sets[component] if number]
        if start == end or not allowed:
            return memory
        code, data = jnp.asarray(self.programs.code)[:, start:end], jnp.asarray(self.programs.data)[:, start:end]

        def instruction(slot: Array, memory: Values) -> Values:
            row = lax.dynamic_index_in_dim(code, slot, 1, keepdims=False)
            constants = lax.dynamic_index_in_dim(data, slot, 1, keepdims=False)

            def one(memory: Values, code: Array, data: Array, mask: Array | None) -> Values:
                drawn = {
                    kind: stream.draws(
                        memory[kind].shape[2:],
                        self.seed,
                        self.ids,
                        stream.draw_number(component, count, data[2]),
                    )
                    for kind in sorted({op.output for op in allowed if op.random})
                }
                return _instruction(allowed, memory, code, data, drawn, self.masked, mask)

            return jax.vmap(one, in_axes=(0, 0, 0, None if mask is None else 0))(memory, row, constants, mask)

        def alone(slot: Array, memory: Values) -> Values:
            number = stream.draw_number(component, count, data[0, slot, 2])
            own = {kind: values[0] for kind, values in memory.items()}
            after = self._branching_instruction(allowed, own, code[0, slot], data[0, slot], number)
            return {kind: values[None] for kind, values in after.items()}

        if self.masked:
            return lax.scan(lambda m, slot: (instruction(slot, m), None), memory, jnp.arange(end - start))[0]
        step = alone if len(code) == 1 else instruction
        return lax.fori_loop(0, self.longest[component], step, memory)

    def _branching_instruction(
        self, allowed: list[op_table.Op], memory: Values, code: Array, data: Array, draw: Array
    ) -> Values:
        """One instruction of a program that is alone in its block, as those with large values are.

        Not under `vmap`, a switch is a branch, so nothing is computed but the one op. A branch returns the value alone:
        XLA copies whatever memory goes through a conditional. A loop of at most one step keeps it in place.
        """
        number, in1, in2, out = code
        after = dict(memory)
        for kind in op_table.KINDS:
            ops = [op for op in allowed if op.output == kind]
            if not ops:
                continue

            def write(_: Array, own: Array, kind: str = kind, ops: list[op_table.Op] = ops) -> Array:
                now, old = {**memory, kind: own}, _read(own, out)

                def value(op: op_table.Op) -> Array:
                    per_task = [_read(now[k], (in1, in2)[i]) for i, k in enumerate(op.inputs)]
                    per_task += [old] if op.reads_output else []
                    drawn = stream.draws(old.shape[1:], self.seed, self.ids, draw) if op.random else ()
                    constants = [data[i] for i in range(len(op.constants))]
                    return applied(op, memory["v"].shape[-1], per_task, constants, drawn, old.shape)

                index = sum(jnp.where(number == op.number, i, 0) for i, op in enumerate(ops))
                return lax.dynamic_update_index_in_dim(
                    own, lax.switch(index, [partial(value, op) for op in ops]), out, 0
                )

            writes = sum((number == op.number).astype(jnp.int32) for op in ops)
            after[kind] = lax.fori_loop(0, writes, write, memory[kind])
        return after


def _instruction(
    allowed: list[op_table.Op],
    memory: Values,
    code: Array,
    data: Array,
    drawn: Mapping[str, tuple[Array, Array]],
    masked: bool,
    mask: Array | None,
) -> Values:
    """One instruction (`code` `[4]`, `data` `[3]`) of one program on all tasks; memory has no `P` axis here."""
    number, in1, in2, out = code
    kinds = [kind for kind in op_table.KINDS if any(op.output == kind for op in allowed)]
    # Sorted, since sets have another order in each process, and the compiled program should not.
    fields = sorted({(op.inputs[i], i) for op in allowed for i in range(len(op.inputs))})
    operands = {(kind, i): _read(memory[kind], (in1, in2)[i]) for kind, i in fields}
    old = {kind: _read(memory[kind], out) for kind in kinds}

    def value(op: op_table.Op, taken: Array | None = None) -> Array:
        constants = [data[i] for i in range(len(op.constants))]
        per_task = [operands[kind, i] for i, kind in enumerate(op.inputs)]
        per_task += [old[op.output]] if op.reads_output else []
        if taken is not None:
            per_task = [jnp.where(_like(taken, x), x, 1.0) for x in per_task]
            constants = [jnp.where(number == op.number, c, 1.0) for c in constants]
        return applied(op, memory["v"].shape[-1], per_task, constants, drawn.get(op.output, ()), old[op.output].shape)

    if masked:
        new = dict(old)
        for op in allowed:
            taken = jnp.broadcast_to(number == op.number, old[op.output].shape[:1])
            taken = taken if mask is None else taken & mask
            new[op.output] = jnp.where(_like(taken, new[op.output]), value(op, taken), new[op.output])
    else:

        def branch(op: op_table.Op | None) -> Callable[[], tuple[Array, ...]]:
            return lambda: tuple(value(op) if op and kind == op.output else old[kind] for kind in kinds)

        index = sum(jnp.where(number == op.number, i + 1, 0) for i, op in enumerate(allowed))
        new = dict(zip(kinds, lax.switch(index, [branch(op) for op in (None, *allowed)]), strict=True))
    written = {kind: lax.dynamic_update_index_in_dim(memory[kind], new[kind], out, 0) for kind in kinds}
    return {**memory, **written}


def _like(per_task: Array, x: Array) -> Array:
    """`[T]` with as many axes as `x` `[T, ...]`."""
    return per_task.reshape((-1,) + (1,) * (x.ndim - 1))


def _read(values: Array, address: Array) -> Array:
    return lax.dynamic_index_in_dim(values, address, 0, keepdims=False)


def applied(
    op: op_table.Op, features: int, per_task: list[Any], constants: list[Array], drawn: Any, shape: tuple[int, ...]
) -> Array:
    """The op's value on every task, broadcast to `shape`, which is `[T, ...]`."""
    if op.product:
        left, right = per_task
        per_task = [
            lambda k: lax.dynamic_index_in_dim(left, k, 2, keepdims=False),
            lambda k: lax.dynamic_index_in_dim(right, k, 1, keepdims=False),
        ]
    return jnp.broadcast_to(
        op.value(op_table.unrolled_features(features), *per_task, *constants, *(drawn if op.random else ())), shape
    )
