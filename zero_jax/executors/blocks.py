"""Blocks of programs on devices: the compiled functions between JAX's executors and their kernels.

Axes: `P` programs, `D` devices, `B` blocks, `W` programs a block, `T` tasks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from zero_jax.executors import dispatch
from zero_jax.executors.devices import AXIS
from zero_jax.executors.dispatch import OpSets
from zero_jax.program import liveness
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks


class Kernel(Protocol):
    """How one executor trains a block of programs. Hashable, since compiled functions depend on it."""

    def train(
        self, plan: "Plan", programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array
    ) -> tuple[Array, ...]:
        """Fitness and train steps `[W, T]` of a block, or fingerprints `[W, 4]`."""
        raise NotImplementedError

    def run_once(
        self, plan: "Plan", programs: Programs, memory: Any, ids: Array, seed: Array, component: int
    ) -> tuple[Array, ...]:
        """Runs one component of prepared programs on memories `[P, T, S]`, `[P, T, V, F]`, `[P, T, M, F, F]`."""
        raise NotImplementedError


class Plan(NamedTuple):
    """What a compiled evaluation depends on, apart from shapes.

    Attributes:
      kernel: what trains a block.
      sets: the ops to dispatch.
      differentiable: whether gradients with respect to constants are wanted.
      interpret: whether the kernel runs on any device, slowly.
      ready: whether programs come as `prepared` makes them.
      fingerprints: whether to return a hash of all errors in place of fitness and steps.
    """

    kernel: Kernel
    sets: OpSets
    differentiable: bool = False
    interpret: bool = False
    ready: bool = False
    fingerprints: bool = False


@partial(jax.jit, static_argnames=("plan",))
def evaluate_blocks(
    blocks: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, *, plan: Plan
) -> tuple[Array, ...]:
    """Evaluates `[B, W, ...]` programs, block after block on one device: `[B, ...]` of what the kernel returns."""

    def block(programs: Programs) -> tuple[Array, ...]:
        return plan.kernel.train(plan, programs, tasks, seed, max_abs_error)

    if plan.differentiable:
        # Without the checkpoint, what the backward pass needs would be kept for all blocks at once.
        return lax.map(jax.checkpoint(block), blocks)
    # The number of blocks is data: XLA would dissolve a loop of known length 1, fuse it with what follows, compute the
    # fitness of those programs alone that are used, and round differently.
    count = (jnp.asarray(blocks.length)[:, 0, 0] > -2).sum()
    return _loop(block, blocks, count)


@partial(jax.jit, static_argnames=("plan", "mesh"))
def evaluate_shards(
    blocks: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, *, plan: Plan, mesh: Mesh
) -> tuple[Array, ...]:
    """Evaluates `[D, W, ...]` programs, a block on each device of the mesh; nothing goes between devices."""

    def on_device(blocks: Programs, tasks: Tasks, seed: Array, limit: Array) -> tuple[Array, ...]:
        results = plan.kernel.train(plan, jax.tree.map(lambda a: a[0], blocks), tasks, seed, limit)
        return tuple(part[None] for part in results)

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


@partial(jax.jit, static_argnames=("component", "plan"))
def execute(programs: Programs, memory: Any, ids: Array, seed: Array, component: int, plan: Plan) -> tuple[Array, ...]:
    """Runs one component on memories `[P, T, S]`, `[P, T, V, F]`, `[P, T, M, F, F]`, and returns them afterwards."""
    return plan.kernel.run_once(plan, prepared(programs, plan.sets, prune=False), memory, ids, seed, component)


def prepared(programs: Programs, sets: OpSets, prune: bool, interface: Interface | None = None) -> Programs:
    """Programs as kernels take them: NO_OP in unused slots, random instructions numbered, dead code gone."""
    if not sum(programs.capacity):
        return programs
    slots = np.concatenate([np.arange(size) for size in programs.capacity])
    component = np.repeat(np.arange(3), programs.capacity)
    used = jnp.asarray(slots)[None] < jnp.asarray(programs.length)[:, component]
    clean = programs.with_arrays(jnp.where(used[..., None], programs.code, 0), programs.data, programs.length)
    if not prune and not dispatch.draws(sets):
        return clean
    live = liveness.liveness(clean, interface)
    numbered = liveness.number_draws(clean, live) if dispatch.draws(sets) else clean
    return liveness.compacted(numbered, live) if prune else numbered
