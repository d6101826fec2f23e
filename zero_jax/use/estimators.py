"""Programs as scikit-learn estimators: `fit` trains a model with a program, `predict` applies it.

Axes: `N` examples, `F` features, `K` outputs: 1, or one for each class where the program tells two classes apart.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from zero_jax.program import library
from zero_jax.program.canonical import for_other_labels
from zero_jax.program.programs import Programs
from zero_jax.support.bounds import check_number
from zero_jax.use.learner import Learner, LearnerState, learner
from zero_jax.use.table_tasks import moments

LIMIT = 30.0
"""Logits, and standardised predictions, are at most this large: a program may have diverged."""


class _Functions(NamedTuple):
    learner: Learner
    init: Any
    fit: Any
    predict: Any


@functools.lru_cache(maxsize=256)
def _functions(text: str, loss: Literal["rmse", "accuracy"], classes: int) -> _Functions:
    """The functions of a program, for `K` models at once; compiled once for each program and shape."""
    made = learner(Programs.parse(text), loss, classes)

    def step(xs: Array, ys: Array, state: LearnerState, i: Array) -> tuple[LearnerState, None]:
        after = made.learn(state, xs[i], ys[i])
        return jax.tree.map(lambda new, old: jnp.where(i >= 0, new, old), after, state), None

    def fit(states: LearnerState, xs: Array, ys: Array, order: Array) -> LearnerState:
        return jax.vmap(lambda state, y: lax.scan(functools.partial(step, xs, y), state, order)[0])(states, ys)

    def init(seeds: Array, features: int) -> LearnerState:
        return jax.vmap(lambda seed: made.init(seed, features))(seeds)

    predict = jax.vmap(made.predict, (0, None))
    return _Functions(made, jax.jit(init, static_argnums=1), jax.jit(fit), jax.jit(predict))


def _padded(length: int) -> int:
    """A power of two, so that few shapes are compiled."""
    return max(16, 1 << max(0, length - 1).bit_length())


class _ProgramEstimator(BaseEstimator):
    """What classifiers and regressors share.

    Attributes:
      program_: the program.
      memory_: what the models know: by name, `[K, ...]`.
      room: arrays are as long as for this many rows at least, so that parts of a table are compiled for once.
    """

    room = 0

    def __init__(
        self,
        program: Any = "network",
        *,
        epochs: int = 20,
        shuffle: bool = True,
        standardize: bool = True,
        random_state: Any = None,
    ) -> None:
        self.program = program
        self.epochs = epochs
        self.shuffle = shuffle
        self.standardize = standardize
        self.random_state = random_state

    # -------------------------------------------------------------------------------------- the program

    def _load(self) -> None:
        loaded = self.program if isinstance(self.program, Programs) else library.load(str(self.program))
        if len(loaded) != 1:
            raise ValueError(f"program must be one program, not {len(loaded)}")
        check_number("epochs", self.epochs)
        self.program_ = loaded
        self._vector = bool(for_other_labels(loaded)[0])

    def _compiled(self) -> _Functions:
        classes = max(3, len(self.classes_)) if self._outputs_classes() else 0
        loss: Literal["rmse", "accuracy"] = "accuracy" if hasattr(self, "classes_") else "rmse"
        return _functions(self.program_.to_json(), loss, classes or (2 if loss == "accuracy" else 0))

    def _outputs_classes(self) -> bool:
        """Whether one model has a prediction for each class."""
        return hasattr(self, "classes_") and self._vector

    def _width(self) -> int:
        """How many features the models see: at least as many as classes where these are a vector."""
        return max(self.n_features_in_, 3, len(self.classes_)) if self._outputs_classes() else self.n_features_in_

    # -------------------------------------------------------------------------------------- training

    def _begin(self) -> None:
        """New models."""
        random = check_random_state(self.random_state)
        k = self._models()
        seed = int(random.randint(2**31 - 1))
        state = self._compiled().init(jnp.full(k, seed, jnp.uint32), self._width())
        self._keep(state)
        self._random = random

    def _keep(self, state: LearnerState) -> None:
        self.memory_ = {name: np.asarray(values) for name, values in state.memory.items()}
        self._counts = {name: np.asarray(getattr(state, name)) for name in ("seed", "task", "predicted", "learned")}

    def _state(self) -> LearnerState:
        constants = tuple(
            jnp.tile(jnp.asarray(part)[None], (self._models(), 1, 1)) for part in self._compiled().learner.constants
        )
        memory = {name: jnp.asarray(values) for name, values in self.memory_.items()}
        counts = {name: jnp.asarray(values) for name, values in self._counts.items()}
        return LearnerState(memory, constants, **counts)  # type: ignore[arg-type]

    def _train(self, x: np.ndarray, labels: np.ndarray, order: np.ndarray) -> None:
        """Goes through examples in an order; labels are `[K, N]`."""
        rows = np.zeros((_padded(max(len(x), self.room)), self._width()), np.float32)
        rows[: len(x), : x.shape[1]] = self._scaled(x)
        ys = np.zeros((len(labels), len(rows)), np.float32)
        ys[:, : labels.shape[1]] = labels
        state, at_a_time = self._state(), len(rows)  # as many steps at a time, however many: one compilation
        for start in range(0, len(order), at_a_time):
            part = order[start : start + at_a_time]
            steps = np.full(at_a_time, -1, np.int32)
            steps[: len(part)] = part
            state = self._compiled().fit(state, rows, ys, steps)
        self._keep(state)

    def _order(self, n: int, weights: np.ndarray | None) -> np.ndarray:
        """Which of `n` examples comes when in all epochs: as often as its weight says, in an order drawn anew."""
        parts = []
        for _ in range(self.epochs):
            part = np.arange(n)
            if weights is not None:
                whole = np.floor(weights)
                part = np.repeat(part, (whole + (self._random.random_sample(n) < weights - whole)).astype(np.int64))
            parts.append(part[self._random.permutation(len(part))] if self.shuffle else part)
        return np.concatenate(parts)

    def _arranged(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Examples sorted, if they are shuffled anyway, and repeated by whole weights.

        So equal data in another order, or repeated in place of a weight, gives equal models.
        """
        if self.shuffle:
            keys = [*x.T[::-1], np.unique(y, return_inverse=True)[1]]
            rows = np.lexsort(keys)
            x, y, weights = x[rows], y[rows], None if weights is None else weights[rows]
        if weights is not None and (weights == np.floor(weights)).all():
            times = weights.astype(np.int64)
            return np.repeat(x, times, axis=0), np.repeat(y, times), None
        return x, y, weights

    def _scale_from(self, x: np.ndarray, weights: np.ndarray | None) -> None:
        """Where the standardised features are 0, and how far 1 is."""
        if self.standardize:
            self._center, self._spread = moments(x, weights)
        else:
            self._center, self._spread = np.zeros(x.shape[1]), np.ones(x.shape[1])

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return np.clip((x - self._center) / self._spread, -1e6, 1e6)

    def _predicted(self, x: Any) -> np.ndarray:
        """`[K, N]`, or `[1, N, C]`."""
        check_is_fitted(self)
        x = validate_data(self, x, dtype=np.float64, reset=False)
        rows = np.zeros((_padded(max(len(x), self.room)), self._width()), np.float32)
        rows[: len(x), : x.shape[1]] = self._scaled(x)
        return np.asarray(self._compiled().predict(self._state(), rows), np.float64)[:, : len(x)]

    def _models(self) -> int:
        """K."""
        return 1

    # -------------------------------------------------------------------------------------- as arrays

    def stored(self) -> dict[str, Any]:
        """What `fit` has learned, as arrays and numbers."""
        scale = {
            "center": self._center,
            "spread": self._spread,
            "target": np.array(getattr(self, "_target", (0.0, 1.0))),
        }
        return {"memory": self.memory_, "counts": self._counts, "scale": scale}

    def restore(self, stored: dict[str, Any], features: int, classes: np.ndarray | None = None) -> None:
        """Takes over what `stored` gave, in place of `fit`.

        Raises:
          ValueError: arrays that do not fit the program.
        """
        self._load()
        self.n_features_in_ = features
        if classes is not None:
            self.classes_ = classes
        scale = stored["scale"]
        self._center, self._spread = (np.asarray(scale[name], np.float64) for name in ("center", "spread"))
        self._target = tuple(float(value) for value in scale["target"])
        self._begin()
        fresh = {**self.memory_, **self._counts, "center": np.zeros(features), "spread": np.zeros(features)}
        given = {**stored["memory"], **stored["counts"], "center": self._center, "spread": self._spread}
        for name, values in fresh.items():
            if name not in given or np.shape(given[name]) != values.shape:
                raise ValueError(f"what it has learned as {name} does not fit its program")
        self.memory_ = {name: np.asarray(stored["memory"][name], np.float32) for name in self.memory_}
        self._counts = {name: np.asarray(stored["counts"][name], values.dtype) for name, values in self._counts.items()}


