"""A program as pure JAX functions, for use outside of a search.

`learner` compiles the live instructions of one program, each to the JAX function of its op. Nothing dispatches: the
functions can be jitted, mapped over seeds and data sets, sharded, and differentiated with respect to the constants.

Axes: `F` features, `N` examples, `C` classes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zero_jax.executors import stream
from zero_jax.executors.fitness import Classes, sigmoid
from zero_jax.program import ops
from zero_jax.program.canonical import live, pruned
from zero_jax.program.liveness import number_draws
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.support.bounds import check_number

SETUP, PREDICT, LEARN = range(3)


class LearnerState(NamedTuple):
    """What a learner knows; a pytree.

    Attributes:
      memory: by name, as `s2` `[]`, `v1` `[F]` or `m0` `[F, F]`: what the program reads or writes.
      constants: `[n, 3]` float32 for each component, the constants of its live instructions.
      seed: uint32, of the random numbers; `task` int32 tells their streams apart.
      task: see above.
      predicted: int32, how often Predict has run.
      learned: int32, how often Learn has.
    """

    memory: dict[str, Array]
    constants: tuple[Array, Array, Array]
    seed: Array
    task: Array
    predicted: Array
    learned: Array


class Learner(NamedTuple):
    """The functions of one program.

    Attributes:
      init: `(key, features, constants=None, task=0) -> state` after Setup. The key is one of `jax.random`, or a whole
        number that counts as the `seed` of `zero_jax.evaluate`; `constants` replace the program's own.
      predict: `(state, x) -> prediction` for `[F]`, or for `[N, F]` one for each, all from the same state. For
        regression a number, for two classes the probability of class 1, for more classes `[C]` probabilities.
      learn: `(state, x, y) -> state` after one example, `[F]` and a number: the target, or the number of the class.
      fit: `(state, xs, ys, epochs=1, order=None) -> state` after `[N, F]` and `[N]`, example by example, as one
        `lax.scan`. `order` int32 `[epochs, N]` gives the order of examples in each epoch.
      predict_in_turn: `(state, xs) -> (predictions, state)` for `[N, F]`, one after the other: what Predict leaves in
        memory, and its random numbers, count for the next example. This is how `evaluate` validates.
      constants: `[n, 3]` float32 for each component, the program's own.
    """

    init: Callable[..., LearnerState]
    predict: Callable[[LearnerState, Any], Array]
    learn: Callable[[LearnerState, Any, Any], LearnerState]
    fit: Callable[..., LearnerState]
    predict_in_turn: Callable[[LearnerState, Any], tuple[Array, LearnerState]]
    constants: tuple[np.ndarray, np.ndarray, np.ndarray]


def learner(program: Programs, loss: Literal["rmse", "accuracy"] = "rmse", classes: int = 0) -> Learner:
    """The functions of one program, which train and predict as `evaluate` does, within float rounding.

    Args:
      program: one program.
      loss: `rmse` for regression, `accuracy` for classes.
      classes: how many, if more than two: labels and predictions are then vectors, as in `Tasks`, and features are at
        least as many.

    Raises:
      ValueError: not one program, an unknown loss, or more than two classes with a memory of fewer than 3 vectors.

    Example:
      >>> import jax
      >>> from zero_jax import library
      >>> model = learner(library.program("linear"))
      >>> xs = jax.random.normal(jax.random.key(0), (500, 2))
      >>> state = model.fit(model.init(0, 2), xs, xs @ jnp.array([3.0, -1.0]))
      >>> state.memory["v1"].round(1).tolist()
      [3.0, -1.0]
      >>> model.predict(state, jnp.array([1.0, 1.0])).round(1).item()
      2.0
    """
    if len(program) != 1:
        raise ValueError(f"a learner is made from one program, not {len(program)}: choose one, as in programs[0]")
    if loss not in ("rmse", "accuracy"):
        raise ValueError(f"loss must be 'rmse' or 'accuracy', not {loss!r}")
    if classes:
        check_number("classes", classes)
        if loss == "rmse":
            raise ValueError(f"{classes} classes need loss='accuracy'")
    return _Compiled(program, loss, classes if classes > 2 else 0).functions()


class _Instruction(NamedTuple):
    op: ops.Op
    inputs: tuple[str, ...]
    output: str
    draw: int


class _Compiled:
    """One program, its instructions as Python functions on named values."""

    def __init__(self, program: Programs, loss: str, classes: int) -> None:
        memory = program.memory
        self.interface = Interface.vector(memory) if classes else Interface.scalar(memory)
        self.names = [f"{kind}{n}" for kind, size in zip(ops.KINDS, memory, strict=True) for n in range(size)]
        self.label, self.features, self.prediction = (self.names[end] for end in self.interface)
        numbered = number_draws(program, live(program, self.interface))
        bare = pruned(numbered, self.interface)
        self.loss, self.classes = loss, Classes(classes, -1) if classes else None
        self.components: list[list[_Instruction]] = []
        constants = []
        for first, length in zip(bare.starts[:3], np.asarray(bare.length)[0], strict=True):
            rows = slice(first, first + int(length))
            code, data = np.asarray(bare.code)[0, rows], np.asarray(bare.data)[0, rows]
            self.components.append([_instruction(row, draw) for row, draw in zip(code, data[:, 2], strict=True)])
            constants.append(np.array(data, np.float32))
        self.constants = (constants[0], constants[1], constants[2])
        used = {name for part in self.components for one in part for name in (*one.inputs, one.output)}
        self.used = sorted(used | {self.label, self.features, self.prediction})

    def functions(self) -> Learner:
        """What `learner` returns."""
        return Learner(self.init, self.predict, self.learn, self.fit, self.predict_in_turn, self.constants)

    # -------------------------------------------------------------------------------------- the functions

    def init(
        self, key: Any, features: int, constants: Sequence[Any] | None = None, task: int | Array = 0
    ) -> LearnerState:
        check_number("features", features)
        if self.classes and features < self.classes.number:
            raise ValueError(
                f"{self.classes.number} classes need at least as many features, not {features}: add columns of zeros"
            )
        shapes = {"s": (), "v": (features,), "m": (features, features)}
        memory = {name: jnp.zeros(shapes[name[0]], jnp.float32) for name in self.used}
        first, second, third = self.constants if constants is None else constants
        given = (jnp.asarray(first), jnp.asarray(second), jnp.asarray(third))
        zero = jnp.int32(0)
        state = LearnerState(memory, given, _seed(key), jnp.asarray(task, jnp.int32), zero, zero)
        return state._replace(memory=self._run(SETUP, state, memory, zero))

    def predict(self, state: LearnerState, x: Any) -> Array:
        x = jnp.asarray(x, jnp.float32)
        if x.ndim == 2:
            return jax.vmap(lambda one: self.predict(state, one))(x)
        return self._predicted(self._after_predict(state, self._checked(state, x)))

    def learn(self, state: LearnerState, x: Any, y: Any) -> LearnerState:
        x = self._checked(state, jnp.asarray(x, jnp.float32))
        y = jnp.asarray(y, jnp.float32)
        memory = self._after_predict(state, x)
        memory = {**memory, self.prediction: self._activated(memory[self.prediction]), self.features: x}
        memory[self.label] = self.classes.label(memory[self.label], y) if self.classes else y
        memory = self._run(LEARN, state, memory, state.learned)
        return state._replace(memory=memory, predicted=state.predicted + 1, learned=state.learned + 1)

    def fit(self, state: LearnerState, xs: Any, ys: Any, epochs: int = 1, order: Any = None) -> LearnerState:
        xs, ys = jnp.asarray(xs, jnp.float32), jnp.asarray(ys, jnp.float32)
        if xs.ndim != 2 or ys.shape != xs.shape[:1]:
            raise ValueError(f"expected examples [N, F] and labels [N], not {xs.shape} and {ys.shape}")
        order = jnp.tile(jnp.arange(len(xs)), (epochs, 1)) if order is None else jnp.asarray(order)
        if order.ndim != 2 or order.shape[1] != len(xs):
            raise ValueError(f"order must be [epochs, {len(xs)}], not {order.shape}")

        def step(state: LearnerState, i: Array) -> tuple[LearnerState, None]:
            return self.learn(state, xs[i], ys[i]), None

        return lax.scan(step, state, order.ravel())[0]

    def predict_in_turn(self, state: LearnerState, xs: Any) -> tuple[Array, LearnerState]:
        def step(state: LearnerState, x: Array) -> tuple[LearnerState, Array]:
            memory = self._after_predict(state, x)
            return state._replace(memory=memory, predicted=state.predicted + 1), self._predicted(memory)

        after, predictions = lax.scan(step, state, self._checked(state, jnp.asarray(xs, jnp.float32)))
        return predictions, after

    # -------------------------------------------------------------------------------------- instructions

    def _checked(self, state: LearnerState, x: Array) -> Array:
        expected = state.memory[self.features].shape[-1]
        if x.shape[-1] != expected:
            raise ValueError(f"this learner was initialised for {expected} features, not {x.shape[-1]}")
        return x

    def _after_predict(self, state: LearnerState, x: Array) -> dict[str, Array]:
        label = jnp.zeros_like(state.memory[self.label])
        return self._run(PREDICT, state, {**state.memory, self.features: x, self.label: label}, state.predicted)

    def _activated(self, prediction: Array) -> Array:
        if self.classes:
            return self.classes.probabilities(prediction)
        return sigmoid(prediction) if self.loss == "accuracy" else prediction

    def _predicted(self, memory: dict[str, Array]) -> Array:
        prediction = self._activated(memory[self.prediction])
        return prediction[: self.classes.number] if self.classes else prediction

    def _run(self, component: int, state: LearnerState, memory: dict[str, Array], count: Array) -> dict[str, Array]:
        memory = dict(memory)
        features = ops.unrolled_features(memory[self.features].shape[-1])
        for one, constants in zip(self.components[component], state.constants[component], strict=True):
            old = memory[one.output]
            args: list[Any] = [memory[name] for name in one.inputs]
            if one.op.product:
                left, right = args
                args = [functools.partial(_part, left, 1), functools.partial(_part, right, 0)]
            args += [old] if one.op.reads_output else []
            args += [constants[i] for i in range(len(one.op.constants))]
            if one.op.random:
                number = stream.draw_number(component, count, jnp.uint32(one.draw))
                args += [drawn[0] for drawn in stream.draws(old.shape, state.seed, state.task[None], number)]
            memory[one.output] = jnp.broadcast_to(one.op.value(features, *args), old.shape)
        return memory


def _instruction(code: np.ndarray, draw: float) -> _Instruction:
    number, in1, in2, out = code.tolist()
    op = ops.OPS[number]
    inputs = tuple(f"{kind}{at}" for kind, at in zip(op.inputs, (in1, in2), strict=False))
    return _Instruction(op, inputs, f"{op.output}{out}", int(draw) if op.random else 0)


def _part(matrix: Array, axis: int, k: Array) -> Array:
    return lax.dynamic_index_in_dim(matrix, k, axis, keepdims=False)


def _seed(key: Any) -> Array:
    """The seed of the random stream: of a key of `jax.random`, 32 bits drawn with it."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.random.bits(key, dtype=jnp.uint32)
    if isinstance(key, jax.Array | np.ndarray) and key.shape == (2,):  # an old-style key
        return jax.random.bits(jnp.asarray(key), dtype=jnp.uint32)
    return stream.seed_bits(key)
