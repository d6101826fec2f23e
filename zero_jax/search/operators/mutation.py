"""Mutation of whole batches of programs (Real et al. 2020, section 3.2).

The loops are compiled by Numba if it is installed. They draw only uniforms and normals from the generator, one by one,
so interpreted loops make the same children.
Axes: `n` programs, `L` instruction slots.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple, get_args

import numpy as np

from zero_jax.program import ops
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.program.space import LEAST_DEVIATION, LEAST_SCALAR, POSITIVE_SHARE, ZERO_SHARE, SearchSpace
from zero_jax.search.operators.move_loops import FIRST_MOVE, move_all
from zero_jax.search.operators.mutation_loops import MEANINGS, mutate_all, vary_all
from zero_jax.support.compiled import address_of
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
    "reconnect",
    "duplicate_instruction",
    "remove_and_mend",
    "rebuild_value",
    "constant_or_connection",
    "rebuild_update",
]

TYPES: tuple[MutationType, ...] = get_args(MutationType)
"""All mutation types."""

MOVES = TYPES[FIRST_MOVE:]
"""Those that look at the flow of data, and keep it whole."""


@dataclasses.dataclass(frozen=True)
class Mutations:
    """How children differ from their parents.

    Attributes:
      types: Mutation types in use. `alter_param` redraws one address or alters one constant of an instruction; the
        randomize types redraw one instruction, one component or all three, and keep lengths; `trade_instruction`
        inserts one instruction, then removes one; `swap_instructions` makes two of a component change places;
        `identity` changes nothing. The others are local moves: they look at the flow of data and keep it whole.
        `reconnect` lets one input read another value that is available there; `constant_or_connection` does so and
        replaces a constant by a computed value or the other way round. `duplicate_instruction` computes a value
        twice, the second time for one of its readers. `remove_and_mend` removes one instruction; readers of its output
        read one of its inputs, or another value. `rebuild_value` computes a value from the same leaves by one to
        three new instructions (with probabilities 0.2, 0.6 and 0.2; Mishima & Ono). `rebuild_update` computes
        anew what Learn writes to an address that Predict reads. In a Setup of initial values every type alters one of
        them or draws it anew.
      weights: Relative frequency of each type; empty for uniform.
      components: Relative frequency with which Setup, Predict and Learn are mutated, 0 for never; empty for uniform
        among those that have ops.
      probability: Probability that a child is mutated (U in the paper).
      constant_init: How new constants are drawn: `uniform`, as in the paper, or `log`, a random sign with log-uniform
        magnitude from 0.001 to 1 (for values only, not bounds, means, deviations or indices).
      constants: How constants are altered: `upstream` multiplies them by exp(N(0, 1)), as the original AutoML-Zero code
        does; `paper` by U(0.5, 2).
      adaptive: Whether frequencies follow how often each type made a child better than its parent; a type keeps at
        least a quarter of its weight.

    Raises:
      ValueError: no types, an unknown one, weights that do not fit, a probability outside 0 to 1.

    Example:
      >>> Mutations(types=("alter_param", *MOVES), adaptive=True).types[:3]
      ('alter_param', 'reconnect', 'duplicate_instruction')
    """

    types: tuple[MutationType, ...] = ("alter_param", "randomize_instruction", "randomize_component")
    weights: tuple[float, ...] = ()
    components: tuple[float, ...] = ()
    probability: float = 0.9
    constants: Literal["upstream", "paper"] = "upstream"
    constant_init: Literal["uniform", "log"] = "uniform"
    adaptive: bool = False

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
        if not isinstance(self.adaptive, bool):
            raise ValueError(f"adaptive must be true or false, not {shown(self.adaptive)}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"the mutation probability must be from 0 to 1, not {self.probability}")
        if self.constants not in ("upstream", "paper"):
            raise ValueError(f"constants must be 'upstream' or 'paper', not {shown(self.constants)}")
        if self.constant_init not in ("uniform", "log"):
            raise ValueError(f"constant_init must be 'uniform' or 'log', not {shown(self.constant_init)}")


def mutate(
    programs: Programs,
    space: SearchSpace,
    mutations: Mutations,
    rng: np.random.Generator,
    interface: Interface | None = None,
) -> Programs:
    """A mutated copy of every program.

    Args:
      programs: the parents, one for each child; their capacity is the space's.
      space: what random instructions may be, and the sizes that insertion and removal keep to.
      mutations: which mutations, and how often.
      rng: where randomness comes from; it is advanced.
      interface: where label, features and prediction are; None for scalar labels.

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
    children = programs.with_arrays(code, data, length)
    mutate_in_place(children, space, mutations, rng, interface)
    return children


