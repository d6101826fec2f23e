"""Mutation of whole batches of programs (Real et al. 2020, section 3.2).

The loops are compiled by Numba if it is installed. They draw only uniforms and normals from the generator, one by one,
so interpreted loops make the same children.
Axes: `n` programs, `L` instruction slots.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import numpy as np

from zero_jax.program import ops
from zero_jax.program.programs import Programs
from zero_jax.program.space import LEAST_DEVIATION, LEAST_SCALAR, POSITIVE_SHARE, ZERO_SHARE, SearchSpace
from zero_jax.support.compiled import address_of, compiled, compiled_into_caller, entry_point, generator_at
from zero_jax.support.foreign import shown

MutationType = Literal[
    "alter_param",
    "randomize_instruction",
    "randomize_component",
    "insert_instruction",
    "remove_instruction",
    "trade_instruction",
    "randomize_algorithm",
    "identity",
    "swap_instructions",
]

TYPES: tuple[MutationType, ...] = (
    "alter_param",
    "randomize_instruction",
    "randomize_component",
    "insert_instruction",
    "remove_instruction",
    "trade_instruction",
    "randomize_algorithm",
    "identity",
    "swap_instructions",
)
"""All mutation types."""

_ALTER, _INSTRUCTION, _COMPONENT, _INSERT, _REMOVE, _TRADE, _ALGORITHM, _IDENTITY, _SWAP = range(9)

FLIP_PROBABILITY = 0.1
"""How often altering a constant flips its sign."""


@dataclasses.dataclass(frozen=True)
class Mutations:
    """How children differ from their parents.

    Attributes:
      types: Mutation types in use. `alter_param` redraws one address or alters one constant of an instruction; the
        randomize types redraw one instruction, one component or all three, and keep lengths; `trade_instruction`
        inserts one instruction, then removes one; `swap_instructions` makes two of a component change places;
        `identity` changes nothing. In a Setup of initial values every type alters one of them or draws it anew.
      weights: Relative frequency of each type; empty for uniform.
      components: Relative frequency with which Setup, Predict and Learn are mutated; empty for uniform among those that
        have ops.
      probability: Probability that a child is mutated (U in the paper).
      constant_init: How new constants are drawn: `uniform`, as in the paper, or `log`, a random sign with log-uniform
        magnitude from 0.001 to 1 (for values only, not bounds, means, deviations or indices).
      constants: How constants are altered: `upstream` multiplies them by exp(N(0, 1)), as the original AutoML-Zero code
        does; `paper` by U(0.5, 2).

    Raises:
      ValueError: no types, an unknown one, weights that do not fit, a probability outside 0 to 1.
    """

    types: tuple[MutationType, ...] = ("alter_param", "randomize_instruction", "randomize_component")
    weights: tuple[float, ...] = ()
    components: tuple[float, ...] = ()
    probability: float = 0.9
    constants: Literal["upstream", "paper"] = "upstream"
    constant_init: Literal["uniform", "log"] = "uniform"

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.types if kind not in TYPES]
        if unknown or not self.types:
            raise ValueError(f"mutation types must be among {', '.join(TYPES)}, not {self.types}")
        if self.weights and (
            len(self.weights) != len(self.types) or min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf
        ):
            raise ValueError(
                f"weights {self.weights} must give each of the {len(self.types)} types a number, not all 0"
            )
        if self.components and (
            len(self.components) != 3 or min(self.components) < 0 or not 0 < sum(self.components) < np.inf
        ):
            raise ValueError(
                f"components must be three weights, of Setup, Predict and Learn, not all 0; not {self.components}"
            )
        if not 0 <= self.probability <= 1:
            raise ValueError(f"the mutation probability must be from 0 to 1, not {self.probability}")
        if self.constants not in ("upstream", "paper"):
            raise ValueError(f"constants must be 'upstream' or 'paper', not {shown(self.constants)}")
        if self.constant_init not in ("uniform", "log"):
            raise ValueError(f"constant_init must be 'uniform' or 'log', not {shown(self.constant_init)}")


def mutate(programs: Programs, space: SearchSpace, mutations: Mutations, rng: np.random.Generator) -> Programs:
    """A mutated copy of every program.

    Args:
      programs: the parents, one for each child; their capacity is the space's.
      space: what random instructions may be, and the sizes that insertion and removal keep to.
      mutations: which mutations, and how often.
      rng: where randomness comes from; it is advanced.

    Returns:
      The children. A mutation that cannot apply (no instruction to alter, no room to insert) leaves its child a copy.

    Example:
      >>> from zero_jax import Component, SearchSpace, library
      >>> setup, predict = Component(["SCALAR_CONST_SET"], (1, 1, 1)), Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (1, 4, 4))
      >>> space = SearchSpace((4, 3, 1), setup, predict, learn)
      >>> parent = library.program("linear", memory=(4, 3, 1))
      >>> len(mutate(parent, space, Mutations(), np.random.default_rng(0)))
      1
    """
    if programs.capacity != tuple(space.capacity):
        raise ValueError(f"programs of capacity {programs.capacity} are not of this space, whose is {space.capacity}")
    code, data, length = (np.array(part, order="C") for part in (programs.code, programs.data, programs.length))
    mutate_in_place(programs.with_arrays(code, data, length), space, mutations, rng)
    return programs.with_arrays(code, data, length)


def mutate_in_place(programs: Programs, space: SearchSpace, mutations: Mutations, rng: np.random.Generator) -> None:
    """As `mutate`, but changes the programs given, whose arrays are NumPy's, in C order and nobody else's."""
    _mutate_all(programs.code, programs.data, programs.length, _settings(space, mutations), address_of(rng))


def mutate_repeatedly(
    programs: Programs, space: SearchSpace, mutations: Mutations, repeat: float, rng: np.random.Generator
) -> None:
    """As `mutate_in_place`, and each child is mutated once more with probability `repeat`, and so on."""
    mutate_in_place(programs, space, mutations, rng)
    more = np.flatnonzero(rng.random(len(programs)) < repeat)
    while len(more):
        some = programs[more]
        mutate_in_place(some, space, mutations, rng)
        programs.code[more], programs.data[more], programs.length[more] = some.code, some.data, some.length
        more = more[rng.random(len(more)) < repeat]


def vary_initial_values(
    programs: Programs, space: SearchSpace, spread: float, redrawn: float, keep: int, rng: np.random.Generator
) -> None:
    """Changes the initial values of programs in place, but of each `keep` in a row those of the first stay.

    Each value is multiplied by exp(N(0, `spread`)), and drawn anew with probability `redrawn`.
    """
    settings = _settings(space, Mutations())
    _vary_all(programs.code, programs.data, settings, spread, redrawn, keep, address_of(rng))


class _Settings(NamedTuple):
    """What the loops need to know of a space and of mutations, as arrays.

    Attributes:
      starts: int64 `[4]`, the first slot of each component, and the number of slots.
      memory, smallest, largest: int64 `[3]`.
      ops, n_ops: int64 `[3, n]` and `[3]`, the allowed ops.
      open: int64, the components that have some; `open_below` like `below`, for them.
      genes: int64 `[G, 2]`, the kind and the address of each initial value; `gene_ops` `[3, n]` and `n_gene_ops` `[3]`,
        the ops that can set each kind.
      fields: int64 `[65, 3]`, the kind of each address, -1 for none.
      meanings: int64 `[65, 3]`, what a constant is; `n_constants` `[65]`.
      types, below: int64 and float64 `[n]`: a uniform number below `below[i]` and no earlier one means `types[i]`.
      probability: of a child being mutated; `paper`: whether constants are scaled as the paper does; `log`:
        whether new values have log-uniform magnitudes.
    """

    starts: np.ndarray
    memory: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    ops: np.ndarray
    n_ops: np.ndarray
    open: np.ndarray
    open_below: np.ndarray
    genes: np.ndarray
    gene_ops: np.ndarray
    n_gene_ops: np.ndarray
    fields: np.ndarray
    meanings: np.ndarray
    n_constants: np.ndarray
    types: np.ndarray
    below: np.ndarray
    probability: float
    paper: bool
    log: bool


_MEANINGS = ("", "bound", "mean", "stdev", "value", "index")
_BOUND, _STDEV, _INDEX = _MEANINGS.index("bound"), _MEANINGS.index("stdev"), _MEANINGS.index("index")
_VALUE, _LEAST = _MEANINGS.index("value"), float(np.log(1e-3))


@functools.lru_cache(maxsize=16)
def _settings(space: SearchSpace, mutations: Mutations) -> _Settings:
    counts = [len(allowed) for allowed in space.ops]
    if not any(counts):
        raise ValueError("no component of the space has ops, so nothing can be mutated")
    allowed = np.zeros((3, max(counts)), np.int64)
    for c, numbers in enumerate(space.ops):
        allowed[c, : len(numbers)] = numbers
    weights = np.array(mutations.weights or [1.0] * len(mutations.types))
    below = _thresholds(weights)
    opened = np.flatnonzero(counts)
    shares = np.array([mutations.components[c] for c in opened] if mutations.components else [1.0] * len(opened))
    if not shares.any():
        raise ValueError(f"components {mutations.components} mutate none that has ops in this space")
    by_kind = [[n for n in space.ops[0] if ops.KINDS.index(ops.OPS[n].output) == kind] for kind in range(3)]
    gene_ops = np.zeros((3, max(1, *map(len, by_kind))), np.int64)
    for kind, some in enumerate(by_kind):
        gene_ops[kind, : len(some)] = some
    return _Settings(
        np.cumsum([0, *space.capacity]),
        np.array(space.memory),
        np.array(space.min_size),
        np.array(space.max_size),
        allowed,
        np.array(counts),
        opened,
        _thresholds(shares),
        np.array(space.genes, np.int64).reshape(-1, 2),
        gene_ops,
        np.array([len(some) for some in by_kind]),
        np.stack([*ops.INPUT_KINDS.T, ops.OUTPUT_KINDS], axis=1).astype(np.int64),
        np.array([[_MEANINGS.index(meaning) for meaning in row] for row in ops.CONSTANT_MEANINGS]),
        ops.CONSTANT_COUNTS.astype(np.int64),
        np.array([TYPES.index(kind) for kind in mutations.types]),
        below,
        float(mutations.probability),
        mutations.constants == "paper",
        mutations.constant_init == "log",
    )


def _thresholds(weights: np.ndarray) -> np.ndarray:
    below = np.cumsum(weights / weights.sum())
    below[np.flatnonzero(weights)[-1] :] = 2.0  # whatever rounding left of the sum
    return below


# ---------------------------------------------------------------------------------------------- compiled loops


@entry_point
def _mutate_all(code, data, length, settings, address):  # type: ignore[no-untyped-def]
    rng = generator_at(address)
    for i in range(len(code)):
        if rng.random() >= settings.probability:
            continue
        which = _which(settings.below, rng)
        component = settings.open[_which(settings.open_below, rng)]
        _mutate_one(code[i], data[i], length[i], settings.types[which], component, settings, rng)


@entry_point
def _vary_all(code, data, settings, spread, redrawn, keep, address):  # type: ignore[no-untyped-def]
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
            _alter_data(data[gene], code[gene, 0], settings, rng)
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
    if kind > 0 and rng.random() < ZERO_SHARE:
        op = 0
    code[k, 0], code[k, 1], code[k, 2], code[k, 3] = op, 0, 0, address if op else 0
    size = np.exp(np.log(LEAST_DEVIATION if kind else LEAST_SCALAR) * rng.random())
    sign = 1.0 if rng.random() < POSITIVE_SHARE else -1.0
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


PAPER = Mutations(
    types=("insert_instruction", "remove_instruction", "randomize_component", "alter_param"),
    weights=(1.0, 2.0, 3.0, 3.0),
    constants="paper",
)
"""The paper's distribution (section 3): a third adds or removes, removal twice as likely; a third randomizes a
component; a third modifies an argument."""
