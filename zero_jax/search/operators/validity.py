"""Statically rejects programs that cannot learn.

Axes: `P` programs, `L` instruction slots, `A` addresses (scalars, then vectors, then matrices).
"""

import numpy as np

from zero_jax.program import ops
from zero_jax.program.canonical import HAS_IN1, HAS_IN2, IN1, IN2, KEEPS, OUT, table
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import compiled, entry_point

LAPS = 3
"""After how many more examples what was learnt must still matter."""

_ANY, _LABEL, _NOW, _FEATURES, _PREDICTION = 1, 2, 4, 8, 16
"""What a value depends on, as bits: whether it can differ from 0; the label of the marked example; the features of the
present one; the features of the marked one; the prediction for the marked one."""

_PRODUCT, _QUOTIENT, _DIFFERENCE, _NEVER = map(ops.ZERO_RULES.index, ("product", "quotient", "difference", "never"))


def can_learn(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    r"""`[P]` bool: whether label, features and prediction of one example can all matter to predictions long after it;
    and whether predictions depend on their own features.

    Any other program memorises at best the last examples, or learns without looking at its mistakes. Values are
    followed through `LAPS` more examples as sets of what they depend on. Values that are certainly zero (products with
    memory that nothing has written, differences of a value and itself) depend on nothing.

    Args:
      programs: `P` programs, dead code or not.
      interface: where label, features and prediction are; None for scalar labels.

    Example:
      >>> from zero_jax import library
      >>> bool(can_learn(library.program("linear"))[0]), bool(can_learn(library.program("network"))[0])
      (True, True)
      >>> last = "def Predict(): s1 = dot(v1, v0)\ndef Learn(): v1 = s0 * v0"
      >>> bool(can_learn(Programs.parse(last, memory=(2, 2, 0)))[0])    # the label of the last example alone
      False
    """
    return conditions(programs, interface) == CONDITIONS


CONDITIONS = 5
"""How many conditions `can_learn` asks for."""


def conditions(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """`[P]` int64: how many of them hold: a way to climb up to programs that can learn."""
    code, length = np.ascontiguousarray(programs.code, np.int32), np.ascontiguousarray(programs.length, np.int32)
    held = np.zeros(len(code), np.int64)
    values = np.zeros(sum(programs.memory), np.int64)
    ends = np.array(resolved(interface, programs.memory))
    _all(code, length, np.array(programs.starts), table(programs.memory), ops.ZERO_KINDS, ends, values, held)
    return held


@compiled
def _run(code, first, last, table, kinds, values):  # type: ignore[no-untyped-def]
    for k in range(first, last):
        op = code[k, 0]
        if op == 0:
            continue
        x = values[table[op, IN1] + code[k, 1]] if table[op, HAS_IN1] else 0
        y = values[table[op, IN2] + code[k, 2]] if table[op, HAS_IN2] else 0
        out, kind, value = table[op, OUT] + code[k, 3], kinds[op], x | y
        if kind == _PRODUCT:
            value = value if x & y & _ANY else 0
        elif kind == _QUOTIENT:
            value = value if x & _ANY else 0
        elif kind == _DIFFERENCE:
            value = 0 if code[k, 1] == code[k, 2] else value
        elif kind == _NEVER:
            value |= _ANY
        values[out] = value | (values[out] if table[op, KEEPS] else 0)


@entry_point
def _all(code, length, starts, table, kinds, ends, values, held):  # type: ignore[no-untyped-def]
    label, features, prediction = ends
    for p in range(len(code)):
        for a in range(len(values)):
            values[a] = 0
        _run(code[p], starts[0], starts[0] + length[p, 0], table, kinds, values)
        for lap in range(LAPS + 3):  # two without marks, so that what stays zero shows
            for a in range(len(values)):
                values[a] &= ~_NOW
            values[label], values[features] = 0, _ANY | _NOW
            _run(code[p], starts[1], starts[1] + length[p, 1], table, kinds, values)
            if lap == LAPS + 2:
                break
            marked = lap == 2
            values[prediction] |= _PREDICTION if marked else 0
            values[label] = _ANY | (_LABEL if marked else 0)
            values[features] = _ANY | (_FEATURES if marked else 0)
            _run(code[p], starts[2], starts[2] + length[p, 2], table, kinds, values)
        held[p] = 0
        for bit in range(CONDITIONS):
            held[p] += (values[prediction] >> bit) & 1
