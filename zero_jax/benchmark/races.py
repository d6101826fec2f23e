"""Searchers on a table: how many evaluations each takes to its best program, over many seeds."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from zero_jax.benchmark.table import SPACE, Table, load
from zero_jax.run.searchers import settings
from zero_jax.search import SEARCHERS, Searcher
from zero_jax.support.bounds import check_number
from zero_jax.support.foreign import expected, shown

NEAR = 1e-3
"""How near to the best fitness of the table a program has to be."""

POPULATION, COHORT = 100, 10
"""Sizes of searchers that have them: a table has some 160,000 programs."""

CHECKPOINTS = (100, 1_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Race:
    """How one searcher did on a table.

    Attributes:
      method: its name.
      solved: for each seed, how many evaluations it took to come within `NEAR` of the best program; None for never.
      regret: for each of `CHECKPOINTS` within the budget, the mean distance to the best fitness after that many
        evaluations.
      seconds: of all seeds together.
      evaluations: of all seeds together.
    """

    method: str
    solved: tuple[int | None, ...]
    regret: dict[int, float]
    seconds: float
    evaluations: int

    @property
    def median(self) -> float:
        """The median number of evaluations, infinite if half of the seeds or more never got there."""
        return float(np.median([np.inf if one is None else one for one in self.solved]))


def searcher(method: str, **changes: Any) -> Searcher:
    """The searcher of a method, in the space of the tables and with sizes that suit it.

    Raises:
      ValueError: an unknown method, or one that a table cannot serve.
    """
    if method not in SEARCHERS:
        raise ValueError(f"unknown method {shown(method)}: {expected(method, SEARCHERS)}")
    kind: Any = SEARCHERS[method]
    sizes = {"population": POPULATION, "cohort": COHORT, "proposals": POPULATION}
    given = {name: size for name, size in sizes.items() if name in settings(kind)}
    adapted = kind.adapted({"space": SPACE} | given | changes)
    if adapted["space"] != SPACE:
        raise ValueError(f"{method} searches a space of initial values, which no table has")
    one: Searcher = kind(**adapted)
    asked = one.ask(one.init(0))[1]
    if asked.keeps_memory or asked.relaxed is not None:
        raise ValueError(f"{method} needs training itself, not only its result, so that a table does not serve it")
    return one


def methods() -> list[str]:
    """The methods that a table serves, of those that can be created here."""
    fitting = []
    for method in SEARCHERS:
        try:
            searcher(method)
        except ValueError:
            continue
        fitting.append(method)
    return fitting


def race(table: Table | str, one: Searcher, seeds: Sequence[int], evaluations: int = 10_000) -> Race:
    """Runs a searcher once for each seed, until it is within `NEAR` of the best program or has spent its evaluations.

    Example:
      >>> result = race("linear", searcher("random"), seeds=[0, 1], evaluations=1000)
      >>> len(result.solved), sorted(result.regret)
      (2, [100, 1000])
    """
    check_number("evaluations", evaluations)
    table = load(table) if isinstance(table, str) else table
    goal, began = table.best - NEAR, time.monotonic()
    checkpoints = [at for at in CHECKPOINTS if at <= evaluations]
    solved: list[int | None] = []
    regrets, spent = np.zeros((len(seeds), len(checkpoints))), 0
    for row, seed in enumerate(seeds):
        evaluator, state = table.evaluator(), one.init(seed)
        passed = 0
        while state.evaluations < evaluations and state.best_fitness < goal and not one.exhausted(state):
            state, candidates = one.ask(state)
            before = state.best_fitness
            state = one.tell(state, candidates, evaluator(candidates))
            while passed < len(checkpoints) and state.evaluations > checkpoints[passed]:
                regrets[row, passed] = table.best - max(0.0, before)
                passed += 1
        regrets[row, passed:] = table.best - state.best_fitness
        reached = state.best is not None and state.best_fitness >= goal
        solved.append(state.best.evaluations if reached else None)
        spent += state.evaluations
    regret = dict(zip(checkpoints, regrets.mean(0).tolist(), strict=True))
    method = next(name for name, kind in SEARCHERS.items() if kind is type(one))
    return Race(method, tuple(solved), regret, time.monotonic() - began, spent)
