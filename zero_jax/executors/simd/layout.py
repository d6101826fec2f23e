"""How memory of the SIMD executor is laid out, and how much it is. Imports nothing heavy, and no Numba."""

from typing import NamedTuple

from zero_jax.program.memory import MemorySize
from zero_jax.tasks import Tasks

WIDTH = 16
"""How many numbers stand side by side, as many as a vector register has lanes."""

FEW_FEATURES = 12
"""With fewer features tasks are lanes."""

SAVED = 3 / 4
"""Features are lanes where that leaves no more than this share of lanes to compute.

From `experiments/throughput/layouts.py` on a CPU with AVX2: for the same number of lanes a product of matrix and vector
with features as lanes takes longer, since it loads 1.5 numbers for a multiply-add instead of 1.25.
"""


class Layout(NamedTuple):
    """What the lanes of a register hold: sixteen tasks, or features of one task.

    Attributes:
      features: F.
      registers: R, how many hold a vector of one task where features are lanes; 0 where tasks are.
    """

    features: int
    registers: int

    @classmethod
    def of(cls, features: int, tasks: int) -> "Layout":
        """The faster layout for these numbers of features and tasks.

        Example:
          >>> Layout.of(16, 10), Layout.of(16, 16)
          (Layout(features=16, registers=1), Layout(features=16, registers=0))
        """
        wide, groups = cls.with_features(features), -(-tasks // WIDTH)
        share = tasks * wide.registers * WIDTH / (groups * WIDTH * features)
        return wide if features >= FEW_FEATURES and share <= SAVED else cls(features, 0)

    @classmethod
    def with_features(cls, features: int) -> "Layout":
        """With features as lanes."""
        return cls(features, -(-features // WIDTH))

    def least_cycles(self, tasks: int) -> tuple[int, int]:
        """What a matrix of every task costs at least: for an example in training, and for one in validation.

        In training it is loaded, updated by rank one, stored, and multiplied by a vector, all in one pass (`carry.py`);
        in validation it is only loaded and multiplied. A cycle is what a core takes for a multiply-add on sixteen
        numbers; it loads as many in a cycle and stores them in two, all three at a time, whether in one register
        (AVX-512) or in two (AVX2).

        Example:
          >>> Layout(16, 0).least_cycles(10), Layout(16, 1).least_cycles(10)
          ((512, 256), (320, 160))
        """
        registers = tasks * self.registers if self.registers else -(-tasks // WIDTH) * self.features
        return 2 * self.features * registers, self.features * registers

    def value_numbers(self) -> tuple[int, int, int]:
        """How many numbers a scalar, a vector and a matrix hold for each of sixteen tasks, what fills registers too."""
        vector = self.registers * WIDTH or self.features
        return 1, vector, vector * self.features

    def memory_numbers(self, memory: MemorySize) -> int:
        """How many numbers a program's memory holds for each of sixteen tasks."""
        return sum(count * numbers for count, numbers in zip(memory, self.value_numbers(), strict=True))

    def scratch_numbers(self, memory: MemorySize) -> int:
        """How many numbers an instruction may need to set aside.

        With tasks as lanes, those of the largest value. With features as lanes, four matrices, and a row.
        """
        _, vector, matrix = self.value_numbers()
        if self.registers:
            return 4 * matrix + 2
        return matrix if memory.matrices else vector

    def program_bytes(self, memory: MemorySize) -> int:
        """What a thread needs to train a program."""
        return 4 * WIDTH * (self.memory_numbers(memory) + self.scratch_numbers(memory) + 1)

    def tasks_bytes(self, tasks: Tasks) -> int:
        """What tasks take."""
        examples, groups = tasks.train_x.shape[1] + tasks.valid_x.shape[1], -(-len(tasks) // WIDTH)
        vectors = len(tasks) * self.registers or groups * self.features
        return 4 * WIDTH * examples * (groups + vectors)
