"""What the best program of `clothing.py` has learned, in pictures: its parts, its learning curve, and how it came about.

    python experiments/clothing_story.py

Of the searches by niches on 16 projections, the program that is best on the tasks to choose on, as `clothing.json` has it.

- What there is to win: programs written by hand, between pairs of classes and between groups of three.
- Parts: each instruction is left out in turn, and accuracy measured again on the 90 projected tasks of held-out pairs;
  constants stay as they were tuned. The standard error is that over the nine pairs.
- Learning curves: accuracy on held-out pairs, beside the programs written by hand: on 16 projections after 60 to 4,000
  examples, and at full dimension, on the set's test images, after 250 to 8,000; each program with the constants that
  `clothing.py` tuned there. A rerun skips curves that are there.
- Lineage: the search once more, each program with its parent. The mutations that mattered go to `clothing_lineage.md`.

The rest goes to `clothing_story.json` and `.svg`.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import clothing
import network_story
import numpy as np
import results
from matplotlib.figure import Figure
from success import METHODS

from zero_jax import Programs, evaluate, program_fitness, tune
from zero_jax.program.canonical import pruned
from zero_jax.program.roles import described
from zero_jax.run import build
from zero_jax.run.presets import PRESETS
from zero_jax.tasks.sets import TaskSet

START = next(iter(clothing.STARTS))
CURVES = (START, "linear, program", "network, program", "S1b, program")
SIZES = {"projected": (60, 120, 240, 500, 1_000, 2_000, 4_000), "full": (250, 500, 1_000, 2_000, 4_000, 8_000)}
"""Numbers of training examples at which curves are drawn."""

WHERE = {"projected": "16 projections", "full": "full dimension"}


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What to draw.

    Attributes:
      source: The results of `clothing.py`.
      dimensions: Of which learning curves are drawn: projected, full.
      jobs: Curves side by side, on one thread each.
    """

    source: Path = results.HERE / "clothing.json"
    dimensions: tuple[str, ...] = clothing.DIMENSIONS
    jobs: int = 2

    def check(self) -> None:
        super().check()
        clothing.check_dimensions(self.dimensions)


# ---------------------------------------------------------------------------------------------- what there is to win


def to_win() -> dict[str, dict[str, float]]:
    """Accuracy of programs written by hand, tuned on some search tasks, on others: between pairs, and groups of three."""
    found: dict[str, dict[str, float]] = {}
    for size in (1, 3):
        described = TaskSet("fashion_mnist", 48, 16, 240, 200, classes_per_side=(size,))
        some, others = (described.make(seed, "search") for seed in (1, 2))
        accuracy = found[f"{size} against {size}"] = {}
        for name, text in clothing.by_hand().items():
            tuned = tune(Programs.parse(text), some, evaluations=300, seed=0, threads=1).program
            accuracy[name] = float(program_fitness(evaluate(tuned, others, 0, threads=1).fitness)[0])
    return found


# ---------------------------------------------------------------------------------------------- parts


def parts(text: str) -> list[dict[str, Any]]:
    """Each instruction of a program, and what accuracy on held-out pairs loses without it: mean and standard error, in
    points.
    """
    program, tasks = Programs.parse(text), clothing.held_out("projected")
    places = [
        (number, name, first + i)
        for number, (name, first) in enumerate(zip(("Setup", "Predict", "Learn"), program.starts, strict=False))
        for i in range(int(program.length[0, number]))
    ]
    without = program[np.zeros(1 + len(places), np.int64)]
    for row, (_, _, place) in enumerate(places, 1):
        without.code[row, place] = 0
    fitness = np.asarray(evaluate(without, tasks, 0, threads=1).fitness)
    by_pair = fitness.reshape(len(without), -1, clothing.PAIRS).mean(1)
    lines = [line.strip() for line in program.listing(0).splitlines() if not line.startswith("def")]
    return [
        {"component": name, "instruction": line, "lost": results.spread((100 * (by_pair[0] - rest)).tolist())}
        for (_, name, _), line, rest in zip(places, lines, by_pair[1:], strict=True)
    ]


# ---------------------------------------------------------------------------------------------- learning curves


def curve(dimension: str, method: str, program: str) -> dict[str, Any]:
    """Accuracy on each held-out pair after each number of examples."""
    by_size = []
    for n in SIZES[dimension]:
        fitness = clothing.on_each(Programs.parse(program), clothing.held_out(dimension, n), 0)
        by_size.append(np.reshape(fitness, (-1, clothing.PAIRS)).mean(0).round(5).tolist())
    return {"pairs": by_size}


