"""The loops of `mutation.py` for local moves, which look at the flow of data.

They share a file for the reason given in `mutation_loops.py`, and are only compiled where a search uses moves.
Addresses count through all of memory: scalars, then vectors, then matrices. Axes: `L` instruction slots, `A` addresses.

`at` int64 `[3 * L]` holds the addresses that a program uses, -1 for none: of each slot what it reads, what else it
reads, and what it writes. So its positions are in order of time, and position p belongs to slot p // 3.
`marks` int64 `[A]` holds what is known of each address (the bits below) just before some instruction.
"""

import numpy as np

from zero_jax.support.compiled import compiled, entry_point, generator_at

FIRST_MOVE = 9
"""The number of the first type that is a move."""

_RECONNECT, _DUPLICATE, _REMOVE, _VALUE, _CONSTANT, _UPDATE = range(FIRST_MOVE, FIRST_MOVE + 6)

_KNOWN, _COMPUTED, _WRITTEN, _CARRIED, _LEAF, _USED = 2 ** np.arange(6)
"""Whether an address holds a value that the instruction may read: written before on this example, set by Setup, carried
over from the last example, features or label; whether that value was computed from others; whether Predict or Learn
writes it; whether they read it before they write it; whether a chain may read it; and whether one has."""

_NONE, _UP, _DOWN, _LEARN = np.array([-1, 1, -1, 2])
"""Typed, since Numba compiles a function once for each literal number that it is called with."""

TRIES = 20
"""How many draws are tried; if none fits, a move leaves the program as it is."""

ONE, TWO = 0.2, 0.6
"""How often a value is rebuilt by one instruction, and by two; else by three (Mishima & Ono)."""


@entry_point
def move_all(code, data, length, chosen, types, space, scratch, address):  # type: ignore[no-untyped-def]
    """Applies the moves that `mutate_all` has drawn."""
    rng = generator_at(address)
    for i in range(len(code)):
        kind = types[chosen[i, 1]]
        if chosen[i, 0] != 0 and kind >= FIRST_MOVE:
            _move_one(code[i], data[i], length[i], kind, chosen[i, 2], space, scratch, rng)


