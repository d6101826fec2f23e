"""The share of searches that end above hand-written baselines, on pairs of kinds of clothing (paper, Table S5).

    python experiments/success.py
    python experiments/success.py --methods niches --seeds 0 1 2

The tasks are those of the preset `fashion_mnist`: 16 random projections, 240 training examples seen once. Each search has
its own T_search (24 tasks of 36 pairs of classes, 24 of three classes against three), the same for all methods, and the
same number of train steps, however many islands share them. Its best program on T_search is judged on T_select: 90 tasks
of the 9 other pairs, on which nothing is chosen. So are the library's linear program and 2-layer network, their constants
tuned by 300 evaluations on the same T_search. A search succeeds where its program is the more accurate.

Basic is regularized evolution alone; Full adds functional equivalence checks, hurdles, and migration among islands.
Efficient evolution has these too, but for the hurdle on examples. All three start from empty programs in the paper's
space (S10). Niches start from random programs in the space of the preset `fashion_mnist`, with its settings of the
search; they have no islands. Which differences hold: accuracies are compared seed by seed (Wilcoxon's signed-rank
test), counts of successes by Fisher's exact test, between methods on as many islands and numbers of islands of a method;
each p-value is Holm's, for all comparisons of its kind. Rows are written to `success.json` one by one; a rerun skips those that are there.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import results
from matplotlib.figure import Figure
from scipy.stats import fisher_exact, wilcoxon

from zero_jax import Tasks, evaluate, library, program_fitness, tune
from zero_jax.program.canonical import pruned
from zero_jax.run import build
from zero_jax.run.api import run
from zero_jax.run.config import RunConfig
from zero_jax.run.presets import PRESETS

NICHES = PRESETS["fashion_mnist"][1].replace(trials=1, sufficient_fitness=2.0, candidates=1, out=None, baselines=())
BASIC = PRESETS["empty"][1].replace(
    tasks=NICHES.tasks,
    trials=1,
    sufficient_fitness=2.0,
    candidates=1,
    out=None,
    baselines=(),
    train_budget=2.0,
    cache_size=0,
)
FULL = BASIC.replace(cache_size=NICHES.evaluation.cache_size, probe=10, hurdle_tasks=0.3, hurdle_examples=0.3)
METHODS = {
    "Basic": BASIC,
    "Full": FULL,
    "efficient": FULL.replace(method="efficient", hurdle_examples=0.0),
    "niches": NICHES,
}
BASELINES = ("linear", "network")
MIGRATE_EVERY = 1000


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """Which searches, and how long.

    Attributes:
      seeds: Each once.
      methods: Which of Basic, Full, efficient, niches.
      islands: How many, for each method but niches.
      steps: Train steps of a search, all islands together.
      jobs: Searches side by side, on one thread each.
    """

    seeds: tuple[int, ...] = tuple(range(20))
    methods: tuple[str, ...] = tuple(METHODS)
    islands: tuple[int, ...] = (1, 4, 16)
    steps: int = 250_000_000
    jobs: int = 2

    def check(self) -> None:
        super().check()
        for number in (*self.islands, self.steps, self.jobs):
            results.check_whole(number, 1)
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ValueError(f"--methods: unknown '{unknown[0]}'; expected among {', '.join(METHODS)}")


def config(method: str, islands: int, seed: int, steps: int) -> RunConfig:
    """One search."""
    chosen = METHODS[method].replace(seed=seed, train_steps=steps, threads=1, parallel_trials=1)
    if method == "niches":
        return chosen
    migrates = method != "Basic" and islands > 1
    return chosen.replace(islands=islands, migrate_every=MIGRATE_EVERY if migrates else 0)


def search(method: str, islands: int, seed: int, steps: int) -> dict[str, Any]:
    """One search, and what its best program and the baselines are worth on T_select."""
    asked = config(method, islands, seed, steps)
    outcome = run(asked)
    fitness = accuracy(outcome.program, build.tasks(asked, "select"), seed)
    return {
        "search": outcome.search_fitness, "select": fitness, "baselines": baselines(seed),
        "evaluations": outcome.progress.evaluations, "trained": outcome.progress.trained,
        "train_steps": outcome.progress.train_steps, "seconds": round(outcome.progress.seconds, 2),
        "program": pruned(outcome.program).listing(0),
    }  # fmt: skip


@functools.cache
def baselines(seed: int) -> dict[str, float]:
    """Accuracy on T_select of the library's programs, their constants tuned on T_search."""
    asked, found = config("niches", 1, seed, 1), {}
    seen, select = build.tasks(asked, "search"), build.tasks(asked, "select")
    for name in BASELINES:
        tuned = tune(library.baseline(name, seen), seen, evaluations=300, seed=seed, threads=1)
        found[name] = accuracy(tuned.program, select, seed)
    return found


