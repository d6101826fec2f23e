"""The 65 ops: number, name, signature, constants, listing form and function. The single source of truth.

Executors trace these functions; printing, parsing, random generation and dataflow read the same rows.

Letters used for the kinds of address: ``s`` scalar, ``v`` vector, ``m`` matrix.

A function takes and returns a scalar `[...]`, a vector `[..., F]` or a matrix `[..., F, F]`, with any batch axes in
front, or behind, as an executor lays them out (`Features`); what it returns broadcasts to the shape of its output.
Functions are made of elementwise operations and sums (the product of matrices of outer products), so that they can be
vmapped and lowered by any backend. How to sum is the executor's to say, since compilers differ in what they can do and
do well.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

Value = Any  # a JAX array or tracer

KINDS: tuple[str, ...] = ("s", "v", "m")
"""The three kinds of memory, in the order in which memory sizes are given."""

UNROLL = 16
"""Sums of at most so many terms are written out as a chain of additions. That fixes their order, and XLA on a CPU
fuses the chain where it would call a loop of its own for `jnp.sum`: the `linear` space runs 1.4 times as fast."""


@dataclasses.dataclass(frozen=True)
class Op:
    """One row of the table.

    Attributes:
      number: 0 to 64, upstream's enumeration.
      name: upstream's name without its ``_OP`` suffix.
      inputs: the kind of `in1`, then of `in2`: ``""``, ``"s"``, ``"sv"``...
      output: the kind of `out`, or ``""`` for NO_OP.
      form: the listing form, with ``{o}``, ``{a}``, ``{b}`` for the three addresses, ``{0}`` to ``{2}`` for constants.
      constants: what each constant means: ``bound``, ``mean``, ``stdev``, ``value`` or ``index``.
      fn: the function. Its arguments are, in this order and as far as the row has them: the inputs; the old value of
        the output (`reads_output`); the constants; two uniform draws of the output's shape (`random`).
      reads_output: whether the instruction keeps part of what its output held (57 and 58 set a single element).
      random: whether the instruction draws random numbers.
      featured: whether the function's first argument is `Features`, before all others.
      product: whether it takes functions in place of its two matrices: one that gives a column of in1 by its number,
        `[..., F]`, and one that gives a row of in2. Some executors can slice what is in memory, but not a value.
    """

    number: int
    name: str
    inputs: str
    output: str
    form: str
    constants: tuple[str, ...] = ()
    fn: Callable[..., Value] = lambda: None
    reads_output: bool = False
    random: bool = False
    featured: bool = False
    product: bool = False

    def value(self, features: "Features", *args: Value) -> Value:
        """The function's value; `args` as `fn` says, `Features` left out."""
        return self.fn(features, *args) if self.featured else self.fn(*args)


# ---------------------------------------------------------------------------------------------- building blocks


class Features(NamedTuple):
    """The axis of features, as an executor lays it out.

    Attributes:
      size: F. Arrays may be longer, with zeros behind.
      total: sums along an axis, the last or the last but one.
      matrices: the sum of `term(k)`, a matrix, over all features k.
      behind: how many batch axes lie behind those of features, rather than in front.
    """

    size: int
    total: Callable[[Value, int], Value]
    matrices: Callable[[Callable[[Value], Value]], Value]
    behind: int = 0

    def expand(self, x: Value, axis: int) -> Value:
        """A value with one more axis of features, of length 1: the last or the last but one."""
        return jnp.expand_dims(x, axis - self.behind)

    def transpose(self, a: Value) -> Value:
        """A matrix with its two axes of features exchanged."""
        return jnp.swapaxes(a, -1 - self.behind, -2 - self.behind)

    def numbers(self, x: Value, axis: int) -> Value:
        """0, 1, 2... along one axis of features."""
        return lax.broadcasted_iota(jnp.int32, x.shape, x.ndim + axis - self.behind)


def unrolled_features(size: int) -> Features:
    """Sums as XLA does them best: few terms are written out."""

    def matrices(term: Callable[[Value], Value]) -> Value:
        if size > UNROLL:
            return lax.fori_loop(1, size, lambda k, sum_: sum_ + term(k), term(0))
        return functools.reduce(lambda sum_, k: sum_ + term(k), range(1, size), term(0))

    return Features(size, chained_total, matrices)


def chained_total(x: Value, axis: int) -> Value:
    """The sum along one axis, first element first; beyond `UNROLL` terms in an order that XLA chooses."""
    n = x.shape[axis]
    if n > UNROLL:
        return jnp.sum(x, axis)
    terms = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(n)]
    out = terms[0]
    for term in terms[1:]:
        out = out + term
    return out


