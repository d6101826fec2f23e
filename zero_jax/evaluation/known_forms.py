"""Known canonical forms: equal programs are trained once."""

import dataclasses
from collections.abc import Callable

from zero_jax.evaluation import cache
from zero_jax.evaluation.base import Batch, Fate, Steps
from zero_jax.evaluation.cache import CACHE_SIZE, Cache
from zero_jax.support.bounds import check_number
from zero_jax.tasks import Tasks

_KNOWN, _REPEATED = int(Fate.KNOWN), int(Fate.REPEATED)  # NumPy takes members of an enumeration slowly


@dataclasses.dataclass(frozen=True)
class KnownForms:
    """Trains each canonical form once, as long as it is remembered. Results do not depend on it.

    Attributes:
      cache_size: how many programs to remember, rounded up to a power of two.

    Raises:
      ValueError: a size beyond `bounds.BOUNDS`.
    """

    cache_size: int = CACHE_SIZE

    def __post_init__(self) -> None:
        check_number("cache_size", self.cache_size)

    def memory(self, tasks: Tasks) -> Cache:
        """As in `Stage`."""
        return cache.empty(self.cache_size, len(tasks))

    def run(self, batch: Batch, memory: Cache, following: Callable[[Batch], Steps]) -> Steps:
        """As in `Stage`."""
        return cache.looked_up(memory, batch.hashes, batch, following, known=_KNOWN, repeated=_REPEATED)

    def check(self, memory: Cache, like: Cache, calls: int, where: str) -> None:
        """As in `Stage`."""
        cache.check(memory, like, calls, where)
