"""`Tasks`: the examples that programs are trained and validated on.

Axes: `T` tasks, `N` training examples, `K` validation examples, `F` features, `E` epochs.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypedDict, Unpack

import jax
import numpy as np

from zero_jax.support.bounds import check_number
from zero_jax.support.foreign import shown
from zero_jax.support.given import real_array

Loss = Literal["rmse", "accuracy"]
LOSSES: tuple[Loss, ...] = ("rmse", "accuracy")

MOST_SEEN = 2**27
"""The most training examples that a run may see: their order then takes half a gigabyte."""

_FIELDS = ("train_x", "train_y", "valid_x", "valid_y", "order", "ids")


class Details(TypedDict, total=False):
    """Keywords of `Tasks`, which says what they mean."""

    seed: int
    ids: Sequence[int] | np.ndarray | None
    classes: int


@jax.tree_util.register_pytree_with_keys_class
class Tasks:
    """A batch of tasks of one shape: a pytree.

    Args:
      train_x: `[T, N, F]` features; converted to float32, as are the next three.
      train_y: `[T, N]` labels; where the loss is accuracy class numbers, from 0 on.
      valid_x: `[T, K, F]`.
      valid_y: `[T, K]`.
      loss: `rmse` (regression) or `accuracy` (classification).
      epochs: how often a program sees the training examples.
      seed: of the order of examples in the second and later epochs; the first keeps the order given.
      ids: `[T]` int32, the identity of each task in the random stream and in caches; by default 0 to T-1.
      classes: C, the number of classes. For two, labels and predictions of programs are scalars (s0 and s1); for
        more they are vectors (v1, one-hot, and v2), of which the first C elements count.

    Attributes:
      order: `[E, N]` int32, the order of examples in each epoch.
      ids: `[T]` int32.
      classes: C, or 0 for regression.

    Raises:
      ValueError: shapes that do not fit together, NaN or infinity in the data, labels other than 0 to C - 1 for
        accuracy, more classes than features where there are more than two, an unknown loss, fewer than one epoch or
        more than `bounds.BOUNDS` and `MOST_SEEN` allow.

    Example:
      >>> x, y = np.ones((1, 3, 2)), np.ones((1, 3))
      >>> len(Tasks(x, y, x, y, loss="rmse"))
      1
    """

    def __init__(
        self,
        train_x: Any,
        train_y: Any,
        valid_x: Any,
        valid_y: Any,
        loss: Loss = "rmse",
        epochs: int = 1,
        **details: Unpack[Details],
    ) -> None:
        seed, ids, classes = details.pop("seed", 0), details.pop("ids", None), details.pop("classes", 2)
        if details:
            raise TypeError(f"Tasks() got an unexpected keyword argument {next(iter(details))!r}")
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {shown(loss)}")
        check_number("classes", classes)
        if classes != 2 and loss != "accuracy":
            raise ValueError(f"classes are for the accuracy loss, not for {loss}")
        check_number("epochs", epochs)
        self.loss: Loss = loss
        self.classes = int(classes) if loss == "accuracy" else 0
        self.train_x, self.train_y = _float32("train_x", train_x, 3), _float32("train_y", train_y, 2)
        self.valid_x, self.valid_y = _float32("valid_x", valid_x, 3), _float32("valid_y", valid_y, 2)
        self._check_shapes()
        self._check_labels()
        n = self.train_x.shape[1]
        if epochs > 1:
            check_seen(int(epochs), n)
        shuffles = np.random.default_rng(seed)
        epoch_orders = [np.arange(n), *(shuffles.permutation(n) for _ in range(int(epochs) - 1))]
        self.order: Any = np.stack(epoch_orders).astype(np.int32)
        given = np.arange(len(self)) if ids is None else np.asarray(ids)
        if given.shape != (len(self),) or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"ids must be one whole number for each of the {len(self)} tasks")
        self.ids: Any = given.astype(np.int32)

    @property
    def _static(self) -> tuple[Loss, int]:
        return self.loss, self.classes

    def _check_shapes(self) -> None:
        shapes = {name: tuple(getattr(self, name).shape) for name in _FIELDS[:4]}
        for part in ("train", "valid"):
            x, y = shapes[f"{part}_x"], shapes[f"{part}_y"]
            if x[:2] != y:
                axes = "[tasks, examples, features] and [tasks, examples]"
                raise ValueError(f"{part}_x {x} and {part}_y {y} have incompatible shapes; expected {axes}")
            if 0 in x:
                raise ValueError(f"{part}_x {x} is empty")
        if shapes["train_x"][0] != shapes["valid_x"][0] or shapes["train_x"][2] != shapes["valid_x"][2]:
            raise ValueError(f"train_x {shapes['train_x']} and valid_x {shapes['valid_x']} differ in tasks or features")
        if self.vector_labels and self.classes > self.features:
            raise ValueError(
                f"{self.classes} classes need at least as many features, since labels are vectors of F numbers, not "
                f"{self.features}"
            )

    def _check_labels(self) -> None:
        for name in ("train_y", "valid_y") if self.loss == "accuracy" else ():
            labels = getattr(self, name)
            if not isinstance(labels, jax.core.Tracer):
                wrong = np.argwhere(~np.isin(np.asarray(labels), np.arange(self.classes)))
                if len(wrong):
                    t, n = (int(i) for i in wrong[0])
                    allowed = "0 or 1" if self.classes == 2 else f"whole numbers from 0 to {self.classes - 1}"
                    raise ValueError(
                        f"{name}[{t}, {n}] is {float(labels[t, n])}: labels must be {allowed} for accuracy"
                    )

    @classmethod
    def stack(cls, parts: Iterable[Sequence[Any]], loss: Loss, epochs: int = 1, **more: Any) -> "Tasks":
        """Joins tasks given one by one, each as its (train_x, train_y, valid_x, valid_y) without a task axis."""
        train_x, train_y, valid_x, valid_y = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        return cls(train_x, train_y, valid_x, valid_y, loss, epochs, **more)

    def with_ids(self, ids: Sequence[int] | np.ndarray) -> "Tasks":
        """The same tasks under other ids."""
        return self.tree_unflatten(
            self._static, [*(getattr(self, name) for name in _FIELDS[:-1]), np.asarray(ids, np.int32)]
        )

    def with_order(self, order: Any) -> "Tasks":
        """The same tasks, their examples seen in another order.

        Args:
          order: `[E, N]` whole numbers, each row a permutation of the examples.

        Raises:
          ValueError: another shape, or a row that is no permutation.
        """
        rows, n = np.asarray(order), self.train_x.shape[1]
        whole = np.issubdtype(rows.dtype, np.integer) and rows.shape == (self.epochs, n)
        if not whole or (np.sort(rows, axis=1) != np.arange(n)).any():
            raise ValueError(f"order must be {self.epochs} permutations of {n} examples, one for each epoch")
        arrays = {name: getattr(self, name) for name in _FIELDS} | {"order": rows.astype(np.int32)}
        return self.tree_unflatten(self._static, list(arrays.values()))

    def digest(self) -> str:
        """A hash of all of it: equal tasks have equal digests."""
        hashed = hashlib.sha256(f"{self.loss} {self.classes}".encode())
        for name in _FIELDS:
            array = np.ascontiguousarray(getattr(self, name))
            hashed.update(f"{array.dtype.str}{array.shape}".encode())
            hashed.update(array.data)
        return hashed.hexdigest()

    def shortened(self, train: int, valid: int) -> "Tasks":
        """The same tasks with at most `train` and `valid` examples, the first ones, seen once."""
        n = min(train, self.train_x.shape[1])
        parts = [self.train_x[:, :n], self.train_y[:, :n], self.valid_x[:, :valid], self.valid_y[:, :valid]]
        return self.tree_unflatten(self._static, [*parts, np.arange(n, dtype=np.int32)[None], self.ids])

    def narrowed(self, features: int) -> "Tasks":
        """The same tasks with the first `features` features."""
        parts = [self.train_x[..., :features], self.train_y, self.valid_x[..., :features], self.valid_y]
        return self.tree_unflatten(self._static, [*parts, self.order, self.ids])

    @property
    def vector_labels(self) -> bool:
        """Whether labels and predictions of programs are vectors."""
        return self.classes > 2

    @property
    def vector_classes(self) -> int:
        """C if labels and predictions of programs are vectors, else 0."""
        return self.classes if self.vector_labels else 0

    @property
    def features(self) -> int:
        """F."""
        return int(self.train_x.shape[2])

    @property
    def epochs(self) -> int:
        """E."""
        return int(self.order.shape[0])

    def __len__(self) -> int:
        return int(self.train_x.shape[0])

    def __getitem__(self, index: int | slice | np.ndarray | Sequence[int]) -> "Tasks":
        """A batch of the tasks that `index` selects, of one for an integer; they keep their ids and order."""
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"task {index} of {len(self)}")
            index = [int(index)]
        selected = [getattr(self, name) if name == "order" else getattr(self, name)[index] for name in _FIELDS]
        return self.tree_unflatten(self._static, selected)

    def __repr__(self) -> str:
        n, k = self.train_x.shape[1], self.valid_x.shape[1]
        sizes = f"{len(self)} tasks, {n} + {k} examples, {self.features} features"
        loss = f"{self.loss} of {self.classes} classes" if self.vector_labels else self.loss
        return f"Tasks({sizes}, {loss}, epochs={self.epochs})"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[Loss, int]]:
        """For JAX."""
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in _FIELDS], self._static

    @classmethod
    def tree_unflatten(cls, static: tuple[Loss, int], children: Sequence[Any]) -> "Tasks":
        """For JAX. Unchecked, since transformations replace arrays by objects of their own."""
        tasks = object.__new__(cls)
        tasks.loss, tasks.classes = static
        for name, child in zip(_FIELDS, children, strict=True):
            setattr(tasks, name, child)
        return tasks


def check_seen(epochs: int, train: int) -> None:
    """Rejects more training examples than a run may see.

    Raises:
      ValueError: if so.
    """
    if epochs * train > MOST_SEEN:
        raise ValueError(
            f"{epochs:,} epochs of {train:,} training examples are {epochs * train:,}; a run may see "
            f"{MOST_SEEN:,}: take fewer epochs or examples"
        )


def _float32(name: str, values: Any, rank: int) -> Any:
    array: Any
    if isinstance(values, jax.core.Tracer):
        array = values.astype(np.float32)
    else:
        raw = values if isinstance(values, jax.Array) else real_array(name, values)
        with np.errstate(over="ignore"):
            array = np.asarray(raw).astype(np.float32)
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            at = ", ".join(str(i) for i in wrong[0])
            raise ValueError(f"{name}[{at}] is {float(array[tuple(wrong[0])])}; the data must be finite in float32")
    if array.ndim != rank:
        axes = "[tasks, examples, features]" if rank == 3 else "[tasks, examples]"
        raise ValueError(f"{name} must be {axes}, but has shape {tuple(array.shape)}")
    return array
