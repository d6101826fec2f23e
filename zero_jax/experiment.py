"""`Experiment`: a whole search as one frozen description; `run`: the loop that carries it out."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zero_jax import library, parallel, runs, tensorboard
from zero_jax.cost import Costs
from zero_jax.evaluator import FORGET_EVERY, REMEMBERED, Counts, Evaluator
from zero_jax.executors import batches
from zero_jax.executors.choice import check_executor, choose
from zero_jax.executors.contract import program_fitness
from zero_jax.executors.evaluate import check_fits
from zero_jax.hurdles import Rung
from zero_jax.programs import MemorySize, Programs, SearchSpace, concatenate
from zero_jax.runs import Baseline, Outcome, Progress, RunFolder, config_of
from zero_jax.search import Mutations, RandomSearch, RegularizedEvolution
from zero_jax.search.state import programs_from, programs_tree
from zero_jax.strands import Strand, rounds
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import Role, TaskSet

BASELINES = ("linear", "network")
"""The programs of the library that have a learning rate to choose."""

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What the learning rate of a baseline is chosen from, on T_search."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A search for a program: on which tasks, in which space, and how.

    Attributes:
      name: what the run is called.
      search_tasks: T_search, which evolution sees. Made anew for every experiment of the run.
      select_tasks: T_select, on which the best program of each experiment is judged.
      unseen_tasks: on which the best of all is reported, once.
      space: which programs there are.
      method: evolution, or random search.
      islands: I, populations that evolve apart.
      population: P, programs per island.
      cohort: C, children per island that are made and evaluated together; random search draws I * C at a time.
      tournament: T, how many programs compete to become a parent.
      mutations: how children differ from their parents.
      initial: random, no_op, linear, network, or the path of a program.
      combine: how the fitnesses on T_search make one: mean, or median.
      train_steps: the budget of one experiment, in training examples seen by all programs together.
      experiments: how many experiments to run at most, each with new tasks and a new population; 0 for no limit.
      side_by_side: how many experiments to run at a time, each on a thread of its own as far as there are cores.
      sufficient_fitness: an experiment ends as soon as its best passes this on T_search, the run when on T_select.
      baselines: hand-written programs to report beside the best, their learning rate chosen on T_search.
      seed: of everything. Equal seeds give equal runs.
      probe: with the SIMD and Pallas executors, new programs are compared on so many training and validation examples
        first, and not trained where one that did the same is known (the functional equivalence cache of SPEC 4); 0 for
        never.
      remember: how many programs of an experiment to remember, so as not to train them again; 0 for none.
      forget_every: after so many uses of what a probe found, a program is trained again; 0 for never.
      budget: programs that cost more than so many times the 2-layer network get fitness 0 untrained (SPEC 4: 2); 0 for
        no limit.
      costs: what an instruction costs: upstream, as upstream measured it, or operations, counted.
      hurdle_tasks: the share of T_search on which programs must do well to be trained on all of it; 0 for no hurdle.
      hurdle_examples: then, the share of examples on which they must do well to be trained on all of them; 0 for none.
      hurdle_quantile: what is well: this quantile of recent fitnesses at that hurdle.
      executor: as in `evaluate`.
      threads: how many threads of a CPU to use; 0 for all cores. The result does not depend on it.
      devices: how many GPUs or TPUs to use; 0 for all. The result does not depend on it.
      migrate_every: after so many evaluations an island, islands exchange programs (`zero_jax.search.migrate`); 0 for
        never.
      groups: into how many groups to part the islands, so that the host makes the children of one while a device
        evaluates those of another. Each has a generator of its own, so the result depends on it.
      max_bytes: as in `evaluate`.
      out: the folder in which a folder for the run is made; empty for none.
      checkpoint_seconds: how often to write down what the run can be continued from (`resume`).
      tensorboard: whether to write curves for TensorBoard, too, into the run's folder; needs tensorboardX.
    """

    name: str
    search_tasks: TaskSet
    select_tasks: TaskSet
    unseen_tasks: TaskSet
    space: SearchSpace
    method: Literal["evolution", "random"] = "evolution"
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
    sufficient_fitness: float = 0.9999
    baselines: tuple[str, ...] = ()
    seed: int = 0
    probe: int = 0
    remember: int = REMEMBERED
    forget_every: int = FORGET_EVERY
    budget: float = 0.0
    costs: Costs = "upstream"
    hurdle_tasks: float = 0.0
    hurdle_examples: float = 0.0
    hurdle_quantile: float = 0.75
    executor: str = "auto"
    threads: int = 0
    devices: int = 0
    migrate_every: int = 0
    groups: int = 1
    max_bytes: int = 2**30
    out: str = "runs"
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.train_steps < 1 or self.experiments < 0:
            numbers = f"{self.train_steps} and {self.experiments}"
            raise ValueError(f"train_steps must be at least 1 and experiments at least 0, not {numbers}")
        if self.combine not in ("mean", "median"):
            raise ValueError(f"combine must be mean or median, not {self.combine!r}")
        check_executor(self.executor)
        if self.side_by_side < 1:
            raise ValueError(f"side_by_side must be at least 1, not {self.side_by_side}")
        if self.groups < 1 or self.islands % self.groups:
            raise ValueError(f"{self.islands} islands cannot be parted into {self.groups} groups of one size")
        self.rungs()
        for name in ("probe", "remember", "threads", "devices", "forget_every", "budget", "migrate_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not self.checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must be at least 0, not {self.checkpoint_seconds}")
        if self.tensorboard and not self.out:
            raise ValueError("curves for TensorBoard go into the run's folder: say where it is to be made (out)")
        if self.migrate_every and self.method == "random":
            raise ValueError("random search has no islands: leave migrate_every out, or use method='evolution'")
        if np.isnan(self.sufficient_fitness):
            raise ValueError("sufficient_fitness must be a number, not nan")
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ValueError(f"no baseline {unknown[0]!r}; there are {', '.join(BASELINES)}")

    def rungs(self) -> tuple[Rung, ...]:
        """The hurdles of T_search, in order.

        Raises:
          ValueError: shares or a quantile out of range.
        """
        return (
            *([Rung(tasks=self.hurdle_tasks, quantile=self.hurdle_quantile)] if self.hurdle_tasks else []),
            *([Rung(examples=self.hurdle_examples, quantile=self.hurdle_quantile)] if self.hurdle_examples else []),
        )

    def searcher(self) -> RegularizedEvolution | RandomSearch:
        """The search of one group of islands, ready to `init`.

        Raises:
          ValueError: settings that do not go together.
        """
        islands = self.islands // self.groups
        if self.method == "random":
            return RandomSearch(self.space, islands * self.cohort)
        initial: Any = self.initial
        if self.initial not in ("random", "no_op", "linear", "network"):
            initial = library.load(self.initial, self.space.memory)
        return RegularizedEvolution(
            self.space, islands, self.population, self.tournament, self.cohort, self.mutations, initial
        )

    def tasks(self, role: Role, number: int = 1) -> Tasks:
        """T_search of the experiment of that number, T_select, or the unseen tasks."""
        described = {"search": self.search_tasks, "select": self.select_tasks, "unseen": self.unseen_tasks}[role]
        seed = self.derived_seed(f"{role} tasks", number if role == "search" else 0)
        return described.make(seed, role) if described.source.endswith(".npz") else _made(described, seed, role)

    def evaluator(self, tasks: Tasks, role: Role, ops: Any = None) -> Evaluator:
        """What evaluates programs on tasks of that role; `ops` as in `evaluate`."""
        return Evaluator(
            tasks,
            self.derived_seed(f"{role} draws", 0),
            executor=self.executor,
            ops=ops,
            max_bytes=self.max_bytes,
            threads=1 if role == "search" and self.side_by_side > 1 else self.threads or None,
            **self._savers() if role == "search" else {"remember": 0},
            devices=batches.first_devices(self.devices),
            background=role == "search" and self.groups > 1,
        )

    def _savers(self) -> dict[str, Any]:
        names = ("remember", "probe", "forget_every", "budget", "costs")
        return {name: getattr(self, name) for name in names} | {"hurdles": self.rungs()}

    def fitness(self, programs: Programs, tasks: Tasks, role: Role) -> np.ndarray:
        """`[P]` fitness of programs on tasks of that role, every one of them trained."""
        plain = dataclasses.replace(self, probe=0, budget=0.0, hurdle_tasks=0.0, hurdle_examples=0.0)
        told = plain.evaluator(tasks, role)(programs)
        return program_fitness(told.fitness, self.combine if role == "search" else "mean")

    def derived_seed(self, purpose: str, number: int) -> int:
        """A seed of its own for each purpose."""
        words = [abs(self.seed), number, *purpose.encode(), *([1] if self.seed < 0 else [])]
        return int(np.random.SeedSequence(words).generate_state(1)[0])


