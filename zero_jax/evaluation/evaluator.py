"""`Evaluator`: candidates pass through stages that save work, and those that are left are trained.

Axes: `P` programs, `T` tasks.
"""

import dataclasses
import functools
from collections.abc import Generator, Sequence
from typing import Annotated, Any, NamedTuple, get_args

import numpy as np

from zero_jax.evaluation.base import Batch, Candidates, Counts, Fate, Results, Scores, Share, Stage, Steps
from zero_jax.evaluation.cost import UPSTREAM, Costs, cost, network_cost, operations
from zero_jax.evaluation.hurdles import Hurdles
from zero_jax.evaluation.known_forms import KnownForms
from zero_jax.evaluation.launcher import Launcher
from zero_jax.evaluation.train import train
from zero_jax.executors.base import Memory
from zero_jax.executors.fitness import program_fitness
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface, resolved
from zero_jax.program.programs import Programs
from zero_jax.support import checked
from zero_jax.support.codec import Count, Length, Part, decode, encode
from zero_jax.tasks import Tasks

_TRAINED, _EQUIVALENT, _OVER_BUDGET = int(Fate.TRAINED), int(Fate.EQUIVALENT), int(Fate.OVER_BUDGET)

WHOLE = Share()
"""All tasks and examples."""


class Evaluator:
    """Evaluates programs on one set of tasks.

    Args:
      tasks: the tasks.
      seed: of the draws of random instructions, as in `evaluate`.
      stages: what saves work, in the order in which candidates come to it; by default each canonical form is trained
        once (`KnownForms`), which does not change results. `TrainBudget`, `Probe` and `Hurdles` do.
      combine: how the fitnesses on several tasks make one: `mean` or `median`.
      costs: what an instruction costs: `upstream`, as upstream measured it, or `operations`, counted.
      **how: executor, ops, max_abs_error, max_bytes, threads, devices, interpret and background, as in
        `zero_jax.evaluation.launcher.Launcher`.

    Attributes:
      counts: `Counts` of all calls so far.
      examples: how many training examples one run of a program sees, epochs counted.
      costs: `[65]` what each op costs.

    Raises:
      ValueError: as `evaluate`; unknown `costs`.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> evaluator = Evaluator(synthetic.linear(2, train=10))
      >>> program = library.program("linear")
      >>> evaluator(program).fitness.shape, evaluator(program).combined.shape
      ((1, 2), (1,))
      >>> evaluator.counts.evaluated, evaluator.counts.known
      (1, 1)
    """

    def __init__(
        self,
        tasks: Tasks,
        seed: int = 0,
        stages: Sequence[Stage] = (KnownForms(),),
        *,
        combine: str = "mean",
        costs: Costs = "upstream",
        **how: Any,
    ) -> None:
        if costs not in get_args(Costs):
            raise ValueError(f"costs must be upstream or operations, not {checked.shown(costs)}")
        self.tasks = tasks
        self.stages = tuple(stages)
        self.combine = combine
        self.counts = Counts()
        self.costs = UPSTREAM if costs == "upstream" else operations(tasks.features)
        self._levels = {WHOLE: _Level(Launcher(tasks, seed, **how), self.stages)}
        self.examples = self._levels[WHOLE].examples
        self._unit = network_cost(self.examples, self.costs)

    @property
    def launcher(self) -> Launcher:
        """Launches programs on all tasks and examples."""
        return self._levels[WHOLE].launcher

    def __call__(self, programs: Programs | Candidates) -> Scores:
        """The scores of `P` programs."""
        steps = self.steps(programs)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def steps(self, programs: Programs | Candidates) -> Generator[None, None, Scores]:
        """The same in steps: yields whenever a device has work.

        Several calls may be under way. What stages remember then depends on the order of their steps, and so do the
        results of probes and hurdles, but nothing else.

        Raises:
          ValueError: candidates whose forms are for tasks of another interface.
        """
        candidates = self._candidates(programs)
        share = Share(candidates.tasks_share, candidates.examples_share, candidates.features_share)
        level = self._level(share)
        level.calls += 1
        if candidates.memory is not None or candidates.keeps_memory:
            return (yield from self._carrying(candidates, level))
        executor = level.launcher.choose(candidates.programs.memory)
        forms = candidates.forms.programs
        n = len(candidates)
        batch = Batch(
            candidates,
            np.arange(n),
            level.calls,
            len(level.launcher.tasks),
            level.examples,
            self.costs,
            executor.fingerprints,
            functools.partial(level.launcher.launch, executor, forms),
        )
        results = yield from self._through(level, 0, batch)
        self.counts = Counts(*map(sum, zip(self.counts, self._counted(candidates, results), strict=True)))
        fresh = self._fresh(results.fates) if share == WHOLE else np.zeros(0, np.int64)
        scores = self._scores(candidates, results, fresh)
        if candidates.relaxed is None:
            return scores
        gradient, steps = candidates.relaxed.gradient(level.launcher.tasks, level.launcher.seed)
        self.counts = self.counts._replace(train_steps=self.counts.train_steps + steps)
        return dataclasses.replace(scores, gradient=gradient)

    def _scores(
        self, candidates: Candidates, results: Results, fresh: np.ndarray, memory: Memory | None = None
    ) -> Scores:
        combined = program_fitness(results.fitness, self.combine)
        costs = cost(candidates.forms.programs, self.examples, self.costs) / self._unit
        return Scores(results.fitness, combined, costs, results.train_steps, results.fates, fresh, memory)

    def _carrying(self, candidates: Candidates, level: "_Level") -> Generator[None, None, Scores]:
        """Scores of candidates from given memory to the memory they leave, which no stage knows anything about.

        Addresses count, so programs keep theirs; a fitness that given memory has brought about is no program's own.
        """
        executor = level.launcher.choose(candidates.programs.memory, carries=True)
        programs = pruned(candidates.programs, candidates.interface)
        tasks = len(level.launcher.tasks)
        given = candidates.memory and Memory(*(np.asarray(part[:tasks]) for part in candidates.memory))
        waiting = level.launcher.launch_carrying(executor, programs, given)
        yield
        fitness, steps, *memory = waiting()
        results = Results.empty(len(candidates), tasks)._replace(fitness=fitness, train_steps=steps)
        self.counts = Counts(*map(sum, zip(self.counts, self._counted(candidates, results), strict=True)))
        own = candidates.memory is None and level.launcher.tasks is self.tasks
        return self._scores(candidates, results, np.arange(len(candidates) if own else 0), Memory(*memory))

    def _candidates(self, programs: Programs | Candidates) -> Candidates:
        """Programs with their canonical forms."""
        expected = Interface.of(programs_of(programs).memory, self.tasks)
        if isinstance(programs, Programs):
            return Candidates.of(programs, expected, self.launcher.threads)
        if resolved(programs.interface, programs.programs.memory) != expected:
            kind = "vector" if expected.is_vector else "scalar"
            raise ValueError(
                f"the tasks have {kind} labels, but the candidates are in canonical form for other ones: create the "
                "searcher with interface=Interface.of(memory, tasks)"
            )
        return programs

    def _through(self, level: "_Level", number: int, batch: Batch) -> Steps:
        """Results of a batch from the stage of that number on."""
        if number == len(self.stages) or not len(batch):
            return (yield from train(batch))
        following = functools.partial(self._through, level, number + 1)
        return (yield from self.stages[number].run(batch, level.memories[number], following))

    def _counted(self, candidates: Candidates, results: Results) -> Counts:
        """Counts of one call."""
        by_fate = np.bincount(results.fates, minlength=len(Fate)).tolist()
        trained, repeated, known, equivalent, over_budget, stopped = by_fate
        _, saved_repeated, saved_known, saved_equivalent, saved_over_budget, saved_stopped = results.saved.tolist()
        empty = (candidates.forms.programs.length.sum(1) == 0) & (results.fates != _OVER_BUDGET)
        return Counts(
            considered=len(candidates),
            evaluated=trained + stopped,
            repeated=repeated,
            known=known,
            equivalent=equivalent,
            over_budget=over_budget,
            stopped=stopped,
            empty=int(empty.sum()),
            train_steps=int(results.train_steps.sum(dtype=np.int64)),
            saved_repeated=saved_repeated,
            saved_known=saved_known,
            saved_equivalent=saved_equivalent,
            saved_over_budget=saved_over_budget,
            saved_stopped=saved_stopped,
        )

    def _fresh(self, fates: np.ndarray) -> np.ndarray:
        """Those trained in full, or equivalent to one; with hurdles, that one may have been stopped."""
        fresh = fates == _TRAINED
        if not any(isinstance(stage, Hurdles) for stage in self.stages):
            fresh |= fates == _EQUIVALENT
        return np.flatnonzero(fresh)

    def _level(self, share: Share) -> "_Level":
        """What evaluates at a fidelity, with memories of its own: fitness on a part is not that on the whole."""
        if share not in self._levels:
            self._levels[share] = _Level(self.launcher.on(share.part(self.tasks)), self.stages)
        return self._levels[share]

    def tree(self) -> dict[str, Any]:
        """All that later calls depend on, as `zero_jax.support.files.packed` takes it; while no call is under way."""
        levels = [
            _StoredLevel(
                share.tasks,
                share.examples,
                share.features,
                level.calls,
                tuple(Part(encode(one)) for one in level.memories),
            )
            for share, level in self._levels.items()
        ]
        return encode(_Stored(self.counts, tuple(levels)))

    def restore(self, tree: Any, where: str = "evaluator") -> None:
        """Continues from what `tree` returned of an evaluator with the same arguments.

        Raises:
          ValueError: saying what in it is damaged or of another evaluator, and where.
        """
        stored = decode(_Stored, tree, where, {"S": len(self.stages)})
        self.counts = stored.counts
        self._levels = {WHOLE: _Level(self.launcher, self.stages)}
        for one in stored.levels:
            level = self._level(one.share)
            level.calls = one.calls
            level.memories = [level.restored(n, *memory) for n, memory in enumerate(one.memories)]


