"""Fine-tuning: better constants for one program, by random search, Optuna or gradients.

All three search over multipliers from 1e-3 to 1e3 of the same constants. Axes: `n` candidates, `C` tunable constants,
`T` tasks, `L` instruction slots. An exponent is the decimal logarithm of a multiplier: 0 leaves a constant unchanged.
"""

from collections.abc import Callable
from typing import Any, Literal, TypedDict, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.executors.base import MAX_BYTES
from zero_jax.executors.devices import default_device
from zero_jax.program.programs import Programs, program_bytes
from zero_jax.support import stopping
from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.tasks import Tasks
from zero_jax.use.judge import DECADES, Combine, Judge, OutOfTimeError
from zero_jax.use.judge import Tuned as Tuned
from zero_jax.use.judge import tunable as tunable

Method = Literal["random", "optuna", "gradient"]

GRADIENT_COST = 5
"""The number of evaluations that one gradient counts as, by its passes over the examples: one to find where training
stops, one for the fitness, one to recompute it in the backward pass, and the backward pass itself, counted as two. In
seconds it costs more: `experiments/tuning.json`."""

OPTUNA_BATCH = 20
"""How many candidates Optuna proposes at a time: more fill a device better but share less information."""


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
    judge = Judge(program, tasks, seed, combine, settings, time_limit or np.inf, report)
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
        except OutOfTimeError:
            timed_out = True
        except KeyboardInterrupt:
            if not judge.history:
                raise
            interrupted = True
        return judge.result()._replace(interrupted=interrupted, timed_out=timed_out)


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


# ---------------------------------------------------------------------------------------------- Optuna, gradients


def _by_optuna(judge: Judge, evaluations: int) -> None:
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


def _by_gradient(judge: Judge, evaluations: int, scout: float, learning_rate: float) -> None:
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
