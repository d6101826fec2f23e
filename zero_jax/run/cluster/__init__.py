"""A search on many machines, through Ray: islands shared among workers. Ray is imported when a run begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zero_jax.run import api
from zero_jax.run.cluster.connection import connected, default_workers
from zero_jax.run.cluster.crew import RayCrew, check_has_workers
from zero_jax.run.config import RunConfig, from_folder
from zero_jax.run.config_file import check_out
from zero_jax.run.outcome import Outcome, Progress


def run(config: RunConfig, report: Callable[[Progress], None] | None = None, address: str = "") -> Outcome:
    """Runs a search as `zero_jax.run.run` does, its islands shared among `schedule.workers` Ray workers; 0 takes as
    many as the cluster has GPUs, or else CPUs.

    Workers evaluate on their own, programs migrate between them as they come by, and all draw on one budget: so the
    result depends on how fast each is. A lost worker is started again from its last checkpoint, with a warning.

    Args:
      config: the settings.
      report: called with the progress whenever a worker has answered.
      address: HOST:PORT of a Ray cluster that this machine belongs to, or auto; empty to start a local one for the run.

    Raises:
      ValueError: without Ray; settings that do not go together; a cluster too small for all workers.
      OSError: a cluster that does not answer; a worker that is lost again and again.
    """
    config.replace(workers=config.schedule.workers or 1)  # mistakes show before a cluster is started
    if config.output.out is not None:
        check_out(config.output.out)
    with connected(address):
        if not config.schedule.workers:
            config = config.replace(workers=default_workers(config))
        return api.begun(config, report, RayCrew)


def resume(
    folder: str | Path, report: Callable[[Progress], None] | None = None, address: str = "", **more: Any
) -> Outcome:
    """Resumes a run from the last checkpoints of its workers; not to the bit, since each is of another moment.

    Args:
      folder: as in `zero_jax.run.resume`.
      report: as in `run`.
      address: as in `run`.
      **more: as in `zero_jax.run.resume`.

    Raises:
      ValueError, OSError: as `run`, and as `zero_jax.run.resume`.
    """
    check_has_workers(from_folder(folder))
    with connected(address):
        return api.resumed(folder, report, RayCrew, api.Extension(**more))
