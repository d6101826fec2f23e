"""Which ops a dispatcher covers."""

from typing import Any

import jax
import numpy as np

from zero_jax.executors import blocks, contract
from zero_jax.executors.contract import OpSets
from zero_jax.program.memory import COMPONENTS, Capacity
from zero_jax.program.ops import OPS
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks


def dispatched(programs: Programs, ops: Any) -> OpSets:
    """The ops to dispatch: those given, or those that the programs use. Traced programs cannot be looked at.

    Raises:
      ValueError: programs with an op that is not covered.
    """
    if isinstance(programs.code, jax.core.Tracer):
        return contract.op_sets(ops, programs.memory)
    code = np.asarray(programs.code)
    parts = zip(programs.starts[:3], programs.starts[1:], strict=True)
    present = [_present(code[:, first:last, 0]) for first, last in parts]
    if ops is None:
        return contract.op_sets(present, programs.memory)
    sets = contract.op_sets(ops, programs.memory)
    for component, have, covered in zip(COMPONENTS, present, sets, strict=True):
        missing = sorted(set(have) - {0, *covered})
        if missing:
            raise ValueError(f"{component} uses ops {missing}, which ops={ops!r} does not cover")
    return sets


def _present(numbers: np.ndarray) -> list[int]:
    """The different numbers; without sorting them, if all are ops."""
    flat = numbers.ravel()
    if not flat.size or flat.min() < 0 or flat.max() >= len(OPS):
        return np.unique(flat).tolist()
    return np.flatnonzero(np.bincount(flat)).tolist()


def check_stream(capacity: Capacity, tasks: Tasks, sets: OpSets) -> None:
    """Checks that the random stream is long enough.

    Raises:
      ValueError: too many runs of a component, or too many instructions in one, for programs that draw.
    """
    runs = contract.runs(tasks)
    if blocks.draws(sets) and (runs > contract.MAX_RUNS or max(capacity) > contract.MAX_DRAWS):
        raise ValueError(
            f"random instructions allow at most {contract.MAX_RUNS:,} runs of a component, not {runs:,}, "
            f"and at most {contract.MAX_DRAWS} instructions in one, not {max(capacity)}"
        )
