"""Checks for trees of arrays and plain values that were read from a file.

Each raises a ValueError that says where in the tree something is wrong, and what.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

MOST = 2**62
"""The greatest whole number that is accepted: sums with it still fit 64 bits."""


def array(
    stored: Any,
    where: str,
    dtype: Any,
    shape: tuple[int | None, ...],
    least: float | None = None,
    most: float | None = None,
    finite: bool = False,
) -> np.ndarray:
    """A copy in C order of an array, which must have exactly this dtype and shape (None for an axis of any length) and
    values from `least` to `most`.

    Example:
      >>> array(np.zeros((8, 0, 2)), "forms.hashes", np.float64, (8, 4, None))
      Traceback (most recent call last):
      ValueError: forms.hashes has shape (8, 0, 2), not (8, 4, any)
    """
    if type(stored) is not np.ndarray:
        raise ValueError(f"{where} is {shown(stored)}, not an array")
    if stored.dtype != np.dtype(dtype):
        raise ValueError(f"{where} is of {stored.dtype}, not of {np.dtype(dtype)}")
    if len(stored.shape) != len(shape) or any(n not in (None, m) for m, n in zip(stored.shape, shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{where} has shape {stored.shape}, not ({wanted}{',' if len(shape) == 1 else ''})")
    if finite and not np.isfinite(stored).all():
        raise ValueError(f"{where} has values that are not finite")
    if stored.size and least is not None and stored.min() < least:
        raise ValueError(f"{where} has {stored.min()}, less than {least}")
    if stored.size and most is not None and stored.max() > most:
        raise ValueError(f"{where} has {stored.max()}, more than {most}")
    return np.array(stored, order="C")


def whole(stored: Any, where: str, least: int = 0, most: int = MOST) -> int:
    """A whole number."""
    if type(stored) is not int or not least <= stored <= most:
        upper = f" to {most}" if most < MOST else " on"
        raise ValueError(f"{where} is {shown(stored)}, not a whole number from {least}{upper}")
    return stored


def number(stored: Any, where: str, least: float = -np.inf, most: float = np.inf, finite: bool = True) -> float:
    """A number, by default a finite one."""
    if type(stored) is not float or not least <= stored <= most or (finite and np.isinf(stored)):
        ends = f" of at least {least:g}" * (least > -np.inf) + f" of at most {most:g}" * (most < np.inf)
        raise ValueError(f"{where} is {shown(stored)}, not a finite number{ends}")
    return stored


def flag(stored: Any, where: str) -> bool:
    """True or False."""
    if type(stored) is not bool:
        raise ValueError(f"{where} is {shown(stored)}, not true or false")
    return stored


def items(stored: Any, where: str, count: int | None = None) -> list[Any]:
    """A list of `count` items, which are not checked."""
    if not isinstance(stored, list) or count not in (None, len(stored)):
        size = "" if count is None else f" of {count}"
        raise ValueError(f"{where} is {shown(stored)}, not a list{size}")
    return stored


def fields(stored: Any, where: str, names: Iterable[str]) -> dict[str, Any]:
    """A dict of exactly these fields, which are not checked.

    Example:
      >>> fields({"seconds": 1.5}, "progress", ("seconds", "count"))
      Traceback (most recent call last):
      ValueError: progress lacks count
    """
    if not isinstance(stored, dict):
        raise ValueError(f"{where} is {shown(stored)}, not a dict")
    wanted = list(names)
    for name in wanted:
        if name not in stored:
            raise ValueError(f"{where} lacks {name}")
    for name in stored:
        if name not in wanted:
            raise ValueError(f"{where} has {shown(name)}, which does not belong there")
    return stored


def shown(value: Any) -> str:
    """A value in a message: at most 80 characters, none of which a terminal would act on."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
