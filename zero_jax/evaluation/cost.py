"""The cost of training a program, from a table of the cost of each op (upstream's train budget).

Axes: `P` programs, `L` instruction slots.
"""

from typing import Literal

import numpy as np

from zero_jax.program import library
from zero_jax.program.ops import INPUT_KINDS, OPS, OUTPUT_KINDS
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import entry_point

Costs = Literal["upstream", "operations"]
"""Where the cost of an op comes from: upstream measured it, or operations are counted."""

# fmt: off
UPSTREAM: np.ndarray = np.array([
    3_013_921, 4_703_759, 5_102_027, 4_418_347, 3_963_916, 3_684_352, 4_212_086, 7_538_523,
    7_452_807, 7_583_203, 9_145_616, 7_673_039, 9_273_978, 11_755_929, 11_627_725, 4_057_075,
    3_965_743, 6_728_311, 3_705_015, 4_165_814, 6_311_851, 4_810_562, 3_713_533, 4_701_519,
    4_165_747, 4_504_555, 4_556_237, 4_294_617, 9_833_707, 5_986_302, 24_336_141, 9_310_002,
    10_993_088, 11_087_322, 6_422_746, 6_682_187, 13_351_123, 9_394_756, 4_630_926, 5_579_381,
    5_429_452, 5_475_227, 18_234_378, 14_516_296, 3_677_265, 3_989_956, 5_457_728, 4_573_695,
    3_974_229, 5_840_952, 4_280_443, 4_595_196, 9_763_956, 16_766_477, 5_585_730, 10_640_216,
    3_691_108, 3_991_421, 3_693_035, 26_610_704, 57_817_372, 208_339_446, 20_775_635, 77_483_018,
    277_690_384,
], np.float64)
# fmt: on
"""`[65]` upstream's measured time of each op, in its own units (`golden/upstream_costs.json`)."""

_MATRIX_VECTOR, _MATRIX_MATRIX = 31, 43


def operations(features: int) -> np.ndarray:
    """`[65]` floating-point operations of each op at F features: one for each element of the largest operand or output,
    except products of matrices. A random number counts as one.

    Example:
      >>> operations(4)[[1, 23, 31, 43]].tolist()
      [1.0, 4.0, 28.0, 112.0]
    """
    kinds = np.maximum(INPUT_KINDS.max(1), OUTPUT_KINDS)
    counts = np.where(kinds < 0, 0.0, float(features) ** np.maximum(kinds, 0))
    counts[_MATRIX_VECTOR] = features * (2 * features - 1)
    counts[_MATRIX_MATRIX] = features**2 * (2 * features - 1)
    assert len(counts) == len(OPS)
    return counts


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
