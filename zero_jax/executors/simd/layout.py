"""What memory the SIMD executor takes. Imports nothing heavy, and no Numba."""

from zero_jax.program.memory import MemorySize
from zero_jax.tasks import Tasks

WIDTH = 16
"""How many tasks stand side by side, as many as a vector register has lanes."""


def memory_numbers(memory: MemorySize, features: int) -> int:
    """How many numbers a program's memory holds for one task."""
    return memory.scalars + memory.vectors * features + memory.matrices * features * features


def scratch_numbers(memory: MemorySize, features: int) -> int:
    """How many numbers the largest value holds, which an instruction may need to set aside."""
    return features * features if memory.matrices else features


def program_bytes(memory: MemorySize, features: int) -> int:
    """What a thread needs to train a program."""
    return 4 * WIDTH * (memory_numbers(memory, features) + scratch_numbers(memory, features) + 1)


def tasks_bytes(tasks: Tasks) -> int:
    """What tasks take, laid out in lanes."""
    examples = tasks.train_x.shape[1] + tasks.valid_x.shape[1]
    return 4 * WIDTH * -(-len(tasks) // WIDTH) * examples * (tasks.features + 1)
