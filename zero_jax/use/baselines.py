"""Logistic regression and a 2-layer network in plain JAX and optax: what a found program has to beat.

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
"""`out` `[U or F]` and `bias` `[]`; of a network `layer` `[U, F]` and `shift` `[U]` too."""

LEARNING_RATE, SCALE, DECAY, MOMENTUM = (1e-4, 10.0), (1e-3, 1.0), (1e-5, 0.1), (0.5, 0.99)
"""Between what `tune` draws: the first three log-uniformly, 1 - momentum too. Half of all candidates have no decay,
half have no momentum."""

_CACHE, _AT_A_TIME = 2**20, 32
"""Classifiers are trained as many at a time as have this many bytes of weights, on all tasks together, or so many: more
do not stay in a core's second-level cache, fewer pay for every step of the loop."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model of a logit, and how it is trained: on the cross-entropy, an example at a time, in the order of the tasks.

    Attributes:
      model: `logistic`, out.x + bias; or `network`, out.relu(layer x + shift) + bias.
      hidden: U; 0 for as many as there are features, as the library's network has. Of a network alone.
      optimiser: `sgd` or `adam`.
      learning_rate: at least 0.
      scale: the standard deviation of the Gaussian that `out` and `layer` are drawn from; the others begin at 0.
      decay: a step shrinks all weights by the share learning_rate * decay.
      momentum: of SGD (heavy ball), 0 for none; or Adam's first decay rate.

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
            raise ValueError("logistic regression has no hidden units: leave hidden out, or take model='network'")
        for name in ("learning_rate", "scale", "decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {getattr(self, name)!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, not {self.momentum!r}")


class TunedClassifier(NamedTuple):
    """What tuning found.

    Attributes:
      classifier: the best one.
      fitness: its mean accuracy on the tasks.
      evaluations: how many classifiers were trained on all tasks.
      seconds: how long it took, compilation included.
      history: `[evaluations]` float64, the best fitness after each evaluation; it ends with `fitness`.
    """

    classifier: Classifier
    fitness: float
    evaluations: int
    seconds: float
    history: np.ndarray


def initial(classifier: Classifier, tasks: Tasks, seed: int = 0) -> Weights:
    """The weights before training, with an axis `[T]` in front: drawn from the seed and a task's id.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> {name: value.shape for name, value in initial(Classifier("network"), arrays.digits([(3, 8)])).items()}
      {'out': (1, 16), 'layer': (1, 16, 16), 'bias': (1,), 'shift': (1, 16)}
    """
    drawn = _Shape.of(classifier, _checked(tasks)).draws(tasks, seed)
    return {name: np.float32(classifier.scale) * value for name, value in drawn.items()}


def trained(classifier: Classifier, tasks: Tasks, seed: int = 0) -> Weights:
    """The weights after the last epoch, with an axis `[T]` in front.

    Raises:
      ValueError: tasks of another loss than accuracy, or of more than two classes.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> trained(Classifier(), arrays.digits([(3, 8), (1, 7)]))["out"].shape
      (2, 16)
    """
    weights, _ = _train_all(_Shape.of(classifier, _checked(tasks)), [classifier], seed, tasks)
    return {name: value[0] for name, value in weights.items()}


def accuracy(classifiers: Classifier | Sequence[Classifier], tasks: Tasks, seed: int = 0) -> np.ndarray:
    """Trains classifiers on tasks and tells how many validation examples they get right: `[C, T]` float32.

    As with programs, examples come one by one, and of several epochs the best counts. A logit of NaN is class 0.

    Args:
      classifiers: one or several.
      tasks: `T` tasks.
      seed: of the initial weights.

    Raises:
      ValueError: no classifiers; tasks of another loss than accuracy, or of more than two classes.

    Example:
      >>> from zero_jax.tasks import arrays
      >>> accuracy([Classifier(learning_rate=0.1), Classifier("network", hidden=4)], arrays.digits([(3, 8)])).shape
      (2, 1)
    """
    several = [classifiers] if isinstance(classifiers, Classifier) else list(classifiers)
    if not several:
        raise ValueError("there are no classifiers")
    shapes = [_Shape.of(one, _checked(tasks)) for one in several]
    told = np.empty((len(several), len(tasks)), np.float32)
    for shape in dict.fromkeys(shapes):
        rows = [i for i, other in enumerate(shapes) if other == shape]
        _, told[rows] = _train_all(shape, [several[i] for i in rows], seed, tasks)
    return told


