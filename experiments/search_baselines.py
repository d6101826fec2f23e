"""The paper's baselines for other searches (supplement S10): Basic and Full, on 1 process or many, over random search.

    python experiments/search_baselines.py --small

The space, the sizes and the train budget are the paper's. `Basic` is regularized evolution alone. `Full` adds what the
paper added to it: functional equivalence checks, hurdles, and migration where there are several processes; and programs
known by their canonical form. What each of them brings is in `ablation/`. A process is an island, and all have the same
train steps, so more processes do more work. `--small` tells digits apart, where the paper had CIFAR-10 (`--paper`).

A repeat has its own T_search and population, the same for all rows; T_select is one. Accuracy on T_select is that of the
best of 10 candidates there, so a little too high; that on unseen examples of the same pairs is not.
"""

import dataclasses
import time
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import results
from matplotlib.figure import Figure

from zero_jax.run.api import run
from zero_jax.run.config import RunConfig
from zero_jax.run.presets import PRESETS

DIGITS = PRESETS["empty"][1]
BASIC = DIGITS.replace(train_budget=2.0, cache_size=0, trials=1, out=None, baselines=(), sufficient_fitness=2.0)
FULL = BASIC.replace(cache_size=DIGITS.evaluation.cache_size, probe=10, hurdle_tasks=0.3, hurdle_examples=0.3)
NETWORK_SIZES = DIGITS.searcher.space.with_sizes(initial=(3, 5, 11))
RANDOM = BASIC.replace(method="random", space=NETWORK_SIZES)  # programs of one length; the network's
METHODS = {"random search": RANDOM, "Basic": BASIC, "Full": FULL}
MIGRATE_EVERY = 1000
PUBLISHED = {"Basic": (0.671, 0.681, 0.691), "Full": (0.684, 0.693, 0.707)}


@dataclasses.dataclass(frozen=True)
class Size:
    """What `--small` and `--paper` change: tasks, how many processes, train steps of each, repeats, runs at a time."""

    tasks: dict
    processes: tuple[int, ...]
    steps: int
    repeats: int
    at_a_time: int
    select_tasks: int


SIZES = {
    "small": Size({}, (1, 4, 16), 10_000_000, 10, 2, 45),
    "paper": Size({"source": "cifar10", "train": 8000, "valid": 1000}, (1, 10, 100), 1_000_000_000, 100, 1, 9),
}


def experiment(size: Size, method: str, processes: int, seed: int, steps: int) -> RunConfig:
    """One cell of the table, one repeat."""
    chosen = METHODS[method]
    judged = size.tasks | {"tasks": size.select_tasks}
    sets = {
        "search_tasks": dataclasses.replace(chosen.tasks.search, **size.tasks),
        "select_tasks": dataclasses.replace(chosen.tasks.select, **judged),
        "unseen_tasks": dataclasses.replace(chosen.tasks.unseen, **judged),
    }
    migrate_every = MIGRATE_EVERY if method == "Full" and processes > 1 else 0
    more = {"threads": 1 if size.at_a_time > 1 else 0, "migrate_every": migrate_every, "train_steps": steps * processes}
    if method == "Basic" and processes == size.processes[0]:
        more["baselines"] = ("linear", "network")
    if method == "random search":  # as many programs at a time as the islands of the others have children
        more |= {"cohort": processes * DIGITS.searcher.cohort, "migrate_every": 0}
    else:
        more["islands"] = processes
    return chosen.replace(seed=seed, **sets, **more)


def one(job: tuple[Size, str, int, int, int]) -> dict:
    _, method, processes, seed, _ = job
    outcome = run(experiment(*job))
    progress = outcome.progress
    return {
        "method": method, "processes": processes, "seed": seed, "search": outcome.search_fitness,
        "select": outcome.select_fitness, "unseen": outcome.unseen_fitness, "evaluations": progress.evaluations,
        "trained": progress.trained, "train_steps": progress.train_steps, "seconds": round(progress.seconds, 2),
        "hand-written": {b.name: {"select": b.select_fitness, "unseen": b.unseen_fitness} for b in outcome.baselines},
    }  # fmt: skip


