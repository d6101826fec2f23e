"""`Judge`: which of a run's programs are the best, on T_select, and what they are worth on unseen tasks."""

from collections.abc import Sequence

import numpy as np

from zero_jax.program import library
from zero_jax.program.memory import Interface
from zero_jax.program.programs import concatenate
from zero_jax.run import build
from zero_jax.run.build import LEARNING_RATES
from zero_jax.run.config import RunConfig
from zero_jax.run.hall import Entry, HallOfFame, merged
from zero_jax.run.outcome import Baseline
from zero_jax.search import Best
from zero_jax.tasks import Tasks
from zero_jax.tasks.references import affine_fitness

MOST_FEATURES = 1_024
"""Up to how many features the affine fit is made: it takes time in their square."""


class Judge:
    """The best programs of a run so far.

    Args:
      config: of the run.
      search_tasks: T_search of its first trial.
      select_tasks: T_select.

    Attributes:
      best: of those judged on T_select, or else the first candidates; None before there are any.
      earlier: the best that the run had written before it was resumed, if it has not met it again.
      hall: the hall of fame of the trials that have ended.
      unseen: fitness of the best on unseen tasks, once it is known.
      baselines: hand-written programs on the same tasks.
      references: fitness on unseen tasks of others, by name: the best affine fit, for regression, and the baselines.
      target: the fitness on T_select that is sufficient.
    """

    def __init__(self, config: RunConfig, search_tasks: Tasks, select_tasks: Tasks) -> None:
        self.config = config
        self.search_tasks = search_tasks
        self.select_tasks = select_tasks
        self.best: Entry | None = None
        self.earlier: Entry | None = None
        self.hall: list[Entry] = []
        self.unseen: float | None = None
        self.baselines: tuple[Baseline, ...] = ()
        self.references: dict[str, float] = {}
        self.target = build.target(config, select_tasks)

    @property
    def solved(self) -> bool:
        """Whether the best is good enough on T_select."""
        return self.is_sufficient(self.best)

    def is_sufficient(self, best: Entry | None) -> bool:
        """Whether a program is good enough on T_select."""
        fitness = best.select_fitness if best else None
        return fitness is not None and fitness > self.target

    def select(self, number: int, candidates: Sequence[Entry], entries: Sequence[Entry]) -> None:
        """Judges the candidates of a trial on T_select, and takes its entries into the hall of fame."""
        candidates, entries = ([one._replace(trial=number) for one in some] for some in (candidates, entries))
        if self.best is None:  # stands, unjudged, should Ctrl-C come (again) before the judgement
            self.best = max(candidates, key=lambda entry: entry.fitness)
        programs = concatenate([entry.program for entry in candidates])
        scores = build.fitness(self.config, programs, self.select_tasks, "select").tolist()
        judged = [entry._replace(select_fitness=score) for entry, score in zip(candidates, scores, strict=True)]
        known = {(entry.fitness, entry.cost) for entry in judged}
        entries = judged + [entry for entry in entries if (entry.fitness, entry.cost) not in known]
        self.hall = [entry for entry, _, _ in merged([*self.hall, *entries])]
        best = max(judged, key=lambda entry: entry.select_fitness or 0.0)  # of equals, the fitter on T_search
        before = self.best.select_fitness
        if before is None or (best.select_fitness or 0.0) > before:
            self.best = best

    def take_earlier(self, earlier: Entry | None) -> None:
        """Keeps the best program that the run had written before, in case it does not come to it again."""
        if earlier is None or earlier.program.memory != self.config.searcher.space.memory:
            return
        evaluator = build.evaluator(self.config, self.search_tasks, "search")
        interface = Interface.of(earlier.program.memory, self.search_tasks)
        hall = HallOfFame(evaluator.examples, evaluator.costs, interface=interface)
        entry = hall.entry(Best(earlier.program, earlier.fitness, earlier.evaluations))
        self.earlier = earlier._replace(cost=entry.cost)

    def best_of_all(self, under_way: Sequence[Entry]) -> Entry | None:
        """The best program, including one that the run had before it was interrupted and has not met again.

        Args:
          under_way: what trials under way have for the hall of fame.
        """
        best = self.best or max(under_way, key=lambda entry: entry.fitness, default=None)
        if self.earlier is None or best is None:
            return best or self.earlier
        return self.earlier if _rank(self.earlier) > _rank(best) else best

    def report(self, best: Entry) -> None:
        """Evaluates the best program, and the baselines, on unseen tasks."""
        unseen = build.tasks(self.config, "unseen")
        self.unseen = float(build.fitness(self.config, best.program, unseen, "unseen")[0])
        search_tasks = build.tasks(self.config, "search", best.trial)
        self.baselines = tuple(self._baseline(name, search_tasks, unseen) for name in self.config.output.baselines)
        regression = unseen.loss == "rmse" and not unseen.vector_labels and unseen.features <= MOST_FEATURES
        affine = {"affine least squares": affine_fitness(unseen)} if regression else {}
        self.references = affine | {one.name: one.unseen_fitness for one in self.baselines}

    def _baseline(self, name: str, search_tasks: Tasks, unseen: Tasks) -> Baseline:
        programs = concatenate([library.baseline(name, search_tasks, learning_rate=rate) for rate in LEARNING_RATES])
        scores = build.fitness(self.config, programs, search_tasks, "search")
        winner = int(np.argmax(scores))
        select = build.fitness(self.config, programs[winner], self.select_tasks, "select")
        final = build.fitness(self.config, programs[winner], unseen, "unseen")
        return Baseline(name, LEARNING_RATES[winner], float(scores[winner]), float(select[0]), float(final[0]))


def _rank(entry: Entry) -> tuple[bool, float, float]:
    """What makes one best program better than another: T_select, if they were judged there."""
    return entry.select_fitness is not None, entry.select_fitness or 0.0, entry.fitness
