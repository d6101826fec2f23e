"""The paper's programs on the tasks here, and what each part of its best one (S1b) is worth.

    python experiments/paper_programs.py --small

S1b, as the library lists it, predicts from s1 = a' W b, where a = x - u and b = x + u. Learn steps W by sin(error) * a b'
over |a| |x|, whose size does not depend on the example's; draws u anew, every element from U(0.002, 0.7); and adds W to a
sum. What Predict multiplies by is std(W) W while it trains. Predict then leaves |a| |x| of the last training example
times the sum of all W where that was, and since no Learn comes in between, that is what validation predicts from, but
for its first example. u stays as last drawn. Its mean is not 0, and without it s1 would be even in x: so `its mean in
place of the noise` keeps the constant and linear terms that noise brings, and leaves out the randomness.

Every ablation is S1b with one thing changed. All have a rate to tune (`rate`), which the authors' program lacks, since
without normalised gradients there must be one. All constants are tuned by as many random draws, on search pairs of
classes, and judged on examples of other pairs, on other projections. Differences are taken seed by seed.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import results
from matplotlib.figure import Figure

from zero_jax import Programs, Tasks, evaluate, library, tune
from zero_jax.tasks import arrays, synthetic
from zero_jax.tasks.sets import TaskSet

LISTED = library.program("cifar10").listing(0)
REFERENCE = "S1b with a rate"
RATE = {"def Setup():": "def Setup():\n  s3 = 1", "  s7 = s5 / s2": "  s7 = s5 / s2\n  s7 = s3 * s7"}
NOISE = "  v9 = uniform(0.002, 0.7, n_features)"

ABLATIONS: dict[str, dict[str, str]] = {
    "no noise": {NOISE: ""},
    "its mean in place of the noise": {NOISE: "", "  s3 = 1": "  s3 = 1\n  s6 = 0.351\n  v9 = bcast(s6)"},
    "noise of mean 0": {NOISE: "  v9 = gaussian(0, 0.2015, n_features)"},
    "linear, not bilinear": {"  v1 = v0 - v9": "", "  s3 = 1": "  s3 = 1\n  s6 = 1\n  v1 = bcast(s6)"},
    "gradients not normalised": {"  s7 = s5 / s2\n  s7 = s3 * s7": "  s7 = s3 * s5"},
    "weights not averaged": {"  m1 = s2 * m2": "", "  m2 = m2 + m0": ""},
    "no sine": {"  s5 = sin(s4)": "", "  s7 = s5 / s2": "  s7 = s4 / s2"},
    "a constant in place of std(W)": {"  s4 = std(m0)": "  s4 = 1"},
}
"""What each changes of the listing of S1b with a rate: lines, and what stands there instead.

