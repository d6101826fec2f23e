"""Five problems of later work (Mishima and Ono), by plain evolution, efficient evolution and niches.

    python experiments/discovery_table.py
    python experiments/discovery_table.py --problems nonlinear --methods niches --seconds 600
    python experiments/discovery_table.py --markdown

The settings are theirs: F = 4, 1,000 training and 100 validation examples, 10 tasks to search on and 10 others to
judge on, and programs of their sizes and ops (`PROBLEMS`). A search stops at a fitness of 0.999, after the published
number of evaluations (times `--limit`) or after `--seconds`; if it stalls before, another begins on the same tasks. An
evaluation is a program whose fitness was asked for, known or not; each set of initial values counts. Only fitness on
all tasks and examples counts as `best`.

For niches Setup holds initial values in place of instructions, and Learn may be shorter than theirs. A nonlinear
problem is also said to be solved once the best program trains a hidden layer (`zero_jax.program.roles`) and beats the
best affine fit: by more than 0.1 (regression), or with fewer than half its mistakes (classes). Settings of niches were
chosen on seeds from 100 on. Rows are written to `discovery_table.json` one by one; a rerun skips those that are there.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import results

from zero_jax import Component, Evaluator, RegularizedEvolution, SearchSpace
from zero_jax.evaluation import KnownForms
from zero_jax.program.canonical import pruned
from zero_jax.program.roles import roles
from zero_jax.search import EfficientEvolution, Mutations, NicheSearch
from zero_jax.tasks import Tasks
from zero_jax.tasks.references import affine_fitness

FEATURES, TRAIN, VALID, TASKS, HIDDEN = 4, 1000, 100, 10, 4
SUFFICIENT = 0.999
CHECKPOINTS = (5_000, 20_000, 100_000, 500_000, 2_000_000, 20_000_000)
MARGIN = 0.1
"""How far above the affine fit a network has to be in regression."""

Targets = Callable[[np.random.Generator], Callable[[np.ndarray], np.ndarray]]


def _linear(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    w = rng.normal(size=FEATURES)
    return lambda x: x @ w


def _affine(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    w, u = rng.normal(size=FEATURES), rng.normal()
    return lambda x: x @ w + u


def _nonlinear(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    hidden, output = rng.normal(size=(HIDDEN, FEATURES)), rng.normal(size=HIDDEN)
    return lambda x: np.maximum(x @ hidden.T, 0) @ output


_LINEAR_SPACE = SearchSpace((4, 3, 1), Component((56, 57), (5,) * 3), Component((27,), (1,) * 3),
                            Component((2, 3, 18, 23), (4,) * 3))  # fmt: skip
_AFFINE_SPACE = SearchSpace((5, 3, 1), Component((56, 57), (6,) * 3), Component((1, 27), (2,) * 3),
                            Component((1, 2, 3, 18, 23), (6,) * 3))  # fmt: skip
_NONLINEAR_SPACE = SearchSpace((4, 8, 2), Component((56, 63, 64), (21,) * 3), Component((27, 31, 48), (3,) * 3),
                               Component((2, 3, 16, 18, 23, 25, 28, 40), (9,) * 3))  # fmt: skip


class Problem(NamedTuple):
    """One line of their table.

    Attributes:
      space: of programs.
      target: draws one task's labelling function.
      labels: numbers, or whether these are above 0.
      budget: evaluations.
      published: the mean fitness of plain evolution and of theirs at the budget.
      niches: settings of `NicheSearch`; the ladder and tunings have to fit the budget.
    """

    space: SearchSpace
    target: Targets
    labels: str
    budget: int
    published: tuple[float, float]
    niches: dict[str, Any]

    @property
    def nonlinear(self) -> bool:
        """Whether a network is wanted."""
        return self.target is _nonlinear


_MOVES = Mutations(
    types=("alter_param", "randomize_instruction", "swap_instructions", "trade_instruction"),
    weights=(0.4, 0.4, 0.1, 0.1),
)
_SMALL: dict[str, Any] = {"children": 10, "setup_share": 0.1, "mutations": _MOVES}
_MIDDLE = {"niche_size": 200, "children": 20, "setup_share": 0.1, "mutations": _MOVES}
_LARGE = {"fidelity": ((1.0, 0.1), (1.0, 0.4))}
_CLASSES = {"fidelity": ((1.0, 0.1), (1.0, 0.4)), "climb_after": 400_000, "patience": 350_000}
PROBLEMS = {
    "linear": Problem(_LINEAR_SPACE, _linear, "numbers", 20_000, (0.399, 1.000), _SMALL),
    "affine": Problem(_AFFINE_SPACE, _affine, "numbers", 2_000_000, (0.586, 1.000), _MIDDLE),
    "nonlinear": Problem(_NONLINEAR_SPACE, _nonlinear, "numbers", 20_000_000, (0.360, 0.536), _LARGE),
    "affine classes": Problem(_AFFINE_SPACE, _affine, "classes", 2_000_000, (0.863, 0.983), _MIDDLE),
    "nonlinear classes": Problem(_NONLINEAR_SPACE, _nonlinear, "classes", 20_000_000, (0.876, 0.961), _CLASSES),
}
METHODS = ("plain", "efficient", "niches")


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What the script is asked for.

    Attributes:
      seeds: Each once.
      problems: Which lines of the table.
      methods: Which searches.
      limit: Share of the published number of evaluations.
      seconds: After how many seconds a search stops; 0 means no limit.
      noise: Standard deviation of the noise on labels.
      jobs: Searches side by side, on one thread each.
      markdown: Only print the table of the results file, for the docs.
    """

    seeds: tuple[int, ...] = tuple(range(10))
    problems: tuple[str, ...] = tuple(PROBLEMS)
    methods: tuple[str, ...] = METHODS
    limit: float = 1.0
    seconds: float = 0.0
    noise: float = 0.0
    jobs: int = 2
    markdown: bool = False

    def check(self) -> None:
        """As in `results.Options`."""
        super().check()
        for name, chosen, known in (("problems", self.problems, PROBLEMS), ("methods", self.methods, METHODS)):
            unknown = [one for one in chosen if one not in known]
            if unknown:
                raise ValueError(f"--{name}: unknown '{unknown[0]}'; expected among {', '.join(known)}")
        results.check_whole(self.jobs, 1)
        if not 0 < self.limit <= 1 or self.seconds < 0 or self.noise < 0:
            raise ValueError("--limit is above 0 and at most 1; --seconds and --noise are at least 0")


