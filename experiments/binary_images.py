"""Does evolution find programs that tell images apart better than a tuned linear model and a tuned 2-layer network (paper,
section 4.2)?

    python experiments/binary_images.py --small                      # handwritten digits, minutes on 2 cores
    python experiments/binary_images.py --small --dataset cifar10    # any source of pairs that `TaskSet` knows

Each seed evolves programs on random projections of 36 pairs of classes (T_search), judges the best of them on other
projections of these pairs, picks one, and tunes its constants there. The other 9 pairs of classes are held out: nothing is
chosen on them. There the program is compared, at F = 16 and at full dimension, with logistic regression and a 2-layer
network, each as a program of the library and as a JAX model with optax, with the same examples, in the same order, once;
each with as many evaluations of tuning, on the same tasks, for each dimension. All are judged on the same held-out tasks, so
differences are paired; a baseline counts as the better of its two forms on these very tasks, which favours it.
"""

import argparse
import dataclasses
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import results
from matplotlib.figure import Figure

from zero_jax import baselines, evaluate, library, program_fitness, tune
from zero_jax.canonical import pruned
from zero_jax.programs import MemorySize, Programs, SearchSpace, concatenate
from zero_jax.search import Mutations
from zero_jax.settings import Experiment
from zero_jax.strands import Strand
from zero_jax.tasks import Tasks
from zero_jax.tasks.sets import TaskSet

SPACE = SearchSpace(
    MemorySize(8, 14, 3), tuple(range(1, 65)), tuple(range(1, 65)), tuple(range(1, 65)), (0, 0, 0), (1, 1, 1), (21, 21, 45)
)
"""The paper's: all ops everywhere."""

MUTATIONS = Mutations(("alter_param", "randomize_component", "insert_instruction", "remove_instruction"))


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
      train, valid: examples a task.
      features: F in the search.
      search, choice: tasks of the 36 pairs on which programs evolve, and on which one is picked and constants are tuned.
      splits: tasks of each of the 9 held-out pairs.
      candidates: programs of a search from which one is picked.
      evaluations: of each tuning.
      searching: settings of the search.
    """

    train: int = 160
    valid: int = 90
    features: int = 16
    search: int = 16
    choice: int = 96
    splits: int = 20
    candidates: int = 20
    evaluations: int = 1000
    searching: dict = dataclasses.field(default_factory=dict)


SMALL = {"method": "efficient", "islands": 4, "population": 100, "cohort": 25, "tournament": 10, "train_steps": 10**9}
LARGE = {"islands": 1000, "groups": 2, "population": 100, "cohort": 50, "train_steps": 10**12, "migrate_every": 1000}
SIZES = {
    "small": Size(searching=SMALL),
    "paper": Size(8000, 1000, search=10, choice=36, splits=5, candidates=100, evaluations=10_000, searching=LARGE),
}
STARTS = {"evolved from nothing": "no_op", "evolved from the network": "network"}
MODELS = {"linear": "logistic", "network": "network"}
DIMENSIONS = ("projected", "full")


def tasks_of(dataset: str, size: Size, dimension: str, seed: int) -> tuple[Tasks, Tasks]:
    """T_search, and the tasks to choose on: of the 36 pairs, all different."""
    features = size.features if dimension == "projected" else 0
    made = TaskSet(dataset, size.search + size.choice, features, size.train, size.valid).make(seed, "search")
    return made[: size.search], made[size.search :]


def held_out(dataset: str, size: Size, dimension: str) -> Tasks:
    """The 9 other pairs, one split of each after the other; the same for all seeds."""
    features = size.features if dimension == "projected" else 0
    return TaskSet(dataset, 9 * size.splits, features, size.train, size.valid).make(0, "unseen")


def search(tasks: Tasks, size: Size, initial: str, seed: int) -> tuple[Programs, dict]:
    """Evolves programs: the best ones, the best first, and how it went."""
    described = TaskSet()  # not asked: the tasks are given
    experiment = Experiment(
        "binary images", described, described, described, SPACE, mutations=MUTATIONS, initial=initial, seed=seed, threads=1,
        budget=2.0, **size.searching,
    )  # fmt: skip
    searcher = experiment.searcher()
    evaluator = experiment.evaluator(tasks, "search", searcher.ops)
    strand = Strand(
        1, searcher, seed, [evaluator], "mean", experiment.train_steps, 2.0, experiment.groups,
        experiment.migrate_every * experiment.islands,
    )  # fmt: skip
    began, curve = time.monotonic(), []
    while not strand.ended:
        strand.evaluate_cohort()
        if strand.is_due():
            curve.append([strand.counts.train_steps, round(strand.state.best_fitness, 5)])
    found = strand.candidates(size.candidates)
    told = {
        "search_fitness": found[0].fitness,
        "evaluations": strand.evaluations,
        "trained": strand.counts.evaluated,
        "train_steps": strand.counts.train_steps,
        "seconds": round(time.monotonic() - began, 1),
        "curve": curve[:: max(1, len(curve) // 40)],
    }
    return concatenate([entry.program for entry in found]), told
