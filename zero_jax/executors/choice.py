"""Which executor serves: what `auto` takes, and what to say where one asked for by name cannot."""

import functools
import importlib.util
import warnings

import jax

from zero_jax.executors import batches
from zero_jax.executors.batches import MAX_BYTES
from zero_jax.executors.pallas import layout
from zero_jax.program.memory import MemorySize
from zero_jax.support.compiled import HAVE_NUMBA, WHY_INTERPRETED
from zero_jax.support.foreign import shown
from zero_jax.tasks import Tasks

EXECUTORS: tuple[str, ...] = ("auto", "xla", "simd", "pallas")
"""The executors that this version has."""


def choose(
    executor: str,
    memory: MemorySize,
    tasks: Tasks,
    max_bytes: int = MAX_BYTES,
    *,
    traced: bool = False,
    differentiable: bool = False,
    interpret: bool = False,
) -> str:
    """The executor that `evaluate` takes for programs of that memory size: `xla`, `simd` or `pallas`.

    Raises:
      ValueError: one asked for by name where it cannot serve.
    """
    check_executor(executor)
    if executor == "auto":
        return _automatic(memory, tasks, max_bytes, traced, differentiable)
    if differentiable and executor != "xla":
        raise ValueError(f"the {executor} executor has no gradients: use executor='xla' with differentiable=True")
    if executor == "pallas":
        refuse_pallas(pallas_cannot(memory, tasks.features, interpret, batches.runs(tasks)))
    if executor == "simd":
        if not HAVE_NUMBA:
            raise ValueError(f"{WHY_INTERPRETED}, and the simd executor needs it: use executor='xla'")
        message = _too_large(memory, tasks, max_bytes)
        if message:
            raise ValueError(message)
    return executor


def _automatic(memory: MemorySize, tasks: Tasks, max_bytes: int, traced: bool, differentiable: bool) -> str:
    if differentiable:
        return "xla"
    platform = batches.platform()
    if platform == "gpu":
        if tasks.features > layout.MAX_FEATURES:
            return "xla"  # the better one there, not a fallback
        reason = pallas_cannot(memory, tasks.features, False)
        if reason:
            _warn_once(f"programs run on the slower XLA executor: {reason}")
        return "xla" if reason else "pallas"
    if platform != "cpu" or traced:
        return "xla"
    if not HAVE_NUMBA:
        _warn_once(f"{WHY_INTERPRETED}, so programs run on the slower XLA executor")
        return "xla"
    return "xla" if _too_large(memory, tasks, max_bytes) else "simd"


def pallas_cannot(memory: MemorySize, features: int, interpret: bool, examples: int = 0) -> str:
    """Why the Pallas executor cannot serve, or nothing."""
    if max(memory) > layout.MAX_ADDRESSES:
        return f"the pallas executor takes at most {layout.MAX_ADDRESSES} addresses of a kind, not {max(memory)}"
    if batches.platform() == "tpu":
        return _tpu_cannot(memory, features, examples)
    if features > layout.MAX_FEATURES:
        return f"the pallas executor takes at most {layout.MAX_FEATURES} features, not {features}"
    if not _have_triton():
        return "this version of JAX has no Pallas for Triton any more, which the pallas executor needs"
    device = batches.default_device()
    if interpret or (device.platform == "gpu" and _capability(device) >= (8, 0)):
        return ""
    there = f"the device here is {device.device_kind or device.platform}"
    return f"the pallas executor needs an NVIDIA GPU of compute capability 8.0 or later, or a TPU, and {there}"


def pallas_bytes(memory: MemorySize, tasks: Tasks, errors: bool = False) -> int:
    """What one program takes of the large memory of a GPU or TPU; with the errors of all examples, if wanted.

    Raises:
      ValueError: on a TPU, more errors than a core's fast memory holds.
    """
    if batches.platform() != "tpu":
        return layout.program_bytes(memory, tasks, errors)
    need = layout.tpu_core_bytes(memory, tasks.features, batches.runs(tasks) if errors else 0)
    if need > layout.TPU_BYTES:
        raise ValueError(
            f"the errors of {batches.runs(tasks):,} examples do not fit a TPU core's fast memory: lower probe"
        )
    return layout.tpu_program_bytes(tasks, errors)


def _tpu_cannot(memory: MemorySize, features: int, examples: int) -> str:
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
    return ""


@functools.cache
def _have_triton() -> bool:
    """JAX 0.11 says that it will be removed."""
    try:
        return importlib.util.find_spec("jax.experimental.pallas.triton") is not None
    except ModuleNotFoundError:
        return False


def _capability(device: jax.Device) -> tuple[int, ...]:
    """An NVIDIA GPU's compute capability; (0,) of another device."""
    text = str(getattr(device, "compute_capability", ""))
    return tuple(map(int, text.split("."))) if text.replace(".", "").isdigit() else (0,)


def refuse_pallas(reason: str) -> None:
    """Turns such a reason into an error that names the executors that can serve.

    Raises:
      ValueError: there is a reason.
    """
    if reason:
        others = "'xla' or 'simd'" if HAVE_NUMBA and batches.platform() == "cpu" else "'xla'"
        raise ValueError(
            f"{reason}: use executor={others}, or 'auto' (from Python, interpret=True runs the kernel anywhere, slowly)"
        )


def _too_large(memory: MemorySize, tasks: Tasks, max_bytes: int) -> str:
    from zero_jax.executors.simd import lanes as simd  # only where there is Numba

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


def check_executor(executor: str) -> None:
    """Refuses an unknown executor.

    Raises:
      ValueError: naming those there are.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}, not {shown(executor)}")
