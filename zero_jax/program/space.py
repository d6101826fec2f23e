"""The space that a search visits, and random programs from it."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zero_jax.program import ops as op_table
from zero_jax.program.memory import COMPONENTS, Capacity, MemorySize, memory_size, three_whole_numbers
from zero_jax.program.programs import Programs
from zero_jax.support.bounds import check_number
from zero_jax.support.foreign import shown


@dataclasses.dataclass(frozen=True)
class Component:
    """What a search may do with one component function.

    Attributes:
      ops: Ops allowed in random instructions, by name or number. A component with no ops is never mutated.
      size: Minimum, initial and maximum number of instructions.

    Raises:
      ValueError: an unknown op, or sizes out of order or beyond `bounds.BOUNDS`.

    Example:
      >>> Component(["SCALAR_SUM", 27], size=(1, 2, 4))
      Component(ops=('SCALAR_SUM', 'VECTOR_INNER_PRODUCT'), size=(1, 2, 4))
    """

    ops: Sequence[str | int] = ()
    size: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(op_table.OPS[op_table.number_of(op)].name for op in _listed(self.ops)))
        size = three_whole_numbers("size", self.size, ("fewest", "initial", "most"))
        for n in size:
            check_number("instructions", n)
        if not 0 <= size[0] <= size[1] <= size[2]:
            raise ValueError(f"sizes must be 0 <= fewest <= initial <= most, not {', '.join(map(str, size))}")
        object.__setattr__(self, "size", size)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the ops, in their order."""
        return tuple(op_table.number_of(op) for op in self.ops)


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Which programs a search may visit.

    Attributes:
      memory: Size of a program's memory.
      setup: Ops and sizes of Setup.
      predict: Ops and sizes of Predict.
      learn: Ops and sizes of Learn.
      initial_values: Setup holds one initial value for each address that its ops can write, in a fixed order, instead
        of instructions; its sizes follow from the memory. Each value is zero, or is set or drawn by one of
        Setup's ops; these must not read memory.

    Raises:
      ValueError: too many instructions in all, an op whose operands the memory does not have, or initial values by an
        op that reads memory.

    Example:
      >>> space = SearchSpace(
      ...     memory=(4, 3, 1),
      ...     setup=Component(["SCALAR_CONST_SET"], size=(1, 2, 2)),
      ...     predict=Component(["VECTOR_INNER_PRODUCT"], size=(1, 1, 1)),
      ...     learn=Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], size=(1, 4, 4)),
      ... )
      >>> space.ops, space.capacity
      (((56,), (27,), (2, 3, 18, 23)), (2, 1, 4))
      >>> len(random_programs(space, 5, np.random.default_rng(0)))
      5
    """

    memory: MemorySize
    setup: Component
    predict: Component
    learn: Component
    initial_values: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", memory_size(self.memory))
        if self.initial_values:
            object.__setattr__(self, "setup", Component(self.setup.ops, (len(self.genes),) * 3))
        for name, numbers in zip(COMPONENTS, self.ops, strict=True):
            for number in numbers:
                self._check_op(name, op_table.OPS[number])
        check_number("instructions", sum(self.max_size))

    def _check_op(self, component: str, op: op_table.Op) -> None:
        """Refuses an op whose operands the memory lacks. Random instructions do not write s0 and v0."""
        for kind, reserved in (*((k, 0) for k in op.inputs), (op.output, {"s": 1, "v": 1}.get(op.output, 0))):
            if kind and self.memory[op_table.KINDS.index(kind)] <= reserved:
                need = f"needs at least {reserved + 1} {MemorySize._fields[op_table.KINDS.index(kind)]}"
                raise ValueError(f"{component}: {op.name} {need}; the memory is {tuple(self.memory)}")

    @functools.cached_property
    def genes(self) -> tuple[tuple[int, int], ...]:
        """The kind and the address of each initial value, in the order of Setup; none where Setup has instructions.

        Scalars begin behind s1, vectors behind v0: scalar labels, features and predictions are set anyway.
        """
        if not self.initial_values:
            return ()
        for number in self.setup.numbers:
            op = op_table.OPS[number]
            if op.inputs or op.reads_output or not op.output:
                what = "reads memory" if op.output else "writes nothing"
                raise ValueError(f"setup: {op.name} {what}, so it cannot give an address its initial value")
        kinds = sorted({op_table.KINDS.index(op_table.OPS[number].output) for number in self.setup.numbers})
        return tuple((kind, address) for kind in kinds for address in range((2, 1, 0)[kind], self.memory[kind]))

    @property
    def components(self) -> tuple[Component, Component, Component]:
        """Setup, Predict and Learn."""
        return self.setup, self.predict, self.learn

    @functools.cached_property
    def ops(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The numbers of the allowed ops of each component."""
        return self.setup.numbers, self.predict.numbers, self.learn.numbers

    @property
    def min_size(self) -> Capacity:
        """The fewest instructions that a removal leaves, per component."""
        return self.setup.size[0], self.predict.size[0], self.learn.size[0]

    @property
    def initial_size(self) -> Capacity:
        """The instructions of a random program, per component."""
        return self.setup.size[1], self.predict.size[1], self.learn.size[1]

    @property
    def max_size(self) -> Capacity:
        """The most instructions, per component."""
        return self.setup.size[2], self.predict.size[2], self.learn.size[2]

    def with_sizes(
        self,
        fewest: Sequence[int] | None = None,
        initial: Sequence[int] | None = None,
        most: Sequence[int] | None = None,
    ) -> "SearchSpace":
        """The same space with other numbers of instructions, given per component (setup, predict, learn)."""
        sizes = zip(fewest or self.min_size, initial or self.initial_size, most or self.max_size, strict=True)
        parts = [Component(part.ops, size) for part, size in zip(self.components, sizes, strict=True)]
        setup, predict, learn = parts
        return dataclasses.replace(self, setup=setup, predict=predict, learn=learn)

    @property
    def capacity(self) -> Capacity:
        """Slots per component: `max_size`."""
        return self.max_size


