"""What evolution adds to a 2-layer network under other conditions (paper, section 4.3): few examples, few epochs, ten classes.

    python experiments/adaptation.py --small

Every search starts from the library's network (for ten classes, from the one with softmax) and may use all ops. The paper
says of three things that they come under one condition and not, or less, under its opposite: noise (8 of 30 searches with
80 examples, 0 of 30 with 800), learning-rate decay (30 of 30 with 10 epochs, 3 of 30 with 100), and a function of the
mean of the weights as learning rate (24 of 30 with ten classes, 0 of 30 with two). Here the three are counted in the best
program of each search, without its dead code, under all six conditions:

- noise: a random instruction in Predict or Learn;
- decay: a scalar that multiplies something in Learn and shrinks by 5% or more in the course of training, in the same way
  whatever the data (two tasks are run side by side, step by step);
- weights: a mean, norm or standard deviation of a matrix in Predict or Learn.

`--small` takes digits on 8 or 16 random projections, a tenth of the paper's examples and 10 searches a condition; it is
counted which things appear, and Fisher's exact test tells whether more often under the condition where the paper saw them.
The paper made 30 searches: `--seeds $(seq 0 29)`.
"""

import dataclasses
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import results
from matplotlib.figure import Figure
from scipy.stats import fisher_exact

from zero_jax import Mutations, SearchSpace, execute, ops
from zero_jax.canonical import pruned
from zero_jax.experiment import Experiment, run
from zero_jax.tasks.sets import TaskSet

EVERY = tuple(range(1, 65))
SPACE = SearchSpace((10, 16, 4), EVERY, EVERY, EVERY, (1, 1, 1), (3, 5, 12), (21, 21, 45))
MUTATIONS = Mutations(("alter_param", "randomize_instruction", "insert_instruction", "remove_instruction"))
REDUCTIONS = (34, 51, 55)  # of a matrix to a scalar: norm, mean, standard deviation
PRODUCTS = (3, 4, 18, 29)  # of or by a scalar
SHRINKS = 0.95
TRACED = 300


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


def experiment(size: str, tasks: dict, seed: int) -> Experiment:
    """The search under a condition: so many programs of the cost of the network."""
    chosen = SIZES[size]
    described = TaskSet(chosen["source"], tasks=10, **tasks)
    examples = 10 * described.train * described.epochs
    return Experiment(
        "adaptation",
        described,
        dataclasses.replace(described, tasks=18),
        dataclasses.replace(described, tasks=9),
        SPACE,
        islands=chosen["islands"],
        population=100,
        cohort=50,
        mutations=MUTATIONS,
        initial="network",
        train_steps=chosen["programs"] * examples // 4,  # programs that are known or stopped are not charged in full
        experiments=1,
        sufficient_fitness=1.0,
        candidates=10,
        budget=2.0,
        baselines=("network",),
        probe=10,
        threads=1,
        seed=seed,
        out="",
    )


# ---------------------------------------------------------------------------------------------- what is counted


def traits(program, tasks) -> dict[str, bool]:
    """Which of the three a program has, on two tasks."""
    short = pruned(program, tasks.vector_labels)
    first = short.starts[1]
    used = [op for op in np.asarray(short.code)[0, first:, 0].tolist() if op]
    return {
        "noise": any(op in ops.RANDOM for op in used),
        "decay": decays(short, tasks[:2]),
        "weights": any(op in REDUCTIONS for op in used),
    }


def decays(program, tasks) -> bool:
    """Whether a scalar that multiplies something in Learn shrinks, alike on both tasks."""
    start, end = program.starts[2], program.starts[2] + int(program.length[0, 2])
    code = np.asarray(program.code)[0, start:end]
    factors = {
        int(row[i]) for row in code for i in (1, 2) if row[0] in PRODUCTS and ops.OPS[row[0]].inputs[i - 1] == "s"
    }
    seen = traced(program, tasks)[:, :, sorted(factors)]
    with np.errstate(invalid="ignore"):
        size = np.abs(seen)
        alike = (seen[:, 0] == seen[:, 1]).all(0)
        falls = (np.diff(size[:, 0], axis=0) <= 0).mean(0) > 0.9
        return bool((alike & falls & (size[0, 0] > 0) & (size[-1, 0] < SHRINKS * size[0, 0])).any())


