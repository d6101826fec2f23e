"""Cutting a population to the memory there is, and over devices.

Axes: `P` programs, `D` devices, `W` programs a block, `T` tasks.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from zero_jax.executors.contract import OpSets
from zero_jax.executors.pallas import layout
from zero_jax.program import ops as op_table
from zero_jax.program.memory import MemorySize
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

AXIS = "programs"
"""The name of the mesh axis over which populations are sharded."""

MAX_BYTES = 2**30
"""The default bound on the memory that programs in training take."""

_BLOCK_BYTES = {"cpu": 2**20}
"""What a block may take: on a CPU about a core's second-level cache, elsewhere as much as `max_bytes` allows."""

_WIDEST = {"cpu": 256}

_ALONE = {"cpu": 2**17}
"""A program that takes so much is alone in its block: then an instruction is a branch (`xla.py`), worth more than
neighbours are. Elsewhere than on a CPU a branch costs some 30 us, as much as a select of all ops for such a program."""


def platform() -> str:
    """Where computations go by default: cpu, gpu, tpu."""
    return default_device().platform


def default_device() -> jax.Device:
    """The device of `jax.default_device`, or the first there is.

    Raises:
      ValueError: none of the kind that the environment asks for.
    """
    chosen = getattr(jax.config, "jax_default_device", None)
    if isinstance(chosen, jax.Device):
        return chosen
    try:
        return jax.local_devices(backend=chosen or None)[0]
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, where JAX's plugin for it is missing
        asked = os.environ.get("JAX_PLATFORMS") or chosen or "any platform"
        said = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0]
        reason = f" ({said})" if said else ""
        raise ValueError(
            f"JAX has no device for {asked}{reason}: install JAX for it, or set JAX_PLATFORMS=cpu to take the CPU"
        ) from None


# ---------------------------------------------------------------------------------------------- memory


def program_bytes(memory: MemorySize, sets: OpSets, tasks: Tasks, differentiable: bool = False) -> int:
    """An upper estimate of what one program in training takes: its memory, twice, and what branches hold at once.

    With `differentiable`, also a memory for every example that it sees.
    """
    values = {"s": 1, "v": tasks.features, "m": tasks.features**2}
    state = sum(n * values[kind] for kind, n in zip(op_table.KINDS, memory, strict=True))
    outputs = sorted(values[op_table.OPS[n].output] for part in sets for n in part if n)
    examples = runs(tasks) if differentiable else 0
    branches = len(outputs) if differentiable else 8
    return 4 * len(tasks) * ((2 + examples) * state + sum(outputs[-branches:]) + 16)


def runs(tasks: Tasks) -> int:
    """How often Predict runs on a task."""
    return int(tasks.order.shape[0] * (tasks.train_x.shape[1] + tasks.valid_x.shape[1]))


