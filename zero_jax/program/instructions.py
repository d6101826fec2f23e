"""Reads instructions that come from outside, strictly: lists of numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zero_jax.program import ops
from zero_jax.support.foreign import shown


def entries(values: Any, what: str) -> list[Any]:
    """The items of a list. A string is refused, although Python can iterate over its letters."""
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise ValueError(f"{what} must be a list, not {shown(values)}")
    return list(values)


_WRITTEN = {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}
"""The strings that stand for them in JSON."""


def _real(x: Any) -> float:
    """A number as a float. Refuses strings and booleans, which `float` would accept."""
    if isinstance(x, np.ndarray | np.generic) and not np.issubdtype(x.dtype, np.number):
        raise TypeError(x)
    if isinstance(x, bool | str | bytes | bytearray):
        raise TypeError(x)
    return float(x)


_CONST_SET = ops.number_of("SCALAR_CONST_SET")


def constants_of(op: int, fields: Sequence[float]) -> list[float]:
    """The three constants in upstream's fields: activation_data, float_data_0 to float_data_2."""
    return [fields[0], 0.0, 0.0] if op == _CONST_SET else list(fields[1:])


def fields_of(op: int, constants: Sequence[float]) -> list[float]:
    """Upstream's four fields of three constants: that of SCALAR_CONST_SET is in activation_data."""
    return [constants[0], 0.0, 0.0, 0.0] if op == _CONST_SET else [0.0, *constants]


def instruction_fields(fields: Sequence[float], where: str) -> tuple[list[int], list[float]]:
    """Op and addresses, and constants, of one instruction.

    Args:
      fields: as for `Programs.from_lists`; a constant may be one of the strings inf, -inf and nan.
      where: the place of the instruction, for error messages.

    Raises:
      ValueError: not 1 to 8 numbers, an address that is not whole, or a constant beyond float32.
    """
    try:
        given = entries(fields, "an instruction")
        numbers = [
            _WRITTEN[x] if i > 3 and isinstance(x, str) and x in _WRITTEN else _real(x) for i, x in enumerate(given[:9])
        ]
    except (TypeError, ValueError):
        raise ValueError(f"{where}: an instruction is a list of up to 8 numbers, not {shown(fields)}") from None
    except OverflowError:
        raise ValueError(f"{where}: a number is beyond float32") from None
    if not 1 <= len(numbers) <= 8 or any(not x.is_integer() or abs(x) > 2**31 - 1 for x in numbers[:4]):
        raise ValueError(f"{where}: an instruction is [op, in1, in2, out, up to four constants], not {shown(fields)}")
    for constant in numbers[4:]:
        check_constant(constant, f"{where}: ")
    numbers += [0.0] * (8 - len(numbers))
    op, in1, in2, out = (int(x) for x in numbers[:4])
    return [op, in1, in2, out], constants_of(op, numbers[4:])


_LARGEST = float(np.finfo(np.float32).max)
_HALF_A_STEP = _LARGEST * 2.0**-25


def check_constant(constant: float, where: str = "") -> None:
    """Refuses a finite number that becomes infinite in float32."""
    if _LARGEST + _HALF_A_STEP <= abs(constant) < np.inf:
        raise ValueError(f"{where}the constant {constant:g} is beyond float32")
