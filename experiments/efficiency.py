"""Evaluations to the linear optimum in the paper's Fig. 4 space: random search, plain evolution, the efficient option, and
the latter without each of its parts; and with initial values as genes, for affine regression too.

    python experiments/efficiency.py
    python experiments/efficiency.py --only "genes" "niches" "affine, niches" --seeds 300 301 302

Success is a T_search fitness above 0.9999 (3 tasks, F = 8, 1,000 + 100 examples). An evaluation is a program whose fitness
was asked for, known or not; the numbers it was tuned on are those of other seeds (100 to 119). The result is in
`efficiency.json`.
"""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from unittest import mock

import numpy as np

from zero_jax import Component, Evaluator, RandomSearch, RegularizedEvolution, SearchSpace
from zero_jax.cli.options import parsed
from zero_jax.evaluation import KnownForms
from zero_jax.search import EfficientEvolution, Mutations, NicheSearch, efficient
from zero_jax.tasks import synthetic
from zero_jax.use.bench import machine

SPACE = SearchSpace(
    (4, 3, 1),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET"), (5, 5, 5)),
    Component(("VECTOR_INNER_PRODUCT",), (1, 1, 1)),
    Component(("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (4, 4, 4)),
)
AFFINE = SearchSpace(
    (5, 3, 1),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET"), (6, 6, 6)),
    Component(("SCALAR_SUM", "VECTOR_INNER_PRODUCT"), (2, 2, 2)),
    Component(("SCALAR_SUM", "SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (6, 6, 6)),
)
BAR = 5270
SUFFICIENT = 0.9999
EFFICIENT = EfficientEvolution(SPACE, population=100, cohort=10, tournament=10)


def anything(programs, interface=None):
    return np.full(len(programs), efficient.CONDITIONS)


def unlike(programs, interface=None):
    """As if each program were a structure of its own."""
    return efficient.canonical(programs).hashes[:, 0]


def by_age(fitness, structures, ring, new_structures, new_fitness, owners):
    """Every child takes the place of the oldest."""
    islands, population = fitness.shape
    for i, score in enumerate(new_fitness):
        island = i // (len(new_fitness) // islands)
        place = ring[island]
        ring[island] = (place + 1) % population
        fitness[island, place], structures[island * population + place] = score, new_structures[i]
        owners[island * population + place] = i


PLAIN = RegularizedEvolution(SPACE, population=1000, cohort=100, tournament=10)
LOCAL = Mutations(
    types=("alter_param", "randomize_instruction", "swap_instructions", "trade_instruction"),
    weights=(0.4, 0.4, 0.1, 0.1),
    components=(0.1, 0.01, 0.89),
)
GENES, AFFINE_GENES = (NicheSearch.adapted({"space": space})["space"] for space in (SPACE, AFFINE))
NICHES = NicheSearch(GENES, children=10, setup_share=0.1, mutations=dataclasses.replace(LOCAL, components=()))
SEARCHES = {
    "random search": (RandomSearch(SPACE, 1000), {}),
    "plain evolution, P = 1000": (PLAIN, {}),
    "plain evolution, P = 100": (dataclasses.replace(PLAIN, population=100, cohort=10), {}),
    "efficient": (EFFICIENT, {}),
    "efficient, T = 4": (dataclasses.replace(EFFICIENT, tournament=4), {}),
    "without can_learn": (EFFICIENT, {"conditions": anything}),
    "without niches": (EFFICIENT, {"_settle": by_age}),
    "niches of fitness alone": (EFFICIENT, {"structures": unlike}),
    "without log-uniform constants": (dataclasses.replace(EFFICIENT, constant_init="uniform"), {}),
    "with one mutation each": (dataclasses.replace(EFFICIENT, repeat_mutation=0.0), {}),
    "genes": (dataclasses.replace(EFFICIENT, space=GENES, mutations=LOCAL), {}),
    "niches": (NICHES, {}),
    "affine, niches": (dataclasses.replace(NICHES, space=AFFINE_GENES, niche_size=200, children=20), {}),
}
"""Searches of the Fig. 4 space, the last of the affine one; the last three have initial values in place of Setup's instructions."""


def run(name: str, seed: int, limit: int) -> dict:
    search, changes = SEARCHES[name]
    make = synthetic.affine if name.startswith("affine") else synthetic.linear
    tasks = make(3, features=8, train=1000, valid=100, seed=seed)
    evaluator = Evaluator(tasks, ops=search.space.ops, threads=1, stages=(KnownForms(2**18),))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        for what, other in changes.items():
            stack.enter_context(mock.patch.object(efficient, what, other))
        state = search.init(seed + 1000)
        while state.best_fitness <= SUFFICIENT and state.evaluations < limit:
            state, candidates = search.ask(state)
            state = search.tell(state, candidates, evaluator(candidates))
    return {
        "seed": seed,
        "evaluations": state.evaluations,
        "solved": state.best_fitness > SUFFICIENT,
        "best_fitness": state.best_fitness,
        "trained": evaluator.counts.evaluated,
        "train_steps": evaluator.counts.train_steps,
        "seconds": round(time.monotonic() - began, 2),
    }


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    seeds: tuple[int, ...] = tuple(range(10))
    limit: int = 3_000_000  # evaluations of random search and plain evolution
    short: int = 30_000  # evaluations of the others
    only: tuple[str, ...] = tuple(SEARCHES)
    out: Path = Path(__file__).with_suffix(".json")


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    rows = {}
    with ProcessPoolExecutor(2) as pool:
        for name in chosen.only:
            plain = isinstance(SEARCHES[name][0], RandomSearch) or "plain" in name or name.startswith("affine")
            limit = chosen.limit if plain else chosen.short
            each = list(pool.map(run, [name] * len(chosen.seeds), chosen.seeds, [limit] * len(chosen.seeds)))
            mean = float(np.mean([row["evaluations"] for row in each]))
            rows[name] = {"solved": sum(row["solved"] for row in each), "mean_evaluations": mean, "runs": each}
            least = "" if rows[name]["solved"] == len(each) else "at least "
            print(
                f"{name:32} {rows[name]['solved']:3} of {len(each)} solved, mean {least}{mean:,.0f} evaluations",
                flush=True,
            )
    commit = ["git", "rev-parse", "--short", "HEAD"]
    stored = {
        "command": " ".join(["python experiments/efficiency.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "commit": subprocess.run(commit, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip(),
        "machine": machine(),
        "bar": BAR,
        "searches": rows,
    }
    chosen.out.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
