"""Binary classification tasks from arrays of labelled examples, and from scikit-learn's handwritten digits.

Axes: `n` examples, `T` tasks, `N` training, `K` validation examples, `F` features.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np

from zero_jax.support.foreign import shown
from zero_jax.support.given import given_array, real_array
from zero_jax.tasks.tasks import Tasks

Pair = tuple[int, int]
Group = tuple[int, ...]
Part = Literal["valid", "test"]

N_SELECT_PAIRS = 9
"""Of the 45 class pairs, those kept for T_select and unseen data (Real et al. 2020, section 4.1)."""


PER_CLASS = 5000
"""The most examples of a class that are used, as upstream."""


class SplitOptions(TypedDict, total=False):
    """How `projected_binary` cuts tasks out of examples; it says what each option means."""

    features: int | None
    train: int
    valid: int
    test: int
    part: Part
    per_class: int
    others: tuple[Any, Any] | None


def projected_binary(
    x: Any,
    labels: Any,
    pairs: Sequence[Pair],
    *,
    projections: Sequence[int] = (0,),
    epochs: int = 1,
    seed: int = 0,
    **split: Unpack[SplitOptions],
) -> Tasks:
    """Binary classification on random projections of examples of two classes, as upstream makes it.

    For each pair and each projection seed: the first `per_class` examples of both classes are split at random, the
    shares of the classes kept, into `train`, `valid` and `test`; projected to `features` dimensions by a Gaussian
    matrix; and scaled to mean 0 and variance 1 as measured on the training examples.

    Args:
      x: `[n, ...]` examples; axes behind the first are flattened.
      labels: `[n]` class ids.
      pairs: `(a, b)` class ids; a is labelled 0, b is labelled 1.
      projections: seeds of split and projection; each gives a task for every pair.
      epochs: how often training examples are seen.
      seed: of their order in the second and later epochs.
      split: `features` is F, by default 16, or None to keep every dimension. `train` and `valid` are the numbers of
        examples for training and validation; `test`, by default 0, those cut off before anything else sees them.
        `part` is what the tasks validate on: `valid`, or `test` for the final report. `per_class` is the most examples
        of a class that are used. `others`, test examples and their class ids, take the place of those that `part`
        says: all of the classes in question, or as many as every pair has.

    Returns:
      `len(pairs) * len(projections)` tasks, the projections of a pair next to each other, with accuracy as their loss.

    Raises:
      ValueError: x and labels of different lengths, a class that does not exist, a pair of one class, too few examples.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 2
      >>> projected_binary(rng.normal(size=(60, 5)), labels, [(0, 1)], features=3, train=30, valid=20)
      Tasks(1 tasks, 30 + 20 examples, 3 features, accuracy, epochs=1)
    """
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(f"a pair is two different classes, not {tuple(pair)}")
    parts = _Split(**split).tasks(x, labels, pairs, projections)
    if not parts:
        raise ValueError("no pairs or no projections given, so there are no tasks")
    return Tasks.stack(parts, "accuracy", epochs, seed=seed)


def projected_classes(
    x: Any,
    labels: Any,
    classes: Sequence[int | Group],
    *,
    projections: Sequence[int] = (0,),
    epochs: int = 1,
    seed: int = 0,
    **split: Unpack[SplitOptions],
) -> Tasks:
    """Tasks that tell several classes apart at once, one for each projection seed; made as `projected_binary` does.

    Args:
      x: `[n, ...]` examples; axes behind the first are flattened.
      labels: `[n]` class ids.
      classes: which of them, C; their places in this list are the labels of the tasks. For three and more labels are
        vectors, so that F must be at least C. Several together, as a tuple, count as one.
      projections: seeds of split and projection; each gives a task.
      epochs: how often training examples are seen.
      seed: of their order in the second and later epochs.
      split: as for `projected_binary`; the numbers of examples are those of all classes together.

    Raises:
      ValueError: as `projected_binary`; fewer than two classes, or one twice; fewer features than classes.

    Example:
      >>> projected_classes(*digit_examples(), range(10), train=800, valid=200, projections=(0, 1))
      Tasks(2 tasks, 800 + 200 examples, 16 features, accuracy of 10 classes, epochs=1)
    """
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be two or more different ones, not {list(classes)}")
    parts = _Split(**split).tasks(x, labels, [classes], projections)
    if not parts:
        raise ValueError("no projections given, so there are no tasks")
    return Tasks.stack(parts, "accuracy", epochs, seed=seed, classes=len(classes))


def digits(
    pairs: Sequence[Pair],
    *,
    projections: Sequence[int] = (0,),
    epochs: int = 1,
    **split: Unpack[SplitOptions],
) -> Tasks:
    """`projected_binary` tasks from the 1,797 handwritten digits (8 x 8 pixels) that scikit-learn brings along.

    Example:
      >>> digits([(3, 8)])
      Tasks(1 tasks, 240 + 50 examples, 16 features, accuracy, epochs=1)
    """
    sizes: SplitOptions = {"train": 240, "valid": 50, "test": 50, **split}
    return projected_binary(*digit_examples(), pairs, projections=projections, epochs=epochs, **sizes)


IMAGE_SHAPE = (32, 32, 3)
"""That of CIFAR-10's images."""


