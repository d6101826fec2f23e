"""The XLA executor: the interpreter beside this file, on anything that JAX runs on."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zero_jax.executors import batches, blocks, devices, dispatch, stream
from zero_jax.executors.base import MAX_BYTES, Evaluation, Memory, Options, Pending, Prepared, Request
from zero_jax.executors.blocks import Kernel, Plan, prepared
from zero_jax.executors.jax_executor import JaxExecutor, Job, check_one
from zero_jax.executors.xla import interpreter
from zero_jax.program import ops as op_table
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.support import threads as parallel
from zero_jax.tasks import Tasks

_BLOCK_BYTES = {"cpu": 2**20}
"""What a block may take: on a CPU about a core's second-level cache, elsewhere as much as `max_bytes` allows."""

_WIDEST = {"cpu": 256}
"""The widest block, in programs."""

_ALONE = {"cpu": 2**17}
"""A program that takes this many bytes is alone in its block: then an instruction is a branch (`interpreter.py`), which
saves more than neighbours do. Elsewhere than on a CPU a branch costs some 30 us, as much as a select of all its ops."""


@dataclasses.dataclass(frozen=True)
class _Interpreter:
    def train(
        self, plan: Plan, programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array
    ) -> tuple[Array, ...]:
        ready = prepared(programs, plan.sets, prune=True, interface=Interface.of(programs.memory, tasks))
        return interpreter.evaluate_block(ready, tasks, seed, max_abs_error, plan.sets, plan.differentiable)

    def run_once(
        self, plan: Plan, programs: Programs, memory: Any, ids: Array, seed: Array, component: int
    ) -> tuple[Array, ...]:
        values = {kind: jnp.swapaxes(part, 1, 2) for kind, part in zip(op_table.KINDS, memory, strict=True)}
        after = interpreter.execute_block(programs, values, ids, seed, component, plan.sets)
        return tuple(jnp.swapaxes(after[kind], 1, 2) for kind in op_table.KINDS)


