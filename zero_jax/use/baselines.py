"""Logistic regression and a 2-layer network in plain JAX and optax: what a discovered program must beat.

Axes: `C` classifiers, `T` tasks, `N` training examples, `F` features, `U` hidden units.
"""

import dataclasses
import functools
import numbers
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zero_jax.support.bounds import check_number
from zero_jax.tasks import Tasks

Model = Literal["logistic", "network"]
Optimiser = Literal["sgd", "adam"]

Weights = dict[str, Any]
"""`out` `[U or F]` and `bias` `[]`; a network also has `layer` `[U, F]` and `shift` `[U]`."""

LEARNING_RATE, SCALE, DECAY, MOMENTUM = (1e-4, 10.0), (1e-3, 1.0), (1e-5, 0.1), (0.5, 0.99)
"""The ranges that `tune` samples: the first three and 1 - momentum log-uniformly. Half of all candidates have no decay,
half no momentum."""

_CACHE, _AT_A_TIME = 2**20, 32
"""Bounds on how many classifiers train at a time: bytes of their weights on all tasks, and a number. Larger groups do
not fit a core's second-level cache; smaller ones waste the overhead of each step of the loop."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A binary classifier, trained on the cross-entropy one example at a time, in the order of the tasks.

    Attributes:
      model: `logistic`, out.x + bias; or `network`, out.relu(layer x + shift) + bias.
      hidden: U, for a network only; 0 means as many as there are features, like the library's network.
      optimiser: `sgd` or `adam`.
      learning_rate: at least 0.
      scale: the standard deviation of the initial `out` and `layer` (Gaussian); the other weights start at 0.
      decay: weight decay: each step shrinks all weights by the fraction learning_rate * decay.
      momentum: of SGD (heavy ball; 0 disables it), or Adam's first decay rate.

    Raises:
      ValueError: an unknown model or optimiser, numbers out of range.
    """

    model: Model = "logistic"
    hidden: int = 0
    optimiser: Optimiser = "sgd"
    learning_rate: float = 0.01
    scale: float = 0.1
    decay: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("model", Model), ("optimiser", Optimiser)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, not {getattr(self, name)!r}")
        if not isinstance(self.hidden, numbers.Integral) or self.hidden < 0:
            raise ValueError(f"hidden must be a whole number of at least 0, not {self.hidden!r}")
        if self.hidden and self.model == "logistic":
            raise ValueError("logistic regression has no hidden units: leave hidden out, or choose model='network'")
        for name in ("learning_rate", "scale", "decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {getattr(self, name)!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, not {self.momentum!r}")


class TunedClassifier(NamedTuple):
    """The result of tuning a classifier.

    Attributes:
      classifier: the best one.
      fitness: its mean accuracy on the tasks.
      evaluations: the number of classifiers trained on all tasks.
      seconds: the time taken, including compilation.
      history: `[evaluations]` float64, the best fitness after each evaluation; the last entry is `fitness`.
    """

    classifier: Classifier
    fitness: float
    evaluations: int
    seconds: float
    history: np.ndarray


def initial(classifier: Classifier, tasks: Tasks, seed: int = 0) -> Weights:
    """The initial weights, with a leading axis `[T]`: drawn from the seed and the task's id.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> {name: value.shape for name, value in initial(Classifier("network"), arrays.digits([(3, 8)])).items()}
      {'out': (1, 16), 'layer': (1, 16, 16), 'bias': (1,), 'shift': (1, 16)}
    """
    drawn = _Shape.of(classifier, _checked(tasks)).draws(tasks, seed)
    return {name: np.float32(classifier.scale) * value for name, value in drawn.items()}


def trained(classifier: Classifier, tasks: Tasks, seed: int = 0) -> Weights:
    """The weights after the last epoch, with a leading axis `[T]`.

    Raises:
      ValueError: the tasks have another loss than accuracy, or more than two classes.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> trained(Classifier(), arrays.digits([(3, 8), (1, 7)]))["out"].shape
      (2, 16)
    """
    weights, _ = _train_all(_Shape.of(classifier, _checked(tasks)), [classifier], seed, tasks)
    return {name: value[0] for name, value in weights.items()}