def synthetic_images(
    pairs: Sequence[Pair],
    *,
    projections: Sequence[int] = (0,),
    epochs: int = 1,
    **split: Unpack[SplitOptions],
) -> Tasks:
    """`projected_binary` tasks of CIFAR-10's shape, from images drawn at random: ten classes of 32 x 32 x 3 pixels.

    A class is two clusters in a space of 12 smooth patterns that all classes share, with noise on every pixel: two
    clusters, so that no line separates the classes. They replace images where none are available; results on them
    say nothing about images.

    Example:
      >>> synthetic_images([(0, 1)], train=80, valid=10, test=10, per_class=50)
      Tasks(1 tasks, 80 + 10 examples, 16 features, accuracy, epochs=1)
    """
    sizes: SplitOptions = {"train": 8000, "valid": 1000, "test": 1000, "per_class": PER_CLASS, **split}
    made = [
        projected_binary(*synthetic_examples(pair, sizes["per_class"]), [pair], projections=projections, **sizes)
        for pair in pairs
    ]
    if not made:
        raise ValueError("no pairs given, so there are no tasks")
    each = [(p.train_x[i], p.train_y[i], p.valid_x[i], p.valid_y[i]) for p in made for i in range(len(p))]
    return Tasks.stack(each, "accuracy", epochs)


def synthetic_examples(classes: Sequence[int], per_class: int = PER_CLASS) -> tuple[np.ndarray, np.ndarray]:
    """`[n, 3072]` random images of these classes, and their `[n]` class ids; n is `per_class` times as many."""
    if not all(0 <= c < 10 for c in classes):
        raise ValueError(f"the classes of synthetic images are 0 to 9, not {tuple(classes)}")
    return np.concatenate([_class_images(c, per_class) for c in classes]), np.repeat(classes, per_class)


def _class_images(number: int, count: int) -> np.ndarray:
    """`[count, 32 * 32 * 3]` images of one class, in 0 to 1."""
    shared, own = np.random.default_rng(0), np.random.default_rng([1, number])
    rows, columns, colours = (np.linspace(0, 1, n) for n in IMAGE_SHAPE)
    patterns = []
    for _ in range(12):
        fy, fx, fc, phase = shared.uniform(-2, 2, 4) * (1, 1, 0.5, np.pi)
        wave = fy * rows[:, None, None] + fx * columns[:, None] + fc * colours
        patterns.append(np.cos(2 * np.pi * wave + phase).reshape(-1))
    centres = 1.2 * own.normal(size=(2, 12))
    places = centres[own.integers(2, size=count)] + 0.7 * own.normal(size=(count, 12))
    clean = 0.5 + 0.05 * (places @ np.stack(patterns)).astype(np.float32)
    return np.clip(clean + 0.1 * own.standard_normal(clean.shape, np.float32), 0, 1)


