"""Selection: which individuals become parents.

Axes: `I` islands, `P` programs per island, `C` children per island.
"""

import numpy as np

from zero_jax.support.compiled import address_of, entry_point, generator_at

MOST_DRAWS = 10**8
"""The most draws of the tournaments of a cohort: a second in a compiled loop, in which Ctrl-C has to wait."""


def hold_tournaments(fitness: np.ndarray, draws: int, children: int, rng: np.random.Generator) -> np.ndarray:
    """Parents by tournament: for each child the fittest of some draws with replacement; of equals, the first drawn.

    Args:
      fitness: `[I, P]` float64.
      draws: the size of a tournament.
      children: I * C, how many parents to choose, the same number on each island.
      rng: the source of randomness, which is advanced.

    Returns:
      `[I * C]` int64 rows among the `I * P` programs.

    Example:
      >>> hold_tournaments(np.array([[0.1, 0.9]]), 8, 3, np.random.default_rng(0)).tolist()
      [1, 1, 1]
    """
    rows = np.empty(children, np.int64)
    _hold_tournaments(fitness, draws, rows, address_of(rng))
    return rows


@entry_point
def _hold_tournaments(fitness, draws, rows, address):  # type: ignore[no-untyped-def]
    rng = generator_at(address)
    islands, population = fitness.shape
    for i in range(len(rows)):
        island = i // (len(rows) // islands)
        best = int(rng.random() * population)
        for _ in range(draws - 1):
            drawn = int(rng.random() * population)
            if fitness[island, drawn] > fitness[island, best]:
                best = drawn
        rows[i] = island * population + best


def by_rank(fitness: np.ndarray) -> np.ndarray:
    """How likely each of several is drawn, relative to the others: 1 / (rank + 2), the fittest of rank 0.

    Example:
      >>> by_rank(np.array([0.1, 0.9]))
      array([0.33333333, 0.5       ])
    """
    ranks = np.argsort(np.argsort(-fitness, kind="stable"), kind="stable")
    return np.asarray(1 / (ranks + 2.0))