def _dot(features: Features, a: Value, b: Value) -> Value:
    return features.total(a * b, -1)


def _matvec(features: Features, a: Value, b: Value) -> Value:
    return features.total(a * features.expand(b, -2), -1)


def _mean(axis: int) -> Callable[[Features, Value], Value]:
    return lambda features, a: features.total(a, axis) * (1.0 / features.size)


def _norm(axis: int) -> Callable[[Features, Value], Value]:
    return lambda features, a: jnp.sqrt(features.total(a * a, axis))


def _matrix_total(features: Features, a: Value) -> Value:
    return features.total(features.total(a, -1), -1)


def _matrix_mean(features: Features, a: Value) -> Value:
    return _matrix_total(features, a) * (1.0 / features.size**2)


def _matrix_norm(features: Features, a: Value) -> Value:
    return jnp.sqrt(_matrix_total(features, a * a))


def _stdev(rank: int) -> Callable[[Features, Value], Value]:
    """Over so many axes of features. Sums are of differences to the first value, so that equal values have a deviation
    of exactly 0, however an executor rounds: as a difference of two means it is 0 or NaN by chance.
    """

    def masked(features: Features, x: Value, numbers: int) -> Value:
        """Zeros from that number on, along each axis."""
        for axis in range(-1, -1 - rank, -1):
            x = jnp.where(features.numbers(x, axis) < numbers, x, 0.0)
        return x

    def total(features: Features, x: Value) -> Value:
        return functools.reduce(features.total, (-1,) * rank, x)

    def around(features: Features, x: Value, centre: Value) -> Value:
        return masked(features, x - functools.reduce(features.expand, (-1,) * rank, centre), features.size)

    def stdev(features: Features, a: Value) -> Value:
        share = 1.0 / features.size**rank
        shifted = around(features, a, total(features, masked(features, a, 1)))
        centred = around(features, shifted, total(features, shifted) * share)
        return jnp.sqrt(total(features, centred * centred) * share)

    return stdev


def _step(x: Value) -> Value:
    return jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


def _outer(features: Features, a: Value, b: Value) -> Value:
    return features.expand(a, -1) * features.expand(b, -2)


def _scaled_vector(features: Features, a: Value, b: Value) -> Value:
    return features.expand(a, -1) * b


def _scaled_matrix(features: Features, a: Value, b: Value) -> Value:
    return features.expand(features.expand(a, -1), -1) * b


def _matmul(features: Features, column: Callable[[Value], Value], row: Callable[[Value], Value]) -> Value:
    """A sum of outer products, so that nothing larger than a matrix is ever held."""
    return features.matrices(lambda k: _outer(features, column(k), row(k)))


def _place(features: Features, index: Value) -> Value:
    """The element that an index constant in [0, 1) names."""
    return jnp.clip(jnp.floor(index * features.size), 0, features.size - 1).astype(jnp.int32)


def _set_vector(features: Features, old: Value, index: Value, value: Value) -> Value:
    return jnp.where(features.numbers(old, -1) == _place(features, index), value, old)


def _set_matrix(features: Features, old: Value, row: Value, column: Value, value: Value) -> Value:
    here = (features.numbers(old, -2) == _place(features, row)) & (
        features.numbers(old, -1) == _place(features, column)
    )
    return jnp.where(here, value, old)


def _uniform(low: Value, high: Value, u: Value, _: Value) -> Value:
    return jnp.where(low > high, low, low + (high - low) * u)


def _gaussian(mean: Value, stdev: Value, u: Value, w: Value) -> Value:
    """Box and Muller: 1 - u is in (0, 1], so the logarithm is finite."""
    return mean + stdev * (jnp.sqrt(-2.0 * jnp.log(1.0 - u)) * jnp.cos((2.0 * jnp.pi) * w))


def _add(a: Value, b: Value) -> Value:
    return a + b


def _sub(a: Value, b: Value) -> Value:
    return a - b


def _mul(a: Value, b: Value) -> Value:
    return a * b


def _div(a: Value, b: Value) -> Value:
    return a / b


def _reciprocal(a: Value) -> Value:
    return 1.0 / a


def _min(a: Value, b: Value) -> Value:
    return jnp.where(b < a, b, a)


def _max(a: Value, b: Value) -> Value:
    return jnp.where(a < b, b, a)


def _matrix_min(a: Value, b: Value) -> Value:
    return jnp.where(a < b, a, b)


def _matrix_max(a: Value, b: Value) -> Value:
    return jnp.where(a > b, a, b)


# ---------------------------------------------------------------------------------------------- the table

_INFIX = "{o} = {a} %s {b}"


