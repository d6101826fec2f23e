"""What the executors that JAX compiles have in common: programs go to devices in blocks of one width.

Axes: `P` programs, `D` devices, `W` programs a block, `T` tasks.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from zero_jax.executors import batches, blocks, devices, dispatch, stream
from zero_jax.executors.base import Evaluation, Executor, Memory, Options, Pending, Prepared, Request
from zero_jax.executors.blocks import Kernel, Plan
from zero_jax.executors.dispatch import check_stream, dispatched
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

Results = tuple[Array, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Programs to be trained.

    Attributes:
      plan: what the compiled code depends on.
      programs: the programs.
      request: their memory, the tasks, and the options, with the ops to dispatch.
      seed: uint32.
      max_abs_error: float32.
    """

    plan: Plan
    programs: Programs
    request: Request
    seed: Array
    max_abs_error: Array

    @property
    def tasks(self) -> Tasks:
        """The tasks."""
        return self.request.tasks

    @property
    def options(self) -> Options:
        """The options, with the ops to dispatch."""
        return self.request.options


class JaxExecutor(Executor):
    """An executor that JAX compiles, for whatever device.

    Attributes:
      whole_blocks: whether a program's neighbours in its block matter, so that they must not depend on the number of
        devices.
    """

    whole_blocks: ClassVar[bool] = False

    @abc.abstractmethod
    def kernel(self) -> Kernel:
        """What trains a block on the default device."""

    @abc.abstractmethod
    def width(self, request: Request, programs: int, devices: int) -> int:
        """How many of these programs make a block.

        Raises:
          ValueError: not even one program fits.
        """

    def tasks_bytes(self, tasks: Tasks) -> int:
        """An upper estimate of what tasks take on a device."""
        # Once as they are, once as an executor lays them out: padded to powers of two, at most twice each of two axes.
        return 5 * sum(4 * math.prod(part.shape) for part in jax.tree.leaves(tasks))

    def room(self, request: Request) -> int:
        """How many bytes programs in training may take.

        Raises:
          ValueError: the tasks alone fill the device.
        """
        bound = request.options.max_bytes
        return bound if devices.platform() == "cpu" else devices.room(bound, self.tasks_bytes(request.tasks))

    def check_fits(self, request: Request) -> None:
        check_one(self.bytes(request), self.room(request))

    def prepare(self, tasks: Tasks, options: Options) -> Prepared:
        return Prepared(devices.placed(tasks, options.devices), options)

    def launch(
        self,
        programs: Programs,
        prepared: Prepared,
        seed: Any,
        *,
        rows: np.ndarray | None = None,
        fingerprints: bool = False,
    ) -> Pending:
        chosen = programs if rows is None else programs[rows]
        calls = self._on_devices(self._job(chosen, prepared.tasks, seed, prepared.options, fingerprints))

        def wait() -> tuple[np.ndarray, ...]:
            parts = [[np.asarray(part).reshape(-1, part.shape[-1])[places] for part in raw] for raw, places in calls]
            results = tuple(map(np.concatenate, zip(*parts, strict=True)))
            return tuple(np.ascontiguousarray(part).view(np.uint64) for part in results) if fingerprints else results

        return wait

    def evaluate(self, programs: Programs, tasks: Tasks, seed: Any, options: Options) -> Evaluation:
        if not options.differentiable:
            programs = programs.with_arrays(programs.code, _without_gradients(programs.data), programs.length)
        if options.traced or options.differentiable:
            with devices.at_home(options.devices):
                return self._in_one(self._job(programs, tasks, seed, options))
        calls = self._on_devices(self._job(programs, tasks, seed, options))
        first = devices.chosen_devices(options.devices)[0]  # where arrays made without devices would be
        parts = [[jax.device_put(part.reshape(-1, len(tasks))[places], first) for part in raw] for raw, places in calls]
        return Evaluation(*map(jnp.concatenate, zip(*parts, strict=True)))

    def execute(
        self, programs: Programs, memory: Sequence[Array], component: int, seed: Any, ids: Any, options: Options
    ) -> Memory:
        plan = Plan(self.kernel(), dispatched(programs, options.ops), interpret=options.interpret)
        return Memory(*blocks.execute(programs, tuple(memory), ids, stream.seed_bits(seed), component, plan))

    def _job(self, programs: Programs, tasks: Tasks, seed: Any, options: Options, fingerprints: bool = False) -> Job:
        if fingerprints and not self.fingerprints:
            raise ValueError(f"the {self.name} executor makes no fingerprints")
        covered = options.canonical_form and options.ops is not None
        sets = dispatch.op_sets(options.ops, programs.memory) if covered else dispatched(programs, options.ops)
        check_stream(programs.capacity, tasks, sets)
        with devices.at_home(options.devices):
            kernel = self.kernel()
        plan = Plan(kernel, sets, options.differentiable, options.interpret, fingerprints=fingerprints)
        request = Request(programs.memory, tasks, dataclasses.replace(options, ops=sets), fingerprints)
        limit = jnp.asarray(options.max_abs_error, jnp.float32)
        return Job(plan, programs, request, stream.seed_bits(seed), limit)

    def _ready(self, job: Job) -> Job:
        """The same job, with the work done that the host does better than a device."""
        return job

    def _on_devices(self, job: Job) -> list[tuple[Results, np.ndarray]]:
        """For each call the results by device, perhaps still under way, and where in them those of the programs lie.

        All calls are handed over at once: devices work while the host goes on.
        """
        job = self._ready(job)
        chosen = devices.chosen_devices(job.options.devices)
        mesh = devices.mesh(chosen)
        with devices.at_home(chosen):
            width = self.width(job.request, len(job.programs), len(chosen))
        everywhere = NamedSharding(mesh, PartitionSpec())
        tasks = jax.device_put(job.tasks, everywhere)
        seed, limit = jax.device_put((job.seed, job.max_abs_error), everywhere)
        run = partial(blocks.evaluate_shards, plan=job.plan, mesh=mesh)
        calls = batches.in_calls(job.programs, width, len(chosen), self.whole_blocks)
        return [(run(call.blocks, tasks, seed, limit), call.places) for call in calls]

    def _in_one(self, job: Job) -> Evaluation:
        """Everything as one computation, which may be traced or differentiated."""
        count = job.programs.code.shape[0]
        width = self.width(job.request, count, 1)
        (whole,) = batches.in_chunks(job.programs, width, max(1, -(-count // width)))
        results = blocks.evaluate_blocks(whole, job.tasks, job.seed, job.max_abs_error, plan=job.plan)
        return Evaluation(*(part.reshape(-1, len(job.tasks))[:count] for part in results))


@jax.custom_jvp
def _without_gradients(data: Any) -> Any:
    """The same data; asking for its gradients raises an error that says what to do."""
    return data


@_without_gradients.defjvp
def _refuse_gradients(primals: Any, tangents: Any) -> Any:
    raise ValueError("gradients with respect to programs.data need evaluate(..., differentiable=True)")


def check_one(one: int, max_bytes: int) -> None:
    """Checks that a program of `one` bytes fits.

    Raises:
      ValueError: it does not.
    """
    if one > max_bytes:
        raise ValueError(
            f"one program on these tasks needs about {one:,} bytes, more than max_bytes={max_bytes:,}: "
            "raise max_bytes, or evaluate fewer tasks at a time"
        )
