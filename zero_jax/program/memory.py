"""What a program can address: its memory, and where examples enter it and predictions leave it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from zero_jax.program import ops
from zero_jax.support.bounds import check_number
from zero_jax.support.foreign import shown

COMPONENTS: tuple[str, str, str] = ("setup", "predict", "learn")
"""The three component functions, in the order of slots, lengths and capacities."""

Capacity = tuple[int, int, int]


class MemorySize(NamedTuple):
    """How many scalars, vectors and matrices a program can address.

    Attributes:
      scalars: Number of scalars. s0 is the label and s1 the prediction, unless labels are vectors.
      vectors: Number of vectors. v0 holds the features; if labels are vectors, v1 is the label and v2 the prediction.
      matrices: Number of matrices; may be 0.
    """

    scalars: int
    vectors: int
    matrices: int


class HasLabels(Protocol):
    """Tasks, or a description of tasks."""

    @property
    def vector_labels(self) -> bool:
        """Whether labels and predictions are vectors."""


class Interface(NamedTuple):
    """The addresses through which a program meets its tasks; scalars count first, then vectors, then matrices.

    Functions that take an `interface` assume scalar labels where it is None.

    Attributes:
      label: s0, or v1 for vector labels.
      features: v0.
      prediction: s1, or v2 for vector labels.

    Example:
      >>> Interface.scalar(MemorySize(4, 3, 1)), Interface.vector(MemorySize(4, 3, 1))
      (Interface(label=0, features=4, prediction=1), Interface(label=5, features=4, prediction=6))
    """

    label: int
    features: int
    prediction: int

    @classmethod
    def of(cls, memory: MemorySize, tasks: HasLabels) -> "Interface":
        """The interface between programs with this memory and these tasks.

        Raises:
          ValueError: the tasks have vector labels, and the memory fewer than 3 vectors.
        """
        return cls.vector(memory) if tasks.vector_labels else cls.scalar(memory)

    @classmethod
    def scalar(cls, memory: MemorySize) -> "Interface":
        """The interface for regression and two classes: label s0, prediction s1."""
        return cls(0, memory.scalars, 1)

    @classmethod
    def vector(cls, memory: MemorySize) -> "Interface":
        """The interface for more than two classes: label v1, prediction v2.

        Raises:
          ValueError: fewer than 3 vectors.
        """
        if memory.vectors < 3:
            raise ValueError(
                "more than two classes need 3 vectors (v0 holds the features, v1 the label and v2 the prediction), "
                f"not {memory.vectors}"
            )
        return cls(memory.scalars + 1, memory.scalars, memory.scalars + 2)

    @property
    def is_vector(self) -> bool:
        """Whether labels and predictions are vectors."""
        return self.label > self.features


def resolved(interface: Interface | None, memory: MemorySize) -> Interface:
    """The interface of programs with this memory; None stands for that of scalar labels.

    Raises:
      ValueError: an interface that belongs to another memory.
    """
    scalar = Interface.scalar(memory)
    if interface is None or interface == scalar:
        return scalar
    if memory.vectors < 3 or interface != Interface.vector(memory):
        raise ValueError(f"{interface} does not belong to a memory of {tuple(memory)}")
    return interface


def memory_size(memory: Sequence[int]) -> MemorySize:
    """Checks a memory size given as (scalars, vectors, matrices).

    Raises:
      ValueError: s0, s1 or v0 would not exist, or a number is negative or beyond `bounds.BOUNDS`.
    """
    size = MemorySize(*three_whole_numbers("memory", memory, MemorySize._fields))
    if size.scalars < 2 or size.vectors < 1 or size.matrices < 0:
        raise ValueError(
            f"memory {shown(tuple(size))} is too small: label and prediction need 2 scalars, the features 1 vector"
        )
    for name, number in zip(size._fields, size, strict=True):
        check_number(name, number)
    return size


def outside(kind: str, address: int, memory: MemorySize) -> str:
    """The error message for an address outside the memory."""
    index = ops.KINDS.index(kind)
    name, n = MemorySize._fields[index], memory[index]
    return f"{kind}{shown(address)} is outside the memory of {n} {name}" + (f" ({kind}0 to {kind}{n - 1})" if n else "")


def three_whole_numbers(name: str, values: Sequence[int], fields: Sequence[str]) -> tuple[int, int, int]:
    """Checks three whole numbers, one for each of `fields`.

    Raises:
      ValueError: anything else.
    """
    numbers = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if len(numbers) != 3 or any(not isinstance(n, int | np.integer) or isinstance(n, bool) for n in numbers):
        raise ValueError(f"{name} must be three whole numbers ({', '.join(fields)}), not {shown(values)}")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])