def mutate_in_place(
    programs: Programs,
    space: SearchSpace,
    mutations: Mutations,
    rng: np.random.Generator,
    interface: Interface | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """As `mutate`, but changes the programs given, whose arrays are NumPy's, in C order and nobody else's.

    Args:
      programs: `n` programs.
      space: as in `mutate`.
      mutations: as in `mutate`.
      rng: as in `mutate`.
      interface: as in `mutate`.
      weights: float64, of the types, in place of those of `mutations`.

    Returns:
      int64 `[n]`, which type was applied to each: a bit in the order of `mutations.types`. Alterations of initial
      values, whatever the type, do not count; nor, if there are weights, does a type that changed nothing.
    """
    settings = _settings(space, mutations)
    if weights is not None:
        settings = settings._replace(below=_thresholds(weights))
    arrays, chosen = (programs.code, programs.data, programs.length), np.zeros((len(programs), 3), np.int64)
    before = None if weights is None else (programs.code.copy(), programs.data.copy())
    mutate_all(*arrays, settings, chosen, address_of(rng))
    if settings.moves:
        flow = _flow(space, settings.open.tobytes(), interface)
        at, marks = np.zeros(3 * programs.starts[-1], np.int64), np.zeros(sum(programs.memory), np.int64)
        move_all(*arrays, chosen, settings.types, flow, (at, marks, np.zeros((3, 4), np.int64)), address_of(rng))
    if before is not None:
        chosen[~((programs.code != before[0]).any((1, 2)) | (programs.data != before[1]).any((1, 2)))] = 0
    return chosen[:, 0]


def mutate_repeatedly(
    programs: Programs,
    space: SearchSpace,
    mutations: Mutations,
    repeat: float,
    rng: np.random.Generator,
    interface: Interface | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """As `mutate_in_place`, and each child is mutated once more with probability `repeat`, and so on."""
    applied = mutate_in_place(programs, space, mutations, rng, interface, weights)
    more = np.flatnonzero(rng.random(len(programs)) < repeat)
    while len(more):
        some = programs[more]
        applied[more] |= mutate_in_place(some, space, mutations, rng, interface, weights)
        programs.code[more], programs.data[more], programs.length[more] = some.code, some.data, some.length
        more = more[rng.random(len(more)) < repeat]
    return applied


def vary_initial_values(
    programs: Programs, space: SearchSpace, spread: float, redrawn: float, keep: int, rng: np.random.Generator
) -> None:
    """Changes the initial values of programs in place, but of each `keep` in a row those of the first stay.

    Each value is multiplied by exp(N(0, `spread`)), and drawn anew with probability `redrawn`.
    """
    settings = _settings(space, Mutations())
    vary_all(programs.code, programs.data, settings, spread, redrawn, keep, address_of(rng))


class _Settings(NamedTuple):
    """What the loops need to know of a space and of mutations, as arrays.

    Attributes:
      starts: int64 `[4]`, the first slot of each component, and the number of slots.
      memory, smallest, largest: int64 `[3]`.
      ops, n_ops: int64 `[3, n]` and `[3]`, the allowed ops.
      open: int64, the components that have some; `open_below` like `below`, for them.
      genes: int64 `[G, 2]`, the kind and the address of each initial value; `gene_ops` `[3, n]` and `n_gene_ops` `[3]`,
        the ops that can set each kind; `gene_draws` `[4]`, the constants of `random_initial_values`.
      fields: int64 `[65, 3]`, the kind of each address, -1 for none.
      meanings: int64 `[65, 3]`, what a constant is; `n_constants` `[65]`.
      types, below: int64 and float64 `[n]`: a uniform number below `below[i]` and no earlier one means `types[i]`.
      probability: of a child being mutated; `paper`: whether constants are scaled as the paper does; `log`:
        whether new values have log-uniform magnitudes; `moves`: whether some types are moves.
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
    gene_draws: np.ndarray
    fields: np.ndarray
    meanings: np.ndarray
    n_constants: np.ndarray
    types: np.ndarray
    below: np.ndarray
    probability: float
    paper: bool
    log: bool
    moves: bool


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
    weight = mutations.components or (1.0, 1.0, 1.0)
    opened = np.array([c for c in np.flatnonzero(counts) if weight[c] > 0], np.int64)
    if not len(opened):
        raise ValueError(f"components {mutations.components} mutate none that has ops in this space")
    by_kind = [[n for n in space.ops[0] if ops.OUTPUT_KINDS[n] == kind] for kind in range(3)]
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
        _thresholds(np.array([weight[c] for c in opened])),
        np.array(space.genes, np.int64).reshape(-1, 2),
        gene_ops,
        np.array([len(some) for some in by_kind]),
        np.array([LEAST_SCALAR, LEAST_DEVIATION, ZERO_SHARE, POSITIVE_SHARE]),
        np.stack([*ops.INPUT_KINDS.T, ops.OUTPUT_KINDS], axis=1).astype(np.int64),
        np.array([[MEANINGS.index(meaning) for meaning in row] for row in ops.CONSTANT_MEANINGS]),
        ops.CONSTANT_COUNTS.astype(np.int64),
        np.array([TYPES.index(kind) for kind in mutations.types]),
        below,
        float(mutations.probability),
        mutations.constants == "paper",
        mutations.constant_init == "log",
        not set(MOVES).isdisjoint(mutations.types),
    )


class _Flow(NamedTuple):
    """What moves need to know of a space.

    Attributes:
      sizes: int64 `[5, 4]`: the first slot of each component, and the number of slots; the fewest instructions; the
        most; the first address of each kind, and the number of addresses; whether a component may be changed.
      ops, n_ops: as in `_Settings`.
      fields: as in `_Settings`.
      ends: int64 `[3]`, the `Interface`.
    """

    sizes: np.ndarray
    ops: np.ndarray
    n_ops: np.ndarray
    fields: np.ndarray
    ends: np.ndarray


@functools.lru_cache(maxsize=16)
def _flow(space: SearchSpace, opened: bytes, interface: Interface | None) -> _Flow:
    settings = _settings(space, Mutations())
    sizes = np.zeros((5, 4), np.int64)
    sizes[0], sizes[1, :3], sizes[2, :3] = settings.starts, settings.smallest, settings.largest
    sizes[3, 1:], sizes[4, np.frombuffer(opened, np.int64)] = np.cumsum(settings.memory), 1
    ends = np.array(resolved(interface, space.memory))
    return _Flow(sizes, settings.ops, settings.n_ops, settings.fields, ends)


def _thresholds(weights: np.ndarray) -> np.ndarray:
    below = np.cumsum(weights / weights.sum())
    below[np.flatnonzero(weights)[-1] :] = 2.0  # whatever rounding left of the sum
    return below


PAPER = Mutations(
    types=("insert_instruction", "remove_instruction", "randomize_component", "alter_param"),
    weights=(1.0, 2.0, 3.0, 3.0),
    constants="paper",
)
"""The paper's distribution (section 3): a third adds or removes, removal twice as likely; a third randomizes a
component; a third modifies an argument."""