def usable_weights(sample_weight: Any, x: np.ndarray) -> np.ndarray | None:
    """Weights of at least 0, not all 0; None without weights."""
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, x, ensure_non_negative=True)
    if not (weights > 0).any():
        raise ValueError("sample_weight is 0 everywhere: at least one example must count")
    return np.asarray(weights, np.float64)


class ProgramRegressor(RegressorMixin, _ProgramEstimator):
    """Regression by a given program.

    Args:
      program: a name of the library, a file, a run's folder, a listing, or `Programs` with one program.
      epochs: how often the training examples are gone through.
      shuffle: whether each epoch has an order of its own, drawn from `random_state`.
      standardize: whether features and targets are scaled to mean 0 and standard deviation 1 for the program.
      random_state: of the order and of the program's random numbers.

    `sample_weight` says how often an example is shown in each epoch; fractions are rounded at random.

    Example:
      >>> from sklearn.datasets import load_diabetes
      >>> x, y = load_diabetes(return_X_y=True)
      >>> bool(ProgramRegressor("linear", random_state=0).fit(x, y).score(x, y) > 0.45)
      True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProgramRegressor":
        """Trains a new model on examples `[N, F]` and targets `[N]`."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self._load()
        X, y, weights = self._arranged(X, y, usable_weights(sample_weight, X))
        self._scale_from(X, weights)
        self._target = (0.0, 1.0)
        if self.standardize:
            mean, spread = moments(np.asarray(y, np.float64)[:, None], weights)
            self._target = float(mean[0]), float(spread[0])
        self._begin()
        self._train(X, self._labels(y), self._order(len(X), weights))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProgramRegressor":
        """Goes on with more examples, once and in their order; scales are those of the first."""
        if not hasattr(self, "memory_"):
            rounds, self.epochs = self.epochs, 1
            try:
                return self.fit(X, y, sample_weight)
            finally:
                self.epochs = rounds
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, reset=False)
        weights = usable_weights(sample_weight, X)
        times = np.ones(len(X)) if weights is None else np.round(weights)
        self._train(X, self._labels(y), np.repeat(np.arange(len(X)), times.astype(np.int64)))
        return self

    def _labels(self, y: Any) -> np.ndarray:
        return (np.asarray(y, np.float64)[None] - self._target[0]) / self._target[1]

    def predict(self, X: Any) -> np.ndarray:
        """Targets `[N]` for examples `[N, F]`."""
        check_is_fitted(self)
        values = np.clip(np.nan_to_num(self._predicted(X)[0]), -1e6, 1e6)
        return values * self._target[1] + self._target[0]


