"""The records of a run as curves for TensorBoard."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from zero_jax.run.outcome import COUNTED, QUANTILES, Progress
from zero_jax.run.records import records_of

FOLDER = "tensorboard"
"""Where the events are, in a run's folder."""


def check_installed() -> None:
    """Checks that tensorboardX is installed.

    Raises:
      ValueError: saying what to install.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("curves for TensorBoard need tensorboardX: pip install 'zero-jax[tensorboard]'")


class Curves:
    """The scalars of a run by evaluations, as events that TensorBoard reads.

    They are rebuilt from records.jsonl, so a resumed run has no curves of records that were cut off, and has those that
    a killed process had not written yet.

    Args:
      run: the folder of the run, its records cut to those before the checkpoint.
    """

    def __init__(self, run: Path) -> None:
        # Not SummaryWriter: its queue waits for ever for a thread that a full disk has ended.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder = run / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._writer = EventsWriter(str(folder / "events"))
        self._began = (run / "config.json").stat().st_mtime  # written once, as the run begins
        self._before = Progress(0, 0, 0, 0, 0.0, 0.0)
        # A TensorBoard that has read older events forgets them.
        self._write(self._before, session_log=SessionLog(status=SessionLog.START))
        for progress in records_of(run):
            self.add(progress)

    def add(self, progress: Progress) -> None:
        """Adds a record; speed and shares are those since the one before."""
        from tensorboardX.proto.summary_pb2 import Summary

        before, self._before = self._before, progress
        asked, seconds = progress.evaluations - before.evaluations, progress.seconds - before.seconds
        scalars = {f"fitness/{name}": x for name, x in zip(QUANTILES, progress.quantiles, strict=False)}
        counts = ("trained", *COUNTED)
        scalars |= {f"share/{n}": (getattr(progress, n) - getattr(before, n)) / max(asked, 1) for n in counts}
        scalars |= {"fitness/best": progress.best_fitness, "population/diversity": progress.diversity}
        scalars |= {"run/trial": progress.trial, "run/evaluations per second": asked / max(seconds, 1e-9)}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(progress, summary=Summary(value=values))

    def _write(self, progress: Progress, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        event = Event(wall_time=self._began + progress.seconds, step=progress.evaluations, **what)
        self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