def plot(losses: list[dict[str, Any]], curves: list[dict[str, Any]], to: Path) -> None:
    """What each instruction is worth, and the learning curves."""
    dimensions = list(dict.fromkeys(row["dimension"] for row in curves))
    figure = Figure(figsize=(7 + 5 * len(dimensions), 0.25 * len(losses) + 3), layout="constrained")
    left, *right = figure.subplots(1, 1 + len(dimensions), width_ratios=(1, *[1.2] * len(dimensions)))
    lost, errors = zip(*(part["lost"] for part in losses), strict=True)
    left.barh(range(len(losses)), lost, xerr=errors, color="C0", capsize=3)
    left.set_yticks(
        range(len(losses)),
        [f"{part['component']}:  {part['instruction']}" for part in losses],
        family="monospace",
        fontsize=8,
    )
    left.invert_yaxis()
    left.set_xlabel("points of accuracy lost without it, 16 projections")
    for axes, dimension in zip(right, dimensions, strict=True):
        sizes = SIZES[dimension]
        for row in curves:
            if row["dimension"] == dimension:
                width = 2.2 if row["method"] == START else 1.2
                axes.plot(sizes, mean_curve(row), "o-", markersize=4, linewidth=width, label=row["method"])
        axes.set(xscale="log", xlabel="training examples", ylabel=f"accuracy on held-out pairs, {WHERE[dimension]}, %")
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(to)


def mean_curve(row: dict[str, Any]) -> list[float]:
    """Over pairs, in %."""
    return (100 * np.mean(row["pairs"], 1)).tolist()


# ---------------------------------------------------------------------------------------------- lineage


def lineage(search_row: dict[str, Any], to: Path) -> dict[str, Any]:
    """Searches once more, and writes how the best of the niches came about."""
    seed, steps = search_row["seed"], search_row["steps"]
    config = METHODS["niches"].replace(seed=seed, train_steps=steps, threads=1)
    plain = build.searcher(config)
    search = network_story.Recorder(**{f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)})
    seen = PRESETS["fashion_mnist"][1].tasks.search.make(seed, "search")
    evaluator = build.evaluator(config, seen, "search", search.ops)
    state = search.init(seed)
    while evaluator.counts.train_steps < steps:
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    others = clothing.choice_tasks("projected")
    fitness = np.asarray(evaluate(state.champions, others, seed, threads=1).fitness).mean(1)
    best = state.champions[int(fitness.argmax())]
    chain = search.descent(best)
    mattered = network_story.folded(search, chain, evaluator)
    mutations = sum(one.how == "mutation" for one in chain)
    intro = (
        f"{mutations} mutations lead from a random program to the best of a niche after {state.evaluations:,} evaluations, on the "
        f"tasks to choose on: {fitness.max():.3f} there. Search tasks are pairs of kinds of clothing and groups of three."
    )
    title = f"How seed {seed} came to tell clothes apart"
    to.write_text(network_story.as_markdown(title, intro, mattered, described(best)))
    return {
        "mutations": mutations,
        "evaluations": state.evaluations,
        "choice": float(fitness.max()),
        "steps": len(mattered),
    }


def main(words: list[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, words)
    began, to = time.monotonic(), chosen.out or results.HERE / "clothing_story.json"
    rows = json.loads(chosen.source.read_text())["results"]["rows"]
    searched = max((row for row in rows if row.get("start") == START), key=lambda row: row["choice"])

    def tuned(dimension: str, method: str) -> str:
        some = [row for row in rows if (row.get("dimension"), row.get("method")) == (dimension, method)]
        return next((row for row in some if row["seed"] == searched["seed"]), some[0])["tuned"]

    gaps = to_win()
    print(gaps)
    program = pruned(Programs.parse(tuned("projected", START))).listing(0)
    losses = parts(program)
    for part in losses:
        print(f"{part['component']:8} {part['instruction']:50} {part['lost'][0]:+.2f} +- {part['lost'][1]:.2f}")
    keys = [
        {"dimension": dimension, "method": method, "program": tuned(dimension, method)}
        for dimension in chosen.dimensions
        for method in CURVES
    ]
    curves = results.finished(chosen.jobs, curve, keys, to, [searched["seed"]])
    for row in curves:
        print(f"{row['dimension']:9} {row['method']:26}", *(f"{mean:.2f}" for mean in mean_curve(row)))
    came = lineage(searched, to.with_name(to.stem.replace("_story", "_lineage") + ".md"))
    results.write(
        to,
        began,
        [searched["seed"]],
        {"to_win": gaps, "program": program, "parts": losses, "sizes": SIZES, "lineage": came, "rows": curves},
    )
    plot(losses, curves, to.with_suffix(".svg"))


if __name__ == "__main__":
    main()
