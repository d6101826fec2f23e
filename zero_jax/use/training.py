"""How a program trains models as a scikit-learn estimator: what classifiers and regressors share.

Axes: `N` examples, `F` features, `Q` questions with a model each, such as which of two classes it is; `K` models that
are trained side by side, one for each estimator and question.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from zero_jax.program import library
from zero_jax.program.canonical import for_other_labels
from zero_jax.program.programs import Programs
from zero_jax.support.bounds import check_number
from zero_jax.use.learner import LearnerState, learner
from zero_jax.use.table_tasks import moments

Constants = tuple[np.ndarray, np.ndarray, np.ndarray]


class _Functions(NamedTuple):
    init: Any
    fit: Any
    predict: Any


@functools.lru_cache(maxsize=256)
def _functions(text: str, loss: Literal["rmse", "accuracy"], classes: int) -> _Functions:
    """The functions of a program, for `K` models at once; compiled once for each shape, whatever its constants."""
    made = learner(Programs.parse(text), loss, classes)

    def step(xs: Array, ys: Array, state: LearnerState, i: Array) -> tuple[LearnerState, None]:
        after = made.learn(state, xs[i], ys[i])
        return jax.tree.map(lambda new, old: jnp.where(i >= 0, new, old), after, state), None

    def fit(states: LearnerState, xs: Array, ys: Array, order: Array) -> LearnerState:
        return jax.vmap(lambda state, y, own: lax.scan(functools.partial(step, xs, y), state, own)[0])(
            states, ys, order
        )

    def init(seeds: Array, features: int, constants: Constants) -> LearnerState:
        return jax.vmap(lambda seed: made.init(seed, features, constants))(seeds)

    predict = jax.vmap(made.predict, (0, None))
    return _Functions(jax.jit(init, static_argnums=1), jax.jit(fit), jax.jit(predict))


def _padded(length: int) -> int:
    """A power of two, so that few shapes are compiled."""
    return max(16, 1 << max(0, length - 1).bit_length())


AT_FIT = ("bias", "multi_class", "n_estimators")
"""Settings that what has been learned depends on: changed later, they count from the next `fit` on."""


class ProgramEstimator(BaseEstimator):
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
        bias: bool = False,
        n_estimators: int = 1,
        random_state: Any = None,
    ) -> None:
        self.program = program
        self.epochs = epochs
        self.shuffle = shuffle
        self.standardize = standardize
        self.bias = bias
        self.n_estimators = n_estimators
        self.random_state = random_state

    # -------------------------------------------------------------------------------------- the program

    def _load(self) -> None:
        loaded = self.program if isinstance(self.program, Programs) else library.load(str(self.program))
        if len(loaded) != 1:
            raise ValueError(f"program must be one program, not {len(loaded)}")
        check_number("epochs", self.epochs)
        check_number("n_estimators", self.n_estimators)
        for name in ("shuffle", "standardize", "bias"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"{name} must be True or False, not {getattr(self, name)!r}")
        self._trained_with = {name: value for name, value in self.get_params(deep=False).items() if name in AT_FIT}
        self.program_ = loaded
        self._structure = dataclasses.replace(loaded, data=np.zeros_like(loaded.data)).to_json()
        self._vector = bool(for_other_labels(loaded)[0])

    def _kind(self) -> tuple[Literal["rmse", "accuracy"], int]:
        """The loss, and the number of classes."""
        if not hasattr(self, "classes_"):
            return "rmse", 0
        return "accuracy", max(3, len(self.classes_)) if self._vector else 2

    def _compiled(self) -> _Functions:
        return _functions(self._structure, *self._kind())

    def _outputs_classes(self) -> bool:
        """Whether one model has a prediction for each class."""
        return hasattr(self, "classes_") and self._vector

    def _width(self) -> int:
        """How many features the models see: at least as many as classes where these are a vector."""
        own = self.n_features_in_ + bool(self._trained_with["bias"])
        return max(own, 3, len(self.classes_)) if self._outputs_classes() else own

    # -------------------------------------------------------------------------------------- training

    def _begin(self) -> None:
        """New models."""
        random = check_random_state(self.random_state)
        seeds = np.repeat(random.randint(2**31 - 1, size=self._trained_with["n_estimators"]), self._questions())
        self._constants = learner(self.program_, *self._kind()).constants
        state = self._compiled().init(jnp.asarray(seeds, jnp.uint32), self._width(), self._constants)
        self._keep(state)
        self._random = random

    def _keep(self, state: LearnerState) -> None:
        self.memory_ = {name: np.asarray(values) for name, values in state.memory.items()}
        self._counts = {name: np.asarray(getattr(state, name)) for name in ("seed", "task", "predicted", "learned")}

    def _state(self) -> LearnerState:
        constants = tuple(
            jnp.tile(jnp.asarray(part)[None], (len(self._counts["seed"]), 1, 1)) for part in self._constants
        )
        memory = {name: jnp.asarray(values) for name, values in self.memory_.items()}
        counts = {name: jnp.asarray(values) for name, values in self._counts.items()}
        return LearnerState(memory, constants, **counts)  # type: ignore[arg-type]

    def _train(self, x: np.ndarray, labels: np.ndarray, orders: list[np.ndarray]) -> None:
        """Goes through examples in the order of each estimator; labels are `[Q, N]`, NaN where one is no example."""
        rows, missing = self._rows(x), np.isnan(labels)
        ys = np.zeros((len(orders) * len(labels), len(rows)), np.float32)
        ys[:, : len(x)] = np.tile(np.where(missing, 0.0, labels), (len(orders), 1))
        orders = [order[~absent[order]] for order in orders for absent in missing]
        state, at_a_time = self._state(), len(rows)  # as many steps at a time, however many: one compilation
        for start in range(0, max(map(len, orders)), at_a_time):
            steps = np.full((len(orders), at_a_time), -1, np.int32)
            for own, some in zip(steps, orders, strict=True):
                part = some[start : start + at_a_time]
                own[: len(part)] = part
            state = self._compiled().fit(state, rows, ys, steps)
        self._keep(state)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """Examples as the models see them, with rows of zeros behind."""
        rows = np.zeros((_padded(max(len(x), self.room)), self._width()), np.float32)
        rows[: len(x), : x.shape[1]] = np.clip((x - self._center) / self._spread, -1e6, 1e6)
        if self._trained_with["bias"]:
            rows[: len(x), x.shape[1]] = 1.0
        return rows

    def _orders(self, n: int, weights: np.ndarray | None, epochs: int) -> list[np.ndarray]:
        """For each estimator which of `n` examples comes when."""
        return [self._order(n, weights, epochs) for _ in range(self._trained_with["n_estimators"])]

    def _order(self, n: int, weights: np.ndarray | None, epochs: int) -> np.ndarray:
        """In each epoch every example as often as its weight says, in an order drawn anew."""
        parts = []
        for _ in range(epochs):
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

    def _predicted(self, x: Any) -> np.ndarray:
        """The mean over the estimators: `[Q, N]`, or `[1, N, C]`."""
        check_is_fitted(self)
        x = validate_data(self, x, dtype=np.float64, reset=False)
        each = np.asarray(self._compiled().predict(self._state(), self._rows(x)), np.float64)[:, : len(x)]
        bounded = np.clip(np.nan_to_num(each, nan=0.5 if hasattr(self, "classes_") else 0.0), -1e6, 1e6)
        return bounded.reshape(self._trained_with["n_estimators"], self._questions(), *bounded.shape[1:]).mean(0)

    def _questions(self) -> int:
        """Q."""
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