def accuracy(classifiers: Classifier | Sequence[Classifier], tasks: Tasks, seed: int = 0) -> np.ndarray:
    """Trains classifiers on tasks and returns their validation accuracy, `[C, T]` float32.

    As for programs, examples come one by one, and the best epoch counts. A logit of NaN means class 0.

    Args:
      classifiers: one or several.
      tasks: `T` tasks.
      seed: for the initial weights.

    Raises:
      ValueError: there are no classifiers, or the tasks have another loss than accuracy or more than two classes.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> accuracy([Classifier(learning_rate=0.1), Classifier("network", hidden=4)], arrays.digits([(3, 8)])).shape
      (2, 1)
    """
    several = [classifiers] if isinstance(classifiers, Classifier) else list(classifiers)
    if not several:
        raise ValueError("no classifiers: pass at least one")
    shapes = [_Shape.of(one, _checked(tasks)) for one in several]
    fitness = np.empty((len(several), len(tasks)), np.float32)
    for shape in dict.fromkeys(shapes):
        rows = [i for i, other in enumerate(shapes) if other == shape]
        _, fitness[rows] = _train_all(shape, [several[i] for i in rows], seed, tasks)
    return fitness


def tune(model: Model, tasks: Tasks, *, evaluations: int = 1000, hidden: int = 0, seed: int = 0) -> TunedClassifier:
    """Tunes optimiser, learning rate, initial scale, decay and momentum by random search.

    Optimisers alternate. The first candidate is `Classifier(model)` with its defaults.

    Args:
      model: `logistic` or `network`.
      tasks: `T` tasks; the objective is the mean accuracy.
      evaluations: the number of candidates to train on all tasks.
      hidden: as in `Classifier`.
      seed: for the candidates and their initial weights.

    Raises:
      ValueError: `evaluations` is below 1, or an argument is invalid for `Classifier` or `accuracy`.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> tuned = tune("logistic", arrays.digits([(3, 8), (4, 9)]), evaluations=30)
      >>> tuned.evaluations, bool(tuned.fitness > 0.9)
      (30, True)
    """
    check_number("evaluations", evaluations)
    began = time.perf_counter()
    some = [Classifier(model, hidden), *_drawn(model, hidden, int(evaluations) - 1, seed)]
    fitness = accuracy(some, tasks, seed).astype(np.float64).mean(1)
    best = int(np.argmax(fitness))
    history = np.maximum.accumulate(fitness)
    return TunedClassifier(some[best], float(fitness[best]), len(some), time.perf_counter() - began, history)


def _drawn(model: Model, hidden: int, count: int, seed: int) -> list[Classifier]:
    optimisers = get_args(Optimiser)
    rng = np.random.default_rng(seed)

    def between(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), count))

    rates, scales = between(*LEARNING_RATE), between(*SCALE)
    decays = between(*DECAY) * (rng.random(count) < 0.5)
    momenta = (1 - between(*(1 - end for end in reversed(MOMENTUM)))) * (rng.random(count) < 0.5)
    rows = zip(rates.tolist(), scales.tolist(), decays.tolist(), momenta.tolist(), strict=True)
    return [Classifier(model, hidden, optimisers[i % len(optimisers)], *row) for i, row in enumerate(rows)]


# ---------------------------------------------------------------------------------------------- training


class _Numbers(NamedTuple):
    """The hyperparameters of classifiers, `[C]` float32 each, or of one classifier."""

    learning_rate: jax.Array
    scale: jax.Array
    decay: jax.Array
    momentum: jax.Array


class _Data(NamedTuple):
    """The arrays of `Tasks` that training needs, or the axis of tasks in each of them."""

    train_x: Any
    train_y: Any
    valid_x: Any
    valid_y: Any
    order: Any


