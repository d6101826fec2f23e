"""Arrays from users: NumPy arrays, lists, pandas tables with or without missing values. Imports nothing heavy."""

import numbers
from decimal import Decimal
from typing import Any

import numpy as np

from zero_jax.support.foreign import cut, shown


def given_array(name: str, values: Any) -> np.ndarray:
    """Converts user data to an array. Python numbers, which nullable pandas columns hold, become floats.

    Args:
      name: the name for error messages.
      values: anything that NumPy can convert to an array.

    Raises:
      ValueError: a value is missing (the message says where), or the data are not an array.

    Example:
      >>> given_array("x", np.array([1, None], object))
      Traceback (most recent call last):
      ValueError: x[1] is missing (None): fill it in, or leave that example out
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        _refuse_missing(name, np.ma.getmaskarray(values), "masked")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers: {cut(error)}") from None
    if array.dtype != object or not array.ndim:
        return array
    kinds = {type(value) for value in array.flat}
    missing = {kind for kind in kinds if kind is type(None) or kind.__name__ in ("NAType", "NaTType")}
    if missing:
        places = np.reshape([type(value) in missing for value in array.flat], array.shape)
        _refuse_missing(name, places, str(array[places][0]))
    if all(issubclass(kind, numbers.Real | Decimal | np.bool_) for kind in kinds):
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise ValueError(f"{name} has a number beyond float32") from None
    return array


def real_array(name: str, values: Any) -> np.ndarray:
    """Converts user data to an array of real numbers, keeping their type.

    Raises:
      ValueError: as `given_array`; or a value is not a real number (the message says where).
    """
    array = given_array(name, values)
    if array.dtype == object:
        wrong = (at for at, value in np.ndenumerate(array) if not isinstance(value, numbers.Real | Decimal | np.bool_))
        at = next(wrong)
        raise ValueError(f"{name}{_place(at)} is {shown(array[at])}: {name} is not an array of numbers")
    if array.dtype.kind not in "biuf" and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} is not an array of numbers: its dtype is {cut(array.dtype)}")
    return array


def _refuse_missing(name: str, places: np.ndarray, value: str) -> None:
    at = tuple(int(i) for i in np.argwhere(places)[0])
    raise ValueError(f"{name}{_place(at)} is missing ({value}): fill it in, or leave that example out")


def _place(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""
