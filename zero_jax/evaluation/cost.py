"""The cost of training a program, from a table of the cost of each op (upstream's train budget).

Axes: `P` programs, `L` instruction slots.
"""

from typing import Literal

import numpy as np

from zero_jax.program import library
from zero_jax.program.ops import COSTS, OPS
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import entry_point

Costs = Literal["upstream", "operations"]
"""Where the cost of an op comes from: upstream measured it, or operations are counted."""

UPSTREAM: np.ndarray = COSTS
"""`[65]` upstream's measured time of each op, in its own units."""


def operations(features: int) -> np.ndarray:
    """`[65]` floating-point operations of each op at F features: one for each element of the largest operand or output,
    except products of matrices. A random number counts as one.

    Example:
      >>> operations(4)[[1, 23, 31, 43]].tolist()
      [1.0, 4.0, 28.0, 112.0]
    """
    return np.array([op.operations(features) for op in OPS])


def cost(programs: Programs, examples: int, table: np.ndarray = UPSTREAM, rows: np.ndarray | None = None) -> np.ndarray:
    """`[P]` float64: the cost of Setup once, and of Predict and Learn for each training example.

    Every instruction in use counts, no-ops and dead ones too, as upstream counts them.

    Args:
      programs: `P` programs.
      examples: how many training examples one run sees, epochs counted.
      table: `[65]` the cost of each op.
      rows: which of the programs; by default all.

    Example:
      >>> network = library.program("network")
      >>> cost(network, 0).item(), (cost(network, 1) - cost(network, 0)).item()
      (358864510.0, 81904713.0)
    """
    code, length = np.ascontiguousarray(programs.code, np.int32), np.ascontiguousarray(programs.length, np.int32)
    rows = np.arange(len(code)) if rows is None else rows
    costs = np.zeros(len(rows))
    _add_costs(code, length, rows, np.array(programs.starts), table, float(examples), costs)
    return costs


@entry_point
def _add_costs(code, length, rows, starts, table, examples, costs):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        p = rows[i]
        once, each = 0.0, 0.0
        for k in range(starts[0], starts[0] + length[p, 0]):
            once += table[code[p, k, 0]]
        for c in range(1, 3):
            for k in range(starts[c], starts[c] + length[p, c]):
                each += table[code[p, k, 0]]
        costs[i] = once + examples * each


def within_budget(
    programs: Programs, examples: int, budget: float, table: np.ndarray = UPSTREAM, rows: np.ndarray | None = None
) -> np.ndarray:
    """`[P]` bool: whether a program costs at most `budget` times as much as the library's 2-layer network."""
    return cost(programs, examples, table, rows) <= budget * network_cost(examples, table)


def network_cost(examples: int, table: np.ndarray = UPSTREAM) -> float:
    """The cost of the library's 2-layer network, the unit of budgets and records."""
    return float(cost(library.program("network"), examples, table)[0])
