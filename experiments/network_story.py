"""One search for a network, watched: the niches' fitness over time, and the descent of the program it finds.

Used by `network.py`. The search is that of the preset's first trial, on one thread. What a program descends from is
recorded by `Recorder`, which listens in on `zero_jax.search.niches` where parents become children.
"""

import dataclasses
import difflib
import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from matplotlib.figure import Figure

from zero_jax.evaluation import Evaluator
from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program.canonical import pruned
from zero_jax.program.programs import Programs
from zero_jax.program.roles import described
from zero_jax.run import RunConfig, build
from zero_jax.search import NicheSearch, niches
from zero_jax.search.base import combined
from zero_jax.search.niche_state import EMPTY, NicheState
from zero_jax.search.operators.mutation import vary_initial_values
from zero_jax.tasks.references import affine_fitness

LABELLED = 5
"""How many niches the figure names."""

FORGET_EVERY = 100
"""After how many cohorts the recorder forgets what has no descendants."""

TRIED = 64
"""With how many other sets of initial values a step of a lineage is evaluated."""

MATTERS = 0.005
"""A step is described on its own if it is that much better, evaluated in this way, than all before it."""


def watched(config: RunConfig, search: NicheSearch, see: Callable[[NicheState], None]) -> tuple[NicheState, Evaluator]:
    """The state of a search at its end, and its evaluator; `see` is called with every state."""
    tasks, limit = build.tasks(config, "search"), config.schedule.time_limit
    evaluator = build.evaluator(config, tasks, "search", search.ops)
    target = build.target(config, tasks)
    state, began = search.init(build.derived_seed(config, "search", 1)), time.monotonic()
    while state.best_fitness <= target and time.monotonic() - began < limit:
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
        see(state)
    return state, evaluator


def niche_of(search: NicheSearch, program: Programs) -> int:
    """The niche of one program."""
    first, size = program.starts[1], int(program.length[0, 1])
    code = program.code[0, first : first + size]
    return next(i for i, one in enumerate(search.predictions) if np.array_equal(one.code, code))


# ---------------------------------------------------------------------------------------------- the figure


def figure(config: RunConfig, to: Path) -> None:
    """Draws the fitness of each niche's best program over evaluations, and says which wins."""
    search = build.searcher(config)
    seen: list[tuple[int, np.ndarray, float, int, str]] = []

    def see(state: NicheState) -> None:
        seen.append((state.evaluations, state.champion_fitness, state.best_fitness, state.rung, state.phase))

    state, evaluator = watched(config, search, see)
    evaluations = np.array([row[0] for row in seen])
    fitness = np.stack([row[1] for row in seen])
    fitness = np.where(fitness > EMPTY, fitness, np.nan)
    names = [str(one) for one in search.predictions]
    drawing = Figure(figsize=(9, 5), layout="constrained")
    axes = drawing.subplots()
    axes.plot(evaluations, fitness, color="0.75", linewidth=0.6)
    winner = niche_of(search, state.best.program)
    best = [i for i in np.argsort(-np.nan_to_num(fitness[-1])) if i != winner][: LABELLED - 1]
    for color, i in enumerate([winner, *best]):
        label = names[i] + " (of the best program)" * bool(i == winner)
        axes.plot(evaluations, fitness[:, i], color=f"C{color}", linewidth=2 if i == winner else 1.2, label=label)
    axes.step(evaluations, [row[2] for row in seen], "k--", where="post", linewidth=1, label="best program, in full")
    tunings = [a[0] for a, b in itertools.pairwise(seen) if a[4] == "tune" and b[0] > a[0]]
    axes.plot(tunings, [0.0] * len(tunings), "k|", clip_on=False, label="tunings")
    for a, b in itertools.pairwise(seen):
        if a[3] != b[3]:
            axes.axvline(a[0], color="k", linestyle=":", linewidth=1)
            axes.annotate(f" rung {b[3] + 1}", (a[0], 0.02))
    fit = affine_fitness(evaluator.tasks)
    axes.axhline(fit, color="0.4", linestyle="-.", linewidth=0.8, label="best affine fit, in full")
    axes.set(xlabel="evaluations", ylabel="fitness of the best program of a niche, short training", ylim=(0, 1))
    axes.legend(fontsize="small", ncols=2, loc="upper left")
    drawing.savefig(to)
    print(f"{len(names)} niches, {state.evaluations:,} evaluations; affine fit {fit:.3f}")
    leaders = np.nan_to_num(fitness, nan=-1.0).argmax(1)
    for k in [0, *(np.flatnonzero(np.diff(leaders)) + 1)]:
        print(f"from {evaluations[k]:>9,} evaluations on: {names[leaders[k]]}, {fitness[k, leaders[k]]:.3f}")
    print(f"the best program: {names[winner]}, {state.best_fitness:.3f} on all search tasks. Written to {to}")


