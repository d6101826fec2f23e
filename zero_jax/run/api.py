"""`run` and `resume`: an `Experiment` carried out, or gone on with."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from zero_jax.run import cautions
from zero_jax.run.config import Experiment as Experiment
from zero_jax.run.config import from_folder
from zero_jax.run.folder import Outcome, Progress, RunFolder, check_out, check_unedited
from zero_jax.run.runner import Runner
from zero_jax.tasks.sets import Role


def run(experiment: Experiment, report: Callable[[Progress], None] | None = None) -> Outcome:
    """Carries an experiment out: searches, selects, reports on unseen tasks, and writes what it found.

    As upstream's demo: experiments are repeated with new tasks until the best program of one passes the sufficient
    fitness on T_select (SPEC 4). Ctrl-C, SIGTERM and SIGHUP end the run with what was found so far, and a checkpoint.

    Args:
      experiment: what to do.
      report: called with the progress after every cohort, or after every round of experiments that run side by side.

    Returns:
      `Outcome`.

    Raises:
      ValueError: settings that do not go together, before anything is written.
      OSError: where the run's folder cannot be written.
    """
    if experiment.out is not None:
        check_out(experiment.out)
    return begun(Runner(experiment, report))


def resume(
    folder: str | Path,
    report: Callable[[Progress], None] | None = None,
    *,
    train_steps: int | None = None,
    experiments: int | None = None,
    time_limit: float | None = None,
) -> Outcome:
    """Goes on with a run from its last checkpoint, as if it had never been interrupted: what it finds and records is
    equal to the bit, but for the clock.

    Args:
      folder: of the run.
      report: as in `run`.
      train_steps: a larger budget for each experiment than the run began with; a run that had ended goes on.
      experiments: more experiments, likewise.
      time_limit: how many seconds the run may take, those before the interruption included; 0 for no limit.

    Raises:
      ValueError: no run's folder, one that another process is writing, edited settings, other data than the run began
        with, or damaged files, by name.
    """
    extension = Extension(train_steps, experiments, time_limit)
    return resumed(folder, lambda experiment: Runner(experiment, report), extension)


class Extension(NamedTuple):
    """What a run that goes on is given more of; None leaves it as it was."""

    train_steps: int | None = None
    experiments: int | None = None
    time_limit: float | None = None

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment with more of it.

        Raises:
          ValueError: fewer train steps or experiments than before.
        """
        new = {name: value for name, value in self._asdict().items() if value is not None}
        for name, value in new.items():
            before = getattr(experiment, name)
            unlimited = name == "experiments" and not value
            if name != "time_limit" and not unlimited and (value < before or (name == "experiments" and not before)):
                raise ValueError(
                    f"{name} of a run can be raised, not lowered: it is {before or 'unlimited'}, not {value}"
                )
        return dataclasses.replace(experiment, **new)


def begun(runner: Runner) -> Outcome:
    """`run`, by a runner of any kind."""
    for caution in cautions.of(runner.experiment, runner.search_tasks):
        warnings.warn(caution, stacklevel=3)
    runner.load()
    if runner.experiment.out is not None:
        runner.folder = RunFolder.create(dataclasses.asdict(runner.experiment), runner.identity)
        for role in get_args(Role):
            getattr(runner.experiment, f"{role}_tasks").write(runner.folder.path)
    return runner.run()


def resumed(folder: str | Path, make: Callable[[Experiment], Runner], extension: Extension) -> Outcome:
    """`resume`, by a runner of any kind."""
    run = check_unedited(folder)
    before = from_folder(folder).self_contained(folder)
    opened = RunFolder(Path(folder))
    try:
        opened.run = run
        runner = make(extension.applied(before))
        runner.extended = runner.experiment != before
        roles = runner.identity.data
        opened.check_data(runner.identity, {role: getattr(before, role).source for role in roles})
        runner.load()
        unused, began = [runner], runner.began

        def restored(tree: dict[str, Any]) -> Runner:
            one = unused.pop() if unused else make(extension.applied(before))
            one.extended, one.began, one.written = runner.extended, began, runner.written
            one.restore(tree)
            return one

        runner = opened.restore(restored) or runner
        runner.folder, runner.was_judged = opened, opened.was_judged()
        runner.take_earlier(opened.best())
        if runner.extended:
            opened.write_config(dataclasses.asdict(runner.experiment), runner.identity)
    except BaseException:
        opened.close()
        raise
    return runner.run()