def _listed(ops: Any) -> list[Any]:
    if isinstance(ops, str) or not isinstance(ops, Iterable):
        raise ValueError(f"ops must be a list of names or numbers, not {shown(ops)}")
    return list(ops)


def random_addresses(space: SearchSpace, op: np.ndarray, field: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform addresses for one field (0 in1, 1 in2, 2 out) of instructions with the given ops; 0 where unused.

    An output is never s0 or v0, unless that is the only address.
    """
    kind = op_table.OUTPUT_KINDS[op] if field == 2 else op_table.INPUT_KINDS[op, field]
    count = np.where(kind >= 0, np.array(space.memory)[kind], 1)
    reserved = (field == 2) & ((kind == 0) | (kind == 1)) & (count > 1)
    return np.where(kind >= 0, rng.integers(np.where(reserved, 1, 0), count), 0).astype(np.int32)


def random_constants(op: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Initial constants `[..., 3]` float32: U(0, 1) for an index or a stdev, U(-1, 1) for the others."""
    drawn = rng.uniform(size=(*op.shape, 3))
    return np.where(_EXISTS[op], np.where(_POSITIVE[op], drawn, 2 * drawn - 1), 0).astype(np.float32)


def random_instructions(
    space: SearchSpace, component: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One random instruction for each entry of `component` (0, 1 or 2): op uniform among the allowed, then the rest.

    Args:
      space: its op lists and memory.
      component: `[n]` int; a component without allowed ops yields NO_OP.
      rng: the source of randomness.

    Returns:
      code `[n, 4]` int32 and data `[n, 3]` float32.
    """
    counts = np.array([len(allowed) for allowed in space.ops])
    table = np.zeros((3, max(1, counts.max())), np.int32)
    for c, allowed in enumerate(space.ops):
        table[c, : len(allowed)] = allowed
    op = table[component, rng.integers(0, np.maximum(counts, 1)[component])]
    addresses = [random_addresses(space, op, field, rng) for field in range(3)]
    return np.stack([op, *addresses], -1).astype(np.int32), random_constants(op, rng)


def random_programs(space: SearchSpace, n: int, rng: np.random.Generator) -> Programs:
    """`n` programs of the initial sizes, every instruction drawn from the space."""
    length = np.tile(np.array(space.initial_size, np.int32), (n, 1))
    component = np.repeat(np.arange(3), space.capacity)
    code, data = random_instructions(space, np.tile(component, n), rng)
    slot = np.concatenate([np.arange(size) for size in space.capacity])
    used = (slot < length[:, component])[..., None]
    slots = len(component)
    code, data = code.reshape(n, slots, 4) * used, data.reshape(n, slots, 3) * used
    if space.genes:
        code[:, : len(space.genes)], data[:, : len(space.genes)] = random_initial_values(space, n, rng)
    return Programs(code.astype(np.int32), data.astype(np.float32), length, space.capacity, space.memory)


ZERO_SHARE, POSITIVE_SHARE = 0.5, 0.9
"""How many initial values of vectors and matrices are zero; how many of scalars are positive."""

LEAST_SCALAR, LEAST_DEVIATION = 1e-3, 3e-2
"""Initial values have log-uniform magnitudes from here to 1, and so have the deviations of those that are drawn."""


def random_initial_values(space: SearchSpace, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`n` lists of initial values: code `[n, G, 4]` int32 and data `[n, G, 3]` float32.

    Scalars have a log-uniform magnitude. A vector or matrix is zero or random around zero; the deviation, or the
    bound, is log-uniform.
    """
    kinds, addresses = np.array(space.genes).T
    code, data = np.zeros((n, len(kinds), 4), np.int32), np.zeros((n, len(kinds), 3), np.float32)
    by_kind = [[o for o in space.ops[0] if op_table.KINDS.index(op_table.OPS[o].output) == kind] for kind in range(3)]
    for g, (kind, address) in enumerate(zip(kinds.tolist(), addresses.tolist(), strict=True)):
        op = np.array(by_kind[kind])[rng.integers(0, len(by_kind[kind]), n)]
        op = np.where((rng.random(n) < ZERO_SHARE) & (kind > 0), 0, op)
        least = LEAST_DEVIATION if kind else LEAST_SCALAR
        size = np.exp(np.log(least) * rng.random(n))
        sign = np.where(rng.random(n) < POSITIVE_SHARE, 1.0, -1.0)
        code[:, g, 0], code[:, g, 3] = op, np.where(op > 0, address, 0)
        for i in range(3):
            data[:, g, i] = np.select(
                [_MEANINGS[op, i] == name for name in _INITIAL], [f(size, sign, i) for f in _INITIAL.values()], 0
            )
    return code, data


_MEANINGS = op_table.CONSTANT_MEANINGS
_INITIAL: dict[str, Any] = {
    "value": lambda size, sign, i: size * sign,
    "stdev": lambda size, sign, i: size,
    "bound": lambda size, sign, i: size * (2 * i - 1),  # from minus the size to the size
}
_EXISTS = op_table.CONSTANT_MEANINGS != ""
_POSITIVE = np.isin(op_table.CONSTANT_MEANINGS, ("index", "stdev"))