def class_pairs(select: bool, seed: int = 0, classes: int = 10) -> list[Pair]:
    """The 36 pairs of ten classes that a search trains on or, with `select`, the 9 that it is judged on.

    Of fewer classes, too, a fifth of the pairs is kept for that, at least one; of two classes there is one pair, which
    serves both.

    Example:
      >>> len(class_pairs(select=False)), len(class_pairs(select=True))
      (36, 9)
    """
    every = [(a, b) for a in range(classes) for b in range(a + 1, classes)]
    if len(every) == 1:
        return every
    shuffled = [every[i] for i in np.random.default_rng(seed).permutation(len(every))]
    kept = max(1, len(every) // 5)
    return sorted(shuffled[:kept] if select else shuffled[kept:])


@functools.cache
def class_groups(select: bool, size: int, classes: int = 10) -> list[tuple[Group, Group]]:
    """Two groups of that many classes, to tell one from the other.

    For a search those between which no pair is kept for selection (`class_pairs`); with `select` the others, in an
    arbitrary order.

    Example:
      >>> len(class_groups(select=False, size=3)), class_groups(select=False, size=3)[0]
      (259, ((0, 1, 3), (6, 7, 8)))
    """
    kept = set(class_pairs(select=True, classes=classes))
    every = [
        (one, other)
        for one in itertools.combinations(range(classes), size)
        for other in itertools.combinations(sorted(set(range(classes)) - set(one)), size)
        if one < other
    ]
    chosen = [sides for sides in every if select != kept.isdisjoint(map(_sorted, itertools.product(*sides)))]
    return [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))] if select else chosen


def _sorted(pair: tuple[int, int]) -> Pair:
    return min(pair), max(pair)


@functools.cache
def digit_examples() -> tuple[np.ndarray, np.ndarray]:
    """`[1797, 64]` handwritten digits, and which they are."""
    from sklearn.datasets import load_digits  # takes a second to import

    return load_digits(return_X_y=True)


