"""Cuts populations into blocks of one width, for one device or for several.

Axes: `P` programs, `D` devices, `W` programs a block.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.program.programs import Programs


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
