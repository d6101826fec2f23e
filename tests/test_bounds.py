"""Every number that a user can give has an upper bound, and what is refused is refused before work or memory is spent."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from tests.spaces import SMALL
from zero_jax import (
    Component,
    RandomSearch,
    RegularizedEvolution,
    Scores,
    SearchSpace,
    Tasks,
    evaluate,
    library,
    tune,
)
from zero_jax.evaluation import KnownForms, Probe
from zero_jax.run.config import RunConfig
from zero_jax.run.presets import PRESETS
from zero_jax.search.efficient import EfficientEvolution
from zero_jax.support.bounds import BOUNDS, check_bytes, check_number
from zero_jax.tasks import synthetic
from zero_jax.tasks.sets import TaskSet

SEARCHERS = [RegularizedEvolution, EfficientEvolution]
LINEAR = PRESETS["demo"][1]


def test_every_number_of_an_experiment_and_of_tasks_has_a_bound():
    for described in (RunConfig, TaskSet, RegularizedEvolution, RandomSearch):
        numbers = {field.name for field in dataclasses.fields(described) if field.type in (int, "int")}
        assert numbers <= BOUNDS.keys()


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(RunConfig) if f.type in (int, "int")])
def test_an_experiment_names_the_number_that_is_too_large(name):
    most = BOUNDS[name][1]
    for value in (most + 1, 10**30):
        with pytest.raises(ValueError, match=f"{name} must be from .* to {most:,}, not {value}"):
            LINEAR.replace(**{name: value})
    for value in (1.5, "3", None, True):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, not {value!r}"):
            LINEAR.replace(**{name: value})


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tournament": 2147483648}, "tournament must be from 1 to 1,000,000, not 2147483648"),
        ({"islands": 9223372036854775808}, "islands must be from 1 to 1,000,000, not 9223372036854775808"),
        ({"population": 10**400}, "population must be from 1 to 100,000,000, not 1000"),
        ({"islands": 10**6, "population": 10**8}, r"1,000,000 islands of 100,000,000 programs .* GiB are allowed"),
        (
            {"tournament": 10**6, "population": 10**4, "cohort": 10**4},
            "10,000,000,000 draws at a time; 100,000,000 are",
        ),
        ({"tournament": 2.5}, "tournament must be a whole number, not 2.5"),
    ],
)
def test_searches_are_bounded(searcher, settings, message):
    with pytest.raises(ValueError, match=message):
        searcher(SMALL, **settings)


def test_random_search_and_spaces_are_bounded():
    with pytest.raises(ValueError, match="cohort must be from 1 to 100,000,000"):
        RandomSearch(SMALL, 10**9)
    with pytest.raises(ValueError, match="GiB are allowed"):
        RandomSearch(SMALL, 10**8)
    with pytest.raises(ValueError, match="instructions must be from 0 to 10,000, not 12000"):
        SearchSpace(
            (4, 3, 1),
            Component(("SCALAR_CONST_SET",), (0, 1, 4000)),
            Component(("VECTOR_INNER_PRODUCT",), (0, 1, 4000)),
            Component(("SCALAR_DIFF",), (0, 1, 4000)),
        )
    with pytest.raises(ValueError, match="size must be three whole numbers"):
        SearchSpace(
            (4, 3, 1),
            Component(("SCALAR_CONST_SET",), (0, 1, (1.5, 1, 1)[0])),
            Component(("VECTOR_INNER_PRODUCT",), (0, 1, (1.5, 1, 1)[1])),
            Component(("SCALAR_DIFF",), (0, 1, (1.5, 1, 1)[2])),
        )


@pytest.mark.parametrize("searcher", [*SEARCHERS, RandomSearch])
@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_no_search_takes_a_fitness_that_is_not_finite(searcher, wrong):
    search = searcher(SMALL, cohort=4) if searcher is RandomSearch else searcher(SMALL, population=4, cohort=4)
    state, candidates = search.ask(search.init(0))
    for _ in range(2):
        fitness = np.zeros(4)
        fitness[2] = wrong
        with pytest.raises(ValueError, match=f"finite numbers, but that of candidate 2 is {wrong}"):
            search.tell(state, candidates, Scores.of(fitness))
        state, candidates = search.ask(search.tell(state, candidates, Scores.of(np.zeros(4))))


@pytest.mark.parametrize("source", ["linear", "teacher", "digits", "tfds:kmnist"])
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tasks": 10**21}, "tasks must be from .* to 1,000,000"),
        ({"epochs": 2147483647}, "epochs must be from .* to 1,000,000, not 2147483647"),
        ({"epochs": 10**6}, "1,000,000 epochs of 200 training examples are 200,000,000; a run may see"),
        ({"tasks": 10**6, "features": 64}, r"1,000,000 tasks of 200 \+ 100 examples of 64 features would take .* GiB"),
    ],
)
def test_tasks_are_bounded_before_any_are_made(source, sizes, message):
    with pytest.raises(ValueError, match=message):
        TaskSet(source, **{"train": 200} | sizes).check()


def test_tasks_from_arrays_and_functions_are_bounded_too():
    with pytest.raises(ValueError, match="tasks must be from 1 to 1,000,000, not 1000000000000000000000"):
        synthetic.linear(10**21)
    with pytest.raises(ValueError, match=r"would take .* GiB"):
        synthetic.teacher(1, features=20_000, train=10**6)
    x, y = np.zeros((1, 200, 1)), np.zeros((1, 200))
    for epochs, message in ((2**31 - 1, "epochs must be from 1 to"), (10**6, "a run may see 134,217,728")):
        with pytest.raises(ValueError, match=message):
            Tasks(x, y, x, y, epochs=epochs)


def test_tuning_and_threads_are_bounded():
    program, tasks = library.program("linear"), synthetic.linear(1, train=5, valid=5)
    with pytest.raises(ValueError, match="evaluations must be from 1 to 10,000,000, not 100000000000"):
        tune(program, tasks, evaluations=10**11)
    with pytest.raises(ValueError, match="10,000,000 candidates of 100 instructions would take"):
        tune(program.resized(capacity=(50, 25, 25)), tasks, evaluations=10**7)
    with pytest.raises(ValueError, match="threads must be from 1 to 1,024, not 1000000"):
        evaluate(program, tasks, threads=10**6)
    with pytest.raises(ValueError, match="cache_size must be from 0 to"):
        KnownForms(10**19)
    for name, setting in (("probe", "examples"), ("cache_size", "cache_size"), ("forget_every", "forget_every")):
        with pytest.raises(ValueError, match=f"{name} must be from . to"):
            Probe(**{setting: 10**19})


def test_the_bounds_themselves_are_allowed():
    for name, (least, most) in BOUNDS.items():
        assert check_number(name, np.int64(least) if least > 0 else least) == least
        assert check_number(name, most) == most
    check_bytes("a population", 2**33, "take fewer")
    with pytest.raises(ValueError, match=r"a population would take 1.0e\+21 GiB of memory; 8 GiB are allowed: take"):
        check_bytes("a population", 10**21 * 2**30, "take fewer")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "search demo --tournament 2147483648",
        "search demo --parallel-trials 9007199254740992",
        "search demo --islands 9223372036854775808",
        "search demo --search-tasks.epochs 2147483647",
        "evaluate linear --tasks 1000000000000000000000",
        "tune linear --evaluations 99999999999",
        "bench --features 100000",
    ],
)
def test_the_command_line_refuses_at_once(arguments, tmp_path):
    command = [sys.executable, "-m", "zero_jax.cli", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert "must be from" in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
