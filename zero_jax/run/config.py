"""`RunConfig`: the settings of a run, in groups."""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from zero_jax.evaluation.cache import CACHE_SIZE
from zero_jax.evaluation.cost import Costs
from zero_jax.evaluation.hurdles import Rung
from zero_jax.evaluation.probe import FORGET_EVERY
from zero_jax.executors.registry import check_executor
from zero_jax.run import searchers
from zero_jax.run.config_file import config_of
from zero_jax.run.searchers import islands, method_of, with_method
from zero_jax.search import Islands, Searcher
from zero_jax.support.bounds import check_fields, check_number
from zero_jax.support.foreign import described_by, expected, plain, reason, shown
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role, TaskSet

BASELINES = ("linear", "network")
"""The programs of the library that have a learning rate to choose; for vector labels, those for softmax."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """The tasks. `Tasks` in memory will do as well as a `TaskSet`.

    Attributes:
      search: T_search: the tasks the search trains on, regenerated for each trial.
      select: T_select: the tasks used to pick the best program across trials.
      unseen: Held-out tasks for the final score, used once.
      variants: Overrides of the search tasks, assigned to groups of islands in turn, e.g. `features=8,train=1000`. Can
        set features, train, valid, epochs and tasks. Migrating programs keep their fitness.
    """

    search: TaskSet
    select: TaskSet
    unseen: TaskSet
    variants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for role in get_args(Role):
            given = getattr(self, role)
            if isinstance(given, Tasks):
                object.__setattr__(self, role, TaskSet.of(given))
        self.variant_sets()

    def variant_sets(self) -> tuple[TaskSet, ...]:
        """T_search of each variant; of none, T_search alone.

        Raises:
          ValueError: invalid changes.
        """
        return tuple(_changed(self.search, text) for text in self.variants) or (self.search,)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How programs are evaluated.

    Attributes:
      combine: How the fitness over T_search is combined: mean or median.
      executor: auto, xla, simd, pallas or cuda.
      max_abs_error: Stop training a program on a task, with fitness 0, once a training error exceeds this.
      probe: With the SIMD, CUDA and Pallas executors, new programs are first compared on this many training and
        validation examples, and are not trained if an earlier program did the same (the functional equivalence cache;
        paper, supplement S4); 0 for never.
      cache_size: Number of programs cached per trial to avoid retraining; 0 disables the cache.
      forget_every: Retrain a program after its cached probe result has been used this many times; 0 for never.
      train_budget: Skip training (fitness 0) for programs that cost more than this multiple of the 2-layer network; 0
        for no limit.
      costs: Cost of an instruction: upstream (as measured by the original AutoML-Zero code) or operations (counted).
      hurdle_tasks: Fraction of the search tasks on which a program must do well before it is trained on the rest; 0 for
        no hurdle.
      hurdle_examples: Fraction of the examples on which a program must do well before it is trained on the rest; 0 for
        no hurdle.
      hurdle_quantile: Quantile of recent fitness that a program must reach to pass a hurdle.
      max_bytes: Maximum training memory, in bytes.
    """

    combine: Literal["mean", "median"] = "mean"
    executor: str = "auto"
    max_abs_error: float = 100.0
    probe: int = 0
    cache_size: int = CACHE_SIZE
    forget_every: int = FORGET_EVERY
    train_budget: float = 0.0
    costs: Costs = "upstream"
    hurdle_tasks: float = 0.0
    hurdle_examples: float = 0.0
    hurdle_quantile: float = 0.75
    max_bytes: int = 2**30

    def __post_init__(self) -> None:
        check_fields(self)
        for name, kind in (("combine", Literal["mean", "median"]), ("costs", Costs)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be {' or '.join(get_args(kind))}, not {shown(getattr(self, name))}")
        check_executor(self.executor)
        for name in ("hurdle_tasks", "hurdle_examples"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.hurdle_quantile < 1:
            raise ValueError(f"hurdle_quantile must be at least 0 and below 1, not {self.hurdle_quantile}")
        if not self.train_budget >= 0:
            raise ValueError(f"train_budget must be at least 0, not {self.train_budget}")
        if not self.max_abs_error > 0:
            raise ValueError(f"max_abs_error must be above 0, not {self.max_abs_error}")

    def rungs(self) -> tuple[Rung, ...]:
        """The hurdles of T_search, in order."""
        return (
            *([Rung(tasks=self.hurdle_tasks, quantile=self.hurdle_quantile)] if self.hurdle_tasks else []),
            *([Rung(examples=self.hurdle_examples, quantile=self.hurdle_quantile)] if self.hurdle_examples else []),
        )


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Budgets and hardware.

    Attributes:
      trials: Maximum number of trials, each with new tasks and a new population; 0 for no limit.
      parallel_trials: Number of trials to run at a time, each on its own thread if there are enough cores.
      train_steps: Budget per trial: total training examples seen by all its programs.
      time_limit: Stop the run after this many seconds (it can be resumed); 0 for no limit.
      sufficient_fitness: Target fitness: a trial ends when its best program exceeds it on T_search, the run when it
        does so on T_select.
      sufficient_margin: A lower target fitness, for regression: this much above the best affine fit (least squares) to
        the same tasks. The lower of the two counts; None for `sufficient_fitness` alone.
      candidates: Number of programs of a trial (and task variant) to judge on T_select: the best by fitness on
        T_search, of its hall of fame (20, and the Pareto front) and of its niches, where it has any.
      migrate_every: Migrate programs between islands every this many evaluations per island; 0 for never.
      groups: Number of island groups. With several, the host creates one group's children while the device evaluates
        another's. The result depends on it.
      workers: Number of Ray workers to split the islands across, each with its own thread or GPU; 0 to run without Ray.
        The result depends on it and, with several, on their speed.
      threads: CPU threads; 0 for all cores (with workers: threads per worker, 0 for one). Does not affect the result.
      devices: GPUs or TPUs; 0 for all (with workers: one per worker). Does not affect the result.
    """

    trials: int = 0
    parallel_trials: int = 1
    train_steps: int = 200_000_000
    time_limit: float = 0.0
    sufficient_fitness: float = 0.9999
    sufficient_margin: float | None = None
    candidates: int = 1
    migrate_every: int = 0
    groups: int = 1
    workers: int = 0
    threads: int = 0
    devices: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.workers and self.parallel_trials != 1:
            raise ValueError("all Ray workers work on one trial at a time: parallel_trials must be 1")
        if not self.time_limit >= 0:
            raise ValueError(f"time_limit must be at least 0, not {self.time_limit}")
        if math.isnan(self.sufficient_fitness):
            raise ValueError("sufficient_fitness must be a number, not nan")
        if self.sufficient_margin is not None and not math.isfinite(self.sufficient_margin):
            raise ValueError(f"sufficient_margin must be a finite number, or None, not {self.sufficient_margin}")


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """Output and reporting.

    Attributes:
      out: Parent folder for the run's folder; None writes nothing.
      checkpoint_seconds: Seconds between checkpoints.
      tensorboard: Also write TensorBoard curves to the run's folder (needs tensorboardX).
      baselines: Hand-written programs to compare with the best one, with learning rates chosen on T_search: linear,
        network.
    """

    out: str | None = "runs"
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.out is not None and (not self.out.strip() or not self.out.isprintable()):
            raise ValueError(f"out must be a folder, or None to write nothing; not {shown(self.out)}")
        if not self.checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must be at least 0, not {self.checkpoint_seconds}")
        if self.tensorboard and self.out is None:
            raise ValueError("tensorboard writes curves to the run's folder: set out to a folder")
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ValueError(f"unknown baseline {shown(unknown[0])}; expected one of {', '.join(BASELINES)}")


GROUPS = ("tasks", "searcher", "evaluation", "schedule", "output")
"""The groups of settings."""

GROUP_TYPES: dict[str, Any] = {
    "tasks": TaskConfig,
    "evaluation": EvaluationConfig,
    "schedule": ScheduleConfig,
    "output": OutputConfig,
}
"""Their classes, except that of the searcher, which depends on the method."""

OPTIONS = {**{f"{role}_tasks": ("tasks", role) for role in get_args(Role)}, "task_variants": ("tasks", "variants")}
"""Settings whose option has another name, and where they are."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A search for a program: on which tasks, by which searcher in which space, and how much of it.

    Attributes:
      name: Name of the run: letters, digits, spaces, '.', '_' and '-'; starts with a letter or digit.
      tasks: The tasks.
      searcher: The search method and its program space.
      evaluation: How programs are evaluated.
      schedule: Budgets and hardware.
      output: Output and reporting.
      seed: Random seed, from 0 to 2**64 - 1. Runs with the same seed are identical, except with several Ray workers.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> config = PRESETS["demo"][1].replace(population=60, cohort=30, trials=2, method="efficient")
      >>> config.searcher.population, config.schedule.trials
      (60, 2)
    """

    name: str
    tasks: TaskConfig
    searcher: Searcher
    evaluation: EvaluationConfig = EvaluationConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    output: OutputConfig = OutputConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,98}[A-Za-z0-9_-])?", self.name):
            raise ValueError(
                "name must be 1 to 100 letters, digits, spaces, '.', '_' and '-', beginning with a letter or digit, as "
                f"the run's folder is named after it; not {shown(self.name)}"
            )
        check_number("seed", self.seed)
        for name, kind in GROUP_TYPES.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be of class {kind.__name__}, not {shown(getattr(self, name))}")
        method_of(self.searcher)
        if isinstance(self.searcher, Islands):
            self._check_islands()
        elif self.schedule.migrate_every:
            raise ValueError(
                f"{method_of(self.searcher)} search has no islands between which programs could migrate: leave "
                "migrate_every out, or use method='evolution'"
            )
        groups, variants = self.schedule.groups, len(self.tasks.variants)
        if groups % max(1, variants):
            raise ValueError(f"{groups} groups cannot share {variants} task variants evenly")

    def _check_islands(self) -> None:
        count, workers, groups = islands(self.searcher), self.schedule.workers, self.schedule.groups
        if count % max(1, workers):
            raise ValueError(f"{count} islands cannot be shared evenly among {workers} workers")
        each = count // max(1, workers)
        if each % groups:
            of = " of each worker" if workers else ""
            raise ValueError(f"{each} islands{of} cannot be divided into {groups} groups of one size")
        if self.schedule.migrate_every and count == 1:
            raise ValueError(
                "one island has no other to exchange programs with: leave migrate_every out, or add islands"
            )

    def replace(self, **settings: Any) -> "RunConfig":
        """The same with some settings changed, by the names that they have as options: fields of the groups, `name`,
        `seed`, `method`, `search_tasks`, `select_tasks`, `unseen_tasks`, `task_variants`; or whole groups.

        Raises:
          ValueError: an unknown setting, or values that do not fit together.
        """
        own = {field.name for field in dataclasses.fields(self)}
        whole = {name: settings.pop(name) for name in [*settings] if name in own}
        groups = {name: whole.pop(name, getattr(self, name)) for name in GROUPS}
        if "method" in settings:
            method = settings.pop("method")
            known = searchers.settings(searchers.searcher_class(method))
            changed = {name: settings.pop(name) for name in [*settings] if name in known}
            groups["searcher"] = with_method(groups["searcher"], method, **changed)
        changes: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
        for name, value in settings.items():
            group, field = _place(groups, name)
            changes[group][field] = value
        groups = {name: dataclasses.replace(one, **changes[name]) if changes[name] else one
                  for name, one in groups.items()}  # fmt: skip
        return dataclasses.replace(self, **whole, **groups)

    def tree(self) -> dict[str, Any]:
        """All settings as plain values, in groups: what config.json holds."""
        groups = {name: dataclasses.asdict(getattr(self, name)) for name in GROUPS if name != "searcher"}
        groups["searcher"] = searchers.tree(self.searcher)
        return {"name": self.name} | {name: groups[name] for name in GROUPS} | {"seed": self.seed}


def _place(groups: Mapping[str, Any], name: str) -> tuple[str, str]:
    """The group and the field of a setting."""
    if name in OPTIONS:
        return OPTIONS[name]
    for group in GROUPS[1:]:
        if any(field.name == name for field in dataclasses.fields(groups[group])):
            return group, name
    known = [*OPTIONS, *("name", "seed", "method"), *GROUPS]
    known += [field.name for group in GROUPS[1:] for field in dataclasses.fields(groups[group])]
    raise ValueError(f"unknown setting {shown(name)}; {expected(name, known)}")


def _changed(described: TaskSet, text: str) -> TaskSet:
    """Tasks with some settings changed, as `features=8,train=1000` says."""
    names = ("features", "train", "valid", "epochs", "tasks")
    matches = [re.fullmatch(r"(\w+)=([0-9]{1,18})", part) for part in text.split(",")]
    pairs = [(match[1], match[2]) for match in matches if match and match[1] in names]
    if len(pairs) < len(matches) or len(dict(pairs)) < len(pairs):
        raise ValueError(
            f"a task variant names what it changes of the tasks, as in features=8,train=1000; of {', '.join(names)}, "
            f"each once; not {shown(text)}"
        )
    if described.is_own:
        raise ValueError(
            f"task variants cannot change tasks that come from a file: leave the variants or {described.source} out"
        )
    changes: dict[str, Any] = {name: int(number) for name, number in pairs}
    return dataclasses.replace(described, **changes)


def from_tree(stored: Mapping[str, Any]) -> RunConfig:
    """The inverse of `RunConfig.tree`, from JSON.

    Raises:
      ValueError: unknown or invalid settings.
    """
    try:
        whole = _with_whole_numbers(stored)
        searcher = searchers.from_tree(whole.pop("searcher", None))
        config = described_by(_Rest, whole).config(searcher)
        _check_known(stored, config.tree())
    except searchers.UnknownMethodError:  # of the user's own module
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the run's configuration does not fit this version of zero-jax: {reason(error)}") from None
    return config


@dataclasses.dataclass(frozen=True)
class _Rest:
    """What a config holds besides its searcher."""

    name: str
    tasks: TaskConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    output: OutputConfig = OutputConfig()
    seed: int = 0

    def config(self, searcher: Any) -> RunConfig:
        return RunConfig(**vars(self), searcher=searcher)


def _with_whole_numbers(value: Any) -> Any:
    """2e8 train steps, as somebody may have written in Python, are a whole number of them."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _check_known(given: Mapping[str, Any], known: Mapping[str, Any], where: str = "") -> None:
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"there is no setting {shown(where + name)}")
        if isinstance(value, int) and abs(value) >= 2**63 and name != "seed":
            raise ValueError(f"{where}{name} is {shown(value)}, beyond 64 bits")
        if isinstance(value, dict) and isinstance(known[name], dict):
            _check_known(value, known[name], f"{where}{name}.")


def from_folder(folder: str | Path) -> RunConfig:
    """The config of a run.

    Raises:
      ValueError: no run's folder, or a config.json that is damaged or of another version; naming it.
    """
    stored = config_of(folder)
    try:
        return from_tree(stored)
    except ValueError as error:
        raise ValueError(f"{plain(Path(folder) / 'config.json')}: {error}") from None
