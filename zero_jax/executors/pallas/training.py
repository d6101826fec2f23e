"""Training and validation of one program on one group of tasks, as a Pallas kernel does it on either machine."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array, lax

from zero_jax.executors.fitness import Classes, rmse_fitness, sigmoid
from zero_jax.executors.pallas.kernel import LEARN, PREDICT, SETUP, Machine, Shape, times


class Examples(Protocol):
    """Where examples come from."""

    def begin(self) -> None:
        """Before an epoch."""

    def example(self, epoch: Array, number: Array, predicting: Array) -> tuple[Array, Array]:
        """The features and labels of an example on all lanes; examples come in order, each first for Predict."""
        raise NotImplementedError

    def label(self, epoch: Array, number: Array) -> Array:
        """The labels of the example that came last."""
        raise NotImplementedError

    def end(self) -> None:
        """After an epoch."""


class _At(NamedTuple):
    """The part of a block's progress that registers hold.

    Attributes:
      example: of the epoch.
      component: which runs next.
    """

    example: Array
    component: Array


class Outputs(NamedTuple):
    """What training writes, `[lanes]` each. It is kept in memory: with more registers free, more blocks run at a time.

    Attributes:
      fitness: the best of the epochs so far.
      steps: training examples seen so far.
      lost: the sum of losses in this validation.
      alive: whether a run has not stopped (1 or 0).
      errors: `[E * (N + K), lanes]`, or None.
    """

    fitness: Any
    steps: Any
    lost: Any
    alive: Any
    errors: Any


class Training:
    """Training and validation of one program on one group of tasks (Real et al. 2020, figure 1).

    Args:
      shape: what the code depends on.
      machine: runs the components.
      lengths: `[3]` instructions in use; negative where the block has no program.
      limit: `[1]`, the error beyond which a run stops.
      examples: where the examples come from.
      outputs: written by `run`.
    """

    def __init__(
        self, shape: Shape, machine: Machine, lengths: Any, limit: Any, examples: Examples, outputs: Outputs
    ) -> None:
        self.shape = shape
        self.machine = machine
        self.lengths = lengths
        self.limit = limit
        self.examples = examples
        self.outputs = outputs
        self.count = shape.train + shape.valid
        self.classes = Classes(shape.classes, -1 - machine.features.behind) if shape.classes else None

    def run(self, lane: Array) -> None:
        """Runs all epochs; `lane` `[lanes]` holds the numbers of the tasks."""
        shape, outputs = self.shape, self.outputs
        used = self.lengths[0] >= 0
        self.machine.clear(used)
        outputs.fitness[...] = jnp.zeros((shape.lanes,), jnp.float32)
        outputs.steps[...] = jnp.zeros((shape.lanes,), jnp.int32)
        outputs.alive[...] = ((lane < shape.tasks) & used).astype(jnp.int32)
        if shape.errors:
            zero = jnp.zeros((shape.lanes,), jnp.float32)
            times(outputs.errors.shape[0], lambda i, _: outputs.errors.__setitem__(i, zero), None)
        if shape.epochs == 1:
            self._epoch(jnp.int32(0), jnp.int32(SETUP))
        else:
            times(shape.epochs, self._epoch, jnp.int32(SETUP))

    def _epoch(self, epoch: Array, component: Array) -> Array:
        """Training on all examples, and validation; begins and ends with the component that runs next."""
        outputs = self.outputs
        outputs.lost[...] = jnp.zeros((self.shape.lanes,), jnp.float32)
        self.machine.barrier()  # all threads must see the same runs alive, or they would diverge
        self.examples.begin()
        at = lax.while_loop(
            lambda at: at.example < self.count,
            partial(self._component, epoch),
            _At(jnp.where(jnp.max(outputs.alive[...]) > 0, jnp.int32(0), jnp.int32(self.count)), component),
        )
        self.examples.end()
        mean = outputs.lost[...] / self.shape.valid
        fitness = 1.0 - mean if self.shape.accuracy else rmse_fitness(mean, self.machine.arctan)
        outputs.fitness[...] = jnp.maximum(outputs.fitness[...], jnp.where(outputs.alive[...] > 0, fitness, 0.0))
        return at.component

    def _component(self, epoch: Array, at: _At) -> _At:
        """Runs the next component on the next example. One loop serves all components: each place in the code that runs
        instructions needs its own jump table and its own copy of all ops.
        """
        predicting, learning = at.component == PREDICT, at.component == LEARN
        x, y = self.examples.example(epoch, at.example, predicting)
        self.machine.write("v", 0, jnp.where(at.component == SETUP, 0.0, x))
        if self.classes:
            self.machine.write("v", 1, jnp.where(learning, self.classes.label(x, y), 0.0))
        else:
            self.machine.write("s", 0, jnp.where(learning, y, 0.0))
        self.machine.barrier()
        runs = jnp.where(learning, jnp.int32(self.shape.train), jnp.int32(self.count))
        self.machine.run(at.component, self.lengths[at.component], epoch * runs + at.example)
        training = at.example < self.shape.train
        last = lax.cond(predicting, lambda: self._judge(epoch, at.example, training), lambda: at.example)
        learns_next = predicting & training
        stays = learns_next | (at.component == SETUP)
        return _At(jnp.where(stays, last, last + 1), jnp.where(learns_next, jnp.int32(LEARN), jnp.int32(PREDICT)))

    def _judge(self, epoch: Array, example: Array, training: Array) -> Array:
        """What follows Predict: the error, and which runs stop. Returns the number of the example, or N + K where every
        run has stopped.
        """
        outputs = self.outputs
        alive = outputs.alive[...] > 0
        y = self.examples.label(epoch, example)
        kind, address = ("v", 2) if self.classes else ("s", 1)
        logit = prediction = self.machine.read(kind, address)
        if self.shape.accuracy:
            probability = self.classes.probabilities(logit) if self.classes else sigmoid(logit)
            prediction = jnp.where(training, probability, logit)
            self.machine.settle()
            self.machine.write(kind, address, prediction)
            self.machine.barrier()
        error = self.classes.error(probability, y) if self.classes else y - prediction
        if self.shape.errors:
            outputs.errors[epoch * self.count + example] = jnp.where(alive, error, 0.0)
        outputs.steps[...] = outputs.steps[...] + (alive & training).astype(jnp.int32)
        fine = jnp.abs(error) <= self.limit[0]  # false for NaN
        if self.shape.accuracy:
            fine = fine | ~training
            wrong = self.classes.predicted(logit) != y if self.classes else (logit > 0) != (y > 0.5)
            loss = wrong.astype(jnp.float32)
        else:
            loss = error * error
        outputs.lost[...] = outputs.lost[...] + jnp.where(training, 0.0, loss)
        alive = (alive & fine).astype(jnp.int32)
        outputs.alive[...] = alive
        return jnp.where(jnp.max(alive) > 0, example, jnp.int32(self.count))