@functools.lru_cache(maxsize=4)
def _made(described: TaskSet, seed: int, role: Role) -> Tasks:
    """Tasks are made to check them before the run begins, and used a little later; images take a while to make."""
    return described.make(seed, role)


def run(experiment: Experiment, report: Callable[[Progress], None] | None = None) -> Outcome:
    """Carries an experiment out: searches, selects, reports on unseen tasks, and writes what it found.

    As upstream's demo: experiments are repeated with new tasks until the best program of one passes the sufficient
    fitness on T_select (SPEC 4). Ctrl-C ends the run with what was found so far.

    Args:
      experiment: what to do.
      report: called with the progress after every cohort, or after every round of experiments that run side by side.

    Returns:
      `Outcome`.

    Raises:
      ValueError: settings that do not go together, before anything is written.
      OSError: where the run's folder cannot be written.
    """
    runner = _Runner(experiment, report or (lambda progress: None))
    if experiment.out:
        described = dataclasses.asdict(experiment)
        runner.folder = RunFolder.create(experiment.out, experiment.name, experiment.seed, described)
    return runner.run()


def resume(folder: str | Path, report: Callable[[Progress], None] | None = None) -> Outcome:
    """Goes on with a run from its last checkpoint, as if it had never been interrupted: what it finds and records is
    equal to the bit, but for the clock.

    Args:
      folder: of the run.
      report: as in `run`.

    Raises:
      ValueError: no run's folder, one that another process is writing, or damaged files, by name.
    """
    experiment = from_config(config_of(folder))
    opened = RunFolder(Path(folder))
    try:
        tree = opened.restore()
        runner = _Runner(experiment, report or (lambda progress: None))
        runner.folder = opened
        if tree is not None:
            runner.restore(tree)
    except BaseException:
        opened.close()
        raise
    return runner.run()


