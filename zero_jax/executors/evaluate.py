"""`evaluate` and `execute`: pick the executor and cut the work to the memory there is."""

import functools
import numbers
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zero_jax import dataflow, parallel
from zero_jax import ops as op_table
from zero_jax.canonical import canonical
from zero_jax.compiled import HAVE_NUMBA
from zero_jax.executors import contract, xla
from zero_jax.executors.contract import Array, Evaluation, Memory, OpSets
from zero_jax.programs import COMPONENTS, Capacity, MemorySize, Programs, SearchSpace
from zero_jax.tasks import Tasks

EXECUTORS: tuple[str, ...] = ("auto", "xla", "simd")
"""The executors that this version has."""

MAX_BYTES = 2**30
"""The default bound on the memory that programs in training take."""

_BLOCK_BYTES = {"cpu": 2**20}
"""What a block may take: on a CPU about a core's second-level cache, elsewhere as much as `max_bytes` allows."""
_WIDEST = {"cpu": 256}


def evaluate(
    programs: Programs,
    tasks: Tasks,
    seed: Any = 0,
    *,
    executor: str = "auto",
    ops: Any = None,
    max_abs_error: Any = 100.0,
    chunk_size: int | None = None,
    max_bytes: int = MAX_BYTES,
    differentiable: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Trains every program on every task and returns its fitness (SPEC 2).

    A pure function: it works under `jit`, `vmap`, `shard_map` (with `check_vma=False`) and inside `lax.scan`. Neither
    the fitness nor the random numbers of a program depend on the other programs in the batch: programs are evaluated in
    blocks of one width, so equal programs have equal fitness, bit for bit, in any batch and for any `chunk_size`, as
    long as `ops` and the shapes of the tasks stay the same.

    Args:
      programs: `P` programs.
      tasks: `T` tasks.
      seed: of the random instructions: a whole number, of which the lower 32 bits count.
      executor: `xla` runs wherever JAX does; `simd` runs on the CPU, with sixteen tasks in a vector register, and needs
        Numba; `auto` takes `simd` on a CPU unless the arguments are traced, there is no Numba or it would not fit.
      ops: the ops that the dispatcher covers (static): numbers, or three collections for Setup, Predict and Learn. By
        default those present, or all 65 when traced. Fewer are faster; passing those of the search space avoids a
        compilation for each new set. When traced, ops that are not covered do nothing.
      max_abs_error: a larger error in training, or NaN, stops a run.
      chunk_size: how many programs to hand to the device at a time, rounded up to whole blocks; by default one block.
        `simd` takes them one by one.
      max_bytes: a bound on the memory that programs in training take, whatever `P`; the tasks themselves not counted,
        but for `simd` the copy of them that it lays out in lanes.
      differentiable: makes `fitness` differentiable with respect to `programs.data` (RMSE only). Costs two evaluations
        and a memory per training example.
      threads: how many threads to use on a CPU; by default as many as there are cores. The result is the same.

    Returns:
      `Evaluation`: fitness `[P, T]` float32 and train_steps `[P, T]` int32.

    Raises:
      ValueError: an unknown executor or one that cannot do what is asked, ops that do not cover the programs, accuracy
        with `differentiable`, more memory needed for one program than `max_bytes`.
      KeyboardInterrupt: after Ctrl-C; with `simd`, within a second.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> tasks = synthetic.linear(2, features=4, train=1000, valid=100)
      >>> bool((evaluate(library.program("linear"), tasks).fitness > 0.99).all())
      True
    """
    check_executor(executor)
    if differentiable and tasks.loss != "rmse":
        raise ValueError(f"differentiable=True needs the rmse loss: {tasks.loss} has no useful gradient")
    if not len(tasks):
        raise ValueError("there are no tasks")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((programs, tasks, seed, max_abs_error)))
    check_threads(threads)
    sets = _dispatched(programs, ops)
    _check_stream(programs.capacity, tasks, sets)
    if choose(executor, programs.memory, tasks, max_bytes, traced=traced, differentiable=differentiable) == "simd":
        return _on_lanes(programs, tasks, seed, max_abs_error, threads, traced)
    need = program_bytes(programs.memory, sets, tasks, differentiable)
    count = programs.code.shape[0]
    width = block_width(need, max_bytes)
    if differentiable:  # often of one program, and too dear for empty ones
        width = min(width, 1 << max(0, count - 1).bit_length())
    n_blocks = max(1, -(-count // width))
    per_chunk = n_blocks if traced else min(n_blocks, -(-(chunk_size or 1) // width))
    chunks = _in_chunks(programs, width, per_chunk)
    shared = (contract.seed_bits(seed), jnp.asarray(max_abs_error, jnp.float32))
    run = partial(_evaluate_blocks, sets=sets, differentiable=differentiable)
    if len(chunks) == 1:
        result = run(chunks[0], tasks, *shared)
    else:
        # Threads do not see the caller's `with jax.default_device(...)`; arrays put there take the work along.
        chosen = getattr(jax.config, "jax_default_device", None)
        on_device = jax.device_put(tasks, chosen if isinstance(chosen, jax.Device) else None)
        at_once = _threads(need * width, max_bytes, threads)
        with ThreadPoolExecutor(min(at_once, len(chunks))) as pool:
            parts = list(pool.map(lambda chunk: jax.device_get(run(chunk, on_device, *shared)), chunks))
        result = Evaluation(*(jnp.asarray(np.concatenate(values)) for values in zip(*parts, strict=True)))
    return Evaluation(*(values.reshape(-1, len(tasks))[:count] for values in result))


def execute(
    programs: Programs,
    memory: Sequence[Any],
    component: str = "predict",
    executor: str = "auto",
    *,
    seed: Any = 0,
    ops: Any = None,
    ids: Any = None,
) -> Memory:
    """Runs one component of every program once on a given memory, instruction by instruction: for tests and debugging.

    Args:
      programs: `P` programs.
      memory: scalars `[P, T, S]`, vectors `[P, T, V, F]` and matrices `[P, T, M, F, F]`.
      component: `setup`, `predict` or `learn`.
      executor: as in `evaluate`.
      seed: of the random instructions, which draw what they would in the component's first run.
      ops: as in `evaluate`.
      ids: `[T]` task ids; by default 0 to T-1.

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
    scalars, vectors, matrices = (jnp.asarray(part, jnp.float32) for part in memory)
    _check_memory(programs, scalars, vectors, matrices)
    task_ids = jnp.arange(scalars.shape[1], dtype=jnp.int32) if ids is None else jnp.asarray(ids, jnp.int32)
    if executor == "simd":
        return _execute_on_lanes(programs, (scalars, vectors, matrices), component, seed, task_ids)
    values = {"s": jnp.swapaxes(scalars, 1, 2), "v": jnp.swapaxes(vectors, 1, 2), "m": jnp.swapaxes(matrices, 1, 2)}
    after = _execute(
        programs, values, task_ids, contract.seed_bits(seed), COMPONENTS.index(component), _dispatched(programs, ops)
    )
    return Memory(*(jnp.swapaxes(after[kind], 1, 2) for kind in op_table.KINDS))


# ---------------------------------------------------------------------------------------------- the SIMD executor


def choose(
    executor: str,
    memory: MemorySize,
    tasks: Tasks,
    max_bytes: int = MAX_BYTES,
    *,
    traced: bool = False,
    differentiable: bool = False,
) -> str:
    """The executor that `evaluate` takes for programs of that memory size: `xla` or `simd`.

    Raises:
      ValueError: `simd` asked for where it cannot serve.
    """
    check_executor(executor)
    if executor == "auto":
        if traced or differentiable or jax.default_backend() != "cpu":
            return "xla"
        if not HAVE_NUMBA:
            _warn_once("Numba is not installed, so programs run on the slower XLA executor: pip install numba")
            return "xla"
        return "xla" if _too_large(memory, tasks, max_bytes) else "simd"
    if executor == "simd":
        if differentiable:
            raise ValueError("the simd executor has no gradients: use executor='xla' with differentiable=True")
        if not HAVE_NUMBA:
            raise ValueError("the simd executor needs Numba: pip install numba, or use executor='xla'")
        message = _too_large(memory, tasks, max_bytes)
        if message:
            raise ValueError(message)
    return executor


def _too_large(memory: MemorySize, tasks: Tasks, max_bytes: int) -> str:
    from zero_jax.executors import simd  # only where there is Numba

    program, lanes = simd.bytes_needed(memory, tasks)
    if program + lanes <= max_bytes:
        return ""
    return (
        f"sixteen tasks at a time, one program needs {program:,} bytes and these tasks {lanes:,}, together more than "
        f"max_bytes={max_bytes:,}: raise max_bytes, evaluate fewer tasks at a time, or use executor='xla'"
    )


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _on_lanes(
    programs: Programs, tasks: Tasks, seed: Any, max_abs_error: Any, threads: int | None, traced: bool
) -> Evaluation:
    """`evaluate` by the SIMD executor: at once, or by a callback where something is traced."""
    shape = (programs.code.shape[0], len(tasks))
    leaves, structure = jax.tree.flatten((programs, tasks))

    def call(seed: Any, limit: Any, *leaves: Any) -> tuple[np.ndarray, np.ndarray]:
        from zero_jax.executors import simd

        given, on = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
        plain = canonical(given.check()).programs
        result = simd.evaluate(plain, simd.lay_out(on), int(seed), float(limit), threads=threads)
        return result.fitness, result.train_steps

    if not traced:
        return Evaluation(*map(jnp.asarray, call(np.asarray(contract.seed_bits(seed)), max_abs_error, *leaves)))
    told = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int32))
    limit = jnp.asarray(max_abs_error, jnp.float32)
    return Evaluation(
        *jax.pure_callback(call, told, contract.seed_bits(seed), limit, *leaves, vmap_method="sequential")
    )


