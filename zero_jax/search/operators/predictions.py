"""What Predict can compute: the functions of features and memory that a few instructions make, each once.

Programs whose Predict computes the same function differ only in how they learn; a search by niches keeps them together.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from zero_jax.program import ops as op_table
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.ops import OPS
from zero_jax.program.space import SearchSpace

Expression = tuple[Any, ...]
"""A leaf `(kind, number)`, of which the features are `(1, -1)`, or an op's number and the expressions of its inputs."""

FEATURES: Expression = (1, -1)

_IDEMPOTENT = ("_MIN", "_MAX")
_ASSOCIATIVE = ("_SUM", *_IDEMPOTENT)
"""How the names of ops end in which nesting does not matter; with the first, neither do order and repetition."""

MOST_STEPS = 200_000
"""How many instructions are tried, in all sequences together, before the enumeration ends."""

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
    if _is_leaf(expression):
        return op_table.KINDS[expression[0]] + "abcdefghijklmnopqrstuvwxyz"[expression[1] % 26]
    op = OPS[expression[0]]
    names = dict(zip("ab", map(shown, expression[1:]), strict=False))
    text = op.form.format(o="", **names).lstrip(" =")
    return f"({text})" if " " in text.split("(")[0] else text


def predictions(space: SearchSpace, most: int, interface: Interface | None = None) -> list[Prediction]:
    """The functions that Predict can compute, the shortest first.

    A function reads the features and at least one value from memory. Ops with constants or random draws are left out:
    which function they compute is not decided by the instructions alone.

    Args:
      space: whose Predict.
      most: how many at most.
      interface: where label, features and prediction are; None for scalar labels.

    Raises:
      ValueError: there is none.

    Example:
      >>> from zero_jax import Component
      >>> predict = Component(["VECTOR_INNER_PRODUCT", "VECTOR_SUM"], size=(1, 1, 2))
      >>> space = SearchSpace((3, 3, 0), Component(), predict, Component(["SCALAR_SUM"]))
      >>> [str(one) for one in predictions(space, 4)]
      ['dot(x, va)', 'dot(va, (x + x))', 'dot(x, (x + va))', 'dot(va, (x + va))']
    """
    return list(_predictions(space, most, interface))


@functools.lru_cache(maxsize=16)
def _predictions(space: SearchSpace, most: int, interface: Interface | None) -> tuple[Prediction, ...]:
    ends = resolved(interface, space.memory)
    if not any(_memory_leaves(space, ends)):
        raise ValueError(
            f"memory {tuple(space.memory)} has no address for what a program learns: label, features and prediction "
            "take all of it; give it one more vector"
        )
    usable = [
        n for n in space.ops[1] if OPS[n].inputs and not (OPS[n].random or OPS[n].constants or OPS[n].reads_output)
    ]
    made: dict[Expression, Prediction] = {}
    steps = itertools.count()
    for size in range(1, space.max_size[1] + 1):
        for values in _sequences(usable, size, space, ends, steps):
            key = _key(values[-1])
            code = None if key in made else _instructions(values, space, ends)
            if code is not None:
                made[key] = Prediction(values[-1], code)
            if len(made) >= most:
                return tuple(made.values())
    if not made:
        if next(steps) >= MOST_STEPS:
            raise ValueError(
                f"no function of features and memory was met among the first {MOST_STEPS:,} instructions of Predict, "
                "which is too large to list: give Predict fewer ops or fewer instructions, or use --method evolution"
            )
        raise ValueError(
            "no function of features and memory can be computed by Predict in this space: allow it ops without "
            "constants, such as VECTOR_INNER_PRODUCT, or use --method evolution"
        )
    return tuple(made.values())


def _is_leaf(expression: Expression) -> bool:
    return len(expression) == 2 and isinstance(expression[1], int)


def _leaves(expression: Expression) -> Iterator[Expression]:
    if _is_leaf(expression):
        yield expression
    else:
        for part in expression[1:]:
            yield from _leaves(part)


