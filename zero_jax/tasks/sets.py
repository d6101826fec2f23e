"""`TaskSet`: a description of tasks, as a preset or a command line gives it."""

import dataclasses
import functools
import io
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np

from zero_jax.support.bounds import MAX_BYTES, check_bytes, check_number
from zero_jax.support.files import write_atomically
from zero_jax.support.foreign import cut, shown
from zero_jax.tasks import arrays, images, synthetic
from zero_jax.tasks.tasks import Loss, Tasks, check_seen

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
        CIFAR-10's shape), an image set such as cifar10 or mnist, or tfds:NAME for the first ten classes of any other
        set of tensorflow-datasets. Or the path of an NPZ file with your own arrays; the other fields then do not apply.
      tasks: Number of tasks.
      features: Features per example (F). Images are projected to F dimensions; 0 keeps all of their pixels.
      train: Training examples per task.
      valid: Validation examples per task.
      epochs: Number of passes over the training examples.
      classes: 2 for tasks with pairs of classes; more for tasks with that many classes (C), whose labels are vectors,
        so F must be at least C.
    """

    source: str = "linear"
    tasks: int = 10
    features: int = 4
    train: int = 100
    valid: int = 100
    epochs: int = 1
    classes: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise ValueError(f"source must be a text, not {shown(self.source)}")
        for name in ("tasks", "features", "train", "valid", "epochs", "classes"):
            check_number(name, getattr(self, name), most_only=True)  # `check` refuses what is too small

    @property
    def is_own(self) -> bool:
        """Whether the tasks are the user's own arrays."""
        return self.source.endswith(".npz")

    @property
    def vector_labels(self) -> bool:
        """Whether labels and predictions of programs are vectors."""
        return self._own().vector_labels if self.source.endswith(".npz") else self.classes > 2

    @property
    def labels(self) -> str:
        """What labels are: `numbers` for regression, or how many classes."""
        if self.source.endswith(".npz"):
            classes = self._own().classes
        else:
            classes = 0 if self.source in SYNTHETIC else self.classes
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
        """The same, arrays of a file read now and for good, and its path absolute; a path without a folder is one in
        the folder of a run, if one is named.

        Raises:
          ValueError: as `load`.
        """
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
        if self.source.endswith(".npz"):
            self._own()
            return
        if not self.source.startswith(_OTHER_SETS) and self.source not in SOURCES:
            others = "tfds:NAME for another set of tensorflow-datasets, or the path of an .npz file"
            raise ValueError(f"unknown tasks {shown(self.source)}; expected one of {', '.join(SOURCES)}, {others}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")
        if self.classes < 2 or (self.source in SYNTHETIC and self.classes > 2):
            problem = "have no classes: leave classes out" if self.source in SYNTHETIC else "have two or more classes"
            raise ValueError(f"{self.source} tasks {problem}, not {self.classes}")
        if self.source in SYNTHETIC:
            synthetic.check_sizes(self.tasks, self.features, self.train, self.valid, self.epochs)
        else:
            self._check_classification()

    def _check_classification(self) -> None:
        known, classes = _KNOWN.get(self.source.removeprefix(_OTHER_SETS).partition(":")[0]), self.classes
        if self.tasks < 1:
            raise ValueError(f"tasks must be at least 1, not {self.tasks}")
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
        selection validated on examples that were set apart. More classes at once are the same ones in every role:
        search draws from 100 projections, selection and unseen tasks have others.

        Raises:
          ValueError: an unknown source, or numbers that it cannot serve; and as `images.load`.
        """
        if seed < 0:
            raise ValueError(f"the seed of tasks must be at least 0, not {seed}")
        if role not in get_args(Role):
            raise ValueError(f"role must be one of {', '.join(get_args(Role))}, not {shown(role)}")
        self.check()
        if self.source.endswith(".npz"):
            return self._own()
        if self.source in SYNTHETIC:
            sizes = {"features": self.features, "train": self.train, "valid": self.valid, "epochs": self.epochs}
            tasks = SYNTHETIC[self.source](self.tasks, **sizes, seed=seed)
            return tasks.with_ids(_ids(self.source, seed, np.arange(self.tasks)))
        return self._classification(_examples(self.source, self.classes), seed, role)

    def _classification(self, examples: "Examples", seed: int, role: Role) -> Tasks:
        pairs = arrays.class_pairs(select=role != "search")
        groups: list[Sequence[int]] = [range(self.classes)] if self.vector_labels else [*pairs]
        if role == "search":
            n = len(groups) * N_PROJECTIONS
            drawn = np.random.default_rng(seed).choice(n, self.tasks, replace=self.tasks > n)
        else:
            drawn = np.arange(self.tasks)  # all pairs on one projection, then on the next
            drawn += N_PROJECTIONS * self.vector_labels  # there the projections of the search are not to be met again
        parts: dict[int, tuple[np.ndarray, ...]] = {}
        for i, group in enumerate(groups):
            numbers = np.unique(drawn[drawn % len(groups) == i])
            if len(numbers):
                made = self._projected(examples(group), group, numbers // len(groups), role)
                cut = zip(made.train_x, made.train_y, made.valid_x, made.valid_y, strict=True)
                parts |= zip(map(int, numbers), cut, strict=True)
        name = f"{self.source} {role}" + f" {self.classes}" * self.vector_labels
        more = {"ids": _ids(name, 0, drawn), "classes": self.classes}
        return Tasks.stack([parts[int(i)] for i in drawn], "accuracy", self.epochs, seed=seed, **more)

    def _projected(
        self, examples: tuple[np.ndarray, np.ndarray], group: Sequence[int], projections: np.ndarray, role: Role
    ) -> Tasks:
        counts = np.sort(np.minimum(np.unique(examples[1], return_counts=True)[1], arrays.PER_CLASS))
        if not self.vector_labels and self.train + 2 * self.valid > counts[:2].sum():
            raise ValueError(
                f"the smallest pair of classes of {self.source} has {counts[:2].sum()} examples; cannot take "
                f"{self.train} to train, {self.valid} to validate and as many to test"
            )
        return arrays.projected_classes(
            *examples,
            group,
            features=self.features or None,
            train=self.train,
            valid=self.valid,
            test=self.valid,
            part="test" if role == "unseen" else "valid",
            projections=list(map(int, projections)),
        )


Examples = Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]
"""Examples `[n, ...]` and class ids `[n]`, at least those of the classes asked for."""


def _examples(source: str, classes: int) -> Examples:
    if source == "digits":
        return lambda _: arrays.digit_examples()
    if source == "synthetic_images":
        return arrays.synthetic_examples
    loaded = images.load(source.removeprefix(_OTHER_SETS), max(images.CLASSES, classes))
    if classes > len(loaded.class_names):
        raise ValueError(f"{source} has {len(loaded.class_names)} classes, not {classes}")
    return lambda _: (loaded.train_images, loaded.train_labels)


def usual(source: str) -> TaskSet:
    """As many tasks, features and examples as suit a source, where nobody says how many.

    Example:
      >>> usual("cifar10").train
      8000
    """
    if source != "synthetic_images" and source in _KNOWN:
        return TaskSet(source, 45, 16, *_KNOWN[source][:2])
    return TaskSet(source, 100, 4, 1000, 100)


def _ids(source: str, seed: int, numbers: np.ndarray) -> np.ndarray:
    """Task ids from what tasks are made of: 31 bits of a hash."""
    words = [[*source.encode(), seed, int(number)] for number in numbers]
    return np.array([np.random.SeedSequence(w).generate_state(1)[0] >> 1 for w in words], np.int32)


@functools.lru_cache(maxsize=3)
def _load_once(path: str, file: Path, changed: int) -> Tasks:
    return load(path)


def save(tasks: Tasks, path: str | Path) -> None:
    """Writes tasks as NPZ, for `load`: ids and the order of examples included.

    Example:
      >>> save(synthetic.linear(10), "mine.npz")    # doctest: +SKIP
    """
    arrays = {name: np.asarray(getattr(tasks, name)) for name in (*_NEEDED, "order", "ids")}
    numbers = {"loss": tasks.loss, "epochs": tasks.epochs, "classes": tasks.classes or 2}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **{name: np.array(value) for name, value in numbers.items()})
    write_atomically(Path(path), buffer.getvalue())


def load(path: str | Path) -> Tasks:
    """Your own arrays: an NPZ file with train_x, train_y, valid_x, valid_y and, if wanted, loss, epochs and classes;
    and ids and order, as `save` writes them.

    The arrays are as for `Tasks`. The loss is rmse (regression) by default, whatever the labels are; with accuracy
    there are two classes unless `classes` is given. Labels that look like classes without accuracy give a warning.

    Raises:
      ValueError: a file that cannot be read, lacks an array or has one that means nothing; all that `Tasks` objects to.
    """
    stored = _stored(path)
    train_x, train_y, valid_x, valid_y = (stored[name] for name in _NEEDED)
    numbers: dict[str, Any]
    loss, numbers = str(stored.get("loss", "rmse")), {"epochs": 1, "classes": 2}
    try:
        for name in numbers:
            given = stored.get(name, np.array(numbers[name]))
            if given.shape or not np.issubdtype(given.dtype, np.number):
                raise ValueError(f"{name} must be one whole number, not {shown(given.tolist())}")
            numbers[name] = given.item()
        tasks = Tasks(train_x, train_y, valid_x, valid_y, cast(Loss, loss), ids=stored.get("ids"), **numbers)
        if "order" in stored:
            tasks = tasks.with_order(stored["order"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if "loss" not in stored and np.isin(tasks.train_y, (0, 1)).all() and np.isin(tasks.valid_y, (0, 1)).all():
        warnings.warn(
            f'{path} has no loss, so its labels, all 0 or 1, are taken for numbers: add loss="accuracy" to the file '
            'if they are classes, or loss="rmse" if not',
            stacklevel=2,
        )
    return tasks


_NEEDED, _OPTIONAL = ("train_x", "train_y", "valid_x", "valid_y"), ("loss", "epochs", "classes", "ids", "order")


def _stored(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file; each is read only after its header has been checked."""
    if Path(path).exists() and not Path(path).is_file():  # a FIFO would wait for a writer
        raise ValueError(f"{path} is not a regular file")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as members:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in members.infolist()}
            _check_entries(path, entries, len(members.infolist()))
            return {name: _member(members, entry, f"{path}: {name}") for name, entry in entries.items()}
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception:
        raise ValueError(f"{path} is not an NPZ file of arrays of numbers: it cannot be read") from None


