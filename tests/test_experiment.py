"""`run` from Python: outcome, records, seeds, interruption."""

import dataclasses
import json

import numpy as np
import pytest

from tests.helpers import QUICK, records, without_clock
from zero_jax import Component, Mutations, Programs, SearchSpace, evaluate, random_programs
from zero_jax.program.library import load as load_program
from zero_jax.run import build
from zero_jax.run.api import run
from zero_jax.run.forecast import forecast, is_long
from zero_jax.run.presets import PRESETS
from zero_jax.tasks.sets import TaskSet


def test_wrong_settings_are_refused_with_what_is_expected():
    preset = PRESETS["demo"][1]
    with pytest.raises(ValueError, match="unknown setting 'sed'; did you mean 'seed'"):
        preset.replace(sed=1)
    with pytest.raises(ValueError, match=r"tasks must be of class TaskConfig, not \(1, 2, 3\)"):
        preset.replace(tasks=(1, 2, 3))


def test_a_run_says_and_writes_what_it_found(tmp_path):
    seen = []
    outcome = run(QUICK.replace(out=str(tmp_path)), seen.append)
    assert not outcome.interrupted
    assert outcome.progress.trial == 2
    assert outcome.progress.train_steps >= 80_000
    assert [p.evaluations for p in seen] == sorted(p.evaluations for p in seen)
    folder = outcome.folder
    assert {p.name for p in folder.iterdir() if p.name != ".lock"} == {
        "checkpoint-000001.npz",
        "config.json",
        "records.jsonl",
        "hall.json",
        "lineage.json",
        "best.txt",
        "best.json",
        "outcome.json",
    }
    assert load_program(str(folder / "best.txt")).listing(0) == outcome.program.listing(0)
    best = load_program(str(folder / "best.json"))
    np.testing.assert_array_equal(best.code, outcome.program.code)
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["searcher"]["population"] == 60
    lines = records(folder)
    assert lines[-1]["evaluations"] == outcome.progress.evaluations
    assert all(len(line["quantiles"]) == 5 for line in lines)
    # The reported fitness is that of the reported program.
    tasks = build.tasks(QUICK, "search", outcome.trial)
    again = build.fitness(QUICK, outcome.program, tasks, "search")
    assert again[0] == outcome.search_fitness


def test_equal_seeds_give_equal_runs_and_others_do_not(tmp_path):
    first, second, other = (run(QUICK.replace(out=str(tmp_path), seed=seed)) for seed in (5, 5, 6))
    assert first.folder != second.folder
    assert without_clock(records(first.folder)) == without_clock(records(second.folder))
    assert first.program.listing(0) == second.program.listing(0)
    assert without_clock(records(first.folder)) != without_clock(records(other.folder))


@pytest.mark.parametrize("parallel_trials", [1, 3])
def test_the_number_of_threads_changes_nothing(tmp_path, parallel_trials):
    runs = [
        run(QUICK.replace(out=str(tmp_path), parallel_trials=parallel_trials, trials=4, threads=threads))
        for threads in (1, 2, 5)
    ]
    assert without_clock(records(runs[0].folder)) == without_clock(records(runs[1].folder))
    assert without_clock(records(runs[0].folder)) == without_clock(records(runs[2].folder))
    assert runs[0].program.listing(0) == runs[1].program.listing(0) == runs[2].program.listing(0)
    assert {line["trial"] for line in records(runs[0].folder)} == {1, 2, 3, 4}


def test_it_stops_as_soon_as_it_is_solved():
    outcome = run(QUICK.replace(sufficient_fitness=0.01, trials=0, train_steps=10**9))
    assert outcome.solved
    assert outcome.trial in (1, 2)  # they run in parallel
    assert outcome.select_fitness > 0.01
    assert outcome.unseen_fitness is not None
    assert outcome.folder is None


def test_evolution_from_a_linear_regressor_keeps_it():
    start = QUICK.replace(
        initial="linear",
        mutations=Mutations(("alter_param",)),
        select_tasks=TaskSet("linear", tasks=3, train=1000),
        sufficient_fitness=0.999,
        trials=1,
        space=QUICK.searcher.space.with_sizes(fewest=(1, 1, 4), initial=(1, 1, 4)),
    )
    outcome = run(start)
    assert outcome.select_fitness > 0.9


def test_the_dispatcher_covers_the_initial_program_too():
    wider = dataclasses.replace(QUICK.searcher.space, memory=(5, 9, 2)).with_sizes((1, 1, 1), (1, 1, 1), (10, 5, 11))
    outcome = run(QUICK.replace(initial="network", space=wider, train_steps=5000, trials=1))
    assert outcome.search_fitness > 0


def test_random_search_and_the_median_are_options():
    outcome = run(QUICK.replace(method="random", combine="median", trials=1))
    assert outcome.search_fitness > 0
    assert outcome.progress.evaluations % 30 == 0


def test_baselines_are_reported_on_the_same_tasks():
    outcome = run(QUICK.replace(baselines=("linear",), trials=1, train_steps=3000))
    (baseline,) = outcome.baselines
    program = load_program("linear")
    assert baseline.learning_rate in (0.1, 0.3)  # 30 examples want a high one
    assert baseline.select_fitness > float(np.mean(evaluate(program, build.tasks(QUICK, "select")).fitness))