`no noise`: v9 is never written, so it is 0 where it is used. `noise of mean 0` has the same standard deviation.
`linear`: a is a vector of one constant, so all rows of W are equal, and s1 = w . b. `weights not averaged`: what Learn
leaves for Predict, std(W) W, serves in validation too.
"""


def changed(listing: str, lines: dict[str, str]) -> str:
    """A listing with some of its lines changed, each of which it has once."""
    for old, new in lines.items():
        assert f"\n{listing}".count(f"\n{old}\n") == 1, old
        listing = f"\n{listing}".replace(f"\n{old}\n", f"\n{new}\n" if new else "\n")[1:]
    return listing


def programs() -> dict[str, str]:
    """The text of every program, by name."""
    reference = changed(LISTED, RATE)
    ablated = {name: changed(reference, lines) for name, lines in ABLATIONS.items()}
    by_hand = {name: library.program(name).listing(0) for name in ("linear", "network")}
    return {**by_hand, "S1b": LISTED, REFERENCE: reference, **ablated}


@dataclasses.dataclass(frozen=True)
class Case:
    """Tasks to tune and to judge on.

    Attributes:
      source: digits, synthetic_images, cifar10, or teacher.
      features, train, valid: of a task; features None for every dimension.
      which: the programs.
      projections: how many there are of the held-out pairs.
    """

    source: str
    features: int | None
    train: int
    valid: int
    which: tuple[str, ...]
    projections: int = 5


ALL = tuple(programs())
UNABLATED = ALL[:4]
CASES = {
    "small": {
        "digits, F = 16": Case("digits", 16, 240, 50, ALL),
        "digits, all 64 dimensions": Case("digits", None, 240, 50, UNABLATED),
        "synthetic images, F = 16": Case("synthetic_images", 16, 800, 100, ALL),
        "teacher, F = 8": Case("teacher", 8, 1000, 100, ("linear", "network")),
    },
    "paper": {
        "CIFAR-10, F = 16": Case("cifar10", 16, 8000, 1000, ALL, 1),
        "CIFAR-10, F = 256": Case("cifar10", 256, 8000, 1000, ALL, 1),
        "teacher, F = 8": Case("teacher", 8, 1000, 100, ("linear", "network")),
    },
}
MAKERS = {"digits": arrays.digits, "synthetic_images": functools.partial(arrays.synthetic_images, per_class=500)}
"""Of tasks with any projections; other sources are made as a search makes them."""

TUNED_ON = 16


def tasks_of(case: Case, seed: int, held_out: bool) -> Tasks:
    """T_search of a seed: so many pairs of classes on one projection; or its held-out tasks: 9 other pairs on other
    projections, validated on examples set apart. Teachers of other seeds, for teacher tasks.
    """
    if case.source == "teacher":
        seed = 2 * seed + held_out
        return synthetic.teacher(TUNED_ON, features=case.features or 8, train=case.train, valid=case.valid, seed=seed)
    if case.source not in MAKERS:
        sizes = {"features": case.features, "train": case.train, "valid": case.valid}
        if not held_out:
            return TaskSet(case.source, TUNED_ON, **sizes).make(seed, "search")
        count = case.projections * arrays.N_SELECT_PAIRS
        return TaskSet(case.source, count * (seed + 1), **sizes).make(seed, "unseen")[count * seed :]
    pairs = arrays.class_pairs(select=held_out)
    if not held_out:
        pairs = [pairs[i] for i in np.random.default_rng(seed).choice(len(pairs), TUNED_ON, replace=False)]
    first = seed * (case.projections + 1)
    return MAKERS[case.source](
        pairs,
        features=case.features,
        train=case.train,
        valid=case.valid,
        test=case.valid,
        part="test" if held_out else "valid",
        projections=list(range(first + 1, first + 1 + case.projections)) if held_out else [first],
    )


def one(job: tuple[str, Case, int, int, int]) -> list[dict]:
    """All programs of a case, with one seed."""
    label, case, seed, evaluations, threads = job
    search, held_out = (tasks_of(case, seed, part) for part in (False, True))
    rows = []
    texts = programs()
    for name in case.which:
        start = Programs.parse(texts[name])
        tuned = tune(start, search, evaluations=evaluations, seed=seed, threads=threads or None)
        judge = functools.partial(evaluate, tasks=held_out, seed=seed + 1000, threads=threads or None)
        before, after = (float(np.mean(judge(program).fitness)) for program in (start, tuned.program))
        rows.append({
            "case": label, "program": name, "seed": seed, "search": tuned.fitness, "untuned": before, "held_out": after,
            "listing": tuned.program.listing(0), "train_steps": tuned.train_steps, "seconds": round(tuned.seconds, 2),
        })  # fmt: skip
    return rows


def summary(values: Sequence[float]) -> list[float]:
    """Mean and standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return [float(np.mean(values)), float(error)]


def table(runs: list[dict], cases: dict[str, Case]) -> list[dict]:
    rows = []
    for label, case in cases.items():
        base = REFERENCE if REFERENCE in case.which else "network"
        for name in case.which:
            some, others = ([r for r in runs if (r["case"], r["program"]) == (label, which)] for which in (name, base))
            differences = [a["held_out"] - b["held_out"] for a, b in zip(some, others, strict=True)]
            means = {key: summary([r[key] for r in some]) for key in ("untuned", "search", "held_out")}
            rows.append({"case": label, "program": name, **means, "base": base, "over_base": summary(differences)})
    return rows


