"""Which mutation types succeed, and how often to draw each in consequence.

Axes: `M` mutation types, `B` children asked for last.
"""

import dataclasses
from typing import Annotated

import numpy as np

from zero_jax.search.operators.mutation import Mutations
from zero_jax.support.codec import Array

HALF_LIFE = 2000.0
"""After how many children a count is worth half."""

FLOOR = 0.25
"""The share of its own weight that a type keeps without any success."""

PRIOR = 20.0
"""How many children each type is assumed to have made before, as successful as all."""


@dataclasses.dataclass(frozen=True, eq=False)
class Credit:
    """What a search knows of its mutation types; never changed in place.

    A child is a success if it is better than its parent, for each type that it was mutated by.

    Attributes:
      tried: float64 `[M]`, how many children of each type were evaluated, older ones counting less.
      succeeded: float64 `[M]`, how many of them were successes.
      applied: int64 `[B]`, the types of each child asked for last, as bits.
      bars: float64 `[B]`, the fitness of its parent.
    """

    tried: Annotated[np.ndarray, Array(np.float64, ("M",), least=0)]
    succeeded: Annotated[np.ndarray, Array(np.float64, ("M",), least=0)]
    applied: Annotated[np.ndarray, Array(np.int64, ("B",), least=0)]
    bars: Annotated[np.ndarray, Array(np.float64, ("B",))]

    def validate(self) -> None:
        """Refuses more successes than trials, and types that do not exist."""
        if (self.succeeded > self.tried).any() or (self.applied >> len(self.tried)).any():
            raise ValueError("there are more successes than children, or unknown mutation types")


def start(mutations: Mutations) -> Credit | None:
    """Before the first child; None if frequencies do not adapt."""
    nothing = np.zeros(len(mutations.types))
    return Credit(nothing, nothing, np.zeros(0, np.int64), np.zeros(0)) if mutations.adaptive else None


def weights(credit: Credit | None, mutations: Mutations) -> np.ndarray | None:
    """`[M]` how often to draw each type: in proportion to its weight times its rate of success (probability matching),
    but at least `FLOOR` times its weight. None without credit.

    Example:
      >>> mutations = Mutations(types=("alter_param", "reconnect"), adaptive=True)
      >>> credit = start(mutations)
      >>> weights(credit, mutations).tolist()
      [0.5, 0.5]
      >>> credit = settled(asked(credit, np.array([1, 1, 2, 2]), bars=np.zeros(4)), np.array([0.0, 0.0, 0.0, 0.7]))
      >>> weights(credit, mutations).round(2).tolist()
      [0.47, 0.53]
    """
    if credit is None:
        return None
    base = np.array(mutations.weights or [1.0] * len(mutations.types))
    base = base / base.sum()
    mean = credit.succeeded.sum() / max(credit.tried.sum(), 1.0)
    matched = base * (credit.succeeded + PRIOR * mean) / (credit.tried + PRIOR)
    total = matched.sum()
    return FLOOR * base + (1 - FLOOR) * matched / total if total else base


def asked(credit: Credit | None, applied: np.ndarray, bars: np.ndarray) -> Credit | None:
    """After children have been asked for.

    Args:
      credit: what was known before; None stays None.
      applied: int64 `[B]`, their types, as bits in the order of `Mutations.types`.
      bars: float64 `[B]`, the fitness of their parents.
    """
    return credit and dataclasses.replace(credit, applied=applied, bars=bars)


def settled(credit: Credit | None, fitness: np.ndarray) -> Credit | None:
    """After the evaluation of the children asked for last, float64 `[B]`; unchanged if no children were asked for."""
    if credit is None or not len(credit.applied):
        return credit
    by_type = (credit.applied >> np.arange(len(credit.tried))[:, None]) & 1
    kept = 0.5 ** (len(fitness) / HALF_LIFE)
    tried = kept * credit.tried + by_type.sum(1)
    succeeded = kept * credit.succeeded + (by_type * (fitness > credit.bars)).sum(1)
    return Credit(tried, succeeded, credit.applied[:0], credit.bars[:0])


def check(credit: Credit | None, mutations: Mutations, children: int) -> None:
    """Refuses the credit of another search.

    Raises:
      ValueError: if so.
    """
    if (credit is not None) != mutations.adaptive:
        raise ValueError("the state is of another search: its mutation weights adapt, or this one's do")
    if credit is not None and (len(credit.tried) != len(mutations.types) or len(credit.applied) not in (0, children)):
        raise ValueError("the state is of another search: its credit does not fit the mutation types or children")
