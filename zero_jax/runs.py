"""What a run tells and leaves behind: its progress and outcome, and the folder that it can be continued from."""

import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import msgspec
import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

import zero_jax
from zero_jax import files, foreign, listing, schemas
from zero_jax.programs import Programs
from zero_jax.tasks import Loss

if TYPE_CHECKING:
    from zero_jax.tensorboard import Curves

SCHEMA = 1
"""The version of config.json."""

CHECKPOINT_SCHEMA = 3
"""The version of checkpoints: halls of fame and lineages are new in 2, how long nothing was trained in 3."""

KEPT = 2
"""How many checkpoints a folder keeps: the last, and the one before it, should the last be damaged."""


class Progress(NamedTuple):
    """How far a run has come; also a line of records.jsonl.

    Attributes:
      experiment: the number of the experiment, from 1.
      evaluations: programs whose fitness on T_search was asked for, in the whole run.
      trained: those of them that were trained, because no equal one was known.
      train_steps: training examples that these saw.
      seconds: since the run began.
      best_fitness: the best on T_search in this experiment.
      repeated, known, alike, too_dear, stopped, empty: what became of the programs, in the whole run, as in `Counts`.
      saved_steps: training examples that need not be seen, since programs were known, too dear or stopped early.
      quantiles: of the population's fitness: least, quarter, median, three quarters, greatest.
      islands: the same, island by island.
      diversity: the share of the population's programs that do something of their own (canonical forms).
      lost: how many actors of Ray were lost and started again, in the whole run.
      exhausted: how many experiments ended since their search found nothing new to train.
    """

    experiment: int
    evaluations: int
    trained: int
    train_steps: int
    seconds: float
    best_fitness: float
    repeated: int = 0
    known: int = 0
    alike: int = 0
    too_dear: int = 0
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

COUNTED = ("repeated", "known", "alike", "too_dear", "stopped", "empty")
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


# ---------------------------------------------------------------------------------------------- the folder


class RunFolder:
    """The folder of a run, locked: no two processes write one.

    It holds config.json, records.jsonl, the last checkpoints, hall.json and lineage.json, and in the end best.txt,
    best.json and outcome.json. All but the records are whole or not there; records behind the last checkpoint are cut
    off when a run is continued.

    Attributes:
      path: where it is.
      curves: what draws every record for TensorBoard, if anything does; closed with the folder.

    Raises:
      ValueError: a folder that another process is writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"{path} is being written by another process: wait for it, or end it") from None
        self.curves: Curves | None = None
        self._next = 1 + max((_number(p) for p in self._checkpoints()), default=0)

    @classmethod
    def create(cls, out: str, name: str, seed: int, experiment: dict[str, Any]) -> "RunFolder":
        """A new one in `out`, with its configuration."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        parent = Path(out)
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = parent / f"{name}-seed{seed}-{stamp}{suffix}"
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                if not parent.is_dir():
                    raise
        versions = {"zero_jax": zero_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}
        config = {"schema": SCHEMA, "versions": versions, "experiment": experiment}
        files.write_atomically(path / "config.json", json.dumps(config, indent=1) + "\n")
        return cls(path)

    def close(self) -> None:
        """Lets others write it."""
        self._lock.release()
        if self.curves:
            self.curves.close()

    def record(self, progress: Progress) -> None:
        """Appends a line to records.jsonl."""
        with open(self.path / "records.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(progress._asdict()) + "\n")
        if self.curves:
            self.curves.add(progress)

    def checkpoint(self, tree: dict[str, Any]) -> None:
        """Writes what the run continues from, a tree as `files.packed` takes it."""
        records = self.path / "records.jsonl"
        size = records.stat().st_size if records.exists() else 0
        packed = files.packed({"schema": CHECKPOINT_SCHEMA, "records": size, "run": tree})
        files.write_atomically(self.path / f"checkpoint-{self._next:06d}.npz", packed)
        self._next += 1
        for old in self._checkpoints()[:-KEPT]:
            old.unlink()

    def restore(self) -> dict[str, Any] | None:
        """The tree of the last checkpoint that can be read, if there is one; records behind it are cut off.

        Raises:
          ValueError: none of them can be read, or records are missing.
        """
        found = self._checkpoints()
        damaged = []
        for path in reversed(found):
            try:
                stored = files.unpacked(path.read_bytes())
            except ValueError as error:
                damaged.append(f"{path} is damaged ({error})")
                continue
            if stored.get("schema") != CHECKPOINT_SCHEMA:
                raise ValueError(
                    f"{path} has schema {stored.get('schema')}, and this version of zero-jax reads "
                    f"{CHECKPOINT_SCHEMA}: continue the run with the version that began it (config.json says which)"
                )
            if damaged:
                warnings.warn(f"{'; '.join(damaged)}: going on from {path.name}", stacklevel=2)
            self._cut_records(stored["records"])
            return stored["run"]
        if damaged:
            raise ValueError(f"{'; '.join(damaged)}, and there is no other checkpoint")
        self._cut_records(0)
        return None

    def _cut_records(self, size: int) -> None:
        records = self.path / "records.jsonl"
        there = records.stat().st_size if records.exists() else 0
        if there < size:
            raise ValueError(
                f"{records} has {there:,} bytes, and its checkpoint was written after {size:,}: it was cut"
            )
        if there > size:
            os.truncate(records, size)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-*.npz"), key=_number)

    def write(self, name: str, tree: dict[str, Any]) -> None:
        """A JSON file."""
        files.write_atomically(self.path / name, json.dumps(tree) + "\n")

    def write_outcome(self, outcome: Outcome) -> None:
        """The best program, and what is known of it."""
        if outcome.program is not None:
            files.write_atomically(self.path / "best.txt", outcome.program.listing(0) + "\n")
            files.write_atomically(self.path / "best.json", listing.to_json(outcome.program) + "\n")
        told = {
            name: getattr(outcome, name)
            for name in ("experiment", "search_fitness", "select_fitness", "unseen_fitness", "solved", "interrupted")
        }
        told |= {"progress": outcome.progress._asdict(), "baselines": [b._asdict() for b in outcome.baselines]}
        files.write_atomically(self.path / "outcome.json", json.dumps(told, indent=1) + "\n")


def _number(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("checkpoint-"))


def config_of(path: str | Path) -> dict[str, Any]:
    """The experiment that a run's folder describes, as `dataclasses.asdict` gave it.

    Raises:
      ValueError: no such folder, or one whose config.json is damaged or of another schema.
    """
    file = Path(path) / "config.json"
    config = foreign.read_json(file, schemas.Config, SCHEMA)
    if config is None:
        raise ValueError(f"{foreign.plain(path)} is not the folder of a run: it has no config.json")
    return config.experiment


def records_of(path: str | Path) -> list[Progress]:
    """The records in a run's folder, but for a last line that is not whole: its process was killed, or is writing it.

    Raises:
      ValueError: a damaged file.
    """
    file = Path(path) / "records.jsonl"
    lines = (foreign.read_bytes(file, foreign.LARGEST_RECORDS) or b"").split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = foreign.described_by(schemas.Record, foreign.parsed(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{foreign.plain(file)}, line {number}, is damaged: {foreign.reason(error)}") from None
        records.append(Progress(**msgspec.structs.asdict(record)))
    return records


# ---------------------------------------------------------------------------------------------- progress


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