def _call(name: str, *rest: str) -> str:
    return "{o} = " + f"{name}({', '.join(('{a}', *rest))})"


def _row(name: str, signature: str, form: str, fn: Callable[..., Value], **more: Any) -> tuple[Any, ...]:
    inputs, output = signature.split(">")
    return name, inputs, output, form, fn, more


def _drawn(name: str, fn: Callable[..., Value], constants: tuple[str, ...]) -> list[tuple[Any, ...]]:
    shapes = {"s": "", "v": ", n_features", "m": ", (n_features, n_features)"}
    kinds = {"s": "SCALAR", "v": "VECTOR", "m": "MATRIX"}
    return [
        _row(
            f"{kinds[k]}_{name.upper()}_SET",
            f">{k}",
            "{o} = " + f"{name}({{0}}, {{1}}{shapes[k]})",
            fn,
            constants=constants,
            random=True,
        )
        for k in KINDS
    ]


_ROWS: list[tuple[Any, ...]] = [
    _row("NO_OP", ">", "NoOp()", lambda: None),
    _row("SCALAR_SUM", "ss>s", _INFIX % "+", _add),
    _row("SCALAR_DIFF", "ss>s", _INFIX % "-", _sub),
    _row("SCALAR_PRODUCT", "ss>s", _INFIX % "*", _mul),
    _row("SCALAR_DIVISION", "ss>s", _INFIX % "/", _div),
    _row("SCALAR_ABS", "s>s", _call("abs"), jnp.abs),
    _row("SCALAR_RECIPROCAL", "s>s", "{o} = 1 / {a}", _reciprocal),
    _row("SCALAR_SIN", "s>s", _call("sin"), jnp.sin),
    _row("SCALAR_COS", "s>s", _call("cos"), jnp.cos),
    _row("SCALAR_TAN", "s>s", _call("tan"), jnp.tan),
    _row("SCALAR_ARCSIN", "s>s", _call("arcsin"), jnp.arcsin),
    _row("SCALAR_ARCCOS", "s>s", _call("arccos"), jnp.arccos),
    _row("SCALAR_ARCTAN", "s>s", _call("arctan"), jnp.arctan),
    _row("SCALAR_EXP", "s>s", _call("exp"), jnp.exp),
    _row("SCALAR_LOG", "s>s", _call("log"), jnp.log),
    _row("SCALAR_HEAVYSIDE", "s>s", _call("heaviside", "1.0"), lambda a: jnp.where(a >= 0, 1.0, 0.0).astype(a.dtype)),
    _row("VECTOR_HEAVYSIDE", "v>v", _call("heaviside", "1.0"), _step),
    _row("MATRIX_HEAVYSIDE", "m>m", _call("heaviside", "1.0"), _step),
    _row("SCALAR_VECTOR_PRODUCT", "sv>v", _INFIX % "*", _scaled_vector, featured=True),
    _row("SCALAR_BROADCAST", "s>v", _call("bcast"), lambda f, a: f.expand(a, -1), featured=True),
    _row("VECTOR_RECIPROCAL", "v>v", "{o} = 1 / {a}", _reciprocal),
    _row("VECTOR_NORM", "v>s", _call("norm"), _norm(-1), featured=True),
    _row("VECTOR_ABS", "v>v", _call("abs"), jnp.abs),
    _row("VECTOR_SUM", "vv>v", _INFIX % "+", _add),
    _row("VECTOR_DIFF", "vv>v", _INFIX % "-", _sub),
    _row("VECTOR_PRODUCT", "vv>v", _INFIX % "*", _mul),
    _row("VECTOR_DIVISION", "vv>v", _INFIX % "/", _div),
    _row("VECTOR_INNER_PRODUCT", "vv>s", _call("dot", "{b}"), _dot, featured=True),
    _row("VECTOR_OUTER_PRODUCT", "vv>m", _call("outer", "{b}"), _outer, featured=True),
    _row("SCALAR_MATRIX_PRODUCT", "sm>m", _INFIX % "*", _scaled_matrix, featured=True),
    _row("MATRIX_RECIPROCAL", "m>m", "{o} = 1 / {a}", _reciprocal),
    _row("MATRIX_VECTOR_PRODUCT", "mv>v", _call("dot", "{b}"), _matvec, featured=True),
    _row("VECTOR_COLUMN_BROADCAST", "v>m", _call("bcast", "axis=0"), lambda f, a: f.expand(a, -1), featured=True),
    _row("VECTOR_ROW_BROADCAST", "v>m", _call("bcast", "axis=1"), lambda f, a: f.expand(a, -2), featured=True),
    _row("MATRIX_NORM", "m>s", _call("norm"), _matrix_norm, featured=True),
    _row("MATRIX_COLUMN_NORM", "m>v", _call("norm", "axis=0"), _norm(-2), featured=True),
    _row("MATRIX_ROW_NORM", "m>v", _call("norm", "axis=1"), _norm(-1), featured=True),
    _row("MATRIX_TRANSPOSE", "m>m", _call("transpose"), lambda f, a: f.transpose(a), featured=True),
    _row("MATRIX_ABS", "m>m", _call("abs"), jnp.abs),
    _row("MATRIX_SUM", "mm>m", _INFIX % "+", _add),
    _row("MATRIX_DIFF", "mm>m", _INFIX % "-", _sub),
    _row("MATRIX_PRODUCT", "mm>m", _INFIX % "*", _mul),
    _row("MATRIX_DIVISION", "mm>m", _INFIX % "/", _div),
    _row("MATRIX_MATRIX_PRODUCT", "mm>m", _call("matmul", "{b}"), _matmul, featured=True, product=True),
    _row("SCALAR_MIN", "ss>s", _call("minimum", "{b}"), _min),
    _row("VECTOR_MIN", "vv>v", _call("minimum", "{b}"), _min),
    _row("MATRIX_MIN", "mm>m", _call("minimum", "{b}"), _matrix_min),
    _row("SCALAR_MAX", "ss>s", _call("maximum", "{b}"), _max),
    _row("VECTOR_MAX", "vv>v", _call("maximum", "{b}"), _max),
    _row("MATRIX_MAX", "mm>m", _call("maximum", "{b}"), _matrix_max),
    _row("VECTOR_MEAN", "v>s", _call("mean"), _mean(-1), featured=True),
    _row("MATRIX_MEAN", "m>s", _call("mean"), _matrix_mean, featured=True),
    _row("MATRIX_ROW_MEAN", "m>v", _call("mean", "axis=1"), _mean(-1), featured=True),
    _row("MATRIX_ROW_ST_DEV", "m>v", _call("std", "axis=1"), _stdev(1), featured=True),
    _row("VECTOR_ST_DEV", "v>s", _call("std"), _stdev(1), featured=True),
    _row("MATRIX_ST_DEV", "m>s", _call("std"), _stdev(2), featured=True),
    _row("SCALAR_CONST_SET", ">s", "{o} = {0}", lambda c: c, constants=("value",)),
    _row(
        "VECTOR_CONST_SET",
        ">v",
        "{o}[{0}] = {1}",
        _set_vector,
        constants=("index", "value"),
        reads_output=True,
        featured=True,
    ),
    _row(
        "MATRIX_CONST_SET",
        ">m",
        "{o}[{0}, {1}] = {2}",
        _set_matrix,
        constants=("index", "index", "value"),
        reads_output=True,
        featured=True,
    ),
    *_drawn("uniform", _uniform, ("bound", "bound")),
    *_drawn("gaussian", _gaussian, ("mean", "stdev")),
]