def _examples(x: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    array, ids = real_array("x", x), given_array("labels", labels)
    if array.ndim < 2 or ids.shape != array.shape[:1]:
        axes = "[examples, ...] and [examples]"
        raise ValueError(f"x {array.shape} and labels {ids.shape} have incompatible shapes; expected {axes}")
    flat = array.reshape(len(array), -1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        wrong = np.argwhere(~np.isfinite(flat))[0]
        raise ValueError(f"x has {flat[tuple(wrong)]} in example {wrong[0]}; the data must be finite")
    return flat, ids


def equally_many(parts: list[tuple[np.ndarray, ...]]) -> list[tuple[np.ndarray, ...]]:
    """Tasks' (train_x, train_y, valid_x, valid_y), each with as many examples to validate on as the smallest has."""
    counts = [len(part[3]) for part in parts]
    if len(set(counts)) < 2:
        return parts
    rows = [np.linspace(0, count - 1, min(counts)).astype(int) for count in counts]  # keeps the shares of classes
    return [(*part[:2], part[2][some], part[3][some]) for part, some in zip(parts, rows, strict=True)]


_BLOCK = 1024


class _Split(NamedTuple):
    """How tasks are cut out of examples."""

    train: int
    valid: int
    test: int = 0
    features: int | None = 16
    part: Part = "valid"
    per_class: int = PER_CLASS
    others: tuple[Any, Any] | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many examples there are in each part."""
        return self.train, self.valid, self.test

    def tasks(
        self, x: Any, labels: Any, groups: Sequence[Sequence[int | Group]], seeds: Sequence[int]
    ) -> list[tuple[np.ndarray, ...]]:
        """For each group of classes and each seed a task's (train_x, train_y, valid_x, valid_y)."""
        flat, ids = _examples(x, labels)
        made = []
        for group in groups:
            index, target = self._chosen(ids, group)
            self._check(flat.shape[1], target, group)
            chosen, others = flat[index], None
            if self.others is not None:
                test_x, test_ids = _examples(*self.others)
                test_index, test_target = self._chosen(test_ids, group)
                others = test_x[test_index], test_target
            made += [self._task(chosen, target, seed, others) for seed in seeds]
        return equally_many(made)

    def _chosen(self, labels: np.ndarray, classes: Sequence[int | Group]) -> tuple[np.ndarray, np.ndarray]:
        """Which examples serve, and the place of their class among these."""
        rows = []
        for together in classes:
            some = []
            for c in together if isinstance(together, tuple) else (together,):
                some.append(np.flatnonzero(labels == c)[: self.per_class])
                if not len(some[-1]):
                    there = ", ".join(map(str, np.unique(labels)[:20]))
                    raise ValueError(f"there is no class {c}; the classes are {there}")
            rows.append(np.concatenate(some))
        index = np.concatenate(rows)
        order = np.argsort(index)
        return index[order], np.repeat(np.arange(len(rows), dtype=np.float32), [len(r) for r in rows])[order]

    def _check(self, d: int, target: np.ndarray, classes: Sequence[int | Group]) -> None:
        if self.features is not None and not 1 <= self.features <= d:
            raise ValueError(f"examples of {d} dimensions can be projected to 1 to {d}, not {self.features}")
        if self.part not in ("valid", "test"):
            raise ValueError(f"part must be 'valid' or 'test', not {shown(self.part)}")
        train, valid, test = self.sizes
        c = len(classes)
        for name, n, least in (("train", train, c), ("valid", valid, c), ("test", test, c * (self.part == "test"))):
            if n < least:
                raise ValueError(f"{name} must be at least {least}, an example of each class, not {n}")
        if sum(self.sizes) > len(target):
            has = f"pair {tuple(classes)} has" if c == 2 else f"the {c} classes have"
            wanted = f"{train} to train, {valid} to validate and {test} to test"
            raise ValueError(f"{has} {len(target)} examples; cannot take {wanted}")

    def _task(
        self, x: np.ndarray, target: np.ndarray, seed: int, others: tuple[np.ndarray, np.ndarray] | None
    ) -> tuple[np.ndarray, ...]:
        from sklearn.model_selection import train_test_split  # takes a second to import
        from sklearn.preprocessing import StandardScaler

        train, valid, test = self.sizes
        index = np.arange(len(target))
        if test:
            index, test_index = train_test_split(index, test_size=test, random_state=seed, stratify=target)
        train_index, valid_index = train_test_split(
            index, train_size=train, test_size=valid, random_state=seed, stratify=target[index]
        )
        judged = valid_index if self.part == "valid" else test_index
        pixels, labels = (x[judged], target[judged]) if others is None else others
        train_x, judged_x = (self._projected(some, seed) for some in (x[train_index], pixels))
        scaler = StandardScaler().fit(train_x)
        return scaler.transform(train_x), target[train_index], scaler.transform(judged_x), labels

    def _projected(self, x: np.ndarray, seed: int) -> np.ndarray:
        from sklearn.random_projection import GaussianRandomProjection

        if self.features is None:
            return x.astype(np.float64)
        projection = GaussianRandomProjection(self.features, random_state=seed).fit(x[:1].astype(np.float64))
        # As float64, images of a byte a number take eight times the memory: all at once they took twice the time.
        blocks = [x[i : i + _BLOCK] for i in range(0, len(x), _BLOCK)]
        return np.concatenate([block.astype(np.float64) @ projection.components_.T for block in blocks])