def accuracy(program: Any, tasks: Tasks, seed: int) -> float:
    """The mean over tasks."""
    return float(program_fitness(evaluate(program, tasks, seed, threads=1).fitness)[0])


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each method and number of islands: accuracies, and how many searches are above each baseline."""
    lines = []
    for method, islands in dict.fromkeys((row["method"], row["islands"]) for row in rows):
        some = [row for row in rows if (row["method"], row["islands"]) == (method, islands)]
        select = np.array([row["select"] for row in some])
        line = {"method": method, "islands": islands, "searches": len(some)}
        line |= {"median": float(np.median(select)), "mean": float(select.mean())}
        for name in BASELINES:
            above = sum(row["select"] > row["baselines"][name] for row in some)
            line[name] = {"above": above, "interval": results.wilson(above, len(some))}
        lines.append(line)
    return lines


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs of cells that differ in one thing: medians over seeds of differences in accuracy, and Holm's p-values."""
    select: dict[tuple[str, int], dict[int, float]] = {}
    above: dict[tuple[str, int], int] = {}
    for row in rows:
        cell = row["method"], row["islands"]
        select.setdefault(cell, {})[row["seed"]] = row["select"]
        above[cell] = above.get(cell, 0) + (row["select"] > row["baselines"]["linear"])
    lines = []
    for one, other in itertools.combinations(select, 2):
        if one[0] != other[0] and one[1] != other[1] and "niches" not in (one[0], other[0]):
            continue
        gains = np.array(
            [select[one][seed] - select[other][seed] for seed in select[one].keys() & select[other].keys()]
        )
        counts = [[above[cell], len(select[cell]) - above[cell]] for cell in (one, other)]
        rank = wilcoxon(gains).pvalue if gains.any() else 1.0
        lines.append(
            {
                "one": one,
                "other": other,
                "median": float(np.median(gains)),
                "p_accuracy": float(rank),
                "p_above_linear": float(fisher_exact(counts).pvalue),
            }
        )
    for name in ("p_accuracy", "p_above_linear"):
        for line, p in zip(lines, holm([line[name] for line in lines]), strict=True):
            line[name] = p
    return lines


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number: the smallest times all of them, the next times one less, and so on (Holm 1979)."""
    order, n = np.argsort(p_values), len(p_values)
    stepped = np.maximum.accumulate(np.array(p_values)[order] * np.arange(n, 0, -1))
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def plot(rows: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]], to: Path) -> None:
    """The accuracy of every search, beside the baselines' means, and how many are above the linear program."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for place, line in enumerate(lines):
        some = [row["select"] for row in rows if (row["method"], row["islands"]) == (line["method"], line["islands"])]
        axes.plot(some, np.full(len(some), place), "o", markersize=4, alpha=0.5, color="C0")
        axes.plot(line["median"], place, "|", markersize=14, color="C0")
    for name, style in zip(BASELINES, ("-", "--"), strict=True):
        mean = np.mean([row["baselines"][name] for row in rows])
        axes.axvline(mean, color="0.4", linestyle=style, linewidth=1, label=f"{name} program")
    axes.set_yticks(range(len(lines)), [label(line) for line in lines])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on T_select of each search; | is the median")
    axes.legend()
    figure.savefig(to)


def label(line: dict[str, Any]) -> str:
    """What a line is of, and how many of its searches are above the linear program."""
    islands = f", {line['islands']} island{'s' * (line['islands'] > 1)}" if line["method"] != "niches" else ""
    return f"{line['method']}{islands}: {line['linear']['above']} of {line['searches']} above"


def main(words: list[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, words)
    began = time.monotonic()
    keys = [
        {"method": method, "islands": islands, "seed": seed, "steps": chosen.steps}
        for seed in chosen.seeds
        for method in chosen.methods
        for islands in (chosen.islands if method != "niches" else (1,))
    ]
    to = results.path(chosen, __file__)
    rows = results.finished(chosen.jobs, search, keys, to, chosen.seeds)
    rows.sort(key=lambda row: (tuple(METHODS).index(row["method"]), row["islands"], row["seed"]))
    lines = table(rows)
    for line in lines:
        shares = "; ".join(f"above {name} {results.share(line[name]['above'], line['searches'])}" for name in BASELINES)
        print(
            f"{line['method']:10} {line['islands']:3}  median {line['median']:.4f}  mean {line['mean']:.4f}  {shares}"
        )
    compared = differences(rows)
    for line in compared:
        if min(line["p_accuracy"], line["p_above_linear"]) < 0.05:
            print(
                f"{line['one']} over {line['other']}: median {line['median']:+.4f}, p = {line['p_accuracy']:.2g}; "
                f"share above linear p = {line['p_above_linear']:.2g}"
            )
    results.write(to, began, chosen.seeds, {"table": lines, "differences": compared, "rows": rows})
    plot(rows, lines, to.with_suffix(".svg"))


if __name__ == "__main__":
    main()