def _execute_on_lanes(programs: Programs, memory: Any, component: str, seed: Any, ids: Any) -> Memory:
    from zero_jax.executors import simd

    numbered = jax.tree.map(np.asarray, dataflow.number_draws(programs.check()))
    values = tuple(np.asarray(part) for part in memory)
    after = simd.execute(numbered, values, COMPONENTS.index(component), int(contract.seed_bits(seed)), np.asarray(ids))
    return Memory(*map(jnp.asarray, after))


# ---------------------------------------------------------------------------------------------- compiled parts


@partial(jax.jit, static_argnames=("sets", "differentiable"))
def _evaluate_blocks(
    blocks: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, *, sets: OpSets, differentiable: bool
) -> Evaluation:
    """Evaluates `[blocks, width, ...]` programs, a block after the other."""

    def block(programs: Programs) -> Evaluation:
        return xla.evaluate_block(
            _prepared(programs, sets, prune=True), tasks, seed, max_abs_error, sets, differentiable
        )

    # Without the checkpoint, what the backward pass needs would be kept for all blocks at once.
    return lax.map(jax.checkpoint(block) if differentiable else block, blocks)


@partial(jax.jit, static_argnames=("component", "sets"))
def _execute(
    programs: Programs, memory: xla.Values, ids: Array, seed: Array, component: int, sets: OpSets
) -> xla.Values:
    return xla.execute_block(_prepared(programs, sets, prune=False), memory, ids, seed, component, sets)


