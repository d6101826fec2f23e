"""`Programs`: a batch of programs as arrays.

Axes: `P` programs; `L` instruction slots, those of Setup, then Predict, then Learn.
"""

import dataclasses
import html
import importlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np

from zero_jax.program import ops
from zero_jax.program.instructions import entries, fields_of, instruction_fields
from zero_jax.program.memory import (
    COMPONENTS,
    Capacity,
    Interface,
    MemorySize,
    memory_size,
    outside,
    three_whole_numbers,
)
from zero_jax.program.text import from_json, is_json, read, to_json, to_listing, to_proto
from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.support.codec import Array, Known, Range, encode, register
from zero_jax.support.foreign import shown


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
        r"""Reads one program from its listing, upstream's text proto, or JSON, whichever `text` is.

        Args:
          text: what to read. The paper's short forms (`heaviside(v3)`, `gaussian(0, 0.1)`) and `#` comments
            are allowed.
          memory: (scalars, vectors, matrices); by default that in JSON, or the smallest that holds every address.
          capacity: slots per component; by default that in JSON, or the program's own lengths.

        Returns:
          A batch of one program; for JSON, of all of them.

        Raises:
          ValueError: naming line, component and instruction.

        Example:
          >>> text = "def Setup(): s2 = 0.5\ndef Predict(): s1 = s2 * s2\ndef Learn():"
          >>> Programs.parse(text, memory=(3, 1, 0)).length.tolist()
          [[1, 1, 0]]
        """
        if is_json(text):
            programs = cls.from_json(text)
            return programs if memory is None and capacity is None else programs.resized(memory, capacity)
        program, size = read(text, memory)
        return cls.from_lists([program], size, capacity)

    @classmethod
    def from_json(cls, text: str) -> "Programs":
        """The inverse of `to_json`.

        Raises:
          ValueError: text that is not JSON, another schema, a missing field, or programs that do not fit their memory.
        """
        return cls.from_lists(*from_json(text))

    def to_json(self) -> str:
        """All programs as JSON: memory size, capacity, and the instructions as in `from_lists`."""
        return to_json(self.to_lists(), self.memory, self.capacity)

    def to_proto(self, i: int = 0) -> str:
        """Program `i` in the text form of upstream's SerializedAlgorithm, one instruction a line."""
        return to_proto(self._components(i))

    def listing(self, i: int = 0) -> str:
        """Program `i` as upstream and the paper print it, one instruction a line.

        Example:
          >>> from zero_jax import library
          >>> print(library.program("linear").listing())
          def Setup():
            s2 = 0.01
          def Predict():
            s1 = dot(v1, v0)
          def Learn():
            s3 = s0 - s1
            s3 = s2 * s3
            v2 = s3 * v0
            v1 = v1 + v2
        """
        return to_listing(self._components(i))

    def graph(self, i: int = 0, interface: Interface | None = None) -> Any:
        """Program `i` without dead code as a picture of its flow of data, a matplotlib `Figure`.

        Example:
          >>> from zero_jax import library
          >>> library.program("network").graph().savefig("network.svg")    # doctest: +SKIP
        """
        # By name: the module imports this one.
        figure = importlib.import_module("zero_jax.program.graph").graph
        at = range(len(self))[i]
        return figure(self[at : at + 1], interface)

    def to_lists(self) -> list[list[list[list[float]]]]:
        """The inverse of `from_lists`."""
        return [self._components(i) for i in range(len(self))]

    def _components(self, i: int) -> list[list[list[float]]]:
        code, data, length = np.asarray(self.code[i]), np.asarray(self.data[i]), np.asarray(self.length[i])
        out = []
        for start, n in zip(self.starts, length, strict=False):
            rows = zip(code[start : start + n].tolist(), data[start : start + n], strict=True)
            out.append([[*c, *fields_of(c[0], [float(str(x)) for x in d])] for c, d in rows])
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
          ValueError: naming the first invalid program, component and instruction.
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


_Size = Annotated[int, Range(0, 2**31 - 1)]
"""Addresses in a memory are int32."""


class _Stored(NamedTuple):
    """The fields of `Programs`: `N` of them, with `S` slots."""

    code: Annotated[np.ndarray, Array(np.int32, ("N", "S", 4))]
    data: Annotated[np.ndarray, Array(np.float32, ("N", "S", 3), finite=False)]
    length: Annotated[np.ndarray, Array(np.int32, ("N", 3))]
    capacity: tuple[_Size, _Size, _Size]
    memory: tuple[_Size, _Size, _Size]


