"""What a run tells and leaves behind: its progress and outcome, and the folder that it can be continued from."""

import dataclasses
import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import msgspec
import numpy as np
from filelock import FileLock, Timeout

import zero_jax
from zero_jax.program.programs import Programs
from zero_jax.run import schemas
from zero_jax.run.hall import Entry
from zero_jax.run.identity import Identity, binding, changes, settings_digest
from zero_jax.support import files, foreign
from zero_jax.tasks import Loss

if TYPE_CHECKING:
    from zero_jax.run.tensorboard import Curves

T = TypeVar("T")

SCHEMA = 2
"""The version of config.json: the run's identity is new in 2."""

CHECKPOINT_SCHEMA = 4
"""The version of checkpoints: halls of fame and lineages are new in 2, how long nothing was trained in 3, a digest and
the run's identity in 4."""

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
      repeated, known, equivalent, over_budget, stopped, empty: what became of the programs, in the whole run, as in
        `Counts`.
      saved_steps: training examples that need not be seen, since programs were known, over the budget or stopped early.
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
    """What a run found.

    Attributes:
      program: a batch of the one best program; None where a run was interrupted before it evaluated any.
      experiment: the number of the experiment that found it.
      search_fitness: on that experiment's T_search.
      select_fitness: on T_select; None where the run was interrupted before.
      unseen_fitness: on unseen tasks; None where the run was interrupted before.
      sufficient_fitness: what was asked for.
      solved: whether it passed that on T_select.
      interrupted: whether the run was ended by Ctrl-C or another signal.
      progress: the last there was.
      baselines: as the experiment asked for.
      loss: of T_select: what its fitness means.
      tasks: how many there are in T_search, T_select and the unseen set.
      folder: where the run was written, if anywhere.
      seeds: of the tasks and of the draws of random instructions, by role, as `zero-jax evaluate` takes them.
      timed_out: whether the run ended at its time limit.
      had_ended: whether it had ended before it was resumed.
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
    seeds: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    timed_out: bool = False
    had_ended: bool = dataclasses.field(default=False, compare=False)


# ---------------------------------------------------------------------------------------------- the folder


class RunFolder:
    """The folder of a run, locked: no two processes write one.

    It holds config.json, records.jsonl, the last checkpoints, hall.json and lineage.json, and in the end best.txt,
    best.json and outcome.json. All but the records are whole or not there; records behind the last checkpoint are cut
    off when a run is continued.

    Attributes:
      path: where it is.
      run: a name of the run that no other has.
      identity: what results depend on; checkpoints carry it.
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
        self.run = ""
        self.identity = Identity({}, {})
        self.curves: Curves | None = None
        self._next = 1 + max((_number(p) for p in self._checkpoints()), default=0)

    @classmethod
    def create(cls, experiment: dict[str, Any], identity: Identity) -> "RunFolder":
        """A new one in the folder `out` of an experiment as `dataclasses.asdict` gives it, with its configuration.

        Raises:
          ValueError: `out` is in the folder of another run.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        parent, name = Path(experiment["out"]), f"{experiment['name']}-seed{experiment['seed']}-{stamp}"
        check_out(parent)
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = parent / f"{name}{suffix}"
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                if not parent.is_dir():
                    raise
        folder = cls(path)
        folder.run = uuid.uuid4().hex
        folder.write_config(experiment, identity)
        return folder

    def write_config(self, experiment: dict[str, Any], identity: Identity) -> None:
        """Writes config.json, of a run that begins or is extended."""
        versions = {"zero_jax": zero_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}
        config = {"schema": SCHEMA, "versions": versions, "run": self.run, "experiment": experiment}
        config |= {"digest": settings_digest(experiment), "data": dict(identity.data)}
        files.write_atomically(self.path / CONFIG, json.dumps(config, indent=1) + "\n")
        self.identity = identity

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
        envelope = {"schema": CHECKPOINT_SCHEMA, "of": self.run, "identity": self.identity.tree(), "records": size}
        files.write_atomically(self.path / f"checkpoint-{self._next:06d}.npz", files.packed(envelope | {"run": tree}))
        self._next += 1
        for old in self._checkpoints()[:-KEPT]:
            old.unlink()

    def check_data(self, identity: Identity, sources: dict[str, str]) -> None:
        """Refuses to go on with other data than the run began with; `sources` says where those of each role come from.

        Raises:
          ValueError: saying which differ.
        """
        before = _config(self.path).data
        other = [role for role, digest in identity.data.items() if before.get(role) != digest]
        if other:
            those = " and ".join(f"{role} ({sources[role]})" for role in other)
            raise ValueError(
                f"the data of {those} differ from those that the run in {self.path} began with: restore them, or begin "
                "another run, since fitness on different data cannot be compared"
            )
        self.identity = identity

    def restore(self, restored: Callable[[dict[str, Any]], T]) -> T | None:
        """What `restored` makes of the tree of the last intact checkpoint of this run; None if there is no checkpoint.
        Records behind it are cut off.

        A tree that it refuses, by ValueError, is as good as a damaged one: the checkpoint before is tried.

        Raises:
          ValueError: none of them can be used, or records are missing.
        """
        found = self._checkpoints()
        unusable = []
        for path in reversed(found):
            try:
                stored = _checkpoint_in(path)
                schema = stored["schema"]
            except (ValueError, KeyError) as error:
                unusable.append(f"{path} is damaged ({error})")
                continue
            if schema != CHECKPOINT_SCHEMA:
                raise ValueError(
                    f"{path} has schema {schema}, and this version of zero-jax reads {CHECKPOINT_SCHEMA}: continue the "
                    "run with the version that began it (config.json says which)"
                )
            reason = self._foreign(stored)
            if reason:
                unusable.append(f"{path} is {reason}")
                continue
            try:
                made = restored(stored["run"])
            except ValueError as error:
                unusable.append(f"{path} is damaged ({error})")
                continue
            if unusable:
                warnings.warn(f"{'; '.join(unusable)}: going on from {path.name}", stacklevel=2)
            self._cut_records(stored["records"])
            return made
        if unusable:
            raise ValueError(f"{'; '.join(unusable)}, and there is no other checkpoint")
        self._cut_records(0)
        return None

    def _foreign(self, stored: dict[str, Any]) -> str:
        """Why a checkpoint that can be read is not one of this run; empty if it is."""
        try:
            of, identity = stored["of"], Identity(**stored["identity"])
            size = stored["records"]
            differ = changes(binding(self.identity.settings), binding(identity.settings))
            if not isinstance(size, int) or not isinstance(stored["run"], dict):
                return "damaged (it holds no run)"
        except (KeyError, TypeError, AttributeError) as error:
            return f"damaged ({error!r})"
        if of != self.run:
            return "of another run"
        if identity.data != self.identity.data:
            return "of a run on other data"
        return f"of a run with other settings ({'; '.join(differ)})" if differ else ""

    def _cut_records(self, size: int) -> None:
        records = self.path / "records.jsonl"
        if records.exists() and not records.is_file():  # a FIFO would wait for a reader
            raise ValueError(f"{records} is not a regular file")
        there = records.stat().st_size if records.exists() else 0
        if there < size:
            raise ValueError(
                f"{records} has {there:,} bytes, and its checkpoint was written after {size:,}: it was cut"
            )
        if there > size:
            os.truncate(records, size)

    def _checkpoints(self) -> list[Path]:
        return _checkpoints(self.path)

    def best(self) -> Entry | None:
        """The best program that the run has written, as outcome.json and best.json say; None where they do not.

        Files that are not as the run wrote them are left aside, with a warning.
        """
        try:
            told = foreign.read_json(self.path / "outcome.json", dict[str, Any])
            if told is None:
                return None
            text = (foreign.read_bytes(self.path / "best.json") or b"").decode()
            if told.pop("digest", None) != self._digest(told, text):
                raise ValueError("outcome.json or best.json was changed, or lacks the other")
            if not text:
                return None
            outcome, program = foreign.described_by(schemas.Outcome, told), Programs.from_json(text)
        except (ValueError, RecursionError) as error:
            name = foreign.plain(self.path)
            warnings.warn(
                f"the run goes on without the best program that {name} has: {foreign.reason(error)}", stacklevel=2
            )
            return None
        judged, number = outcome.select_fitness, outcome.experiment
        return Entry(outcome.search_fitness, 0.0, 0, program, experiment=number, select_fitness=judged)

    def was_judged(self) -> bool:
        """Whether the run has come to its end before, as outcome.json says."""
        try:
            outcome = foreign.read_json(self.path / "outcome.json", schemas.Outcome)
        except ValueError:
            return False
        return outcome is not None and not outcome.interrupted

    def _digest(self, outcome: dict[str, Any], program: str) -> str:
        """A hash of what outcome.json and best.json say, and of whose they are."""
        text = json.dumps([self.run, outcome, program], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, name: str, tree: dict[str, Any]) -> None:
        """A JSON file."""
        files.write_atomically(self.path / name, json.dumps(tree) + "\n")

    def write_outcome(self, outcome: Outcome) -> None:
        """The best program, and what is known of it."""
        program = ""
        if outcome.program is not None:
            program = outcome.program.to_json() + "\n"
            files.write_atomically(self.path / "best.txt", outcome.program.listing(0) + "\n")
            files.write_atomically(self.path / "best.json", program)
        told = {name: getattr(outcome, name) for name in (*_TOLD, "timed_out", "seeds")}
        told |= {"progress": outcome.progress._asdict(), "baselines": [b._asdict() for b in outcome.baselines]}
        told |= {"digest": self._digest(told, program)}
        files.write_atomically(self.path / "outcome.json", json.dumps(told, indent=1) + "\n")


def check_unedited(path: str | Path) -> str:
    """Refuses to go on with other settings than the run in a folder began with; returns the name of the run.

    Raises:
      ValueError: config.json is missing, damaged, of another schema, or edited.
    """
    config = _config(Path(path))
    if config.digest != settings_digest(config.experiment):
        edits = _edits(Path(path), config.experiment)
        raise ValueError(
            f"{foreign.plain(Path(path) / CONFIG)} was edited{f': {edits}' if edits else ''}. A run goes on with the "
            "settings that it began with: undo the change, or begin another run. (zero-jax search --resume RUN with "
            "--train-steps, --experiments or --time-limit extends a run.)"
        )
    return config.run


def _edits(path: Path, experiment: dict[str, Any]) -> str:
    """What was edited, as the last checkpoint that can be read knows it."""
    for checkpoint in reversed(_checkpoints(path)):
        try:
            before = _checkpoint_in(checkpoint)["identity"]["settings"]
            return "; ".join(changes(Identity.of(experiment, {}).settings, before))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return ""


def _checkpoint_in(path: Path) -> dict[str, Any]:
    """What is in a file that should be a checkpoint.

    Raises:
      ValueError: no regular file, or not what `files.packed` makes of a dict.
    """
    stored = files.unpacked(foreign.read_bytes(path, foreign.LARGEST_CHECKPOINT) or b"")
    if not isinstance(stored, dict):
        raise ValueError("it holds no run")
    return stored


def _checkpoints(path: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted((p for p in path.glob("checkpoint-*.npz") if p.stem[11:].isdecimal()), key=_number)


_TOLD = ("experiment", "search_fitness", "select_fitness", "unseen_fitness", "solved", "interrupted")


def progress_from(tree: Any) -> Progress:
    """The inverse of `Progress._asdict`, from JSON.

    Raises:
      ValueError: saying which field does not fit.
    """
    try:
        record = foreign.described_by(schemas.Record, tree)
    except ValueError as error:
        raise ValueError(f"run.progress: {error}") from None
    return Progress(**msgspec.structs.asdict(record))


def _number(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("checkpoint-"))


CONFIG = "config.json"


def check_out(out: str | Path) -> None:
    """Refuses to put the folder of a run into that of another, or where none can be made.

    Raises:
      ValueError: `out` is the folder of a run, or in one; it is not a folder, or may not be written.
    """
    for above in (Path(out).absolute(), *Path(out).absolute().parents):
        if (above / CONFIG).exists():
            name = foreign.plain(above)
            raise ValueError(
                f"out ({foreign.plain(out)}) is in the folder of a run, {name}: name a folder outside of it"
            )
    reason = _writable(Path(out))
    if reason:
        raise ValueError(f"cannot make a folder for the run in {foreign.plain(out)}: {reason}")


def _writable(out: Path) -> str:
    """Why no folder can be made in `out`; empty if one can."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"{foreign.plain(there)} is not a folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"there is no permission to write {foreign.plain(there)}"


def config_of(path: str | Path) -> dict[str, Any]:
    """The experiment that a run's folder describes, as `dataclasses.asdict` gave it.

    Raises:
      ValueError: no such folder, or one whose config.json is damaged or of another schema.
    """
    return _config(Path(path)).experiment


def _config(path: Path) -> schemas.Config:
    """All that config.json holds."""
    config = foreign.read_json(path / CONFIG, schemas.Config, SCHEMA)
    if config is None:
        raise ValueError(f"{foreign.plain(path)} is not the folder of a run: it has no {CONFIG}")
    return config


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
