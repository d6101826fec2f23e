"""What evolution adds to a 2-layer network under other conditions (paper, section 4.3): few examples, few epochs, ten classes.

    python experiments/adaptation.py --small
    python experiments/adaptation.py --small --dataset fashion_mnist

Every search starts from the library's network (for ten classes, from the one with softmax) and may use all ops. The paper
says of three things that they come under one condition and not, or less, under its opposite: noise (8 of 30 searches with
80 examples, 0 of 30 with 800), learning-rate decay (30 of 30 with 10 epochs, 3 of 30 with 100), and a function of the
mean of the weights as learning rate (24 of 30 with ten classes, 0 of 30 with two). Here the three are counted in the best
program of each search, without its dead code, under all six conditions:

- noise: a random instruction in Predict or Learn;
- decay: a scalar that multiplies something in Learn and shrinks by 5% or more in the course of training, in the same way
  whatever the data (two tasks are run side by side, step by step);
- weights: a mean, norm or standard deviation of a matrix in Predict or Learn.

What was found is judged on unseen tasks beside the library's network and linear program, whose constants are tuned by 300
evaluations on T_search, all after the last epoch: fitness takes the best of several epochs, which on unseen
tasks would be a choice made on them. Unseen tasks are the same for all seeds and share images with T_search, so standard
errors are those over searches.

`--small` takes digits on 8 or 16 random projections, a tenth of the paper's examples and 10 searches a condition; it is
counted which things appear, and Fisher's exact test tells whether more often under the condition where the paper saw them.
The paper made 30 searches: `--seeds $(seq 0 29)`.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import results
from matplotlib.figure import Figure
from scipy.stats import fisher_exact

from zero_jax import (
    Component,
    Mutations,
    Programs,
    SearchSpace,
    Tasks,
    evaluate,
    execute,
    library,
    program_fitness,
    tune,
)
from zero_jax.program import ops
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.run import build
from zero_jax.run.api import run
from zero_jax.run.config import EvaluationConfig, OutputConfig, RunConfig, ScheduleConfig, TaskConfig
from zero_jax.search import RegularizedEvolution
from zero_jax.tasks.sets import TaskSet

EVERY = tuple(range(1, 65))
SPACE = SearchSpace(
    (10, 16, 4), Component(EVERY, (1, 3, 21)), Component(EVERY, (1, 5, 21)), Component(EVERY, (1, 12, 45))
)
MUTATIONS = Mutations(("alter_param", "randomize_instruction", "insert_instruction", "remove_instruction"))
REDUCTIONS = (34, 51, 55)  # of a matrix to a scalar: norm, mean, standard deviation
PRODUCTS = (3, 4, 18, 29)  # of or by a scalar
SHRINKS = 0.95
TRACED = 300
EVOLVED, BASELINES = "evolved", ("network", "linear")


@dataclasses.dataclass(frozen=True)
class Case:
    """A condition of the paper and its opposite.

    Attributes:
      trait: what the paper saw under the first.
      tasks: of the first, and what is different in the second.
      opposite: likewise.
    """

    trait: str
    tasks: dict
    opposite: dict


CASES = {
    "small": {
        "few examples": Case(
            "noise", {"features": 8, "train": 24, "valid": 50, "epochs": 15}, {"train": 240},
        ),
        "few epochs": Case("decay", {"features": 8, "train": 240, "valid": 50, "epochs": 2}, {"epochs": 20}),
        "ten classes": Case("weights", {"features": 16, "train": 800, "valid": 200, "classes": 10}, {"classes": 2, "train": 240, "valid": 50}),
    },
    "paper": {
        "few examples": Case("noise", {"features": 16, "train": 80, "valid": 1000, "epochs": 100}, {"train": 800}),
        "few epochs": Case("decay", {"features": 16, "train": 800, "valid": 1000, "epochs": 10}, {"epochs": 100}),
        "ten classes": Case("weights", {"features": 16, "train": 8000, "valid": 1000, "classes": 10}, {"classes": 2}),
    },
}  # fmt: skip
SIZES = {
    "small": {"source": "digits", "programs": 30_000, "islands": 1},
    "paper": {"source": "cifar10", "programs": 1_000_000_000, "islands": 100},
}


def experiment(size: str, dataset: str, tasks: dict, seed: int) -> RunConfig:
    """The search under a condition: so many programs of the cost of the network."""
    chosen = SIZES[size]
    described = TaskSet(dataset, tasks=10, **tasks)
    examples = 10 * described.train * described.epochs
    select, unseen = (dataclasses.replace(described, tasks=n) for n in (18, 9))
    steps = chosen["programs"] * examples // 4  # programs that are known or stopped are not charged in full
    return RunConfig(
        "adaptation",
        TaskConfig(described, select, unseen),
        RegularizedEvolution(
            SPACE, chosen["islands"], population=100, cohort=50, mutations=MUTATIONS, initial="network"
        ),
        EvaluationConfig(train_budget=2.0, probe=10),
        ScheduleConfig(trials=1, train_steps=steps, sufficient_fitness=1.0, candidates=10, threads=1),
        OutputConfig(out=None),
        seed,
    )


# ---------------------------------------------------------------------------------------------- what is counted


def traits(program, tasks) -> dict[str, bool]:
    """Which of the three a program has, on two tasks."""
    short = pruned(program, Interface.of(program.memory, tasks))
    first = short.starts[1]
    used = [op for op in np.asarray(short.code)[0, first:, 0].tolist() if op]
    return {
        "noise": any(op in ops.RANDOM for op in used),
        "decay": decays(short, tasks[:2]),
        "weights": any(op in REDUCTIONS for op in used),
    }


def decays(program, tasks) -> bool:
    """Whether a scalar that multiplies something in Learn shrinks, equally on both tasks."""
    start, end = program.starts[2], program.starts[2] + int(program.length[0, 2])
    code = np.asarray(program.code)[0, start:end]
    factors = {
        int(row[i]) for row in code for i in (1, 2) if row[0] in PRODUCTS and ops.OPS[row[0]].inputs[i - 1] == "s"
    }
    seen = traced(program, tasks)[:, :, sorted(factors)]
    with np.errstate(invalid="ignore"):
        size = np.abs(seen)
        equal = (seen[:, 0] == seen[:, 1]).all(0)
        falls = (np.diff(size[:, 0], axis=0) <= 0).mean(0) > 0.9
        return bool((equal & falls & (size[0, 0] > 0) & (size[-1, 0] < SHRINKS * size[0, 0])).any())


def traced(program, tasks) -> np.ndarray:
    """`[steps, 2, S]`: the scalars when Learn has run on each of the first examples."""
    s, v, m = program.memory
    f, steps = tasks.features, min(TRACED, tasks.epochs * tasks.train_x.shape[1])
    memory = np.zeros((1, 2, s)), np.zeros((1, 2, v, f)), np.zeros((1, 2, m, f, f))
    scalars, vectors, matrices = map(np.array, execute(program, memory, "setup", "simd"))
    products = []
    for i in tasks.order.reshape(-1)[:steps]:
        x, y = tasks.train_x[:, i], tasks.train_y[:, i]
        vectors[0, :, 0] = x
        _tell(scalars, vectors, np.full(2, -1.0) if tasks.vector_labels else np.zeros(2), tasks)
        scalars, vectors, matrices = map(np.array, execute(program, (scalars, vectors, matrices), "predict", "simd"))
        _normalise(scalars, vectors, tasks)
        vectors[0, :, 0] = x
        _tell(scalars, vectors, y, tasks)
        scalars, vectors, matrices = map(np.array, execute(program, (scalars, vectors, matrices), "learn", "simd"))
        products.append(scalars[0])
    return np.array(products)


def _tell(scalars, vectors, y, tasks) -> None:
    if tasks.vector_labels:
        vectors[0, :, 1] = np.arange(tasks.features) == y[:, None]
    else:
        scalars[0, :, 0] = y


def _normalise(scalars, vectors, tasks) -> None:
    with np.errstate(all="ignore"):
        if tasks.vector_labels:
            each = np.exp(vectors[0, :, 2, : tasks.classes] - vectors[0, :, 2, : tasks.classes].max(1, keepdims=True))
            vectors[0, :, 2, : tasks.classes] = each / each.sum(1, keepdims=True)
        else:
            scalars[0, :, 1] = 1 / (1 + np.exp(-scalars[0, :, 1]))


# ---------------------------------------------------------------------------------------------- the experiment


def one(size: str, dataset: str, case: str, opposite: bool, seed: int) -> dict:
    """One search: what it found, and what that is worth."""
    of = CASES[size][case]
    asked = experiment(size, dataset, of.tasks | (of.opposite if opposite else {}), seed)
    outcome = run(asked)
    interface = Interface.of(outcome.program.memory, asked.tasks.search)
    return {
        **traits(outcome.program, build.tasks(asked, "select")),
        "evaluations": outcome.progress.evaluations,
        "trained": outcome.progress.trained,
        "seconds": round(outcome.progress.seconds, 1),
        "select_accuracy": outcome.select_fitness,
        "unseen_accuracy": judged(outcome.program, asked),
        "program": pruned(outcome.program, interface).listing(0),
    }


def judged(program: Programs, asked: RunConfig) -> dict[str, float]:
    """Accuracy on unseen tasks of a program and of both baselines, at the end of training."""
    search, unseen = build.tasks(asked, "search"), at_end(build.tasks(asked, "unseen"))
    programs = {EVOLVED: program}
    for name in BASELINES:
        known = library.baseline(name, search)
        programs[name] = tune(known, search, evaluations=300, seed=asked.seed, threads=1).program
    return {
        name: float(program_fitness(evaluate(one, unseen, asked.seed, threads=1).fitness)[0])
        for name, one in programs.items()
    }


def at_end(tasks: Tasks) -> Tasks:
    """Tasks on which training is the same, in one epoch, so that only its end is judged."""
    order = np.asarray(tasks.order).reshape(-1)
    x, y = tasks.train_x[:, order], tasks.train_y[:, order]
    return Tasks(x, y, tasks.valid_x, tasks.valid_y, tasks.loss, ids=tasks.ids, classes=tasks.classes)


def table(rows: list[dict], size: str) -> list[dict]:
    """Counts of the three things under each condition and its opposite, and what they say of the paper's claim."""
    lines = []
    for case, of in CASES[size].items():
        here, there = ([r for r in rows if r["case"] == case and r["opposite"] == flag] for flag in (False, True))
        counts = {side: {t: sum(r[t] for r in part) for t in ("noise", "decay", "weights")} for side, part in (("condition", here), ("opposite", there))}  # fmt: skip
        a, b = counts["condition"][of.trait], counts["opposite"][of.trait]
        test = fisher_exact([[a, len(here) - a], [b, len(there) - b]], alternative="greater")
        accuracy = {side: {name: np.array([r["unseen_accuracy"][name] for r in part]) for name in (EVOLVED, *BASELINES)} for side, part in (("condition", here), ("opposite", there))}  # fmt: skip
        lines.append(
            {
                "case": case,
                "trait": of.trait,
                "searches": len(here),
                "counts": counts,
                "p": float(test.pvalue),
                "unseen_accuracy": {
                    side: {name: float(values.mean()) for name, values in of.items()} for side, of in accuracy.items()
                },
                "gain": {
                    side: {name: spread(of[EVOLVED] - of[name]) for name in BASELINES} for side, of in accuracy.items()
                },
            }
        )
    return lines


