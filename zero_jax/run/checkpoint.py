"""Checkpoints: what a run is resumed from. A folder keeps the last two, should the last be damaged."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from zero_jax.run import records
from zero_jax.run.identity import Identity, binding, changes
from zero_jax.support import files, foreign

T = TypeVar("T")

SCHEMA = 7
"""The version of checkpoints: trials were called experiments before 5, and mutation types had no credit before 6."""

KEPT = 2
"""How many checkpoints a folder keeps."""


class Checkpoints:
    """The checkpoints in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._next = 1 + max(map(_number, paths(folder)), default=0)

    def write(self, run: str, identity: Identity, tree: dict[str, Any]) -> None:
        """Writes a checkpoint.

        Args:
          run: the name of the run.
          identity: what its results depend on.
          tree: what it is resumed from, as `files.packed` takes it.
        """
        size = records.size(self.folder)
        stored = {"schema": SCHEMA, "of": run, "identity": identity.tree(), "records": size, "run": tree}
        files.write_atomically(self.folder / f"checkpoint-{self._next:06d}.npz", files.packed(stored))
        self._next += 1
        for old in paths(self.folder)[:-KEPT]:
            old.unlink()

    def restore(self, run: str, identity: Identity, restored: Callable[[dict[str, Any]], T]) -> T | None:
        """What `restored` makes of the tree of the last intact checkpoint of a run; None if there is no checkpoint.
        Records behind it are cut off.

        A tree that it refuses, by ValueError, counts as damaged: the checkpoint before is tried.

        Raises:
          ValueError: none of them can be used, or records are missing.
        """
        unusable: list[str] = []
        for path in reversed(paths(self.folder)):
            try:
                stored = read(path)
                schema = stored["schema"]
            except (ValueError, KeyError) as error:
                unusable.append(f"{path} is damaged ({error})")
                continue
            if schema != SCHEMA:
                raise ValueError(
                    f"{path} has schema {schema}, and this version of zero-jax reads {SCHEMA}: resume the run with the "
                    "version that began it (config.json says which)"
                )
            try:
                reason = _foreign(stored, run, identity)
                if not reason:
                    made = restored(stored["run"])
                    if unusable:
                        warnings.warn(f"{'; '.join(unusable)}: going on from {path.name}", stacklevel=2)
            except ValueError as error:
                reason = f"damaged ({error})"
            if not reason:
                records.cut(self.folder, stored["records"])
                return made
            unusable.append(f"{path} is {reason}")
        if unusable:
            raise ValueError(f"{'; '.join(unusable)}, and there is no other checkpoint")
        records.cut(self.folder, 0)
        return None


def _foreign(stored: dict[str, Any], run: str, identity: Identity) -> str:
    """Why a checkpoint that can be read is not one of this run; empty if it is."""
    try:
        of, other = stored["of"], Identity(**stored["identity"])
        differ = changes(binding(identity.settings), binding(other.settings))
        if not isinstance(stored["records"], int) or not isinstance(stored["run"], dict):
            return "damaged (it holds no run)"
    except (KeyError, TypeError, AttributeError) as error:
        return f"damaged ({error!r})"
    if of != run:
        return "of another run"
    if other.data != identity.data:
        return "of a run on other data"
    return f"of a run with other settings ({'; '.join(differ)})" if differ else ""


def edits(folder: Path, config: dict[str, Any]) -> str:
    """What was edited in a config since the last checkpoint that can be read; empty where none can."""
    for path in reversed(paths(folder)):
        try:
            before = read(path)["identity"]["settings"]
            return "; ".join(changes(Identity.of(config, {}).settings, before))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return ""


def read(path: Path) -> dict[str, Any]:
    """What is in a checkpoint, unchecked.

    Raises:
      ValueError: not a regular file, or not what `files.packed` makes of a dict.
    """
    stored = files.unpacked(foreign.read_bytes(path, foreign.LARGEST_CHECKPOINT) or b"")
    if not isinstance(stored, dict):
        raise ValueError("it holds no run")
    return stored


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted((p for p in folder.glob("checkpoint-*.npz") if p.stem[11:].isdecimal()), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint-"))
