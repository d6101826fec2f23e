"""The op table: every fact about the 65 ops, one row each. The single source of truth.

Executors trace the ops' functions (`functions.py`) or compile their C forms; printing, parsing, random generation,
dataflow, the canonical form and the cost of programs read the same rows. Kinds of address: `s` scalar, `v` vector,
`m` matrix.
"""

import dataclasses
import difflib
import enum
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from zero_jax.program import functions as f
from zero_jax.program.functions import Features as Features
from zero_jax.program.functions import Value
from zero_jax.program.functions import unrolled_features as unrolled_features
from zero_jax.support.foreign import shown

KINDS: tuple[str, ...] = ("s", "v", "m")
"""The three kinds of memory, in the order of memory sizes."""

Zero = Literal["union", "product", "quotient", "difference", "never"]
"""When the value of an op is certainly 0: if all inputs are (`union`), if one is (`product`), if the first is
(`quotient`), if all are or both are the same address (`difference`), or never."""


@dataclasses.dataclass(frozen=True)
class Op:
    """One row of the table.

    Attributes:
      number: 0 to 64, upstream's enumeration.
      name: upstream's name without its `_OP` suffix.
      inputs: the kind of `in1`, then of `in2`: `""`, `"s"`, `"sv"`...
      output: the kind of `out`, or `""` for NO_OP.
      form: the listing form, with `{o}`, `{a}`, `{b}` for the three addresses, `{0}` to `{2}` for constants.
      fn: the function. Its arguments, in this order and if the row has them: the inputs; the old value of the output
        (`reads_output`); the constants; two uniform draws of the output's shape (`random`).
      cost: upstream's measured time, in its own units (`tests/golden/upstream_costs.json`).
      c: a C statement that sets `o`, one element of the output: the only one, element `i` of a vector, or `(i, j)` of
        a matrix. It may read `a` and `b`, the inputs' elements at that place (scalars have the same one everywhere);
        `VA(i)`, `VB(i)`, `MA(i, j)`, `MB(i, j)`, any element of the first or second input; `F`; the constants `c0` to
        `c2`; two uniform draws `u` and `w` of this element; and `o`, its old value. It may use int `k` and `r`.
      constants: what each constant means: `bound`, `mean`, `stdev`, `value` or `index`.
      zero: when the value is certainly 0, and so depends on nothing (see `Zero`); else it depends on all inputs.
      commutative: whether the inputs may change places. Not for min and max: there the order decides about NaN.
      reads_output: whether part of the old output is kept; the CONST_SETs of vectors and matrices set one element.
      random: whether the op draws random numbers.
      featured: whether the function's first argument is `Features`, before all others.
      matrix_product: whether each element of the output is an inner product with a row or column of a matrix.
      product: whether the function takes two functions in place of its matrices: the first gives a column of in1 by
        number, `[..., F]`, the second a row of in2. Some executors can slice memory, but not a value.
    """

    number: int
    name: str
    inputs: str
    output: str
    form: str
    fn: Callable[..., Value]
    cost: float
    c: str
    constants: tuple[str, ...] = ()
    zero: Zero = "union"
    commutative: bool = False
    reads_output: bool = False
    random: bool = False
    featured: bool = False
    matrix_product: bool = False
    product: bool = False

    def value(self, features: Features, *args: Value) -> Value:
        """The function's value; `args` as for `fn`, without `Features`."""
        return self.fn(features, *args) if self.featured else self.fn(*args)

    def operations(self, features: int) -> float:
        """Floating-point operations at F features: one for each element of the largest operand or output, but all of
        them for products of matrices.
        """
        rank = max((KINDS.index(kind) for kind in self.inputs + self.output), default=-1)
        if self.matrix_product:
            return float(features ** KINDS.index(self.output) * (2 * features - 1))
        return float(features) ** rank if rank >= 0 else 0.0


# ---------------------------------------------------------------------------------------------- the table

_INFIX = "{o} = {a} %s {b}"
_ROOT = " o = sqrtf(o);"
_SHARE = " o *= 1.0f / F;"
_PLACE = "(c{0} * F > 0.0f ? (int)(c{0} * F < F - 1.0f ? c{0} * F : F - 1.0f) : 0)".format
_UNIFORM = "o = c0 > c1 ? c0 : fmaf(c1 - c0, u, c0);"
_GAUSSIAN = "o = c0 + c1 * (sqrtf(-2.0f * logf(1.0f - u)) * cosf(6.28318531f * w));"


