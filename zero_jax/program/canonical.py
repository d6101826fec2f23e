"""Dead code, canonical form and hash of whole populations, on the host.

`dataflow.py` finds the same dead code in traced programs. Axes: `P` programs, `L` instruction slots, `A` addresses
(scalars, then vectors, then matrices).
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from zero_jax.program import ops
from zero_jax.program.liveness import compacted
from zero_jax.program.memory import Interface, MemorySize, resolved
from zero_jax.program.programs import Programs
from zero_jax.support import threads as parallel
from zero_jax.support.compiled import compiled, compiled_into_caller, entry_point, index


class Canonical(NamedTuple):
    """Programs in canonical form.

    Attributes:
      programs: programs that do the same, without dead code.
      hashes: `[P, 2]` uint64: equal for programs that are equal, and for others with a probability of about 2**-128.
    """

    programs: Programs
    hashes: np.ndarray


def canonical(programs: Programs, threads: int | None = None, interface: Interface | None = None) -> Canonical:
    """Programs without dead code, their addresses renamed by first use and operands of sums and products in order.

    Programs of one canonical form have the same fitness, bit for bit: only dead instructions go, random instructions
    keep their places in the stream, and an operand that no live instruction writes is always zero, whatever its name.

    Args:
      programs: `P` valid programs, not traced.
      threads: the number of threads; by default one per core.
      interface: where label, features and prediction live; by default that of scalar labels.

    Returns:
      `Canonical`.

    Example:
      >>> instructions = [[[56, 0, 0, 3, 0.01]], [[27, 0, 2, 1]], [[2, 0, 1, 2]]]
      >>> print(canonical(Programs.from_lists([instructions], memory=(4, 3, 0))).programs.listing(0))
      def Setup():
      def Predict():
        s1 = dot(v0, v1)
      def Learn():
    """
    old_code, old_data, old_length = _arrays(programs)
    code, data, length = np.zeros_like(old_code), np.zeros_like(old_data), np.zeros_like(old_length)
    n = len(code)
    hashes = np.zeros((n, 2), np.uint64)
    old = (old_code, old_data, old_data.view(np.uint32), old_length)

    def work(first: int, last: int) -> None:
        _canonical_all(*old, first, last, *_layout(programs, interface), code, data, length, hashes)

    parallel.split(work, n, _WORTH_A_THREAD, threads)
    return Canonical(programs.with_arrays(code, data, length), hashes)


_WORTH_A_THREAD = 500
"""With fewer programs a thread would take longer to wake than to do its work."""


def live(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """`[P, L]` bool: whether an instruction can reach a prediction through any later step.

    Example:
      >>> from zero_jax import library
      >>> bool(live(library.program("network")).all())
      True
    """
    code, _, length = _arrays(programs)
    used = np.zeros(code.shape[:2], np.bool_)
    _live_all(code, length, *_layout(programs, interface), used)
    return used


def for_other_labels(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """`[P]` bool: whether programs seem made for the other kind of labels: Predict writes only that kind's prediction.

    For scalar labels no other component may write s1 either, since vectors have other uses more often.

    Example:
      >>> from zero_jax import library
      >>> for_other_labels(library.program("softmax_linear")), for_other_labels(library.program("linear"))
      (array([ True]), array([False]))
    """
    code, _, length = _arrays(programs)
    row = table(programs.memory)[code[..., 0]]
    written = np.where(row[..., HAS_OUT] != 0, row[..., OUT] + code[..., 3], -1)
    for first, last, n in zip(programs.starts, programs.starts[1:], length.T, strict=False):
        written[:, first:last][np.arange(last - first) >= n[:, None]] = -1
    predict = written[:, programs.starts[1] : programs.starts[2]]
    vector = (predict == programs.memory.scalars + 2).any(1) & (programs.memory.vectors > 2)
    if interface is not None and interface.is_vector:
        return (predict == 1).any(1) & ~vector
    return vector & ~(written == 1).any(1)


def pruned(programs: Programs, interface: Interface | None = None) -> Programs:
    """Programs without their dead code, otherwise as they are.

    Example:
      >>> from zero_jax import library
      >>> network = library.program("network")
      >>> pruned(network).listing() == network.listing()
      True
    """
    return compacted(programs, live(programs, interface))


def _layout(
    programs: Programs, interface: Interface | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Any, ...]]:
    """The first slot of each component, the table of ops, the interface, and scratch memory for the loops below."""
    slots, addresses = programs.starts[-1], sum(programs.memory)
    names = np.zeros((3, addresses + 4), np.int64)
    names[2] = [*np.repeat([0, 1, 2], programs.memory), 0, 1, 2, 3]
    forms = (np.zeros(slots + 1, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64), *names)
    bits = (np.zeros(slots, np.uint64), np.zeros(slots, np.uint64), np.zeros(slots, np.uint64))
    scratch = (bits, np.zeros(slots, np.bool_), forms, np.zeros((3, addresses), np.bool_))
    ends = np.array(resolved(interface, programs.memory))
    return np.array(programs.starts), table(programs.memory), ends, scratch


def _arrays(programs: Programs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code, data and length as the loops take them."""
    return (
        np.ascontiguousarray(programs.code, np.int32),
        np.ascontiguousarray(programs.data, np.float32),
        np.ascontiguousarray(programs.length, np.int32),
    )


