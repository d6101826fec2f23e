"""Relaxed programs: every slot is a mixture of ops and operands, so that fitness has a gradient with respect to them.

The relaxation is that of DARTS (Liu, Simonyan and Yang 2019).

Axes: `L` slots, `T` tasks, `F` features, `n` relaxed programs.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zero_jax.executors import stream
from zero_jax.executors.fitness import rmse_fitness
from zero_jax.executors.xla.interpreter import Values, applied, empty_memory
from zero_jax.program import ops as table
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace
from zero_jax.search.operators.learners import blank
from zero_jax.tasks import Tasks

LARGEST = 1e3
"""Memory is clipped to this size: a mixture that diverges would have gradients that are not finite."""

OPERANDS = ("in1", "in2", "out")


class Slots(NamedTuple):
    """What a relaxed program is made of, for each of its `L` slots.

    Attributes:
      op: logits `[L, 65]`; those of ops that may not stand there are ignored.
      addresses: for `in1`, `in2` and `out`, and for each kind, logits `[L, addresses of the kind]`.
      constants: `[L, 65, 3]`, of each op that may stand there.
    """

    op: Array
    addresses: dict[str, dict[str, Array]]
    constants: Array


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The relaxed programs of a space.

    Attributes:
      space: of the programs.
      train, valid: how many examples of each task a gradient is taken through, the first ones.
    """

    space: SearchSpace
    train: int
    valid: int

    @functools.cached_property
    def allowed(self) -> np.ndarray:
        """`[L, 65]` bool: which ops may stand in a slot."""
        mask = np.zeros((sum(self.space.capacity), len(table.OPS)), bool)
        mask[:, 0] = True
        for slot, component in enumerate(np.repeat(np.arange(3), self.space.capacity)):
            mask[slot, list(self.space.ops[component])] = True
        return mask

    @functools.cached_property
    def writable(self) -> dict[str, np.ndarray]:
        """For each kind, which addresses may be written: not those of label and features."""
        sizes = dict(zip(table.KINDS, self.space.memory, strict=True))
        return {k: np.arange(n) >= (1 if k in "sv" and n > 1 else 0) for k, n in sizes.items()}

    def slots(self, key: Array, spread: float) -> Slots:
        """A relaxed program whose logits are drawn, with that standard deviation; constants have one of 1."""
        n, keys = sum(self.space.capacity), iter(jax.random.split(key, 11))
        op = spread * jax.random.normal(next(keys), (n, len(table.OPS)))
        sizes = dict(zip(table.KINDS, self.space.memory, strict=True))
        addresses = {
            name: {k: spread * jax.random.normal(next(keys), (n, size)) for k, size in sizes.items()}
            for name in OPERANDS
        }
        return Slots(op, addresses, jax.random.normal(next(keys), (n, len(table.OPS), 3)))

    # ------------------------------------------------------------------------------------------ fitness

    def fitness(self, slots: Slots, temperature: Array, tasks: Tasks, seed: Array) -> Array:
        """The mean fitness of a relaxed program: trained on the first examples, then validated."""
        shares = self._shares(slots, temperature)
        empty = empty_memory(blank(self.space, 1), len(tasks), tasks.train_x.shape[2])
        start = {kind: part[0] for kind, part in empty.items()}
        memory = self._run(0, shares, start, tasks.ids, seed, jnp.int32(0))
        parts = (tasks.train_x[:, : self.train], tasks.train_y[:, : self.train])
        x, y = (jnp.swapaxes(jnp.asarray(part), 0, 1) for part in parts)

        def train(memory: Values, example: Any) -> tuple[Values, None]:
            i, x, y = example
            memory = self._run(1, shares, _shown(memory, x, jnp.zeros_like(y)), tasks.ids, seed, i)
            return self._run(2, shares, _shown(memory, x, y), tasks.ids, seed, i), None

        memory, _ = lax.scan(jax.checkpoint(train), memory, (jnp.arange(len(x)), x, y))
        parts = (tasks.valid_x[:, : self.valid], tasks.valid_y[:, : self.valid])
        new_x, new_y = (jnp.swapaxes(jnp.asarray(part), 0, 1) for part in parts)

        def error(i: Array, x: Array, y: Array) -> Array:
            after = self._run(1, shares, _shown(memory, x, jnp.zeros_like(y)), tasks.ids, seed, i)
            return y - after["s"][1]

        errors = jax.vmap(error)(len(x) + jnp.arange(len(new_x)), new_x, new_y)
        return rmse_fitness((errors**2).mean(0)).mean()

    def _shares(self, slots: Slots, temperature: Array) -> Slots:
        """The mixture's weights in place of logits."""
        op = jax.nn.softmax(jnp.where(jnp.asarray(self.allowed), slots.op / temperature, -jnp.inf), -1)

        def soft(name: str, kind: str, logits: Array) -> Array:
            mask = self.writable[kind] if name == "out" else np.ones(logits.shape[1], bool)
            if not mask.any():
                return logits
            return jax.nn.softmax(jnp.where(jnp.asarray(mask), logits / temperature, -jnp.inf), -1)

        addresses = {
            name: {kind: soft(name, kind, logits) for kind, logits in kinds.items()}
            for name, kinds in slots.addresses.items()
        }
        return Slots(op, addresses, slots.constants)

    def _run(self, component: int, shares: Slots, memory: Values, ids: Array, seed: Array, run: Array) -> Values:
        """One run of a component: each slot writes the expected value to the expected place."""
        first, last = np.cumsum((0, *self.space.capacity))[component : component + 2]
        chosen = [table.OPS[number] for number in self.space.ops[component] if number]

        def step(memory: Values, one: Any) -> tuple[Values, None]:
            slot, share = one
            draw = stream.draw_number(component, run, slot)
            return self._slot(chosen, share, memory, ids, seed, draw), None

        own = jax.tree.map(lambda part: part[first:last], shares)
        return lax.scan(step, memory, (jnp.arange(last - first), own))[0] if last > first else memory

    def _slot(
        self, chosen: list[table.Op], share: Slots, memory: Values, ids: Array, seed: Array, draw: Array
    ) -> Values:
        mixed = {
            (name, k): jnp.tensordot(share.addresses[name][k], values, 1)
            for name in OPERANDS
            for k, values in memory.items()
            if values.shape[0]
        }
        features, after = memory["v"].shape[-1], dict(memory)
        for kind in table.KINDS:
            some = [op for op in chosen if op.output == kind and self.writable[kind].any()]
            if not some:
                continue
            old = mixed["out", kind]
            drawn = stream.draws(old.shape[1:], seed, ids, draw) if any(op.random for op in some) else ()
            new, mass = jnp.zeros_like(old), jnp.zeros(())
            for op in some:
                operands = [mixed[OPERANDS[i], k] for i, k in enumerate(op.inputs)] + [old] * op.reads_output
                constants = [share.constants[op.number, i] for i in range(len(op.constants))]
                value = applied(op, features, operands, _in_range(op, constants), drawn, old.shape)
                new += share.op[op.number] * value
                mass += share.op[op.number]
            places = share.addresses["out"][kind].reshape(-1, *(1,) * old.ndim)
            written = memory[kind] * (1 - mass * places) + places * new[None]
            after[kind] = jnp.clip(written, -LARGEST, LARGEST)
        return after

    # ------------------------------------------------------------------------------------------ programs

    def programs(self, slots: Slots) -> Programs:
        """The likeliest op and operands of each slot, for `n` relaxed programs (leaves `[n, ...]`)."""
        op = np.where(self.allowed, np.asarray(slots.op), -np.inf).argmax(-1)
        n, length = op.shape
        code, kinds = np.zeros((n, length, 4), np.int32), [*table.INPUT_KINDS.T, table.OUTPUT_KINDS]
        code[..., 0] = op
        for column, (name, kind) in enumerate(zip(OPERANDS, kinds, strict=True), 1):
            for number, k in enumerate(table.KINDS):
                logits = np.asarray(slots.addresses[name][k])
                if name == "out":
                    logits = np.where(self.writable[k], logits, -np.inf)
                if logits.shape[-1]:
                    code[..., column] = np.where(kind[op] == number, logits.argmax(-1), code[..., column])
        every = np.asarray(slots.constants, np.float32)
        data = np.take_along_axis(every, op[..., None, None], 2)[:, :, 0]
        meanings = table.CONSTANT_MEANINGS[op]
        data = np.where(meanings == "stdev", np.abs(data), np.where(meanings == "index", np.clip(data, 0, 1), data))
        size = np.tile(np.array(self.space.capacity, np.int32), (n, 1))
        data = np.where(meanings == "", 0, data).astype(np.float32)
        return Programs(code, data, size, self.space.capacity, self.space.memory)


def _in_range(op: table.Op, constants: list[Array]) -> list[Array]:
    """Constants as an op takes them: deviations are positive, places from 0 to 1."""
    some = zip(constants, op.constants, strict=True)
    return [jnp.abs(c) if m == "stdev" else jnp.clip(c, 0, 1) if m == "index" else c for c, m in some]


def _shown(memory: Values, x: Array, y: Array) -> Values:
    """The memory with features and label in their places."""
    return {**memory, "v": memory["v"].at[0].set(x), "s": memory["s"].at[0].set(y)}