def _call(name: str, *rest: str) -> str:
    return "{o} = " + f"{name}({', '.join(('{a}', *rest))})"


def _total(term: str) -> str:
    return f"o = 0.0f; for (k = 0; k < F; k++) o += {term};"


def _double_total(term: str) -> str:
    return f"o = 0.0f; for (r = 0; r < F; r++) for (k = 0; k < F; k++) o += {term};"


def _deviation(size: str, x: str, first: str) -> str:
    """As `functions.stdev`."""
    mean = f"float mean = 0.0f; for (k = 0; k < {size}; k++) mean += {x} - {first}; mean *= 1.0f / ({size});"
    square = f"float d = ({x} - {first}) - mean; o += d * d;"
    return f"{{ {mean} o = 0.0f; for (k = 0; k < {size}; k++) {{ {square} }} o = sqrtf(o * (1.0f / ({size}))); }}"


def _row(
    name: str, signature: str, form: str, fn: Callable[..., Value], cost: float, c: str, **facts: Any
) -> Callable[[int], Op]:
    inputs, output = signature.split(">")
    return lambda number: Op(number, name, inputs, output, form, fn, cost, c, **facts)


# fmt: off
_ROWS = [
    _row("NO_OP", ">", "NoOp()", lambda: None, 3_013_921, ""),
    _row("SCALAR_SUM", "ss>s", _INFIX % "+", f.add, 4_703_759, "o = a + b;", commutative=True),
    _row("SCALAR_DIFF", "ss>s", _INFIX % "-", f.subtract, 5_102_027, "o = a - b;", zero="difference"),
    _row("SCALAR_PRODUCT", "ss>s", _INFIX % "*", f.multiply, 4_418_347, "o = a * b;", zero="product", commutative=True),
    _row("SCALAR_DIVISION", "ss>s", _INFIX % "/", f.divide, 3_963_916, "o = a / b;", zero="quotient"),
    _row("SCALAR_ABS", "s>s", _call("abs"), jnp.abs, 3_684_352, "o = fabsf(a);"),
    _row("SCALAR_RECIPROCAL", "s>s", "{o} = 1 / {a}", f.reciprocal, 4_212_086, "o = 1.0f / a;", zero="never"),
    _row("SCALAR_SIN", "s>s", _call("sin"), jnp.sin, 7_538_523, "o = sinf(a);"),
    _row("SCALAR_COS", "s>s", _call("cos"), jnp.cos, 7_452_807, "o = cosf(a);", zero="never"),
    _row("SCALAR_TAN", "s>s", _call("tan"), jnp.tan, 7_583_203, "o = tanf(a);"),
    _row("SCALAR_ARCSIN", "s>s", _call("arcsin"), jnp.arcsin, 9_145_616, "o = asinf(a);"),
    _row("SCALAR_ARCCOS", "s>s", _call("arccos"), jnp.arccos, 7_673_039, "o = acosf(a);", zero="never"),
    _row("SCALAR_ARCTAN", "s>s", _call("arctan"), jnp.arctan, 9_273_978, "o = atanf(a);"),
    _row("SCALAR_EXP", "s>s", _call("exp"), jnp.exp, 11_755_929, "o = expf(a);", zero="never"),
    _row("SCALAR_LOG", "s>s", _call("log"), jnp.log, 11_627_725, "o = logf(a);", zero="never"),
    _row(
        "SCALAR_HEAVYSIDE", "s>s", _call("heaviside", "1.0"), f.heaviside, 4_057_075,
        "o = a >= 0.0f ? 1.0f : 0.0f;", zero="never",
    ),
    _row("VECTOR_HEAVYSIDE", "v>v", _call("heaviside", "1.0"), f.step, 3_965_743, "o = a > 0.0f ? 1.0f : 0.0f;"),
    _row("MATRIX_HEAVYSIDE", "m>m", _call("heaviside", "1.0"), f.step, 6_728_311, "o = a > 0.0f ? 1.0f : 0.0f;"),
    _row(
        "SCALAR_VECTOR_PRODUCT", "sv>v", _INFIX % "*", f.scaled_vector, 3_705_015,
        "o = a * b;", zero="product", featured=True,
    ),
    _row(
        "SCALAR_BROADCAST", "s>v", _call("bcast"), lambda features, a: features.expand(a, -1), 4_165_814,
        "o = a;", featured=True,
    ),
    _row("VECTOR_RECIPROCAL", "v>v", "{o} = 1 / {a}", f.reciprocal, 6_311_851, "o = 1.0f / a;", zero="never"),
    _row("VECTOR_NORM", "v>s", _call("norm"), f.norm(-1), 4_810_562, _total("VA(k) * VA(k)") + _ROOT, featured=True),
    _row("VECTOR_ABS", "v>v", _call("abs"), jnp.abs, 3_713_533, "o = fabsf(a);"),
    _row("VECTOR_SUM", "vv>v", _INFIX % "+", f.add, 4_701_519, "o = a + b;", commutative=True),
    _row("VECTOR_DIFF", "vv>v", _INFIX % "-", f.subtract, 4_165_747, "o = a - b;", zero="difference"),
    _row("VECTOR_PRODUCT", "vv>v", _INFIX % "*", f.multiply, 4_504_555, "o = a * b;", zero="product", commutative=True),
    _row("VECTOR_DIVISION", "vv>v", _INFIX % "/", f.divide, 4_556_237, "o = a / b;", zero="quotient"),
    _row(
        "VECTOR_INNER_PRODUCT", "vv>s", _call("dot", "{b}"), f.dot, 4_294_617,
        _total("VA(k) * VB(k)"), zero="product", commutative=True, featured=True,
    ),
    _row(
        "VECTOR_OUTER_PRODUCT", "vv>m", _call("outer", "{b}"), f.outer, 9_833_707,
        "o = VA(i) * VB(j);", zero="product", featured=True,
    ),
    _row(
        "SCALAR_MATRIX_PRODUCT", "sm>m", _INFIX % "*", f.scaled_matrix, 5_986_302,
        "o = a * b;", zero="product", featured=True,
    ),
    _row("MATRIX_RECIPROCAL", "m>m", "{o} = 1 / {a}", f.reciprocal, 24_336_141, "o = 1.0f / a;", zero="never"),
    _row(
        "MATRIX_VECTOR_PRODUCT", "mv>v", _call("dot", "{b}"), f.matvec, 9_310_002,
        _total("MA(i, k) * VB(k)"), zero="product", featured=True, matrix_product=True,
    ),
    _row(
        "VECTOR_COLUMN_BROADCAST", "v>m", _call("bcast", "axis=0"),
        lambda features, a: features.expand(a, -1), 10_993_088, "o = VA(i);",
        featured=True,
    ),
    _row(
        "VECTOR_ROW_BROADCAST", "v>m", _call("bcast", "axis=1"), lambda features, a: features.expand(a, -2), 11_087_322,
        "o = VA(j);", featured=True,
    ),
    _row(
        "MATRIX_NORM", "m>s", _call("norm"), f.matrix_norm, 6_422_746,
        _double_total("MA(r, k) * MA(r, k)") + _ROOT, featured=True,
    ),
    _row(
        "MATRIX_COLUMN_NORM", "m>v", _call("norm", "axis=0"), f.norm(-2), 6_682_187,
        _total("MA(k, i) * MA(k, i)") + _ROOT, featured=True,
    ),
    _row(
        "MATRIX_ROW_NORM", "m>v", _call("norm", "axis=1"), f.norm(-1), 13_351_123,
        _total("MA(i, k) * MA(i, k)") + _ROOT, featured=True,
    ),
    _row(
        "MATRIX_TRANSPOSE", "m>m", _call("transpose"), lambda features, a: features.transpose(a), 9_394_756,
        "o = MA(j, i);", featured=True,
    ),
    _row("MATRIX_ABS", "m>m", _call("abs"), jnp.abs, 4_630_926, "o = fabsf(a);"),
    _row("MATRIX_SUM", "mm>m", _INFIX % "+", f.add, 5_579_381, "o = a + b;", commutative=True),
    _row("MATRIX_DIFF", "mm>m", _INFIX % "-", f.subtract, 5_429_452, "o = a - b;", zero="difference"),
    _row("MATRIX_PRODUCT", "mm>m", _INFIX % "*", f.multiply, 5_475_227, "o = a * b;", zero="product", commutative=True),
    _row("MATRIX_DIVISION", "mm>m", _INFIX % "/", f.divide, 18_234_378, "o = a / b;", zero="quotient"),
    _row(
        "MATRIX_MATRIX_PRODUCT", "mm>m", _call("matmul", "{b}"), f.matmul, 14_516_296,
        _total("MA(i, k) * MB(k, j)"), zero="product", featured=True, matrix_product=True, product=True,
    ),
    _row("SCALAR_MIN", "ss>s", _call("minimum", "{b}"), f.minimum, 3_677_265, "o = b < a ? b : a;"),
    _row("VECTOR_MIN", "vv>v", _call("minimum", "{b}"), f.minimum, 3_989_956, "o = b < a ? b : a;"),
    _row("MATRIX_MIN", "mm>m", _call("minimum", "{b}"), f.matrix_minimum, 5_457_728, "o = a < b ? a : b;"),
    _row("SCALAR_MAX", "ss>s", _call("maximum", "{b}"), f.maximum, 4_573_695, "o = a < b ? b : a;"),
    _row("VECTOR_MAX", "vv>v", _call("maximum", "{b}"), f.maximum, 3_974_229, "o = a < b ? b : a;"),
    _row("MATRIX_MAX", "mm>m", _call("maximum", "{b}"), f.matrix_maximum, 5_840_952, "o = a > b ? a : b;"),
    _row("VECTOR_MEAN", "v>s", _call("mean"), f.mean(-1), 4_280_443, _total("VA(k)") + _SHARE, featured=True),
    _row(
        "MATRIX_MEAN", "m>s", _call("mean"), f.matrix_mean, 4_595_196,
        _double_total("MA(r, k)") + " o *= 1.0f / (F * F);", featured=True,
    ),
    _row(
        "MATRIX_ROW_MEAN", "m>v", _call("mean", "axis=1"), f.mean(-1), 9_763_956,
        _total("MA(i, k)") + _SHARE, featured=True,
    ),
    _row(
        "MATRIX_ROW_ST_DEV", "m>v", _call("std", "axis=1"), f.stdev(1), 16_766_477,
        _deviation("F", "MA(i, k)", "MA(i, 0)"), featured=True,
    ),
    _row("VECTOR_ST_DEV", "v>s", _call("std"), f.stdev(1), 5_585_730, _deviation("F", "VA(k)", "VA(0)"), featured=True),
    _row(
        "MATRIX_ST_DEV", "m>s", _call("std"), f.stdev(2), 10_640_216,
        _deviation("F * F", "MA(k / F, k % F)", "MA(0, 0)"), featured=True,
    ),
    _row(
        "SCALAR_CONST_SET", ">s", "{o} = {0}", lambda value: value, 3_691_108,
        "o = c0;", constants=("value",), zero="never",
    ),
    _row(
        "VECTOR_CONST_SET", ">v", "{o}[{0}] = {1}", f.set_vector, 3_991_421,
        f"if (i == {_PLACE(0)}) o = c1;", constants=("index", "value"), zero="never", reads_output=True, featured=True,
    ),
    _row(
        "MATRIX_CONST_SET", ">m", "{o}[{0}, {1}] = {2}",
        f.set_matrix, 3_693_035, f"if (i == {_PLACE(0)} && j == {_PLACE(1)}) o = c2;",
        constants=("index", "index", "value"), zero="never", reads_output=True, featured=True,
    ),
    _row(
        "SCALAR_UNIFORM_SET", ">s", "{o} = uniform({0}, {1})", f.uniform, 26_610_704,
        _UNIFORM, constants=("bound", "bound"), zero="never", random=True,
    ),
    _row(
        "VECTOR_UNIFORM_SET", ">v", "{o} = uniform({0}, {1}, n_features)", f.uniform, 57_817_372,
        _UNIFORM, constants=("bound", "bound"), zero="never", random=True,
    ),
    _row(
        "MATRIX_UNIFORM_SET", ">m", "{o} = uniform({0}, {1}, (n_features, n_features))", f.uniform, 208_339_446,
        _UNIFORM, constants=("bound", "bound"), zero="never", random=True,
    ),
    _row(
        "SCALAR_GAUSSIAN_SET", ">s", "{o} = gaussian({0}, {1})", f.gaussian, 20_775_635,
        _GAUSSIAN, constants=("mean", "stdev"), zero="never", random=True,
    ),
    _row(
        "VECTOR_GAUSSIAN_SET", ">v", "{o} = gaussian({0}, {1}, n_features)", f.gaussian, 77_483_018,
        _GAUSSIAN, constants=("mean", "stdev"), zero="never", random=True,
    ),
    _row(
        "MATRIX_GAUSSIAN_SET", ">m", "{o} = gaussian({0}, {1}, (n_features, n_features))", f.gaussian, 277_690_384,
        _GAUSSIAN, constants=("mean", "stdev"), zero="never", random=True,
    ),
]
# fmt: on