def _prepared(programs: Programs, sets: OpSets, prune: bool) -> Programs:
    """What executors take: NO_OP in slots that are not in use, random instructions numbered, dead code gone."""
    if not sum(programs.capacity):
        return programs
    slots = np.concatenate([np.arange(size) for size in programs.capacity])
    component = np.repeat(np.arange(3), programs.capacity)
    used = jnp.asarray(slots)[None] < jnp.asarray(programs.length)[:, component]
    clean = programs.with_arrays(jnp.where(used[..., None], programs.code, 0), programs.data, programs.length)
    if not prune and not _draws(sets):
        return clean
    live = dataflow.liveness(clean)
    numbered = dataflow.number_draws(clean, live) if _draws(sets) else clean
    return dataflow.compacted(numbered, live) if prune else numbered


def _draws(sets: OpSets) -> bool:
    return any(op_table.RANDOM & set(part) for part in sets)


# ---------------------------------------------------------------------------------------------- blocks and chunks


def program_bytes(memory: MemorySize, sets: OpSets, tasks: Tasks, differentiable: bool = False) -> int:
    """An upper estimate of what one program in training takes: its memory, twice, and what branches hold at once.

    With `differentiable`, also a memory for every example that it sees.
    """
    values = {"s": 1, "v": tasks.features, "m": tasks.features**2}
    state = sum(n * values[kind] for kind, n in zip(op_table.KINDS, memory, strict=True))
    outputs = sorted(values[op_table.OPS[n].output] for part in sets for n in part if n)
    examples = _runs(tasks) if differentiable else 0
    branches = len(outputs) if differentiable else 8
    return 4 * len(tasks) * ((2 + examples) * state + sum(outputs[-branches:]) + 16)


