"""`RunFolder`: the folder of a run, locked."""

import hashlib
import json
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from zero_jax.program.programs import Programs
from zero_jax.run import config_file, records, schemas
from zero_jax.run.checkpoint import Checkpoints
from zero_jax.run.hall import Entry
from zero_jax.run.identity import Identity
from zero_jax.run.outcome import Outcome, Progress
from zero_jax.support import files, foreign

if TYPE_CHECKING:
    from zero_jax.run.tensorboard import Curves

T = TypeVar("T")

_FIELDS = ("trial", "search_fitness", "select_fitness", "unseen_fitness", "solved", "interrupted", "references")
"""What outcome.json holds of an outcome as it is."""


class RunFolder:
    """The folder of a run, locked: no two processes write one.

    It holds config.json, records.jsonl, the last checkpoints, hall.json and lineage.json, and in the end best.txt,
    best.json and outcome.json. All but the records are complete or absent; records behind the last checkpoint are cut
    off when a run is resumed.

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
        self._checkpoints = Checkpoints(path)

    @classmethod
    def create(cls, config: dict[str, Any], identity: Identity) -> "RunFolder":
        """A new one in the folder `out` of a config, as `RunConfig.tree` gives it.

        Raises:
          ValueError: `out` is in the folder of another run.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        parent, name = Path(config["output"]["out"]), f"{config['name']}-seed{config['seed']}-{stamp}"
        config_file.check_out(parent)
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = parent / f"{name}{suffix}"
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                if not parent.is_dir():
                    raise
            except OSError as error:
                what = f"cannot create the folder of the run: {error.strerror}"
                raise OSError(error.errno, what, str(path)) from error
        folder = cls(path)
        folder.run = uuid.uuid4().hex
        folder.write_config(config, identity)
        return folder

    def write_config(self, config: dict[str, Any], identity: Identity) -> None:
        """Writes config.json, of a run that begins or is extended."""
        config_file.write(self.path, self.run, config, identity)
        self.identity = identity

    def close(self) -> None:
        """Unlocks it."""
        self._lock.release()
        if self.curves:
            self.curves.close()

    def record(self, progress: Progress) -> None:
        """Adds a line to records.jsonl."""
        records.append(self.path, progress)
        if self.curves:
            self.curves.add(progress)

    def checkpoint(self, tree: dict[str, Any]) -> None:
        """Writes what the run is resumed from, a tree as `files.packed` takes it."""
        self._checkpoints.write(self.run, self.identity, tree)

    def check_data(self, identity: Identity, sources: dict[str, str]) -> None:
        """Refuses to resume a run with other data than it began with; `sources` says where each role's come from.

        Raises:
          ValueError: saying which differ.
        """
        before = config_file.read(self.path).data
        other = [role for role, digest in identity.data.items() if before.get(role) != digest]
        if other:
            those = " and ".join(f"{role} ({sources[role]})" for role in other)
            raise ValueError(
                f"the data of {those} differ from those that the run in {self.path} began with: restore them, or begin "
                "another run, since fitness on different data cannot be compared"
            )
        self.identity = identity

    def restore(self, restored: Callable[[dict[str, Any]], T]) -> T | None:
        """As `Checkpoints.restore`, of this run."""
        return self._checkpoints.restore(self.run, self.identity, restored)

    def best(self) -> Entry | None:
        """The best program that the run has written, as outcome.json and best.json say; None where they do not.

        Files that are not as the run wrote them are ignored, with a warning.
        """
        try:
            stored = foreign.read_json(self.path / "outcome.json", dict[str, Any])
            if stored is None:
                return None
            text = (foreign.read_bytes(self.path / "best.json") or b"").decode()
            if stored.pop("digest", None) != self._digest(stored, text):
                raise ValueError("outcome.json or best.json was changed, or lacks the other")
            if not text:
                return None
            outcome, program = foreign.described_by(schemas.Outcome, stored), Programs.from_json(text)
        except (ValueError, RecursionError) as error:
            name = foreign.plain(self.path)
            warnings.warn(
                f"the run continues without the best program that {name} has: {foreign.reason(error)}", stacklevel=2
            )
            return None
        judged, number = outcome.select_fitness, outcome.trial
        return Entry(outcome.search_fitness, 0.0, 0, program, trial=number, select_fitness=judged)

    def was_judged(self) -> bool:
        """Whether the run has come to its end before, as outcome.json says."""
        try:
            outcome = foreign.read_json(self.path / "outcome.json", schemas.Outcome)
        except ValueError:
            return False
        return outcome is not None and not outcome.interrupted

    def _digest(self, outcome: dict[str, Any], program: str) -> str:
        """A hash of what outcome.json and best.json say, and of the run they belong to."""
        text = json.dumps([self.run, outcome, program], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, name: str, tree: dict[str, Any]) -> None:
        """Writes a JSON file."""
        files.write_atomically(self.path / name, json.dumps(tree) + "\n")

    def write_outcome(self, outcome: Outcome) -> None:
        """Writes the best program, and what is known of it."""
        program = ""
        if outcome.program is not None:
            program = outcome.program.to_json() + "\n"
            files.write_atomically(self.path / "best.txt", outcome.program.listing(0) + "\n")
            files.write_atomically(self.path / "best.json", program)
        fields = {name: getattr(outcome, name) for name in (*_FIELDS, "timed_out", "seeds")}
        fields |= {"progress": outcome.progress._asdict(), "baselines": [b._asdict() for b in outcome.baselines]}
        fields |= {"digest": self._digest(fields, program)}
        files.write_atomically(self.path / "outcome.json", json.dumps(fields, indent=1) + "\n")
