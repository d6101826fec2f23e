"""Which ops a dispatcher covers."""

from collections.abc import Iterable
from typing import Any, cast

import jax
import numpy as np

from zero_jax.executors import stream
from zero_jax.program import ops as op_table
from zero_jax.program.memory import COMPONENTS, Capacity, MemorySize
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

OpSets = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The ops that a dispatcher covers, sorted, for Setup, Predict and Learn."""


def op_sets(ops: Any, memory: MemorySize) -> OpSets:
    """Normalises the `ops` argument of `evaluate`.

    Args:
      ops: None for all 65; names or numbers for all components; or three collections, for Setup, Predict and Learn.
      memory: ops without an operand in it are left out, since no program can use them.

    Raises:
      ValueError: anything else, an unknown name, or a number outside 0 to 64.

    Example:
      >>> op_sets(["SCALAR_SUM", 3], MemorySize(4, 3, 1)) == op_sets([1, "SCALAR_PRODUCT"], MemorySize(4, 3, 1))
      True
    """
    if ops is not None and not _is_collection(ops):
        raise ValueError(f"ops must be op names or numbers, or three collections of them, not {ops!r}")
    numbers: list[Any] = list(range(65)) if ops is None else list(ops)
    nested = numbers and all(_is_collection(part) for part in numbers)
    if nested and len(numbers) != len(COMPONENTS):
        raise ValueError(f"ops must be op names or numbers, or three collections of them, not {ops!r}")
    triple = numbers if nested else [numbers] * len(COMPONENTS)
    absent = {kind for kind, n in zip(op_table.KINDS, memory, strict=True) if n == 0}
    sets = []
    for part in triple:
        given = [op_table.number_of(op) if isinstance(op, str) else op for op in part]
        if any(not isinstance(n, int | np.integer) or not 0 <= n <= 64 for n in given):
            raise ValueError(f"ops must be names or whole numbers from 0 to 64, not {part!r}")
        usable = (op_table.OPS[int(n)] for n in given)
        sets.append(tuple(sorted({op.number for op in usable if not absent & {*op.inputs, op.output}})))
    return cast(OpSets, tuple(sets))


def _is_collection(value: Any) -> bool:
    """Whether it holds several ops; the name of one is iterable too."""
    return isinstance(value, Iterable) and not isinstance(value, str)


def dispatched(programs: Programs, ops: Any) -> OpSets:
    """The ops to dispatch: those given, or those that the programs use. Traced programs cannot be looked at.

    Raises:
      ValueError: programs with an op that is not covered.
    """
    if isinstance(programs.code, jax.core.Tracer):
        return op_sets(ops, programs.memory)
    code = np.asarray(programs.code)
    parts = zip(programs.starts[:3], programs.starts[1:], strict=True)
    present = [_present(code[:, first:last, 0]) for first, last in parts]
    if ops is None:
        return op_sets(present, programs.memory)
    sets = op_sets(ops, programs.memory)
    for component, have, covered in zip(COMPONENTS, present, sets, strict=True):
        missing = sorted(set(have) - {0, *covered})
        if missing:
            raise ValueError(f"{component} uses ops {missing}, which ops={ops!r} does not cover")
    return sets


def _present(numbers: np.ndarray) -> list[int]:
    """The different numbers; without sorting them, if all are ops."""
    flat = numbers.ravel()
    if not flat.size or flat.min() < 0 or flat.max() >= len(op_table.OPS):
        return np.unique(flat).tolist()
    return np.flatnonzero(np.bincount(flat)).tolist()


def check_stream(capacity: Capacity, tasks: Tasks, sets: OpSets) -> None:
    """Checks that the random stream is long enough.

    Raises:
      ValueError: too many runs of a component, or too many instructions in one, for programs that draw.
    """
    runs = stream.runs(tasks)
    if draws(sets) and (runs > stream.MAX_RUNS or max(capacity) > stream.MAX_DRAWS):
        raise ValueError(
            f"random instructions allow at most {stream.MAX_RUNS:,} runs of a component, not {runs:,}, "
            f"and at most {stream.MAX_DRAWS} instructions in one, not {max(capacity)}"
        )


def draws(sets: OpSets) -> bool:
    """Whether any of these ops draws random numbers."""
    return any(op_table.RANDOM & set(part) for part in sets)
