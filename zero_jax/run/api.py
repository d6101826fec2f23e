"""`run` and `resume`."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from zero_jax.run import build, cautions
from zero_jax.run.config import RunConfig as RunConfig
from zero_jax.run.config import from_folder
from zero_jax.run.config_file import check_out, check_unedited
from zero_jax.run.crew import Crew, LocalCrew
from zero_jax.run.folder import RunFolder
from zero_jax.run.outcome import Outcome, Progress
from zero_jax.run.runner import Runner
from zero_jax.tasks.sets import Role


def run(config: RunConfig, report: Callable[[Progress], None] | None = None) -> Outcome:
    """Runs a search: trials, selection on T_select, a report on unseen tasks, and a folder with all of it.

    As in the demo of the original AutoML-Zero code, trials are repeated with new tasks until the best program of one
    passes the sufficient fitness on T_select. Ctrl-C, SIGTERM and SIGHUP end the run with its results so far, and a
    checkpoint.

    Args:
      config: the settings.
      report: called with the progress after every cohort, or after every round of trials that run in parallel.

    Returns:
      `Outcome`.

    Raises:
      ValueError: settings that do not go together, before anything is written.
      OSError: where the run's folder cannot be written.
    """
    if config.output.out is not None:
        check_out(config.output.out)
    return begun(config, report)


def resume(
    folder: str | Path,
    report: Callable[[Progress], None] | None = None,
    *,
    train_steps: int | None = None,
    trials: int | None = None,
    time_limit: float | None = None,
) -> Outcome:
    """Resumes a run from its last checkpoint, as if it had never been interrupted: results and records are equal to the
    bit, except for the clock.

    Args:
      folder: of the run.
      report: as in `run`.
      train_steps: a larger budget for each trial than the run began with, with which a run that had ended continues.
      trials: more trials than the run began with.
      time_limit: how many seconds the run may take, those before the interruption included; 0 for no limit.

    Raises:
      ValueError: no run's folder, one that another process is writing, edited settings, other data than the run began
        with, or damaged files, by name.
    """
    extension = Extension(train_steps, trials, time_limit)
    return resumed(folder, report, LocalCrew, extension)


class Extension(NamedTuple):
    """What a resumed run gets more of; None leaves it as it was."""

    train_steps: int | None = None
    trials: int | None = None
    time_limit: float | None = None

    def applied(self, config: RunConfig) -> RunConfig:
        """The config, extended.

        Raises:
          ValueError: fewer train steps or trials than before.
        """
        new = {name: value for name, value in self._asdict().items() if value is not None}
        for name, value in new.items():
            before = getattr(config.schedule, name)
            unlimited = name == "trials" and not value
            if name != "time_limit" and not unlimited and (value < before or (name == "trials" and not before)):
                lower = f"{value} would lower it from {before}"
                lower = lower if before else f"this run has no limit, so {value} would lower it"
                raise ValueError(f"{name} can only be raised: {lower}")
        return config.replace(**new)


Report = Callable[[Progress], None]
Crews = Callable[[RunConfig], Crew]


def begun(config: RunConfig, report: Report | None = None, crew: Crews = LocalCrew) -> Outcome:
    """`run`, by workers of any kind."""
    runner = Runner(config, report, crew)
    for caution in cautions.of(runner.config, runner.search_tasks):
        warnings.warn(caution, stacklevel=3)
    runner.load()
    if runner.config.output.out is not None:
        runner.folder = RunFolder.create(runner.config.tree(), runner.identity)
        for role in get_args(Role):
            getattr(runner.config.tasks, role).write(runner.folder.path)
    return runner.run()


def resumed(folder: str | Path, report: Report | None, crew: Crews, extension: Extension) -> Outcome:
    """`resume`, by workers of any kind."""
    run = check_unedited(folder)
    before = build.self_contained(from_folder(folder), folder)
    opened = RunFolder(Path(folder))
    try:
        opened.run = run
        runner = Runner(extension.applied(before), report, crew)
        runner.extended = runner.config != before
        sources = {f"{role}_tasks": getattr(before.tasks, role).source for role in get_args(Role)}
        opened.check_data(runner.identity, sources)
        runner.load()
        unused, began = [runner], runner.began

        def restored(tree: dict[str, Any]) -> Runner:
            one = unused.pop() if unused else Runner(extension.applied(before), report, crew)
            one.extended, one.began, one.written = runner.extended, began, runner.written
            one.restore(tree)
            return one

        runner = opened.restore(restored) or runner
        runner.folder, runner.was_judged = opened, opened.was_judged()
        runner.judge.take_earlier(opened.best())
        if runner.extended:
            opened.write_config(runner.config.tree(), runner.identity)
    except BaseException:
        opened.close()
        raise
    return runner.run()
