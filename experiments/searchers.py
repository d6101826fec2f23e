"""Every searcher on four problems, at equal train steps and at equal wall time.

    python experiments/searchers.py --small
    python experiments/searchers.py --problems linear digits --methods evolution niches --seconds 60
    python experiments/searchers.py --markdown

Problems: the linear space of the paper's Fig. 4, affine regression, a two-layer teacher, and pairs of scikit-learn's
digits; 10 tasks to search on and 10 others to judge on (T_select). Each search has one thread and a number of seconds,
what is compiled before not counted, and `curve` says how good its best program was at any number of seconds and train
steps; one that is exhausted begins again. Every method has its defaults, except that Optuna's model remembers 100
programs and `niches` has the settings of `discovery_table.py`, chosen on other tasks of such problems; no other method
was tuned. `niches` has initial values in place of Setup's instructions, which the other methods do not. A train step of a mixture
of `darts` counts once. `solved`: linear and affine above 0.999; teacher more than 0.1 above the best affine fit, on
T_select; digits above the library's linear program, its learning rate tuned on T_search, on T_select.

For `enas` a row has the rank correlation (Spearman) of fitness with shared memory and alone, over what the controller
writes at the end. Rows are written to `searchers.json` one by one; a rerun skips those that are there.
"""

import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import discovery_table
import numpy as np
import results
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from zero_jax import Evaluator, library
from zero_jax.evaluation import KnownForms
from zero_jax.program.canonical import pruned
from zero_jax.program.programs import concatenate
from zero_jax.run.build import LEARNING_RATES
from zero_jax.search import SEARCHERS
from zero_jax.tasks import Tasks

NONLINEAR = discovery_table.PROBLEMS["nonlinear"].space
SPACES = {
    "linear": discovery_table.PROBLEMS["linear"].space,
    "affine": discovery_table.PROBLEMS["affine"].space,
    "teacher": NONLINEAR,
    "digits": NONLINEAR,
}
STEPS = (1_000_000, 10_000_000, 100_000_000)
"""At how many train steps searches are compared."""

