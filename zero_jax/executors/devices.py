"""The devices that JAX computes on: which to use, and how much memory they have.

Axes: `D` devices.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zero_jax.tasks import Tasks

AXIS = "programs"
"""The name of the mesh axis over which populations are sharded."""


def platform() -> str:
    """Where computations go by default: cpu, gpu, tpu."""
    return default_device().platform


def default_device() -> jax.Device:
    """The device of `jax.default_device`, or else the first one.

    Raises:
      ValueError: there is no device of the kind that the environment asks for.
    """
    chosen = getattr(jax.config, "jax_default_device", None)
    if isinstance(chosen, jax.Device):
        return chosen
    try:
        return jax.local_devices(backend=chosen or None)[0]
    except (RuntimeError, AssertionError) as error:  # the latter, without a message, where JAX's plugin is missing
        wanted = os.environ.get("JAX_PLATFORMS") or chosen or "any platform"
        message = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0]
        reason = f" ({message})" if message else ""
        raise ValueError(
            f"JAX has no device for {wanted}{reason}: install JAX for it, or set JAX_PLATFORMS=cpu to take the CPU"
        ) from None


def chosen_devices(devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    """The devices to use, by default the default one.

    Raises:
      ValueError: no devices, devices of several kinds, or one of them twice.
    """
    given: Any = (default_device(),) if devices is None else devices
    chosen = tuple(given) if isinstance(given, Iterable) else ()
    if not chosen or any(not isinstance(device, jax.Device) for device in chosen):
        raise ValueError(f"devices must be some of jax.devices(), not {devices!r}")
    if len({device.platform for device in chosen}) > 1 or len(set(chosen)) < len(chosen):
        raise ValueError(f"devices must be different ones of one kind, not {[str(d) for d in chosen]}")
    return chosen


def at_home(devices: Sequence[jax.Device] | None) -> AbstractContextManager[Any]:
    """A context in which the first of these devices, if any are given, is the default: it decides what can run."""
    return nullcontext() if devices is None else jax.default_device(chosen_devices(devices)[0])


def compute_capability(device: jax.Device) -> tuple[int, ...]:
    """An NVIDIA GPU's compute capability; (0,) of another device."""
    text = str(getattr(device, "compute_capability", ""))
    return tuple(map(int, text.split("."))) if text.replace(".", "").isdigit() else (0,)


def mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    """A mesh of the population axis alone."""
    return Mesh(np.array(devices), (AXIS,))


def first_devices(count: int) -> tuple[jax.Device, ...] | None:
    """The first `count` GPUs or TPUs of this process, or all of them for 0; None on a CPU, or where the user has chosen
    a default device.

    Raises:
      ValueError: this process has fewer.
    """
    if isinstance(getattr(jax.config, "jax_default_device", None), jax.Device) or platform() == "cpu":
        if count > 1:
            which = (
                "threads use all cores of a CPU" if platform() == "cpu" else f"jax_default_device is {default_device()}"
            )
            raise ValueError(f"devices={count} needs several GPUs or TPUs, but {which}")
        return None
    local = tuple(jax.local_devices())
    if count > len(local):
        raise ValueError(f"devices={count}, but there are {len(local)}: {', '.join(map(str, local))}")
    return local[: count or None]


def placed(tasks: Tasks, devices: Sequence[jax.Device] | None) -> Tasks:
    """Tasks on all these devices, or on the default one, so that they are transferred once rather than in each call."""
    if devices is None and platform() == "cpu":
        return jax.device_put(tasks)
    return jax.device_put(tasks, NamedSharding(mesh(chosen_devices(devices)), PartitionSpec()))


def room(max_bytes: int, tasks_bytes: int) -> int:
    """`max_bytes`, or what the device has beside the tasks if that is less.

    Args:
      max_bytes: a bound on the memory that programs in training take.
      tasks_bytes: what the tasks take on the device.

    Raises:
      ValueError: the tasks alone leave no room.
    """
    stats = default_device().memory_stats() or {}
    if "bytes_limit" not in stats:
        return max_bytes
    limit = int(stats["bytes_limit"])
    if tasks_bytes > 0.9 * limit:
        raise ValueError(
            f"these tasks take up to {tasks_bytes:,} bytes of the device's {limit:,}: evaluate fewer tasks at a time, "
            "or tasks with fewer examples"
        )
    return min(max_bytes, int(0.9 * limit) - tasks_bytes)
