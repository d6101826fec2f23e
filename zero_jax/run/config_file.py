"""config.json: the settings of a run, by which it is resumed."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

import zero_jax
from zero_jax.run import checkpoint, schemas
from zero_jax.run.identity import Identity, settings_digest
from zero_jax.support import files, foreign

CONFIG = "config.json"

SCHEMA = 3
"""The version of config.json: settings are in groups since 3."""


def write(folder: Path, run: str, config: dict[str, Any], identity: Identity) -> None:
    """Writes config.json, of a run that begins or is extended."""
    versions = {"zero_jax": zero_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}
    whole = {"schema": SCHEMA, "versions": versions, "run": run, "config": config}
    whole |= {"digest": settings_digest(config), "data": dict(identity.data)}
    files.write_atomically(folder / CONFIG, json.dumps(whole, indent=1) + "\n")


def read(folder: str | Path) -> schemas.Config:
    """All that config.json holds.

    Raises:
      ValueError: no such folder, or one whose config.json is damaged or of another schema.
    """
    config = foreign.read_json(Path(folder) / CONFIG, schemas.Config, SCHEMA)
    if config is None:
        raise ValueError(f"{foreign.plain(folder)} is not the folder of a run: it has no {CONFIG}")
    return config


def config_of(folder: str | Path) -> dict[str, Any]:
    """The config of a run, as `RunConfig.tree` gave it. Raises as `read` does."""
    return read(folder).config


def check_unedited(folder: str | Path) -> str:
    """Refuses to resume a run with other settings than it began with; returns the name of the run.

    Raises:
      ValueError: config.json is missing, damaged, of another schema, or edited.
    """
    stored = read(folder)
    if stored.digest != settings_digest(stored.config):
        edits = checkpoint.edits(Path(folder), stored.config)
        raise ValueError(
            f"{foreign.plain(Path(folder) / CONFIG)} was edited{f': {edits}' if edits else ''}. A run is resumed with "
            "the settings that it began with: undo the change, or begin another run. (zero-jax resume RUN with "
            "--train-steps, --trials or --time-limit extends a run.)"
        )
    return stored.run


def check_out(out: str | Path) -> None:
    """Refuses to put the folder of a run into that of another, or where none can be created.

    Raises:
      ValueError: `out` is the folder of a run, or in one; it is not a folder, or may not be written.
    """
    for above in (Path(out).absolute(), *Path(out).absolute().parents):
        if (above / CONFIG).exists():
            name = foreign.plain(above)
            raise ValueError(
                f"out ({foreign.plain(out)}) is in the folder of a run, {name}: name a folder outside of it"
            )
    reason = _unwritable(Path(out))
    if reason:
        raise ValueError(f"cannot make a folder for the run in {foreign.plain(out)}: {reason}")


def _unwritable(out: Path) -> str:
    """Why no folder can be created in `out`; empty if one can."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"{foreign.plain(there)} is not a folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"there is no permission to write {foreign.plain(there)}"