OPS: tuple[Op, ...] = tuple(
    Op(
        number,
        name,
        inputs,
        output,
        form,
        more.get("constants", ()),
        fn,
        *(bool(more.get(k)) for k in ("reads_output", "random", "featured", "product")),
    )
    for number, (name, inputs, output, form, fn, more) in enumerate(_ROWS)
)
"""All 65 ops; `OPS[number]` is the op of that number.

Example:
  >>> OPS[27].name, OPS[27].inputs, OPS[27].output
  ('VECTOR_INNER_PRODUCT', 'vv', 's')
"""

BY_NAME: dict[str, Op] = {op.name: op for op in OPS}
"""The ops by upstream's name without ``_OP``."""

RANDOM: frozenset[int] = frozenset(op.number for op in OPS if op.random)
"""The numbers of the ops that draw random numbers: 59 to 64."""

INPUT_KINDS: np.ndarray = np.array(
    [[KINDS.index(op.inputs[i]) if i < len(op.inputs) else -1 for i in (0, 1)] for op in OPS]
)
"""`[65, 2]` the kind of in1 and of in2 as an index into `KINDS`, -1 where the op has none."""

OUTPUT_KINDS: np.ndarray = np.array([KINDS.index(op.output) if op.output else -1 for op in OPS])
"""`[65]` the kind of out as an index into `KINDS`, -1 for NO_OP."""

CONSTANT_COUNTS: np.ndarray = np.array([len(op.constants) for op in OPS])
"""`[65]` how many constants each op has."""

CONSTANT_MEANINGS: np.ndarray = np.array([[*op.constants, "", "", ""][:3] for op in OPS])
"""`[65, 3]` what each constant of each op means, empty where the op has none."""
