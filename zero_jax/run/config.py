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
from zero_jax.support.foreign import described_by, plain, reason, shown
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role, TaskSet

BASELINES = ("linear", "network")
"""The programs of the library that have a learning rate to choose; for vector labels, those for softmax."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """The tasks. `Tasks` in memory will do as well as a `TaskSet`.

    Attributes:
      search: T_search, which the search sees. Made anew for every trial of the run.
      select: T_select, on which the best programs of each trial are judged.
      unseen: The tasks on which the best program of all is reported, once.
      variants: Settings of T_search that differ between groups of islands, which take them in turn: what each changes,
        as in `features=8,train=1000`; of features, train, valid, epochs and tasks. Programs that migrate keep the
        fitness that they had.
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
      combine: How the fitnesses on T_search are combined: mean, or median.
      executor: auto, xla, simd or pallas.
      max_abs_error: A program stops on a task, with fitness 0, as soon as it makes a larger error in training.
      probe: With the SIMD and Pallas executors, new programs are first compared on this many training and validation
        examples, and are not trained if an earlier program did the same (the functional equivalence cache; paper,
        supplement S4); 0 for never.
      cache_size: How many programs of a trial are remembered, so that they are not trained again; 0 for none.
      forget_every: After how many uses of a probe's result the program is trained again; 0 for never.
      train_budget: Programs that cost more than this many times the 2-layer network get fitness 0 untrained; 0 for no
        limit.
      costs: What an instruction costs: upstream (as upstream measured it) or operations (counted).
      hurdle_tasks: The share of T_search on which programs must do well to be trained on all of it; 0 for no hurdle.
      hurdle_examples: The share of examples on which they must do well to be trained on all of them; 0 for no hurdle.
      hurdle_quantile: The quantile of recent fitnesses at a hurdle that passes.
      max_bytes: A bound on the memory that training takes.
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
        self.rungs()
        if not self.train_budget >= 0:
            raise ValueError(f"train_budget must be at least 0, not {self.train_budget}")
        if not self.max_abs_error > 0:
            raise ValueError(f"max_abs_error must be above 0, not {self.max_abs_error}")

    def rungs(self) -> tuple[Rung, ...]:
        """The hurdles of T_search, in order.

        Raises:
          ValueError: shares or a quantile out of range.
        """
        return (
            *([Rung(tasks=self.hurdle_tasks, quantile=self.hurdle_quantile)] if self.hurdle_tasks else []),
            *([Rung(examples=self.hurdle_examples, quantile=self.hurdle_quantile)] if self.hurdle_examples else []),
        )


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """How much is done, and on what hardware.

    Attributes:
      trials: How many trials to run at most, each with new tasks and a new population; 0 for no limit.
      parallel_trials: How many trials run at a time, each on a thread of its own where there are enough cores.
      train_steps: The budget of one trial, in training examples seen by all its programs together.
      time_limit: After how many seconds the run stops; it can be extended; 0 means no limit.
      sufficient_fitness: A trial ends as soon as its best program exceeds this on T_search; the run, on T_select.
      candidates: How many programs of a trial (and task variant) are judged on T_select: the best by fitness on
        T_search. The hall of fame, from which they come, keeps 20 and the Pareto front.
      migrate_every: After how many evaluations per island islands exchange programs; 0 for never.
      groups: Into how many groups the islands are divided, so that the host makes the children of one group while a
        device evaluates those of another. Each group has its own random generator, so the result depends on it.
      workers: Among how many Ray workers the islands are shared evenly, each on a thread or a GPU of its own, on one
        machine or many; 0 for none. Each worker has its own random generator, so the result depends on the number and,
        with more than one, on how fast they are.
      threads: How many CPU threads to use; 0 for all cores. The result does not depend on it. With workers, how many
        each has; 0 for one.
      devices: How many GPUs or TPUs to use; 0 for all. The result does not depend on it. With workers, each has one.
    """

    trials: int = 0
    parallel_trials: int = 1
    train_steps: int = 200_000_000
    time_limit: float = 0.0
    sufficient_fitness: float = 0.9999
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


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """What is written, and what is reported.

    Attributes:
      out: The folder in which a folder for the run is created; None to write nothing.
      checkpoint_seconds: How often a checkpoint is written, from which the run can be resumed.
      tensorboard: Whether curves for TensorBoard are also written into the run's folder; needs tensorboardX.
      baselines: Hand-written programs to report beside the best, their learning rate chosen on T_search: linear,
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
            raise ValueError("curves for TensorBoard go into the run's folder: set out to where it is created")
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ValueError(f"unknown baseline {shown(unknown[0])}; expected one of {', '.join(BASELINES)}")


GROUPS = ("tasks", "searcher", "evaluation", "schedule", "output")
"""The groups of settings."""

OPTIONS = {**{f"{role}_tasks": ("tasks", role) for role in get_args(Role)}, "task_variants": ("tasks", "variants")}
"""Settings whose option has another name, and where they are."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A search for a program: on which tasks, by which searcher in which space, and how much of it.

    Attributes:
      name: What the run is called: letters and digits, and after the first also spaces, '.', '_' and '-'.
      tasks: The tasks.
      searcher: What searches, with its space: an instance of a registered class.
      evaluation: How programs are evaluated.
      schedule: How much is done, and on what hardware.
      output: What is written, and what is reported.
      seed: The seed of everything. Equal seeds give equal runs.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> config = PRESETS["linear"][1].replace(population=60, cohort=30, trials=2, method="efficient")
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
            groups["searcher"] = with_method(groups["searcher"], settings.pop("method"))
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
    raise ValueError(f"unknown setting {shown(name)}")


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
    if described.source.endswith(".npz"):
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
