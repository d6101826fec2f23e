"""Candidates of `tune`: which constants it tunes, and a judge that evaluates candidates and records the results.

Axes: `n` candidates, `C` tunable constants, `T` tasks, `L` instruction slots.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.executors import dispatch, stream
from zero_jax.executors.api import evaluate
from zero_jax.executors.fitness import program_fitness
from zero_jax.program import ops
from zero_jax.program.canonical import live
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

Combine = Literal["mean", "median"]

DECADES = 3.0
"""Constants are multiplied by 10**-3 to 10**3."""

FIRST_BATCH, BATCH_SECONDS = 64, 0.25
"""The size of the first batch of random candidates. It doubles after each batch that took less than `BATCH_SECONDS`, so
that the bar moves, and Ctrl-C and the time limit lose little work."""

_HAS_BOUNDS = ops.CONSTANT_MEANINGS[:, 0] == "bound"


class Tuned(NamedTuple):
    """The result of tuning a program.

    Attributes:
      program: the best program: the original, possibly with other constants.
      fitness: its fitness, combined over the tasks; never below `fitness_before`.
      fitness_before: the fitness of the original.
      evaluations: the number spent; a gradient counts as `GRADIENT_COST`.
      train_steps: training examples seen; those of a gradient count `GRADIENT_COST` times.
      seconds: the time taken, including compilation.
      history: `[evaluations]` float64, the best fitness after each evaluation; the last entry is `fitness`.
      interrupted: whether Ctrl-C or another signal ended the tuning.
      timed_out: whether the time limit ended it.
    """

    program: Programs
    fitness: float
    fitness_before: float
    evaluations: int
    train_steps: int
    seconds: float
    history: np.ndarray
    interrupted: bool = False
    timed_out: bool = False


def tunable(program: Programs, interface: Interface | None = None) -> np.ndarray:
    """Which constants of a program `tune` may change, `[L, 3]` bool.

    Example:
      >>> from zero_jax import library
      >>> network = library.program("network")
      >>> np.asarray(network.data)[0][tunable(network)].tolist()
      [0.10000000149011612, 0.10000000149011612, 0.009999999776482582]
    """
    meanings = ops.CONSTANT_MEANINGS[np.asarray(program.code)[0, :, 0]]
    data = np.asarray(program.data)[0]
    changes = np.isfinite(data) & (data != 0)
    return live(program, interface)[0][:, None] & (meanings != "") & (meanings != "index") & changes


class OutOfTimeError(Exception):
    """The time limit has passed."""


class Judge:
    """Evaluates candidates and records the results.

    Attributes:
      where: `[L, 3]`, which constants are tuned; `constants`: C.
      rng: the generator of multipliers.
      best, fitness: `[C]`, the exponents of the best candidate so far, and its fitness.
      history: the best fitness so far, one entry per evaluation.
    """

    def __init__(
        self,
        program: Programs,
        tasks: Tasks,
        seed: int,
        combine: Combine,
        settings: dict[str, Any],
        time_limit: float,
        report: Callable[[int, float], None],
    ) -> None:
        self.began = time.perf_counter()
        self.time_limit, self.report = time_limit, report
        self.bits = stream.seed_bits(seed)
        self.rng = np.random.default_rng(int(seed) % 2**64)
        self.program, self.tasks, self.combine, self.settings = program.check(), tasks, combine, settings
        self.where = tunable(program, Interface.of(program.memory, tasks))
        self.constants = int(self.where.sum())
        self.best, self.fitness = np.zeros(self.constants), -np.inf
        self.train_steps = 0
        self.history: list[float] = []

    def __call__(self, exponents: np.ndarray) -> np.ndarray:
        """Fitness `[n]` of candidates `[n, C]`; raises once the time is up."""
        self.check_time()
        return self.judged(exponents)

    def judged(self, exponents: np.ndarray) -> np.ndarray:
        """Fitness `[n]` of candidates `[n, C]`, even after the time limit."""
        result = evaluate(self.candidates(exponents), self.tasks, self.bits, **self.settings)
        fitness = program_fitness(result.fitness, self.combine)
        self.train_steps += int(np.asarray(result.train_steps, np.int64).sum())
        self.record(fitness)
        first = int(np.argmax(fitness))
        if fitness[first] > self.fitness:
            self.fitness, self.best = float(fitness[first]), exponents[first]
        self.report(len(self.history), self.fitness)
        return fitness

    def check_time(self) -> None:
        """Raises once the time is up."""
        if self.history and time.perf_counter() - self.began > self.time_limit:
            raise OutOfTimeError

    def all(self, exponents: np.ndarray) -> None:
        """Evaluates candidates in batches that double in size while they take little time."""
        size = FIRST_BATCH
        while len(exponents):
            began = time.perf_counter()
            self(exponents[:size])
            exponents = exponents[size:]
            if time.perf_counter() - began < BATCH_SECONDS:
                size *= 2

    def record(self, fitness: np.ndarray, each: int = 1) -> None:
        """Appends the fitness `[n]` of candidates to the history; each counts as `each` evaluations."""
        before = self.history[-1] if self.history else -np.inf
        so_far = np.maximum.accumulate(np.concatenate([[before], fitness]))
        self.history += np.repeat(so_far[1:], each).tolist()

    def draw(self, count: int) -> np.ndarray:
        """Random exponents `[count, C]`."""
        return self.rng.uniform(-DECADES, DECADES, (count, self.constants))

    def spread(self, exponents: np.ndarray) -> np.ndarray:
        """Exponents `[n, C]` as `[n, L, 3]`."""
        out = np.zeros((len(exponents), *self.where.shape))
        out[:, self.where] = exponents
        return out

    def candidates(self, exponents: np.ndarray) -> Programs:
        """The programs of exponents `[n, C]`."""
        return scaled(jax.tree.map(np.asarray, self.program), self.spread(exponents))

    def slopes(self) -> Callable[[jax.Array], "_Slopes"]:
        """The function from exponents `[n, L, 3]` to fitness and slopes."""
        program = jax.tree.map(jnp.asarray, self.program)
        numbers_of = np.asarray(self.program.code)[0, :, 0]
        parts = zip(program.starts[:3], program.starts[1:], strict=True)
        used = tuple(tuple(np.unique(numbers_of[first:last]).tolist()) for first, last in parts)
        more = {"used": used, "combine": self.combine, "max_bytes": self.settings["max_bytes"]}
        bound = jnp.asarray(self.settings["max_abs_error"], jnp.float32)
        return lambda at: _slopes(at, program, self.tasks, self.bits, bound, **more)

    def result(self) -> Tuned:
        """The result so far."""
        history = np.minimum(self.history, self.fitness)  # gradients use XLA, which may round the best fitness up
        program = self.candidates(self.best[None])
        seconds = time.perf_counter() - self.began
        return Tuned(program, self.fitness, float(history[0]), len(history), self.train_steps, seconds, history)


def scaled(program: Programs, exponents: Any) -> Programs:
    """`n` copies of a program with constants multiplied by 10**exponents, `[n, L, 3]`, NumPy or traced."""
    xp: Any = np if isinstance(exponents, np.ndarray) else jnp
    count = exponents.shape[0]
    code, length = (xp.broadcast_to(part, (count, *part.shape[1:])) for part in (program.code, program.length))
    limit = float(np.finfo(np.float32).max)
    data = xp.clip(program.data * 10.0**exponents, -limit, limit).astype(np.float32)
    data = xp.where(xp.isfinite(program.data), data, program.data)
    was_in_order = program.data[..., 0] <= program.data[..., 1]
    ordered = xp.asarray(_HAS_BOUNDS)[program.code[..., 0]] & was_in_order
    low, high = xp.minimum(data[..., 0], data[..., 1]), xp.maximum(data[..., 0], data[..., 1])
    bounds = xp.stack([low, high, data[..., 2]], -1)
    return program.with_arrays(code, xp.where(ordered[..., None], bounds, data), length)


class _Slopes(NamedTuple):
    """Fitness `[n]`, train steps `[n, T]`, and the slopes `[n, L, 3]` of the fitness over exponents."""

    fitness: jax.Array
    train_steps: jax.Array
    slopes: jax.Array


@functools.partial(jax.jit, static_argnames=("used", "combine", "max_bytes"))
def _slopes(
    exponents: jax.Array,
    program: Programs,
    tasks: Tasks,
    seed: jax.Array,
    max_abs_error: jax.Array,
    used: dispatch.OpSets,
    combine: Combine,
    max_bytes: int,
) -> _Slopes:
    """Candidates are independent, so the gradient of the sum of their fitness holds the slopes of each."""

    def total(exponents: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        many = scaled(program, exponents)
        how: dict[str, Any] = {"ops": used, "max_bytes": max_bytes, "differentiable": True}
        result = evaluate(many, tasks, seed, max_abs_error=max_abs_error, **how)
        fitness = result.fitness.mean(1) if combine == "mean" else jnp.sort(result.fitness, 1)[:, len(tasks) // 2]
        return fitness.sum(), (fitness, result.train_steps)

    (_, (fitness, train_steps)), slopes = jax.value_and_grad(total, has_aux=True)(exponents)
    # An exploding slope would dominate Adam's memory for long, and a NaN for ever.
    slopes = jnp.clip(jnp.nan_to_num(slopes), -1e6, 1e6)
    length = jnp.sqrt((slopes**2).sum((1, 2), keepdims=True))
    return _Slopes(fitness, train_steps, slopes / jnp.maximum(length, 1.0))
