"""The loops of `mutation.py` over programs and their instructions.

They share a file, since Numba looks only at the file of an entry point to decide whether code on disk is still valid.
"""

import numpy as np

from zero_jax.support.compiled import compiled, compiled_into_caller, entry_point, generator_at

_ALTER, _INSTRUCTION, _COMPONENT, _INSERT, _REMOVE, _TRADE, _ALGORITHM, _IDENTITY, _SWAP = range(9)

FLIP_PROBABILITY = 0.1
"""How often altering a constant flips its sign."""


MEANINGS = ("", "bound", "mean", "stdev", "value", "index")
_BOUND, _STDEV, _INDEX = MEANINGS.index("bound"), MEANINGS.index("stdev"), MEANINGS.index("index")
_VALUE, _LEAST = MEANINGS.index("value"), float(np.log(1e-3))


@entry_point
def mutate_all(code, data, length, settings, chosen, address):  # type: ignore[no-untyped-def]
    """As `mutate`, in place, but for moves, which `move_all` applies.

    `chosen` int64 `[n, 3]`, of zeros, gets what was drawn: the number of the type as a bit, the number, the component.
    Initial values are altered whatever the type, so there it stays as it is.
    """
    rng = generator_at(address)
    for i in range(len(code)):
        if rng.random() >= settings.probability:
            continue
        which = _which(settings.below, rng)
        component = settings.open[_which(settings.open_below, rng)]
        if component > 0 or len(settings.genes) == 0:
            chosen[i, 0], chosen[i, 1], chosen[i, 2] = 1 << which, which, component
        _mutate_one(code[i], data[i], length[i], settings.types[which], component, settings, rng)


@entry_point
def vary_all(code, data, settings, spread, redrawn, keep, address):  # type: ignore[no-untyped-def]
    """As `vary_initial_values`."""
    rng = generator_at(address)
    for p in range(len(code)):
        if p % keep == 0:
            continue
        for g in range(len(settings.genes)):
            if rng.random() < redrawn:
                _draw_gene(code[p], data[p], g, settings, rng)
            elif code[p, g, 0]:
                factor = np.exp(spread * rng.standard_normal())
                for i in range(settings.n_constants[code[p, g, 0]]):
                    if data[p, g, i] != 0:
                        data[p, g, i] *= factor


@compiled
def _which(below, rng):  # type: ignore[no-untyped-def]
    """A number, drawn by thresholds."""
    drawn, which = rng.random(), 0
    while drawn >= below[which]:
        which += 1
    return which


@compiled
def _below(n, rng):  # type: ignore[no-untyped-def]
    """A uniform whole number from 0 to n - 1."""
    return int(rng.random() * n)


@compiled_into_caller
def _mutate_one(code, data, length, kind, component, settings, rng):  # type: ignore[no-untyped-def]
    start, n = settings.starts[component], length[component]
    if component == 0 and len(settings.genes) > 0 and kind != _ALGORITHM and kind != _COMPONENT and kind != _IDENTITY:
        gene = _below(n, rng)
        if rng.random() < 0.5 and code[gene, 0] != 0:
            _alter_gene(data[gene], code[gene, 0], settings, rng)
        else:
            _draw_gene(code, data, gene, settings, rng)
    elif kind == _ALTER and n > 0:
        _alter(code, data, start + _below(n, rng), settings, rng)
    elif kind == _INSTRUCTION and n > 0:
        _draw(code, data, start + _below(n, rng), component, settings, rng)
    elif kind == _COMPONENT:
        for k in range(start, start + n):
            _draw(code, data, k, component, settings, rng)
    elif kind == _INSERT and n < settings.largest[component] - 1:
        _insert(code, data, length, component, settings, rng)
    elif kind == _REMOVE and n > settings.smallest[component]:
        _remove(code, data, length, component, settings, rng)
    elif kind == _TRADE:
        _trade(code, data, length, component, settings, rng)
    elif kind == _SWAP and n > 1:
        _swap(code, data, start + _below(n, rng), start + _below(n, rng))
    elif kind == _ALGORITHM:
        for c in settings.open:
            for k in range(settings.starts[c], settings.starts[c] + length[c]):
                _draw(code, data, k, c, settings, rng)


@compiled_into_caller
def _address(kind, output, settings, rng):  # type: ignore[no-untyped-def]
    """A uniform address of a kind; an output is never s0 or v0, unless there is no other."""
    n = settings.memory[kind]
    if output and kind < 2 and n > 1:
        return 1 + _below(n - 1, rng)
    return _below(n, rng)


@compiled_into_caller
def _draw(code, data, k, component, settings, rng):  # type: ignore[no-untyped-def]
    """A random instruction of a component: op uniform among the allowed, then the rest. An index or a stdev starts as
    U(0, 1), other constants as U(-1, 1).
    """
    if component == 0 and len(settings.genes) > 0:
        _draw_gene(code, data, k, settings, rng)
        return
    op = settings.ops[component, _below(settings.n_ops[component], rng)]
    code[k, 0] = op
    for field in range(3):
        kind = settings.fields[op, field]
        code[k, field + 1] = _address(kind, field == 2, settings, rng) if kind >= 0 else 0
    for i in range(3):
        data[k, i] = 0
        if i < settings.n_constants[op]:
            drawn, meaning = rng.random(), settings.meanings[op, i]
            value = drawn if meaning == _INDEX or meaning == _STDEV else 2 * drawn - 1
            if settings.log and meaning == _VALUE:
                value = np.sign(value) * np.exp(_LEAST * (1 - abs(value)))
            data[k, i] = value