SMALL_SECONDS, SECONDS = 8.0, 120.0
SETTINGS = {"tpe": {"remember": 100}}
COHORTS = {"enas": 7, "niches": 4}
"""How many cohorts it takes until all that a search compiles has been."""


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What the script is asked for.

    Attributes:
      seeds: Each once.
      problems: Which problems.
      methods: Which searchers; empty for all.
      seconds: How long a search takes; 0 means 8 with `--small`, 120 without.
      jobs: Searches side by side, on one thread each.
      markdown: Only print the tables of the results file, for the docs.
    """

    seeds: tuple[int, ...] = tuple(range(10))
    problems: tuple[str, ...] = tuple(SPACES)
    methods: tuple[str, ...] = ()
    seconds: float = 0.0
    jobs: int = 2
    markdown: bool = False

    def check(self) -> None:
        """As in `results.Options`."""
        super().check()
        for name, chosen, known in (("problems", self.problems, SPACES), ("methods", self.methods, SEARCHERS)):
            unknown = [one for one in chosen if one not in known]
            if unknown:
                raise ValueError(f"--{name}: unknown '{unknown[0]}'; expected among {', '.join(known)}")
        results.check_whole(self.jobs, 1)
        if self.seconds < 0:
            raise ValueError("--seconds is at least 0")


# ---------------------------------------------------------------------------------------------- problems


def tasks(problem: str, seed: int) -> Tasks:
    """Ten tasks of a problem."""
    if problem != "digits":
        name = "nonlinear" if problem == "teacher" else problem
        return discovery_table.tasks(discovery_table.PROBLEMS[name], 0.0, seed)
    images, classes = load_digits(return_X_y=True)
    rng, parts = np.random.default_rng(seed), []
    for _ in range(10):
        first, second = rng.choice(10, 2, replace=False)
        rows = rng.permutation(np.flatnonzero(np.isin(classes, (first, second))))[:340]
        x = images[rows] @ rng.normal(size=(64, 8))
        x = (x - x[:240].mean(0)) / x[:240].std(0)
        y = (classes[rows] == second).astype(float)
        parts.append((x[:240], y[:240], x[240:], y[240:]))
    return Tasks.stack(parts, "accuracy", 1, seed=seed)


def bar(problem: str, seen: Tasks, select: Tasks) -> tuple[str, float]:
    """On which tasks a fitness has to exceed what, for a search to count as solved."""
    if problem in ("linear", "affine"):
        return "search", discovery_table.SUFFICIENT
    if problem == "teacher":
        return "select", discovery_table.affine(select) + discovery_table.MARGIN
    programs = concatenate([library.program("linear", learning_rate=rate) for rate in LEARNING_RATES])
    best = int(Evaluator(seen, threads=1)(programs).combined.argmax())
    return "select", float(Evaluator(select, threads=1)(programs[[best]]).combined[0])


def searcher(problem: str, method: str) -> Any:
    """A searcher in the space of a problem.

    Raises:
      ValueError: it cannot work there.
    """
    if method == "niches":
        name = {"teacher": "nonlinear", "digits": "nonlinear classes"}.get(problem, problem)
        return discovery_table.searcher(discovery_table.PROBLEMS[name], method)
    kind: Any = SEARCHERS[method]
    return kind(**kind.adapted({"space": SPACES[problem]} | SETTINGS.get(method, {})))


# ---------------------------------------------------------------------------------------------- one search


def search(problem: str, method: str, seed: int, seconds: float) -> dict[str, Any]:
    """One search, and what its best program is worth."""
    seen, select = tasks(problem, seed), tasks(problem, seed + 10_000)
    one = searcher(problem, method)
    try:
        one.check_work(seen, ())
    except ValueError as error:
        return {"refused": str(error)}
    evaluator = _evaluator(seen, one)
    states = (one.init(seed + 1_000_000 * number) for number in itertools.count())
    _advanced(one, next(states), evaluator, COHORTS.get(method, 2))  # compiles
    evaluator, state, known, found = _evaluator(seen, one), next(states), -np.inf, None
    curve: list[list[float]] = []
    began, evaluations = time.monotonic(), 0
    while (spent := time.monotonic() - began) < seconds and known < 0.99999:
        if one.exhausted(state):
            evaluations, state = evaluations + state.evaluations, next(states)
        state = _advanced(one, state, evaluator, 1)
        if state.best_fitness > known:
            known, found = state.best_fitness, state.best.program
            curve.append([round(time.monotonic() - began, 3), evaluator.counts.train_steps, round(known, 5)])
    assert found is not None
    on, level = bar(problem, seen, select)
    judged = float(Evaluator(select, threads=1)(found).combined[0])
    return {
        "fitness": known,
        "select_fitness": judged,
        "bar": level,
        "solved": (known if on == "search" else judged) > level,
        "evaluations": evaluations + state.evaluations,
        "train_steps": evaluator.counts.train_steps,
        "spent": round(spent, 2),
        "curve": curve,
        "bias": bias(one, state, seen) if method == "enas" else None,
        "program": pruned(found).listing(0),
    }


def _evaluator(seen: Tasks, one: Any) -> Evaluator:
    return Evaluator(seen, ops=one.ops, threads=1, stages=(KnownForms(2**18),))


def _advanced(one: Any, state: Any, evaluator: Evaluator, cohorts: int) -> Any:
    for _ in range(cohorts):
        state, candidates = one.ask(state)
        state = one.tell(state, candidates, evaluator(candidates))
    return state


def bias(one: Any, state: Any, seen: Tasks) -> float | None:
    """The rank correlation of fitness with shared memory and alone, over a cohort of the controller; None if undefined."""
    asked, candidates = one.ask(dataclasses.replace(state, phase="policy"))
    alone = _evaluator(seen, one)(one.written(asked.tokens)).combined
    shared = _evaluator(seen, one)(candidates).combined
    if np.ptp(alone) == 0 or np.ptp(shared) == 0:
        return None
    return float(spearmanr(alone, shared).statistic)


# ---------------------------------------------------------------------------------------------- tables and figures


def at(curve: Sequence[Sequence[float]], axis: int, limit: float) -> float:
    """The best fitness of a curve by a number of seconds (axis 0) or train steps (axis 1); 0 before the first."""
    return max((point[2] for point in curve if point[axis] <= limit), default=0.0)


def table(rows: list[dict[str, Any]], problem: str) -> list[dict[str, Any]]:
    """One line for each method on a problem, the best first."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row["problem"] == problem):
        some = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
        if any("refused" in row for row in some):
            lines.append({"method": method, "refused": some[0]["refused"]})
            continue
        when = [row["curve"][-1][0] if row["solved"] else np.inf for row in some]
        biases = [row["bias"] for row in some if row["bias"] is not None]
        lines.append(
            {
                "method": method,
                "solved": sum(row["solved"] for row in some),
                "of": len(some),
                "select": float(np.median([row["select_fitness"] for row in some])),
                "search": float(np.median([row["fitness"] for row in some])),
                "steps": {
                    str(limit): float(np.median([at(row["curve"], 1, limit) for row in some]))
                    for limit in STEPS
                    if all(row["train_steps"] >= limit or row["solved"] for row in some)
                },
                "median_seconds": float(np.median(when)),
                "evaluations": float(np.median([row["evaluations"] for row in some])),
                "bias": float(np.median(biases)) if biases else None,
            }
        )
    return sorted(lines, key=lambda line: (-line.get("solved", -1), -line.get("select", -1)))


