"""What simple models reach on tasks: the bar for programs.

Axes: `T` tasks, `N` training examples, `K` validation examples, `F` features.
"""

import numpy as np

from zero_jax.tasks.tasks import Tasks


def affine_fitness(tasks: Tasks) -> float:
    """The mean fitness of the best affine fit: least squares on the training examples of each task, in float64.

    Raises:
      ValueError: labels that are classes or vectors.

    Example:
      >>> from zero_jax.tasks import synthetic
      >>> round(affine_fitness(synthetic.affine(3, train=50)), 6)
      1.0
    """
    if tasks.loss != "rmse" or tasks.vector_labels:
        raise ValueError(
            f"the affine fit is for regression: tasks must have the rmse loss and scalar labels, not {tasks}"
        )
    parts = map(np.asarray, (tasks.train_x, tasks.train_y, tasks.valid_x, tasks.valid_y))
    fitness = []
    for task in zip(*parts, strict=True):
        x, y, new_x, new_y = (part.astype(np.float64) for part in task)
        weights = np.linalg.lstsq(_with_one(x), y, rcond=None)[0]
        rmse = np.sqrt(np.mean((_with_one(new_x) @ weights - new_y) ** 2))
        fitness.append(1 - 2 / np.pi * np.arctan(rmse))
    return float(np.mean(fitness))


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.insert(x, x.shape[1], 1.0, axis=1)
