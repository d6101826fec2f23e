"""Programs as scikit-learn estimators: `fit` trains a model with a program, `predict` applies it.

Axes: `N` examples, `F` features, `C` classes, `Q` questions with a model each: 1, or several where the program tells
two classes apart.
"""

import itertools
from typing import Any, Literal

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from zero_jax.use.table_tasks import moments
from zero_jax.use.training import ProgramEstimator, usable_weights

LIMIT = 30.0
"""Logits, and standardised predictions, are at most this large: a program may have diverged."""


class ProgramRegressor(RegressorMixin, ProgramEstimator):
    """Regression by a given program.

    Args:
      program: a name of the library, a file, a run's folder, a listing, or `Programs` with one program.
      epochs: how often the training examples are gone through.
      shuffle: whether each epoch has an order of its own, drawn from `random_state`.
      standardize: whether features and targets are scaled to mean 0 and standard deviation 1 for the program.
      bias: whether the program is given one more feature, which is always 1.
      n_estimators: how many models are trained, each in an order and with random numbers of its own. What is predicted
        is their mean: less depends on the last examples.
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
        return self._fit(X, y, usable_weights(sample_weight, X), self.epochs)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProgramRegressor":
        """Goes on with more examples, once and in their order; scales are those of the first."""
        if not hasattr(self, "memory_"):
            X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
            return self._fit(X, y, usable_weights(sample_weight, X), 1)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, reset=False)
        weights = usable_weights(sample_weight, X)
        times = np.ones(len(X)) if weights is None else np.round(weights)
        order = np.repeat(np.arange(len(X)), times.astype(np.int64))
        self._train(X, self._labels(y), [order] * self._trained_with["n_estimators"])
        return self

    def _fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, epochs: int) -> "ProgramRegressor":
        self._load()
        x, y, weights = self._arranged(x, y, weights)
        self._scale_from(x, weights)
        self._target = (0.0, 1.0)
        if self.standardize:
            mean, spread = moments(np.asarray(y, np.float64)[:, None], weights)
            self._target = float(mean[0]), float(spread[0])
        self._begin()
        self._train(x, self._labels(y), self._orders(len(x), weights, epochs))
        return self

    def _load(self) -> None:
        super()._load()
        if self._vector:
            raise ValueError(
                "the program predicts a vector, for several classes: for numbers take one that predicts s1"
            )

    def _labels(self, y: Any) -> np.ndarray:
        return (np.asarray(y, np.float64)[None] - self._target[0]) / self._target[1]

    def predict(self, X: Any) -> np.ndarray:
        """Targets `[N]` for examples `[N, F]`."""
        check_is_fitted(self)
        return self._predicted(X)[0] * self._target[1] + self._target[0]


class ProgramClassifier(ClassifierMixin, ProgramEstimator):
    """Classification by a given program.

    A program that predicts scalars tells two classes apart; for more, several models are trained (`multi_class`). A
    program that predicts vectors, such as `softmax_network`, has one model for all classes.

    Args:
      program: a name of the library, a file, a run's folder, a listing, or `Programs` with one program.
      epochs: how often the training examples are gone through.
      shuffle: whether each epoch has an order of its own, drawn from `random_state`.
      standardize: whether features are scaled to mean 0 and standard deviation 1 for the program.
      bias: whether the program is given one more feature, which is always 1.
      multi_class: `ovr`, a model for each class against the rest, or `ovo`, one for each pair of classes, trained on
        their examples alone; a class's probability is then the mean of those in its pairs.
      n_estimators: how many models are trained, each in an order and with random numbers of its own. What is predicted
        is their mean: less depends on the last examples.
      random_state: of the order and of the program's random numbers.

    `sample_weight` says how often an example is shown in each epoch; fractions are rounded at random.

    Example:
      >>> from sklearn.datasets import load_iris
      >>> x, y = load_iris(return_X_y=True)
      >>> bool(ProgramClassifier("network", random_state=0).fit(x, y).score(x, y) > 0.9)
      True
    """

    def __init__(
        self,
        program: Any = "network",
        *,
        epochs: int = 20,
        shuffle: bool = True,
        standardize: bool = True,
        bias: bool = False,
        multi_class: Literal["ovr", "ovo"] = "ovr",
        n_estimators: int = 1,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            program,
            epochs=epochs,
            shuffle=shuffle,
            standardize=standardize,
            bias=bias,
            n_estimators=n_estimators,
            random_state=random_state,
        )
        self.multi_class = multi_class

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ProgramClassifier":
        """Trains new models on examples `[N, F]` and classes `[N]`."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weights = usable_weights(sample_weight, X)
        self.classes_ = unique_labels(y)
        return self._fit(X, y, weights, self.epochs)

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
            return self._fit(X, y, weights, 1)
        times = np.ones(len(X)) if weights is None else np.round(weights)
        order = np.repeat(np.arange(len(X)), times.astype(np.int64))
        self._train(X, self._labels(y), [order] * self._trained_with["n_estimators"])
        return self

    def _fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, epochs: int) -> "ProgramClassifier":
        self._load()
        x, y, weights = self._arranged(x, y, weights)
        self._scale_from(x, weights)
        self._begin()
        self._train(x, self._labels(y), self._orders(len(x), weights, epochs))
        return self

    def _load(self) -> None:
        super()._load()
        if self.multi_class not in ("ovr", "ovo"):
            raise ValueError(f"multi_class must be 'ovr' or 'ovo', not {self.multi_class!r}")

    def _pairs(self) -> np.ndarray:
        """`[Q, 2]`: the numbers of the classes that each model tells apart, with `ovo`."""
        return np.array(list(itertools.combinations(range(len(self.classes_)), 2)))

    def _questions(self) -> int:
        if self._vector or len(self.classes_) <= 2:
            return 1
        return len(self.classes_) if self._trained_with["multi_class"] == "ovr" else len(self._pairs())

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """`[Q, N]`: the numbers of the classes; or whether it is that of the model, NaN where it is none of its own."""
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has the class {unknown[0]}, which is not one of {', '.join(map(str, self.classes_))}")
        numbers = np.searchsorted(self.classes_, y)
        if self._questions() == 1:
            return numbers[None].astype(np.float64)
        if self._trained_with["multi_class"] == "ovr":
            return (numbers == np.arange(len(self.classes_))[:, None]).astype(np.float64)
        first, second = self._pairs().T[:, :, None]
        return np.where(numbers == second, 1.0, np.where(numbers == first, 0.0, np.nan))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`."""
        check_is_fitted(self)
        found = self._predicted(X)
        if self._vector:
            each = found[0][:, : len(self.classes_)]
        elif len(self.classes_) <= 2:
            each = np.stack([1 - found[0], found[0]], 1)[:, : len(self.classes_)]
        elif self._trained_with["multi_class"] == "ovr":
            each = found.T
        else:
            each = np.zeros((found.shape[1], len(self.classes_)))
            for (first, second), of_second in zip(self._pairs(), found, strict=True):
                each[:, first] += 1 - of_second
                each[:, second] += of_second
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