# ---------------------------------------------------------------------------------------------- lineage


class Origin(NamedTuple):
    """Where a program comes from.

    Attributes:
      program: it, with the initial values that were the best of its sets.
      parent: the key of the program that it was mutated or tuned from; None for a random program.
      how: random, mutation, tuning or again (evaluated again on the next rung).
      evaluations: after how many it was known.
      fitness: when it was evaluated; `share` of tasks and of examples were used.
    """

    program: Programs
    parent: bytes | None
    how: str
    evaluations: int
    fitness: float
    share: tuple[float, float]


def keys(programs: Programs) -> list[bytes]:
    """A short hash of each program as it is."""
    arrays = (np.ascontiguousarray(part) for part in (programs.code, programs.data, programs.length))
    rows = np.concatenate([part.reshape(len(programs), -1).view(np.uint8) for part in arrays], 1)
    return [hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in rows]


class Recorder(NicheSearch):
    """A niche search that remembers what its programs descend from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__.update(origins={}, parents={}, before=None, cohorts=0)

    def _seat(self, programs: Programs, champions: Programs, niches: np.ndarray) -> None:
        self.__dict__["before"] = keys(programs)  # still with the Predict of the niche that they come from
        super()._seat(programs, champions, niches)

    def _children(self, state: NicheState, known: np.ndarray, rng: np.random.Generator) -> Any:
        original = niches.new_mutants

        def listening(parents: Programs, *args: Any, **settings: Any) -> Any:
            before = self.__dict__["before"]
            children, done, applied = original(parents, *args, **settings)
            self.__dict__["parents"] = {key: before[i] for key, i in zip(keys(children), done, strict=True)}
            return children, done, applied

        with mock.patch.object(niches, "new_mutants", listening):
            return super()._children(state, known, rng)

    def tell(self, state: NicheState, candidates: Candidates, scores: Scores) -> NicheState:
        """As in the base; remembers the best set of each program."""
        after, fitness = super().tell(state, candidates, scores), combined(candidates, scores)
        n = len(state.tuned) if state.phase == "tune" and state.tuned else len(state.asked)
        per = len(candidates) // n
        winners = np.arange(n) * per + fitness.reshape(n, per).argmax(1)
        programs, share = candidates.programs[winners], (candidates.tasks_share, candidates.examples_share)
        asked = keys(candidates.programs[np.arange(n) * per])
        how = {"begin": "random", "first": "random", "tune": "tuning", "again": "again"}.get(state.phase, "mutation")
        origins, parents = self.__dict__["origins"], self.__dict__["parents"]
        for i, (key, first) in enumerate(zip(keys(programs), asked, strict=True)):
            parent = {"random": None, "mutation": parents.get(first)}.get(how, first)
            if key not in origins and parent != key:
                score = float(fitness[winners[i]])
                origins[key] = Origin(programs[np.array([i])], parent, how, after.evaluations, score, share)
        self.__dict__["cohorts"] += 1
        if self.__dict__["cohorts"] % FORGET_EVERY == 0:
            self._forget(after)
        return after

    def _forget(self, state: NicheState) -> None:
        alive = [state.places, state.champions, *(some for some in (state.tuned, state.best.program) if some)]
        todo, kept, origins = [key for some in alive for key in keys(some)], {}, self.__dict__["origins"]
        while todo:
            key = todo.pop()
            if key in origins and key not in kept:
                kept[key] = origins[key]
                todo += [kept[key].parent] if kept[key].parent else []
        self.__dict__["origins"] = kept

    def descent(self, program: Programs) -> list[Origin]:
        """From a random program to this one."""
        chain, key, origins = [], keys(program)[0], self.__dict__["origins"]
        while key in origins:
            chain.append(origins[key])
            key = origins[key].parent
        return chain[::-1]


def without_numbers(text: str) -> str:
    """A listing without its constants: what stays when only they change."""
    return re.sub(r"(?<![a-z\d])-?\d+(\.\d+)?(e-?\d+)?", "#", text)


def lineage(config: RunConfig, to: Path) -> None:
    """Writes how the program that a search finds came about, as Markdown and as JSON."""
    plain = build.searcher(config)
    search = Recorder(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})
    state, evaluator = watched(config, search, lambda state: None)
    chain = search.descent(state.best.program)
    steps = folded(search, chain, evaluator)
    tasks, unseen = evaluator.tasks, build.tasks(config, "unseen")
    summary = {
        "seed": config.seed,
        "features": tasks.features,
        "evaluations": state.evaluations,
        "generations": sum(one.how == "mutation" for one in chain),
        "search_fitness": state.best_fitness,
        "affine_fit": affine_fitness(tasks),
        "unseen_fitness": float(build.fitness(config, state.best.program, unseen, "unseen")[0]),
        "unseen_affine_fit": affine_fitness(unseen),
        "program": described(state.best.program),
    }
    to.with_suffix(".json").write_text(json.dumps(summary | {"steps": steps}, indent=1) + "\n")
    intro = (
        f"{summary['generations']} mutations lead from a random program to the one found, after {summary['evaluations']:,} "
        f"evaluations: {summary['search_fitness']:.3f} on the search tasks (affine fit {summary['affine_fit']:.3f}), "
        f"{summary['unseen_fitness']:.3f} on unseen tasks (affine fit {summary['unseen_affine_fit']:.3f})."
    )
    to.write_text(as_markdown(f"How seed {config.seed} came to a network", intro, steps, summary["program"]))
    print(
        f"{summary['generations']} mutations in {len(steps)} steps; written to {to} and {to.with_suffix('.json').name}"
    )


def folded(search: NicheSearch, chain: list[Origin], evaluator: Evaluator) -> list[dict[str, Any]]:
    """The steps of a descent, those that change only constants folded into the step before."""
    groups: list[list[Origin]] = []
    texts: list[str] = []
    for one in chain:
        text = without_numbers(pruned(one.program).listing(0))
        if groups and text == texts[-1]:
            groups[-1].append(one)
        else:
            groups.append([one])
            texts.append(text)
    steps: list[dict[str, Any]] = []
    before, niche = "", ""
    for group, text in zip(groups, texts, strict=True):
        first, last = group[0], group[-1]
        now = str(search.predictions[niche_of(search, last.program)])
        as_it_was, best = in_full(search, last.program, evaluator)
        steps.append(
            {
                "evaluations": [first.evaluations, last.evaluations],
                "how": first.how,
                "constants_changed": len(group) - 1,
                "niche": now,
                "from_niche": niche if niche != now else "",
                "changes": [line for line in _diff(before, text) if line[0] in "+-"],
                "short": [first.fitness, last.fitness],
                "share": list(last.share),
                "full": as_it_was,
                "full_best": best,
                "listing": pruned(last.program).listing(0),
            }
        )
        before, niche = text, now
    return steps


def in_full(search: NicheSearch, program: Programs, evaluator: Evaluator) -> tuple[float, float]:
    """The fitness of a program on all tasks and examples, as it is and with the best of other initial values."""
    many = program[np.zeros(1 + TRIED, np.int64)]
    vary_initial_values(many, search.space, 1.0, 0.0, len(many), np.random.default_rng(0))
    fitness = evaluator(many).combined
    return float(fitness[0]), float(fitness.max())


def _diff(before: str, after: str) -> list[str]:
    """All lines of a listing, those that came and went marked."""
    return [line.rstrip() for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] != "?"]


def as_markdown(title: str, intro: str, steps: list[dict[str, Any]], program: str) -> str:
    """The story of one discovery: the steps that mattered, each with what it changed."""
    out = [
        f"# {title}",
        "",
        f"{intro} The text describes the steps "
        f"after which the program is better by {MATTERS} than all before it. `short` is the fitness as the search saw "
        f"it, `full` on all search tasks and examples, `best` the same with the best of {TRIED} other sets of initial "
        "values. `#` stands for a constant.",
    ]
    best, shown, between, moves = -1.0, "", 0, []
    for number, step in enumerate(steps):
        if step["from_niche"]:
            moves.append(step["niche"])
        if step["full_best"] < best + MATTERS and number + 1 < len(steps):
            between += 1
            continue
        now = without_numbers(step["listing"])
        lead = f"{between} step{'s' * (between > 1)} that changed little, and then: " * bool(between)
        route = f" Moved through the niches {', '.join(f'`{name}`' for name in moves)}." * bool(moves)
        out += [
            "",
            f"## Step {number}: {step['how']}, after {step['evaluations'][0]:,} evaluations",
            "",
            f"{lead}Predict computes `{step['niche']}`.{route} Short {step['short'][1]:.3f}, full {step['full']:.3f}, best "
            f"{step['full_best']:.3f}.",
            "",
            *(
                ["This step:", "", "```diff", *step["changes"], "```", "", "All since the step described before:", ""]
                if between
                else []
            ),
            "```diff",
            *_diff(shown, now),
            "```",
        ]
        best, shown, between, moves = max(best, step["full_best"]), now, 0, []
    return "\n".join([*out, "", "## The program", "", "```python", program, "```", ""])