def _runs(tasks: Tasks) -> int:
    """How often Predict runs on a task."""
    return int(tasks.order.shape[0] * (tasks.train_x.shape[1] + tasks.valid_x.shape[1]))


def block_width(one: int, max_bytes: int = MAX_BYTES) -> int:
    """How many programs of `one` bytes each make a block: a power of two, the same for any number of programs.

    Raises:
      ValueError: where not even one program fits.
    """
    if one > max_bytes:
        raise ValueError(
            f"one program on these tasks needs about {one:,} bytes, more than max_bytes={max_bytes:,}: "
            "raise max_bytes, or evaluate fewer tasks at a time"
        )
    platform = jax.default_backend()
    roomy = min(_WIDEST.get(platform, 2**14), max(16, _BLOCK_BYTES.get(platform, MAX_BYTES) // one))
    return 1 << (min(roomy, max_bytes // one).bit_length() - 1)


def _threads(block_bytes: int, max_bytes: int, threads: int | None) -> int:
    """How many chunks run at a time: XLA keeps about one core of a CPU busy with each."""
    if jax.default_backend() != "cpu":
        return 2  # one computes while the next is handed over
    return max(1, min(threads or parallel.cores(), max_bytes // block_bytes))


def _in_chunks(programs: Programs, width: int, per_chunk: int) -> list[Programs]:
    """Chunks `[per_chunk, width, ...]` of programs, the last one filled up with empty ones."""
    count = programs.code.shape[0]
    chunk = width * per_chunk
    n_chunks = max(1, -(-count // chunk))
    missing = n_chunks * chunk - count

    def cut(values: Any) -> Any:
        xp = jnp if isinstance(values, jax.Array) else np
        padded = xp.concatenate([values, xp.zeros((missing, *values.shape[1:]), values.dtype)]) if missing else values
        return padded.reshape(n_chunks, per_chunk, width, *values.shape[1:])

    cut_up = jax.tree.map(cut, programs)
    return [jax.tree.map(lambda values, i=i: values[i], cut_up) for i in range(n_chunks)]


# ---------------------------------------------------------------------------------------------- checks


def check_executor(executor: str) -> None:
    """Refuses an unknown executor.

    Raises:
      ValueError: naming those there are.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}, not {executor!r}")


def check_threads(threads: int | None) -> None:
    """Refuses a number of threads that is not one.

    Raises:
      ValueError: neither None nor a whole number from 1 on.
    """
    if threads is not None and (not isinstance(threads, numbers.Integral) or threads < 1):
        raise ValueError(f"threads must be a whole number from 1 on, not {threads!r}")


def check_fits(space: SearchSpace, ops: Any, tasks: Tasks, max_bytes: int = MAX_BYTES, executor: str = "auto") -> None:
    """Refuses what `evaluate` would refuse of programs of that space.

    Raises:
      ValueError: not even one program fits in `max_bytes`, or the random stream is too short.
    """
    sets = contract.op_sets(ops, space.memory)
    _check_stream(space.capacity, tasks, sets)
    if choose(executor, space.memory, tasks, max_bytes) == "xla":
        block_width(program_bytes(space.memory, sets, tasks), max_bytes)


def _dispatched(programs: Programs, ops: Any) -> OpSets:
    """The ops to dispatch; checked against the programs where those are concrete."""
    if isinstance(programs.code, jax.core.Tracer):
        return contract.op_sets(ops, programs.memory)
    code = np.asarray(programs.code)
    parts = zip(programs.starts[:3], programs.starts[1:], strict=True)
    present = [np.unique(code[:, first:last, 0]).tolist() for first, last in parts]
    if ops is None:
        return contract.op_sets(present, programs.memory)
    sets = contract.op_sets(ops, programs.memory)
    for component, have, covered in zip(COMPONENTS, present, sets, strict=True):
        missing = sorted(set(have) - {0, *covered})
        if missing:
            raise ValueError(f"{component} uses ops {missing}, which ops={ops!r} does not cover")
    return sets


def _check_stream(capacity: Capacity, tasks: Tasks, sets: OpSets) -> None:
    runs = _runs(tasks)
    if _draws(sets) and (runs > contract.MAX_RUNS or max(capacity) > contract.MAX_DRAWS):
        raise ValueError(
            f"random instructions allow at most {contract.MAX_RUNS:,} runs of a component, not {runs:,}, "
            f"and at most {contract.MAX_DRAWS} instructions in one, not {max(capacity)}"
        )


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