def programs_of(programs: Programs | Candidates) -> Programs:
    """The programs alone."""
    return programs if isinstance(programs, Programs) else programs.programs


class _StoredLevel(NamedTuple):
    """A `_Level`, with the memories of its `S` stages."""

    tasks_share: float
    examples_share: float
    features_share: float
    calls: Count
    memories: Annotated[tuple[Part, ...], Length("S")]

    @property
    def share(self) -> Share:
        """Its fidelity."""
        return Share(self.tasks_share, self.examples_share, self.features_share)

    def validate(self) -> None:
        """Refuses a share outside (0, 1]."""
        _ = self.share


class _Stored(NamedTuple):
    """What an `Evaluator` continues from."""

    counts: Counts
    levels: tuple[_StoredLevel, ...]

    def validate(self) -> None:
        """Refuses levels that no evaluator has."""
        shares = [level.share for level in self.levels]
        if shares[:1] != [WHOLE] or len(set(shares)) < len(shares):
            raise ValueError("levels do not begin with the whole, or have a fidelity twice")


@dataclasses.dataclass(eq=False)
class _Level:
    """One fidelity: tasks, what the stages remember there, and how many calls there were."""

    launcher: Launcher
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        tasks = self.launcher.tasks
        self.memories = [stage.memory(tasks) for stage in self.stages]
        self.examples = tasks.order.shape[0] * tasks.train_x.shape[1]
        self.calls = 0

    def restored(self, number: int, tree: Any, where: str) -> Any:
        """The memory of a stage from what was stored."""
        stage = self.stages[number]
        like = stage.memory(self.launcher.tasks)
        memory = decode(type(like), tree, where)
        stage.check(memory, like, self.calls, where)
        return memory
