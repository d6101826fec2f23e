"""`evaluate` and `execute`: check the arguments, choose the executor and hand it the work."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zero_jax.executors import devices, dispatch
from zero_jax.executors.base import MAX_BYTES, Evaluation, Memory, Options, Request
from zero_jax.executors.dispatch import check_stream, dispatched
from zero_jax.executors.registry import REFERENCE, check_executor, choose
from zero_jax.program.memory import COMPONENTS, Interface
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace
from zero_jax.support.bounds import check_number
from zero_jax.tasks import Tasks


class Resources(TypedDict, total=False):
    """What `evaluate` may use, and how; it says what each means."""

    chunk_size: int | None
    max_bytes: int
    differentiable: bool
    threads: int | None
    devices: Sequence[jax.Device] | None


def evaluate(
    programs: Programs,
    tasks: Tasks,
    seed: Any = 0,
    *,
    executor: str = "auto",
    ops: Any = None,
    max_abs_error: Any = 100.0,
    interpret: bool = False,
    **resources: Unpack[Resources],
) -> Evaluation:
    """Trains every program on every task and returns its fitness (Real et al. 2020, figure 1).

    A pure function: it works under `jit`, `vmap`, `shard_map` (with `check_vma=False`) and inside `lax.scan`. Neither
    the fitness nor the random numbers of a program depend on the other programs in the batch: programs are evaluated in
    blocks of one width, so equal programs have equal fitness, bit for bit, in any batch and for any `chunk_size`, as
    long as `ops` and the shapes of the tasks stay the same.

    Args:
      programs: `P` programs.
      tasks: `T` tasks.
      seed: of the random instructions: a whole number, of which the lower 32 bits count.
      executor: `xla` runs wherever JAX does; `simd` runs on the CPU, with sixteen tasks in a vector register, and needs
        Numba; `cuda` and `pallas` run on NVIDIA GPUs, a program a block, the first with NVIDIA Warp (`zero-jax[gpu]`),
        the second for up to 32 features, and on TPUs; `auto` takes the first of them that it can on a GPU (`cuda` up to
        512 features), and `simd` on a CPU unless the arguments are traced, there is no Numba or it would not fit.
      ops: the ops that the dispatcher covers (static): names, numbers, or three collections for Setup, Predict and
        Learn. By default those present, or all 65 when traced. Fewer are faster; passing those of the search space
        avoids a compilation for each new set. When traced, ops that are not covered do nothing.
      max_abs_error: a larger error in training, or NaN, stops a run.
      chunk_size: how many programs to hand to the device at a time: for `xla` on a CPU rounded up to whole blocks, by
        default one block; for `cuda` and `pallas` at most as many as fit `max_bytes`. `simd` takes them one by one.
      max_bytes: a bound on the memory that programs in training take, whatever `P`; the tasks themselves not counted,
        but for `simd` the copy of them that it lays out in lanes.
      differentiable: makes `fitness` differentiable with respect to `programs.data` (RMSE only). Costs two evaluations
        and a memory per training example.
      threads: how many threads to use on a CPU; by default as many as there are cores. The result is the same.
      devices: the devices over which all but `simd` share out the programs; by default JAX's default device alone. The
        result is the same, bit for bit. With `differentiable` only the first counts. When traced they are ignored:
        `shard_map` the call instead. (Under `jit` alone, XLA shards itself for sharded programs, while every device
        runs all of `cuda` or `pallas`, and one device all of `simd`, which has threads.)
      interpret: lets `cuda` and `pallas` run on a CPU, slowly: for tests.

    Returns:
      `Evaluation`: fitness `[P, T]` float32 and train_steps `[P, T]` int32.

    Raises:
      ValueError: an unknown executor, or one that cannot serve the request; ops that do not cover the programs;
        accuracy with `differentiable`; more memory needed for one program than `max_bytes`; vector labels with fewer
        than 3 vectors.
      KeyboardInterrupt: after Ctrl-C; with `simd`, within a second.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> tasks = synthetic.linear(2, features=4, train=1000, valid=100)
      >>> bool((evaluate(library.program("linear"), tasks).fitness > 0.99).all())
      True
    """
    options = Options(max_abs_error=max_abs_error, interpret=interpret, **resources)
    check_executor(executor)
    _check(programs, tasks, options)
    devices.default_device()  # a missing device raises an error that says what to do
    leaves = jax.tree.leaves((programs, tasks, seed, max_abs_error, jnp.zeros(())))  # under jit zeros are traced too
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    options = dataclasses.replace(
        options, ops=dispatched(programs, ops), traced=traced, devices=None if traced else options.devices
    )
    check_stream(programs.capacity, tasks, options.ops)
    with devices.at_home(options.devices):
        chosen = choose(executor, Request(programs.memory, tasks, options))
    return chosen.evaluate(programs, tasks, seed, options)


def execute(
    programs: Programs,
    memory: Sequence[Any],
    component: str = "predict",
    executor: str = "auto",
    *,
    seed: Any = 0,
    ops: Any = None,
    ids: Any = None,
    interpret: bool = False,
) -> Memory:
    """Runs one component of every program once on a given memory, instruction by instruction: for tests and debugging.

    Args:
      programs: `P` programs.
      memory: scalars `[P, T, S]`, vectors `[P, T, V, F]` and matrices `[P, T, M, F, F]`.
      component: `setup`, `predict` or `learn`.
      executor: as in `evaluate`.
      seed: of the random instructions, which draw what they would in the component's first run, labels being scalars.
      ops: as in `evaluate`.
      ids: `[T]` task ids; by default 0 to T-1.
      interpret: as in `evaluate`.

    Returns:
      `Memory`, what the same addresses hold after the run.

    Raises:
      ValueError: an unknown component or executor, or a memory that does not fit the programs.

    Example:
      >>> from zero_jax import library
      >>> import numpy as np
      >>> memory = np.zeros((1, 1, 4)), np.full((1, 1, 3, 2), 2.0), np.zeros((1, 1, 0, 2, 2))
      >>> execute(library.program("linear"), memory, "predict").scalars[0, 0, 1].item()
      8.0
    """
    check_executor(executor)
    if component not in COMPONENTS:
        raise ValueError(f"component must be one of {', '.join(COMPONENTS)}, not {component!r}")
    values = tuple(jnp.asarray(part, jnp.float32) for part in memory)
    _check_memory(programs, *values)
    if 0 in values[0].shape[:2]:
        return Memory(*values)
    options = Options(ops=ops, interpret=interpret)
    if executor == "auto":
        executor = REFERENCE
    chosen = choose(executor, Request(programs.memory, _tasks_like(values[1]), options))
    task_ids = jnp.arange(values[0].shape[1], dtype=jnp.int32) if ids is None else jnp.asarray(ids, jnp.int32)
    return chosen.execute(programs, values, COMPONENTS.index(component), seed, task_ids, options)


def _tasks_like(vectors: Array) -> Tasks:
    """Tasks of one example each, as many and as wide as those that vectors `[P, T, V, F]` are of."""
    count, features = vectors.shape[1], vectors.shape[3]
    x, y = np.zeros((count, 1, features), np.float32), np.zeros((count, 1), np.float32)
    return Tasks(x, y, x, y)


# ---------------------------------------------------------------------------------------------- checks


def _check(programs: Programs, tasks: Tasks, options: Options) -> None:
    """Checks arguments of `evaluate` that have nothing to do with the executor."""
    check_bound(options.max_abs_error)
    if options.differentiable and tasks.loss != "rmse":
        raise ValueError(f"differentiable=True needs the rmse loss: {tasks.loss} has no useful gradient")
    if not len(tasks):
        raise ValueError("there are no tasks")
    Interface.of(programs.memory, tasks)
    chunk_size = options.chunk_size
    if chunk_size is not None and (not isinstance(chunk_size, numbers.Integral) or chunk_size < 1):
        raise ValueError(f"chunk_size must be a whole number from 1 on, not {chunk_size}")
    check_threads(options.threads)


def check_bound(max_abs_error: Any) -> None:
    """Checks `max_abs_error`; one that is traced is not known yet.

    Raises:
      ValueError: 0 or less, or NaN.
    """
    if isinstance(max_abs_error, int | float | np.number) and not max_abs_error > 0:
        raise ValueError(f"max_abs_error must be above 0, not {max_abs_error}")


def check_threads(threads: int | None) -> None:
    """Checks `threads`.

    Raises:
      ValueError: neither None nor a whole number from 1 on.
    """
    if threads is not None:
        check_number("threads", threads, least=1)


def check_fits(space: SearchSpace, ops: Any, tasks: Tasks, max_bytes: int = MAX_BYTES, executor: str = "auto") -> None:
    """Checks that `evaluate` would take programs of that space.

    Raises:
      ValueError: not even one program fits in `max_bytes`, the random stream is too short, or vectors are too few.
    """
    Interface.of(space.memory, tasks)
    options = Options(ops=dispatch.op_sets(ops, space.memory), max_bytes=max_bytes)
    check_stream(space.capacity, tasks, options.ops)
    request = Request(space.memory, tasks, options)
    choose(executor, request).check_fits(request)


def _check_memory(programs: Programs, scalars: Array, vectors: Array, matrices: Array) -> None:
    batch, size = programs.code.shape[0], programs.memory
    tasks = scalars.shape[1] if scalars.ndim == 3 else 0
    features = vectors.shape[-1] if vectors.ndim == 4 else 0
    wanted = {
        "scalars": (batch, tasks, size.scalars),
        "vectors": (batch, tasks, size.vectors, features),
        "matrices": (batch, tasks, size.matrices, features, features),
    }
    for (name, shape), given in zip(wanted.items(), (scalars, vectors, matrices), strict=True):
        if given.shape != shape:
            raise ValueError(f"{name} has shape {given.shape}, not {shape}, which {programs!r} needs")
