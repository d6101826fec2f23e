"""What each way of saving work is worth: the ablation of the paper's supplement (S9), in small.

    python experiments/ablation/ablation.py

Each row adds one thing to the row above it: migration, duplicates (programs known by canonical form are not trained), the
functional equivalence cache, hurdles, and the efficient search. Every one is run on `digits` and `linear` with 10 seeds,
once for the same train steps and once for the same wall time, a thread each, two runs at a time. T_select fitness of the
best program (of 5 candidates) is what counts. Writes `ablation.json` and `ablation.svg`. FEC comes after duplicates because
here its fingerprints are made of programs that are new in their canonical form.
"""

import dataclasses
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from zero_jax.cli.options import parsed
from zero_jax.run.api import run
from zero_jax.run.presets import PRESETS
from zero_jax.use.bench import machine

STEPS = {
    "Basic": {"cache_size": 0, "probe": 0},
    "+ migration": {"migrate_every": 1000},
    "+ duplicates": {"cache_size": 2**15},
    "+ FEC": {"probe": 10},
    "+ hurdles": {"hurdle_tasks": 0.3, "hurdle_examples": 0.3},
    "+ efficiency": {"method": "efficient"},
}
SIZES = {
    "empty": {"islands": 4, "population": 100, "cohort": 50},
    "demo": {"islands": 4, "population": 250, "cohort": 125},
}
BUDGETS = {"train steps": {"empty": 3e7, "demo": 3e7}, "wall time": {"empty": 4.0, "demo": 4.0}}


def experiment(preset: str, row: str, seed: int):
    """The preset with all changes up to a row."""
    changes = {}
    for name, change in STEPS.items():
        changes |= change
        if name == row:
            break
    common = {"threads": 1, "parallel_trials": 1, "trials": 1, "baselines": (), "candidates": 5, "out": None}
    return PRESETS[preset][1].replace(seed=seed, **common, **SIZES[preset], **changes)


def one(job: tuple[str, str, str, int]) -> dict:
    budget, preset, row, seed = job
    amount = BUDGETS[budget][preset]
    steps = int(amount) if budget == "train steps" else 10**15
    chosen = experiment(preset, row, seed).replace(train_steps=steps)
    curve: list[tuple[float, float]] = []
    began = None

    def report(progress):
        nonlocal began
        now = time.monotonic()
        began = began or now - progress.seconds
        curve.append((progress.train_steps if budget == "train steps" else now - began, progress.best_fitness))
        if budget == "wall time" and now - began > amount:
            raise KeyboardInterrupt

    outcome = run(chosen, report)
    progress = outcome.progress
    kept = curve[:: max(1, len(curve) // 40)] + curve[-1:]
    return {
        "budget": budget, "preset": preset, "row": row, "seed": seed, "search_fitness": outcome.search_fitness,
        "select_fitness": outcome.select_fitness, "evaluations": progress.evaluations, "trained": progress.trained,
        "train_steps": progress.train_steps, "saved_steps": progress.saved_steps, "seconds": round(progress.seconds, 2),
        "curve": [(round(x, 2), round(y, 6)) for x, y in kept],
    }  # fmt: skip


def spread(values) -> tuple[float, float]:
    values = np.asarray(list(values), float)
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def table(runs: list[dict]) -> list[dict]:
    rows = []
    for budget, preset, row in product(BUDGETS, SIZES, STEPS):
        some = [r for r in runs if (r["budget"], r["preset"], r["row"]) == (budget, preset, row)]
        mean, error = spread(r["select_fitness"] for r in some)
        fitness, fitness_error = spread(r["search_fitness"] for r in some)
        rows.append({
            "budget": budget, "preset": preset, "row": row, "select_fitness": mean, "standard_error": error,
            "search_fitness": fitness, "search_error": fitness_error, "solved": sum(r["search_fitness"] > 0.9999 for r in some),
            "evaluations": float(np.mean([r["evaluations"] for r in some])),
            "trained": float(np.mean([r["trained"] for r in some])),
        })  # fmt: skip
    return rows


def plot(runs: list[dict], rows: list[dict], out: Path, seeds: int) -> None:
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (budget, preset) in zip(figure.subplots(2, 2).flat, product(BUDGETS, SIZES), strict=True):
        some = [r for r in rows if (r["budget"], r["preset"]) == (budget, preset)]
        for place, row in enumerate(some):
            own = [
                r["select_fitness"]
                for r in runs
                if (r["budget"], r["preset"], r["row"]) == (budget, preset, row["row"])
            ]
            axes.plot([place] * len(own), own, "o", color="0.7", markersize=4)
            axes.errorbar(place, row["select_fitness"], row["standard_error"], fmt="o", color="C0", capsize=4)
        axes.set_xticks(range(len(some)), [row["row"] for row in some], rotation=20)
        axes.set_ylabel("accuracy on T_select" if preset == "empty" else "fitness on T_select")
        axes.set_title(f"{preset}, equal {budget}")
    figure.suptitle(f"each row adds one thing; {seeds} seeds (grey), mean and standard error")
    figure.savefig(out)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    seeds: int = 10
    out: Path = Path(__file__).with_suffix(".json")


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    began = time.monotonic()
    jobs = list(product(BUDGETS, SIZES, STEPS, range(chosen.seeds)))
    random.Random(0).shuffle(jobs)  # other load on the machine should affect all rows equally
    with ProcessPoolExecutor(2) as pool:
        runs = list(pool.map(one, jobs))
    rows = table(runs)
    commit = ["git", "rev-parse", "--short", "HEAD"]
    stored = {
        "command": " ".join(["python experiments/ablation/ablation.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "commit": subprocess.run(commit, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip(),
        "machine": machine(),
        "seconds": round(time.monotonic() - began),
        "sizes": SIZES, "budgets": BUDGETS, "steps": STEPS, "table": rows, "runs": runs,
    }  # fmt: skip
    chosen.out.write_text(json.dumps(stored) + "\n")
    plot(runs, rows, chosen.out.with_suffix(".svg"), chosen.seeds)
    for row in rows:
        print(
            f"{row['budget']:12} {row['preset']:7} {row['row']:13} T_select {row['select_fitness']:.4f} +- "
            f"{row['standard_error']:.4f}  T_search {row['search_fitness']:.4f}  solved {row['solved']:2}  "
            f"{row['evaluations']:10,.0f} programs, {row['trained']:9,.0f} trained"
        )


if __name__ == "__main__":
    main()