def _sequences(
    usable: list[int], size: int, space: SearchSpace, ends: Any, steps: Iterator[int]
) -> Iterator[list[Expression]]:
    """Sequences of that many instructions, as the values that they compute: each is new, and a later one uses it; the
    last is the prediction. `steps` counts instructions, and ends the search at `MOST_STEPS`.
    """
    last_kind = 1 if ends[0] > ends[1] else 0  # of the prediction: scalar or vector
    room = _memory_leaves(space, ends)

    def operands(kind: int, values: list[Expression], used: tuple[int, int, int]) -> list[Expression]:
        computed = [value for value in values if _kind(value) == kind]
        leaves = [(kind, number) for number in range(min(used[kind] + 1, room[kind]))]
        return ([FEATURES] if kind == 1 else []) + leaves + computed

    def extended(values: list[Expression], used: tuple[int, int, int]) -> Iterator[list[Expression]]:
        left = size - len(values)
        if not left:
            yield values
            return
        for number in usable:
            op = OPS[number]
            kinds = [op_table.KINDS.index(kind) for kind in op.inputs]
            out = op_table.KINDS.index(op.output)
            if left == 1 and out != last_kind:
                continue
            for first in operands(kinds[0], values, used):
                after = _used(used, first)
                others = operands(kinds[1], values, after) if len(kinds) > 1 else [None]
                for second in others:
                    value = (number, first) if second is None else (number, first, second)
                    if value in values:
                        continue
                    following = [*values, value]
                    if _unused(following) > left:  # each of those that are left can use one more than it makes
                        continue
                    if next(steps) >= MOST_STEPS:
                        return
                    yield from extended(following, after if second is None else _used(after, second))

    for values in extended([], (0, 0, 0)):
        leaves = set(_leaves(values[-1]))
        if FEATURES in leaves and len(leaves) > 1 and _unused(values) == 1:
            yield values


def _kind(value: Expression) -> int:
    return value[0] if _is_leaf(value) else op_table.KINDS.index(OPS[value[0]].output)


def _used(used: tuple[int, int, int], operand: Expression) -> tuple[int, int, int]:
    """How many leaves of each kind are in use, with one more operand."""
    if not _is_leaf(operand) or operand == FEATURES or operand[1] < used[operand[0]]:
        return used
    return tuple(n + (kind == operand[0]) for kind, n in enumerate(used))


def _unused(values: list[Expression]) -> int:
    """How many values no other reads."""
    read = {part for value in values for part in value[1:]}
    return sum(value not in read for value in values)


def _memory_leaves(space: SearchSpace, ends: Any) -> tuple[int, int, int]:
    """How many addresses of each kind hold memory: all but those of label, features and prediction."""
    reserved = [{0, 1}, {0}, set()] if ends[0] <= ends[1] else [{0, 1}, {0, 1, 2}, set()]
    return tuple(max(0, n - len(r)) for n, r in zip(space.memory, reserved, strict=True))  # type: ignore[return-value]


def _key(expression: Expression) -> Expression:
    """One expression for all that differ in the names of memory or the order of inputs that may change places."""
    leaves = sorted({leaf for leaf in _leaves(expression) if leaf != FEATURES})
    by_kind = [[leaf for leaf in leaves if leaf[0] == kind] for kind in range(3)]
    if math.prod(math.factorial(len(some)) for some in by_kind) > MOST_ORDERS:
        return _renamed(expression, {})
    best: Any = None
    for orders in itertools.product(*(itertools.permutations(range(len(some))) for some in by_kind)):
        names = {leaf: (leaf[0], n) for some, order in zip(by_kind, orders, strict=True)
                 for leaf, n in zip(some, order, strict=True)}  # fmt: skip
        one = _renamed(expression, names)
        if best is None or repr(one) < repr(best):
            best = one
    return best


def _renamed(expression: Expression, names: dict[Expression, Expression]) -> Expression:
    if _is_leaf(expression):
        return names.get(expression, expression)
    op, parts = OPS[expression[0]], [_renamed(part, names) for part in expression[1:]]
    if op.name.endswith(_ASSOCIATIVE):
        parts = [
            one for part in parts for one in (part[1:] if part[0] == expression[0] and not _is_leaf(part) else [part])
        ]
    if op.name.endswith(_IDEMPOTENT):
        parts = list(dict.fromkeys(parts))
    if len(parts) == 1 and op.name.endswith(_IDEMPOTENT):
        return parts[0]
    if op.commutative or op.name.endswith(_IDEMPOTENT):
        parts.sort(key=repr)
    return (expression[0], *parts)


def _instructions(values: list[Expression], space: SearchSpace, ends: Any) -> np.ndarray | None:
    """The code of a sequence; None if its values do not fit the memory."""
    vector = ends[0] > ends[1]
    first = [2, 3 if vector else 1, 0]
    at: dict[Expression, int] = {FEATURES: 0}
    free = list(first)
    for leaf in dict.fromkeys(leaf for leaf in _leaves(values[-1]) if leaf != FEATURES):
        at[leaf] = first[leaf[0]] + leaf[1]
        free[leaf[0]] = max(free[leaf[0]], at[leaf] + 1)
    rows = []
    for place, value in enumerate(values):
        kind = _kind(value)
        if place == len(values) - 1:
            out = 2 if vector else 1
        else:
            out, free[kind] = free[kind], free[kind] + 1
            if out >= space.memory[kind]:
                return None
        inputs = [at[part] for part in value[1:]]
        rows.append([value[0], *inputs, *[0] * (2 - len(inputs)), out])
        at[value] = out
    return np.array(rows, np.int32)
