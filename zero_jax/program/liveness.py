"""Which instructions can reach a prediction, as array code that works on traced programs too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zero_jax.program import ops
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs

Array = jax.Array

_READS_OUTPUT = np.array([op.reads_output for op in ops.OPS])
_RANDOM = np.array([op.random for op in ops.OPS])


def liveness(programs: Programs, interface: Interface | None = None) -> Array:
    """`[P, L]` bool: whether an instruction can reach a prediction through any later step.

    The smallest solution of the usual backward equations (an instruction is live if what it writes is live after it;
    what a live instruction reads is live before it) on the order in which components run: Setup once, then Predict and
    Learn in turn, with Predict also following Predict in validation. The prediction is read after each Predict; the
    label and the features are set anew before Predict and before Learn.

    Example:
      >>> from zero_jax import library
      >>> bool(liveness(library.program("network")).all())
      True
    """
    memory, (setup, predict, learn, end) = programs.memory, programs.starts
    places = resolved(interface, memory)
    reads, writes, keeps = _uses(programs)
    addresses = sum(memory)
    batch = programs.code.shape[0]
    prediction = jnp.zeros((batch, addresses), bool).at[:, places.prediction].set(True)
    overwritten = jnp.zeros((1, addresses), bool).at[0, jnp.array([places.label, places.features])].set(True)

    def backward(after: Array, first: int, last: int) -> tuple[Array, Array]:
        """Addresses live before the slots `first` to `last - 1`, and `[slots, P]` which of those are live."""

        def instruction(live: Array, slot: Array) -> tuple[Array, Array]:
            used = (live & writes[:, slot]).any(-1)
            killed = writes[:, slot] & ~keeps[:, slot, None]
            before = (live & ~killed) | reads[:, slot]
            return jnp.where(used[:, None], before, live), used

        before, used = lax.scan(instruction, after, jnp.arange(first, last)[::-1])
        return before, used[::-1]

    def loop(before_predict: Array, before_learn: Array) -> tuple[Array, Array, Array, Array]:
        entry = before_predict & ~overwritten
        learn_in, learn_used = backward(entry, learn, end)
        after_predict = prediction | entry | ((before_learn | learn_in) & ~overwritten)
        predict_in, predict_used = backward(after_predict, predict, learn)
        return predict_in | before_predict, learn_in | before_learn, predict_used, learn_used

    def grown(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        before_predict, before_learn, _ = carry
        new_predict, new_learn, _, _ = loop(before_predict, before_learn)
        changed = (new_predict != before_predict).any() | (new_learn != before_learn).any()
        return new_predict, new_learn, changed

    nothing = jnp.zeros((batch, addresses), bool)
    before_predict, before_learn, _ = lax.while_loop(lambda c: c[2], grown, (nothing, nothing, jnp.array(True)))
    _, _, predict_used, learn_used = loop(before_predict, before_learn)
    _, setup_used = backward(before_predict & ~overwritten, setup, predict)
    return jnp.concatenate([setup_used, predict_used, learn_used]).T


def number_draws(programs: Programs, live: Any = None) -> Programs:
    """Stamps each random instruction's place in the random stream into its third constant.

    Live random instructions of a component count 0, 1, 2...; dead ones, which `execute` runs, follow behind them.
    `live` comes from `liveness`; if it is a NumPy array, NumPy does the work.
    """
    live = liveness(programs) if live is None else live
    xp: Any = np if isinstance(live, np.ndarray) else jnp
    random = xp.asarray(_RANDOM)[programs.code[..., 0]]
    ordinals = []
    for first, last in zip(programs.starts[:3], programs.starts[1:], strict=True):
        drawn, alive = random[:, first:last], live[:, first:last]
        living = xp.cumsum(drawn & alive, 1)
        dead = xp.cumsum(drawn & ~alive, 1) + (drawn & alive).sum(1, keepdims=True)
        ordinals.append(xp.where(alive, living, dead) - 1)
    ordinal = xp.concatenate(ordinals, 1).astype(np.float32)
    third = xp.where(random, ordinal, programs.data[..., 2])
    data = xp.concatenate([programs.data[..., :2], third[..., None]], -1)
    return programs.with_arrays(programs.code, data, programs.length)


def compacted(programs: Programs, live: Any) -> Programs:
    """Only the instructions that are `live` `[P, L]`, without gaps; in NumPy or in JAX, as `live` is."""
    xp: Any = jnp if isinstance(live, jax.Array) else np
    code: list[Any] = []
    data: list[Any] = []
    lengths: list[Any] = []
    for first, last in zip(programs.starts[:3], programs.starts[1:], strict=True):
        part = live[:, first:last]
        order = xp.argsort(~part, axis=1, stable=True)
        kept = xp.take_along_axis(part, order, 1)[..., None]
        for arrays, values in ((code, programs.code), (data, programs.data)):
            moved = xp.take_along_axis(xp.asarray(values)[:, first:last], order[..., None], 1)
            arrays.append(xp.where(kept, moved, xp.zeros((), moved.dtype)))
        lengths.append(part.sum(1))
    length = xp.stack(lengths, 1).astype(np.int32)
    return programs.with_arrays(xp.concatenate(code, 1), xp.concatenate(data, 1), length)


def _uses(programs: Programs) -> tuple[Array, Array, Array]:
    """`[P, L, A]` addresses read, `[P, L, A]` address written, `[P, L]` whether the write keeps the rest of its output.

    `A` counts scalars, then vectors, then matrices.
    """
    offset = jnp.asarray(np.cumsum([0, *programs.memory[:2]]))
    everywhere = jnp.arange(sum(programs.memory))[None, None]
    code = jnp.asarray(programs.code)
    op = code[..., 0]

    def one_hot(kinds: np.ndarray, address: Array) -> Array:
        kind = jnp.asarray(kinds)[op]
        return (kind >= 0)[..., None] & ((address + offset[kind])[..., None] == everywhere)

    read = one_hot(ops.INPUT_KINDS[:, 0], code[..., 1]) | one_hot(ops.INPUT_KINDS[:, 1], code[..., 2])
    return read, one_hot(ops.OUTPUT_KINDS, code[..., 3]), jnp.asarray(_READS_OUTPUT)[op]