def _decoded(tree: Any, where: str, known: Known) -> Programs:
    """Programs of one layout in all of a tree, that of `like` if it is given."""
    stored, like = known.decode(_Stored, tree, where), known.shared.get("like")
    for name, given in (("capacity", stored.capacity), ("memory", stored.memory)):
        if like is not None and given != tuple(getattr(like, name)):
            raise ValueError(f"{where}.{name} is {list(given)}, not {list(getattr(like, name))}")
    code, data, length, capacity, memory = stored
    if code.shape[1] != sum(capacity):
        raise ValueError(f"{where}.code has {code.shape[1]} slots, not {sum(capacity)}")
    try:
        programs = Programs(code, data, length, capacity, memory_size(memory)).check()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    used = np.concatenate([np.arange(n) for n in capacity]) < np.repeat(length, capacity, axis=1)
    if not np.array_equal(clean(code * used[..., None], data)[0], code):
        raise ValueError(f"{where}.code has addresses that an op does not use, or ops beyond a component's end")
    known.shared["like"] = like or programs
    return programs


register(Programs, lambda programs: encode(programs, _Stored), _decoded)


# ---------------------------------------------------------------------------------------------- instructions


def clean(code: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Zeroes the fields that each instruction's op does not use."""
    op = np.clip(code[..., 0], 0, len(ops.OPS) - 1)
    used = np.stack([ops.INPUT_KINDS[op, 0], ops.INPUT_KINDS[op, 1], ops.OUTPUT_KINDS[op]], -1) >= 0
    cleaned = np.concatenate([code[..., :1], np.where(used, code[..., 1:], 0)], -1).astype(np.int32)
    constants = np.arange(3) < ops.CONSTANT_COUNTS[op][..., None]
    return cleaned, np.where(constants, data, np.float32(0)).astype(np.float32)


def bad_field(code: np.ndarray, memory: MemorySize) -> np.ndarray:
    """`[..., L]` whether an instruction has an unknown op or an address outside the memory."""
    unknown = (code[..., 0] < 0) | (code[..., 0] >= len(ops.OPS))
    op = np.where(unknown, 0, code[..., 0])
    kinds = np.concatenate([ops.INPUT_KINDS[op], ops.OUTPUT_KINDS[op][..., None]], -1)
    limit = np.where(kinds >= 0, np.array(memory)[kinds], np.iinfo(np.int32).max)
    return unknown | ((code[..., 1:] < 0) | (code[..., 1:] >= limit)).any(-1)


def _complaint(instruction: np.ndarray, memory: MemorySize) -> str:
    number, *addresses = (int(n) for n in instruction)
    if not 0 <= number < len(ops.OPS):
        return f"there is no op {number} (ops are 0 to {len(ops.OPS) - 1})"
    op = ops.OPS[number]
    kinds = [*op.inputs.ljust(2), op.output]
    for kind, address in zip(kinds, addresses, strict=True):
        if kind.strip() and not 0 <= address < memory[ops.KINDS.index(kind)]:
            return outside(kind, address, memory)
    return f"{op.name} has an address, {addresses}, in a field that it does not use"


def program_bytes(capacity: Sequence[int]) -> int:
    """The bytes that the arrays of one program take."""
    return 4 * (7 * sum(int(n) for n in capacity) + 3)


def _component_lists(program: Any, where: str) -> list[list[Any]]:
    components = entries(program, where)
    if len(components) != 3:
        raise ValueError(f"{where} has {len(components)} components, not 3 (setup, predict, learn)")
    return [entries(rows, f"{where}, {name}") for name, rows in zip(COMPONENTS, components, strict=True)]


def _capacity(capacity: Sequence[int], longest: Sequence[int]) -> Capacity:
    slots = three_whole_numbers("capacity", capacity, COMPONENTS)
    if min(slots) < 0:
        raise ValueError(f"capacity must not be negative, but is {shown(slots)}")
    check_number("instructions", sum(slots))
    for name, n, have in zip(COMPONENTS, longest, slots, strict=True):
        if n > have:
            raise ValueError(f"{name} has {n} instructions, more than its capacity of {have}")
    return slots