class _Refused(Exception):
    """A file that can be read, but that tasks cannot be made of."""


def _check_entries(path: str | Path, entries: dict[str, zipfile.ZipInfo], count: int) -> None:
    missing = [name for name in _NEEDED if name not in entries]
    names = cut(", ".join(entries)) or "none"
    if missing:
        raise _Refused(f"{path} has no array {', '.join(missing)}; it has {names}")
    unknown = [name for name in entries if name not in (*_NEEDED, *_OPTIONAL)]
    if unknown:
        allowed = ", ".join((*_NEEDED, *_OPTIONAL))
        raise _Refused(f"{path} has {cut(', '.join(unknown))}; all that it may have is {allowed}")
    if count > len(entries):
        raise _Refused(f"{path} has an array twice")
    size = sum(entry.file_size for entry in entries.values())
    if size > MAX_BYTES:
        raise _Refused(f"{path} has arrays of {size / 2**30:,.1f} GiB; {MAX_BYTES >> 30} GiB are allowed")


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _member(members: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str) -> np.ndarray:
    with members.open(entry) as file:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
    if dtype.kind not in "biufU":
        kind = "Python objects" if dtype.hasobject else cut(dtype)
        raise _Refused(f"{what} is an array of {kind}, not of numbers")
    if claimed != there or min(shape, default=0) < 0:
        raise _Refused(f"{what} is damaged: {shown(shape)} {dtype} would take {claimed:,} bytes, not {there:,}")
    with members.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # to the last byte, so that its checksum is checked