def spread(values: np.ndarray) -> list[float | None]:
    """Mean and standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None]


def figure(rows: list[dict], to: Path) -> None:
    """How often each thing appeared, condition beside opposite, and below what evolution gained over the baselines."""
    drawing = Figure(figsize=(9, 5.5), layout="constrained")
    above, below = drawing.subplots(2, len(rows), sharey="row")
    for axes, gains, row in zip(above, below, rows, strict=True):
        for place, side in enumerate(("condition", "opposite")):
            heights = [row["counts"][side][t] / row["searches"] for t in ("noise", "decay", "weights")]
            label = row["case"] if side == "condition" else "its opposite"
            axes.bar(np.arange(3) + 0.4 * place, heights, 0.38, label=label)
            for other, (mean, error) in enumerate(row["gain"][side].values()):
                gains.errorbar(
                    other + 0.2 * place, 100 * mean, 200 * (error or 0), fmt="o", color=f"C{place}", capsize=4
                )
        axes.set_xticks(np.arange(3) + 0.2, ["noise", "decay", "weights"])
        axes.set_title(f"{row['case']}: {row['trait']}?", fontsize=10)
        axes.set_ylim(0, 1)
        axes.legend(fontsize=8)
        gains.axhline(0, color="0.5", linewidth=1)
        gains.set_xticks(np.arange(len(BASELINES)) + 0.1, [f"over {name}" for name in BASELINES])
        gains.set_xlim(-0.5, len(BASELINES) - 0.3)
    above[0].set_ylabel("share of searches")
    below[0].set_ylabel("points gained, 2 standard errors")
    drawing.savefig(to)


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """Which searches, and how many at a time.

    Attributes:
      dataset: The images: digits, fashion_mnist, cifar10 and so on; by default what the size says.
      processes: How many processes.
    """

    seeds: tuple[int, ...] = tuple(range(10))
    dataset: str = ""
    processes: int = 2

    def check(self) -> None:
        super().check()
        results.check_whole(self.processes, 1)
        TaskSet(self.dataset or "digits", features=16, classes=10).check()

    @property
    def images(self) -> str:
        return self.dataset or SIZES[self.size]["source"]


def main(words: list[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, words)
    began, size, seeds = time.monotonic(), chosen.size, chosen.seeds
    to = results.path(chosen, __file__)
    if chosen.dataset and not chosen.out:
        to = to.with_name(f"{to.stem}_{chosen.dataset.replace(':', '_').replace('/', '_')}.json")
    keys = [
        {"size": size, "dataset": chosen.images, "case": case, "opposite": opposite, "seed": seed}
        for seed in seeds
        for case in CASES[size]
        for opposite in (False, True)
    ]
    rows = results.finished(chosen.processes, one, keys, to, seeds)
    lines = table(rows, size)
    for row in lines:
        c, o = row["counts"]["condition"], row["counts"]["opposite"]
        gains = "; ".join(
            f"over {name} " + " : ".join(f"{row['gain'][side][name][0]:+.4f} +- {row['gain'][side][name][1] or 0:.4f}" for side in row["gain"])
            for name in BASELINES
        )  # fmt: skip
        print(
            f"{row['case']:13} noise {c['noise']:2} : {o['noise']:2}  decay {c['decay']:2} : {o['decay']:2}  weights "
            f"{c['weights']:2} : {o['weights']:2}  of {row['searches']}; {row['trait']}: p = {row['p']:.3f}; unseen accuracy {gains}"
        )  # fmt: skip
    figure(lines, to.with_suffix(".svg"))
    results.write(to, began, seeds, {"table": lines, "rows": rows})


if __name__ == "__main__":
    main()
