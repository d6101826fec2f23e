"""What every experiment's results file says of how it was made, so that it can be made again.

An experiment is one file here: `python experiments/NAME.py --small` takes minutes on 2 cores, `--paper` has the paper's
sizes and wants a GPU. It writes `NAME.json` and `NAME.svg` beside itself, or `NAME-paper.json` and so on.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from zero_jax.bench import machine

HERE = Path(__file__).parent


def arguments(doc: str, seeds: int = 5) -> argparse.ArgumentParser:
    """The options that all have: `--small` (the default) or `--paper`, `--seeds`, `--out`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", dest="size", action="store_const", const="small", default="small", help="minutes")
    size.add_argument("--paper", dest="size", action="store_const", const="paper", help="the paper's sizes")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(seeds)))
    parser.add_argument("--out", type=Path, help="the results file; by default beside the experiment")
    return parser


def path(chosen: argparse.Namespace, script: str) -> Path:
    """Where the results of a script go; the figure beside them, with the suffix .svg."""
    name = Path(script).stem + ("-paper" if chosen.size == "paper" else "")
    return chosen.out or HERE / f"{name}.json"


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
    to.write_text(json.dumps(told, indent=1) + "\n")
    print(f"Written to {to} after {told['wall_seconds']:.0f} s")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True).stdout.strip()
