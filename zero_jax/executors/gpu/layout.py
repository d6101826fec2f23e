"""How the CUDA executor lays out a block of threads and its memory. Imports nothing that needs a GPU.

A block trains one program on up to sixteen tasks, its lanes. A value is `[element, lane]` in the block's memory, so
that threads that work on neighbouring lanes touch neighbouring words.
"""

import dataclasses
from typing import Any, NamedTuple

from zero_jax.executors import stream
from zero_jax.program.memory import MemorySize
from zero_jax.tasks import Tasks

MAX_LANES = 16
"""How many tasks a block takes at most."""

FEW_FEATURES = 32
"""Up to that many features a thread keeps its elements of a product of matrices to itself, and a block takes several
tasks. Beyond, they go to a matrix in the block's memory, and a block takes one task, so that the few programs that
fit a GPU keep all of it busy."""

MANY_FEATURES = 512
"""From about there on, XLA should be faster (`experiments/throughput/model.py`): too few programs fit beside each other
to ask the GPU's memory for all that it can give, while XLA spreads each instruction over the whole of it."""

SHARED_BYTES = 96 * 2**10
"""How much shared memory a block may take: all that GPUs of capability 8.6 have for one. On an H100 or H200 two such
blocks fit side by side. What does not fit lies in global memory."""

MAX_WORDS = 2**31 - 1
"""How many 32-bit words the memory of a block may have: instructions hold places in it."""

ROW_WORDS = 8
"""32-bit words of an instruction as the kernel reads it: 32 bytes, so that a thread loads 16 at a time."""


class Layout(NamedTuple):
    """How a kernel is laid out on a GPU, and what brings it there.

    Attributes:
      features: the most that it serves.
      columns: how many elements of a vector, or of a row of a matrix, threads work on side by side at most.
      blocks: how many fit a multiprocessor side by side at least, which bounds the registers of a thread.
      carrier: `warp` or `ptx`, after the modules `warp_carrier` and `ptx_carrier`.
    """

    features: int
    columns: int
    blocks: int
    carrier: str = "warp"


LAYOUTS = (
    Layout(4, 2, 32),
    Layout(8, 2, 20),
    Layout(16, 8, 7),
    Layout(32, 16, 2),
    Layout(64, 64, 8),
    Layout(128, 128, 8),
)
"""Up to 32 features, what `experiments/throughput/model.py` thinks the fastest: few warps a block, since each of them
fetches and dispatches every instruction, and registers enough for no spills. Beyond, a guess: threads enough to have
loads under way. To be measured on a GPU."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the kernel's text depends on.

    Attributes:
      memory: how many addresses there are of each kind.
      slots: the first slot of each component, and the end of the last.
      features: F.
      lanes: tasks of a block.
      groups: blocks of a program.
      columns: as in `Layout`, shared out evenly over the turns that F elements take.
      blocks: how many of them a multiprocessor holds at least.
      carrier: what brings it to the GPU.
      shared_bytes: how much shared memory a block may take.
      accuracy: whether the loss is accuracy.
      classes: C where labels are vectors, else 0.
      errors: whether to return the error of each example.
      carries: whether to return the memory that training leaves.
      component: the one to run, once and on a given memory; None to train.
    """

    memory: MemorySize
    slots: tuple[int, ...]
    features: int
    lanes: int
    groups: int
    columns: int
    blocks: int
    carrier: str
    shared_bytes: int
    accuracy: bool = False
    classes: int = 0
    errors: bool = False
    carries: bool = False
    component: int | None = None

    @property
    def threads(self) -> int:
        """Threads of a block: a multiple of 32, which a GPU would make of it anyway."""
        return -(-self.lanes * self.columns // 32) * 32

    @property
    def turns(self) -> int:
        """How many elements of a vector, or of a row of a matrix, a thread works on."""
        return -(-self.features // self.columns)

    @property
    def all_lanes(self) -> int:
        """The lanes of all groups: T, and those that no task fills."""
        return self.groups * self.lanes

    @property
    def row(self) -> int:
        """How far apart the rows of a matrix are, in elements: an odd number, so that threads that read two rows at a
        time find them in different banks of shared memory.
        """
        return self.features | 1

    @property
    def elements(self) -> tuple[int, int, int]:
        """Elements that a value takes in memory: scalar, vector, matrix."""
        return 1, self.features, self.features * self.row

    @property
    def starts(self) -> tuple[int, int, int, int]:
        """Where scalars, vectors and matrices begin in a block's memory and where it ends, in elements."""
        s, v, m = (n * size for n, size in zip(self.memory, self.elements, strict=True))
        return 0, s, s + v, s + v + m

    @property
    def code_words(self) -> int:
        """32-bit words that a block's instructions take."""
        return ROW_WORDS * (self.slots[-1] + 1)

    @property
    def code_in_shared(self) -> bool:
        """Whether a block's instructions lie in shared memory."""
        return 4 * self.code_words <= self.shared_bytes // 6

    @property
    def state_words(self) -> int:
        """32-bit words of shared memory that a block takes for its instructions and the state of its runs."""
        return self.code_in_shared * self.code_words + 3 + 4 * self.lanes + 1

    @property
    def needs_scratch(self) -> bool:
        """Whether a block's memory ends with a matrix for what a product of matrices keeps."""
        return self.features > FEW_FEATURES

    @property
    def memory_words(self) -> int:
        """32-bit words of the memory of a block."""
        return max(1, (self.starts[-1] + self.needs_scratch * self.elements[2]) * self.lanes)

    @property
    def in_shared(self) -> bool:
        """Whether the memory of a block lies in shared memory."""
        return 4 * (self.state_words + self.memory_words) <= self.shared_bytes

    @property
    def keeps_memory(self) -> bool:
        """Whether a kernel fills an array with the memory of all blocks."""
        return self.carries or self.component is not None or not self.in_shared

    @property
    def shared_words(self) -> int:
        """32-bit words of shared memory that a block takes."""
        return self.state_words + (self.memory_words if self.in_shared else 0)


def shape_of(
    memory: MemorySize, slots: tuple[int, ...], features: int, tasks: int, layout: Layout | None = None, **more: Any
) -> Shape:
    """The shape for programs of that memory and those slots; groups share the tasks evenly."""
    groups = -(-tasks // (MAX_LANES if features <= FEW_FEATURES else 1))
    layout = layout or next((row for row in LAYOUTS if features <= row.features), LAYOUTS[-1])
    lanes = -(-tasks // groups)
    columns = -(-features // -(-features // layout.columns))
    blocks, carrier = layout.blocks, layout.carrier
    shape = Shape(memory, slots, features, lanes, groups, columns, blocks, carrier, SHARED_BYTES, **more)
    # Pointers to global memory are twice as long, and take registers.
    return shape if shape.in_shared else dataclasses.replace(shape, blocks=1)


def program_bytes(memory: MemorySize, tasks: Tasks, errors: bool = False) -> int:
    """What one program takes of the GPU's memory beside its instructions: results; its memory, where that does not fit
    a multiprocessor; and the errors of all examples, if wanted, with a copy of them.
    """
    shape = shape_of(memory, (0, 0, 0, SHARED_BYTES // 6 // (4 * ROW_WORDS) - 1), tasks.features, len(tasks))
    kept = 2 * stream.runs(tasks) if errors else 0
    spilled = 0 if shape.in_shared else shape.groups * shape.memory_words
    return 4 * (shape.all_lanes * (4 + kept) + spilled)
