"""`Experiment`: a whole search as one frozen description; `run`: the loop that carries it out."""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from tqdm.auto import tqdm

import zero_jax
from zero_jax import files, library, listing, parallel
from zero_jax.evaluator import REMEMBERED, Evaluator
from zero_jax.executors import batches
from zero_jax.executors.choice import check_executor, choose
from zero_jax.executors.contract import program_fitness
from zero_jax.executors.evaluate import check_fits
from zero_jax.programs import Programs, SearchSpace, concatenate
from zero_jax.search import Mutations, RandomSearch, RegularizedEvolution
from zero_jax.strands import Strand, rounds
from zero_jax.tasks import Loss, Tasks
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
      executor: as in `evaluate`.
      threads: how many threads of a CPU to use; 0 for all cores. The result does not depend on it.
      devices: how many GPUs or TPUs to use; 0 for all. The result does not depend on it.
      groups: into how many groups to part the islands, so that the host makes the children of one while a device
        evaluates those of another. Each has a generator of its own, so the result depends on it.
      max_bytes: as in `evaluate`.
      out: the folder in which a folder for the run is made; empty for none.
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
    executor: str = "auto"
    threads: int = 0
    devices: int = 0
    groups: int = 1
    max_bytes: int = 2**30
    out: str = "runs"

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
        for name in ("probe", "remember", "threads", "devices"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if np.isnan(self.sufficient_fitness):
            raise ValueError("sufficient_fitness must be a number, not nan")
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ValueError(f"no baseline {unknown[0]!r}; there are {', '.join(BASELINES)}")

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
            remember=self.remember if role == "search" else 0,
            probe=self.probe if role == "search" else 0,
            devices=batches.first_devices(self.devices),
            background=role == "search" and self.groups > 1,
        )

    def fitness(self, programs: Programs, tasks: Tasks, role: Role) -> np.ndarray:
        """`[P]` fitness of programs on tasks of that role, every one of them trained."""
        told = dataclasses.replace(self, probe=0).evaluator(tasks, role)(programs)
        return program_fitness(told.fitness, self.combine if role == "search" else "mean")

    def derived_seed(self, purpose: str, number: int) -> int:
        """A seed of its own for each purpose."""
        words = [abs(self.seed), number, *purpose.encode(), *([1] if self.seed < 0 else [])]
        return int(np.random.SeedSequence(words).generate_state(1)[0])


@functools.lru_cache(maxsize=4)
def _made(described: TaskSet, seed: int, role: Role) -> Tasks:
    """Tasks are made to check them before the run begins, and used a little later; images take a while to make."""
    return described.make(seed, role)


class Progress(NamedTuple):
    """How far a run has come; also a line of records.jsonl.

    Attributes:
      experiment: the number of the experiment, from 1.
      evaluations: programs whose fitness on T_search was asked for, in the whole run.
      trained: those of them that were trained, because no equal one was known.
      train_steps: training examples that these saw.
      seconds: since the run began.
      best_fitness: the best on T_search in this experiment.
      quantiles: of the population's fitness: least, quarter, median, three quarters, greatest.
    """

    experiment: int
    evaluations: int
    trained: int
    train_steps: int
    seconds: float
    best_fitness: float
    quantiles: tuple[float, ...]


