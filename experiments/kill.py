"""Kills a search at random moments, continues it each time, and compares it with one that was left alone.

    python experiments/kill.py

Exit code 1 unless the final records, population, ages, generators, caches and counters are equal to the bit, the clock's
columns aside. The result is in `kill.json`.
"""

import dataclasses
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from zero_jax.cli.options import parsed
from zero_jax.support import files

SEARCH = [sys.executable, "-m", "zero_jax.cli", "search"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    preset: str = "teacher"
    train_steps: int = 4_000_000_000
    kills: int = 20
    seed: int = 0  # of the moments
    out: Path = Path(__file__).with_suffix(".json")


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    settings = [chosen.preset, "--train-steps", str(chosen.train_steps), "--checkpoint-seconds", "0.5"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        subprocess.run([*SEARCH, *settings, "--out", f"{folder}/whole"], check=True, capture_output=True)
        took = time.monotonic() - began
        (whole,) = Path(folder, "whole").iterdir()
        kills = interrupted(settings, Path(folder, "killed"), chosen)
        (killed,) = Path(folder, "killed").iterdir()
        np.testing.assert_equal(final(killed), final(whole))
        records = len(final(whole)[1])
    stored = {
        "command": " ".join(["python experiments/kill.py", *sys.argv[1:]]), "machine": platform.processor(),
        "search": settings, "seconds_uninterrupted": took, "killed_after_seconds": kills, "records": records, "equal": True,
    }  # fmt: skip
    chosen.out.write_text(json.dumps(stored, indent=1) + "\n")
    print(f"killed {len(kills)} times; all equal: {records} records, population, ages, generators, caches, counters")


def interrupted(settings: list[str], out: Path, chosen) -> list[float]:
    """Runs the search, killing it; returns after how many seconds each process was."""
    rng = np.random.default_rng(chosen.seed)
    kills: list[float] = []
    process = subprocess.Popen(
        [*SEARCH, *settings, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(out.glob("*/config.json")):
        time.sleep(0.01)
    (folder,) = out.iterdir()
    while len(kills) < chosen.kills:
        wait = rng.uniform(0.5, 3.5)
        try:
            process.wait(wait)
            raise SystemExit(f"the search ended after {len(kills)} kills: give it more --train-steps")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kills.append(round(wait, 2))
        print(f"kill {len(kills)} after {wait:.2f} s", flush=True)
        process = subprocess.Popen(
            [*SEARCH, "--resume", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    if process.wait() != 0:
        raise SystemExit(f"the last process ended with {process.returncode}")
    return kills


def final(folder: Path):
    """All that a run ends with, but for the clock."""
    last = max(folder.glob("checkpoint-*.npz"))
    tree = files.unpacked(last.read_bytes())["run"]
    tree.pop("seconds")
    tree["progress"].pop("seconds")
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    outcome = json.loads((folder / "outcome.json").read_text())
    outcome["progress"].pop("seconds")
    return tree, [{k: v for k, v in r.items() if k != "seconds"} for r in records], outcome


if __name__ == "__main__":
    main()
