"""The Pallas executor, on NVIDIA GPUs and on TPUs. Imports no kernel before it runs one."""

import dataclasses
import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Any

from jax import Array

from zero_jax.executors import devices, stream
from zero_jax.executors.base import Request
from zero_jax.executors.blocks import Kernel, Plan
from zero_jax.executors.branching import BranchingExecutor, ready
from zero_jax.executors.pallas import layout
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """The kernel for one kind of device.

    Attributes:
      module: `gpu` or `tpu`.
    """

    module: str

    def _imported(self) -> ModuleType:
        """Imported where it is used, since that takes a third of a second."""
        return importlib.import_module(f"zero_jax.executors.pallas.{self.module}")

    def train(
        self, plan: Plan, programs: Programs, tasks: Tasks, seed: Array, max_abs_error: Array
    ) -> tuple[Array, ...]:
        results = self._imported().evaluate_programs(
            ready(plan, programs, tasks),
            tasks,
            seed,
            max_abs_error,
            plan.sets,
            interpret=plan.interpret,
            errors=plan.fingerprints,
        )
        return (stream.fingerprints(results[2]),) if plan.fingerprints else results[:2]

    def run_once(
        self, plan: Plan, programs: Programs, memory: Any, ids: Array, seed: Array, component: int
    ) -> tuple[Array, ...]:
        return self._imported().execute_programs(
            programs, memory, ids, seed, component, plan.sets, interpret=plan.interpret
        )


class Pallas(BranchingExecutor):
    """A program is a block of a GPU's threads, or a step of a TPU core."""

    name = "pallas"

    def refusal(self, request: Request) -> str | None:
        memory, features, options = request.memory, request.tasks.features, request.options
        if options.differentiable:
            return "the pallas executor has no gradients"
        if max(memory) > layout.MAX_ADDRESSES:
            return f"the pallas executor takes at most {layout.MAX_ADDRESSES} addresses of a kind, not {max(memory)}"
        if devices.platform() == "tpu":
            return _tpu_refusal(request)
        if features > layout.MAX_FEATURES:
            return f"the pallas executor takes at most {layout.MAX_FEATURES} features, not {features}"
        if not _have_triton():
            return "this version of JAX has no Pallas for Triton any more, which the pallas executor needs"
        device = devices.default_device()
        if options.interpret or (device.platform == "gpu" and devices.compute_capability(device) >= (8, 0)):
            return None
        kind = device.device_kind or device.platform
        return (
            "the pallas executor needs an NVIDIA GPU of compute capability 8.0 or later, or a TPU, and the device here "
            f"is {kind}"
        )

    def preferred(self, request: Request) -> bool:
        """On a GPU for few features: for more XLA is faster. Never measured on a TPU."""
        few = request.tasks.features <= layout.MAX_FEATURES
        return devices.platform() == "gpu" and few and not request.options.differentiable

    def bytes(self, request: Request) -> int:
        """What a program takes of the large memory of a GPU or TPU; with the errors of all examples, if wanted."""
        memory, tasks, errors = request.memory, request.tasks, request.fingerprints
        if devices.platform() != "tpu":
            return layout.program_bytes(memory, tasks, errors)
        examples = stream.runs(tasks)
        if layout.tpu_core_bytes(memory, tasks.features, examples if errors else 0) > layout.TPU_BYTES:
            raise ValueError(f"the errors of {examples:,} examples do not fit a TPU core's fast memory: lower probe")
        return layout.tpu_program_bytes(tasks, errors)

    def tasks_bytes(self, tasks: Tasks) -> int:
        return super().tasks_bytes(tasks) + (layout.tpu_tasks_bytes(tasks) if devices.platform() == "tpu" else 0)

    def kernel(self) -> Kernel:
        return _Kernel("tpu" if devices.platform() == "tpu" else "gpu")

    def most_programs(self, one: int) -> int:
        return layout.most_programs(one)


def _tpu_refusal(request: Request) -> str | None:
    memory, features, examples = request.memory, request.tasks.features, stream.runs(request.tasks)
    need = layout.tpu_core_bytes(memory, features)
    if need > layout.TPU_BYTES:
        return (
            f"on a TPU, a program with memory {tuple(memory)} at {features} features takes {need:,} bytes of a core's "
            f"fast memory, of which the pallas executor has {layout.TPU_BYTES:,}"
        )
    if examples > layout.TPU_EXAMPLES:
        return (
            f"on a TPU, the pallas executor takes at most {layout.TPU_EXAMPLES:,} examples, epochs times those of "
            f"training and validation, not {examples:,}"
        )
    return None


@functools.cache
def _have_triton() -> bool:
    """JAX 0.11 announces its removal."""
    try:
        return importlib.util.find_spec("jax.experimental.pallas.triton") is not None
    except ModuleNotFoundError:
        return False
