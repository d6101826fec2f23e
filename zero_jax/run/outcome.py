"""What a run reports: its progress, and its outcome."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zero_jax.program.programs import Programs
from zero_jax.run import schemas
from zero_jax.support import foreign
from zero_jax.tasks import Loss


class Progress(NamedTuple):
    """How far a run has come; also a line of records.jsonl.

    Attributes:
      trial: the number of the trial, from 1.
      evaluations: programs whose fitness on T_search was asked for, in the whole run.
      trained: those of them that were trained, because no equal one was known.
      train_steps: training examples that these saw.
      seconds: since the run began.
      best_fitness: the best on T_search in this trial.
      repeated, known, equivalent, over_budget, stopped, empty: what became of the programs in the whole run, as in
        `Counts`.
      saved_steps: training examples that need not be seen, since programs were known, over the budget or stopped early.
      quantiles: of the population's fitness: least, quarter, median, three quarters, greatest.
      islands: the same, island by island.
      diversity: the share of the population's programs that do something of their own (canonical forms).
      lost: how many workers of Ray were lost and started again, in the whole run.
      exhausted: how many trials ended since their search stalled or found nothing new to train.
    """

    trial: int
    evaluations: int
    trained: int
    train_steps: int
    seconds: float
    best_fitness: float
    repeated: int = 0
    known: int = 0
    equivalent: int = 0
    over_budget: int = 0
    stopped: int = 0
    empty: int = 0
    saved_steps: int = 0
    quantiles: tuple[float, ...] = ()
    islands: tuple[tuple[float, ...], ...] = ()
    diversity: float = 0.0
    lost: int = 0
    exhausted: int = 0


QUANTILES = ("least", "quarter", "median", "three_quarters", "greatest")
"""What the quantiles of a record are called."""

COUNTED = ("repeated", "known", "equivalent", "over_budget", "stopped", "empty")
"""The fields of a record that count programs, under the names that `Counts` has for them."""


class Baseline(NamedTuple):
    """A hand-written program on the same tasks."""

    name: str
    learning_rate: float
    search_fitness: float
    select_fitness: float
    unseen_fitness: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
      program: a batch of the one best program; None where a run was interrupted before it evaluated any.
      trial: the number of the trial that it comes from.
      search_fitness: on that trial's T_search.
      select_fitness: on T_select; None where the run was interrupted before.
      unseen_fitness: on unseen tasks; None where the run was interrupted before.
      sufficient_fitness: the target on T_select.
      solved: whether it passed that on T_select.
      interrupted: whether the run was ended by Ctrl-C or another signal.
      progress: the last there was.
      baselines: as the config asked for.
      references: fitness on the unseen tasks of the best affine fit (regression only) and of the baselines, by name.
      loss: of T_select: what its fitness means.
      tasks: how many there are in T_search, T_select and the unseen set.
      folder: where the run was written, if anywhere.
      seeds: of the tasks and of the draws of random instructions, by role, as `zero-jax evaluate` takes them.
      timed_out: whether the run ended at its time limit.
      had_ended: whether it had ended before it was resumed.
    """

    program: Programs | None
    trial: int
    search_fitness: float
    select_fitness: float | None
    unseen_fitness: float | None
    sufficient_fitness: float
    solved: bool
    interrupted: bool
    progress: Progress
    baselines: tuple[Baseline, ...]
    references: dict[str, float]
    loss: Loss
    tasks: tuple[int, int, int]
    folder: Path | None
    seeds: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    timed_out: bool = False
    had_ended: bool = dataclasses.field(default=False, compare=False)


def progress_from(tree: Any, where: str) -> Progress:
    """The inverse of `Progress._asdict`, from JSON; errors call it `where`.

    Raises:
      ValueError: saying which field does not fit.
    """
    try:
        record = foreign.described_by(schemas.Record, tree)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Progress(**msgspec.structs.asdict(record))