class _Shape(NamedTuple):
    """The static part that XLA compiles for: everything but the hyperparameters."""

    model: Model
    hidden: int
    optimiser: Optimiser
    features: int

    @classmethod
    def of(cls, classifier: Classifier, tasks: Tasks) -> "_Shape":
        hidden = (classifier.hidden or tasks.features) if classifier.model == "network" else 0
        return cls(classifier.model, hidden, classifier.optimiser, tasks.features)

    def draws(self, tasks: Tasks, seed: int) -> Weights:
        """Initial weights at scale 1, drawn on the host: normal deviates would dominate XLA's compile time."""
        sizes: dict[str, tuple[int, ...]] = {"out": (self.hidden or self.features,)}
        if self.model == "network":
            sizes["layer"] = self.hidden, self.features
        each = [np.random.default_rng([seed % 2**64, task]) for task in np.asarray(tasks.ids).tolist()]
        drawn = {
            name: np.stack([rng.standard_normal(size, np.float32) for rng in each]) for name, size in sizes.items()
        }
        biases = {"bias": (), "shift": (self.hidden,)} if self.model == "network" else {"bias": ()}
        return drawn | {name: np.zeros((len(tasks), *size), np.float32) for name, size in biases.items()}

    def rule(self, numbers: _Numbers) -> optax.GradientTransformation:
        """The update rule."""
        direction = optax.scale_by_adam if self.optimiser == "adam" else optax.trace
        return optax.chain(
            direction(numbers.momentum),
            optax.add_decayed_weights(numbers.decay),
            optax.scale_by_learning_rate(numbers.learning_rate),
        )


def _logit(weights: Weights, x: jax.Array) -> jax.Array:
    """The logit of one example `[F]`."""
    if "layer" in weights:
        x = jax.nn.relu(weights["layer"] @ x + weights["shift"])
    return weights["out"] @ x + weights["bias"]


def _loss(weights: Weights, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(_logit(weights, x), y)


def _train_one(shape: _Shape, numbers: _Numbers, drawn: Weights, task: _Data) -> tuple[Weights, jax.Array]:
    """Trains one classifier on one task (without an axis of tasks); returns weights and accuracy."""
    rule = shape.rule(numbers)

    def step(state: Any, example: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        weights, memory = state
        update, memory = rule.update(jax.grad(_loss)(weights, *example), memory, weights)
        return (optax.apply_updates(weights, update), memory), None

    def epoch(state: Any, order: jax.Array) -> tuple[Any, jax.Array]:
        state, _ = jax.lax.scan(step, state, (task.train_x[order], task.train_y[order]))
        says_one = jax.vmap(functools.partial(_logit, state[0]))(task.valid_x) > 0
        return state, (says_one == (task.valid_y > 0.5)).mean(dtype=jnp.float32)

    weights = {name: numbers.scale * value for name, value in drawn.items()}
    (weights, _), accuracies = jax.lax.scan(epoch, (weights, rule.init(weights)), task.order)
    return weights, accuracies.max()


@functools.partial(jax.jit, static_argnums=0)
def _train(shape: _Shape, numbers: _Numbers, drawn: Weights, tasks: _Data) -> tuple[Weights, jax.Array]:
    """Trains a group of classifiers on all tasks."""
    on_tasks = jax.vmap(functools.partial(_train_one, shape), in_axes=(None, 0, _Data(0, 0, 0, 0, None)))
    with jax.numpy_dtype_promotion("standard"):  # what optax is written for
        return jax.vmap(on_tasks, in_axes=(0, None, None))(numbers, drawn, tasks)


def _train_all(shape: _Shape, classifiers: Sequence[Classifier], seed: int, tasks: Tasks) -> tuple[Weights, np.ndarray]:
    """Weights `[C, T, ...]` and accuracy `[C, T]` of classifiers of one shape, trained in groups of equal size."""
    size = min(_AT_A_TIME, max(1, _CACHE // (4 * len(tasks) * shape.features * max(1, shape.hidden))))
    rows = np.array([[getattr(one, name) for name in _Numbers._fields] for one in classifiers], np.float32)
    rows = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size, 0)])
    drawn, data = shape.draws(tasks, seed), _Data(*(getattr(tasks, name) for name in _Data._fields))
    parts = [_train(shape, _Numbers(*rows[i : i + size].T), drawn, data) for i in range(0, len(rows), size)]
    return jax.tree.map(lambda *some: np.concatenate(some)[: len(classifiers)], *parts)


def _checked(tasks: Tasks) -> Tasks:
    if tasks.loss != "accuracy":
        raise ValueError(f"baselines are binary classifiers: tasks must have the accuracy loss, not {tasks.loss}")
    if tasks.classes > 2:
        raise ValueError(f"baselines are binary classifiers: tasks must have 2 classes, not {tasks.classes}")
    return tasks