@compiled
def _draw_gene(code, data, k, settings, rng):  # type: ignore[no-untyped-def]
    """A random initial value, as `random_initial_values` draws it."""
    kind, address = settings.genes[k]
    op = settings.gene_ops[kind, _below(settings.n_gene_ops[kind], rng)]
    least_scalar, least_deviation, zero_share, positive_share = settings.gene_draws
    if kind > 0 and rng.random() < zero_share:
        op = 0
    code[k, 0], code[k, 1], code[k, 2], code[k, 3] = op, 0, 0, address if op else 0
    size = np.exp(np.log(least_deviation if kind else least_scalar) * rng.random())
    sign = 1.0 if rng.random() < positive_share else -1.0
    for i in range(3):
        data[k, i] = 0
        if i < settings.n_constants[op]:
            meaning = settings.meanings[op, i]
            if meaning == _VALUE:
                data[k, i] = size * sign
            elif meaning == _STDEV:
                data[k, i] = size
            elif meaning == _BOUND:
                data[k, i] = size * (2 * i - 1)


@compiled
def _alter_gene(data, op, settings, rng):  # type: ignore[no-untyped-def]
    """Another size, and sometimes another sign; a mean stays 0."""
    factor = np.exp(rng.standard_normal())
    if rng.random() < FLIP_PROBABILITY and settings.meanings[op, 0] == _VALUE:
        factor = -factor
    for i in range(settings.n_constants[op]):
        if data[i] != 0:
            data[i] *= factor


@compiled_into_caller
def _alter(code, data, k, settings, rng):  # type: ignore[no-untyped-def]
    """Redraws an input, or alters the output or the data, half each where there are both. A NO_OP stays."""
    op = code[k, 0]
    if op == 0:
        return
    inputs = int(settings.fields[op, 0] >= 0) + int(settings.fields[op, 1] >= 0)
    choice = _below(inputs + 1 + int(settings.n_constants[op] > 0), rng)
    if choice > inputs:
        _alter_data(data[k], op, settings, rng)
    else:
        field = 2 if choice == inputs else choice
        code[k, field + 1] = _address(settings.fields[op, field], field == 2, settings, rng)


@compiled_into_caller
def _alter_data(data, op, settings, rng):  # type: ignore[no-untyped-def]
    i = _below(settings.n_constants[op], rng)
    meaning = settings.meanings[op, i]
    if meaning == _INDEX:
        data[i] = rng.random()
        return
    if rng.random() < FLIP_PROBABILITY and meaning != _STDEV:
        data[i] = -data[i]
    elif settings.paper:
        data[i] = data[i] * (0.5 + 1.5 * rng.random())
    else:
        data[i] = data[i] * np.exp(rng.standard_normal())
    if meaning == _BOUND and data[0] > data[1]:
        data[0], data[1] = data[1], data[0]


@compiled
def _insert(code, data, length, component, settings, rng):  # type: ignore[no-untyped-def]
    """A random instruction at a random place, the ones behind it moved up."""
    first, n = settings.starts[component], length[component]
    place = first + _below(n + 1, rng)
    for k in range(first + n, place, -1):
        _move(code, data, k - 1, k)
    _draw(code, data, place, component, settings, rng)
    length[component] = n + 1


@compiled
def _remove(code, data, length, component, settings, rng):  # type: ignore[no-untyped-def]
    """Without one instruction, the ones behind it moved down."""
    first, n = settings.starts[component], length[component]
    for k in range(first + _below(n, rng), first + n - 1):
        _move(code, data, k + 1, k)
    _clear(code, data, first + n - 1)
    length[component] = n - 1


@compiled
def _trade(code, data, length, component, settings, rng):  # type: ignore[no-untyped-def]
    """Inserts a random instruction, then removes one, without the room for one more in between."""
    first, n = settings.starts[component], length[component]
    place, gone = _below(n + 1, rng), _below(n + 1, rng)
    if place == gone:
        return  # the new one goes again
    if place < gone:
        for k in range(first + gone - 1, first + place, -1):
            _move(code, data, k - 1, k)
        _draw(code, data, first + place, component, settings, rng)
    else:
        for k in range(first + gone, first + place - 1):
            _move(code, data, k + 1, k)
        _draw(code, data, first + place - 1, component, settings, rng)


@compiled
def _swap(code, data, a, b):  # type: ignore[no-untyped-def]
    for i in range(4):
        code[a, i], code[b, i] = code[b, i], code[a, i]
    for i in range(3):
        data[a, i], data[b, i] = data[b, i], data[a, i]


@compiled
def _move(code, data, source, to):  # type: ignore[no-untyped-def]
    for i in range(4):
        code[to, i] = code[source, i]
    for i in range(3):
        data[to, i] = data[source, i]


@compiled
def _clear(code, data, k):  # type: ignore[no-untyped-def]
    for i in range(4):
        code[k, i] = 0
    for i in range(3):
        data[k, i] = 0