# ---------------------------------------------------------------------------------------------- one search


def tasks(problem: Problem, noise: float, seed: int) -> Tasks:
    """Ten tasks; x ~ N(0, 1)."""
    parts = []
    for rng in np.random.default_rng(seed).spawn(TASKS):
        target = problem.target(rng)
        x = rng.normal(size=(TRAIN + VALID, FEATURES))
        y = target(x) + noise * rng.normal(size=len(x))
        y = y if problem.labels == "numbers" else (y > 0).astype(float)
        parts.append((x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]))
    return Tasks.stack(parts, "rmse" if problem.labels == "numbers" else "accuracy", 1, seed=seed)


def affine(some: Tasks) -> float:
    """The fitness of the best affine fit; for classes, of the sign of the fit to -1 and 1."""
    if some.loss == "rmse":
        return affine_fitness(some)
    right = []
    for x, y, new_x, new_y in zip(
        *map(np.asarray, (some.train_x, some.train_y, some.valid_x, some.valid_y)), strict=True
    ):
        x, new_x = (np.insert(part.astype(np.float64), FEATURES, 1.0, axis=1) for part in (x, new_x))
        right.append(np.mean((new_x @ np.linalg.lstsq(x, 2 * y - 1, rcond=None)[0] > 0) == (new_y > 0)))
    return float(np.mean(right))


def network_bar(fit: float, loss: str) -> float:
    """The fitness that a network has to exceed."""
    return fit + MARGIN if loss == "rmse" else (1 + fit) / 2


def searcher(problem: Problem, method: str) -> Any:
    """The search of a method."""
    space = problem.space
    if method == "plain":
        return RegularizedEvolution(space, population=1000, cohort=100, tournament=10)
    if method == "efficient":
        return EfficientEvolution(space, population=100, cohort=10, tournament=10)
    most = space.max_size[2]
    shorter = dataclasses.replace(space, learn=dataclasses.replace(space.learn, size=(1, most, most)))
    return NicheSearch(**NicheSearch.adapted({"space": shorter} | problem.niches))


def is_network(best: Any, bar: float) -> bool:
    """Whether a search's best program trains a hidden layer and is above the bar."""
    return best.fitness > bar and roles(pruned(best.program)).trains_hidden_layer


