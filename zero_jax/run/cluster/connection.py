"""A cluster of Ray: one that is there, or a local one for as long as a run lasts."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from zero_jax.executors.registry import may_use_gpu
from zero_jax.run.config import RunConfig
from zero_jax.run.searchers import islands
from zero_jax.search import Islands
from zero_jax.support import threads as parallel

REACHED_SECONDS = 5.0
"""How long an address may take to accept a connection."""

ANSWERED_SECONDS = 15.0
"""How long a cluster may take to let another process join."""


def installed() -> Any:
    """The module `ray`.

    Raises:
      ValueError: without it, saying how to install it.
    """
    # What it prints of a worker that died says less than our warning, and goes to where results go.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died or was killed while executing")
    try:
        import ray
    except ImportError:
        raise ValueError("Ray is not installed: pip install 'zero-jax[ray]'") from None
    return ray


@contextlib.contextmanager
def connected(address: str = "") -> Iterator[None]:
    """Joins a cluster, and leaves it in the end; inside a process that has joined one already, that one serves.

    Args:
      address: HOST:PORT of a cluster that this machine belongs to; auto for the one that runs here; empty to start one
        on this machine alone and to end it afterwards.

    Raises:
      ValueError: no address, or no Ray.
      OSError: a cluster that does not answer, after 20 seconds at most, or one that cannot be started.
    """
    ray = installed()
    if ray.is_initialized():
        yield
        return
    # Workers on one GPU with this process would find its memory taken; usage statistics are not sent.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    how: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        check_answers(address)
    else:
        how |= {"num_cpus": parallel.cores(), "include_dashboard": False}
    try:
        with warnings.catch_warnings():  # Ray's processes are other programs as soon as they are forked
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
            ray.init(address or "local", **how)
    except (Exception, SystemExit) as error:  # Ray exits where it finds no cluster
        what = f"the Ray cluster at {address} cannot be joined" if address else "no local Ray cluster could be started"
        raise OSError(f"{what}: {first_line(error)}") from None
    try:
        yield
    except ray.exceptions.RayTaskError:  # a mistake of ours in a worker, with its traceback
        raise
    except ray.exceptions.RayError as error:
        raise OSError(f"the Ray cluster failed: {first_line(error)}") from error
    finally:
        ray.shutdown()


def check_answers(address: str) -> None:
    """Whether a cluster is there. `ray.init` alone would try for two minutes, and then end the process.

    Raises:
      ValueError: no address.
      OSError: no answer, or not a cluster.
    """
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"the address of a Ray cluster is HOST:PORT or auto, not {address!r}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACHED_SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None
    code = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False)"
    try:
        probe = [sys.executable, "-c", code, address]
        done = subprocess.run(probe, capture_output=True, text=True, timeout=ANSWERED_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"what answers at {address} did not turn out to be a Ray cluster within {ANSWERED_SECONDS:g} seconds (one "
            "that asks for tokens is silent without: then set RAY_AUTH_MODE=token)"
        ) from None
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ConnectionError(f"the Ray cluster at {address} cannot be joined: {why[0]}")


def resources(config: RunConfig) -> tuple[str, int]:
    """What each worker takes one of, and how many of it the cluster has: GPUs where there are any, or else CPUs, in
    bundles of `threads`.
    """
    available = installed().cluster_resources()
    gpus = int(available.get("GPU", 0)) if may_use_gpu(config.evaluation.executor) else 0
    return ("GPU", gpus) if gpus else ("CPU", int(available.get("CPU", 0)) // max(1, config.schedule.threads))


def default_workers(config: RunConfig) -> int:
    """As many workers as the cluster has GPUs, or else CPUs, and as can share the islands evenly."""
    most = max(1, resources(config)[1])
    if not isinstance(config.searcher, Islands):
        return most
    shares = islands(config.searcher) // config.schedule.groups
    return max(n for n in range(1, min(most, shares) + 1) if shares % n == 0)


def check_room(config: RunConfig) -> None:
    """Whether the cluster is large enough for all workers.

    Raises:
      ValueError: if not.
    """
    kind, there = resources(config)
    workers, threads = config.schedule.workers, config.schedule.threads
    if workers > there:
        each = f"{threads} CPUs" if kind == "CPU" and threads > 1 else f"a {kind}"
        raise ValueError(f"{workers} workers take {each} each, and the Ray cluster has room for {there}")


def first_line(error: BaseException) -> str:
    """The first line of an error: Ray's continue with advice and stack traces."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