def tune(model: Model, tasks: Tasks, *, evaluations: int = 1000, hidden: int = 0, seed: int = 0) -> TunedClassifier:
    """Looks for the best optimiser, learning rate, initial scale, decay and momentum by random search.

    Optimisers take turns. The first candidate is `Classifier(model)` as it stands.

    Args:
      model: `logistic` or `network`.
      tasks: `T` tasks; what counts is the mean accuracy.
      evaluations: how many candidates to train on all tasks.
      hidden: as in `Classifier`.
      seed: of the candidates and of their initial weights.

    Raises:
      ValueError: `evaluations` below 1, and all that `Classifier` and `accuracy` object to.

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
    """The numbers of classifiers, `[C]` float32 each, or of one."""

    learning_rate: jax.Array
    scale: jax.Array
    decay: jax.Array
    momentum: jax.Array


class _Data(NamedTuple):
    """The arrays of `Tasks` that training needs, or which of their axes is that of tasks."""

    train_x: Any
    train_y: Any
    valid_x: Any
    valid_y: Any
    order: Any


class _Shape(NamedTuple):
    """What XLA compiles for: all of a classifier that is no number, and the features."""

    model: Model
    hidden: int
    optimiser: Optimiser
    features: int

    @classmethod
    def of(cls, classifier: Classifier, tasks: Tasks) -> "_Shape":
        hidden = (classifier.hidden or tasks.features) if classifier.model == "network" else 0
        return cls(classifier.model, hidden, classifier.optimiser, tasks.features)

    def draws(self, tasks: Tasks, seed: int) -> Weights:
        """Initial weights on the scale 1; on the host, since XLA compiles normal deviates longer than all the rest."""
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
        """The optimiser."""
        direction = optax.scale_by_adam if self.optimiser == "adam" else optax.trace
        return optax.chain(
            direction(numbers.momentum),
            optax.add_decayed_weights(numbers.decay),
            optax.scale_by_learning_rate(numbers.learning_rate),
        )


def _logit(weights: Weights, x: jax.Array) -> jax.Array:
    """Of one example `[F]`."""
    if "layer" in weights:
        x = jax.nn.relu(weights["layer"] @ x + weights["shift"])
    return weights["out"] @ x + weights["bias"]


def _loss(weights: Weights, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(_logit(weights, x), y)


def _train_one(shape: _Shape, numbers: _Numbers, drawn: Weights, task: _Data) -> tuple[Weights, jax.Array]:
    """One classifier on one task, which comes without an axis for tasks: its weights, and the accuracy."""
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
    (weights, _), told = jax.lax.scan(epoch, (weights, rule.init(weights)), task.order)
    return weights, told.max()


@functools.partial(jax.jit, static_argnums=0)
def _train(shape: _Shape, numbers: _Numbers, drawn: Weights, tasks: _Data) -> tuple[Weights, jax.Array]:
    """Some classifiers on all tasks."""
    on_tasks = jax.vmap(functools.partial(_train_one, shape), in_axes=(None, 0, _Data(0, 0, 0, 0, None)))
    with jax.numpy_dtype_promotion("standard"):  # what optax is written for
        return jax.vmap(on_tasks, in_axes=(0, None, None))(numbers, drawn, tasks)


def _train_all(shape: _Shape, classifiers: Sequence[Classifier], seed: int, tasks: Tasks) -> tuple[Weights, np.ndarray]:
    """Weights `[C, T, ...]` and accuracy `[C, T]` of classifiers of one shape, equally many at a time."""
    size = min(_AT_A_TIME, max(1, _CACHE // (4 * len(tasks) * shape.features * max(1, shape.hidden))))
    rows = np.array([[getattr(one, name) for name in _Numbers._fields] for one in classifiers], np.float32)
    rows = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size, 0)])
    drawn, data = shape.draws(tasks, seed), _Data(*(getattr(tasks, name) for name in _Data._fields))
    parts = [_train(shape, _Numbers(*rows[i : i + size].T), drawn, data) for i in range(0, len(rows), size)]
    return jax.tree.map(lambda *some: np.concatenate(some)[: len(classifiers)], *parts)


def _checked(tasks: Tasks) -> Tasks:
    if tasks.loss != "accuracy":
        raise ValueError(f"these classifiers learn labels 0 and 1: tasks must have the accuracy loss, not {tasks.loss}")
    if tasks.classes > 2:
        raise ValueError(f"these classifiers tell two classes apart, not {tasks.classes}")
    return tasks
