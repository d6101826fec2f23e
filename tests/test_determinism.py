"""The same search on other devices, threads and chunks is the same search, bit for bit, whichever executor runs it.

Executors differ from each other in last bits; what is compared here is one executor with itself.
"""

import dataclasses

import jax
import numpy as np
import pytest

from tests.helpers import ONE
from tests.spaces import DEMO
from zero_jax import Evaluator, Mutations, RegularizedEvolution, Scores, evaluate
from zero_jax.evaluation import KnownForms, Probe
from zero_jax.program.programs import Programs
from zero_jax.run.api import run
from zero_jax.search import migrate
from zero_jax.support import files
from zero_jax.support.codec import decode
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, features=4, train=20, valid=10)

SEARCH = RegularizedEvolution(DEMO, 2, 200, 5, 140, Mutations(probability=0.9))
"""More programs a cohort than an XLA block holds, and no multiple of one."""


def assert_same(got, want):
    """Populations, their fitness and the best, to the bit."""
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a.programs.code, b.programs.code)
        np.testing.assert_array_equal(a.programs.data.view(np.int32), b.programs.data.view(np.int32))
        np.testing.assert_array_equal(a.programs.length, b.programs.length)
        np.testing.assert_array_equal(a.fitness.view(np.int64), b.fitness.view(np.int64))
        np.testing.assert_array_equal(a.best.program.code, b.best.program.code)
        assert (a.best_fitness, a.evaluations, a.rng) == (b.best_fitness, b.evaluations, b.rng)


def assert_worth_comparing(states):
    """A search in which a difference would have shown: many fitnesses, and lines that went up."""
    for state in states:
        assert len(np.unique(state.fitness)) > 15
        assert sum(last.before is not None for last in state.lines.ancestors) > 5


def evolved(search=SEARCH, cohorts=4, tasks=TASKS, **how):
    """A search by `evaluate`."""
    state = search.init(1)
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        result = evaluate(candidates.programs, tasks, 3, ops=DEMO.ops, **how)
        state = search.tell(state, candidates, Scores.of(result.fitness))
    return [state]


def evolved_with_savers(search=SEARCH, cohorts=4, tasks=TASKS, **how):
    """A search by `Evaluator`, which trains other batches: those that are new; with migration."""
    evaluator, state = Evaluator(tasks, 3, ops=DEMO.ops, **how), search.init(1)
    for n in range(cohorts):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
        (state,) = migrate([state], np.random.default_rng(n), 20)
    return [state]


@pytest.mark.slow
def test_xla_on_one_device_and_on_eight_in_chunks_of_any_size_on_one_thread_or_two():
    assert len(jax.devices()) == 8
    how = {"executor": "xla"}
    want = evolved(**how, threads=1)
    assert_worth_comparing(want)
    for more in (
        {"threads": 2},
        {"chunk_size": 1, "threads": 2},
        {"chunk_size": 300, "threads": 2},
        {"chunk_size": 10_000, "threads": 1},
        {"devices": jax.devices()[:1]},
        {"devices": jax.devices(), "chunk_size": 7},
    ):
        assert_same(evolved(**how, **more), want)


@pytest.mark.slow
def test_xla_where_only_new_programs_are_trained():
    how = {"executor": "xla"}
    want = evolved_with_savers(**how, threads=1)
    assert_worth_comparing(want)
    for more in ({"threads": 2}, {"stages": ()}, {"stages": (KnownForms(64),), "devices": jax.devices()}):
        assert_same(evolved_with_savers(**how, **more), want)


@pytest.mark.parametrize("probe", [0, 10])
def test_simd_on_one_thread_or_several_in_batches_of_any_size(probe):
    stages = (KnownForms(), Probe(probe)) if probe else (KnownForms(),)
    want = evolved(executor="simd", threads=1)
    assert_worth_comparing(want)
    for more in ({"threads": 2}, {"threads": 5}, {"chunk_size": 1}, {"chunk_size": 64, "threads": 2}):
        assert_same(evolved(executor="simd", **more), want)
    want = evolved_with_savers(executor="simd", threads=1, stages=stages)
    assert_worth_comparing(want)
    for more in ({"threads": 2}, {"background": True}, {"threads": 5, "background": True}):
        assert_same(evolved_with_savers(executor="simd", stages=stages, **more), want)
    if not probe:
        assert_same(evolved_with_savers(executor="simd", stages=()), want)


@pytest.mark.slow
def test_pallas_on_one_device_and_on_several_in_chunks_of_any_size():
    how = {"executor": "pallas", "interpret": True, "tasks": TASKS.shortened(6, 3), "cohorts": 4}
    how["search"] = dataclasses.replace(SEARCH, population=48, cohort=24)
    want = evolved(**how)
    assert_worth_comparing(want)
    for more in (
        {"chunk_size": 7},
        {"chunk_size": 32},
        {"chunk_size": 1000},
        {"devices": jax.devices(), "threads": 2},
    ):
        assert_same(evolved(**how, **more), want)
    saved = evolved_with_savers(**how)
    assert_same(evolved_with_savers(**how, devices=jax.devices()), saved)


# ---------------------------------------------------------------------------------------------- whole runs


def left_behind(folder):
    """All that a run's last checkpoint holds, but for the clock; its records, hall of fame and lineage."""
    (path,) = sorted(folder.glob("checkpoint-*.npz"))[-1:]
    tree = files.unpacked(path.read_bytes())["run"]
    tree.pop("seconds")
    tree["progress"].pop("seconds")
    return tree, [(folder / name).read_bytes() for name in ("hall.json", "lineage.json", "best.json")]


@pytest.mark.parametrize(
    ("executor", "more"),
    [
        ("simd", {}),
        ("simd", {"groups": 2, "task_variants": ("features=4", "train=20"), "candidates": 3, "probe": 5}),
        ("simd", {"trials": 3, "parallel_trials": 2}),
        pytest.param("xla", {"train_steps": 20_000, "groups": 2}, marks=pytest.mark.slow),
    ],
)
def test_a_run_on_one_thread_or_two_leaves_the_same_behind(tmp_path, executor, more):
    experiment = ONE.replace(executor=executor, islands=4, migrate_every=50, **more)
    folders = [run(experiment.replace(threads=threads, out=str(tmp_path / str(threads)))).folder for threads in (1, 2)]
    one, two = map(left_behind, folders)
    np.testing.assert_equal(two, one)
    trial = one[0]["trials"][0]
    checkpoint = trial["workers"][0]["checkpoint"]
    assert decode(Programs, checkpoint["states"][0]["individuals"]["programs"]).code.any()
    assert checkpoint["migrations"] > 0
