"""Search tasks from one table of examples.

What is found on them should be an algorithm, not a memory of one data set: each task has its own split of the rows, its
own projection of the columns, and for classes its own question.
"""

import numpy as np

from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import TaskSet
from zero_jax.tasks.tasks import Loss
from zero_jax.use.splits import Across, Splits

MOST_FEATURES, MOST_TRAIN, MOST_VALID = 16, 400, 100
"""Of each task: what a search can afford."""

VALID_SHARE, HELD_OUT = 0.25, 0.2
"""Of the rows of a task, those to score on; and of a table, those that no search sees."""


def regression_tasks(
    x: np.ndarray,
    y: np.ndarray,
    n: int,
    rng: np.random.Generator,
    splits: Splits | Across | None = None,
    *,
    bias: bool = False,
) -> Tasks:
    """`n` regression tasks from examples `[N, F]`, standardised, and targets `[N]`.

    Args:
      x: the examples.
      y: their targets.
      n: how many tasks.
      rng: where randomness comes from; it is advanced.
      splits: which rows may be apart; None for any.
      bias: whether the last feature is always 1.
    """
    return _tasks(x, [(y, np.arange(len(y)))] * n, "rmse", rng, splits or Splits(len(y)), bias)


def class_tasks(
    x: np.ndarray,
    y: np.ndarray,
    n: int,
    rng: np.random.Generator,
    splits: Splits | Across | None = None,
    *,
    bias: bool = False,
) -> Tasks:
    """`n` tasks of two classes from examples `[N, F]`, standardised, and numbers of classes `[N]`.

    With more than two classes a task is one class against the rest or, every other time, one against another. Which of
    the two is class 1 is drawn. Arguments are those of `regression_tasks`.
    """
    classes = np.unique(y)
    questions = []
    for t in range(n):
        first, second = rng.choice(classes, 2, replace=len(classes) < 2)
        rows = np.flatnonzero((y == first) | (y == second)) if t % 2 or len(classes) == 2 else np.arange(len(y))
        labels = (y == first).astype(np.float64)
        questions.append((1 - labels if rng.random() < 0.5 else labels, rows))
    return _tasks(x, questions, "accuracy", rng, splits or Splits(len(y)), bias)


def table_sets(
    x: np.ndarray, y: np.ndarray, classes: bool, numbers: tuple[int, int, int], splits: Splits
) -> tuple[TaskSet, TaskSet, TaskSet]:
    """T_search, T_select and unseen tasks of one table, for a run with checkpoints and a report.

    Unseen tasks learn from the rows that the others are made of, and score on a fifth that these never see.

    Args:
      x: examples `[N, F]`.
      y: targets `[N]`: numbers, or those of classes.
      classes: whether these are classes.
      numbers: how many tasks of each kind.
      splits: which rows may be apart.
    """
    kept, out = splits.held_out(HELD_OUT, seed=0)
    center, spread = moments(x[kept])
    x = (x - center) / spread
    if not classes:
        mean, deviation = moments(y[kept, None])
        y = (y - mean[0]) / deviation[0]
    make = class_tasks if classes else regression_tasks
    seen = [
        TaskSet.of(make(x[kept], y[kept], n, np.random.default_rng(seed), splits.among(kept)))
        for seed, n in enumerate(numbers[:2])
    ]
    unseen = make(x, y, numbers[2], np.random.default_rng(2), Across(kept, out))
    return seen[0], seen[1], TaskSet.of(unseen)


def moments(x: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The mean and standard deviation of each column, 1 for a constant one."""
    scale = np.maximum(np.abs(x).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)  # squares must not overflow
    mean = np.average(x / scale, axis=0, weights=weights)
    deviation = np.sqrt(np.average((x / scale - mean) ** 2, axis=0, weights=weights))
    constant = deviation <= 10 * np.finfo(np.float64).eps
    return mean * scale, np.where(constant, 1.0, deviation * scale)


def _tasks(
    x: np.ndarray,
    questions: list[tuple[np.ndarray, np.ndarray]],
    loss: Loss,
    rng: np.random.Generator,
    splits: Splits | Across,
    bias: bool,
) -> Tasks:
    features = min(x.shape[1], MOST_FEATURES - bias)
    fewest = min(len(rows) for _, rows in questions)
    n_valid = max(1, min(MOST_VALID, int(VALID_SHARE * fewest)))
    n_train = max(1, min(MOST_TRAIN, fewest - n_valid))
    parts = []
    for labels, rows in questions:
        train, valid = splits.drawn(rows, n_train, n_valid, rng)
        new = _projected(x, features, rng)
        if bias:
            new = np.insert(new, features, 1.0, axis=1)
        parts.append((new[train], labels[train], new[valid], labels[valid]))
    return Tasks.stack(parts, loss, 1, seed=int(rng.integers(2**31)))


def _projected(x: np.ndarray, features: int, rng: np.random.Generator) -> np.ndarray:
    """The columns in another order, a random subset of them, or rotated; of mean 0 and deviation 1 again."""
    if rng.random() < 0.5:
        new = x[:, rng.permutation(x.shape[1])[:features]]
    else:
        new = x @ np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0][:, :features]
    spread = new.std(0)
    return (new - new.mean(0)) / np.where(spread > 1e-12, spread, 1.0)