def markdown(rows: list[dict[str, Any]]) -> str:
    """The tables as Markdown."""
    out = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        head = [
            "method",
            "solved (95%)",
            "T_select",
            "T_search",
            *(f"after {limit:,}" for limit in STEPS),
            "evaluations",
        ]
        out += [f"\n{problem}:\n", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for line in table(rows, problem):
            if "refused" in line:
                out.append(f"| {line['method']} | refused" + " |" * (len(head) - 1))
                continue
            steps = [f"{line['steps'][str(limit)]:.3f}" if str(limit) in line["steps"] else "" for limit in STEPS]
            cells = [line["method"], results.share(line["solved"], line["of"]), f"{line['select']:.3f}",
                     f"{line['search']:.3f}", *steps, f"{line['evaluations']:,.0f}"]  # fmt: skip
            out.append("| " + " | ".join(cells) + " |")
    biases = [row["bias"] for row in rows if row.get("bias") is not None]
    if biases:
        out.append(f"\nenas, shared against alone: rank correlation {np.median(biases):.2f} "
                   f"({min(biases):.2f} to {max(biases):.2f}, {len(biases)} searches)")  # fmt: skip
    return "\n".join(out)


def draw(rows: list[dict[str, Any]], to: Path) -> None:
    """The median of the best fitness so far, over seconds and over train steps."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure = Figure(figsize=(11, 2.8 * len(problems)), layout="constrained")
    axes = figure.subplots(len(problems), 2, squeeze=False)
    methods = sorted({row["method"] for row in rows})
    for (left, right), problem in zip(axes, problems, strict=True):
        for number, method in enumerate(methods):
            some = [row for row in rows if (row["problem"], row["method"]) == (problem, method) and "curve" in row]
            if not some:
                continue
            style = {
                "color": f"C{number % 10}",
                "linestyle": ("-", "--")[number // 10],
                "label": method,
                "linewidth": 1.2,
            }
            last = np.median([row["train_steps"] for row in some])
            for panel, axis, ends in ((left, 0, max(row["spent"] for row in some)), (right, 1, last)):
                places = np.geomspace(0.05 if axis == 0 else 1e4, max(ends, 2e4 if axis else 0.1), 60)
                values = [np.median([at(row["curve"], axis, place) for row in some]) for place in places]
                panel.plot(places, values, drawstyle="steps-post", **style)
        left.set(ylabel=f"{problem}\nfitness on T_search")
        for panel, name in ((left, "seconds on one thread"), (right, "train steps")):
            panel.set_xscale("log")
            panel.set_ylim(bottom=0.2)
            panel.set_xlabel(name)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    figure.savefig(to)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    out = results.path(chosen, __file__)
    seconds = chosen.seconds or (SMALL_SECONDS if chosen.small else SECONDS)
    methods = chosen.methods or tuple(SEARCHERS)
    if chosen.markdown:
        rows = [
            row for row in results.stored_rows(out) if row["problem"] in chosen.problems and row["method"] in methods
        ]
    else:
        seeds = chosen.seeds[:5] if chosen.small else chosen.seeds
        keys = [
            {"problem": problem, "method": method, "seed": seed, "seconds": seconds}
            for problem in chosen.problems
            for method in methods
            for seed in seeds
        ]
        rows = results.finished(chosen.jobs, search, keys, out, seeds)
        draw(rows, out.with_suffix(".svg"))
    print(markdown(rows) if rows else f"{out} has no such rows", file=sys.stdout)


if __name__ == "__main__":
    main()