def traced(program, tasks) -> np.ndarray:
    """`[steps, 2, S]`: the scalars when Learn has run on each of the first examples."""
    s, v, m = program.memory
    f, steps = tasks.features, min(TRACED, tasks.epochs * tasks.train_x.shape[1])
    memory = np.zeros((1, 2, s)), np.zeros((1, 2, v, f)), np.zeros((1, 2, m, f, f))
    scalars, vectors, matrices = map(np.array, execute(program, memory, "setup", "simd"))
    found = []
    for i in tasks.order.reshape(-1)[:steps]:
        x, y = tasks.train_x[:, i], tasks.train_y[:, i]
        vectors[0, :, 0] = x
        _tell(scalars, vectors, np.full(2, -1.0) if tasks.vector_labels else np.zeros(2), tasks)
        scalars, vectors, matrices = map(np.array, execute(program, (scalars, vectors, matrices), "predict", "simd"))
        _normalise(scalars, vectors, tasks)
        vectors[0, :, 0] = x
        _tell(scalars, vectors, y, tasks)
        scalars, vectors, matrices = map(np.array, execute(program, (scalars, vectors, matrices), "learn", "simd"))
        found.append(scalars[0])
    return np.array(found)


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


def one(job: tuple) -> dict:
    size, case, opposite, seed = job
    of = CASES[size][case]
    asked = experiment(size, of.tasks | (of.opposite if opposite else {}), seed)
    outcome = run(asked)
    vectors = asked.search_tasks.vector_labels
    return {
        "case": case,
        "opposite": opposite,
        "seed": seed,
        **traits(outcome.program, asked.tasks("select")),
        "evaluations": outcome.progress.evaluations,
        "trained": outcome.progress.trained,
        "seconds": round(outcome.progress.seconds, 1),
        "select_accuracy": outcome.select_fitness,
        "unseen_accuracy": outcome.unseen_fitness,
        "network_unseen_accuracy": outcome.baselines[0].unseen_fitness,
        "program": pruned(outcome.program, vectors).listing(0),
    }


def table(rows: list[dict], size: str) -> list[dict]:
    """Counts of the three things under each condition and its opposite, and what they say of the paper's claim."""
    told = []
    for case, of in CASES[size].items():
        here, there = ([r for r in rows if r["case"] == case and r["opposite"] == flag] for flag in (False, True))
        counts = {side: {t: sum(r[t] for r in part) for t in ("noise", "decay", "weights")} for side, part in (("condition", here), ("opposite", there))}  # fmt: skip
        a, b = counts["condition"][of.trait], counts["opposite"][of.trait]
        test = fisher_exact([[a, len(here) - a], [b, len(there) - b]], alternative="greater")
        gains = {side: np.array([r["unseen_accuracy"] - r["network_unseen_accuracy"] for r in part]) for side, part in (("condition", here), ("opposite", there))}  # fmt: skip
        told.append(
            {
                "case": case,
                "trait": of.trait,
                "searches": len(here),
                "counts": counts,
                "p": float(test.pvalue),
                "gain_over_network": {
                    side: [float(g.mean()), float(g.std(ddof=1) / len(g) ** 0.5) if len(g) > 1 else None]
                    for side, g in gains.items()
                },
            }
        )
    return told


def figure(rows: list[dict], to: Path) -> None:
    """How often each thing appeared, condition beside opposite."""
    drawing = Figure(figsize=(9, 3), layout="constrained")
    for axes, row in zip(drawing.subplots(1, len(rows), sharey=True), rows, strict=True):
        for place, side in enumerate(("condition", "opposite")):
            heights = [row["counts"][side][t] / row["searches"] for t in ("noise", "decay", "weights")]
            label = row["case"] if side == "condition" else "its opposite"
            axes.bar(np.arange(3) + 0.4 * place, heights, 0.38, label=label)
        axes.set_xticks(np.arange(3) + 0.2, ["noise", "decay", "weights"])
        axes.set_title(f"{row['case']}: {row['trait']}?", fontsize=10)
        axes.set_ylim(0, 1)
        axes.legend(fontsize=8)
    drawing.supylabel("share of searches")
    drawing.savefig(to)


def main(words: list[str] | None = None) -> None:
    parser = results.arguments(__doc__, seeds=10)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(words)
    began, size, seeds = time.monotonic(), chosen.size, chosen.seeds
    jobs = [(size, case, opposite, seed) for case in CASES[size] for opposite in (False, True) for seed in seeds]
    if chosen.processes == 1:
        rows = list(map(one, jobs))
    else:
        with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
            rows = list(pool.map(one, jobs))
    told = table(rows, size)
    for row in told:
        c, o = row["counts"]["condition"], row["counts"]["opposite"]
        (gain, error), (other, other_error) = row["gain_over_network"].values()
        print(
            f"{row['case']:13} noise {c['noise']:2} : {o['noise']:2}  decay {c['decay']:2} : {o['decay']:2}  weights "
            f"{c['weights']:2} : {o['weights']:2}  of {row['searches']}; {row['trait']}: p = {row['p']:.3f}; unseen accuracy over the network "
            f"{gain:+.4f} +- {error or 0:.4f} : {other:+.4f} +- {other_error or 0:.4f}"
        )  # fmt: skip
    to = results.path(chosen, __file__)
    figure(told, to.with_suffix(".svg"))
    results.write(to, began, seeds, {"table": told, "searches": rows})


if __name__ == "__main__":
    main()
