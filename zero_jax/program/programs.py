"""Programs as arrays, the space they are searched in, random programs, and checks of what comes from outside.

Axes: `P` programs; `L` instruction slots, those of Setup, then Predict, then Learn.
"""

import dataclasses
import html
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from zero_jax.program import ops
from zero_jax.program.instructions import entries, instruction_fields
from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.support.checked import Fields
from zero_jax.support.codec import Known, register
from zero_jax.support.foreign import shown

COMPONENTS: tuple[str, str, str] = ("setup", "predict", "learn")
"""The three component functions, in the order of slots, lengths and capacities."""

Capacity = tuple[int, int, int]


class MemorySize(NamedTuple):
    """How many scalars, vectors and matrices a program can address.

    Attributes:
      scalars: s0 is the label, s1 the prediction, unless labels are vectors.
      vectors: v0 holds the features; v1 is the label and v2 the prediction, if labels are vectors.
      matrices: may be 0.
    """

    scalars: int
    vectors: int
    matrices: int


class Interface(NamedTuple):
    """Through which addresses examples come and predictions go, counting scalars, then vectors, then matrices.

    Attributes:
      label: s0; or v1 for vector labels.
      features: v0.
      prediction: s1; or v2 for vector labels.
    """

    label: int
    features: int
    prediction: int


def interface(memory: MemorySize, vector_labels: bool = False) -> Interface:
    """The `Interface` of programs with such a memory, on tasks with scalar or vector labels (SPEC 1).

    Raises:
      ValueError: fewer than 3 vectors for vector labels.

    Example:
      >>> interface(MemorySize(4, 3, 1)), interface(MemorySize(4, 3, 1), vector_labels=True)
      (Interface(label=0, features=4, prediction=1), Interface(label=5, features=4, prediction=6))
    """
    first = memory.scalars
    if vector_labels and memory.vectors < 3:
        raise ValueError(
            "more than two classes need 3 vectors, v0 for the features, v1 for the label and v2 for the prediction, "
            f"not {memory.vectors}"
        )
    return Interface(first + 1, first, first + 2) if vector_labels else Interface(0, first, 1)


def memory_size(memory: Sequence[int]) -> MemorySize:
    """Checks a memory size given as (scalars, vectors, matrices).

    Raises:
      ValueError: where s0, s1 or v0 would not exist, or a number is negative or beyond `bounds.BOUNDS`.
    """
    size = MemorySize(*_three_whole_numbers("memory", memory, MemorySize._fields))
    if size.scalars < 2 or size.vectors < 1 or size.matrices < 0:
        raise ValueError(
            f"memory {shown(tuple(size))} is too small: label and prediction need 2 scalars, the features 1 vector"
        )
    for name, number in zip(size._fields, size, strict=True):
        check_number(name, number)
    return size


