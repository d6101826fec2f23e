"""Cautions about a run on somebody's own tasks, before it begins: what would make it a waste of time."""

import warnings
from collections.abc import Sequence

import numpy as np

from zero_jax.evaluation import Evaluator
from zero_jax.program import library
from zero_jax.program.programs import concatenate
from zero_jax.run.build import LEARNING_RATES
from zero_jax.run.config import RunConfig
from zero_jax.support.foreign import shown
from zero_jax.tasks import Tasks


def of(config: RunConfig, search_tasks: Sequence[Tasks]) -> list[str]:
    """What to warn of, a sentence or two each."""
    if not config.tasks.search.is_own:
        return []
    cautions = [_about_roles(config)]
    if search_tasks[0].loss == "rmse":
        cautions.append(_about_stops(config, search_tasks[0]))
    return [caution for caution in cautions if caution]


def all_stopped(train_steps: np.ndarray, tasks: Tasks) -> bool:
    """Whether every run of programs with those train steps `[P, T]` ended before it had seen all training examples."""
    return bool((train_steps < tasks.order.shape[0] * tasks.train_x.shape[1]).all())


def advice(tasks: Tasks, max_abs_error: float) -> str:
    """What to do where runs stop early."""
    labels = np.asarray(tasks.train_y, np.float64)
    return (
        f"an error above {max_abs_error:g} in training ends a run with fitness 0, and these labels have mean "
        f"{labels.mean():.3g} and standard deviation {labels.std():.3g}. Scale the labels, to mean 0 and standard "
        "deviation 1 for instance, or raise max_abs_error (--max-abs-error)"
    )


def warn_of_stops(train_steps: np.ndarray, tasks: Tasks, max_abs_error: float) -> None:
    """Warns, with advice, where every run on regression tasks stopped early."""
    if tasks.loss == "rmse" and all_stopped(train_steps, tasks):
        warnings.warn(f"all runs stopped early: {advice(tasks, max_abs_error)}", stacklevel=2)


def _about_roles(config: RunConfig) -> str:
    sources = {role: getattr(config.tasks, role).source for role in ("search", "select", "unseen")}
    same = [f"{role} tasks" for role in ("select", "unseen") if sources[role] == sources["search"]]
    if not same:
        return ""
    return (
        f"{' and '.join(same)} are those that the search sees ({shown(sources['search'])}), so fitness on them says "
        "nothing of new data: keep some apart, in files of their own (--select-tasks.source, --unseen-tasks.source)"
    )


def _about_stops(config: RunConfig, tasks: Tasks) -> str:
    """Hand-written programs stop wherever all programs do that begin with predictions near 0."""
    how = config.evaluation
    for name in ("linear", "network"):
        programs = concatenate([library.program(name, learning_rate=rate) for rate in LEARNING_RATES])
        judge = Evaluator(
            tasks, executor=how.executor, max_abs_error=how.max_abs_error, max_bytes=how.max_bytes, stages=()
        )
        if not all_stopped(judge(programs).train_steps, tasks):
            return ""
    what = advice(tasks, how.max_abs_error)
    return f"on T_search all runs of the linear and of the network program stop early: {what}"
