"""Regression tasks made from random numbers, with upstream's distributions."""

from collections.abc import Callable

import numpy as np

from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.tasks.tasks import Tasks, check_seen

Targets = Callable[[np.ndarray], np.ndarray]


def check_sizes(n: int, features: int, train: int, valid: int, epochs: int) -> None:
    """Rejects sizes below 1, and tasks that would take too much memory.

    Raises:
      ValueError: if so.
    """
    sizes = {"tasks": n, "features": features, "train": train, "valid": valid, "epochs": epochs}
    for name, size in sizes.items():
        check_number(name, size)
    check_seen(epochs, train)
    what = f"{n:,} tasks of {train:,} + {valid:,} examples of {features:,} features"
    # Numbers of 8 bytes while they are made; a teacher is a matrix besides.
    check_bytes(what, 8 * (n * (train + valid) * (features + 1) + features**2), "take fewer or smaller ones")


def _tasks(
    n: int, features: int, train: int, valid: int, epochs: int, seed: int, target: Callable[..., Targets]
) -> Tasks:
    """Features are N(0, 1); `target` draws one task's labelling function from its generator."""
    check_sizes(n, features, train, valid, epochs)
    parts = []
    for rng in np.random.default_rng(seed).spawn(n):
        label = target(rng)
        x = rng.normal(size=(train + valid, features))
        y = label(x)
        parts.append((x[:train], y[:train], x[train:], y[train:]))
    return Tasks.stack(parts, "rmse", epochs, seed=seed)


def linear(n: int, *, features: int = 4, train: int = 100, valid: int = 100, epochs: int = 1, seed: int = 0) -> Tasks:
    """Tasks y = w . x with w and x from N(0, 1).

    Args:
      n: the number of tasks.
      features: F.
      train: training examples per task.
      valid: validation examples per task.
      epochs: how often training examples are seen.
      seed: of the tasks; equal seeds give equal tasks.

    Raises:
      ValueError: a number below 1.

    Example:
      >>> linear(2, features=8)
      Tasks(2 tasks, 100 + 100 examples, 8 features, rmse, epochs=1)
    """

    def target(rng: np.random.Generator) -> Targets:
        weights = rng.normal(size=features)
        return lambda x: x @ weights

    return _tasks(n, features, train, valid, epochs, seed, target)


def affine(n: int, *, features: int = 4, train: int = 100, valid: int = 100, epochs: int = 1, seed: int = 0) -> Tasks:
    """Tasks y = w . x + b with w, x and b from N(0, 1); arguments as for `linear`."""

    def target(rng: np.random.Generator) -> Targets:
        weights, bias = rng.normal(size=features), rng.normal()
        return lambda x: x @ weights + bias

    return _tasks(n, features, train, valid, epochs, seed, target)


def teacher(n: int, *, features: int = 8, train: int = 100, valid: int = 100, epochs: int = 1, seed: int = 0) -> Tasks:
    """Tasks y = u . relu(M x) with M, u and x from N(0, 1); arguments as for `linear`.

    As upstream's teacher, the network has no biases, and two of its hidden units are silent: rows 0 and 2 of M are
    zero, and so are u[0] and u[2].

    Raises:
      ValueError: fewer than 3 features, or another number below 1.
    """
    if features < 3:
        raise ValueError(f"teacher tasks need at least 3 features, not {features}")

    def target(rng: np.random.Generator) -> Targets:
        hidden, output = rng.normal(size=(features, features)), rng.normal(size=features)
        hidden[[0, 2]], output[[0, 2]] = 0, 0
        return lambda x: np.maximum(x @ hidden.T, 0) @ output

    return _tasks(n, features, train, valid, epochs, seed, target)
