"""What evolution adds to a network on harder tasks: biases, a learning rate that decays, normalised gradients.

    python experiments/beyond.py
    python experiments/beyond.py --settings plain biases --seconds 120

The paper's Fig. 6 story with teachers for tasks. Each search starts from the kind of program that niche search finds
(`START`: two layers by backpropagation, no bias, a fixed learning rate, the best of `RATES` on selection tasks), in a space with
many more ops, memory and instructions. Settings (y = u . relu(M x), F = 4, 4 hidden units, everything from N(0, 1)):

- plain: as it is, the control.
- biases: y = u . relu(M x + b) + c.
- noise: the training labels carry noise of standard deviation 1, which a decaying learning rate averages out.
- scales: the features of each task are scaled by exp(N(0, 1)), so that no one learning rate suits all tasks.

`network_parts.py` says which parts a program has that make a difference. `PARTS` are programs written by hand that have
one such part each; they are recognised (`tests/test_experiments_tables.py`).
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import results
from network_parts import KINDS, fitness, recognised
from scipy import stats

from zero_jax import Component, Evaluator, Programs, SearchSpace
from zero_jax.evaluation import KnownForms
from zero_jax.program.programs import concatenate
from zero_jax.program.roles import described
from zero_jax.search import EfficientEvolution, Mutations
from zero_jax.tasks import Tasks
from zero_jax.tasks.references import affine_fitness

FEATURES, HIDDEN, TRAIN, VALID = 4, 4, 1000, 200
TASKS = {"search": 16, "select": 100, "unseen": 400}
SETTINGS = ("plain", "biases", "noise", "scales")
RATES = (0.003, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2)
SHOWN = 20
"""How many of the best programs on search tasks are compared on selection tasks."""

START = """
def Setup():
  s2 = {rate}
  v2 = gaussian(0, 0.3)
  m0 = gaussian(0, 0.3)
def Predict():
  v3 = dot(m0, v0)
  v4 = maximum(v3, v5)
  s1 = dot(v4, v2)
def Learn():
  s3 = s0 - s1
  s3 = s2 * s3
  v6 = s3 * v4
  v7 = s3 * v2
  v2 = v2 + v6
  v8 = heaviside(v3)
  v7 = v8 * v7
  m1 = outer(v7, v0)
  m0 = m0 + m1
"""


def _changed(**changes: str) -> str:
    text = START
    for mark, line in changes.values():
        assert mark in text, mark
        text = text.replace(mark, line)
    return text


PARTS = {
    "bias": ("biases", _changed(
        hidden=("  v4 = max", "  v3 = v3 + v9\n  v4 = max"), output=("dot(v4, v2)", "dot(v4, v2)\n  s1 = s1 + s4"),
        learn=("  m1 = outer", "  s4 = s4 + s3\n  v9 = v9 + v7\n  m1 = outer"))),
    "decay": ("noise", _changed(
        setup=("  v2 = gau", "  s5 = 0.998\n  v2 = gau"), learn=("  v6 = s3", "  s2 = s2 * s5\n  v6 = s3"))),
    "normalised gradient": ("scales", _changed(
        learn=("  s3 = s2 * s3", "  s3 = s2 * s3\n  s6 = norm(v0)\n  s6 = s6 * s6\n  s3 = s3 / s6"))),
}  # fmt: skip
"""By part: the setting that it helps in, and the start with it."""

SPACE = SearchSpace(
    (8, 12, 3),
    Component(("SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET", "MATRIX_GAUSSIAN_SET"), (1, 4, 8)),
    Component(
        ("SCALAR_SUM", "VECTOR_SUM", "VECTOR_INNER_PRODUCT", "MATRIX_VECTOR_PRODUCT", "VECTOR_MAX", "VECTOR_NORM",
         "SCALAR_DIVISION", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT"),
        (1, 3, 7),
    ),
    Component(
        ("SCALAR_SUM", "SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_DIVISION", "SCALAR_ABS", "SCALAR_RECIPROCAL",
         "SCALAR_EXP", "SCALAR_CONST_SET", "SCALAR_MAX", "VECTOR_HEAVYSIDE", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM",
         "VECTOR_PRODUCT", "VECTOR_DIVISION", "VECTOR_ABS", "VECTOR_NORM", "VECTOR_ST_DEV", "VECTOR_INNER_PRODUCT",
         "VECTOR_OUTER_PRODUCT", "MATRIX_SUM", "MATRIX_NORM", "SCALAR_MATRIX_PRODUCT"),
        (1, 10, 16),
    ),
)  # fmt: skip
MUTATIONS = Mutations(("alter_param", "randomize_instruction", "insert_instruction", "remove_instruction"))


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What the script is asked for.

    Attributes:
      seeds: Each once.
      settings: Which kinds of tasks.
      seconds: How long each search takes.
      jobs: Searches side by side, on one thread each.
    """

    seeds: tuple[int, ...] = tuple(range(10))
    settings: tuple[str, ...] = SETTINGS
    seconds: float = 90.0
    jobs: int = 2

    def check(self) -> None:
        """As in `results.Options`."""
        super().check()
        unknown = [name for name in self.settings if name not in SETTINGS]
        if unknown:
            raise ValueError(f"--settings: unknown '{unknown[0]}'; expected among {', '.join(SETTINGS)}")
        results.check_whole(self.jobs, 1)
        if self.seconds <= 0:
            raise ValueError("--seconds must be above 0")


