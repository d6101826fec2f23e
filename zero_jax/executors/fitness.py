"""From predictions and labels to fitness.

Axes: `P` programs, `T` tasks, `F` features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def rmse_fitness(mean_squared_error: Array, arctan: Callable[[Array], Array] = jnp.arctan) -> Array:
    """1 - (2 / pi) atan(RMSE), as in the paper's code; its gradient is 0 where the error is 0."""
    positive = mean_squared_error > 0
    rmse = jnp.where(positive, jnp.sqrt(jnp.where(positive, mean_squared_error, 1.0)), 0.0)
    return 1.0 - (2.0 / np.pi) * arctan(rmse)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + jnp.exp(-x))


class Classes(NamedTuple):
    """What vector labels and predictions mean. Arrays have features along one `axis`, batch axes around it.

    Attributes:
      number: C; the first C elements count.
      axis: that of features.
    """

    number: int
    axis: int

    def _numbers(self, x: Array) -> Array:
        return lax.broadcasted_iota(jnp.int32, x.shape, self.axis % x.ndim)

    def label(self, like: Array, number: Array) -> Array:
        """1 at the class of that number (an array without the axis), 0 elsewhere; shaped as `like`."""
        each = jnp.expand_dims(number, self.axis)
        return (self._numbers(like).astype(jnp.float32) == each).astype(jnp.float32)

    def probabilities(self, logits: Array) -> Array:
        """The first C elements after softmax, the others as they are; all C are NaN where one is, or infinite."""
        inside = self._numbers(logits) < self.number
        top = jnp.max(jnp.where(inside, logits, -jnp.inf), self.axis, keepdims=True)
        each = jnp.where(inside, jnp.exp(logits - top), 0.0)
        return jnp.where(inside, each / jnp.sum(each, self.axis, keepdims=True), logits)

    def error(self, probabilities: Array, number: Array) -> Array:
        """The largest |label - probability|, NaN where probabilities are; without the axis."""
        inside = self._numbers(probabilities) < self.number
        away = jnp.where(inside, jnp.abs(self.label(probabilities, number) - probabilities), 0.0)
        undefined = jnp.sum((away != away).astype(jnp.int32), self.axis) > 0  # not every device's maximum keeps a NaN
        return jnp.where(undefined, jnp.nan, jnp.max(away, self.axis))

    def predicted(self, logits: Array) -> Array:
        """The number of the class with the largest element, the last of equal ones, as float32. NaN elements do not
        count; class 0 is predicted where all are NaN.
        """
        numbers = self._numbers(logits)
        usable = (numbers < self.number) & (logits == logits)
        top = jnp.max(jnp.where(usable, logits, -jnp.inf), self.axis, keepdims=True)
        return jnp.max(jnp.where(usable & (logits == top), numbers, 0), self.axis).astype(jnp.float32)


def program_fitness(fitness: Any, combine: str = "mean") -> np.ndarray:
    """Combines the fitness on each task into one fitness per program.

    Args:
      fitness: `[P, T]`.
      combine: `mean`, or `median` (the upper one for an even number of tasks).

    Returns:
      `[P]` float64.

    Raises:
      ValueError: an unknown `combine`.

    Example:
      >>> program_fitness([[0.0, 0.5, 1.0, 1.0]], "median").tolist()
      [1.0]
    """
    values = np.asarray(fitness, np.float64)
    if combine == "mean":
        return values.mean(-1)
    if combine == "median":
        return np.sort(values, -1)[..., values.shape[-1] // 2]
    raise ValueError(f"combine must be 'mean' or 'median', not {combine!r}")
