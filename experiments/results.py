"""What every experiment has: options, processes, and a results file that says how it was made, so that it can be made again.

An experiment is one file here: `python experiments/NAME.py --small` takes minutes on 2 cores, `--paper` has the paper's
sizes and wants a GPU. It writes `NAME.json` and `NAME.svg` beside itself, or `NAME-paper.json` and so on.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import date
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from zero_jax.support.files import write_atomically
from zero_jax.use.bench import machine

HERE = Path(__file__).parent


def arguments(doc: str | None, seeds: int = 5) -> argparse.ArgumentParser:
    """The options that all have: `--small` (the default) or `--paper`, `--seeds`, `--out`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", dest="size", action="store_const", const="small", default="small", help="minutes")
    size.add_argument("--paper", dest="size", action="store_const", const="paper", help="the paper's sizes")
    parser.add_argument("--seeds", type=number(0), nargs="+", action=_EachOnce, default=list(range(seeds)))
    parser.add_argument(
        "--out", type=_results_file, help="the results file, NAME.json; by default beside the experiment"
    )
    return parser


def number(least: int) -> Callable[[str], int]:
    """An argument's type: a whole number from `least` on."""

    def parsed(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return parsed


class _EachOnce(argparse.Action):
    """Seeds that are told apart: twice the same would look like agreement."""

    def __call__(self, parser: Any, chosen: Any, values: Any, option: Any = None) -> None:
        if len(set(values)) < len(values):
            raise argparse.ArgumentError(self, "each seed once")
        setattr(chosen, self.dest, values)


def _results_file(text: str) -> Path:
    """A file that can be written when all is done, hours later."""
    to = Path(text)
    if to.suffix != ".json":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .json; the figure goes beside it, as .svg")
    if to.is_dir() or not to.parent.is_dir() or not os.access(to.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: is there a folder {to.parent} to write in?")
    return to


def path(chosen: argparse.Namespace, script: str) -> Path:
    """Where the results of a script go; the figure beside them, with the suffix .svg."""
    name = Path(script).stem + ("-paper" if chosen.size == "paper" else "")
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


def _end_with_parent() -> None:
    def wait() -> None:
        parent = parent_process()
        connection.wait([parent.sentinel] if parent else [])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def write(to: Path, began: float, seeds: Sequence[int], results: Any) -> None:
    """Writes results, and what they were made with.

    Args:
      to: the file.
      began: `time.monotonic()` when the experiment began.
      seeds: that it ran with.
      results: as JSON takes them.
    """
    told = {
        "command": " ".join(["python", "experiments/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
        "machine": machine(),
        "wall_seconds": round(time.monotonic() - began, 1),
        "seeds": list(seeds),
        "results": results,
    }
    write_atomically(to, json.dumps(told, indent=1) + "\n")
    print(f"Written to {to} after {told['wall_seconds']:.0f} s")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True).stdout.strip()