# ---------------------------------------------------------------------------------------------- the search


def tasks(setting: str, role: str, seed: int, n: int = 0) -> Tasks:
    """Tasks of a setting; those of different roles differ."""
    parts = []
    for rng in np.random.default_rng([seed, list(TASKS).index(role)]).spawn(n or TASKS[role]):
        hidden, output = rng.normal(size=(HIDDEN, FEATURES)), rng.normal(size=HIDDEN)
        x = rng.normal(size=(TRAIN + VALID, FEATURES))
        biases, bias = (rng.normal(size=HIDDEN), rng.normal()) if setting == "biases" else (0.0, 0.0)
        y = np.maximum(x @ hidden.T + biases, 0) @ output + bias
        if setting == "noise":
            y[:TRAIN] += rng.normal(size=TRAIN)
        if setting == "scales":
            x = x * np.exp(rng.normal())
        parts.append((x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]))
    return Tasks.stack(parts, "rmse", 1, seed=seed)


def tuned(text: str, some: Tasks) -> Programs:
    """The program with the learning rate that is best on these tasks."""
    programs = concatenate([Programs.parse(text.format(rate=rate), SPACE.memory, SPACE.capacity) for rate in RATES])
    return programs[int(fitness(programs, some).mean(1).argmax())]


def beyond(setting: str, seed: int, most_seconds: float) -> dict[str, Any]:
    """One search from the start on, and what its best program has that the start has not."""
    seen, select, unseen = (tasks(setting, role, seed) for role in TASKS)
    start = tuned(START, select)
    search = EfficientEvolution(SPACE, population=100, cohort=20, mutations=MUTATIONS, initial=start)
    evaluator = Evaluator(seen, ops=SPACE.ops, threads=1, stages=(KnownForms(2**18),))
    state, began, bests = search.init(seed), time.monotonic(), [start]
    while time.monotonic() - began < most_seconds and not search.exhausted(state):
        before = state.best_fitness
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
        if state.best_fitness > before:
            bests = [*bests[-SHOWN:], state.best.program]
    programs = concatenate(bests)
    program = programs[int(fitness(programs, select).mean(1).argmax())]
    ours, theirs = fitness(concatenate([program, start]), unseen)
    parts = recognised(program, select, unseen)
    return {
        "evaluations": state.evaluations,
        "seconds": round(time.monotonic() - began, 1),
        "unseen": float(ours.mean()),
        "start": float(theirs.mean()),
        "affine": affine_fitness(unseen),
        "gain": float((ours - theirs).mean()),
        "gain_error": float(stats.sem(ours - theirs)),
        "parts": parts,
        "has": sorted({part["kind"] for part in parts if part["counts"]}),
        "program": described(program),
    }


# ---------------------------------------------------------------------------------------------- the results


def table(rows: list[dict[str, Any]]) -> str:
    """How often each part appeared, by setting, as Markdown."""
    lines = [
        "| setting | " + " | ".join(KINDS) + " | start | found | gain (seeds above 0) |",
        "|---" * (len(KINDS) + 4) + "|",
    ]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        some = [row for row in rows if row["setting"] == setting]
        counts = [results.share(sum(kind in row["has"] for row in some), len(some)) for kind in KINDS]
        start, found, gain = (np.mean([row[name] for row in some]) for name in ("start", "unseen", "gain"))
        up = results.share(sum(row["gain"] > 2 * row["gain_error"] for row in some), len(some))
        lines.append(f"| {setting} | {' | '.join(counts)} | {start:.3f} | {found:.3f} | {gain:+.3f} ({up}) |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    seconds = min(chosen.seconds, 5.0) if chosen.small else chosen.seconds
    keys = [
        {"setting": setting, "seed": seed, "most_seconds": seconds}
        for setting in chosen.settings
        for seed in chosen.seeds
    ]
    print(table(results.finished(chosen.jobs, beyond, keys, results.path(chosen, __file__), chosen.seeds)))


if __name__ == "__main__":
    main()
