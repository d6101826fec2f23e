"""Fine-tuning: better constants for one program, by random search, Optuna or gradients.

All three search over multipliers from 1e-3 to 1e3 of the same constants. Axes: `n` candidates, `C` tunable constants,
`T` tasks, `L` instruction slots. An exponent is the decimal logarithm of a multiplier: 0 leaves a constant unchanged.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.executors import dispatch, stream
from zero_jax.executors.api import evaluate
from zero_jax.executors.base import MAX_BYTES
from zero_jax.executors.devices import default_device
from zero_jax.executors.fitness import program_fitness
from zero_jax.program import ops
from zero_jax.program.canonical import live
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, program_bytes
from zero_jax.support import stopping
from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.tasks import Tasks

Method = Literal["random", "optuna", "gradient"]
Combine = Literal["mean", "median"]

DECADES = 3.0
"""Constants are multiplied by 10**-3 to 10**3."""

GRADIENT_COST = 5
"""The number of evaluations that one gradient counts as, by its passes over the examples: one to find where training
stops, one for the fitness, one to recompute it in the backward pass, and the backward pass itself, counted as two. In
seconds it costs more: `experiments/tuning.json`."""

FIRST_BATCH, BATCH_SECONDS = 64, 0.25
"""The size of the first batch of random candidates. It doubles after each batch that took less than `BATCH_SECONDS`, so
that the bar moves, and Ctrl-C and the time limit lose little work."""

OPTUNA_BATCH = 20
"""How many candidates Optuna proposes at a time: more fill a device better but share less information."""


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


class Details(TypedDict, total=False):
    """Keywords of `tune`, which says what they mean."""

    executor: str
    threads: int | None
    max_bytes: int
    max_abs_error: float
    scout: float
    learning_rate: float


def tune(
    program: Programs,
    tasks: Tasks,
    method: Method = "random",
    *,
    evaluations: int = 1000,
    seed: int = 0,
    combine: Combine = "mean",
    time_limit: float = 0.0,
    report: Callable[[int, float], None] = lambda done, fitness: None,
    **details: Unpack[Details],
) -> Tuned:
    """Tunes the constants of a program and returns the best program evaluated, the original included.

    It tunes the constants of live instructions, except those that select an element (the 0.25 of `v1[0.25] = 0.5`) and
    zeros, which no multiplier changes. Signs are kept, so a standard deviation stays non-negative; the bounds of a
    uniform distribution stay in order.

    - `random` multiplies every constant by a log-uniform draw from [1e-3, 1e3]: the paper's tuning of its best programs
      (Real et al. 2020).
    - `optuna` lets Optuna's tree-structured Parzen estimator choose the multipliers, `OPTUNA_BATCH` candidates at a
      time.
    - `gradient` ascends the gradient of the fitness with respect to the exponents (optax's Adam). A program that stops
      on every task has no slope, so it starts from the best of the original and some random candidates.

    Args:
      program: one program.
      tasks: `T` tasks.
      method: `random`, `optuna` (needs the extra `zero-jax[optuna]`), or `gradient` (rmse tasks only).
      evaluations: the budget, including the evaluation of the original. A gradient counts as `GRADIENT_COST`, so a few
        may be left over.
      seed: for the multipliers and the program's own random instructions.
      combine: the objective: the `mean` or the `median` of the fitness over the tasks.
      time_limit: the approximate number of seconds after which tuning stops; 0 means no limit.
      report: called now and then with the number of evaluations so far and the best fitness.
      details: `executor`, `threads`, `max_bytes` and `max_abs_error` as in `evaluate`; gradients always use `xla`. For
        `gradient`, `scout` (0.25) is the share of the budget spent on random candidates first, 0 starts from the
        original; `learning_rate` (0.2) is Adam's, in decades, which decays to 0 along a cosine.

    Returns:
      `Tuned`. Without tunable constants, or with a budget too small for one step, it holds the original. After Ctrl-C
      it holds the best so far.

    Raises:
      ValueError: there is more than one program; `method` or `combine` is unknown; `evaluations` or `scout` is out of
        range; the method is `gradient` but the loss is accuracy; Optuna is not installed; or an argument is invalid for
        `evaluate`.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> slow = library.program("linear", learning_rate=0.0001)
      >>> tuned = tune(slow, synthetic.linear(4, train=100), evaluations=100)
      >>> tuned.fitness_before < 0.5 < 0.95 < tuned.fitness
      True
    """
    _check(program, tasks, method, evaluations, combine)
    scout, learning_rate = details.pop("scout", 0.25), details.pop("learning_rate", 0.2)
    default_device()  # fails early, by name, if JAX's device is missing
    if not 0 <= scout <= 1 or not 0 < learning_rate < np.inf:
        raise ValueError(f"scout must be from 0 to 1 and learning_rate above 0, not {scout} and {learning_rate}")
    if not time_limit >= 0:
        raise ValueError(f"time_limit must be at least 0, not {time_limit}")
    settings = {"executor": "auto", "max_bytes": MAX_BYTES, "max_abs_error": 100.0, **details}
    judge = _Judge(program, tasks, seed, combine, settings, time_limit or np.inf, report)
    interrupted = timed_out = False
    with stopping.handled():
        try:
            judge(np.zeros((1, judge.constants)))
            if judge.constants and evaluations > 1:
                if method == "random":
                    judge.all(judge.draw(evaluations - 1))
                elif method == "optuna":
                    _by_optuna(judge, evaluations - 1)
                else:
                    _by_gradient(judge, evaluations - 1, scout, learning_rate)
        except _OutOfTimeError:
            timed_out = True
        except KeyboardInterrupt:
            if not judge.history:
                raise
            interrupted = True
        return judge.result()._replace(interrupted=interrupted, timed_out=timed_out)


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


def _check(program: Programs, tasks: Tasks, method: str, evaluations: Any, combine: str) -> None:
    if len(program) != 1:
        raise ValueError(f"tune takes one program, not {len(program)}: select one with programs[i]")
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
    if combine not in get_args(Combine):
        raise ValueError(f"combine must be 'mean' or 'median', not {combine!r}")
    check_number("evaluations", evaluations)
    slots = program.starts[-1]
    what = f"{evaluations:,} candidates of {slots:,} instructions"
    check_bytes(what, evaluations * (program_bytes(program.capacity) + 24 * slots), "take fewer evaluations")
    if method == "gradient" and tasks.loss != "rmse":
        raise ValueError(
            f"method 'gradient' needs rmse tasks, because {tasks.loss} has no useful gradient; use 'random' or 'optuna'"
        )
    if method == "optuna":
        _optuna()


# ---------------------------------------------------------------------------------------------- candidates


class _OutOfTimeError(Exception):
    """The time limit has passed."""


class _Judge:
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
            raise _OutOfTimeError

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
        return _scaled(jax.tree.map(np.asarray, self.program), self.spread(exponents))

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


def _scaled(program: Programs, exponents: Any) -> Programs:
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


_HAS_BOUNDS = ops.CONSTANT_MEANINGS[:, 0] == "bound"


# ---------------------------------------------------------------------------------------------- Optuna, gradients


def _by_optuna(judge: _Judge, evaluations: int) -> None:
    optuna = _optuna()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(seed=int(judge.rng.integers(2**32)))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        names = [f"constant {i}" for i in range(judge.constants)]
        ranges = {name: optuna.distributions.FloatDistribution(-DECADES, DECADES) for name in names}
        original = dict.fromkeys(names, 0.0)
        study.add_trial(optuna.trial.create_trial(params=original, distributions=ranges, value=judge.fitness))
        while evaluations:
            trials = [study.ask(ranges) for _ in range(min(evaluations, OPTUNA_BATCH))]
            fitness = judge(np.array([[trial.params[name] for name in names] for trial in trials]))
            for trial, value in zip(trials, fitness, strict=True):
                study.tell(trial, float(value))
            evaluations -= len(trials)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError("method 'optuna' needs Optuna: pip install 'zero-jax[optuna]'") from None
    return optuna


def _by_gradient(judge: _Judge, evaluations: int, scout: float, learning_rate: float) -> None:
    """Gradient ascent from the best of the original and some random candidates."""
    import optax

    scouts = int(scout * evaluations)
    if scouts:
        judge.all(judge.draw(scouts))
    steps = (evaluations - scouts - 1) // GRADIENT_COST  # the last evaluation is for the best, by `executor`
    adam, rate = optax.scale_by_adam(), optax.cosine_decay_schedule(learning_rate, max(1, steps))
    at = best = jnp.asarray(judge.spread(judge.best[None]), jnp.float32)
    memory, highest, caution = adam.init(at), -np.inf, 1.0
    slopes = judge.slopes()
    try:
        for step in range(steps):
            judge.check_time()
            now = slopes(at)
            judge.train_steps += GRADIENT_COST * int(np.asarray(now.train_steps, np.int64).sum())
            judge.record(np.asarray(now.fitness, np.float64), GRADIENT_COST)
            judge.report(len(judge.history), float(judge.history[-1]))
            fitness = float(now.fitness[0])
            if fitness > highest:
                best, highest = at, fitness
            if fitness < highest / 2:  # over a cliff: training stops here, and no slope leads back
                at, memory, caution = best, adam.init(at), caution / 2
                continue
            with jax.numpy_dtype_promotion("standard"):  # what optax is written for
                direction, memory = adam.update(now.slopes, memory)
            at = jnp.clip(at + caution * float(rate(step)) * direction, -DECADES, DECADES)
    finally:  # the best counts even when the time is up
        if highest > -np.inf:
            judge.judged(np.asarray(best, np.float64)[:, judge.where])


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
        many = _scaled(program, exponents)
        how: dict[str, Any] = {"ops": used, "max_bytes": max_bytes, "differentiable": True}
        result = evaluate(many, tasks, seed, max_abs_error=max_abs_error, **how)
        fitness = result.fitness.mean(1) if combine == "mean" else jnp.sort(result.fitness, 1)[:, len(tasks) // 2]
        return fitness.sum(), (fitness, result.train_steps)

    (_, (fitness, train_steps)), slopes = jax.value_and_grad(total, has_aux=True)(exponents)
    # An exploding slope would dominate Adam's memory for long, and a NaN for ever.
    slopes = jnp.clip(jnp.nan_to_num(slopes), -1e6, 1e6)
    length = jnp.sqrt((slopes**2).sum((1, 2), keepdims=True))
    return _Slopes(fitness, train_steps, slopes / jnp.maximum(length, 1.0))
