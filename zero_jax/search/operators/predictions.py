"""What Predict can compute: the functions of features and memory that a few instructions make, each once.

Programs whose Predict computes the same function differ only in how they learn; a search by niches keeps them together.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from zero_jax.program.memory import Interface, resolved
from zero_jax.program.ops import OPS
from zero_jax.program.space import SearchSpace
from zero_jax.search.operators.expressions import (
    FEATURES,
    Expression,
    Prediction,
    expression_of,
    identity,
    instructions,
    is_leaf,
    kind_of,
    kinds_read,
    leaves,
    memory_room,
)

MOST_STEPS = 200_000
"""How many instructions are tried, in all sequences together, before the enumeration ends."""


WITH_OP, AROUND = 0.7, 0.5
"""How often a value is replaced by one that an op computes; and how often this op reads the value replaced."""

DRAWS = 20
"""How many variations are drawn for each one that is wanted."""

MOST_LEAVES = 64
"""How often the functions that are found read features and memory at most."""


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
    return list(_predictions(space, most, interface)[0])


def all_listed(space: SearchSpace, most: int, interface: Interface | None = None) -> bool:
    """Whether `predictions` with the same arguments are all that Predict can compute."""
    return _predictions(space, most, interface)[1]


@functools.lru_cache(maxsize=16)
def _predictions(space: SearchSpace, most: int, interface: Interface | None) -> tuple[tuple[Prediction, ...], bool]:
    """What `predictions` and `all_listed` return."""
    ends = resolved(interface, space.memory)
    if not any(memory_room(space, ends)):
        raise ValueError(
            f"memory {tuple(space.memory)} has no address for what a program learns: label, features and prediction "
            "take all of it; give it one more vector"
        )
    made: dict[Expression, Prediction] = {}
    steps = itertools.count()
    for size in range(1, space.max_size[1] + 1):
        for values in _sequences(_usable(space), size, space, ends, steps):
            key = identity(values[-1])
            code = None if key in made else instructions(values, space, ends)
            if code is not None and len(made) == most:
                return tuple(made.values()), False
            if code is not None:
                made[key] = Prediction(values[-1], code)
    tried = next(steps)
    if not made:
        if tried >= MOST_STEPS:
            raise ValueError(
                f"no function of features and memory was met among the first {MOST_STEPS:,} instructions of Predict, "
                "which is too large to list: give Predict fewer ops or fewer instructions, or use --method evolution"
            )
        raise ValueError(
            "no function of features and memory can be computed by Predict in this space: allow it ops without "
            "constants, such as VECTOR_INNER_PRODUCT, or use --method evolution"
        )
    return tuple(made.values()), tried < MOST_STEPS


def _usable(space: SearchSpace) -> list[int]:
    """The ops of Predict with which the instructions alone decide what is computed."""
    return [n for n in space.ops[1] if OPS[n].inputs and not (OPS[n].random or OPS[n].constants or OPS[n].reads_output)]


def _sequences(
    ops: list[int], size: int, space: SearchSpace, ends: Any, steps: Iterator[int]
) -> Iterator[list[Expression]]:
    """Sequences of that many instructions, as the values that they compute: each is new, and a later one uses it; the
    last is the prediction. `steps` counts instructions, and ends the search at `MOST_STEPS`.
    """
    last_kind = 1 if ends[0] > ends[1] else 0  # of the prediction: scalar or vector
    room = memory_room(space, ends)

    def operands(kind: int, values: list[Expression], used: tuple[int, int, int]) -> list[Expression]:
        computed = [value for value in values if kind_of(value) == kind]
        memory = [(kind, number) for number in range(min(used[kind] + 1, room[kind]))]
        return ([FEATURES] if kind == 1 else []) + memory + computed

    def extended(values: list[Expression], used: tuple[int, int, int]) -> Iterator[list[Expression]]:
        left = size - len(values)
        if not left:
            yield values
            return
        for number in ops:
            kinds = kinds_read(number)
            if left == 1 and kind_of((number, None, None)) != last_kind:
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
        read = set(leaves(values[-1]))
        if FEATURES in read and len(read) > 1 and _unused(values) == 1:
            yield values


def _used(used: tuple[int, int, int], operand: Expression) -> tuple[int, int, int]:
    """How many leaves of each kind are in use, with one more operand."""
    if not is_leaf(operand) or operand == FEATURES or operand[1] < used[operand[0]]:
        return used
    return tuple(n + (kind == operand[0]) for kind, n in enumerate(used))


def _unused(values: list[Expression]) -> int:
    """How many values no other reads."""
    read = {part for value in values for part in value[1:]}
    return sum(value not in read for value in values)


# ---------------------------------------------------------------------------------------------- functions near others


def variation(
    expression: Expression, space: SearchSpace, rng: np.random.Generator, interface: Interface | None = None
) -> Prediction | None:
    """A function in which one value of another's is replaced by a new one, or None if Predict cannot compute it.

    The new value is features, memory or another value of the function; or an op's of such values.

    Example:
      >>> from zero_jax import Component
      >>> predict = Component(["VECTOR_INNER_PRODUCT", "VECTOR_SUM"], size=(1, 1, 9))
      >>> space = SearchSpace((3, 9, 0), Component(), predict, Component(["SCALAR_SUM"]))
      >>> rng, one = np.random.default_rng(0), predictions(space, 1)[0]
      >>> near = [variation(one.expression, space, rng) for _ in range(200)]
      >>> sorted({str(some) for some in near if some})[:3]
      ['dot((va + x), va)', 'dot((va + x), vb)', 'dot((x + va), va)']
    """
    ends = resolved(interface, space.memory)
    values = _values(expression)
    parts = [*dict.fromkeys([FEATURES, *leaves(expression)]), *values]
    used = [sum(part[0] == kind for part in parts if is_leaf(part) and part != FEATURES) for kind in range(3)]
    parts += [(kind, n) for kind, n in enumerate(used)]

    def drawn(kind: int) -> Expression:
        some = [part for part in parts if kind_of(part) == kind]
        return some[rng.integers(len(some))]

    read = [part for part in parts if part in values or part in leaves(expression)]
    old = read[rng.integers(len(read))]
    ops = [op for op in _usable(space) if kind_of((op, None, None)) == kind_of(old)]
    if ops and rng.random() < WITH_OP:
        op = ops[rng.integers(len(ops))]
        inputs = [drawn(kind) for kind in kinds_read(op)]
        fits = [place for place, kind in enumerate(kinds_read(op)) if kind == kind_of(old)]
        if fits and rng.random() < AROUND:
            inputs[fits[rng.integers(len(fits))]] = old
        new: Expression = (op, *inputs)
    else:
        new = drawn(kind_of(old))
    return _computed(_replaced(expression, old, new), space, ends)


def explored(
    predicts: np.ndarray,
    weights: np.ndarray,
    most: int,
    space: SearchSpace,
    rng: np.random.Generator,
    interface: Interface | None = None,
) -> list[tuple[int, Prediction]]:
    """Variations of known functions that are not known themselves, each with the number of the one that it varies.

    Args:
      predicts: int32 `[N, slots, 4]`, the code of the known functions.
      weights: float64 `[N]`, how likely each is varied, relative to the others.
      most: how many at most; fewer if they are not met soon.
      space: whose Predict.
      rng: where randomness comes from; it is advanced.
      interface: where label, features and prediction are; None for scalar labels.
    """
    ends = resolved(interface, space.memory)
    known = [expression_of(code, ends) for code in predicts]
    met = {identity(expression) for expression in known}
    found: list[tuple[int, Prediction]] = []
    for number in rng.choice(len(known), most * DRAWS, p=weights / weights.sum()):
        one = variation(known[number], space, rng, interface)
        if one is not None and identity(one.expression) not in met:
            met.add(identity(one.expression))
            found.append((int(number), one))
        if len(found) == most:
            break
    return found


def _values(expression: Expression) -> list[Expression]:
    """The values that have to be computed, each once and after those that it reads."""
    if is_leaf(expression):
        return []
    return list(dict.fromkeys([*(value for part in expression[1:] for value in _values(part)), expression]))


def _replaced(expression: Expression, old: Expression, new: Expression) -> Expression:
    """An expression with one value in place of another."""
    if expression == old:
        return new
    if is_leaf(expression):
        return expression
    return (expression[0], *(_replaced(part, old, new) for part in expression[1:]))


def _named(expression: Expression, names: dict[Expression, Expression]) -> Expression:
    if is_leaf(expression):
        return names.get(expression, expression)
    return (expression[0], *(_named(part, names) for part in expression[1:]))


def _computed(expression: Expression, space: SearchSpace, ends: Any) -> Prediction | None:
    """The instructions for a function, with memory named in the order of its use; None if Predict cannot be that."""
    if is_leaf(expression) or len(list(itertools.islice(leaves(expression), MOST_LEAVES + 1))) > MOST_LEAVES:
        return None
    names: dict[Expression, Expression] = {}
    for leaf in leaves(expression):
        if leaf != FEATURES and leaf not in names:
            names[leaf] = (leaf[0], sum(other[0] == leaf[0] for other in names))
    expression = _named(expression, names)
    values, room = _values(expression), memory_room(space, ends)
    reads_both = names and FEATURES in leaves(expression)
    fits = all(name[1] < room[name[0]] for name in names.values()) and len(values) <= space.max_size[1]
    code = instructions(values, space, ends) if reads_both and fits else None
    return None if code is None else Prediction(expression, code)