@partial(jax.tree_util.register_dataclass, data_fields=["code", "data", "length"], meta_fields=["capacity", "memory"])
@dataclasses.dataclass(frozen=True, eq=False)
class Programs:
    """A batch of programs: a pytree of three arrays.

    Fields that an op does not use, and slots beyond a component's length, are zero, so equal programs are equal
    arrays. Build with `from_lists`, `parse`, `random_programs` or `zero_jax.library`, which check; the constructor
    takes arrays as they are, traced ones too.

    Attributes:
      code: `[P, L, 4]` int32: op, in1, in2, out.
      data: `[P, L, 3]` float32: the constants.
      length: `[P, 3]` int32: instructions in use per component.
      capacity: slots per component (static); their sum is L.
      memory: `MemorySize` (static).

    Example:
      >>> programs = Programs.from_lists([[[], [[27, 1, 0, 1, 0, 0, 0, 0]], []]], memory=(4, 3, 1))
      >>> print(programs.listing(0))
      def Setup():
      def Predict():
        s1 = dot(v1, v0)
      def Learn():
    """

    code: Any
    data: Any
    length: Any
    capacity: Capacity
    memory: MemorySize

    @classmethod
    def from_lists(
        cls,
        programs: Iterable[Sequence[Sequence[Sequence[float]]]],
        memory: Sequence[int],
        capacity: Sequence[int] | None = None,
    ) -> "Programs":
        """Builds programs from nested lists.

        Args:
          programs: each (setup, predict, learn), a component being a list of instructions
            `[op, in1, in2, out, activation_data, float_data_0, float_data_1, float_data_2]`: upstream's fields, of
            which trailing ones may be left out. The constant of SCALAR_CONST_SET is activation_data.
          memory: (scalars, vectors, matrices).
          capacity: slots per component; by default the longest of each.

        Raises:
          ValueError: naming program, component and instruction: an op above 64, an address outside the memory, a
            component longer than its capacity, a malformed instruction, more of them than `bounds.BOUNDS` allows.
        """
        lists = [_component_lists(program, f"program {i}") for i, program in enumerate(entries(programs, "programs"))]
        size = memory_size(memory)
        longest = [max((len(program[c]) for program in lists), default=0) for c in range(3)]
        slots = _capacity(longest if capacity is None else capacity, longest)
        starts = np.cumsum([0, *slots])
        what = f"{len(lists):,} programs with a capacity of {sum(slots):,} instructions"
        check_bytes(what, program_bytes(slots) * len(lists), "take fewer programs or a smaller capacity")
        code = np.zeros((len(lists), starts[-1], 4), np.int32)
        data = np.zeros((len(lists), starts[-1], 3), np.float32)
        for p, program in enumerate(lists):
            for c, component in enumerate(program):
                for k, instruction in enumerate(component):
                    where = f"program {p}, {COMPONENTS[c]}, instruction {k + 1}"
                    code[p, starts[c] + k], data[p, starts[c] + k] = instruction_fields(instruction, where)
        length = np.array([[len(component) for component in program] for program in lists], np.int32).reshape(-1, 3)
        clean_code, clean_data = clean(code, data)
        return cls(clean_code, clean_data, length, slots, size).check()

    @classmethod
    def parse(cls, text: str, memory: Sequence[int] | None = None, capacity: Sequence[int] | None = None) -> "Programs":
        """Reads one program from its listing, its text proto or JSON; see `zero_jax.program.text.parse`."""
        from zero_jax.program import text as listing  # listing imports this module

        return listing.parse(text, memory, capacity)

    def listing(self, i: int = 0) -> str:
        """Program `i` as upstream and the paper print it; see `zero_jax.program.text.listing`."""
        from zero_jax.program import text as listing  # listing imports this module

        return listing.listing(self, i)

    def to_lists(self) -> list[list[list[list[float]]]]:
        """The inverse of `from_lists`."""
        return [self._components(i) for i in range(len(self))]

    def _components(self, i: int) -> list[list[list[float]]]:
        code, data, length = np.asarray(self.code[i]), np.asarray(self.data[i]), np.asarray(self.length[i])
        out = []
        for start, n in zip(self.starts, length, strict=False):
            rows = zip(code[start : start + n].tolist(), data[start : start + n], strict=True)
            out.append([[*c, *_proto_fields(c[0], d)] for c, d in rows])
        return out

    @property
    def starts(self) -> tuple[int, int, int, int]:
        """The first slot of each component, and the number of slots."""
        setup, predict, learn = self.capacity
        return 0, setup, setup + predict, setup + predict + learn

    def __len__(self) -> int:
        return int(self.code.shape[0])

    def __getitem__(self, index: Any) -> "Programs":
        """A batch of the programs that `index` selects; an integer gives a batch of one."""
        if isinstance(index, int | np.integer):
            i = int(index) + (len(self) if index < 0 else 0)
            if not 0 <= i < len(self):
                raise IndexError(f"program {index} of {len(self)}")
            index = slice(i, i + 1)
        return self.with_arrays(self.code[index], self.data[index], self.length[index])

    def with_arrays(self, code: Any, data: Any, length: Any) -> "Programs":
        """Programs of the same capacity and memory size made of other arrays, unchecked."""
        return Programs(code, data, length, self.capacity, self.memory)

    def resized(self, memory: Sequence[int] | None = None, capacity: Sequence[int] | None = None) -> "Programs":
        """The same programs with another memory size or capacity.

        Raises:
          ValueError: where an instruction or an address no longer fits.
        """
        memory = self.memory if memory is None else memory
        return Programs.from_lists(self.to_lists(), memory, self.capacity if capacity is None else capacity)

    def check(self) -> "Programs":
        """Returns itself if every op exists and every address in use is inside the memory.

        Raises:
          ValueError: naming the first wrong program, component and instruction.
        """
        code, length = np.asarray(self.code), np.asarray(self.length)
        if code.shape[1:] != (self.starts[-1], 4) or np.shape(self.data) != (*code.shape[:2], 3):
            raise ValueError(f"code {code.shape} and data {np.shape(self.data)} do not fit capacity {self.capacity}")
        if np.any(length < 0) or np.any(length > np.array(self.capacity)):
            raise ValueError(f"a component's length is outside its capacity {self.capacity}")
        bad = bad_field(code, self.memory)
        if bad.any():
            p, slot = (int(n) for n in np.argwhere(bad)[0])
            c = int(np.searchsorted(self.starts, slot, side="right")) - 1
            where = f"program {p}, {COMPONENTS[c]}, instruction {slot - self.starts[c] + 1}"
            raise ValueError(f"{where}: {_complaint(code[p, slot], self.memory)}")
        return self

    def __repr__(self) -> str:
        shape = f"{len(self)} programs, capacity {self.capacity}, memory {tuple(self.memory)}"
        if len(self) != 1 or isinstance(self.code, jax.core.Tracer):
            return f"Programs({shape})"
        return self.listing(0)

    def _repr_html_(self) -> str:
        shown = [html.escape(self.listing(i)) for i in range(min(len(self), 3))]
        rest = f"<p>... {len(self) - len(shown)} more programs</p>" if len(self) > len(shown) else ""
        return "".join(f"<pre>{text}</pre>" for text in shown) + rest


