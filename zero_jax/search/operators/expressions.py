"""What Predict computes, as an expression of the features and memory.

Programs whose Predict computes the same function differ only in how they learn; a search by niches keeps them together.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from zero_jax.program import ops as op_table
from zero_jax.program.ops import OPS
from zero_jax.program.space import SearchSpace

Expression = tuple[Any, ...]
"""A leaf `(kind, number)`, of which the features are `(1, -1)`, or an op's number and the expressions of its inputs."""

FEATURES: Expression = (1, -1)

_IDEMPOTENT = ("_MIN", "_MAX")
_ASSOCIATIVE = ("_SUM", *_IDEMPOTENT)
"""How the names of ops end in which nesting does not matter; with the first, neither do order and repetition."""

MOST_ORDERS = 720
"""In how many orders memory is named to see that two functions are one; with more, the order of use decides."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """A function of features and memory, and instructions that compute it.

    Attributes:
      expression: the function.
      code: int32 `[n, 4]`; memory lies in the first addresses of its kind in the order of its use, intermediate values
        behind it.
    """

    expression: Expression
    code: np.ndarray

    def __str__(self) -> str:
        return shown(self.expression)


def shown(expression: Expression) -> str:
    """An expression as text: `x` are the features; memory is `va`, `vb`, `ma`, `sa` and so on.

    Example:
      >>> shown((27, (1, 0), (31, (2, 0), FEATURES)))
      'dot(va, dot(ma, x))'
    """
    if expression == FEATURES:
        return "x"
    if is_leaf(expression):
        return op_table.KINDS[expression[0]] + "abcdefghijklmnopqrstuvwxyz"[expression[1] % 26]
    op = OPS[expression[0]]
    names = dict(zip("ab", map(shown, expression[1:]), strict=False))
    text = op.form.format(o="", **names).lstrip(" =")
    return text if "(" in op.form else f"({text})"


def is_leaf(expression: Expression) -> bool:
    """Whether an expression is the features or a value from memory."""
    return len(expression) == 2 and isinstance(expression[1], int)


def leaves(expression: Expression) -> Iterator[Expression]:
    """The features and values from memory that an expression reads, as often as it does, in the order of use."""
    if is_leaf(expression):
        yield expression
    else:
        for part in expression[1:]:
            yield from leaves(part)


def kind_of(value: Expression) -> int:
    """0 for a scalar, 1 for a vector, 2 for a matrix."""
    return value[0] if is_leaf(value) else op_table.KINDS.index(OPS[value[0]].output)


def kinds_read(op: int) -> list[int]:
    """The kinds of an op's inputs."""
    return [op_table.KINDS.index(kind) for kind in OPS[op].inputs]


def memory_room(space: SearchSpace, ends: Any) -> tuple[int, int, int]:
    """How many addresses of each kind hold memory: all but those of label, features and prediction."""
    reserved = [{0, 1}, {0}, set()] if ends[0] <= ends[1] else [{0, 1}, {0, 1, 2}, set()]
    return tuple(max(0, n - len(r)) for n, r in zip(space.memory, reserved, strict=True))  # type: ignore[return-value]


def identity(expression: Expression) -> Expression:
    """One expression for all that differ in the names of memory or the order of inputs that may change places."""
    named = sorted({leaf for leaf in leaves(expression) if leaf != FEATURES})
    by_kind = [[leaf for leaf in named if leaf[0] == kind] for kind in range(3)]
    if math.prod(math.factorial(len(some)) for some in by_kind) > MOST_ORDERS:
        return renamed(expression, {})
    best: Any = None
    for orders in itertools.product(*(itertools.permutations(range(len(some))) for some in by_kind)):
        names = {leaf: (leaf[0], n) for some, order in zip(by_kind, orders, strict=True)
                 for leaf, n in zip(some, order, strict=True)}  # fmt: skip
        one = renamed(expression, names)
        if best is None or repr(one) < repr(best):
            best = one
    return best


def renamed(expression: Expression, names: dict[Expression, Expression]) -> Expression:
    """An expression with other names for its memory; nested ops flattened and inputs sorted where that is all one."""
    if is_leaf(expression):
        return names.get(expression, expression)
    op, parts = OPS[expression[0]], [renamed(part, names) for part in expression[1:]]
    if op.name.endswith(_ASSOCIATIVE):
        parts = [
            one for part in parts for one in (part[1:] if part[0] == expression[0] and not is_leaf(part) else [part])
        ]
    if op.name.endswith(_IDEMPOTENT):
        parts = list(dict.fromkeys(parts))
    if len(parts) == 1 and op.name.endswith(_IDEMPOTENT):
        return parts[0]
    if op.commutative or op.name.endswith(_IDEMPOTENT):
        parts.sort(key=repr)
    return (expression[0], *parts)


def instructions(values: list[Expression], space: SearchSpace, ends: Any) -> np.ndarray | None:
    """The code that computes values one by one, the last as the prediction; None if they do not fit the memory."""
    first, out_last = first_addresses(ends), 2 if ends[0] > ends[1] else 1
    at: dict[Expression, int] = {FEATURES: 0}
    free = list(first)
    for leaf in dict.fromkeys(leaf for leaf in leaves(values[-1]) if leaf != FEATURES):
        at[leaf] = first[leaf[0]] + leaf[1]
        free[leaf[0]] = max(free[leaf[0]], at[leaf] + 1)
    rows = []
    for place, value in enumerate(values):
        kind = kind_of(value)
        if place == len(values) - 1:
            out = out_last
        else:
            out, free[kind] = free[kind], free[kind] + 1
            if out >= space.memory[kind]:
                return None
        inputs = [at[part] for part in value[1:]]
        rows.append([value[0], *inputs, *[0] * (2 - len(inputs)), out])
        at[value] = out
    return np.array(rows, np.int32)


def first_addresses(ends: Any) -> tuple[int, int, int]:
    """Where the memory of each kind begins, behind label, features and prediction."""
    return (2, 3, 0) if ends[0] > ends[1] else (2, 1, 0)


def expression_of(code: np.ndarray, ends: Any) -> Expression:
    """What instructions compute, the inverse of `instructions`; no-ops at the end do not count.

    Example:
      >>> shown(expression_of(np.array([[31, 0, 0, 2], [27, 1, 2, 1]]), (0, 1)))
      'dot(va, dot(ma, x))'
    """
    first = first_addresses(ends)
    values: dict[tuple[int, int], Expression] = {(1, 0): FEATURES}
    value = FEATURES
    for op, a, b, out in code.tolist():
        if op == 0:
            break
        kinds = kinds_read(op)
        value = (
            op,
            *(values.get((kind, at), (kind, at - first[kind])) for kind, at in zip(kinds, (a, b), strict=False)),
        )
        values[kind_of(value), out] = value
    return value
