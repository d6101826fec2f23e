"""What a second worker of Ray brings, and what becomes of a search that loses one.

    python experiments/cluster.py

One worker with two islands and two workers with two islands each, a thread each, search in turns, without migration, each
for a budget of train steps per worker. Evaluations are counted until the budget is spent; starting workers is not timed.
Before each, a second of rest tells how many cores others keep busy: on a machine that is not quiet, ratios mean nothing.
Then a search of two workers in which one is killed (SIGKILL) after a third of the budget.
"""

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np

import zero_jax
from zero_jax.cli.options import parsed
from zero_jax.run import cluster
from zero_jax.run.cluster.connection import connected, installed
from zero_jax.run.config import RunConfig
from zero_jax.run.outcome import Progress
from zero_jax.run.presets import PRESETS
from zero_jax.use.bench import machine


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    preset: str = "empty"  # of zero-jax search
    steps: int = 250_000_000  # train steps per worker
    rounds: int = 4
    out: Path = Path(__file__).parent / "cluster.json"


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    preset = PRESETS[chosen.preset][1].replace(
        trials=1, sufficient_fitness=2.0, parallel_trials=1, baselines=(), threads=1, out=None, executor="simd",
    )  # fmt: skip
    with connected():
        rounds = []
        for seed in range(chosen.rounds):
            order = (1, 2) if seed % 2 == 0 else (2, 1)
            measured = {workers: measure(preset, workers, seed, chosen.steps) for workers in order}
            one, two = measured[1], measured[2]
            rounds.append({"seed": seed, "one": one, "two": two} | {
                f"ratio_of_{what}": round(two[f"{what}_per_second"] / one[f"{what}_per_second"], 3)
                for what in ("evaluations", "train_steps")
            })  # fmt: skip
            print(rounds[-1], flush=True)
        killed = kill(preset, chosen.steps)
        print(killed, flush=True)
    ratios = [row["ratio_of_evaluations"] for row in rounds]
    result = {
        "command": f"python experiments/cluster.py --preset {chosen.preset} --steps {chosen.steps} --rounds {chosen.rounds}",
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": {
            "zero_jax": zero_jax.__version__,
            "ray": installed().__version__,
            "python": platform.python_version(),
        },
        "ratio_of_evaluations_per_second": {
            "median": float(np.median(ratios)),
            "least": min(ratios),
            "most": max(ratios),
        },
        "rounds": rounds,
        "one_killed": killed,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    others = max(row[which]["cores_busy_with_others_before"] for row in rounds for which in ("one", "two"))
    if others > 0.1:
        print(f"others kept up to {others} cores busy: measure again on a quiet machine")
    print(f"two workers: {np.median(ratios):.2f} times the evaluations/s of one, written to {chosen.out}")


def measure(preset: RunConfig, workers: int, seed: int, steps: int) -> dict:
    shared = preset.replace(workers=workers, islands=2 * workers, train_steps=steps * workers, seed=seed)
    others = busy_cores()
    progress = cluster.run(shared).progress
    return {
        "evaluations": progress.evaluations,
        "train_steps": progress.train_steps,
        "seconds": round(progress.seconds, 2),
        "evaluations_per_second": round(progress.evaluations / progress.seconds),
        "train_steps_per_second": round(progress.train_steps / progress.seconds),
        "cores_busy_with_others_before": others,
    }


def busy_cores() -> float:
    """How many cores are busy while we do nothing."""

    def busy() -> int:
        user, nice, system, _idle, _wait, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
        return user + nice + system + sum(rest)

    before, began = busy(), time.monotonic()
    time.sleep(1)
    return round((busy() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began), 2)


def kill(preset: RunConfig, steps: int) -> dict:
    """A search of two workers, one of which is killed."""
    shared = preset.replace(workers=2, train_steps=2 * steps, checkpoint_seconds=1.0)
    killed: dict = {}

    def report(progress: Progress) -> None:
        if not killed and progress.train_steps > shared.train_steps / 3:
            killed["killed_at_train_steps"] = progress.train_steps
            os.kill(worker_process(), signal.SIGKILL)

    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = cluster.run(shared, report)
    return killed | {
        "asked_for_train_steps": shared.train_steps,
        "train_steps": outcome.progress.train_steps,
        "evaluations": outcome.progress.evaluations,
        "lost": outcome.progress.lost,
        "said": [str(one.message) for one in caught if "was lost" in str(one.message)],
        "select_fitness": outcome.select_fitness,
        "unseen_fitness": outcome.unseen_fitness,
        "seconds_with_start": round(time.monotonic() - began, 1),
    }


def worker_process() -> int:
    """One of our workers' processes: those of other clusters on this machine are no descendants of ours."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = {
        int(pid): (int(parent), args) for pid, parent, args in (line.split(None, 2) for line in listed.splitlines())
    }
    for pid, (parent, args) in rows.items():
        if args.startswith("ray::Worker"):
            while parent in rows and parent != os.getpid():
                parent = rows[parent][0]
            if parent == os.getpid():
                return pid
    raise RuntimeError("no worker's process found")


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
