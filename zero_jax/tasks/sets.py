"""`TaskSet`: a description of tasks, as a preset or a command line gives it."""

import dataclasses
from pathlib import Path
from typing import Literal, cast

import numpy as np

from zero_jax.tasks import arrays, synthetic
from zero_jax.tasks.tasks import Loss, Tasks

Role = Literal["search", "select", "unseen"]

SYNTHETIC = {"linear": synthetic.linear, "affine": synthetic.affine, "teacher": synthetic.teacher}
PAIRED = {"digits": arrays.digits, "synthetic_images": arrays.synthetic_images}
SOURCES: tuple[str, ...] = (*SYNTHETIC, *PAIRED)

N_PROJECTIONS = 100
"""A search on pairs of classes draws its projections from so many seeds (SPEC 4)."""


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """What tasks to make.

    Attributes:
      source: linear, affine or teacher (regression); digits (pairs of handwritten digits) or synthetic_images (pairs of
        classes of random images of CIFAR-10's shape); or the path of an NPZ file with your own arrays (see `load`),
        which brings its own numbers: the other fields do not apply to it.
      tasks: how many tasks.
      features: F: how many features an example has; 0 for all that examples of a pair of classes have.
      train: training examples per task.
      valid: validation examples per task.
      epochs: how often a program sees the training examples.
    """

    source: str = "linear"
    tasks: int = 10
    features: int = 4
    train: int = 100
    valid: int = 100
    epochs: int = 1

    def make(self, seed: int = 0, role: Role = "search") -> Tasks:
        """The tasks, with ids that tell different tasks apart wherever they are made.

        Regression tasks differ by `seed` alone. Pairs of classes differ by role too: 36 class pairs serve the search,
        which draws pairs and projections at random; the other 9 serve selection; and unseen tasks are those of
        selection validated on examples that were set apart.

        Raises:
          ValueError: an unknown source, or numbers that it cannot serve.
        """
        if seed < 0:
            raise ValueError(f"the seed of tasks must be at least 0, not {seed}")
        if self.source in SYNTHETIC:
            sizes = {"features": self.features, "train": self.train, "valid": self.valid, "epochs": self.epochs}
            tasks = SYNTHETIC[self.source](self.tasks, **sizes, seed=seed)
            return tasks.with_ids(_ids(self.source, seed, np.arange(self.tasks)))
        if self.source in PAIRED:
            return self._pairs(seed, role)
        if self.source.endswith(".npz"):
            return load(self.source)
        raise ValueError(f"no tasks {self.source!r}; there are {', '.join(SOURCES)}, and the path of an .npz file")

    def _pairs(self, seed: int, role: Role) -> Tasks:
        if self.tasks < 1:
            raise ValueError(f"tasks must be at least 1, not {self.tasks}")
        rng = np.random.default_rng(seed)
        pairs = arrays.class_pairs(select=role != "search")
        if role == "search":
            drawn = rng.choice(len(pairs) * N_PROJECTIONS, self.tasks, replace=self.tasks > len(pairs) * N_PROJECTIONS)
        else:
            drawn = np.arange(self.tasks)  # all pairs on one projection, then on the next
        parts = []
        for i in map(int, drawn):
            one = PAIRED[self.source](
                [pairs[i % len(pairs)]],
                features=self.features or None,
                train=self.train,
                valid=self.valid,
                test=self.valid,
                part="test" if role == "unseen" else "valid",
                projections=[i // len(pairs)],
            )
            parts.append((one.train_x[0], one.train_y[0], one.valid_x[0], one.valid_y[0]))
        return Tasks.stack(parts, "accuracy", self.epochs, seed=seed, ids=_ids(f"{self.source} {role}", 0, drawn))


def _ids(source: str, seed: int, numbers: np.ndarray) -> np.ndarray:
    """Task ids from what tasks are made of: 31 bits of a hash."""
    words = [[*source.encode(), seed, int(number)] for number in numbers]
    return np.array([np.random.SeedSequence(w).generate_state(1)[0] >> 1 for w in words], np.int32)


def load(path: str | Path) -> Tasks:
    """Your own arrays: an NPZ file with train_x, train_y, valid_x, valid_y and, if wanted, loss and epochs.

    Raises:
      ValueError: a file that cannot be read or lacks an array, and all that `Tasks` objects to.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays_in_it:
            stored = dict(arrays_in_it)
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except Exception as error:
        reason = "it holds Python objects" if "pickle" in str(error) and "Object" in str(error) else "it cannot be read"
        raise ValueError(f"{path} is not an NPZ file of arrays of numbers: {reason}") from None
    missing = [name for name in ("train_x", "train_y", "valid_x", "valid_y") if name not in stored]
    if missing:
        raise ValueError(f"{path} has no array {', '.join(missing)}; it has {', '.join(stored) or 'none'}")
    train_x, train_y, valid_x, valid_y = (stored[name] for name in ("train_x", "train_y", "valid_x", "valid_y"))
    loss, epochs = str(stored.get("loss", "rmse")), stored.get("epochs", np.array(1))
    try:
        if epochs.shape or not np.issubdtype(epochs.dtype, np.number):
            raise ValueError(f"epochs must be one whole number, not {epochs.tolist()!r}")
        return Tasks(train_x, train_y, valid_x, valid_y, cast(Loss, loss), epochs.item())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
