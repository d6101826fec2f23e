"""Three ways to tune a program's constants, on the same budgets: random search, Optuna, gradients (`zero_jax.use.tuning`).

    python experiments/tuning.py

Programs whose constants are off are tuned on a few tasks and judged on others, of another seed, that no method saw. A
gradient counts as five evaluations. `gradient, no scout` begins from the original; `gradient` spends a quarter of its
budget on random candidates and begins from the best. `over random` is the difference in held-out fitness, seed by seed;
seeds bring different tasks, so it is known better than either. Seconds include no compilation: each is tuned once before.
Results: `tuning.json`.
"""

import dataclasses
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

from zero_jax import evaluate, library, program_fitness, tune
from zero_jax.cli.options import parsed
from zero_jax.program.programs import Programs
from zero_jax.tasks.sets import TaskSet
from zero_jax.use import bench

REGRESSION, DIGITS = TaskSet("teacher", 16, 4, 100, 100), TaskSet("digits", 16, 16, 200, 50)
PROGRAMS = {
    "linear, rate 1e-4": ("linear", 1e-4, 1.0, TaskSet("linear", 16, 4, 100, 100)),
    "network, rate 1e-4": ("network", 1e-4, 1.0, REGRESSION),
    "network, rate 1, init x 30": ("network", 1.0, 30.0, REGRESSION),
    "network on digits, rate 1e-4": ("network", 1e-4, 1.0, DIGITS),
}
METHODS = {
    "random": ("random", {}),
    "optuna": ("optuna", {}),
    "gradient": ("gradient", {}),
    "gradient, no scout": ("gradient", {"scout": 0.0}),
}
NO_SLOPE = {
    "network, rate 1, init x 30": ("gradient, no scout",),  # every run stops
    "network on digits, rate 1e-4": ("gradient", "gradient, no scout"),  # accuracy is a step function
}
HELD_OUT = 99
OTHER_SEED = 1000
"""Added to a seed, for tasks that no method saw."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    evaluations: tuple[int, ...] = (300, 1000)
    seeds: tuple[int, ...] = tuple(range(5))
    out: Path = Path(__file__).with_suffix(".json")


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    began = time.monotonic()
    rows = []
    print(
        f"{'program':28}  {'method':18}  evaluations  {'tuned on':>15}  {'held out':>15}  {'over random':>16}  train steps  seconds"
    )
    for name, (program, rate, scale, described) in PROGRAMS.items():
        start = scaled(library.program(program, learning_rate=rate), scale)
        for method in METHODS:
            if method in NO_SLOPE.get(name, ()):
                continue
            tune(start, described.make(0), METHODS[method][0], evaluations=20, **METHODS[method][1])
            for budget in chosen.evaluations:
                rows.append(measure(name, start, described, method, budget, chosen.seeds))
                rows[-1]["over_random"] = over_random(rows, rows[-1])
                print(line(rows[-1]), flush=True)
    result = {
        "command": " ".join(["python experiments/tuning.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": bench.machine(),
        "seeds": chosen.seeds,
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['seconds']} s, written to {chosen.out}")


def scaled(program: Programs, factor: float) -> Programs:
    """The network with its weights drawn on another scale."""
    lists = program.to_lists()
    lists[0][0] = [[*i[:6], i[6] * factor, *i[7:]] if i[0] in (63, 64) else i for i in lists[0][0]]
    return Programs.from_lists(lists, program.memory)


def measure(name: str, start: Programs, described: TaskSet, method: str, budget: int, seeds: list[int]) -> dict:
    kind, more = METHODS[method]
    runs = []
    for seed in seeds:
        tuned = tune(start, described.make(seed), kind, evaluations=budget, seed=seed, **more)
        others = held_out(described, seed)
        before, after = (
            float(program_fitness(evaluate(p, others, seed + OTHER_SEED).fitness)[0]) for p in (start, tuned.program)
        )
        runs.append(
            {
                "seed": seed,
                "fitness_before": tuned.fitness_before,
                "fitness": tuned.fitness,
                "held_out_before": before,
                "held_out": after,
                "evaluations": tuned.evaluations,
                "train_steps": tuned.train_steps,
                "seconds": round(tuned.seconds, 3),
                "constants": np.asarray(tuned.program.data)[np.asarray(tuned.program.data) != 0].tolist(),
            }
        )
    means = {key: summary([run[key] for run in runs]) for key in ("fitness", "held_out_before", "held_out", "seconds")}
    means["train_steps"] = summary([float(run["train_steps"]) for run in runs])
    return {"program": name, "method": method, "evaluations": budget, "mean_and_standard_error": means, "runs": runs}


def held_out(described: TaskSet, seed: int):
    """Of digits, the class pairs of selection, on 11 projections; of regression, tasks of another seed."""
    return TaskSet(described.source, HELD_OUT, *sizes(described)).make(seed + OTHER_SEED, "select")


def sizes(described: TaskSet) -> tuple[int, int, int]:
    return described.features, described.train, described.valid


def summary(values: list[float]) -> list[float]:
    return [float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0]


def over_random(rows: list[dict], row: dict) -> dict:
    """How much better than random search of the same budget: mean and standard error over seeds."""
    same = ("program", "evaluations")
    (base,) = [r for r in rows if r["method"] == "random" and all(r[key] == row[key] for key in same)]
    pairs = list(zip(row["runs"], base["runs"], strict=True))
    return {key: summary([one[key] - other[key] for one, other in pairs]) for key in ("fitness", "held_out")}


def line(row: dict) -> str:
    means = row["mean_and_standard_error"]
    cells = [f"{means[key][0]:.4f} ± {means[key][1]:.4f}" for key in ("fitness", "held_out")]
    more, error = row["over_random"]["held_out"]
    return (
        f"{row['program']:28}  {row['method']:18}  {row['evaluations']:11}  {cells[0]:>15}  {cells[1]:>15}  "
        f"{more:+.4f} ± {error:.4f}  "
        f"{means['train_steps'][0]:11,.0f}  {means['seconds'][0]:7.2f}"
    )


def commit() -> str:
    call = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(call, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
