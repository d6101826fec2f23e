"""Small runs that were killed, interrupted or ended, to be damaged and gone on with."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from zero_jax.program.library import load
from zero_jax.program.roles import described
from zero_jax.run.api import resume, run
from zero_jax.run.presets import PRESETS
from zero_jax.tasks.sets import TaskSet

_TASKS = TaskSet("linear", tasks=2, features=4, train=8, valid=8)

TINY = PRESETS["demo"][1].replace(search_tasks=_TASKS, select_tasks=_TASKS, unseen_tasks=_TASKS,
    islands=1, population=12, cohort=6, cache_size=64, parallel_trials=1, threads=1, train_steps=600, trials=2,
    baselines=(), candidates=2, checkpoint_seconds=0.0,
)  # fmt: skip

_OTHER_DATA = dataclasses.replace(_TASKS, train=9)

KINDS = {
    "killed": (TINY, SystemError),
    "killed, another seed": (TINY.replace(seed=5), SystemError),
    "killed, other data": (TINY.replace(search_tasks=_OTHER_DATA), SystemError),
    "killed, several searches": (
        TINY.replace(islands=4, groups=2, migrate_every=10, probe=5, hurdle_tasks=0.5),
        SystemError,
    ),
    "killed, efficient": (TINY.replace(method="efficient"), SystemError),
    "interrupted": (TINY, KeyboardInterrupt),
    "ended": (TINY, None),
}


class Run(NamedTuple):
    """The folder of a run, and what it ends as when it goes on, damaged or not."""

    folder: Path
    outcome: dict
    listing: str


def made(root):
    """The run of each kind."""
    return [_made(root / str(i), *kind) for i, kind in enumerate(KINDS.values())]


def _made(root, experiment, end):
    left = [8]

    def report(progress):
        left[0] -= 1
        if end and not left[0]:
            raise end

    try:
        run(experiment.replace(out=str(root)), report)
    except SystemError:
        assert end is SystemError
    (folder,) = root.iterdir()
    config = json.loads((folder / "config.json").read_text())
    config["config"]["output"]["checkpoint_seconds"] = 1e6  # results do not depend on it; they come sooner
    (folder / "config.json").write_text(json.dumps(config))
    whole = shutil.copytree(folder, root / "whole")
    resume(whole)
    return Run(folder, outcome_in(whole), described(load(str(whole / "best.json"))))


def copied(run, root):
    """The folder of a run once more, in place of the last such copy."""
    folder = root / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(run.folder, folder)


def outcome_in(folder):
    """What a run ended as, but for the clock."""
    outcome = json.loads((folder / "outcome.json").read_text())
    outcome["progress"].pop("seconds")
    outcome.pop("digest")  # of the clock, too
    outcome["best"] = (folder / "best.json").read_text()
    return outcome