def plot(rows: list[dict], cases: dict[str, Case], to: Path, seeds: int) -> None:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    scores, parts = figure.subplots(1, 2, width_ratios=(2, 3))
    paired = [label for label, case in cases.items() if REFERENCE in case.which]
    for i, label in enumerate(paired):
        for axes, names, key in ((scores, UNABLATED[:3], "held_out"), (parts, ALL[4:], "over_base")):
            some = [row for name in names for row in rows if (row["case"], row["program"]) == (label, name)]
            places = np.arange(len(some)) + 0.16 * (i - (len(paired) - 1) / 2)
            if some:
                mean, error = zip(*(row[key] for row in some), strict=True)
                axes.errorbar(mean, places, xerr=error, fmt="o", color=f"C{i}", capsize=3, label=label)
            axes.set_yticks(range(len(names)), names)
    for axes in (scores, parts):
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    figure.legend(*scores.get_legend_handles_labels(), loc="outside lower center", ncols=len(paired))
    parts.axvline(0, color="0.5", linewidth=1)
    parts.set_xscale("symlog", linthresh=0.02)
    ticks = (-0.1, -0.05, -0.02, -0.01, 0, 0.01)
    parts.set_xticks(ticks, [f"{tick:+g}" for tick in ticks])
    scores.set_xlabel("accuracy on held-out pairs of classes")
    parts.set_xlabel(f"accuracy over {REFERENCE}, seed by seed (logarithmic beyond 0.02)")
    figure.suptitle(f"constants tuned on other pairs; mean and standard error of {seeds} seeds")
    figure.savefig(to)


def show(rows: list[dict]) -> None:
    for label in dict.fromkeys(row["case"] for row in rows):
        some = [row for row in rows if row["case"] == label]
        print(f"\n{label:31} {'untuned':>17}  {'tuned':>17}  over {some[0]['base']}")
        for row in some:
            cells = "  ".join("{:7.4f} +- {:.4f}".format(*row[key]) for key in ("untuned", "held_out"))
            over = "" if row["program"] == row["base"] else "  {:+.4f} +- {:.4f}".format(*row["over_base"])
            print(f"{row['program']:31} {cells}{over}")


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What is compared, and how long.

    Attributes:
      evaluations: Of every program, to tune its constants.
      at_a_time: Processes; 1 also leaves a CPU's threads to the package.
      only: Which cases; all of them by default.
    """

    seeds: tuple[int, ...] = tuple(range(12))
    evaluations: int = 200
    at_a_time: int = 2
    only: tuple[str, ...] = ()

    def check(self) -> None:
        super().check()
        results.check_whole(self.evaluations, 1)
        results.check_whole(self.at_a_time, 1)
        cases = CASES[self.size]
        for label in self.only:
            if label not in cases:
                raise ValueError(f"no case {label!r}; the cases are {', '.join(map(repr, cases))}")


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    began, cases = time.monotonic(), CASES[chosen.size]
    cases = {label: case for label, case in cases.items() if not chosen.only or label in chosen.only}
    threads = 1 if chosen.at_a_time > 1 else 0
    jobs = [(label, case, seed, chosen.evaluations, threads) for label, case in cases.items() for seed in chosen.seeds]
    runs = [row for rows in results.mapped(chosen.at_a_time, one, jobs) for row in rows]
    rows = table(runs, cases)
    show(rows)
    to = results.path(chosen, __file__)
    plot(rows, cases, to.with_suffix(".svg"), len(chosen.seeds))
    stored = {"evaluations": chosen.evaluations, "programs": programs(), "table": rows, "runs": runs}
    results.write(to, began, chosen.seeds, stored)


if __name__ == "__main__":
    main()
