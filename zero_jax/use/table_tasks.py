"""Search tasks from one table of examples.

What is found on them should be an algorithm, not a memory of one data set: each task has its own split of the rows, its
own projection of the columns, and for classes its own question.
"""

import numpy as np

from zero_jax.tasks import Tasks

MOST_FEATURES, MOST_TRAIN, MOST_VALID = 16, 400, 100
"""Of each task: what a search can afford."""

VALID_SHARE = 0.25


def regression_tasks(x: np.ndarray, y: np.ndarray, n: int, rng: np.random.Generator) -> Tasks:
    """`n` regression tasks from examples `[N, F]`, standardised, and targets `[N]`."""
    return _tasks(x, [(y, np.arange(len(y)))] * n, "rmse", rng)


def class_tasks(x: np.ndarray, y: np.ndarray, n: int, rng: np.random.Generator) -> Tasks:
    """`n` tasks of two classes from examples `[N, F]`, standardised, and numbers of classes `[N]`.

    With more than two classes a task is one class against the rest or, every other time, one against another. Which of
    the two is class 1 is drawn.
    """
    classes = np.unique(y)
    questions = []
    for t in range(n):
        first, second = rng.choice(classes, 2, replace=len(classes) < 2)
        rows = np.flatnonzero((y == first) | (y == second)) if t % 2 or len(classes) == 2 else np.arange(len(y))
        labels = (y == first).astype(np.float64)
        questions.append((1 - labels if rng.random() < 0.5 else labels, rows))
    return _tasks(x, questions, "accuracy", rng)


def _tasks(x: np.ndarray, questions: list[tuple[np.ndarray, np.ndarray]], loss: str, rng: np.random.Generator) -> Tasks:
    features = min(x.shape[1], MOST_FEATURES)
    fewest = min(len(rows) for _, rows in questions)
    n_valid = max(1, min(MOST_VALID, int(VALID_SHARE * fewest)))
    n_train = max(1, min(MOST_TRAIN, fewest - n_valid))
    parts = []
    for labels, rows in questions:
        chosen = rng.permutation(rows)
        new = _projected(x, features, rng)
        train, valid = chosen[:n_train], chosen[-n_valid:]
        parts.append((new[train], labels[train], new[valid], labels[valid]))
    return Tasks.stack(parts, loss, 1, seed=int(rng.integers(2**31)))  # type: ignore[arg-type]


def _projected(x: np.ndarray, features: int, rng: np.random.Generator) -> np.ndarray:
    """The columns in another order, a random subset of them, or rotated; of mean 0 and deviation 1 again."""
    if rng.random() < 0.5:
        new = x[:, rng.permutation(x.shape[1])[:features]]
    else:
        new = x @ np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0][:, :features]
    spread = new.std(0)
    return (new - new.mean(0)) / np.where(spread > 1e-12, spread, 1.0)
