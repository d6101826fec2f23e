"""How long a discovery takes: runs `zero-jax search linear` for several seeds and writes a table of the outcomes.

    python experiments/discovery.py

Each seed is a process of its own, as a user would start it, one after the other. The numbers of evaluations belong to
the seeds; the seconds belong to the machine.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

import zero_jax
from zero_jax.cli.options import parsed


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    preset: str = "linear"  # of zero-jax search
    seeds: tuple[int, ...] = tuple(range(120, 140))
    out: Path = Path(__file__).parent / "discovery.json"


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    rows = [run(chosen.preset, seed) for seed in chosen.seeds]
    medians = {
        key: float(np.median([row[key] for row in rows]))
        for key in ("evaluations", "search_seconds", "total_seconds", "programs_per_second")
    }
    result = {
        "command": f"python experiments/discovery.py --preset {chosen.preset} --seeds {' '.join(map(str, chosen.seeds))}",
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip(),
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {"zero_jax": zero_jax.__version__, "python": platform.python_version()},
        "solved": sum(row["solved"] for row in rows),
        "runs": rows,
        "medians": medians,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"solved {result['solved']} of {len(rows)}, medians {medians}, written to {chosen.out}")


def run(preset: str, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "zero_jax.cli", "search", preset, "--seed", str(seed), "--out", folder]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took = time.monotonic() - began
        outcome = json.loads(next(Path(folder).glob("*/outcome.json")).read_text())
    progress = outcome["progress"]
    row = {
        "seed": seed,
        "solved": outcome["solved"],
        "experiments": progress["trial"],
        "evaluations": progress["evaluations"],
        "trained": progress["trained"],
        "search_seconds": round(progress["seconds"], 2),
        "total_seconds": round(took, 2),
        "programs_per_second": round(progress["evaluations"] / progress["seconds"]),
        "select_fitness": outcome["select_fitness"],
        "unseen_fitness": outcome["unseen_fitness"],
        "references": outcome["references"],
    }
    print(row, flush=True)
    return row


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