def concatenate(batches: Sequence[Programs]) -> Programs:
    """Joins batches of equal memory size and capacity along the program axis."""
    first = batches[0]
    if any((b.capacity, b.memory) != (first.capacity, first.memory) for b in batches):
        raise ValueError("programs of different capacity or memory size cannot be joined; use resized() first")
    parts = zip(*((b.code, b.data, b.length) for b in batches), strict=True)
    return first.with_arrays(*(np.concatenate(arrays) for arrays in parts))


def programs_tree(programs: Programs) -> dict[str, Any]:
    """Programs as arrays and plain values."""
    arrays = {name: np.asarray(getattr(programs, name)) for name in ("code", "data", "length")}
    return arrays | {"capacity": list(programs.capacity), "memory": list(programs.memory)}


def programs_from(
    tree: Any, like: "SearchSpace | Programs | None" = None, where: str = "programs", count: int | None = None
) -> Programs:
    """The inverse of `programs_tree`.

    Args:
      tree: what that gave.
      like: a space or programs whose capacity and memory these must have, if any.
      where: what errors call it.
      count: how many programs there must be, if that is known.

    Raises:
      ValueError: anything that `programs_tree` does not give of programs that pass `Programs.check`, or that is not as
        the arguments say.
    """
    told = Fields(tree, where, ("code", "data", "length", "capacity", "memory"))
    capacity, memory = told.wholes("capacity", 3, most=_MOST), told.wholes("memory", 3, most=_MOST)
    for name, given in (("capacity", capacity), ("memory", memory)):
        if like is not None and given != list(getattr(like, name)):
            raise ValueError(f"{told.where(name)} is {given}, not {list(getattr(like, name))}")
    slots = sum(capacity)
    code = told.array("code", np.int32, (count, slots, 4))
    data = told.array("data", np.float32, (len(code), slots, 3))
    length = told.array("length", np.int32, (len(code), 3))
    try:
        found = Programs(code, data, length, (capacity[0], capacity[1], capacity[2]), memory_size(memory)).check()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    used = np.concatenate([np.arange(n) for n in capacity]) < length[:, np.repeat(np.arange(3), capacity)]
    if not np.array_equal(clean(code * used[..., None], data)[0], code):
        raise ValueError(f"{told.where('code')} has addresses that an op does not use, or ops behind a component's end")
    return found


def _decoded(tree: Any, where: str, known: Known) -> Programs:
    programs = programs_from(tree, known.shared.get("like"), where)
    known.shared["like"] = known.shared.get("like") or programs
    return programs