OPS: tuple[Op, ...] = tuple(row(number) for number, row in enumerate(_ROWS))
"""All 65 ops; `OPS[number]` is the op of that number.

Example:
  >>> OPS[27].name, OPS[27].inputs, OPS[27].output
  ('VECTOR_INNER_PRODUCT', 'vv', 's')
"""

BY_NAME: dict[str, Op] = {op.name: op for op in OPS}
"""The ops by upstream's name without `_OP`."""


def _enumerated() -> Any:
    return enum.IntEnum("Number", {op.name: op.number for op in OPS}, module=__name__)


Number = _enumerated()
"""The numbers by name, for code that Numba compiles.

Example:
  >>> int(Number.VECTOR_INNER_PRODUCT)
  27
"""

RANDOM: frozenset[int] = frozenset(op.number for op in OPS if op.random)
"""The numbers of the ops that draw random numbers."""

COMMUTATIVE: tuple[int, ...] = tuple(op.number for op in OPS if op.commutative)
"""The numbers of the ops whose inputs may change places."""

COSTS: np.ndarray = np.array([op.cost for op in OPS])
"""`[65]` upstream's measured time of each op, in its own units."""

INPUT_KINDS: np.ndarray = np.array(
    [[KINDS.index(op.inputs[i]) if i < len(op.inputs) else -1 for i in (0, 1)] for op in OPS]
)
"""`[65, 2]` the kind of in1 and of in2 as an index into `KINDS`, -1 where the op has none."""