@compiled
def _move_one(code, data, length, kind, c, space, scratch, rng):  # type: ignore[no-untyped-def]
    at = scratch[0]
    for p in range(len(at)):
        kind_of = space.fields[code[p // 3, 0], p % 3]
        at[p] = space.sizes[3, kind_of] + code[p // 3, p % 3 + 1] if kind_of >= 0 else -1
    first, fewest, most = space.sizes[0, c], space.sizes[1, c], space.sizes[2, c]
    n, k, before, own = length[c], _NONE, _NONE, _NONE
    if kind == _UPDATE:
        c, k = _LEARN, _update(space, scratch, rng)
        own = at[3 * k + 2] if k >= 0 else _NONE
    elif n == 0:
        return
    elif kind == _RECONNECT or kind == _CONSTANT:
        _reconnect(code, first, n, c, kind == _CONSTANT, space, scratch, rng)
    elif kind == _DUPLICATE and n < most:
        _duplicate(code, data, length, c, space, scratch, rng)
    elif kind == _REMOVE and n > fewest:
        gone = first + int(rng.random() * n)
        if _mend(code, gone, c, space, scratch, rng):
            _shift(code, data, length, c, gone, _DOWN, space)
    elif kind == _VALUE:
        k, before = _value(first, n, c, space, scratch, rng)
    if k >= 0:
        _rebuild(code, data, length, c, k, before, own, space, scratch, rng)


# ---------------------------------------------------------------------------------------------- what a program does


@compiled
def _mark(k, c, space, scratch):  # type: ignore[no-untyped-def]
    """Fills `marks` for slot k of component c."""
    at, marks = scratch[0], scratch[1]
    loop, label, features = 3 * space.sizes[0, 1], space.ends[0], space.ends[1]
    for a in range(len(marks)):
        marks[a] = 0
    for p in range(len(at)):
        a = at[p]
        if a < 0:
            continue
        if p % 3 < 2:
            if p >= loop and not marks[a] & _WRITTEN:
                marks[a] |= _CARRIED
        else:
            if p >= loop:
                marks[a] |= _WRITTEN
            if p < 3 * k:
                marks[a] |= _KNOWN
            if at[p - 2] >= 0:
                marks[a] |= _COMPUTED
    if c > 0:
        for a in range(len(marks)):
            if marks[a] & _CARRIED and marks[a] & _WRITTEN:
                marks[a] |= _KNOWN
        marks[features] |= _KNOWN | _COMPUTED
        if c == 2:
            marks[label] |= _KNOWN | _COMPUTED


@compiled
def _reader(at, first, last, address):  # type: ignore[no-untyped-def]
    """The next position that reads an address before one writes it; -1 if none does."""
    for p in range(first, last):
        if at[p] == address:
            return p if p % 3 < 2 else -1
    return -1


@compiled
def _writer(at, first, last, address):  # type: ignore[no-untyped-def]
    """The last slot between two positions that writes an address; -1 if none does."""
    for p in range(last - 1, first - 1, -1):
        if p % 3 == 2 and at[p] == address:
            return p // 3
    return -1


@compiled
def _pick(first, last, besides, bits, wanted, marks, rng):  # type: ignore[no-untyped-def]
    """A random address of a range, other than one, whose bits are as wanted; -1 if there is none."""
    chosen, n = _NONE, 0
    for a in range(first, last):
        if a != besides and marks[a] & bits == wanted:
            n += 1
            if rng.random() * n < 1:
                chosen = a
    return chosen


@compiled
def _unused(kind, c, position, until, space, scratch, rng):  # type: ignore[no-untyped-def]
    """A random address of a kind whose value nothing reads from a position on, and nothing writes until another one;
    -1 if there is none.
    """
    at, marks = scratch[0], scratch[1]
    chosen, n = _NONE, 0
    busy = _CARRIED if c > 0 else _CARRIED | _WRITTEN
    for a in range(space.sizes[3, kind] + int(kind < 2), space.sizes[3, kind + 1]):
        if marks[a] & busy or a == space.ends[0] or a == space.ends[1] or a == space.ends[2]:
            continue
        if _reader(at, position, len(at), a) < 0 and _writer(at, position, until, a) < 0:
            n += 1
            if rng.random() * n < 1:
                chosen = a
    return chosen


@compiled
def _open(p, space):  # type: ignore[no-untyped-def]
    """Whether the component of a position may be changed."""
    return space.sizes[4, int(p >= 3 * space.sizes[0, 1]) + int(p >= 3 * space.sizes[0, 2])] != 0


@compiled
def _set(code, p, address, space):  # type: ignore[no-untyped-def]
    """Another address at a position."""
    code[p // 3, p % 3 + 1] = address - space.sizes[3, space.fields[code[p // 3, 0], p % 3]]


@compiled
def _copy(code, data, source, to):  # type: ignore[no-untyped-def]
    for i in range(4):
        code[to, i] = code[source, i]
    for i in range(3):
        data[to, i] = data[source, i]


@compiled
def _shift(code, data, length, c, k, by, space):  # type: ignore[no-untyped-def]
    """Moves the instructions behind slot k one up, or one down over it."""
    end = space.sizes[0, c] + length[c]
    for step in range(end - k - 1):
        source = k + 1 + step if by < 0 else end - 1 - step
        _copy(code, data, source, source + by)
    if by < 0:
        code[end - 1], data[end - 1] = 0, 0
    length[c] += by


# ---------------------------------------------------------------------------------------------- the moves


@compiled
def _reconnect(code, first, n, c, turns, space, scratch, rng):  # type: ignore[no-untyped-def]
    """One input reads another value; if `turns`, a constant turns into a computed value or the other way round."""
    at, marks = scratch[0], scratch[1]
    for _ in range(TRIES):
        p = 3 * first + int(rng.random() * 3 * n)
        if p % 3 == 2 or at[p] < 0:
            continue
        _mark(p // 3, c, space, scratch)
        bits = _KNOWN | _COMPUTED if turns else _KNOWN
        wanted = bits & ~(marks[at[p]] & _COMPUTED)
        kind = space.fields[code[p // 3, 0], p % 3]
        new = _pick(space.sizes[3, kind], space.sizes[3, kind + 1], at[p], bits, wanted, marks, rng)
        if new >= 0:
            _set(code, p, new, space)
            return


@compiled
def _duplicate(code, data, length, c, space, scratch, rng):  # type: ignore[no-untyped-def]
    """A copy before an instruction, with an unused output, which one reader of the original reads instead."""
    at = scratch[0]
    for _ in range(TRIES):
        k = space.sizes[0, c] + int(rng.random() * length[c])
        chosen, readers, p = _NONE, 0, 3 * k + 2
        if c == 1 and at[p] == space.ends[2]:
            continue  # Learn should look at the prediction
        while at[3 * k + 2] >= 0 and p >= 0:
            p = _reader(at, p + 1, len(at), at[3 * k + 2])
            if p >= 0 and _open(p, space):
                readers += 1
                if rng.random() * readers < 1:
                    chosen = p
        if chosen < 0:
            continue
        _mark(k, c, space, scratch)
        out = _unused(space.fields[code[k, 0], 2], c, 3 * k, chosen, space, scratch, rng)
        if out >= 0:
            _set(code, chosen, out, space)
            _shift(code, data, length, c, k, _UP, space)
            _copy(code, data, k, k + 1)
            _set(code, 3 * k + 2, out, space)
            return


@compiled
def _mend(code, k, c, space, scratch, rng):  # type: ignore[no-untyped-def]
    """Lets readers of what slot k writes read something else, so that it can go. Whether it can."""
    at, marks = scratch[0], scratch[1]
    out, kind = at[3 * k + 2], space.fields[code[k, 0], 2]
    loop, learn = 3 * space.sizes[0, 1], 3 * space.sizes[0, 2]
    if c == 1 and out == space.ends[2] and _writer(at, 3 * k + 3, learn, out) < 0:
        return False  # the prediction
    turn = int(rng.random() * 2)
    _mark(k, c, space, scratch)
    if at[3 * k + turn] >= 0 and not marks[at[3 * k + turn]] & _COMPUTED:
        turn = 1 - turn  # constants last
    for lap in range(2 if out >= 0 else 0):  # on this example, and on the next
        first, last = (3 * k + 3, len(at)) if lap == 0 else (loop, 3 * k)
        p = _reader(at, first, last, out)
        while p >= 0:
            new, end = _NONE, p if lap == 0 else len(at)
            for i in range(2):
                f = (turn + i) % 2
                a = at[3 * k + f]
                still = a == out or _writer(at, 3 * k + 3, end, a) < 0
                if lap == 1 and a != out:
                    still = still and a != space.ends[0] and _writer(at, loop, p, a) < 0
                if new < 0 and still and space.fields[code[k, 0], f] == kind:
                    new = a
            if new < 0:
                _mark(p // 3, int(p >= loop) + int(p >= learn), space, scratch)
                new = _pick(space.sizes[3, kind], space.sizes[3, kind + 1], out, _KNOWN, _KNOWN, marks, rng)
            if new >= 0 and _open(p, space):
                _set(code, p, new, space)
            p = _reader(at, p + 1, last, out)
        if c == 0 or _writer(at, first, last, out) >= 0:
            break
    return True


# ---------------------------------------------------------------------------------------------- chains


@compiled
def _value(first, n, c, space, scratch, rng):  # type: ignore[no-untyped-def]
    """An instruction to replace, and one that computes a value for it alone, or -1; what they read is marked as leaves.

    -1 and -1 if there is none.
    """
    at, marks = scratch[0], scratch[1]
    for _ in range(TRIES):
        k = first + int(rng.random() * n)
        if at[3 * k] < 0 or at[3 * k + 2] < 0:
            continue
        before, within = _NONE, at[3 * k + int(rng.random() * 2)]
        if rng.random() < 0.5:
            before = _feeder(k, within, c, space, scratch)
        _mark(k, c, space, scratch)
        for slot in (k, before if before >= 0 else k):
            for p in range(3 * slot, 3 * slot + 2):
                if at[p] >= 0 and (before < 0 or at[p] != within):
                    marks[at[p]] |= _LEAF
        return k, before
    return _NONE, _NONE


@compiled
def _feeder(k, within, c, space, scratch):  # type: ignore[no-untyped-def]
    """The slot that computes an input of slot k for it alone, from what is still there at k; -1 if none does."""
    at, marks = scratch[0], scratch[1]
    w = _writer(at, 3 * space.sizes[0, c], 3 * k, within) if within >= 0 else -1
    if w < 0 or at[3 * w] < 0:
        return _NONE
    _mark(w, c, space, scratch)
    kept = at[3 * k + 2] != within  # slot k does not overwrite it
    alone = not marks[within] & _CARRIED and not (kept and c == 1 and within == space.ends[2])
    alone = alone and _reader(at, 3 * w + 3, 3 * k, within) < 0
    alone = alone and not (kept and _reader(at, 3 * k + 2, len(at), within) >= 0)
    for p in range(3 * w, 3 * w + 2):
        alone = alone and at[p] != within and (at[p] < 0 or _writer(at, 3 * w + 3, 3 * k, at[p]) < 0)
    return w if alone else _NONE


@compiled
def _update(space, scratch, rng):  # type: ignore[no-untyped-def]
    """Where Learn last writes an address that Predict reads from the last example, all values marked as leaves; -1 if
    nowhere, or if Learn may not be changed.
    """
    at, marks = scratch[0], scratch[1]
    predict, learn = 3 * space.sizes[0, 1], 3 * space.sizes[0, 2]
    k, n = _NONE, 0
    for a in range(len(marks)):
        w = _writer(at, learn, len(at), a)
        if w >= 0 and a != space.ends[1] and space.sizes[4, 2] and _reader(at, predict, learn, a) >= 0:
            n += 1
            if rng.random() * n < 1:
                k = w
    if k >= 0:
        _mark(k, _LEARN, space, scratch)
        for a in range(len(marks)):
            if marks[a] & _KNOWN:
                marks[a] |= _LEAF
    return k


@compiled
def _rebuild(code, data, length, c, k, before, own, space, scratch, rng):  # type: ignore[no-untyped-def]
    """Puts one to three instructions that read leaves, and each the one before it, in the place of slot k.

    The slot `before` goes too; the last one reads the address `own` if its op allows. Both may be -1, for none.
    """
    marks, chain = scratch[1], scratch[2]
    rest, drawn = length[c] - 1 - int(before >= 0), rng.random()
    count = min(1 if drawn < ONE else 2 if drawn < ONE + TWO else 3, space.sizes[2, c] - rest)
    count = min(max(count, space.sizes[1, c] - rest), 3)
    for _ in range(TRIES):
        for a in range(len(marks)):
            marks[a] &= ~_USED
        fits, previous = True, _NONE
        for i in range(count):
            fits = fits and _link(code, c, k, i, i == count - 1, previous, own, space, scratch, rng)
            previous = chain[i, 3]
        if not fits:
            continue
        if before >= 0:
            _shift(code, data, length, c, before, _DOWN, space)
            k -= 1
        for _ in range(count - 1):
            _shift(code, data, length, c, k, _UP, space)
        for i in range(count):
            op = chain[i, 0]
            code[k + i, 0] = op
            for f in range(3):
                kind = space.fields[op, f]
                code[k + i, f + 1] = chain[i, f + 1] - space.sizes[3, kind] if kind >= 0 else 0
                data[k + i, f] = 0
        return


@compiled
def _link(code, c, k, i, last, previous, own, space, scratch, rng):  # type: ignore[no-untyped-def]
    """Draws instruction i of a chain: op, inputs, output. Whether the op drawn fits."""
    at, marks, chain = scratch
    op = space.ops[c, int(rng.random() * space.n_ops[c])]
    out = space.fields[op, 2]
    if space.fields[op, 0] < 0 or out < 0 or (last and out != space.fields[code[k, 0], 2]):
        return False
    waits, owns = previous >= 0, last and own >= 0
    chain[i, 0], chain[i, 2] = op, -1
    turn = int(rng.random() * 2)
    for j in range(2):
        f = (turn + j) % 2
        kind = space.fields[op, f]
        if kind < 0:
            continue
        low, high = space.sizes[3, kind], space.sizes[3, kind + 1]
        if waits and low <= previous < high:
            waits, source = False, previous
        elif owns and low <= own < high:
            owns, source = False, own
        else:
            source = _pick(low, high, _NONE, _LEAF | _USED, _LEAF, marks, rng)
            if source < 0:
                source = _pick(low, high, _NONE, _LEAF, _LEAF, marks, rng)
        if source < 0:
            return False
        marks[source] |= _USED
        chain[i, f + 1] = source
    chain[i, 3] = at[3 * k + 2] if last else _unused(out, c, 3 * k, 3 * k, space, scratch, rng)
    if chain[i, 3] >= 0:
        marks[chain[i, 3]] &= ~_LEAF
    return chain[i, 3] >= 0 and not waits