# ---------------------------------------------------------------------------------------------- the table of ops

IN1, IN2, OUT, CONSTANTS, SWAPS, RANDOM, HAS_IN1, HAS_IN2, HAS_OUT, KEEPS = range(10)
"""The columns: the first address of the kind of each field, one beyond the last where there is no field; how many
constants; whether operands may change places; whether it is random; then, as all bits or none: for each field whether
there is one, and whether part of the output is kept."""


@functools.cache
def table(memory: MemorySize) -> np.ndarray:
    """What the loops below need to know of each op: `[65, 10]` int64."""
    kinds = np.stack([*ops.INPUT_KINDS.T, ops.OUTPUT_KINDS], axis=1)
    first = np.array([0, memory.scalars, memory.scalars + memory.vectors, sum(memory) + 3])[kinds]
    rest = [
        ops.CONSTANT_COUNTS,
        np.array([op.commutative for op in ops.OPS]),
        np.array([op.random for op in ops.OPS]),
        *-(kinds >= 0).T.astype(np.int64),
        -np.array([op.reads_output for op in ops.OPS]).astype(np.int64),
    ]
    return np.concatenate([first, np.stack(rest, axis=1)], axis=1).astype(np.int64)


# ---------------------------------------------------------------------------------------------- liveness


@compiled_into_caller
def decode(code, length, starts, table, bits):  # type: ignore[no-untyped-def]
    """Sets `bits`: what each instruction reads, writes and keeps of its output; a bit per address (at most 64)."""
    one = np.uint64(1)
    for c in range(3):
        start = index(starts[c])
        for k in range(start, start + index(length[c])):
            op = index(code[k, 0])
            first = (one << np.uint64(table[op, IN1] + code[k, 1])) & np.uint64(table[op, HAS_IN1])
            second = (one << np.uint64(table[op, IN2] + code[k, 2])) & np.uint64(table[op, HAS_IN2])
            out = (one << np.uint64(table[op, OUT] + code[k, 3])) & np.uint64(table[op, HAS_OUT])
            bits[0][k], bits[1][k], bits[2][k] = first | second, out, out & np.uint64(table[op, KEEPS])


@compiled_into_caller
def backward(first, last, live, bits, used):  # type: ignore[no-untyped-def]
    """What is live before some instructions, given what is after; `used` tells which of them are.

    An instruction is live if what it writes is live after it; then what it reads is live before it.
    """
    for i in range(last - first):
        k = index(last - 1 - i)
        out = bits[1][k]
        alive = (live & out) != np.uint64(0)
        used[k] = alive
        before = (live & ~out) | bits[0][k] | bits[2][k]
        live = before if alive else live
    return live


@compiled_into_caller
def liveness(length, starts, ends, bits, used):  # type: ignore[no-untyped-def]
    """Finds the live instructions of a program, `used` `[L]`: the smallest solution, as `dataflow.liveness`.

    Returns what is live after Setup, Predict and Learn, as bits. `ends`: `[3]` int64, the `Interface`.
    """
    one = np.uint64(1)
    set_anew, prediction = (one << np.uint64(ends[0])) | (one << np.uint64(ends[1])), one << np.uint64(ends[2])
    before_predict, before_learn = np.uint64(0), np.uint64(0)
    while True:
        after_learn = before_predict & ~set_anew
        learn = before_learn | backward(starts[2], starts[2] + length[2], after_learn, bits, used)
        after_predict = ((learn | before_predict) & ~set_anew) | prediction
        predict = before_predict | backward(starts[1], starts[1] + length[1], after_predict, bits, used)
        if predict == before_predict and learn == before_learn:
            break
        before_predict, before_learn = predict, learn
    backward(starts[0], starts[0] + length[0], after_learn, bits, used)
    return after_learn, after_predict, after_learn


