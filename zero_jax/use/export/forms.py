"""The ops as expressions of NumPy and JAX, and the helpers that some of them need.

In a form `{a}` and `{b}` are the inputs, `{old}` is the former value of the output, `{0}` to `{2}` are the constants,
`{n}` is the number of features, `{np}` the module, and `{draw}` the call that gives two arrays of uniform numbers of
the output's shape.
"""

from zero_jax.program import ops

_INFIX = {"SUM": "+", "DIFF": "-", "PRODUCT": "*", "DIVISION": "/"}
_CALLS = {
    "ABS": "abs", "SIN": "sin", "COS": "cos", "TAN": "tan", "ARCSIN": "arcsin", "ARCCOS": "arccos",
    "ARCTAN": "arctan", "EXP": "exp", "LOG": "log", "MEAN": "mean",
}  # fmt: skip

_SPECIAL = {
    "SCALAR_HEAVYSIDE": "{np}.float32({a} >= 0)",
    "VECTOR_HEAVYSIDE": "({a} > 0).astype({np}.float32)",
    "MATRIX_HEAVYSIDE": "({a} > 0).astype({np}.float32)",
    "SCALAR_VECTOR_PRODUCT": "{a} * {b}",
    "SCALAR_MATRIX_PRODUCT": "{a} * {b}",
    "VECTOR_INNER_PRODUCT": "{a} @ {b}",
    "MATRIX_VECTOR_PRODUCT": "{a} @ {b}",
    "MATRIX_MATRIX_PRODUCT": "{a} @ {b}",
    "VECTOR_OUTER_PRODUCT": "{np}.outer({a}, {b})",
    "SCALAR_BROADCAST": "{np}.full({n}, {a}, {np}.float32)",
    "VECTOR_COLUMN_BROADCAST": "{np}.tile({a}[:, None], (1, {n}))",
    "VECTOR_ROW_BROADCAST": "{np}.tile({a}, ({n}, 1))",
    "VECTOR_NORM": "{np}.sqrt({np}.sum({a} * {a}))",
    "MATRIX_NORM": "{np}.sqrt({np}.sum({a} * {a}))",
    "MATRIX_COLUMN_NORM": "{np}.sqrt({np}.sum({a} * {a}, axis=0))",
    "MATRIX_ROW_NORM": "{np}.sqrt({np}.sum({a} * {a}, axis=1))",
    "MATRIX_TRANSPOSE": "{a}.T",
    "MATRIX_ROW_MEAN": "{np}.mean({a}, axis=1)",
    "VECTOR_ST_DEV": "deviation({a})",
    "MATRIX_ST_DEV": "deviation({a})",
    "MATRIX_ROW_ST_DEV": "{np}.array([deviation(row) for row in {a}])",
    "MATRIX_MIN": "{np}.where({a} < {b}, {a}, {b})",
    "MATRIX_MAX": "{np}.where({a} > {b}, {a}, {b})",
    "SCALAR_CONST_SET": "{np}.float32({0})",
    "VECTOR_CONST_SET": "with_element({old}, {1}, {0})",
    "MATRIX_CONST_SET": "with_element({old}, {2}, {0}, {1})",
}
"""Where the name of an op does not say it. Of two values of which one is NaN, the minimum and maximum of scalars and
vectors are the first, those of matrices the second."""


def form(op: ops.Op) -> str:
    """The expression of one op.

    Example:
      >>> form(ops.BY_NAME["VECTOR_INNER_PRODUCT"]), form(ops.BY_NAME["SCALAR_MAX"])
      ('{a} @ {b}', '{np}.where({a} < {b}, {b}, {a})')
    """
    if op.name in _SPECIAL:
        return _SPECIAL[op.name]
    last = op.name.split("_", 1)[1]
    if last in _INFIX:
        return f"{{a}} {_INFIX[last]} {{b}}"
    if last in _CALLS:
        return f"{{np}}.{_CALLS[last]}({{a}})"
    if last == "RECIPROCAL":
        return "1.0 / {a}"
    if last == "MIN":
        return "{np}.where({b} < {a}, {b}, {a})"
    if last == "MAX":
        return "{np}.where({a} < {b}, {b}, {a})"
    return {"UNIFORM_SET": "uniform({0}, {1}, {draw})", "GAUSSIAN_SET": "gaussian({0}, {1}, {draw})"}[last]


HELPERS = {
    "deviation": '''
def deviation(values):
    """The standard deviation, exactly 0 for equal values."""
    shifted = values - values.ravel()[0]
    centred = shifted - {np}.mean(shifted)
    return {np}.sqrt({np}.mean(centred * centred))
''',
    "with_element": '''
def with_element(values, value, *places):
    """A copy with one element replaced; a place is a share of the length, from 0 to 1."""
    n = len(values)
    at = tuple(int(np.clip(np.nan_to_num(np.float32(place) * np.float32(n)), 0, n - 1)) for place in places)
    {replace}
''',
    "draws": '''
def draws(seed, number, shape):
    """Two arrays of uniform numbers in [0, 1): PCG4D (Jarzynski and Olano, 2020) of the seed, element and number."""
    element = {np}.arange(math.prod(shape), dtype={np}.uint32).reshape(shape)
    words = [{np}.uint32(seed) + 0 * element, 0 * element, element, {np}.uint32(number) + 0 * element]
    x, y, z, w = (word * {np}.uint32(1664525) + {np}.uint32(1013904223) for word in words)
    x = x + y * w
    y = y + z * x
    z = z + x * y
    w = w + y * z
    x, y, z, w = (word ^ (word >> {np}.uint32(16)) for word in (x, y, z, w))
    x = x + y * w
    y = y + z * x
    return tuple((word >> {np}.uint32(8)).astype({np}.float32) * {np}.float32(2**-24) for word in (x, y))
''',
    "uniform": '''
def uniform(low, high, drawn):
    """Drawn from U(low, high)."""
    low, high = {np}.float32(low), {np}.float32(high)
    return {np}.where(low > high, low, low + (high - low) * drawn[0]).astype({np}.float32)
''',
    "gaussian": '''
def gaussian(mean, deviation, drawn):
    """Drawn from N(mean, deviation), by Box and Muller."""
    size = {np}.sqrt(-2.0 * {np}.log(1.0 - drawn[0]))
    return ({np}.float32(mean) + {np}.float32(deviation) * size * {np}.cos(2.0 * np.pi * drawn[1])).astype({np}.float32)
''',
}
"""Functions that a module may need, by name."""