register(Programs, programs_tree, _decoded)  # all programs of a tree have one layout, that of `like` if it is given

_MOST = 2**31 - 1
"""The sizes of a memory, and addresses in it, are int32."""


# ---------------------------------------------------------------------------------------------- instructions


def clean(code: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Zeroes the fields that each instruction's op does not use."""
    op = np.clip(code[..., 0], 0, 64)
    used = np.stack([ops.INPUT_KINDS[op, 0], ops.INPUT_KINDS[op, 1], ops.OUTPUT_KINDS[op]], -1) >= 0
    cleaned = np.concatenate([code[..., :1], np.where(used, code[..., 1:], 0)], -1).astype(np.int32)
    constants = np.arange(3) < ops.CONSTANT_COUNTS[op][..., None]
    return cleaned, np.where(constants, data, np.float32(0)).astype(np.float32)


def bad_field(code: np.ndarray, memory: MemorySize) -> np.ndarray:
    """`[..., L]` whether an instruction has an unknown op or an address outside the memory."""
    unknown = (code[..., 0] < 0) | (code[..., 0] > 64)
    op = np.where(unknown, 0, code[..., 0])
    kinds = np.concatenate([ops.INPUT_KINDS[op], ops.OUTPUT_KINDS[op][..., None]], -1)
    limit = np.where(kinds >= 0, np.array(memory)[kinds], np.iinfo(np.int32).max)
    return unknown | ((code[..., 1:] < 0) | (code[..., 1:] >= limit)).any(-1)


def _complaint(instruction: np.ndarray, memory: MemorySize) -> str:
    number, *addresses = (int(n) for n in instruction)
    if not 0 <= number <= 64:
        return f"there is no op {number} (ops are 0 to 64)"
    op = ops.OPS[number]
    kinds = [*op.inputs.ljust(2), op.output]
    for kind, address in zip(kinds, addresses, strict=True):
        if kind.strip() and not 0 <= address < memory[ops.KINDS.index(kind)]:
            return outside(kind, address, memory)
    return f"{op.name} has an address, {addresses}, in a field that it does not use"


def outside(kind: str, address: int, memory: MemorySize) -> str:
    """What to tell of an address that is outside the memory."""
    index = ops.KINDS.index(kind)
    name, n = MemorySize._fields[index], memory[index]
    return f"{kind}{shown(address)} is outside the memory of {n} {name}" + (f" ({kind}0 to {kind}{n - 1})" if n else "")


def program_bytes(capacity: Sequence[int]) -> int:
    """What the arrays of one program take."""
    return 4 * (7 * sum(int(n) for n in capacity) + 3)


def _component_lists(program: Any, where: str) -> list[list[Any]]:
    components = entries(program, where)
    if len(components) != 3:
        raise ValueError(f"{where} has {len(components)} components, not 3 (setup, predict, learn)")
    return [entries(rows, f"{where}, {name}") for name, rows in zip(COMPONENTS, components, strict=True)]


def _proto_fields(op: int, data: np.ndarray) -> list[float]:
    c = [float(str(x)) for x in data]
    return [c[0], 0.0, 0.0, 0.0] if op == 56 else [0.0, *c]


def _three_whole_numbers(name: str, values: Sequence[int], fields: Sequence[str]) -> tuple[int, int, int]:
    numbers = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if len(numbers) != 3 or any(not isinstance(n, int | np.integer) or isinstance(n, bool) for n in numbers):
        raise ValueError(f"{name} must be three whole numbers ({', '.join(fields)}), not {shown(values)}")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _capacity(capacity: Sequence[int], longest: Sequence[int]) -> Capacity:
    slots = _three_whole_numbers("capacity", capacity, COMPONENTS)
    if min(slots) < 0:
        raise ValueError(f"capacity must not be negative, but is {shown(slots)}")
    check_number("instructions", sum(slots))
    for name, n, have in zip(COMPONENTS, longest, slots, strict=True):
        if n > have:
            raise ValueError(f"{name} has {n} instructions, more than its capacity of {have}")
    return slots


# ---------------------------------------------------------------------------------------------- the search space


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
