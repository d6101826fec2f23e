"""`TaskSet`: a description of tasks, as a preset or a command line gives it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.support.foreign import shown
from zero_jax.tasks import arrays, images, synthetic
from zero_jax.tasks.npz import load as load
from zero_jax.tasks.npz import save as save
from zero_jax.tasks.tasks import Tasks, check_seen

Role = Literal["search", "select", "unseen"]

SYNTHETIC = {"linear": synthetic.linear, "affine": synthetic.affine, "teacher": synthetic.teacher}
SOURCES: tuple[str, ...] = (*SYNTHETIC, "digits", "synthetic_images", *images.SETS)

_OTHER_SETS = "tfds:"

_KNOWN = {"digits": images.Known(240, 50, 64, 10), "synthetic_images": images.Known(1000, 100, 3072, 10), **images.SETS}

N_PROJECTIONS = 100
"""The number of seeds from which a search on pairs of classes draws its projections."""


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """What tasks to make.

    Attributes:
      source: Regression: linear, affine or teacher. Classification: digits, synthetic_images (random images of
        CIFAR-10's shape), an image set such as cifar10 or mnist, tfds:NAME for the first ten classes of any other set
        of tensorflow-datasets, or images:PATH for those of a set on disk. Or the path of an NPZ file with your own
        arrays; the other fields then do not apply.
      tasks: Number of tasks.
      features: Features per example (F). Images are projected to F dimensions; 0 keeps all of their pixels.
      train: Training examples per task.
      valid: Validation examples per task.
      epochs: Number of passes over the training examples.
      classes: 2 for tasks with pairs of classes; more for tasks with that many classes (C), whose labels are vectors,
        so F must be at least C.
      classes_per_side: How many classes are put together on either side of a task, tasks taking turns: 1 for pairs of
        classes; 1 3 for pairs and, every other task, three classes against three others, where a linear function
        does much worse than a network.
    """

    source: str = "linear"
    tasks: int = 10
    features: int = 4
    train: int = 100
    valid: int = 100
    epochs: int = 1
    classes: int = 2
    classes_per_side: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise ValueError(f"source must be a text, not {shown(self.source)}")
        for name in ("tasks", "features", "train", "valid", "epochs", "classes"):
            check_number(name, getattr(self, name), most_only=True)  # `check` refuses what is too small
        sizes = self.classes_per_side
        if not isinstance(sizes, tuple | list) or not sizes:
            raise ValueError(f"classes_per_side must be whole numbers, such as (1, 3), not {shown(sizes)}")
        sizes = tuple(check_number("classes_per_side", size) for size in sizes)
        object.__setattr__(self, "classes_per_side", sizes)

    @property
    def is_own(self) -> bool:
        """Whether the tasks are the user's own arrays."""
        return self.source.endswith(".npz") and not self.source.startswith(images.FILES)

    @property
    def vector_labels(self) -> bool:
        """Whether labels and predictions of programs are vectors."""
        return self._own().vector_labels if self.is_own else self.classes > 2

    @property
    def labels(self) -> str:
        """What labels are: `numbers` for regression, or how many classes."""
        made_up = 0 if self.source in SYNTHETIC else self.classes
        classes = self._own().classes if self.is_own else made_up
        return f"{classes} classes" if classes else "numbers"

    _given: ClassVar[Tasks | None] = None  # of one object: tasks in memory, which are not read again

    @classmethod
    def of(cls, tasks: Tasks) -> "TaskSet":
        """Tasks in memory, for runs on your own data; all trials of a run see the same tasks.

        Example:
          >>> own = TaskSet.of(synthetic.linear(2, train=10))
          >>> own.make() is own.make(seed=1), own.labels
          (True, 'numbers')
        """
        return cls(f"tasks-{tasks.digest()[:16]}.npz")._with(tasks)

    def in_memory(self, folder: str | Path = "") -> "TaskSet":
        """The same, arrays of a file read now and for good, and its path absolute (that of images too, which are read
        when they are needed); a path without a folder is one in the folder of a run, if one is named.

        Raises:
          ValueError: as `load`.
        """
        if self.source.startswith(images.FILES):
            place = Path(self.source.removeprefix(images.FILES)).expanduser().absolute()
            return dataclasses.replace(self, source=f"{images.FILES}{place}")
        if not self.is_own or self._given is not None:
            return self
        if folder and Path(self.source).name == self.source:
            return dataclasses.replace(self)._with(load(Path(folder) / self.source))
        path = str(Path(self.source).absolute())
        return dataclasses.replace(self, source=path)._with(self._own())

    def write(self, folder: Path) -> None:
        """Writes tasks that came without a file, where `in_memory` finds them."""
        if self._given is not None and Path(self.source).name == self.source:
            save(self._given, folder / self.source)

    def _with(self, tasks: Tasks) -> "TaskSet":
        object.__setattr__(self, "_given", tasks)
        return self

    def _own(self) -> Tasks:
        if self._given is not None:
            return self._given
        file = Path(self.source).absolute()
        return _load_once(self.source, file, file.stat().st_mtime_ns if file.exists() else 0)

    def check(self) -> None:
        """Rejects invalid settings before any examples are made or downloaded.

        Raises:
          ValueError: as `make`.
        """
        if self.is_own:
            self._own()
            return
        if not self.source.startswith((_OTHER_SETS, images.FILES)) and self.source not in SOURCES:
            others = "tfds:NAME for another set of tensorflow-datasets, images:PATH, or the path of an .npz file"
            raise ValueError(f"unknown tasks {shown(self.source)}; expected one of {', '.join(SOURCES)}, {others}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")
        if self.classes < 2 or (self.source in SYNTHETIC and self.classes > 2):
            problem = "have no classes: leave classes out" if self.source in SYNTHETIC else "have two or more classes"
            raise ValueError(f"{self.source} tasks {problem}, not {self.classes}")
        if self.classes_per_side != (1,) and (self.source in SYNTHETIC or self.classes > 2):
            raise ValueError(
                f"classes_per_side={self.classes_per_side} is for tasks with two classes: set it to 1 here"
            )
        if self.source in SYNTHETIC:
            synthetic.check_sizes(self.tasks, self.features, self.train, self.valid, self.epochs)
        else:
            self._check_classification()

    def _check_classification(self) -> None:
        known, classes = _KNOWN.get(self.source.removeprefix(_OTHER_SETS).partition(":")[0]), self.classes
        if self.tasks < 1:
            raise ValueError(f"tasks must be at least 1, not {self.tasks}")
        most = (known.classes if known else images.CLASSES) // 2
        for size in self.classes_per_side:
            if not 1 <= size <= most:
                raise ValueError(f"classes_per_side must be 1 to {most} for {self.source}, not {size}")
        if known and classes > known.classes:
            raise ValueError(f"{self.source} has {known.classes} classes, not {classes}")
        if self.features < 0:
            raise ValueError(f"features must be at least 1, or 0 for all that an example has, not {self.features}")
        if known and self.features > known.features:
            dimensions = f"{known.features} dimensions can be projected to 1 to {known.features}"
            raise ValueError(f"examples of {dimensions}, not {self.features}")
        if self.vector_labels and 0 < self.features < classes:
            needed = "at least as many features, since labels are vectors of F numbers"
            raise ValueError(f"{classes} classes need {needed}, not {self.features}")
        if min(self.train, self.valid) < classes:
            each = f"at least {classes}, an example of each class"
            raise ValueError(f"train and valid must be {each}, not {self.train} and {self.valid}")
        classes *= min(self.classes_per_side)
        if self.train + 2 * self.valid > classes * arrays.PER_CLASS:
            raise ValueError(
                f"{arrays.PER_CLASS:,} examples of a class are used at most, {classes * arrays.PER_CLASS:,} of "
                f"{classes} classes; cannot take {self.train} to train, {self.valid} to validate and as many to test"
            )
        check_seen(self.epochs, self.train)
        features = self.features or (known.features if known else 1)
        what = f"{self.tasks:,} tasks of {self.train:,} + {self.valid:,} examples of {features:,} features"
        check_bytes(what, 8 * self.tasks * (self.train + self.valid) * (features + 1), "take fewer or smaller ones")

    def make(self, seed: int = 0, role: Role = "search") -> Tasks:
        """The tasks, with ids that tell different tasks apart wherever they are made.

        Regression tasks differ by `seed` alone. Pairs of classes differ by role too: 36 class pairs serve the search,
        which draws pairs and projections at random; the other 9 serve selection; and unseen tasks are those of
        selection validated on examples that were set apart. With several classes on a side the search has those
        groups between which none of the 9 pairs is. More classes at once are the same ones in every role:
        search draws from 100 projections, selection and unseen tasks have others.

        Raises:
          ValueError: an unknown source, or numbers that it cannot serve; and as `images.load`.
        """
        if seed < 0:
            raise ValueError(f"the seed of tasks must be at least 0, not {seed}")
        if role not in get_args(Role):
            raise ValueError(f"role must be one of {', '.join(get_args(Role))}, not {shown(role)}")
        self.check()
        if self.is_own:
            return self._own()
        if self.source in SYNTHETIC:
            sizes = {"features": self.features, "train": self.train, "valid": self.valid, "epochs": self.epochs}
            tasks = SYNTHETIC[self.source](self.tasks, **sizes, seed=seed)
            return tasks.with_ids(_ids(self.source, seed, np.arange(self.tasks)))
        return self._classification(_examples(self.source, self.classes), seed, role)

    def on_test_images(self) -> Tasks:
        """The unseen tasks, but validated on the test images of the set, as many of each pair as the smallest has.

        Raises:
          ValueError: as `make`; a source that has no test images.
        """
        self.check()
        examples = None if self.source in SYNTHETIC or self.is_own else _examples(self.source, self.classes)
        if examples is None or examples.test is None:
            raise ValueError(f"{self.source} has no test images: take an image set such as cifar10, or images:PATH")
        return self._classification(examples, 0, "test")

    def _classification(self, examples: "Examples", seed: int, role: Role | Literal["test"]) -> Tasks:
        sizes = self.classes_per_side
        made = [self._of_size(examples, size, seed, role) for size in sizes]
        turns = [(t % len(sizes), t // len(sizes)) for t in range(self.tasks)]
        ids = np.array([made[place][0][n] for place, n in turns], np.int32)
        chosen = arrays.equally_many([made[place][1][n] for place, n in turns])
        return Tasks.stack(chosen, "accuracy", self.epochs, seed=seed, ids=ids, classes=self.classes)

    def _of_size(
        self, examples: "Examples", size: int, seed: int, role: Role | Literal["test"]
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:
        """The ids of the tasks with `size` classes on a side, and their parts."""
        count = -(-self.tasks // len(self.classes_per_side))
        groups = self._groups(size, role != "search", examples.classes)
        if role == "search":
            n = len(groups) * N_PROJECTIONS
            drawn = np.random.default_rng(seed if size == 1 else [seed, size]).choice(n, count, replace=count > n)
        else:
            drawn = np.arange(count)  # all pairs on one projection, then on the next
            drawn += N_PROJECTIONS * self.vector_labels  # there the projections of the search are not to be met again
        parts: dict[int, tuple[np.ndarray, ...]] = {}
        for i, group in enumerate(groups):
            numbers = np.unique(drawn[drawn % len(groups) == i])
            if len(numbers):
                made = self._projected(examples, group, numbers // len(groups), role)
                cut = zip(made.train_x, made.train_y, made.valid_x, made.valid_y, strict=True)
                parts |= zip(map(int, numbers), cut, strict=True)
        name = f"{examples.name} {role}" + f" {self.classes}" * self.vector_labels
        name += f" {size} a side" * (size > 1)
        return _ids(name, 0, drawn), [parts[int(i)] for i in drawn]

    def _groups(self, size: int, select: bool, classes: int) -> list[Sequence[int | arrays.Group]]:
        """What a task's classes are: two, or groups of them, or more."""
        if self.vector_labels:
            return [range(self.classes)]
        if size == 1:
            return [*arrays.class_pairs(select, classes=classes)]
        groups = arrays.class_groups(select, size, classes)
        if not groups:
            raise ValueError(
                f"between any two groups of {size} of {classes} classes lies a pair that is kept for "
                "selection: take a smaller classes_per_side"
            )
        return [*groups]

    def _projected(
        self,
        examples: "Examples",
        group: Sequence[int | arrays.Group],
        projections: np.ndarray,
        role: Role | Literal["test"],
    ) -> Tasks:
        per_side = len(group[0]) if isinstance(group[0], tuple) else 1
        x, labels = examples.of(np.hstack([*group]).tolist())
        counts = np.sort(np.minimum(np.unique(labels, return_counts=True)[1], arrays.PER_CLASS))
        if not self.vector_labels and self.train + 2 * self.valid > (smallest := counts[: 2 * per_side].sum()):
            which = "smallest pair of classes" if per_side == 1 else f"smallest {2 * per_side} classes"
            raise ValueError(
                f"the {which} of {self.source} has {smallest} examples; cannot take "
                f"{self.train} to train, {self.valid} to validate and as many to test"
            )
        return arrays.projected_classes(
            x,
            labels,
            group,
            features=self.features or None,
            train=self.train,
            valid=self.valid,
            test=self.valid,
            part="valid" if role in ("search", "select") else "test",
            others=examples.test if role == "test" else None,
            projections=list(map(int, projections)),
        )


class Examples(NamedTuple):
    """Where examples come from.

    Attributes:
      name: What tells sources apart, wherever files lie.
      classes: How many there are, or ten of more.
      of: Examples `[n, ...]` and class ids `[n]`, at least those of the classes asked for.
      test: Test examples and their class ids; None if the source has no such examples.
    """

    name: str
    classes: int
    of: Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]
    test: tuple[np.ndarray, np.ndarray] | None = None


def _examples(source: str, classes: int) -> Examples:
    if source == "digits":
        return Examples(source, 10, lambda _: arrays.digit_examples())
    if source == "synthetic_images":
        return Examples(source, 10, arrays.synthetic_examples)
    loaded = images.load(source.removeprefix(_OTHER_SETS), max(images.CLASSES, classes))
    there = len(loaded.class_names)
    if max(2, classes) > there:
        raise ValueError(f"{source} has {there} {'class' if there == 1 else 'classes'}, not {classes}")
    name = loaded.name if source.startswith(images.FILES) else source
    test = (loaded.test_images, loaded.test_labels) if len(loaded.test_images) else None
    return Examples(name, min(there, images.CLASSES), lambda _: (loaded.train_images, loaded.train_labels), test)


def usual(source: str) -> TaskSet:
    """As many tasks, features and examples as suit a source, where nobody says how many.

    Example:
      >>> usual("cifar10").train
      8000
    """
    if source != "synthetic_images" and source in _KNOWN:
        return TaskSet(source, 45, 16, *_KNOWN[source][:2])
    if source.startswith(images.FILES):
        pair = np.sort(np.bincount(images.load(source).train_labels))[:2].sum()
        valid = int(max(2, min(1000, pair // 10)))
        return TaskSet(source, 45, 16, int(max(2, min(8000, pair - 2 * valid))), valid)
    return TaskSet(source, 100, 4, 1000, 100)


def _ids(source: str, seed: int, numbers: np.ndarray) -> np.ndarray:
    """Task ids from what tasks are made of: 31 bits of a hash."""
    words = [[*source.encode(), seed, int(number)] for number in numbers]
    return np.array([np.random.SeedSequence(w).generate_state(1)[0] >> 1 for w in words], np.int32)


@functools.lru_cache(maxsize=3)
def _load_once(path: str, file: Path, changed: int) -> Tasks:
    return load(path)