class ProgramClassifier(ClassifierMixin, _ProgramEstimator):
    """Classification by a given program.

    A program that predicts scalars tells two classes apart; for more, a model for each is trained against the rest.
    A program that predicts vectors, such as `softmax_network`, has one model for all classes.

    Args:
      program: a name of the library, a file, a run's folder, a listing, or `Programs` with one program.
      epochs: how often the training examples are gone through.
      shuffle: whether each epoch has an order of its own, drawn from `random_state`.
      standardize: whether features are scaled to mean 0 and standard deviation 1 for the program.
      random_state: of the order and of the program's random numbers.

    `sample_weight` says how often an example is shown in each epoch; fractions are rounded at random.

    Example:
      >>> from sklearn.datasets import load_iris
      >>> x, y = load_iris(return_X_y=True)
      >>> bool(ProgramClassifier("network", random_state=0).fit(x, y).score(x, y) > 0.9)
      True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProgramClassifier":
        """Trains new models on examples `[N, F]` and classes `[N]`."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weights = usable_weights(sample_weight, X)
        self.classes_ = unique_labels(y)
        return self._fit(X, y, weights)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "ProgramClassifier":
        """Goes on with more examples, once and in their order; the first call needs all `classes`."""
        first = not hasattr(self, "memory_")
        X, y = validate_data(self, X, y, dtype=np.float64, reset=first)
        check_classification_targets(y)
        if first and classes is None:
            raise ValueError("the first call of partial_fit needs classes=, all classes that there will be")
        if classes is not None:
            given = unique_labels(classes)
            if not first and not np.array_equal(given, self.classes_):
                raise ValueError(f"classes={classes!r} differs from those of the first call, {self.classes_!r}")
            self.classes_ = given
        weights = usable_weights(sample_weight, X)
        if first:
            rounds, self.epochs = self.epochs, 1
            try:
                return self._fit(X, y, weights)
            finally:
                self.epochs = rounds
        times = np.ones(len(X)) if weights is None else np.round(weights)
        self._train(X, self._labels(y), np.repeat(np.arange(len(X)), times.astype(np.int64)))
        return self

    def _fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> "ProgramClassifier":
        self._load()
        x, y, weights = self._arranged(x, y, weights)
        self._scale_from(x, weights)
        self._begin()
        self._train(x, self._labels(y), self._order(len(x), weights))
        return self

    def _models(self) -> int:
        return 1 if self._vector or len(self.classes_) <= 2 else len(self.classes_)

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """`[K, N]`: the numbers of the classes, or of each class whether it is that."""
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has the class {unknown[0]!r}, which is not one of {self.classes_!r}")
        numbers = np.searchsorted(self.classes_, y)
        if self._models() == 1:
            return numbers[None].astype(np.float64)
        return (numbers == np.arange(len(self.classes_))[:, None]).astype(np.float64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`."""
        check_is_fitted(self)
        found = np.nan_to_num(self._predicted(X), nan=0.5)
        if self._vector:
            each = found[0][:, : len(self.classes_)]
        elif len(self.classes_) <= 2:
            each = np.stack([1 - found[0], found[0]], 1)[:, : len(self.classes_)]
        else:
            each = found.T
        each = each + np.finfo(np.float64).tiny
        return each / each.sum(1, keepdims=True)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores: `[N]` for two classes, the larger the likelier the second; `[N, C]` for more."""
        check_is_fitted(self)
        scores = np.clip(np.log(self.predict_proba(X)), -LIMIT, None)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Classes `[N]` for examples `[N, F]`."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]
