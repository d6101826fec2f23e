"""`Experiment`: a whole search as one frozen description."""

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from zero_jax.evaluation import Evaluator, Hurdles, KnownForms, Probe, Rung, TrainBudget
from zero_jax.evaluation.base import Stage
from zero_jax.evaluation.cache import CACHE_SIZE
from zero_jax.evaluation.cost import Costs
from zero_jax.evaluation.probe import FORGET_EVERY
from zero_jax.executors import devices as there
from zero_jax.executors.registry import check_executor
from zero_jax.program import library
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace
from zero_jax.run.folder import config_of
from zero_jax.search import EfficientEvolution, Mutations, RandomSearch, RegularizedEvolution, Searcher
from zero_jax.support.bounds import check_fields
from zero_jax.support.foreign import described_by, plain, reason, shown
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role, TaskSet

BASELINES = ("linear", "network")
"""The programs of the library that have a learning rate to choose; for vector labels, those for softmax."""

INITIAL = ("random", "no_op", "linear", "network")
"""What the first programs can be called."""

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What the learning rate of a baseline is chosen from, on T_search."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A search for a program: on which tasks, in which space, and how.

    Attributes:
      name: what the run is called: letters and digits, and after the first also spaces, '.', '_' and '-'.
      search_tasks: T_search, which evolution sees. Made anew for every experiment of the run. Here and below, `Tasks`
        will do as well as a `TaskSet`.
      select_tasks: T_select, on which the best program of each experiment is judged.
      unseen_tasks: on which the best of all is reported, once.
      space: which programs there are.
      method: evolution; random search; or efficient, evolution that spends evaluations sparingly
        (`zero_jax.search.EfficientEvolution`), where `mutations.probability` and `mutations.born` do not count.
      islands: I, populations that evolve apart.
      population: P, programs per island.
      cohort: C, children per island that are made and evaluated together; random search draws I * C at a time.
      tournament: T, how many programs compete to become a parent.
      mutations: how children differ from their parents.
      initial: random, no_op, linear, network, or the path of a program, or its text, of several lines; or the folder of
        a run, for its best program. A JSON file may hold several programs: islands begin with all of them in turn.
      combine: how the fitnesses on T_search make one: mean, or median.
      train_steps: the budget of one experiment, in training examples seen by all programs together.
      experiments: how many experiments to run at most, each with new tasks and a new population; 0 for no limit.
      side_by_side: how many experiments to run at a time, each on a thread of its own as far as there are cores.
      time_limit: the run ends after so many seconds, with what it has, and can be extended; 0 for no limit.
      sufficient_fitness: an experiment ends as soon as its best passes this on T_search, the run when on T_select.
      baselines: hand-written programs to report beside the best, their learning rate chosen on T_search.
      seed: of everything. Equal seeds give equal runs.
      probe: with the SIMD and Pallas executors, new programs are compared on so many training and validation examples
        first, and not trained where one that did the same is known (the functional equivalence cache of SPEC 4); 0 for
        never.
      remember: how many programs of an experiment to remember, so as not to train them again; 0 for none.
      forget_every: after so many uses of what a probe found, a program is trained again; 0 for never.
      max_abs_error: a program stops on a task, with fitness 0, as soon as it makes a larger error in training.
      budget: programs that cost more than so many times the 2-layer network get fitness 0 untrained (SPEC 4: 2); 0 for
        no limit.
      costs: what an instruction costs: upstream, as upstream measured it, or operations, counted.
      hurdle_tasks: the share of T_search on which programs must do well to be trained on all of it; 0 for no hurdle.
      hurdle_examples: then, the share of examples on which they must do well to be trained on all of them; 0 for none.
      hurdle_quantile: what is well: this quantile of recent fitnesses at that hurdle.
      executor: as in `evaluate`.
      threads: how many threads of a CPU to use; 0 for all cores. The result does not depend on it. With `actors`, how
        many each has; 0 for one.
      devices: how many GPUs or TPUs to use; 0 for all. The result does not depend on it. With `actors`, each has one.
      migrate_every: after so many evaluations an island, islands exchange programs (`zero_jax.search.migrate`); 0 for
        never.
      candidates: how many programs of an experiment to judge on T_select: its best by fitness on T_search, and of each
        kind of `workers`; as far as the hall of fame has them, which keeps 20 and the Pareto front.
      workers: task settings that differ between groups of islands, which take them in turn: what each changes of
        `search_tasks`, as in `features=8,train=1000`; of features, train, valid, epochs and tasks. Empty for all alike.
        Programs that migrate bring the fitness along that they had.
      groups: into how many groups to part the islands, so that the host makes the children of one while a device
        evaluates those of another. Each has a generator of its own, so the result depends on it.
      actors: among how many actors of Ray to share the islands evenly, each on a thread or a GPU of its own, on one
        machine or many (`zero_jax.run.cluster`); 0 for none. Each has generators of its own, so the result depends on
        it, and, with more than one, on how fast they are.
      max_bytes: as in `evaluate`.
      out: the folder in which a folder for the run is made; None to write nothing.
      checkpoint_seconds: how often to write down what the run can be continued from (`resume`).
      tensorboard: whether to write curves for TensorBoard, too, into the run's folder; needs tensorboardX.
    """

    name: str
    search_tasks: TaskSet
    select_tasks: TaskSet
    unseen_tasks: TaskSet
    space: SearchSpace
    method: Literal["evolution", "random", "efficient"] = "evolution"
    islands: int = 1
    population: int = 1000
    cohort: int = 500
    tournament: int = 10
    mutations: Mutations = Mutations()
    initial: str = "random"
    combine: Literal["mean", "median"] = "mean"
    train_steps: int = 200_000_000
    experiments: int = 0
    side_by_side: int = 1
    time_limit: float = 0.0
    sufficient_fitness: float = 0.9999
    baselines: tuple[str, ...] = ()
    seed: int = 0
    probe: int = 0
    remember: int = CACHE_SIZE
    forget_every: int = FORGET_EVERY
    max_abs_error: float = 100.0
    budget: float = 0.0
    costs: Costs = "upstream"
    hurdle_tasks: float = 0.0
    hurdle_examples: float = 0.0
    hurdle_quantile: float = 0.75
    executor: str = "auto"
    threads: int = 0
    devices: int = 0
    migrate_every: int = 0
    candidates: int = 1
    workers: tuple[str, ...] = ()
    groups: int = 1
    actors: int = 0
    max_bytes: int = 2**30
    out: str | None = "runs"
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for role in get_args(Role):
            if isinstance(getattr(self, f"{role}_tasks"), Tasks):
                object.__setattr__(self, f"{role}_tasks", TaskSet.of(getattr(self, f"{role}_tasks")))
        self._check_names()
        check_fields(self)
        if self.combine not in ("mean", "median"):
            raise ValueError(f"combine must be mean or median, not {shown(self.combine)}")
        check_executor(self.executor)
        if self.islands % max(1, self.actors):
            raise ValueError(f"{self.islands} islands cannot be shared evenly among {self.actors} actors")
        if self.actors and self.side_by_side != 1:
            raise ValueError("actors of Ray work at one experiment together: side_by_side must be 1")
        islands = self.islands // max(1, self.actors)
        if islands % self.groups:
            each = " of each actor" if self.actors else ""
            raise ValueError(f"{islands} islands{each} cannot be parted into {self.groups} groups of one size")
        self.rungs()
        if self.groups % max(1, len(self.workers)):
            raise ValueError(f"{self.groups} groups cannot share {len(self.workers)} kinds of workers evenly")
        self.worker_sets()
        for name in ("budget", "checkpoint_seconds", "time_limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not self.max_abs_error > 0:
            raise ValueError(f"max_abs_error must be above 0, not {self.max_abs_error}")
        if self.tensorboard and self.out is None:
            raise ValueError("curves for TensorBoard go into the run's folder: say where it is to be made (out)")
        if self.method not in ("evolution", "random", "efficient"):
            raise ValueError(f"method must be evolution, random or efficient, not {shown(self.method)}")
        if self.migrate_every and self.islands == 1:
            raise ValueError(
                "one island has no other to exchange programs with: leave migrate_every out, or add islands"
            )
        if self.migrate_every and self.method == "random":
            raise ValueError("random search has no islands: leave migrate_every out, or use method='evolution'")
        if np.isnan(self.sufficient_fitness):
            raise ValueError("sufficient_fitness must be a number, not nan")
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ValueError(f"no baseline {shown(unknown[0])}; there are {', '.join(BASELINES)}")

    def _check_names(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,98}[A-Za-z0-9_-])?", self.name):
            raise ValueError(
                "name must be 1 to 100 letters, digits, spaces, '.', '_' and '-', beginning with a letter or digit, as "
                f"the run's folder is called after it; not {shown(self.name)}"
            )
        if self.out is not None and (not self.out.strip() or not self.out.isprintable()):
            raise ValueError(f"out must be a folder, or None to write nothing; not {shown(self.out)}")

    def self_contained(self, folder: str | Path = "") -> "Experiment":
        """The same, so that nothing depends on files that may change: own tasks are in memory, the paths that they came
        from absolute, and the text of the initial program stands in place of its path.

        Args:
          folder: of the run, if it has one already: where tasks are that came without a file.

        Raises:
          ValueError: a file that cannot be read.
        """
        sets = {f"{role}_tasks": getattr(self, f"{role}_tasks").in_memory(folder) for role in get_args(Role)}
        if self.initial in (*INITIAL, *library.NAMES):
            return dataclasses.replace(self, **sets)
        library.load(self.initial, self.space.memory)  # errors name the path
        text = library.text_of(self.initial)
        return dataclasses.replace(self, initial=text if "\n" in text else f"{text}\n", **sets)

    def rungs(self) -> tuple[Rung, ...]:
        """The hurdles of T_search, in order.

        Raises:
          ValueError: shares or a quantile out of range.
        """
        return (
            *([Rung(tasks=self.hurdle_tasks, quantile=self.hurdle_quantile)] if self.hurdle_tasks else []),
            *([Rung(examples=self.hurdle_examples, quantile=self.hurdle_quantile)] if self.hurdle_examples else []),
        )

    def worker_sets(self) -> tuple[TaskSet, ...]:
        """What T_search is for each kind of `workers`.

        Raises:
          ValueError: settings that are none.
        """
        return tuple(_changed(self.search_tasks, text) for text in self.workers) or (self.search_tasks,)

    def searcher(self) -> Searcher:
        """The search of one group of islands, ready to `init`.

        Raises:
          ValueError: settings that do not go together.
        """
        islands = self.islands // self.groups
        ends = Interface.of(self.space.memory, self.search_tasks)
        if self.method == "random":
            return RandomSearch(self.space, islands * self.cohort, interface=ends)
        initial: Any = self.initial
        if self.initial in BASELINES:
            initial = library.baseline(self.initial, self.search_tasks)
        elif self.initial not in INITIAL:
            initial = library.load(self.initial, self.space.memory)
        shared = (self.space, islands, self.population, self.tournament, self.cohort, self.mutations, initial)
        if self.method == "efficient":
            return EfficientEvolution(*shared, interface=ends)
        return RegularizedEvolution(*shared, interface=ends)

    def tasks(self, role: Role, number: int = 1) -> Tasks:
        """T_search of the experiment of that number, T_select, or the unseen tasks."""
        described = {"search": self.search_tasks, "select": self.select_tasks, "unseen": self.unseen_tasks}[role]
        return _made(described, self.seeds(role, number)["tasks"], role)

    def check_tasks(self) -> None:
        """Makes the tasks of every role, once: `tasks` has them then.

        Raises:
          ValueError: tasks that cannot be made, or that differ in labels; told before any are downloaded.
        """
        sets = {"search": self.search_tasks, "select": self.select_tasks, "unseen": self.unseen_tasks}
        for described in (*sets.values(), *self.worker_sets()):
            described.check()
        labels = {role: described.labels for role, described in sets.items()}
        if len(set(labels.values())) > 1:
            each = ", ".join(f"{value} ({role}_tasks)" for role, value in labels.items())
            raise ValueError(f"tasks to search on, to select on and unseen ones must have the same labels, not {each}")
        for role in get_args(Role):
            self.tasks(role)

    def worker_tasks(self, number: int = 1) -> list[Tasks]:
        """T_search of that experiment for each kind of `workers`."""
        seed = self.derived_seed("search tasks", number)
        return [_made(described, seed, "search") for described in self.worker_sets()]

    def evaluator(self, tasks: Tasks, role: Role, ops: Any = None) -> Evaluator:
        """What evaluates programs on tasks of that role; `ops` as in `evaluate`."""
        return Evaluator(
            tasks,
            self.seeds(role)["draws"],
            executor=self.executor,
            ops=ops,
            max_abs_error=self.max_abs_error,
            max_bytes=self.max_bytes,
            threads=1 if role == "search" and self.side_by_side > 1 else self.threads or None,
            stages=self.stages() if role == "search" else (),
            combine=self.combine if role == "search" else "mean",
            costs=self.costs,
            devices=there.first_devices(self.devices),
            background=role == "search" and self.groups > 1,
        )

    def stages(self) -> tuple[Stage, ...]:
        """What saves work on T_search."""
        known = KnownForms(self.remember) if self.remember else None
        probe = Probe(self.probe, self.remember, self.forget_every) if self.probe else None
        budget = TrainBudget(self.budget) if self.budget else None
        hurdles = Hurdles(self.rungs()) if self.rungs() else None
        return tuple(stage for stage in (budget, known, probe, hurdles) if stage is not None)

    def fitness(self, programs: Programs, tasks: Tasks, role: Role) -> np.ndarray:
        """`[P]` fitness of programs on tasks of that role, every one of them trained."""
        plain = dataclasses.replace(self, probe=0, budget=0.0, hurdle_tasks=0.0, hurdle_examples=0.0)
        return plain.evaluator(tasks, role)(programs).combined

    def seeds(self, role: Role, number: int = 0) -> dict[str, int]:
        """What `zero-jax evaluate` takes to give the same fitness: the seeds of tasks and of random instructions."""
        tasks = self.derived_seed(f"{role} tasks", number if role == "search" else 0)
        return {"tasks": tasks, "draws": self.derived_seed(f"{role} draws", 0)}

    def derived_seed(self, purpose: str, number: int) -> int:
        """A seed of its own for each purpose."""
        words = [abs(self.seed), number, *purpose.encode(), *([1] if self.seed < 0 else [])]
        return int(np.random.SeedSequence(words).generate_state(1)[0])


def _made(described: TaskSet, seed: int, role: Role) -> Tasks:
    return described.make(seed, role) if described.source.endswith(".npz") else _made_once(described, seed, role)


@functools.lru_cache(maxsize=8)
def _made_once(described: TaskSet, seed: int, role: Role) -> Tasks:
    """Tasks are made to check them before the run begins, and used a little later; images take a while to make."""
    return described.make(seed, role)


def _changed(described: TaskSet, text: str) -> TaskSet:
    """Tasks with some settings changed, as `features=8,train=1000` says."""
    names = ("features", "train", "valid", "epochs", "tasks")
    found = [re.fullmatch(r"(\w+)=([0-9]{1,18})", part) for part in text.split(",")]
    pairs = [(part[1], part[2]) for part in found if part and part[1] in names]
    if len(pairs) < len(found) or len(dict(pairs)) < len(pairs):
        raise ValueError(
            f"workers are told by what they change of the tasks, as in features=8,train=1000; of {', '.join(names)}, "
            f"each once; not {shown(text)}"
        )
    if described.source.endswith(".npz"):
        raise ValueError(f"workers cannot change tasks that come from a file: leave them out, or {described.source}")
    changes: dict[str, Any] = {name: int(number) for name, number in pairs}
    return dataclasses.replace(described, **changes)


def from_config(config: dict[str, Any]) -> Experiment:
    """The experiment that `dataclasses.asdict` told of, read from JSON.

    Raises:
      ValueError: settings that this version does not know, or that are none.
    """
    try:
        experiment = described_by(Experiment, _with_whole_numbers(config))
        _check_known(config, dataclasses.asdict(experiment))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the run's configuration does not fit this version of zero-jax: {reason(error)}") from None
    return experiment


def _with_whole_numbers(value: Any) -> Any:
    """2e8 train steps, as somebody may have written in Python, are a whole number of them."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _check_known(given: dict[str, Any], known: dict[str, Any], where: str = "") -> None:
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"there is no setting {shown(where + name)}")
        if isinstance(value, int) and abs(value) >= 2**63 and name != "seed":
            raise ValueError(f"{where}{name} is {shown(value)}, beyond 64 bits")
        if isinstance(value, dict):
            _check_known(value, known[name], f"{where}{name}.")


def from_folder(folder: str | Path) -> Experiment:
    """The experiment that a run's folder describes.

    Raises:
      ValueError: no run's folder, or a config.json that is damaged or of another version; naming it.
    """
    config = config_of(folder)
    try:
        return from_config(config)
    except ValueError as error:
        raise ValueError(f"{plain(Path(folder) / 'config.json')}: {error}") from None


def with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists alone."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    return {name: frozen(value) for name, value in settings.items()}