def summary(values: Sequence[float]) -> list[float]:
    """Mean and standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return [float(np.mean(values)), float(error)]


def table(runs: list[dict], size: Size) -> list[dict]:
    rows = []
    for method, processes in product(METHODS, size.processes):
        some = cell(runs, method, processes)
        means = {key: summary([r[key] for r in some]) for key in ("select", "unseen", "search")}
        work = {key: float(np.mean([r[key] for r in some])) for key in ("evaluations", "trained", "seconds")}
        rows.append({"method": method, "processes": processes, **means, **work})
    for name in ("linear", "network"):
        some = [r["hand-written"][name] for r in runs if r["hand-written"]]
        means = {key: summary([r[key] for r in some]) for key in ("select", "unseen")}
        rows.append({"method": f"{name}, by hand", "processes": None, **means})
    return rows


def cell(runs: list[dict], method: str, processes: int) -> list[dict]:
    chosen = [r for r in runs if (r["method"], r["processes"]) == (method, processes)]
    return sorted(chosen, key=lambda r: r["seed"])


def directions(runs: list[dict], size: Size) -> list[dict]:
    """The differences of which the paper tells the sign, repeat by repeat."""
    few = size.processes
    paper = {(method, n): PUBLISHED[method][i] for method in PUBLISHED for i, n in enumerate(few)}
    pairs = [((method, more), (method, less)) for method in PUBLISHED for less, more in pairwise(few)]
    pairs += [(("Full", n), ("Basic", n)) for n in few]
    pairs += [((method, n), ("random search", n)) for method in PUBLISHED for n in few]
    lines = []
    for better, worse in pairs:
        each = [a["select"] - b["select"] for a, b in zip(cell(runs, *better), cell(runs, *worse), strict=True)]
        mean, error = summary(each)
        seen = "yes" if mean > 2 * error else "no, the opposite" if mean < -2 * error else "within the noise"
        published = round(paper[better] - paper[worse], 3) if worse in paper else None
        lines.append(
            {"better": better, "worse": worse, "difference": [mean, error], "seen": seen, "published": published}
        )
    return lines


def plot(rows: list[dict], size: Size, to: Path, repeats: int) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    ours, paper = figure.subplots(1, 2)
    for colour, method in zip(("0.6", "C0", "C1"), METHODS, strict=True):
        some = [row for row in rows if row["method"] == method]
        mean, error = zip(*(row["select"] for row in some), strict=True)
        ours.errorbar(size.processes, 1 - np.array(mean), error, fmt="o-", color=colour, capsize=4, label=method)
        if method in PUBLISHED:
            paper.plot((1, 10, 100), 1 - np.array(PUBLISHED[method]), "o-", color=colour)
    for row, style in zip(rows[-2:], (":", "--"), strict=True):
        ours.axhline(1 - row["select"][0], color="0.4", linestyle=style, linewidth=1, label=row["method"])
    source = size.tasks.get("source", "digits")
    ours.set_title(f"here: {source}, {repeats} repeats, mean and standard error")
    paper.set_title("the paper's: CIFAR-10, as published")
    for axes, ticks in ((ours, size.processes), (paper, (1, 10, 100))):
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()
        axes.set_xlabel("processes (islands)")
    ours.set_yscale("log")
    ours.set_ylabel("share of mistakes on T_select")
    figure.legend(loc="outside lower center", ncols=5)
    figure.savefig(to)


def show(rows: list[dict], lines: list[dict]) -> None:
    print(f"{'method':17} processes  {'T_select':>17}  {'unseen':>17}    programs     trained")
    for row in rows:
        cells = "  ".join("{:7.4f} +- {:.4f}".format(*row[key]) for key in ("select", "unseen"))
        work = f"  {row['evaluations']:10,.0f}  {row['trained']:10,.0f}" if row["processes"] else ""
        print(f"{row['method']:17} {row['processes'] or '':9}  {cells}{work}")
    print("\nIs it as in the paper? (yes: by more than two standard errors)")
    for row in lines:
        what = " over ".join(f"{method} on {n}" for method, n in (row["better"], row["worse"]))
        paper = f", published {row['published']:+.3f}" if row["published"] is not None else ""
        print(f"{what:38} {row['difference'][0]:+.4f} +- {row['difference'][1]:.4f}  {row['seen']}{paper}")


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """How large the table is.

    Attributes:
      seeds: Each once; by default as many as the size has repeats.
      steps: Train steps of each process.
      processes: How many processes in each of three columns, different ones.
      at_a_time: How many runs to have under way.
    """

    seeds: tuple[int, ...] = ()
    steps: int | None = None
    processes: tuple[int, int, int] | None = None
    at_a_time: int | None = None

    def check(self) -> None:
        super().check()
        for number in (self.steps, self.at_a_time, *(self.processes or ())):
            if number is not None:
                results.check_whole(number, 1)
        if self.processes and len(set(self.processes)) < 3:
            raise ValueError(f"--processes {' '.join(map(str, self.processes))}: three different numbers")


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    size = _size(chosen)
    seeds = chosen.seeds or range(size.repeats)
    began = time.monotonic()
    jobs = [(size, method, n, seed, size.steps) for seed in seeds for n in size.processes[::-1] for method in METHODS]
    runs = results.mapped(size.at_a_time, one, jobs)
    rows, lines = table(runs, size), directions(runs, size)
    show(rows, lines)
    to = results.path(chosen, __file__)
    plot(rows, size, to.with_suffix(".svg"), len(seeds))
    results.write(
        to,
        began,
        seeds,
        {
            "size": dataclasses.asdict(size),
            "table": rows,
            "as_in_the_paper": lines,
            "published": PUBLISHED,
            "runs": runs,
        },
    )


def _size(chosen: Options) -> Size:
    given = {"steps": chosen.steps, "at_a_time": chosen.at_a_time}
    changes = {name: value for name, value in given.items() if value is not None}
    if chosen.processes:
        changes["processes"] = tuple(chosen.processes)
    return dataclasses.replace(SIZES[chosen.size], **changes)


if __name__ == "__main__":
    main()
