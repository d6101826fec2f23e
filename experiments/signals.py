"""Sends signals to searches at random moments, cold (nothing compiled yet) and warm, and looks at what they leave.

    python experiments/signals.py

Exit code 1 unless every search ended with the exit code of its signal and, once a first cohort was evaluated, left a
checkpoint that can be gone on from, best.txt and outcome.json. The result is in `signals.json`.
"""

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from zero_jax import library
from zero_jax.cli.options import parsed
from zero_jax.run.api import resume

SEARCH = [sys.executable, "-m", "zero_jax", "search", "demo", "--sufficient-fitness", "2", "--seed", "1"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    times: int = 20  # how often each signal is sent
    kinds: tuple[Literal["warm", "cold"], ...] = ("warm", "cold")  # of searches
    warm_seconds: float = 6.0  # the latest moment in a warm search
    cold_seconds: float = 45.0  # the latest moment in a cold one
    seed: int = 0  # of the moments
    out: Path = Path(__file__).with_suffix(".json")


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    rng, rows = np.random.default_rng(chosen.seed), []
    for number in CODES:
        for cold in [kind == "cold" for kind in chosen.kinds]:
            latest = chosen.cold_seconds if cold else chosen.warm_seconds
            for moment in rng.uniform(0.1, latest, chosen.times):
                rows.append({"signal": signal.Signals(number).name, "cold": cold} | sent(number, float(moment), cold))
                print(rows[-1], flush=True)
    wrong = [row for row in rows if row["wrong"]]
    late = sum(row["evaluations"] > 0 for row in rows)
    result = {
        "command": " ".join(["python experiments/signals.py", *sys.argv[1:]]),
        "machine": platform.processor(),
        "date": str(date.today()),
        "sent": len(rows),
        "after_a_cohort": late,
        "wrong": len(wrong),
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{len(rows)} signals, {late} of them after a first cohort: {len(wrong)} searches ended otherwise than they should"
    )
    sys.exit(bool(wrong))


def sent(number: int, moment: float, cold: bool) -> dict[str, object]:
    """Runs a search, sends it a signal, and looks at what it leaves."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"NUMBA_CACHE_DIR": f"{folder}/compiled"} if cold else {}
        process = subprocess.Popen(
            [*SEARCH, "--out", f"{folder}/runs"],
            env=os.environ | caches,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(moment)
        process.send_signal(number)
        began = time.monotonic()
        try:
            _, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"moment": moment, "seconds": 120.0, "evaluations": 0, "wrong": ["went on"]}
        took = time.monotonic() - began
        runs = list(Path(folder, "runs").glob("*"))
        wrong = [] if process.returncode == CODES[number] else [f"exit code {process.returncode}"]
        wrong += ["traceback"] * ("Traceback" in err)
        evaluations, more = left(runs[0]) if runs else (0, [])
        return {"moment": moment, "seconds": took, "evaluations": evaluations, "wrong": wrong + more}


def left(run: Path) -> tuple[int, list[str]]:
    """How many programs a run had evaluated when it ended, and what is missing of what it should have left."""
    outcome = run / "outcome.json"
    evaluations = json.loads(outcome.read_text())["progress"]["evaluations"] if outcome.exists() else 0
    if not (evaluations or (run / "records.jsonl").exists()):
        return 0, []
    missing = [name for name in ("outcome.json", "best.txt", "best.json") if not (run / name).exists()]
    if not missing:
        library.load(str(run / "best.txt"))
    if not list(run.glob("checkpoint-*.npz")):
        return evaluations, [*missing, "checkpoint"]

    def soon(progress: object) -> None:
        raise KeyboardInterrupt

    again = resume(run, soon)
    return evaluations, missing + ["went back"] * (again.progress.evaluations <= evaluations)


if __name__ == "__main__":
    main()