def test_an_experiment_interrupted_while_it_is_judged_keeps_its_best(monkeypatch):
    real = build.fitness

    def fitness(config, programs, tasks, role):
        if role == "select":
            raise KeyboardInterrupt
        return real(config, programs, tasks, role)

    monkeypatch.setattr(build, "fitness", fitness)
    outcome = run(QUICK)
    assert outcome.interrupted
    assert outcome.select_fitness is None
    assert outcome.search_fitness > 0
    assert "def Predict" in outcome.program.listing(0)


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_run_keeps_what_it_found(tmp_path, after):
    calls = []

    def interrupt(progress):
        calls.append(progress)
        if len(calls) == after:
            raise KeyboardInterrupt

    outcome = run(QUICK.replace(parallel_trials=1, out=str(tmp_path)), interrupt)  # a report each cohort
    assert outcome.interrupted
    assert outcome.unseen_fitness is None
    stored = json.loads((outcome.folder / "outcome.json").read_text())
    assert stored["interrupted"] is True
    if after > 1:
        assert isinstance(outcome.program, Programs)
        assert (outcome.folder / "best.txt").exists()


@pytest.mark.parametrize(
    "change", [{"cohort": 61}, {"train_steps": 0}, {"trials": -1}, {"baselines": ("cifar10",)}, {"combine": "max"}]
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(ValueError):
        run(QUICK.replace(out=str(tmp_path), **change))
    assert not list(tmp_path.iterdir())


def test_groups_of_islands_end_as_one_and_give_the_same_again(tmp_path):
    parted = QUICK.replace(islands=4, groups=2, parallel_trials=1, out=str(tmp_path))
    first, second = (run(parted) for _ in range(2))
    assert without_clock(records(first.folder)) == without_clock(records(second.folder))
    assert first.progress.train_steps >= 80_000
    assert first.program.listing() == second.program.listing()
    with pytest.raises(ValueError, match="4 islands cannot be divided into 3 groups"):
        parted.replace(groups=3)


@pytest.mark.slow
def test_a_long_search_is_forecast():
    small = PRESETS["paper"][1].replace(
        search_tasks=TaskSet("synthetic_images", tasks=3, features=8, train=64, valid=32),
        islands=2,
    )
    expected = forecast(small)
    assert (expected.programs, expected.examples, expected.executor) == (200, 200 * 3 * 64, "simd")
    assert 0 < expected.seconds < 60
    assert expected.bytes > sum(
        part.nbytes for part in (random_programs(small.searcher.space, 200, np.random.default_rng(0)).code,)
    )
    assert not is_long(small)
    assert is_long(PRESETS["paper"][1])


def test_a_forecast_counts_the_examples_of_ones_own_tasks(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 20, 3))
    np.savez(tmp_path / "my.npz", train_x=x, train_y=x.sum(-1), valid_x=x[:, :10], valid_y=x[:, :10].sum(-1), epochs=2)
    expected = forecast(PRESETS["paper"][1].replace(search_tasks=TaskSet(str(tmp_path / "my.npz"))))
    assert expected.examples == expected.programs * 2 * 20 * 2


def test_presets_are_the_specifications():
    linear = PRESETS["demo"][1]
    assert (linear.searcher.population, linear.searcher.tournament, linear.evaluation.probe) == (1000, 10, 10)
    assert linear.searcher.space.ops == ((2, 3, 18, 23, 27, 56),) * 3
    assert linear.searcher.space.max_size == (10, 2, 8)
    assert tuple(linear.searcher.space.memory) == (4, 3, 1)
    assert (linear.searcher.mutations.types, linear.searcher.mutations.probability) == (
        ("alter_param", "randomize_instruction", "randomize_component"),
        0.9,
    )
    paper = PRESETS["paper"][1]
    assert (paper.searcher.islands, paper.searcher.population, paper.searcher.tournament, paper.schedule.groups) == (
        1000,
        100,
        10,
        2,
    )
    assert (paper.tasks.search.features, paper.tasks.search.train, paper.tasks.search.tasks) == (16, 8000, 10)
    assert set(PRESETS) == {"linear", "affine", "teacher", "digits", "fashion_mnist", "demo", "empty", "paper"}
    for _, preset in PRESETS.values():
        build.searcher(preset)


@pytest.mark.parametrize(
    "method", ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("evolution", "efficient"))]
)
def test_a_search_with_nothing_new_left_ends_and_says_so(method, monkeypatch):
    monkeypatch.setattr("zero_jax.run.trial.EXHAUSTED", 5000)
    narrow = SearchSpace(
        (3, 2, 1),
        Component(("VECTOR_INNER_PRODUCT",), (1, 1, 1)),
        Component(("VECTOR_INNER_PRODUCT",), (1, 1, 1)),
        Component(("SCALAR_DIFF", "SCALAR_VECTOR_PRODUCT"), (1, 2, 2)),
    )
    narrow = QUICK.replace(space=narrow, population=10, cohort=10, train_steps=10**12).replace(method=method)
    seen = []
    progress = run(narrow, seen.append).progress
    assert (progress.trial, progress.exhausted) == (2, 2)  # as many as were asked for
    assert 0 < progress.trained < 1000 < progress.train_steps < 10**6
    assert seen[-1] == progress


def test_a_run_that_can_train_nothing_ends_with_its_first_experiment(monkeypatch):
    monkeypatch.setattr("zero_jax.run.trial.EXHAUSTED", 5000)
    progress = run(QUICK.replace(train_budget=1e-9, trials=0, parallel_trials=1)).progress
    assert (progress.trial, progress.exhausted, progress.train_steps) == (1, 1, 0)
    assert progress.over_budget >= 5000
