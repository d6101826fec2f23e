"""Blocks of programs on devices: the compiled functions between `evaluate` and the executors that JAX runs.

Axes: `P` programs, `D` devices, `B` blocks, `W` programs a block, `T` tasks.
"""

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from zero_jax.executors import contract, xla
from zero_jax.executors.batches import AXIS
from zero_jax.executors.contract import Array, OpSets
from zero_jax.program import liveness as dataflow
from zero_jax.program import ops as op_table
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks


class Plan(NamedTuple):
    """What a compiled evaluation depends on, shapes aside.

    Attributes:
      executor: `xla` or `pallas`.
      sets: the ops to dispatch.
      differentiable: whether gradients with respect to constants are wanted.
      interpret: whether Pallas runs its kernel on any device, slowly.
      ready: whether programs come as `prepared` makes them.
      fingerprints: whether to return a hash of all errors in place of fitness and steps; Pallas only.
      tpu: whether Pallas takes its kernel for TPUs.
    """

    executor: str
    sets: OpSets
    differentiable: bool = False
    interpret: bool = False
    ready: bool = False
    fingerprints: bool = False
    tpu: bool = False


@partial(jax.jit, static_argnames=("plan",))
def evaluate_blocks(
    blocks: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, *, plan: Plan
) -> tuple[Array, ...]:
    """Evaluates `[B, W, ...]` programs, a block after the other on one device: `[B, ...]` of what `_block` returns."""
    block = partial(_block, plan, tasks, seed, max_abs_error)
    if plan.differentiable:
        # Without the checkpoint, what the backward pass needs would be kept for all blocks at once.
        return lax.map(jax.checkpoint(block), blocks)
    # All blocks, but as data: a loop of known length 1 would be dissolved, what follows fused with it, and then XLA
    # computes the fitness of those programs alone that somebody uses, and rounds otherwise.
    count = (jnp.asarray(blocks.length)[:, 0, 0] > -2).sum()
    return _loop(block, blocks, count)


@partial(jax.jit, static_argnames=("plan", "mesh"))
def evaluate_shards(
    blocks: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, *, plan: Plan, mesh: Mesh
) -> tuple[Array, ...]:
    """Evaluates `[D, W, ...]` programs, a block on each device of the mesh; nothing goes between devices."""

    def on_device(blocks: Programs, tasks: Tasks, seed: Array, limit: Array) -> tuple[Array, ...]:
        told = _block(plan, tasks, seed, limit, jax.tree.map(lambda a: a[0], blocks))
        return tuple(part[None] for part in told)

    sharded, whole = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(sharded, whole, whole, whole), out_specs=sharded, check_vma=False
    )(blocks, tasks, seed, max_abs_error)


def _loop(block: Callable[[Programs], tuple[Array, ...]], blocks: Programs, count: Array) -> tuple[Array, ...]:
    """What `block` returns for the first `count` blocks, stacked."""
    one = jax.eval_shape(block, jax.tree.map(lambda a: a[0], blocks))
    out = tuple(jnp.zeros((blocks.code.shape[0], *part.shape), part.dtype) for part in one)

    def step(i: Array, out: tuple[Array, ...]) -> tuple[Array, ...]:
        new = block(jax.tree.map(lambda a: jnp.asarray(a)[i], blocks))
        return tuple(whole.at[i].set(part) for whole, part in zip(out, new, strict=True))

    return lax.fori_loop(0, count, step, out)


def _block(plan: Plan, tasks: Tasks, seed: Array, max_abs_error: Array, programs: Programs) -> tuple[Array, ...]:
    """Fitness and steps `[W, T]` of a block, or fingerprints `[W, 4]`."""
    interface = Interface.of(programs.memory, tasks)
    ready = programs if plan.ready else prepared(programs, plan.sets, prune=True, interface=interface)
    if plan.executor == "xla":
        return xla.evaluate_block(ready, tasks, seed, max_abs_error, plan.sets, plan.differentiable)
    if not plan.ready:
        filling = jnp.asarray(programs.length)[:, :1] < 0
        ready = ready.with_arrays(ready.code, ready.data, jnp.where(filling, -1, ready.length))
    told = _pallas(plan).evaluate_programs(
        ready, tasks, seed, max_abs_error, plan.sets, interpret=plan.interpret, errors=plan.fingerprints
    )
    return (contract.fingerprints(told[2]),) if plan.fingerprints else told[:2]


def _pallas(plan: Plan) -> ModuleType:
    """The Pallas executor of a GPU or a TPU; imported where it is used, since that takes a third of a second."""
    return importlib.import_module("zero_jax.executors.pallas." + ("tpu" if plan.tpu else "gpu"))


@partial(jax.jit, static_argnames=("component", "plan"))
def execute(programs: Programs, memory: Any, ids: Array, seed: Array, component: int, plan: Plan) -> tuple[Array, ...]:
    """Runs one component on memories `[P, T, S]`, `[P, T, V, F]`, `[P, T, M, F, F]`, and returns the like."""
    ready = prepared(programs, plan.sets, prune=False)
    if plan.executor == "pallas":
        return _pallas(plan).execute_programs(ready, memory, ids, seed, component, plan.sets, interpret=plan.interpret)
    values = {kind: jnp.swapaxes(part, 1, 2) for kind, part in zip(op_table.KINDS, memory, strict=True)}
    after = xla.execute_block(ready, values, ids, seed, component, plan.sets)
    return tuple(jnp.swapaxes(after[kind], 1, 2) for kind in op_table.KINDS)


def prepared(programs: Programs, sets: OpSets, prune: bool, interface: Interface | None = None) -> Programs:
    """What executors take: NO_OP in slots that are not in use, random instructions numbered, dead code gone."""
    if not sum(programs.capacity):
        return programs
    slots = np.concatenate([np.arange(size) for size in programs.capacity])
    component = np.repeat(np.arange(3), programs.capacity)
    used = jnp.asarray(slots)[None] < jnp.asarray(programs.length)[:, component]
    clean = programs.with_arrays(jnp.where(used[..., None], programs.code, 0), programs.data, programs.length)
    if not prune and not draws(sets):
        return clean
    live = dataflow.liveness(clean, interface)
    numbered = dataflow.number_draws(clean, live) if draws(sets) else clean
    return dataflow.compacted(numbered, live) if prune else numbered


def draws(sets: OpSets) -> bool:
    """Whether any of these ops draws random numbers."""
    return any(op_table.RANDOM & set(part) for part in sets)
