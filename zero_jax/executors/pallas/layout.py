"""How the Pallas kernel is laid out on a GPU or a TPU, and how much memory it takes there. Imports no kernel."""

from typing import NamedTuple

from zero_jax.executors.stream import runs
from zero_jax.program.memory import MemorySize
from zero_jax.tasks import Tasks

MAX_FEATURES = 32
"""Beyond this a block's values no longer fit a GPU's registers."""

MAX_ADDRESSES = 256
"""An address takes 8 bits of an instruction's word."""


LANES = 128
"""How many tasks a TPU's register holds side by side."""

TPU_BYTES = 14 * 2**20
"""How much of a TPU core's fast memory a program may take: compilers allow 16 MiB for all."""

TPU_EXAMPLES = 200_000
"""How many examples a run may see on a TPU: their order lies among a core's scalars, which have 1 MiB."""


class Layout(NamedTuple):
    """How a kernel is laid out on a GPU.

    Attributes:
      lanes: how many tasks a block takes, a power of two.
      warps: how many groups of 32 threads it has.
      by_row: whether random matrices are drawn row by row, which takes fewer registers.
    """

    lanes: int
    warps: int
    by_row: bool


_LAYOUTS = {
    1: Layout(16, 1, False),
    2: Layout(16, 1, False),
    4: Layout(16, 1, False),
    8: Layout(16, 2, True),
    16: Layout(16, 8, True),
    32: Layout(16, 16, True),
}
"""By F, padded: what the compiler makes of it for an H200 without spills, or with the fewest
(`experiments/throughput/h200.py` prints them). To be measured: `experiments/throughput/gpu.py`."""


def layout_for(features: int, tasks: int) -> Layout:
    """The layout for F features and T tasks: fewer lanes, and in proportion fewer warps, for fewer tasks."""
    most = _LAYOUTS[power_of_two(features)]
    lanes = min(most.lanes, power_of_two(tasks))
    return most._replace(lanes=lanes, warps=max(1, most.warps * lanes // most.lanes))


def power_of_two(n: int) -> int:
    """The next one."""
    return 1 << max(0, n - 1).bit_length()


def program_bytes(memory: MemorySize, tasks: Tasks, errors: bool = False) -> int:
    """What one program takes of the GPU's memory: all lanes, padding included; with the errors of all examples, if
    wanted, and a copy of them.
    """
    layout = layout_for(tasks.features, len(tasks))
    lanes = -(-len(tasks) // layout.lanes) * layout.lanes
    width = power_of_two(tasks.features)
    kept = 2 * runs(tasks) if errors else 0
    return 4 * lanes * (4 + kept + sum(max(1, n) * width**axis for axis, n in enumerate(memory)))


def tpu_core_bytes(memory: MemorySize, features: int, errors: int = 0) -> int:
    """What a program takes of a TPU core's fast memory, if it returns that many errors: its memory, two
    examples, and what it returns, twice. The last axis but one is padded to a multiple of 8.
    """
    wide = _padded_to_8(features)
    numbers = memory.scalars + 8 + (memory.vectors + features * memory.matrices) * wide
    return 4 * LANES * (numbers + 2 * _padded_to_8(features + 1) + 2 * _padded_to_8(errors))


def tpu_program_bytes(tasks: Tasks, errors: bool = False) -> int:
    """What one program takes of a TPU's large memory: what it returns."""
    kept = 2 * _padded_to_8(runs(tasks)) if errors else 0
    return 4 * LANES * -(-len(tasks) // LANES) * (2 * 8 + kept)


def tpu_tasks_bytes(tasks: Tasks) -> int:
    """What the tasks take of a TPU's large memory, laid out and on their way there."""
    examples = tasks.train_x.shape[1] + tasks.valid_x.shape[1]
    return 2 * 4 * LANES * -(-len(tasks) // LANES) * examples * _padded_to_8(tasks.features + 1)


def _padded_to_8(n: int) -> int:
    return -(-n // 8) * 8


def most_programs(program_bytes: int) -> int:
    """How many programs of that size fit a call: offsets into its arrays are 32-bit numbers."""
    return max(1, (2**31 - 1) // program_bytes * 4)
