"""What a program costs to train, by a table of what each instruction costs, and the train budget (SPEC 4).

Axes: `P` programs, `L` instruction slots.
"""

from typing import Literal

import numpy as np

from zero_jax.program import library
from zero_jax.program.ops import COSTS, OPS
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import entry_point

Costs = Literal["upstream", "operations"]
"""How to tell what an instruction costs: as upstream measured it, or by counting operations."""

UPSTREAM: np.ndarray = COSTS
"""`[65]` upstream's measured time of each op, in its own units."""


def operations(features: int) -> np.ndarray:
    """`[65]` floating-point operations of each op at F features: one for each element of the largest operand or output,
    but all of them for products of matrices. Random numbers count as one.

    Example:
      >>> operations(4)[[1, 23, 31, 43]].tolist()
      [1.0, 4.0, 28.0, 112.0]
    """
    return np.array([op.operations(features) for op in OPS])


def cost(programs: Programs, examples: int, table: np.ndarray = UPSTREAM, rows: np.ndarray | None = None) -> np.ndarray:
    """`[P]` float64: Setup once, and Predict and Learn for so many training examples, epochs counted.

    Every instruction in use counts, no-ops and dead ones too, as upstream counts them.

    Args:
      programs: `P` programs.
      examples: how many training examples one run sees.
      table: `[65]` the cost of each op.
      rows: of which of the programs, by default of all.

    Example:
      >>> network = library.program("network")
      >>> cost(network, 0).item(), (cost(network, 1) - cost(network, 0)).item()
      (358864510.0, 81904713.0)
    """
    code, length = np.ascontiguousarray(programs.code, np.int32), np.ascontiguousarray(programs.length, np.int32)
    rows = np.arange(len(code)) if rows is None else rows
    found = np.zeros(len(rows))
    _add_costs(code, length, rows, np.array(programs.starts), table, float(examples), found)
    return found


@entry_point
def _add_costs(code, length, rows, starts, table, examples, found):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        p = rows[i]
        once, each = 0.0, 0.0
        for k in range(starts[0], starts[0] + length[p, 0]):
            once += table[code[p, k, 0]]
        for c in range(1, 3):
            for k in range(starts[c], starts[c] + length[p, c]):
                each += table[code[p, k, 0]]
        found[i] = once + examples * each


def within_budget(programs: Programs, examples: int, budget: float, table: np.ndarray = UPSTREAM) -> np.ndarray:
    """`[P]` bool: whether a program costs at most `budget` times as much as the library's 2-layer network."""
    return cost(programs, examples, table) <= budget * cost(library.program("network"), examples, table)[0]