class Xla(JaxExecutor):
    """Refuses nothing; the only executor with gradients."""

    name = "xla"
    carries = True
    whole_blocks = True

    def refusal(self, request: Request) -> str | None:
        return None

    def bytes(self, request: Request) -> int:
        """A program's memory, twice, and what branches hold at once; with gradients a memory for every example too."""
        tasks, differentiable = request.tasks, request.options.differentiable
        values = {"s": 1, "v": tasks.features, "m": tasks.features**2}
        state = sum(n * values[kind] for kind, n in zip(op_table.KINDS, request.memory, strict=True))
        sets = dispatch.op_sets(request.options.ops, request.memory)
        outputs = sorted(values[op_table.OPS[n].output] for part in sets for n in part if n)
        examples = stream.runs(tasks) if differentiable else 0
        branches = len(outputs) if differentiable else 8
        return 4 * len(tasks) * ((2 + examples) * state + sum(outputs[-branches:]) + 16)

    def bytes_in_use(self, request: Request, programs: int) -> int:
        """Whole blocks are trained, however few the programs."""
        one = self.bytes(request)
        return one * block_width(one, request.options.max_bytes)

    def kernel(self) -> Kernel:
        return _Interpreter()

    def width(self, request: Request, programs: int, devices: int) -> int:
        differentiable = request.options.differentiable
        width = block_width(self.bytes(request), self.room(request), differentiable)
        if differentiable:  # often a single program, and empty ones would cost as much
            width = min(width, 1 << max(0, programs - 1).bit_length())
        return width

    def launch(
        self,
        programs: Programs,
        prepared: Prepared,
        seed: Any,
        *,
        rows: np.ndarray | None = None,
        fingerprints: bool = False,
    ) -> Pending:
        if not _takes_threads(prepared.options):
            return super().launch(programs, prepared, seed, rows=rows, fingerprints=fingerprints)
        chosen = programs if rows is None else programs[rows]
        results = self._on_threads(self._job(chosen, prepared.tasks, seed, prepared.options, fingerprints))
        return lambda: tuple(map(np.asarray, results))

    def launch_carrying(self, programs: Programs, prepared: Prepared, seed: Any, memory: Memory | None) -> Pending:
        """In blocks, one after the other."""
        tasks, count = prepared.tasks, len(programs)
        job = self._job(programs, tasks, seed, prepared.options)
        width = self.width(job.request, count, 1)
        start = interpreter.empty_memory(programs[:1], len(tasks), tasks.features)
        values = {kind: part[0] for kind, part in start.items()}
        if memory is not None:
            values = {k: jnp.swapaxes(jnp.asarray(part), 0, 1) for k, part in zip(op_table.KINDS, memory, strict=True)}
        run = partial(_carry, sets=job.plan.sets)
        parts = [
            run(jax.tree.map(lambda leaf: leaf[0], chunk), tasks, job.seed, job.max_abs_error, values)
            for chunk in batches.in_chunks(programs, width, 1)
        ]
        return lambda: tuple(np.concatenate(some)[:count] for some in zip(*jax.device_get(parts), strict=True))

    def evaluate(self, programs: Programs, tasks: Tasks, seed: Any, options: Options) -> Evaluation:
        if options.traced or options.differentiable or not _takes_threads(options):
            return super().evaluate(programs, tasks, seed, options)
        return self._on_threads(self._job(programs, tasks, seed, options))

    def _on_threads(self, job: Job) -> Evaluation:
        """On a CPU, where XLA keeps about one core busy with each chunk."""
        options, count = job.options, job.programs.code.shape[0]
        width = self.width(job.request, count, 1)
        per_chunk = min(max(1, -(-count // width)), -(-(options.chunk_size or 1) // width))
        chunks = batches.in_chunks(job.programs, width, per_chunk)
        run = partial(blocks.evaluate_blocks, plan=job.plan)
        shared = (job.seed, job.max_abs_error)
        if len(chunks) == 1:
            results = run(chunks[0], job.tasks, *shared)
        else:
            # Threads do not see the caller's `with jax.default_device(...)`; arrays put there take the work along.
            chosen = getattr(jax.config, "jax_default_device", None)
            tasks = jax.device_put(job.tasks, chosen if isinstance(chosen, jax.Device) else None)
            block = width * self.bytes(job.request)
            at_once = max(1, min(options.threads or parallel.cores(), options.max_bytes // block, len(chunks)))
            with ThreadPoolExecutor(at_once) as pool:
                parts = list(pool.map(lambda chunk: jax.device_get(run(chunk, tasks, *shared)), chunks))
            results = tuple(jnp.asarray(np.concatenate(values)) for values in zip(*parts, strict=True))
        return Evaluation(*(part.reshape(-1, len(job.tasks))[:count] for part in results))


@partial(jax.jit, static_argnames=("sets",))
def _carry(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, memory: Any, sets: dispatch.OpSets
) -> tuple[Array, ...]:
    """Fitness, train steps and the memory that training leaves, of a block that begins with given memory."""
    ready = prepared(programs, sets, prune=True, interface=Interface.of(programs.memory, tasks))
    done = interpreter.carry_block(ready, tasks, seed, max_abs_error, sets, memory)
    return done.best, done.train_steps, *(jnp.swapaxes(done.memory[kind], 1, 2) for kind in op_table.KINDS)


def _takes_threads(options: Options) -> bool:
    return options.devices is None and devices.platform() == "cpu"


def block_width(one: int, max_bytes: int = MAX_BYTES, differentiable: bool = False) -> int:
    """How many programs of `one` bytes each make a block: a power of two, the same for any number of programs.

    Raises:
      ValueError: not even one program fits.
    """
    check_one(one, max_bytes)
    platform = devices.platform()
    if one >= _ALONE.get(platform, 2**25) and not differentiable:
        return 1
    roomy = min(_WIDEST.get(platform, 2**14), max(16, _BLOCK_BYTES.get(platform, MAX_BYTES) // one))
    return 1 << (min(roomy, max_bytes // one).bit_length() - 1)