OUTPUT_KINDS: np.ndarray = np.array([KINDS.index(op.output) if op.output else -1 for op in OPS])
"""`[65]` the kind of out as an index into `KINDS`, -1 for NO_OP."""

CONSTANT_COUNTS: np.ndarray = np.array([len(op.constants) for op in OPS])
"""`[65]` the number of constants of each op."""

CONSTANT_MEANINGS: np.ndarray = np.array([[*op.constants, "", "", ""][:3] for op in OPS])
"""`[65, 3]` what each constant of each op means, empty where the op has none."""

ZERO_RULES: tuple[Zero, ...] = get_args(Zero)

ZERO_KINDS: np.ndarray = np.array([ZERO_RULES.index(op.zero) for op in OPS])
"""`[65]` when an op's value is certainly 0, as an index into `ZERO_RULES`."""


def number_of(op: Any) -> int:
    """The number of an op given by number or by name, with or without upstream's suffix.

    Raises:
      ValueError: there is no such op; the message suggests the closest name.

    Example:
      >>> number_of("VECTOR_INNER_PRODUCT"), number_of("VECTOR_INNER_PRODUCT_OP"), number_of(27)
      (27, 27, 27)
      >>> number_of("VECTOR_INNERPRODUCT")
      Traceback (most recent call last):
      ValueError: unknown op 'VECTOR_INNERPRODUCT'; did you mean 'VECTOR_INNER_PRODUCT'?
    """
    text = op.strip().upper().removesuffix("_OP") if isinstance(op, str) else ""
    text = "NO_OP" if text == "NO" else text
    if text in BY_NAME:
        return BY_NAME[text].number
    if isinstance(op, str) and not re.fullmatch("[+-]?[0-9]{1,9}", text):
        close = [name for name in BY_NAME if text and name.startswith(text)]
        close = close or difflib.get_close_matches(text[:100], BY_NAME, 1, cutoff=0.0)
        raise ValueError(f"unknown op {shown(op)}; did you mean {close[0]!r}?")
    if isinstance(op, bool) or not isinstance(op, int | np.integer | str):
        raise ValueError(f"an op is given by name or number, not {shown(op)}")
    number = int(op)
    if not 0 <= number < len(OPS):
        raise ValueError(f"there is no op {shown(number)} (ops are 0 to {len(OPS) - 1})")
    return number
