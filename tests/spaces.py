"""Search spaces that several tests use."""

from zero_jax import MemorySize, SearchSpace

EVERY_OP = tuple(range(65))

ALL_OPS = SearchSpace(MemorySize(5, 4, 3), EVERY_OP, EVERY_OP, EVERY_OP, (2, 2, 2), (6, 8, 8), (8, 10, 12))
"""Every op in every component."""

DEMO = SearchSpace(MemorySize(4, 3, 1), *[(2, 3, 18, 23, 27, 56)] * 3, (10, 2, 8), (10, 2, 8), (10, 2, 8))
"""That of the `linear` preset."""

SMALL = SearchSpace(MemorySize(4, 3, 1), (56, 57), (27,), (2, 3, 18, 23), (1, 1, 1), (3, 1, 4), (5, 2, 6))
"""Of varying sizes, and quick to compile."""
