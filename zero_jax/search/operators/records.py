"""Records of individuals: dataclasses of arrays, programs and other records, all with one row for each individual."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from zero_jax.program.programs import Programs

R = TypeVar("R")


def take(record: R, rows: np.ndarray) -> R:
    """The individuals of some rows, copied."""
    return _mapped(lambda array: array[rows], [record])


def put(record: R, rows: np.ndarray, others: R) -> R:
    """A copy in which other individuals have taken some rows."""

    def placed(array: np.ndarray, new: np.ndarray) -> np.ndarray:
        copy = np.array(array)
        copy[rows] = new
        return copy

    return _mapped(placed, [record, others])


def join(records: Sequence[R]) -> R:
    """All individuals of several records, in order."""
    return _mapped(lambda *arrays: np.concatenate(arrays), records)


def split(record: R, sizes: Sequence[int]) -> list[R]:
    """The inverse of `join`, for records of these sizes."""
    ends = np.cumsum(sizes).tolist()
    return [take(record, np.arange(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def _mapped(function: Callable[..., np.ndarray], records: Sequence[Any]) -> Any:
    """A record like the first, whose arrays are those of a function of the arrays of all."""
    first = records[0]
    if isinstance(first, np.ndarray):
        return function(*records)
    if isinstance(first, Programs):
        parts = zip(*((one.code, one.data, one.length) for one in records), strict=True)
        return first.with_arrays(*(function(*map(np.asarray, arrays)) for arrays in parts))
    names = [field.name for field in dataclasses.fields(first)]
    return dataclasses.replace(first, **{n: _mapped(function, [getattr(one, n) for one in records]) for n in names})