def from_config(config: dict[str, Any]) -> Experiment:
    """The experiment that `dataclasses.asdict` told of, read from JSON.

    Raises:
      ValueError: settings that this version does not know.
    """
    try:
        sets = {f"{role}_tasks": TaskSet(**config[f"{role}_tasks"]) for role in ("search", "select", "unseen")}
        space = _with_tuples(config["space"])
        space["memory"] = MemorySize(*space["memory"])
        mutations = Mutations(**_with_tuples(config["mutations"]))
        return Experiment(**{**_with_tuples(config), **sets, "space": SearchSpace(**space), "mutations": mutations})
    except (KeyError, TypeError) as error:
        raise ValueError(f"the run's configuration does not fit this version of zero-jax: {error}") from None


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists alone."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    return {name: frozen(value) for name, value in settings.items()}


class _Runner:
    """The state of one run."""

    def __init__(self, experiment: Experiment, report: Callable[[Progress], None]) -> None:
        if experiment.tensorboard:
            tensorboard.check_installed()
        self.experiment = experiment
        self.report = report
        self.folder: RunFolder | None = None
        self.searcher = experiment.searcher()
        self.select_tasks = experiment.tasks("select")
        sets = (experiment.tasks("search"), self.select_tasks, experiment.tasks("unseen"))
        for tasks in sets:  # mistakes show before anything is written
            check_fits(experiment.space, self.searcher.ops, tasks, experiment.max_bytes, experiment.executor)
        self._load(sets[0])
        self.task_counts = (len(sets[0]), len(sets[1]), len(sets[2]))
        self.began = time.monotonic()
        self.started = 0
        self.progress = Progress(1, 0, 0, 0, 0.0, 0.0)
        self.counts = Counts()
        self.best: tuple[Programs, int, float, float | None] | None = None
        self.unseen: float | None = None
        self.baselines: tuple[Baseline, ...] = ()
        self.interrupted = False
        self.strands: list[Strand] = []
        self.searched = False
        self.written = self.began

    def run(self) -> Outcome:
        """All of it, or what is left."""
        try:
            try:
                if self.folder and self.experiment.tensorboard:
                    self.folder.curves = tensorboard.Curves(self.folder.path)
                if not self.searched:
                    self.search()
                self.judge()
            except KeyboardInterrupt:
                self.interrupted = True
            outcome = self.outcome()
            if self.folder:
                self.folder.write_outcome(outcome)
            return outcome
        except OSError as error:
            if self.folder is None:
                raise
            again = f"zero-jax search --resume {self.folder.path}"
            raise OSError(f"{error}: the run has stopped; once that is mended, {again} goes on") from error
        finally:
            if self.folder:
                self.folder.close()

    def _load(self, tasks: Tasks) -> None:
        """Compiles the loops, or loads them from disk, before the clock starts: one program, one example."""
        state, programs = self.searcher.ask(self.searcher.init(0))
        self.searcher.ask(self.searcher.tell(state, programs, np.zeros(len(programs))))
        if choose(self.experiment.executor, programs.memory, tasks, self.experiment.max_bytes) == "simd":
            self.experiment.evaluator(tasks.shortened(1, 1), "search")(programs[:1])

    def search(self) -> None:
        """Experiments, until one is good enough on T_select or there are no more."""
        experiment = self.experiment
        strands = self.strands = self.strands or [s for _ in range(experiment.side_by_side) for s in self._next()]
        try:
            for _ in rounds(strands, experiment.threads or parallel.cores(), experiment.side_by_side == 1):
                self._record(strands)
                before = list(strands)
                for i, strand in reversed(list(enumerate(strands))):
                    if strand.ended:
                        self._select(strand)
                        strands[i : i + 1] = [] if self._solved() else self._next()
                self.searched = self._solved() or not strands
                if self.searched:
                    self._checkpoint(before)
                    return
                if time.monotonic() - self.written >= experiment.checkpoint_seconds:
                    self._checkpoint(strands)
        except KeyboardInterrupt:
            self.interrupted = True
            for strand in strands:
                if strand.evaluations:
                    self._select(strand)
            raise

    def _next(self) -> list[Strand]:
        """The next experiment, if there is one."""
        if self.experiment.experiments and self.started == self.experiment.experiments:
            return []
        self.started += 1
        return [self._strand(self.started)]

    def _strand(self, number: int) -> Strand:
        experiment = self.experiment
        return Strand(
            number,
            self.searcher,
            experiment.derived_seed("search", number),
            experiment.evaluator(experiment.tasks("search", number), "search", self.searcher.ops),
            experiment.combine,
            experiment.train_steps,
            experiment.sufficient_fitness,
            experiment.groups,
            experiment.migrate_every * experiment.islands,
        )

    def _checkpoint(self, strands: Sequence[Strand]) -> None:
        """Writes down where the run is, unless some search cannot be left where it is."""
        if self.folder is None or not (self.searched or all(strand.settled for strand in strands)):
            return
        best = self.best and {"program": programs_tree(self.best[0]), "rest": list(self.best[1:])}
        self.folder.checkpoint(
            {
                "started": self.started,
                "searched": self.searched,
                "progress": self.progress._asdict(),
                "counts": self.counts._asdict(),
                "seconds": time.monotonic() - self.began,
                "best": best,
                "strands": [strand.tree() for strand in strands],
            }
        )
        self.written = time.monotonic()

    def restore(self, tree: dict[str, Any]) -> None:
        """Goes on from what a checkpoint told."""
        self.started, self.searched = tree["started"], tree["searched"]
        self.progress = Progress(**_with_tuples(tree["progress"]))
        self.counts = Counts(**tree["counts"])
        self.began -= tree["seconds"]
        if tree["best"]:
            self.best = (programs_from(tree["best"]["program"]), *tree["best"]["rest"])
        for told in tree["strands"]:
            strand = self._strand(told["number"])
            strand.restore(told)
            self.strands.append(strand)

    def _record(self, strands: Sequence[Strand]) -> None:
        """Counts what the last round did, writes the records that are due, and reports."""
        for strand in strands:
            new, due = strand.new_counts(), strand.is_due()
            self.counts = Counts(*map(sum, zip(self.counts, new, strict=True)))
            self.progress = Progress(
                strand.number,
                self.counts.considered,
                self.counts.evaluated,
                self.counts.train_steps,
                time.monotonic() - self.began,
                strand.state.best_fitness,
                **{name: getattr(self.counts, name) for name in runs.COUNTED},
                saved_steps=sum(getattr(self.counts, name) for name in Counts._fields if name.startswith("saved")),
                **(strand.population_told() if due else {}),
            )
            if due and self.folder:
                self.folder.record(self.progress)
        self.report(self.progress)

    def _select(self, strand: Strand) -> None:
        """Judges the best program of an experiment, an interrupted one too."""
        state, number = strand.state, strand.number
        if self.best is None:  # stands, unjudged, should Ctrl-C come (again) before the judgement
            self.best = state.best, number, state.best_fitness, None
        fitness = float(self.experiment.fitness(state.best, self.select_tasks, "select")[0])
        if self.best is None or self.best[3] is None or fitness > self.best[3]:
            self.best = state.best, number, state.best_fitness, fitness

    def _solved(self) -> bool:
        fitness = self.best[3] if self.best else None
        return fitness is not None and fitness > self.experiment.sufficient_fitness

    def judge(self) -> None:
        """The best program, and the baselines, on unseen tasks."""
        assert self.best is not None
        unseen = self.experiment.tasks("unseen")
        self.unseen = float(self.experiment.fitness(self.best[0], unseen, "unseen")[0])
        search_tasks = self.experiment.tasks("search", self.best[1])
        self.baselines = tuple(self._baseline(name, search_tasks, unseen) for name in self.experiment.baselines)

    def _baseline(self, name: str, search_tasks: Tasks, unseen: Tasks) -> Baseline:
        programs = concatenate([library.program(name, learning_rate=rate) for rate in LEARNING_RATES])
        scores = self.experiment.fitness(programs, search_tasks, "search")
        winner = int(np.argmax(scores))
        select = self.experiment.fitness(programs[winner], self.select_tasks, "select")
        final = self.experiment.fitness(programs[winner], unseen, "unseen")
        return Baseline(name, LEARNING_RATES[winner], float(scores[winner]), float(select[0]), float(final[0]))

    def outcome(self) -> Outcome:
        """All of it."""
        program, number, search_fitness, select_fitness = self.best or (None, 0, 0.0, None)
        return Outcome(
            program,
            number,
            search_fitness,
            select_fitness,
            self.unseen,
            self.experiment.sufficient_fitness,
            self._solved(),
            self.interrupted,
            self.progress,
            self.baselines,
            self.select_tasks.loss,
            self.task_counts,
            self.folder.path if self.folder else None,
        )