@compiled
def _walk(code, first, last, live, used, table):  # type: ignore[no-untyped-def]
    """As `backward`, with `live` a bool for each address."""
    for k in range(last - 1, first - 1, -1):
        op = code[k, 0]
        used[k] = op > 0 and live[table[op, OUT] + code[k, 3]]
        if used[k]:
            if not table[op, KEEPS]:
                live[table[op, OUT] + code[k, 3]] = False
            if table[op, HAS_IN1]:
                live[table[op, IN1] + code[k, 1]] = True
            if table[op, HAS_IN2]:
                live[table[op, IN2] + code[k, 2]] = True


@compiled
def _wide_liveness(code, length, starts, ends, flags, used, table):  # type: ignore[no-untyped-def]
    """As `liveness`, for more than 64 addresses; `flags` `[3, A]` is scratch."""
    live, before_predict, before_learn = flags[0], flags[1], flags[2]
    before_predict[:], before_learn[:] = False, False
    growing = True
    while growing:
        growing = False
        for component in (2, 1):
            for a in range(len(live)):
                live[a] = before_predict[a] or (before_learn[a] and component == 1)
            live[ends[0]], live[ends[1]] = False, False
            live[ends[2]] = live[ends[2]] or component == 1
            _walk(code, starts[component], starts[component] + length[component], live, used, table)
            known = before_learn if component == 2 else before_predict
            for a in range(len(live)):
                growing = growing or (live[a] and not known[a])
                known[a] = known[a] or live[a]
    for a in range(len(live)):
        live[a] = before_predict[a]
    live[ends[0]], live[ends[1]] = False, False
    _walk(code, starts[0], starts[0] + length[0], live, used, table)


@compiled_into_caller
def _find_live(code, length, starts, table, ends, scratch):  # type: ignore[no-untyped-def]
    bits, used, _, flags = scratch
    if flags.shape[1] > 64:
        _wide_liveness(code, length, starts, ends, flags, used, table)
        return
    decode(code, length, starts, table, bits)
    liveness(length, starts, ends, bits, used)


# ---------------------------------------------------------------------------------------------- the canonical form


@compiled
def _role(instruction, address, table):  # type: ignore[no-untyped-def]
    """How an instruction uses an address, as a number; both operands of sums and products count the same."""
    op = instruction[0]
    first = int(table[op, IN1] + instruction[1] == address)
    second = int(table[op, IN2] + instruction[2] == address)
    out = int(table[op, OUT] + instruction[3] == address)
    return first + (1 if table[op, SWAPS] else 2) * second + 4 * out


@compiled
def _swapped_by_use(code, length, starts, a, b, used, table):  # type: ignore[no-untyped-def]
    """Whether a program uses address b before address a, or in the greater role.

    Neither has a name yet, so the answer must not depend on the addresses. Both are written somewhere, and no
    instruction writes two, so there is one that uses them differently.
    """
    for c in range(3):
        for k in range(starts[c], starts[c] + length[c]):
            if used[k]:
                x, y = _role(code[k], a, table), _role(code[k], b, table)
                if x != y:
                    return y > x
    return False


@compiled_into_caller
def _mixed(h, word, factor):  # type: ignore[no-untyped-def]
    """One step of a 64-bit hash: multiply, and fold the upper half in."""
    h = (h ^ word) * factor
    return h ^ (h >> np.uint64(29))


@compiled_into_caller
def _list_live(code, length, starts, used, slots, last, written, table, ends):  # type: ignore[no-untyped-def]
    """The slots of live instructions, one after the other, and where each component's end, `last`; and which addresses
    they write: label, features and prediction count as written, and so does the place of a field that is not there.
    """
    for a in range(len(written)):
        written[a] = 0
    n, nowhere = index(0), len(written) - 1
    for c in range(3):
        start = index(starts[c])
        for k in range(start, start + index(length[c])):
            slots[n] = k
            written[index(table[index(code[k, 0]), OUT] + code[k, 3] if used[k] else nowhere)] = 1
            n += index(used[k])
        last[c] = n
    written[index(ends[0])], written[index(ends[1])], written[index(ends[2])], written[nowhere] = 1, 1, 1, 1


