"""The CUDA executor, on NVIDIA GPUs. Imports no Warp before it is asked for a GPU or for the kernel."""

import dataclasses
import functools
import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zero_jax.executors import batches, devices, stream
from zero_jax.executors.base import Memory, Pending, Prepared, Request
from zero_jax.executors.blocks import Kernel, Plan
from zero_jax.executors.branching import BranchingExecutor, ready
from zero_jax.executors.fusion import fused
from zero_jax.executors.gpu import kernel, layout
from zero_jax.executors.jax_executor import Job
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

WARP = (1, 19)
"""The version of Warp whose interface `warp_carrier.py` uses: it changes from one minor version to the next."""

INSTALL = "pip install 'zero-jax[gpu]'"


@dataclasses.dataclass(frozen=True)
class _Kernel:
    def train(
        self, plan: Plan, programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array
    ) -> tuple[Array, ...]:
        trained = kernel.train(
            ready(plan, programs, tasks), tasks, seed, max_abs_error, plan.sets, errors=plan.fingerprints
        )
        if trained.errors is not None:
            return (stream.fingerprints(trained.errors),)
        return trained.fitness, trained.steps

    def run_once(
        self, plan: Plan, programs: Programs, memory: Any, ids: Array, seed: Array, component: int
    ) -> tuple[Array, ...]:
        return kernel.execute(programs, memory, ids, seed, component, plan.sets)


class Cuda(BranchingExecutor):
    """A program on up to sixteen tasks is a block of a GPU's threads."""

    name = "cuda"
    carries = True
    fuses = True

    def refusal(self, request: Request) -> str | None:
        features, options = request.tasks.features, request.options
        if options.differentiable:
            return "the cuda executor has no gradients"
        words = layout.shape_of(request.memory, (0, 0, 0, 0), features, len(request.tasks)).memory_words
        if words > layout.MAX_WORDS:
            return (
                f"at {features:,} features a program with memory {tuple(request.memory)} takes {words:,} numbers on a "
                f"task, of which the cuda executor can count {layout.MAX_WORDS:,}"
            )
        if options.interpret:
            return _without_warp()
        device = devices.default_device()
        if device.platform != "gpu" or devices.compute_capability(device) < (8, 0):
            kind = device.device_kind or device.platform
            return (
                "the cuda executor needs an NVIDIA GPU of compute capability 8.0 or later, and the device here "
                f"is {kind}"
            )
        return _without_warp() or _without_driver()

    def preferred(self, request: Request) -> bool:
        """On a GPU, unless there are many features."""
        few = request.tasks.features <= layout.MANY_FEATURES
        return devices.platform() == "gpu" and few and not request.options.differentiable

    def bytes(self, request: Request) -> int:
        """What a program takes of the GPU's memory, with the errors of all examples, if wanted."""
        return layout.program_bytes(request.memory, request.tasks, request.fingerprints)

    def kernel(self) -> Kernel:
        return _Kernel()

    def _ready(self, job: Job) -> Job:
        """With superinstructions: fingerprints are exact, so a superinstruction's rounding must not enter them."""
        clean = super()._ready(job)
        if not clean.plan.ready or job.plan.fingerprints or job.options.fuse is False:
            return clean
        return dataclasses.replace(
            clean, programs=fused(clean.programs, Interface.of(clean.programs.memory, job.tasks))
        )

    def launch_carrying(self, programs: Programs, prepared: Prepared, seed: Any, memory: Memory | None) -> Pending:
        """Block after block, on the default device."""
        tasks, count, size = prepared.tasks, len(programs), programs.memory
        job = self._job(programs, tasks, seed, prepared.options)
        width = self.width(job.request, count, 1)
        features, number = tasks.features, len(tasks)
        shapes = ((size.scalars,), (size.vectors, features), (size.matrices, features, features))
        parts = [jnp.zeros((number, *shape)) for shape in shapes] if memory is None else list(memory)
        before = tuple(jnp.broadcast_to(part, (width, *part.shape)) for part in parts)
        results = [
            _carry(jax.tree.map(lambda leaf: leaf[0], chunk), tasks, job.seed, job.max_abs_error, before, job.plan)
            for chunk in batches.in_chunks(programs, width, 1)
        ]
        return lambda: tuple(np.concatenate(some)[:count] for some in zip(*jax.device_get(results), strict=True))


@functools.partial(jax.jit, static_argnames=("plan",))
def _carry(
    programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array, before: tuple[Array, ...], plan: Plan
) -> tuple[Array, ...]:
    """Fitness, train steps and the memory that training leaves, of a block that begins with given memory."""
    trained = kernel.train(ready(plan, programs, tasks), tasks, seed, max_abs_error, plan.sets, before=before)
    return trained.fitness, trained.steps, *(trained.memory or ())


@functools.cache
def _without_warp() -> str | None:
    """What is wrong with the installed Warp, or None."""
    try:
        version = importlib.metadata.version("warp-lang")
    except importlib.metadata.PackageNotFoundError:
        return f"the cuda executor needs NVIDIA Warp ({INSTALL})"
    if tuple(map(int, version.split(".")[:2])) != WARP:
        return f"the cuda executor needs NVIDIA Warp {WARP[0]}.{WARP[1]}, and {version} is installed ({INSTALL})"
    return None


@functools.cache
def _without_driver() -> str | None:
    """What is wrong with the driver, or None."""
    import warp

    if warp.is_cuda_available():
        return None
    served = warp.get_cuda_driver_version()
    found = "finds none" if served is None else f"cannot use the one here, which is for CUDA {served[0]}.{served[1]}"
    return f"the cuda executor needs NVIDIA's driver 580 or later: Warp {warp.__version__} {found}"
