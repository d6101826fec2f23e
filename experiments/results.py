"""What every script has: options, processes, and a results file that says how it was made, so that it can be made again.

A script is one file here: `python experiments/NAME.py --small` takes minutes on 2 cores, `--paper` has the paper's
sizes and needs a GPU. It writes `NAME.json` and `NAME.svg` beside itself, or `NAME-paper.json` and so on.
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import date
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from zero_jax.cli.options import parsed
from zero_jax.support.files import write_atomically
from zero_jax.use.bench import machine

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that all scripts have.

    Attributes:
      small: Minutes on 2 cores; this is the default.
      paper: The paper's sizes.
      seeds: Each once.
      out: The results file, NAME.json; by default beside the script. The figure goes beside it, as .svg.
    """

    small: bool = False
    paper: bool = False
    seeds: tuple[int, ...] = tuple(range(5))
    out: Path | None = None

    @property
    def size(self) -> str:
        """Small or paper."""
        return "paper" if self.paper else "small"

    def check(self) -> None:
        """Refuses options that make no sense, before hours of work.

        Raises:
          ValueError: if so.
        """
        if self.small and self.paper:
            raise ValueError("--small or --paper, not both")
        for seed in self.seeds:
            check_whole(seed, 0)
        if len(set(self.seeds)) < len(self.seeds):  # twice the same would look like agreement
            raise ValueError("--seeds: each seed once")
        if self.out is not None:
            _check_results_file(self.out)


Kind = TypeVar("Kind", bound=Options)


def options(kind: type[Kind], doc: str | None, argv: Sequence[str] | None = None) -> Kind:
    """The options of a script, checked; mistakes end it with one line."""
    chosen = parsed(kind, sys.argv[1:] if argv is None else argv, description=doc)
    try:
        chosen.check()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    return chosen


def spread(values: Sequence[float] | np.ndarray) -> list[float]:
    """Mean and standard error; of one value 0."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return [float(np.mean(values)), float(error)]


def check_whole(number: int, least: int) -> None:
    """Refuses a number below `least`.

    Raises:
      ValueError: if so.
    """
    if number < least:
        raise ValueError(f"'{number}' is not a whole number from {least} on")


def _check_results_file(to: Path) -> None:
    """Refuses a file that could not be written when all is done, hours later."""
    if to.suffix != ".json":
        raise ValueError(f"'{to}' does not end in .json; the figure goes beside it, as .svg")
    if to.is_dir() or not to.parent.is_dir() or not os.access(to.parent, os.W_OK):
        raise ValueError(f"'{to}' cannot be written: is there a folder {to.parent} to write in?")


def path(chosen: Options, script: str) -> Path:
    """Where the results of a script go; the figure beside them, with the suffix .svg."""
    name = Path(script).stem + ("-paper" if chosen.paper else "")
    return chosen.out or HERE / f"{name}.json"


@contextmanager
def processes(n: int) -> Iterator[Executor]:
    """So many processes, which end with this one however it ends."""
    with ProcessPoolExecutor(n, get_context("spawn"), initializer=_end_with_parent) as pool:
        yield pool


def mapped(n: int, function: Callable[..., Any], *items: Sequence[Any]) -> list[Any]:
    """`function` of each item, in so many processes; in this one where `n` is 1."""
    if n == 1:
        return list(map(function, *items))
    with processes(n) as pool:
        return list(pool.map(function, *items))


def finished(
    n: int, function: Callable[..., dict[str, Any]], keys: Sequence[dict[str, Any]], to: Path, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One row for each key: the key, and what `function(**key)` returns.

    The file is written after each row. Rows that it has already are not computed again, so that an interrupted script
    continues where it was; rows of other keys stay in it. `wall_seconds` is then of all runs together.

    Args:
      n: how many processes work side by side; with 1, this one works.
      function: computes a row; a function of a module, so that other processes find it.
      keys: the settings that decide a row, as JSON takes them.
      to: the results file.
      seeds: of the script.
    """
    began, rows = time.monotonic() - _spent(to), stored_rows(to)

    def row_of(key: dict[str, Any]) -> dict[str, Any] | None:
        return next((row for row in rows if all(row.get(name) == value for name, value in key.items())), None)

    def keep(row: dict[str, Any]) -> None:
        rows.append(row | {"commit": commit()})
        write(to, began, seeds, {"rows": rows}, quiet=True)
        short = {name: value for name, value in row.items() if not isinstance(value, list | dict) and name != "program"}
        print(json.dumps(short), flush=True)

    missing = [key for key in keys if row_of(key) is None]
    if n == 1:
        for key in missing:
            keep(key | function(**key))
    elif missing:
        with processes(n) as pool:
            jobs = {pool.submit(function, **key): key for key in missing}
            for job in as_completed(jobs):
                keep(jobs[job] | job.result())
    return [row for row in map(row_of, keys) if row is not None]


def stored_rows(to: Path) -> list[dict[str, Any]]:
    """The rows that a file has; none without one."""
    return json.loads(to.read_text())["results"]["rows"] if to.exists() else []


def _spent(to: Path) -> float:
    """The seconds that earlier runs took, which wrote rows of a file."""
    stored = json.loads(to.read_text()) if to.exists() else {}
    return float(stored.get("wall_seconds", 0.0))


def wilson(successes: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share by Wilson's score."""
    low, high = stats.binomtest(successes, of).proportion_ci(method="wilson")
    return float(low), float(high)


def share(successes: int, of: int) -> str:
    """A share with its 95% interval, as text."""
    low, high = wilson(successes, of)
    return f"{successes} of {of} ({low:.2f} to {high:.2f})"


def _end_with_parent() -> None:
    def wait() -> None:
        parent = parent_process()
        connection.wait([parent.sentinel] if parent else [])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def write(to: Path, began: float, seeds: Sequence[int], results: Any, quiet: bool = False) -> None:
    """Writes results, and what they were made with.

    Args:
      to: the file.
      began: `time.monotonic()` when the script began.
      seeds: that it ran with.
      results: as JSON takes them.
      quiet: without a line that says so.
    """
    took = time.monotonic() - began
    if isinstance(results, dict) and "rows" in results:  # with those of the runs before
        took = max(took, _spent(to))
    stored = {
        "command": " ".join(["python", "experiments/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "wall_seconds": round(took, 1),
        "seeds": list(seeds),
        "results": results,
    }
    write_atomically(to, json.dumps(stored, indent=1) + "\n")
    if not quiet:
        print(f"Written to {to} after {stored['wall_seconds']:.0f} s")


def commit() -> str:
    """The present commit, marked if files differ from it."""
    return _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True).stdout.strip()
