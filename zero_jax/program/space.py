"""The space that a search visits, and random programs from it."""

import dataclasses

import numpy as np

from zero_jax.program import ops
from zero_jax.program.memory import COMPONENTS, Capacity, MemorySize, memory_size
from zero_jax.program.programs import Programs
from zero_jax.support.bounds import check_number


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Which programs a search may visit.

    Attributes:
      memory: (scalars, vectors, matrices).
      setup_ops, predict_ops, learn_ops: the numbers of the ops that random instructions of a component use. A component
        with none is never mutated.
      min_size, initial_size, max_size: instructions per component (setup, predict, learn): the fewest that a removal
        leaves, those of a random program, and the most; the capacity is max_size.

    Raises:
      ValueError: sizes out of order or beyond `bounds.BOUNDS`, an unknown op, or an op whose operands the memory does
        not have.

    Example:
      >>> space = SearchSpace(MemorySize(4, 3, 1), (56,), (27,), (2, 3, 18, 23), (1, 1, 1), (2, 1, 4), (2, 1, 4))
      >>> len(random_programs(space, 5, np.random.default_rng(0)))
      5
    """

    memory: MemorySize
    setup_ops: tuple[int, ...]
    predict_ops: tuple[int, ...]
    learn_ops: tuple[int, ...]
    min_size: Capacity
    initial_size: Capacity
    max_size: Capacity

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", memory_size(self.memory))
        for c, component in enumerate(COMPONENTS):
            smallest, first, largest = self.min_size[c], self.initial_size[c], self.max_size[c]
            for size in (smallest, first, largest):
                check_number("instructions", size)
            if not 0 <= smallest <= first <= largest:
                sizes = f"{smallest}, {first}, {largest}"
                raise ValueError(f"{component}: sizes must be 0 <= minimum <= initial <= maximum, not {sizes}")
            for number in self.ops[c]:
                self._check_op(component, number)
        check_number("instructions", sum(self.max_size))

    def _check_op(self, component: str, number: int) -> None:
        if not 0 <= number <= 64:
            raise ValueError(f"{component}: there is no op {number} (ops are 0 to 64)")
        op = ops.OPS[number]
        for kind, reserved in (*((k, 0) for k in op.inputs), (op.output, {"s": 1, "v": 1}.get(op.output, 0))):
            if kind and self.memory[ops.KINDS.index(kind)] <= reserved:
                need = f"needs more than {reserved} {kind} addresses; memory is {tuple(self.memory)}"
                raise ValueError(f"{component}: {op.name} {need}")

    @property
    def ops(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The allowed ops of each component."""
        return self.setup_ops, self.predict_ops, self.learn_ops

    @property
    def capacity(self) -> Capacity:
        """Slots per component."""
        return self.max_size


def random_addresses(space: SearchSpace, op: np.ndarray, field: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform addresses for one field (0 in1, 1 in2, 2 out) of instructions with the given ops; 0 where unused.

    An output is never s0 or v0, unless there is no other.
    """
    kind = ops.OUTPUT_KINDS[op] if field == 2 else ops.INPUT_KINDS[op, field]
    count = np.where(kind >= 0, np.array(space.memory)[kind], 1)
    reserved = (field == 2) & ((kind == 0) | (kind == 1)) & (count > 1)
    return np.where(kind >= 0, rng.integers(np.where(reserved, 1, 0), count), 0).astype(np.int32)


def random_constants(op: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Constants at birth: `[..., 3]` float32; an index or a stdev is U(0, 1), all others are U(-1, 1)."""
    drawn = rng.uniform(size=(*op.shape, 3))
    return np.where(_EXISTS[op], np.where(_POSITIVE[op], drawn, 2 * drawn - 1), 0).astype(np.float32)


def random_instructions(
    space: SearchSpace, component: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One random instruction for each entry of `component` (0, 1 or 2): op uniform among the allowed, then the rest.

    Args:
      space: its op lists and memory.
      component: `[n]` int; a component without allowed ops yields NO_OP.
      rng: where randomness comes from.

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
    """`n` programs of the initial sizes, every instruction drawn from the space (SPEC 3)."""
    length = np.tile(np.array(space.initial_size, np.int32), (n, 1))
    component = np.repeat(np.arange(3), space.capacity)
    code, data = random_instructions(space, np.tile(component, n), rng)
    slot = np.concatenate([np.arange(size) for size in space.capacity])
    used = (slot < length[:, component])[..., None]
    slots = len(component)
    code, data = code.reshape(n, slots, 4) * used, data.reshape(n, slots, 3) * used
    return Programs(code.astype(np.int32), data.astype(np.float32), length, space.capacity, space.memory)


_EXISTS = ops.CONSTANT_MEANINGS != ""
_POSITIVE = np.isin(ops.CONSTANT_MEANINGS, ("index", "stdev"))
