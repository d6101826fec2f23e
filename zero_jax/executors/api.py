"""`evaluate` and `execute`: pick the executor and hand it the work."""

import numbers
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from zero_jax.executors import batches, blocks, contract
from zero_jax.executors.batches import MAX_BYTES
from zero_jax.executors.blocks import Plan
from zero_jax.executors.choice import check_executor, choose, pallas_bytes, pallas_cannot, refuse_pallas
from zero_jax.executors.contract import Array, Evaluation, Memory, OpSets
from zero_jax.executors.pallas import layout
from zero_jax.program import liveness as dataflow
from zero_jax.program.canonical import canonical, live
from zero_jax.program.memory import COMPONENTS, Capacity, Interface
from zero_jax.program.ops import OPS
from zero_jax.program.programs import Programs, SearchSpace
from zero_jax.support import threads as parallel
from zero_jax.support.bounds import check_number
from zero_jax.support.compiled import HAVE_NUMBA
from zero_jax.tasks import Tasks


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
    devices: Sequence[jax.Device] | None = None,
    interpret: bool = False,
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
        Numba; `pallas` runs on NVIDIA GPUs, a program a block, for up to 32 features, and on TPUs; `auto` takes
        `pallas` on a GPU where it can, and `simd` on a CPU unless the arguments are traced, there is no Numba or it
        would not fit.
      ops: the ops that the dispatcher covers (static): numbers, or three collections for Setup, Predict and Learn. By
        default those present, or all 65 when traced. Fewer are faster; passing those of the search space avoids a
        compilation for each new set. When traced, ops that are not covered do nothing.
      max_abs_error: a larger error in training, or NaN, stops a run.
      chunk_size: how many programs to hand to the device at a time: for `xla` on a CPU rounded up to whole blocks, by
        default one block; for `pallas` at most as many as fit `max_bytes`. `simd` takes them one by one.
      max_bytes: a bound on the memory that programs in training take, whatever `P`; the tasks themselves not counted,
        but for `simd` the copy of them that it lays out in lanes.
      differentiable: makes `fitness` differentiable with respect to `programs.data` (RMSE only). Costs two evaluations
        and a memory per training example.
      threads: how many threads to use on a CPU; by default as many as there are cores. The result is the same.
      devices: the devices over which `xla` and `pallas` share out the programs; by default one, JAX's default device.
        The result is the same, bit for bit. Only the first counts with `differentiable`, none when traced: there,
        `shard_map` the call. (Under `jit` alone, XLA shards itself for sharded programs, while every device runs all
        of `pallas` and one all of `simd`, which has threads.)
      interpret: lets `pallas` run on any device, slowly: for tests.

    Returns:
      `Evaluation`: fitness `[P, T]` float32 and train_steps `[P, T]` int32.

    Raises:
      ValueError: an unknown executor or one that cannot do what is asked, ops that do not cover the programs, accuracy
        with `differentiable`, more memory needed for one program than `max_bytes`, vector labels with fewer than 3
        vectors.
      KeyboardInterrupt: after Ctrl-C; with `simd`, within a second.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> tasks = synthetic.linear(2, features=4, train=1000, valid=100)
      >>> bool((evaluate(library.program("linear"), tasks).fitness > 0.99).all())
      True
    """
    check_executor(executor)
    check_bound(max_abs_error)
    if differentiable and tasks.loss != "rmse":
        raise ValueError(f"differentiable=True needs the rmse loss: {tasks.loss} has no useful gradient")
    if not len(tasks):
        raise ValueError("there are no tasks")
    Interface.of(programs.memory, tasks)
    if chunk_size is not None and (not isinstance(chunk_size, numbers.Integral) or chunk_size < 1):
        raise ValueError(f"chunk_size must be a whole number from 1 on, not {chunk_size}")
    batches.default_device()  # one that is missing is named
    leaves = jax.tree.leaves((programs, tasks, seed, max_abs_error, jnp.zeros(())))  # under jit zeros are traced too
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    check_threads(threads)
    sets = _dispatched(programs, ops)
    _check_stream(programs.capacity, tasks, sets)
    asked = {"traced": traced, "differentiable": differentiable, "interpret": interpret}
    with batches.at_home(None if traced else devices):
        chosen = choose(executor, programs.memory, tasks, max_bytes, **asked)
        plan = _plan(chosen, sets, differentiable=differentiable, interpret=interpret)
    if chosen == "simd":
        return _on_lanes(programs, tasks, seed, max_abs_error, threads, traced)
    shared = (contract.seed_bits(seed), jnp.asarray(max_abs_error, jnp.float32))
    if not differentiable:
        programs = programs.with_arrays(programs.code, _without_gradients(programs.data), programs.length)
    if traced or differentiable:
        with batches.at_home(None if traced else devices):
            return _in_one(plan, programs, tasks, shared, max_bytes)
    if chosen == "xla" and devices is None and batches.platform() == "cpu":
        return _on_threads(plan, programs, tasks, shared, max_bytes, chunk_size, threads)
    plan, programs = _ready(plan, programs, tasks)
    calls = _on_devices(plan, programs, tasks, shared, max_bytes, chunk_size, devices)
    first = batches.chosen_devices(devices)[0]  # where arrays made without devices would be
    parts = [[jax.device_put(part.reshape(-1, len(tasks))[places], first) for part in raw] for raw, places in calls]
    return Evaluation(*map(jnp.concatenate, zip(*parts, strict=True)))


def _in_one(plan: Plan, programs: Programs, tasks: Tasks, shared: tuple[Array, Array], max_bytes: int) -> Evaluation:
    """All of it as one computation, for who traces or differentiates it."""
    count = programs.code.shape[0]
    width = _width(plan, programs, tasks, max_bytes, None, 1)
    (whole,) = batches.in_chunks(programs, width, max(1, -(-count // width)))
    told = blocks.evaluate_blocks(whole, tasks, *shared, plan=plan)
    return Evaluation(*(part.reshape(-1, len(tasks))[:count] for part in told))


@jax.custom_jvp
def _without_gradients(data: Any) -> Any:
    """The same; says what to do where somebody asks for gradients."""
    return data


@_without_gradients.defjvp
def _refuse_gradients(primals: Any, tangents: Any) -> Any:
    raise ValueError("gradients with respect to programs.data need evaluate(..., differentiable=True)")


def launch(
    programs: Programs,
    tasks: Tasks,
    seed: Any = 0,
    *,
    executor: str,
    ops: Any = None,
    max_abs_error: Any = 100.0,
    max_bytes: int = MAX_BYTES,
    threads: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    interpret: bool = False,
    canonical_form: bool = False,
    fingerprints: bool = False,
) -> Callable[[], tuple[np.ndarray, ...]]:
    """Begins what `evaluate` does with `xla` or `pallas`, and returns a function that waits for the end of it.

    Devices work while the host goes on; a CPU without `devices` does all of it before this returns.

    What is not told here is as in `evaluate`; `canonical_form` says that programs come in it, with no op that `ops`
    does not cover, and `fingerprints` asks `pallas` for hashes of all errors instead.

    Returns:
      A function that returns fitness `[P, T]` and train_steps `[P, T]`, or fingerprints `[P, 4]` uint32.
    """
    if executor not in ("xla", "pallas") or (fingerprints and executor == "xla"):
        raise ValueError(f"launch takes xla, or pallas, which alone makes fingerprints, not {executor!r}")
    checked = canonical_form and ops is not None
    sets = contract.op_sets(ops, programs.memory) if checked else _dispatched(programs, ops)
    _check_stream(programs.capacity, tasks, sets)
    with batches.at_home(devices):
        chosen = choose(executor, programs.memory, tasks, max_bytes, interpret=interpret)
        plan = _plan(chosen, sets, interpret=interpret, fingerprints=fingerprints)
    shared = (contract.seed_bits(seed), jnp.asarray(max_abs_error, jnp.float32))
    if chosen == "xla" and devices is None and batches.platform() == "cpu":
        told = _on_threads(plan, programs, tasks, shared, max_bytes, None, threads)
        return lambda: tuple(map(np.asarray, told))
    plan, programs = _ready(plan, programs, tasks, canonical_form)
    calls = _on_devices(plan, programs, tasks, shared, max_bytes, None, devices)

    def wait() -> tuple[np.ndarray, ...]:
        parts = [[np.asarray(part).reshape(-1, part.shape[-1])[places] for part in raw] for raw, places in calls]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    return wait


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
    tasks = values[0].shape[1]
    task_ids = jnp.arange(tasks, dtype=jnp.int32) if ids is None else jnp.asarray(ids, jnp.int32)
    if executor == "simd":
        return _execute_on_lanes(programs, values, component, seed, task_ids)
    if executor == "pallas":
        refuse_pallas(pallas_cannot(programs.memory, values[1].shape[-1], interpret))
    plan = _plan("pallas" if executor == "pallas" else "xla", _dispatched(programs, ops), interpret=interpret)
    number = COMPONENTS.index(component)
    return Memory(*blocks.execute(programs, values, task_ids, contract.seed_bits(seed), number, plan))


# ---------------------------------------------------------------------------------------------- the executors of JAX


_GRIDS = (1024, 16384)
"""How many programs the Pallas executor takes at a time."""


def _plan(executor: str, sets: OpSets, **more: bool) -> Plan:
    return Plan(executor, sets, tpu=executor == "pallas" and batches.platform() == "tpu", **more)


def _width(plan: Plan, programs: Programs, tasks: Tasks, max_bytes: int, chunk_size: int | None, devices: int) -> int:
    """How many programs make a block."""
    count = programs.code.shape[0]
    if batches.platform() != "cpu":
        max_bytes = batches.within_device(max_bytes, tasks)
    if plan.executor == "pallas":
        one = pallas_bytes(programs.memory, tasks, plan.fingerprints)
        batches.check_one(one, max_bytes)
        most = min(max_bytes // one, layout.most_programs(one), chunk_size or 2**31)
        needed = max(1, -(-count // devices))
        if plan.interpret:
            return min(most, batches.rounded_up(needed))
        # Two widths, so that populations of all sizes compile twice; blocks of threads without a program end at once.
        return min(most, next((width for width in _GRIDS if width >= needed), _GRIDS[-1]))
    need = batches.program_bytes(programs.memory, plan.sets, tasks, plan.differentiable)
    width = batches.block_width(need, max_bytes, plan.differentiable)
    if plan.differentiable:  # often of one program, and too dear for empty ones
        width = min(width, 1 << max(0, count - 1).bit_length())
    return width


def _ready(plan: Plan, programs: Programs, tasks: Tasks, canonical_form: bool = False) -> tuple[Plan, Programs]:
    """What can be done on the host: on a GPU, finding dead code takes milliseconds of many small steps."""
    if plan.executor != "pallas" or not HAVE_NUMBA:
        return plan, programs
    if canonical_form:
        plain = jax.tree.map(np.asarray, programs)
    else:
        plain = canonical(programs.check(), interface=Interface.of(programs.memory, tasks)).programs
    if blocks.draws(plan.sets):
        plain = dataflow.number_draws(plain, np.ones(plain.code.shape[:2], bool))
    return plan._replace(ready=True), plain


def _on_devices(
    plan: Plan,
    programs: Programs,
    tasks: Tasks,
    shared: tuple[Array, Array],
    max_bytes: int,
    chunk_size: int | None,
    devices: Sequence[jax.Device] | None,
) -> list[tuple[tuple[Array, ...], np.ndarray]]:
    """Of each call the results by device, on the devices and perhaps not there yet, and where in them those of the
    programs lie. All calls are handed over at once, and devices work on while the host goes on.
    """
    chosen = batches.chosen_devices(devices)
    mesh = batches.mesh(chosen)
    with batches.at_home(chosen):
        width = _width(plan, programs, tasks, max_bytes, chunk_size, len(chosen))
    everywhere = NamedSharding(mesh, PartitionSpec())
    on = jax.device_put(tasks, everywhere)
    seed, limit = jax.device_put(shared, everywhere)
    run = partial(blocks.evaluate_shards, plan=plan, mesh=mesh)
    calls = batches.in_calls(programs, width, len(chosen), whole_blocks=plan.executor == "xla")
    return [(run(call.blocks, on, seed, limit), call.places) for call in calls]


def _on_threads(
    plan: Plan,
    programs: Programs,
    tasks: Tasks,
    shared: tuple[Array, Array],
    max_bytes: int,
    chunk_size: int | None,
    threads: int | None,
) -> Evaluation:
    """XLA on a CPU, where it keeps about one core busy with each chunk."""
    width = _width(plan, programs, tasks, max_bytes, None, 1)
    count = programs.code.shape[0]
    per_chunk = min(max(1, -(-count // width)), -(-(chunk_size or 1) // width))
    chunks = batches.in_chunks(programs, width, per_chunk)
    run = partial(blocks.evaluate_blocks, plan=plan)
    if len(chunks) == 1:
        told = run(chunks[0], tasks, *shared)
    else:
        # Threads do not see the caller's `with jax.default_device(...)`; arrays put there take the work along.
        chosen = getattr(jax.config, "jax_default_device", None)
        on_device = jax.device_put(tasks, chosen if isinstance(chosen, jax.Device) else None)
        block = width * batches.program_bytes(programs.memory, plan.sets, tasks)
        at_once = max(1, min(threads or parallel.cores(), max_bytes // block, len(chunks)))
        with ThreadPoolExecutor(at_once) as pool:
            parts = list(pool.map(lambda chunk: jax.device_get(run(chunk, on_device, *shared)), chunks))
        told = tuple(jnp.asarray(np.concatenate(values)) for values in zip(*parts, strict=True))
    return Evaluation(*(part.reshape(-1, len(tasks))[:count] for part in told))


# ---------------------------------------------------------------------------------------------- the SIMD executor


def _on_lanes(
    programs: Programs, tasks: Tasks, seed: Any, max_abs_error: Any, threads: int | None, traced: bool
) -> Evaluation:
    """`evaluate` by the SIMD executor: at once, or by a callback where something is traced."""
    shape = (programs.code.shape[0], len(tasks))
    leaves, structure = jax.tree.flatten((programs, tasks))

    def call(seed: Any, limit: Any, *leaves: Any) -> tuple[np.ndarray, np.ndarray]:
        from zero_jax.executors.simd import lanes as simd

        given, on = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
        plain = canonical(given.check(), interface=Interface.of(given.memory, on)).programs
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
    from zero_jax.executors.simd import lanes as simd

    checked = jax.tree.map(np.asarray, programs.check())
    numbered = dataflow.number_draws(checked, live(checked))
    values = tuple(np.asarray(part) for part in memory)
    after = simd.execute(numbered, values, COMPONENTS.index(component), int(contract.seed_bits(seed)), np.asarray(ids))
    return Memory(*map(jnp.asarray, after))


# ---------------------------------------------------------------------------------------------- checks


def check_bound(max_abs_error: Any) -> None:
    """Refuses a bound on errors that no error could keep to; one that is traced is not known yet.

    Raises:
      ValueError: 0 or less, or NaN.
    """
    if isinstance(max_abs_error, int | float | np.number) and not max_abs_error > 0:
        raise ValueError(f"max_abs_error must be above 0, not {max_abs_error}")


def check_threads(threads: int | None) -> None:
    """Refuses a number of threads that is not one.

    Raises:
      ValueError: neither None nor a whole number from 1 on.
    """
    if threads is not None:
        check_number("threads", threads, least=1)


def check_fits(space: SearchSpace, ops: Any, tasks: Tasks, max_bytes: int = MAX_BYTES, executor: str = "auto") -> None:
    """Refuses what `evaluate` would refuse of programs of that space.

    Raises:
      ValueError: not even one program fits in `max_bytes`, the random stream is too short, or vectors are too few.
    """
    Interface.of(space.memory, tasks)
    sets = contract.op_sets(ops, space.memory)
    _check_stream(space.capacity, tasks, sets)
    chosen = choose(executor, space.memory, tasks, max_bytes)
    if batches.platform() != "cpu":
        max_bytes = batches.within_device(max_bytes, tasks)
    if chosen == "xla":
        batches.block_width(batches.program_bytes(space.memory, sets, tasks), max_bytes)
    if chosen == "pallas":
        batches.check_one(pallas_bytes(space.memory, tasks), max_bytes)


def _dispatched(programs: Programs, ops: Any) -> OpSets:
    """The ops to dispatch; checked against the programs where those are concrete."""
    if isinstance(programs.code, jax.core.Tracer):
        return contract.op_sets(ops, programs.memory)
    code = np.asarray(programs.code)
    parts = zip(programs.starts[:3], programs.starts[1:], strict=True)
    present = [_present(code[:, first:last, 0]) for first, last in parts]
    if ops is None:
        return contract.op_sets(present, programs.memory)
    sets = contract.op_sets(ops, programs.memory)
    for component, have, covered in zip(COMPONENTS, present, sets, strict=True):
        missing = sorted(set(have) - {0, *covered})
        if missing:
            raise ValueError(f"{component} uses ops {missing}, which ops={ops!r} does not cover")
    return sets


def _present(numbers: np.ndarray) -> list[int]:
    """The different ones; without sorting them, as long as all are ops."""
    flat = numbers.ravel()
    if not flat.size or flat.min() < 0 or flat.max() >= len(OPS):
        return np.unique(flat).tolist()
    return np.flatnonzero(np.bincount(flat)).tolist()


def _check_stream(capacity: Capacity, tasks: Tasks, sets: OpSets) -> None:
    runs = batches.runs(tasks)
    if blocks.draws(sets) and (runs > contract.MAX_RUNS or max(capacity) > contract.MAX_DRAWS):
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
