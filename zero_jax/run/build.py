"""What a run consists of, built from its config: searchers, tasks, evaluators, trials, and seeds for all of them."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from zero_jax.evaluation import Evaluator, Hurdles, KnownForms, Probe, TrainBudget
from zero_jax.evaluation.base import Stage
from zero_jax.executors import devices
from zero_jax.program import library
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.run.config import BASELINES, EvaluationConfig, RunConfig
from zero_jax.run.searchers import islands, part
from zero_jax.run.trial import Terms, Trial
from zero_jax.tasks import Tasks
from zero_jax.tasks.references import affine_fitness
from zero_jax.tasks.sets import Role, TaskSet


def searcher(config: RunConfig) -> Any:
    """The searcher of one group of islands, ready to `init`.

    Raises:
      ValueError: settings that do not go together.
    """
    one = part(config.searcher, config.schedule.groups)
    if getattr(one, "initial", None) in BASELINES:
        one = dataclasses.replace(one, initial=library.baseline(one.initial, config.tasks.search))
    return dataclasses.replace(one, interface=Interface.of(one.space.memory, config.tasks.search))


def trial(config: RunConfig, number: int, seed: int, evaluators: Sequence[Evaluator] = ()) -> Trial:
    """The trial of that number, from a seed; on its T_search, unless evaluators of other tasks are given."""
    one, schedule = searcher(config), config.schedule
    if not evaluators:
        evaluators = [evaluator(config, tasks, "search", one.ops) for tasks in variant_tasks(config, number)]
    every = schedule.migrate_every * islands(config.searcher)
    sufficient = max(target(config, evaluator.tasks) for evaluator in evaluators)
    terms = Terms(schedule.train_steps, sufficient, schedule.groups, every)
    return Trial(number, one, seed, evaluators, terms)


def target(config: RunConfig, tasks: Tasks) -> float:
    """The fitness on these tasks that a run wants to exceed.

    Raises:
      ValueError: a margin above the affine fit, and the tasks are no regression tasks.
    """
    sufficient, margin = config.schedule.sufficient_fitness, config.schedule.sufficient_margin
    if margin is None:
        return sufficient
    if tasks.loss != "rmse" or tasks.vector_labels:
        raise ValueError("sufficient_margin is above an affine fit, which is for regression tasks: set it to None")
    return min(sufficient, affine_fitness(tasks) + margin)


def tasks(config: RunConfig, role: Role, number: int = 1) -> Tasks:
    """T_search of the trial of that number, T_select, or the unseen tasks."""
    return _made(getattr(config.tasks, role), seeds(config, role, number)["tasks"], role)


def variant_tasks(config: RunConfig, number: int = 1) -> list[Tasks]:
    """T_search of that trial, for each task variant."""
    seed = derived_seed(config, "search tasks", number)
    return [_made(described, seed, "search") for described in config.tasks.variant_sets()]


def check_tasks(config: RunConfig) -> None:
    """Makes the tasks of every role once; `tasks` keeps them.

    Raises:
      ValueError: tasks that cannot be made, or that differ in labels, before any are downloaded; or with which the
        searcher cannot work.
    """
    sets: dict[str, TaskSet] = {role: getattr(config.tasks, role) for role in get_args(Role)}
    for described in (*sets.values(), *config.tasks.variant_sets()):
        described.check()
    labels = {role: described.labels for role, described in sets.items()}
    if len(set(labels.values())) > 1:
        each = ", ".join(f"{value} ({role}_tasks)" for role, value in labels.items())
        raise ValueError(f"tasks to search on, to select on and unseen ones must have the same labels, not {each}")
    for role in get_args(Role):
        tasks(config, role)
    config.searcher.check_work(tasks(config, "search"), _stages(config.evaluation))


def evaluator(config: RunConfig, tasks: Tasks, role: Role, ops: Any = None, *, stages: bool = True) -> Evaluator:
    """What evaluates programs on tasks of that role.

    Args:
      config: of the run.
      tasks: to evaluate on.
      role: of the tasks. Only on T_search is work saved, and are fitnesses combined as the config says.
      ops: as in `evaluate`.
      stages: whether programs may get a fitness without being trained in full.
    """
    how, schedule, search = config.evaluation, config.schedule, role == "search"
    known = (KnownForms(how.cache_size),) if how.cache_size else ()
    saving = _stages(how) if stages else known
    return Evaluator(
        tasks,
        seeds(config, role)["draws"],
        executor=how.executor,
        ops=ops,
        max_abs_error=how.max_abs_error,
        max_bytes=how.max_bytes,
        threads=1 if search and schedule.parallel_trials > 1 else schedule.threads or None,
        stages=saving if search else (),
        combine=how.combine if search else "mean",
        costs=how.costs,
        devices=devices.first_devices(schedule.devices),
        background=search and schedule.groups > 1,
    )


def _stages(how: EvaluationConfig) -> tuple[Stage, ...]:
    """What saves work on T_search."""
    budget = TrainBudget(how.train_budget) if how.train_budget else None
    known = KnownForms(how.cache_size) if how.cache_size else None
    probe = Probe(how.probe, how.cache_size, how.forget_every) if how.probe else None
    hurdles = Hurdles(how.rungs()) if how.rungs() else None
    return tuple(stage for stage in (budget, known, probe, hurdles) if stage is not None)


def fitness(config: RunConfig, programs: Programs, tasks: Tasks, role: Role) -> np.ndarray:
    """`[P]` fitness of programs on tasks of that role, every one of them trained in full."""
    return evaluator(config, tasks, role, stages=False)(programs).combined


def seeds(config: RunConfig, role: Role, number: int = 0) -> dict[str, int]:
    """What `zero-jax evaluate` takes to give the same fitness: the seeds of tasks and of random instructions."""
    tasks = derived_seed(config, f"{role} tasks", number if role == "search" else 0)
    return {"tasks": tasks, "draws": derived_seed(config, f"{role} draws", 0)}


def derived_seed(config: RunConfig, purpose: str, number: int) -> int:
    """A seed of its own for each purpose."""
    words = [config.seed, number, *purpose.encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def self_contained(config: RunConfig, folder: str | Path = "") -> RunConfig:
    """The same, independent of files that may change: own tasks are in memory, the paths that they came from absolute,
    and the text of the initial program stands in place of its path.

    Args:
      config: of the run.
      folder: of the run, if it has one already: where tasks are that came without a file.

    Raises:
      ValueError: a file that cannot be read.
    """
    sets = {role: getattr(config.tasks, role).in_memory(folder) for role in get_args(Role)}
    config = dataclasses.replace(config, tasks=dataclasses.replace(config.tasks, **sets))
    initial = getattr(config.searcher, "initial", "random")
    if isinstance(initial, Programs):
        return config.replace(initial=initial.to_json() + "\n")
    if initial in (*INITIAL, *library.NAMES):
        return config
    text = library.text_of(initial)
    return config.replace(initial=text if "\n" in text else f"{text}\n")


LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What the learning rate of a baseline is chosen from, on T_search."""

INITIAL = ("random", "no_op", "linear", "network")
"""Names of first programs, which no file can have."""


def _made(described: TaskSet, seed: int, role: Role) -> Tasks:
    return described.make(seed, role) if described.is_own else _made_once(described, seed, role)


@functools.lru_cache(maxsize=8)
def _made_once(described: TaskSet, seed: int, role: Role) -> Tasks:
    """Tasks are made to check them before the run begins, and used a little later; images take a while to make."""
    return described.make(seed, role)