def block_width(one: int, max_bytes: int = MAX_BYTES, differentiable: bool = False) -> int:
    """How many programs of `one` bytes each make a block: a power of two, the same for any number of programs.

    Raises:
      ValueError: where not even one program fits.
    """
    check_one(one, max_bytes)
    where = platform()
    if one >= _ALONE.get(where, 2**25) and not differentiable:
        return 1
    roomy = min(_WIDEST.get(where, 2**14), max(16, _BLOCK_BYTES.get(where, MAX_BYTES) // one))
    return 1 << (min(roomy, max_bytes // one).bit_length() - 1)


def check_one(one: int, max_bytes: int) -> None:
    """Refuses what does not fit.

    Raises:
      ValueError: not even one program fits.
    """
    if one > max_bytes:
        raise ValueError(
            f"one program on these tasks needs about {one:,} bytes, more than max_bytes={max_bytes:,}: "
            "raise max_bytes, or evaluate fewer tasks at a time"
        )


def within_device(max_bytes: int, tasks: Tasks) -> int:
    """`max_bytes`, or what the device has beside the tasks if that is less.

    Raises:
      ValueError: the tasks alone leave no room.
    """
    stats = default_device().memory_stats() or {}
    if "bytes_limit" not in stats:
        return max_bytes
    limit = int(stats["bytes_limit"])
    # Once as they are, once as an executor lays them out: padded to powers of two, at most twice each of two axes.
    held = 5 * sum(int(np.prod(part.shape)) * 4 for part in jax.tree.leaves(tasks))
    if platform() == "tpu":
        held += layout.tpu_tasks_bytes(tasks)
    if held > 0.9 * limit:
        raise ValueError(
            f"these tasks take up to {held:,} bytes of the device's {limit:,}: evaluate fewer tasks at a time, or "
            "tasks with fewer examples"
        )
    return min(max_bytes, int(0.9 * limit) - held)


# ---------------------------------------------------------------------------------------------- blocks and chunks


def in_chunks(programs: Programs, width: int, per_chunk: int) -> list[Programs]:
    """Chunks `[per_chunk, width, ...]` of programs, the last one filled up with empty ones, their lengths -1."""
    count = programs.code.shape[0]
    chunk = width * per_chunk
    n_chunks = max(1, -(-count // chunk))
    missing = n_chunks * chunk - count

    def cut(values: Any, filling: int) -> Any:
        xp = jnp if isinstance(values, jax.Array) else np
        full = xp.full((missing, *values.shape[1:]), filling, values.dtype)
        padded = xp.concatenate([values, full]) if missing else values
        return padded.reshape(n_chunks, per_chunk, width, *values.shape[1:])

    cut_up = programs.with_arrays(cut(programs.code, 0), cut(programs.data, 0), cut(programs.length, -1))
    return [jax.tree.map(lambda values, i=i: values[i], cut_up) for i in range(n_chunks)]


class Call(NamedTuple):
    """What all devices do at a time.

    Attributes:
      blocks: programs `[D, W, ...]`, those that fill up empty and their first length -1.
      places: where the programs, in order, lie among the `D * W`.
    """

    blocks: Programs
    places: np.ndarray


def in_calls(programs: Programs, width: int, devices: int, whole_blocks: bool) -> list[Call]:
    """Cuts concrete programs into blocks of one width, one for each device in a call.

    With `whole_blocks`, a device gets a whole block before the next gets any, so that a program's neighbours do not
    depend on how many devices there are; else all devices get equally many.
    """
    count = programs.code.shape[0]
    n_calls = max(1, -(-count // (width * devices)))
    rows = np.arange(count)
    if whole_blocks:
        parts = [rows[i * width * devices : (i + 1) * width * devices] for i in range(n_calls)]
    else:
        parts = np.array_split(rows, n_calls)
    calls = []
    for part in parts:
        places = part - part[0] if len(part) else part
        if not whole_blocks:
            shares = np.array_split(places, devices)
            places = np.concatenate([d * width + np.arange(len(share)) for d, share in enumerate(shares)])
        calls.append(Call(_spread(programs, part, places, devices, width), places))
    return calls


def _spread(programs: Programs, rows: np.ndarray, places: np.ndarray, devices: int, width: int) -> Programs:
    def spread(values: Any, filling: int) -> np.ndarray:
        array = np.asarray(values)
        out = np.full((devices * width, *array.shape[1:]), filling, array.dtype)
        out[places] = array[rows]
        return out.reshape(devices, width, *array.shape[1:])

    return programs.with_arrays(spread(programs.code, 0), spread(programs.data, 0), spread(programs.length, -1))


def rounded_up(n: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24..."""
    power = 1 << max(0, n - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 and power >= 4 else power


def chosen_devices(devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    """The devices to use, by default the default one.

    Raises:
      ValueError: none, or of several kinds.
    """
    given: Any = (default_device(),) if devices is None else devices
    found = tuple(given) if isinstance(given, Iterable) else ()
    if not found or any(not isinstance(device, jax.Device) for device in found):
        raise ValueError(f"devices must be some of jax.devices(), not {devices!r}")
    if len({device.platform for device in found}) > 1 or len(set(found)) < len(found):
        raise ValueError(f"devices must be different ones of one kind, not {[str(d) for d in found]}")
    return found


def at_home(devices: Sequence[jax.Device] | None) -> AbstractContextManager[Any]:
    """In which the first of these devices, if any are given, is the default one: what serves and fits is its to say."""
    return nullcontext() if devices is None else jax.default_device(chosen_devices(devices)[0])


def mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    """A mesh of the population axis alone."""
    return Mesh(np.array(devices), (AXIS,))


def first_devices(count: int) -> tuple[jax.Device, ...] | None:
    """The first so many GPUs or TPUs of this process, all for 0; None on a CPU, or where the user has chosen a default
    device.

    Raises:
      ValueError: more than there are.
    """
    if isinstance(getattr(jax.config, "jax_default_device", None), jax.Device) or platform() == "cpu":
        if count > 1:
            which = (
                "threads use all cores of a CPU" if platform() == "cpu" else f"jax_default_device is {default_device()}"
            )
            raise ValueError(f"devices={count} is for several GPUs or TPUs, and {which}")
        return None
    found = tuple(jax.local_devices())
    if count > len(found):
        raise ValueError(f"devices={count}, but there are {len(found)}: {', '.join(map(str, found))}")
    return found[: count or None]


def placed(tasks: Tasks, devices: Sequence[jax.Device] | None) -> Tasks:
    """Tasks on all these devices, or on the default one, to be handed over once rather than with every call."""
    if devices is None and platform() == "cpu":
        return jax.device_put(tasks)
    return jax.device_put(tasks, NamedSharding(mesh(chosen_devices(devices)), PartitionSpec()))