_UNNAMED = 1 << 30


@compiled_into_caller
def _canonical(code, data, bits, length, starts, used, scratch, to_code, to_data, to_length, hashes, table, ends):  # type: ignore[no-untyped-def]
    """Copies the live instructions of a program, renaming; and hashes them.

    Few branches, since a processor could not foresee them. `scratch`: slots `[L + 1]`; their ends and the next free
    name of each kind `[2, 4]`; whether an address is written, its name, its kind `[3, A + 4]`. Addresses that no live
    instruction writes are zero, and those of a kind share a name: the three places behind the addresses.
    """
    slots, last, free, written, names, kinds = scratch
    _list_live(code, length, starts, used, slots, last, written, table, ends)
    for a in range(len(names)):
        names[a] = -1
    addresses = len(names) - 4
    vectors = ends[0] > ends[1]  # labels and predictions are
    first = ends[1] if vectors else 0
    names[ends[0]], names[ends[1]], names[ends[2]], names[addresses + 3] = ends[0] - first, 0, ends[2] - first, 0
    free[0], free[1], free[2], free[3] = 0 if vectors else 2, 3 if vectors else 1, 0, 0
    h, g = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
    p, q = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    i = 0
    for c in range(3):
        n, first_live = index(starts[c]), i
        for j in range(last[c] - first_live):
            k = index(slots[index(first_live + j)])
            op = index(code[k, 0])
            a, b = index(table[op, IN1] + code[k, 1]), index(table[op, IN2] + code[k, 2])  # type: ignore[assignment]
            a = a if written[a] else index(addresses + kinds[a])  # type: ignore[assignment]
            b = b if written[b] else index(addresses + kinds[b])
            # Operands of sums and products: by name, then an unnamed zero, then others without a name.
            x = names[a] if names[a] >= 0 else _UNNAMED - (a >= addresses)
            y = names[b] if names[b] >= 0 else _UNNAMED - (b >= addresses)
            swap = table[op, SWAPS] & (y < x)
            if table[op, SWAPS] and x == _UNNAMED and y == x and a != b:
                swap = _swapped_by_use(code, length, starts, a, b, used, table)
            first, second = (b if swap else a), (a if swap else b)
            to_code[n, 0] = code[k, 0]
            word = np.uint64(op)
            for field in range(3):
                place = first if field == 0 else (second if field == 1 else index(table[op, OUT] + code[k, 3]))
                kind, name = index(kinds[place]), names[place]
                new = name < 0
                name = free[kind] if new else name
                free[kind] += new
                names[place] = name
                to_code[n, index(field + 1)] = name
                word = (word << np.uint64(19)) ^ np.uint64(name)
            h, g = _mixed(h, word, p), _mixed(g, word, q)
            for field in range(index(table[op, CONSTANTS])):
                to_data[n, field] = data[k, field]
                h, g = _mixed(h, np.uint64(bits[k, field]), p), _mixed(g, np.uint64(bits[k, field]), q)
            n += index(1)
        i = last[c]
        to_length[c] = i - first_live
        h, g = _mixed(h, np.uint64(to_length[c]), p), _mixed(g, np.uint64(to_length[c]), q)
    hashes[0], hashes[1] = _mixed(h, g >> np.uint64(32), q), _mixed(g, h >> np.uint64(32), p)


@entry_point
def _live_all(code, length, starts, table, ends, scratch, out):  # type: ignore[no-untyped-def]
    for p in range(code.shape[0]):
        _find_live(code[p], length[p], starts, table, ends, scratch)
        for c in range(3):
            for k in range(starts[c], starts[c] + length[p, c]):
                out[p, k] = scratch[1][k]


@entry_point
def _canonical_all(  # type: ignore[no-untyped-def]
    code, data, bits, length, first, last, starts, table, ends, scratch, to_code, to_data, to_length, hashes
):  # fmt: skip
    for p in range(first, last):
        _find_live(code[p], length[p], starts, table, ends, scratch)
        _canonical(
            code[p], data[p], bits[p], length[p], starts, scratch[1], scratch[2],
            to_code[p], to_data[p], to_length[p], hashes[p], table, ends,
        )  # fmt: skip
