"""Where programs learn, and programs that begin there with memory that others have trained.

Axes: `n` programs, `A` addresses (scalars, then vectors, then matrices).
"""

import numpy as np

from zero_jax.program import canonical as forms
from zero_jax.program.canonical import pruned, table
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs


def learned(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """`[n, A]` bool: the addresses that live instructions of Learn write, and that a step reads before it writes them.

    Example:
      >>> from zero_jax import library
      >>> learned(library.program("linear")).astype(int)    # s0 to s3, v0 to v2: the weights
      array([[0, 0, 0, 0, 0, 1, 0]])
    """
    alive, addresses = pruned(programs, interface), sum(programs.memory)
    code = np.asarray(alive.code)
    rows, each = table(programs.memory)[code[..., 0]], np.arange(len(code))
    written, carried, by_learn = np.zeros((3, len(code), addresses + 4), bool)
    _, predict, learn, end = programs.starts
    for slot in range(predict, end):
        row, fields = rows[:, slot], code[:, slot, 1:]
        inputs = ((forms.IN1, forms.HAS_IN1, 0), (forms.IN2, forms.HAS_IN2, 1), (forms.OUT, forms.KEEPS, 2))
        for column, has, field in inputs:
            address = row[:, column] + fields[:, field]
            carried[each, address] |= (row[:, has] != 0) & ~written[each, address]
        out, writes = row[:, forms.OUT] + fields[:, 2], row[:, forms.HAS_OUT] != 0
        written[each, out] |= writes
        by_learn[each, out] |= writes & (slot >= learn)
    found: np.ndarray = (carried & by_learn)[:, :addresses]
    places = resolved(interface, programs.memory)
    found[:, [places.label, places.features]] = False
    return found


def inheriting(programs: Programs, trained: np.ndarray, interface: Interface | None = None) -> Programs:
    """Programs whose Setup does not write where they learn and others have: there they begin with shared memory."""
    code = np.array(programs.code)
    setup = code[:, : programs.starts[1]]
    row = table(programs.memory)[setup[..., 0]]
    out = row[..., forms.OUT] + setup[..., 3]
    theirs = np.concatenate([learned(programs, interface) & trained, np.zeros((len(code), 4), bool)], axis=1)
    setup[np.take_along_axis(theirs, out, axis=1) & (row[..., forms.HAS_OUT] != 0)] = 0
    return programs.with_arrays(code, programs.data, programs.length)
