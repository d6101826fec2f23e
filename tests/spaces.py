"""Search spaces that several tests use."""

from zero_jax import Component, SearchSpace

EVERY_OP = tuple(range(65))

ALL_OPS = SearchSpace(
    (5, 4, 3), Component(EVERY_OP, (2, 6, 8)), Component(EVERY_OP, (2, 8, 10)), Component(EVERY_OP, (2, 8, 12))
)
"""Every op in every component."""

DEMO = SearchSpace(
    (4, 3, 1),
    Component((2, 3, 18, 23, 27, 56), (10, 10, 10)),
    Component((2, 3, 18, 23, 27, 56), (2, 2, 2)),
    Component((2, 3, 18, 23, 27, 56), (8, 8, 8)),
)
"""That of the `linear` preset."""

SMALL = SearchSpace(
    (4, 3, 1),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET"), (1, 3, 5)),
    Component(("VECTOR_INNER_PRODUCT",), (1, 1, 2)),
    Component(("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (1, 4, 6)),
)
"""Of varying sizes, and quick to compile."""

GENES = SearchSpace(
    (3, 3, 0),
    Component(("SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET")),
    Component(("VECTOR_INNER_PRODUCT",), (1, 1, 1)),
    Component(("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (1, 4, 6)),
    initial_values=True,
)
"""Of linear programs, with initial values in place of Setup's instructions."""