def search(problem: str, method: str, seed: int, limit: float, most_seconds: float, noise: float) -> dict[str, Any]:
    """One search, and what its best program is worth on other tasks."""
    what = PROBLEMS[problem]
    one, budget = searcher(what, method), max(1, round(what.budget * limit))
    seen, others = (tasks(what, noise, number) for number in (seed, seed + 10_000))
    fit = affine(seen)
    bar = network_bar(fit, seen.loss)
    state = one.init(seed + 2_000)
    _, candidates = one.ask(state)
    _evaluator(seen, one)(candidates)  # compiles
    evaluator, began = _evaluator(seen, one), time.monotonic()
    best: dict[int, float] = {}
    solved: dict[str, list[float]] = {}
    known, found, by_time = -np.inf, state.best, False
    searches, before = 0, 0  # those that stalled, and their evaluations
    while known < SUFFICIENT and before + state.evaluations < budget:
        if one.exhausted(state):
            searches, before = searches + 1, before + state.evaluations
            state = one.init(seed + 2_000 + 1_000_000 * searches)
        state, candidates = one.ask(state)
        after = one.tell(state, candidates, evaluator(candidates))
        passed = [at for at in CHECKPOINTS if before + state.evaluations <= at < before + after.evaluations]
        best |= dict.fromkeys(passed, max(0.0, known))
        state, spent = after, time.monotonic() - began
        if state.best_fitness > known:
            known, found, at = state.best_fitness, state.best, [before + state.best.evaluations, round(spent, 2)]
            if known >= SUFFICIENT:
                solved["optimum"] = at
            if what.nonlinear and "network" not in solved and is_network(found, bar):
                solved["network"] = at
        by_time = bool(most_seconds) and spent > most_seconds and known < SUFFICIENT
        if by_time:
            break
    if not by_time:  # what the search ended with stands for all that was left of the budget
        best |= {at: known for at in CHECKPOINTS if at not in best and at <= budget}
    unseen = float(_evaluator(others, one)(found.program).combined[0])
    return {
        "fitness": known,
        "unseen_fitness": unseen,
        "affine_fit": [fit, affine(others)],
        "best": {str(at): value for at, value in sorted(best.items())},
        "solved": solved,
        "evaluations": before + state.evaluations,
        "searches": searches + 1,
        "trained": evaluator.counts.evaluated,
        "seconds": round(time.monotonic() - began, 2),
        "stopped": "by time" if by_time else "at the optimum" if known >= SUFFICIENT else "by evaluations",
        "program": pruned(found.program).listing(0),
    }


def _evaluator(some: Tasks, one: Any) -> Evaluator:
    return Evaluator(some, ops=one.ops, threads=1, stages=(KnownForms(2**18),))


# ---------------------------------------------------------------------------------------------- the table


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each problem and method.

    Of a search that was stopped by time, its last fitness stands for later checkpoints: the mean is then `at_least` that.
    """
    lines = []
    for problem, method in dict.fromkeys((row["problem"], row["method"]) for row in rows):
        some = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
        goal = "network" if PROBLEMS[problem].nonlinear else "optimum"
        reached = [row["solved"][goal] for row in some if goal in row["solved"]]
        never = [[np.inf, np.inf]] * (len(some) - len(reached))
        evaluations, seconds = np.median(reached + never, axis=0).tolist()
        lines.append(
            {
                "problem": problem,
                "method": method,
                "fitness": {
                    str(at): float(np.mean([row["best"].get(str(at), row["fitness"]) for row in some]))
                    for at in CHECKPOINTS
                    if any(str(at) in row["best"] for row in some)
                },
                "at_least": [str(at) for at in CHECKPOINTS if any(str(at) not in row["best"] for row in some)],
                "last": float(np.mean([row["fitness"] for row in some])),
                "unseen": float(np.mean([row["unseen_fitness"] for row in some])),
                "affine_fit": float(np.mean([row["affine_fit"][0] for row in some])),
                "goal": goal,
                "solved": len(reached),
                "of": len(some),
                "interval": results.wilson(len(reached), len(some)),
                "median_evaluations": evaluations,
                "median_seconds": seconds,
                "stopped_by_time": sum(row["stopped"] == "by time" for row in some),
            }
        )
    return lines


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    shown = [f"{at:,}" for at in CHECKPOINTS]
    head = ["problem", "method", *shown, "last", "other tasks", "solved (95%)", "median evaluations", "median s",
            "published: plain, theirs"]  # fmt: skip
    out = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for line in table(rows):
        what = PROBLEMS[line["problem"]]
        best = [
            f"{'at least ' * (str(at) in line['at_least'])}{line['fitness'][str(at)]:.3f}"
            if str(at) in line["fitness"]
            else ""
            for at in CHECKPOINTS
        ]
        numbers = line["median_evaluations"], line["median_seconds"]
        cells = [
            line["problem"],
            line["method"],
            *best,
            f"{line['last']:.3f}" + f" ({line['stopped_by_time']} by time)" * bool(line["stopped_by_time"]),
            f"{line['unseen']:.3f}",
            f"{line['goal']}: {results.share(line['solved'], line['of'])}",
            *("none" if np.isinf(one) else f"{one:,.0f}" if i == 0 else f"{one:.1f}" for i, one in enumerate(numbers)),
            f"{what.published[0]:.3f}, {what.published[1]:.3f} at {what.budget:,}",
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    out = results.path(chosen, __file__)
    limit, seconds = (0.001, chosen.seconds or 5.0) if chosen.small else (chosen.limit, chosen.seconds)
    keys = [
        {"problem": p, "method": m, "seed": seed, "limit": limit, "most_seconds": seconds, "noise": chosen.noise}
        for p in chosen.problems
        for m in chosen.methods
        for seed in chosen.seeds
    ]
    if chosen.markdown:  # whatever the limits
        rows = [
            row
            for row in results.stored_rows(out)
            if row["problem"] in chosen.problems and row["method"] in chosen.methods and row["seed"] in chosen.seeds
        ]
    else:
        rows = results.finished(chosen.jobs, search, keys, out, chosen.seeds)
    print(markdown(rows) if rows else f"{out} has no such rows", file=sys.stdout)


if __name__ == "__main__":
    main()
