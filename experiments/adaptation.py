"""What evolution adds to a 2-layer network under other conditions (paper, section 4.3): few examples, few epochs, ten classes.

    python experiments/adaptation.py --small
    python experiments/adaptation.py --small --dataset digits

Every search starts from the library's network (for ten classes, from the one with softmax) and may use all ops. The paper
says of three things that they come under one condition and not, or less, under its opposite: noise (8 of 30 searches with
80 examples, 0 of 30 with 800), learning-rate decay (30 of 30 with 10 epochs, 3 of 30 with 100), and a function of the
mean of the weights as learning rate (24 of 30 with ten classes, 0 of 30 with two). Here the three are counted in the best
program of each search, without its dead code, under all six conditions; `traits.py` says how they are recognised. Each that is
found is then taken out, constants in its place, and counts as useful where the program is worse without it on unseen
tasks by more than two standard errors over tasks.

What was found is judged on unseen tasks beside the library's network and linear program, whose constants are tuned by 300
evaluations on T_search, all after the last epoch: fitness takes the best of several epochs, which on unseen
tasks would be a choice made on them. Unseen tasks are the same for all seeds and share images with T_search, so standard
errors are those over searches.

`--small` takes kinds of clothing (Fashion-MNIST) on 8 or 16 random projections and a tenth of the paper's examples, with 30
searches a condition, as in the paper; Fisher's exact test tells whether something appears more often under the condition
where the paper saw it than under its opposite.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import results
import traits
from matplotlib.figure import Figure
from scipy.stats import fisher_exact

from zero_jax import (
    Component,
    Mutations,
    Programs,
    SearchSpace,
    Tasks,
    evaluate,
    library,
    program_fitness,
    tune,
)
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
    "small": {"source": "fashion_mnist", "programs": 30_000, "islands": 1},
    "paper": {"source": "cifar10", "programs": 1_000_000_000, "islands": 100},
}


def experiment(size: str, dataset: str, tasks: dict, seed: int) -> RunConfig:
    """The search under a condition: so many programs of the cost of the network."""
    chosen = SIZES[size]
    described = TaskSet(dataset, tasks=10, **tasks)
    examples = 10 * described.train * described.epochs
    select, unseen = (dataclasses.replace(described, tasks=n) for n in (18, 90))
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


# ---------------------------------------------------------------------------------------------- the experiment


def one(size: str, dataset: str, case: str, opposite: bool, seed: int) -> dict:
    """One search: what it found, and what that is worth."""
    of = CASES[size][case]
    asked = experiment(size, dataset, of.tasks | (of.opposite if opposite else {}), seed)
    outcome = run(asked)
    interface = Interface.of(outcome.program.memory, asked.tasks.search)
    found = traits.traits(outcome.program, build.tasks(asked, "select"))
    return {
        **found,
        "worth": {trait: worth(outcome.program, trait, asked) for trait in found if found[trait]},
        "evaluations": outcome.progress.evaluations,
        "trained": outcome.progress.trained,
        "seconds": round(outcome.progress.seconds, 1),
        "select_accuracy": outcome.select_fitness,
        "unseen_accuracy": judged(outcome.program, asked),
        "program": pruned(outcome.program, interface).listing(0),
    }


def worth(program: Programs, trait: str, asked: RunConfig) -> list[float]:
    """What a program loses on unseen tasks without one of the three things: mean and standard error over tasks."""
    unseen = at_end(build.tasks(asked, "unseen"))
    both = program, traits.without(program, trait, build.tasks(asked, "select"))
    have, lack = (evaluate(one, unseen, asked.seed, threads=1).fitness[0] for one in both)
    return results.spread(np.float64(have) - lack)


def is_useful(row: dict, trait: str) -> bool:
    """Whether the program found is worse without it by more than two standard errors."""
    mean, error = row["worth"].get(trait, (0.0, 0.0))
    return mean > 2 * error


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
        sides = {"condition": here, "opposite": there}
        counts = {side: {t: sum(r[t] for r in part) for t in traits.TRAITS} for side, part in sides.items()}
        useful = {side: {t: sum(is_useful(r, t) for r in part) for t in traits.TRAITS} for side, part in sides.items()}
        accuracy = {side: {name: np.array([r["unseen_accuracy"][name] for r in part]) for name in (EVOLVED, *BASELINES)} for side, part in sides.items()}  # fmt: skip
        lines.append(
            {
                "case": case,
                "trait": of.trait,
                "searches": len(here),
                "counts": counts,
                "p": more_often(counts, of.trait, len(here), len(there)),
                "useful": useful,
                "p_useful": more_often(useful, of.trait, len(here), len(there)),
                "unseen_accuracy": {
                    side: {name: float(values.mean()) for name, values in of.items()} for side, of in accuracy.items()
                },
                "gain": {
                    side: {name: results.spread(of[EVOLVED] - of[name]) for name in BASELINES}
                    for side, of in accuracy.items()
                },
            }
        )
    return lines


def more_often(counts: dict[str, dict[str, int]], trait: str, here: int, there: int) -> float:
    """The p-value of Fisher's exact test that something appears more often under the condition."""
    a, b = counts["condition"][trait], counts["opposite"][trait]
    return float(fisher_exact([[a, here - a], [b, there - b]], alternative="greater").pvalue)


def figure(rows: list[dict], to: Path) -> None:
    """How often each thing appeared, condition beside opposite, and below what evolution gained over the baselines."""
    drawing = Figure(figsize=(9, 5.5), layout="constrained")
    above, below = drawing.subplots(2, len(rows), sharey="row")
    for axes, gains, row in zip(above, below, rows, strict=True):
        for place, side in enumerate(("condition", "opposite")):
            label = row["case"] if side == "condition" else "its opposite"
            for counted, shade in (("counts", 0.4), ("useful", 1.0)):
                heights = [row[counted][side][t] / row["searches"] for t in traits.TRAITS]
                what = label if counted == "counts" else f"{label}, useful"
                axes.bar(np.arange(3) + 0.4 * place, heights, 0.38, color=f"C{place}", alpha=shade, label=what)
            for other, (mean, error) in enumerate(row["gain"][side].values()):
                gains.errorbar(other + 0.2 * place, 100 * mean, 200 * error, fmt="o", color=f"C{place}", capsize=4)
        axes.set_xticks(np.arange(3) + 0.2, traits.TRAITS)
        axes.set_title(f"{row['case']}: {row['trait']}?", fontsize=10)
        axes.set_ylim(0, 1)
        axes.legend(fontsize=7)
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

    seeds: tuple[int, ...] = tuple(range(30))
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
            f"over {name} " + " : ".join(f"{row['gain'][side][name][0]:+.4f} +- {row['gain'][side][name][1]:.4f}" for side in row["gain"])
            for name in BASELINES
        )  # fmt: skip
        found = "  ".join(
            f"{t} {c[t]} : {o[t]} (useful {row['useful']['condition'][t]} : {row['useful']['opposite'][t]})"
            for t in traits.TRAITS
        )
        print(
            f"{row['case']:13} {found} of {row['searches']}; {row['trait']}: p = {row['p']:.3f}, useful p = "
            f"{row['p_useful']:.3f}; unseen accuracy {gains}"
        )
    figure(lines, to.with_suffix(".svg"))
    results.write(to, began, seeds, {"table": lines, "rows": rows})


if __name__ == "__main__":
    main()
