"""The functional equivalence cache (Real et al. 2020, supplement S4): programs that do the same are trained once."""

import dataclasses
from collections.abc import Callable

from zero_jax.evaluation import cache
from zero_jax.evaluation.base import Batch, Fate, Steps
from zero_jax.evaluation.cache import CACHE_SIZE, Cache
from zero_jax.support.bounds import check_number
from zero_jax.tasks import Tasks

FORGET_EVERY = 100
"""A program is trained again after this many uses of its result (Real et al. 2020, supplement S4)."""

_EQUIVALENT = int(Fate.EQUIVALENT)  # NumPy takes members of an enumeration slowly


@dataclasses.dataclass(frozen=True)
class Probe:
    """Trains and validates programs on a few examples first: one whose errors equal those of an earlier program, to the
    bit, gets its fitness. Executors that cannot compute fingerprints skip this stage.

    Attributes:
      examples: how many training and validation examples.
      cache_size: how many programs to remember, rounded up to a power of two.
      forget_every: after how many uses of a result a program is trained again; 0 for never.

    Raises:
      ValueError: a number beyond `bounds.BOUNDS`.
    """

    examples: int = 10
    cache_size: int = CACHE_SIZE
    forget_every: int = FORGET_EVERY

    def __post_init__(self) -> None:
        check_number("probe", self.examples, 1)
        check_number("cache_size", self.cache_size)
        check_number("forget_every", self.forget_every)

    def part(self, tasks: Tasks) -> Tasks:
        """The examples of the probe."""
        return tasks.shortened(self.examples, self.examples)

    def memory(self, tasks: Tasks) -> Cache:
        """As in `Stage`."""
        return cache.empty(self.cache_size, len(tasks))

    def run(self, batch: Batch, memory: Cache, following: Callable[[Batch], Steps]) -> Steps:
        """As in `Stage`."""
        if not batch.fingerprints:
            return (yield from following(batch))
        waiting = batch.launch(batch.rows, self, True)
        yield
        (prints,) = waiting()
        fate, forget = _EQUIVALENT, self.forget_every
        return (yield from cache.looked_up(memory, prints, batch, following, known=fate, repeated=fate, forget=forget))

    def check(self, memory: Cache, like: Cache, calls: int, where: str) -> None:
        """As in `Stage`."""
        cache.check(memory, like, calls, where)