class Baseline(NamedTuple):
    """A hand-written program on the same tasks."""

    name: str
    learning_rate: float
    search_fitness: float
    select_fitness: float
    unseen_fitness: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
      program: a batch of the one best program; None where a run was interrupted before it evaluated any.
      experiment: the number of the experiment that found it.
      search_fitness: on that experiment's T_search.
      select_fitness: on T_select; None where the run was interrupted before.
      unseen_fitness: on unseen tasks; None where the run was interrupted before.
      sufficient_fitness: what was asked for.
      solved: whether it passed that on T_select.
      interrupted: whether the run ended by Ctrl-C.
      progress: the last there was.
      baselines: as the experiment asked for.
      loss: of T_select: what its fitness means.
      tasks: how many there are in T_search, T_select and the unseen set.
      folder: where the run was written, if anywhere.
    """

    program: Programs | None
    experiment: int
    search_fitness: float
    select_fitness: float | None
    unseen_fitness: float | None
    sufficient_fitness: float
    solved: bool
    interrupted: bool
    progress: Progress
    baselines: tuple[Baseline, ...]
    loss: Loss
    tasks: tuple[int, int, int]
    folder: Path | None


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
    folder = _new_folder(experiment) if experiment.out else None
    runner.folder = folder
    try:
        runner.search()
        runner.judge()
    except KeyboardInterrupt:
        runner.interrupted = True
    outcome = runner.outcome()
    if folder:
        _write_outcome(folder, outcome)
    return outcome


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """A bar in the terminal or the notebook; gives the function to pass to `run` as `report`.

    It is drawn from the first progress on, so that none stands above the message of an early error.
    """
    with contextlib.ExitStack() as stack:
        bars: list[tqdm[None]] = []

        def report(progress: Progress) -> None:
            if not bars:
                bars.append(
                    stack.enter_context(tqdm(unit=" evaluations", unit_scale=True, desc=name, dynamic_ncols=True))
                )
            state = f"experiment {progress.experiment}, best fitness {progress.best_fitness:.5f}"
            bars[0].set_postfix_str(state, refresh=False)
            bars[0].update(progress.evaluations - bars[0].n)

        yield report


class _Runner:
    """The state of one run."""

    def __init__(self, experiment: Experiment, report: Callable[[Progress], None]) -> None:
        self.experiment = experiment
        self.report = report
        self.folder: Path | None = None
        self.searcher = experiment.searcher()
        self.select_tasks = experiment.tasks("select")
        sets = (experiment.tasks("search"), self.select_tasks, experiment.tasks("unseen"))
        for tasks in sets:  # mistakes show before anything is written
            check_fits(experiment.space, self.searcher.ops, tasks, experiment.max_bytes, experiment.executor)
        self._load(sets[0])
        self.task_counts = (len(sets[0]), len(sets[1]), len(sets[2]))
        self.began = time.monotonic()
        self.started = 0
        self.progress = Progress(1, 0, 0, 0, 0.0, 0.0, ())
        self.best: tuple[Programs, int, float, float | None] | None = None
        self.unseen: float | None = None
        self.baselines: tuple[Baseline, ...] = ()
        self.interrupted = False

    def _load(self, tasks: Tasks) -> None:
        """Compiles the loops, or loads them from disk, before the clock starts: one program, one example."""
        state, programs = self.searcher.ask(self.searcher.init(0))
        self.searcher.ask(self.searcher.tell(state, programs, np.zeros(len(programs))))
        if choose(self.experiment.executor, programs.memory, tasks, self.experiment.max_bytes) == "simd":
            self.experiment.evaluator(tasks.shortened(1, 1), "search")(programs[:1])

    def search(self) -> None:
        """Experiments, until one is good enough on T_select or there are no more."""
        strands = [strand for _ in range(self.experiment.side_by_side) for strand in self._strand()]
        try:
            for _ in rounds(strands, self.experiment.threads or parallel.cores()):
                self._record(strands)
                for i, strand in reversed(list(enumerate(strands))):
                    if strand.ended:
                        self._select(strand)
                        strands[i : i + 1] = [] if self._solved() else self._strand()
                if self._solved() or not strands:
                    return
        except KeyboardInterrupt:
            self.interrupted = True
            for strand in strands:
                if strand.evaluations:
                    self._select(strand)
            raise

    def _strand(self) -> list[Strand]:
        """The next experiment, if there is one."""
        experiment = self.experiment
        if experiment.experiments and self.started == experiment.experiments:
            return []
        self.started += 1
        tasks = experiment.tasks("search", self.started)
        return [
            Strand(
                self.started,
                self.searcher,
                experiment.derived_seed("search", self.started),
                experiment.evaluator(tasks, "search", self.searcher.ops),
                experiment.combine,
                experiment.train_steps,
                experiment.sufficient_fitness,
                experiment.groups,
            )
        ]

    def _record(self, strands: Sequence[Strand]) -> None:
        """Counts what the last round did, writes the records that are due, and reports."""
        for strand in strands:
            new, due = strand.new_counts(), strand.is_due()
            fitness = strand.fitness
            self.progress = Progress(
                strand.number,
                self.progress.evaluations + new.considered,
                self.progress.trained + new.evaluated,
                self.progress.train_steps + new.train_steps,
                time.monotonic() - self.began,
                strand.state.best_fitness,
                tuple(np.quantile(fitness, (0, 0.25, 0.5, 0.75, 1)).tolist()) if due else (),
            )
            if due and self.folder:
                with open(self.folder / "records.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(self.progress._asdict()) + "\n")
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
            self.folder,
        )


# ---------------------------------------------------------------------------------------------- files


def _new_folder(experiment: Experiment) -> Path:
    """Makes the run's folder, with its configuration."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    parent = Path(experiment.out)
    for suffix in ("", *(f"-{i}" for i in range(2, 100))):
        folder = parent / f"{experiment.name}-seed{experiment.seed}-{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if not parent.is_dir():
                raise
    versions = {"zero_jax": zero_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}
    config = {"schema": 1, "versions": versions, "experiment": dataclasses.asdict(experiment)}
    files.write_atomically(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return folder


def _write_outcome(folder: Path, outcome: Outcome) -> None:
    if outcome.program is not None:
        files.write_atomically(folder / "best.txt", outcome.program.listing(0) + "\n")
        files.write_atomically(folder / "best.json", listing.to_json(outcome.program) + "\n")
    told = {
        name: getattr(outcome, name)
        for name in ("experiment", "search_fitness", "select_fitness", "unseen_fitness", "solved", "interrupted")
    }
    told |= {"progress": outcome.progress._asdict(), "baselines": [b._asdict() for b in outcome.baselines]}
    files.write_atomically(folder / "outcome.json", json.dumps(told, indent=1) + "\n")
