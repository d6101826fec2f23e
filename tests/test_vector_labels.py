"""Tasks of several classes: labels and predictions are vectors."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import oracle
from tests.spaces import ALL_OPS
from zero_jax import Component, Evaluator, Programs, SearchSpace, Tasks, evaluate, library, random_programs
from zero_jax.evaluation import KnownForms, Probe
from zero_jax.executors import dispatch, stream
from zero_jax.executors.fitness import Classes
from zero_jax.executors.registry import EXECUTORS
from zero_jax.program.canonical import canonical, live, pruned
from zero_jax.program.liveness import liveness
from zero_jax.program.memory import Interface, MemorySize
from zero_jax.search.operators.validity import can_learn

FEW_OPS = SearchSpace(
    (3, 4, 2),
    Component((2, 3, 18, 23, 24, 25, 28, 31, 39, 56, 60, 63), (2, 3, 4)),
    Component((2, 3, 18, 23, 24, 25, 28, 31, 39, 56, 60, 63), (2, 4, 6)),
    Component((2, 3, 18, 23, 24, 25, 28, 31, 39, 56, 60, 63), (2, 6, 8)),
)
VECTOR = Interface.vector(FEW_OPS.memory)


def blobs(tasks=2, features=6, classes=4, train=60, valid=40, epochs=1, seed=0, spread=1.0):
    """Clusters, one a class."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(tasks, classes, features))
    y = rng.integers(classes, size=(tasks, train + valid))
    x = centres[np.arange(tasks)[:, None], y] + spread * rng.normal(size=(tasks, train + valid, features))
    return Tasks(x[:, :train], y[:, :train], x[:, train:], y[:, train:], "accuracy", epochs, classes=classes)


def by_oracle(programs, tasks, seed):
    fitness, steps = np.zeros((2, len(programs), len(tasks)))
    for p in range(len(programs)):
        lists = as_lists(programs[p])
        for t in range(len(tasks)):
            data = (tasks.train_x[t], tasks.train_y[t], tasks.valid_x[t], tasks.valid_y[t], tasks.order)
            fitness[p, t], steps[p, t] = oracle.evaluate_classes(
                lists, tuple(programs.memory), *data, tasks.classes, seed, int(tasks.ids[t])
            )
    return fitness, steps


def as_lists(program):
    """Components of [op, in1, in2, out, activation_data, float_data_0..2]."""
    components, starts = [], program.starts
    for c in range(3):
        rows = []
        for k in range(starts[c], starts[c] + int(program.length[0, c])):
            op, *places = program.code[0, k].tolist()
            data = program.data[0, k].tolist()
            rows.append([op, *places, *([data[0], 0, 0, 0] if op == 56 else [0, *data])])
        components.append(rows)
    return components


@pytest.mark.parametrize("executor", ["xla", "simd", "cuda", pytest.param("pallas", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["softmax_linear", "softmax_network"])
def test_the_programs_of_the_library_learn(name, executor):
    tasks = blobs()
    program = library.program(name, learning_rate=0.1)
    results = evaluate(program, tasks, executor=executor, interpret=EXECUTORS[executor].interprets)
    want, steps = by_oracle(program, tasks, 0)
    np.testing.assert_allclose(results.fitness, want, atol=1e-6)
    np.testing.assert_array_equal(results.train_steps, steps)
    assert want.min() > 0.7


@pytest.mark.parametrize(("features", "epochs"), [(4, 1), (6, 2)])
def test_random_programs_agree_with_the_oracle(features, epochs):
    programs = random_programs(ALL_OPS, 60, np.random.default_rng(features))
    tasks = blobs(3, features, train=12, valid=10, epochs=epochs)
    results = evaluate(programs, tasks, 7, executor="simd")  # which agrees with the others, below
    want, steps = by_oracle(programs, tasks, 7)
    assert (np.abs(results.fitness - want) < 1e-3).mean() > 0.99
    assert (np.asarray(results.train_steps) == steps).mean() > 0.99
    assert len(np.unique(want)) > 5
    assert (steps < epochs * 12).any()


@pytest.mark.slow
def test_executors_agree_on_many_random_programs():
    programs = random_programs(FEW_OPS, 1000, np.random.default_rng(1))
    tasks = blobs(5, 8, 5, train=30, valid=20, epochs=2)
    xla, simd = (evaluate(programs, tasks, 3, executor=executor) for executor in ("xla", "simd"))
    assert (np.abs(xla.fitness - simd.fitness) < 1e-4).mean() > 0.995
    assert (np.asarray(xla.train_steps) == simd.train_steps).mean() > 0.995


@pytest.mark.slow
@pytest.mark.parametrize("tpu", [False, True])
def test_the_kernels_interpreted_agree_with_simd(tpu, monkeypatch):
    programs = random_programs(FEW_OPS, 30, np.random.default_rng(2))
    tasks = blobs(3, 5, 3, train=8, valid=8, epochs=2)
    want = evaluate(programs, tasks, 3, executor="simd")
    if tpu:
        from zero_jax.executors import blocks
        from zero_jax.executors.pallas import tpu as pallas_tpu

        ready = blocks.prepared(programs, dispatch.op_sets(FEW_OPS.ops, FEW_OPS.memory), True, VECTOR)
        sets = dispatch.op_sets(FEW_OPS.ops, FEW_OPS.memory)
        limit = np.float32(100)
        on = jax.tree.map(jax.numpy.asarray, tasks)
        results = jax.jit(
            lambda p, t: pallas_tpu.evaluate_programs(
                p, t, stream.seed_bits(3), jax.numpy.asarray(limit), sets, interpret=True
            )
        )(ready, on)
    else:
        results = evaluate(programs, tasks, 3, executor="pallas", ops=FEW_OPS.ops, interpret=True)
    assert len(np.unique(np.asarray(want.fitness))) > 5
    assert (np.abs(np.asarray(results[0]) - want.fitness) < 1e-4).mean() > 0.98
    assert (np.asarray(results[1]) == want.train_steps).mean() > 0.98


@pytest.mark.slow
def test_both_analyses_find_the_same_dead_code_and_pruning_changes_nothing():
    programs = random_programs(FEW_OPS, 300, np.random.default_rng(0))
    alive = live(programs, interface=VECTOR)
    np.testing.assert_array_equal(alive, liveness(programs, interface=VECTOR))
    assert (alive != live(programs)).any()
    tasks = blobs(2, 5, 4, train=10, valid=10, epochs=2)
    sets = {"executor": "xla", "ops": FEW_OPS.ops}
    whole = evaluate(programs, tasks, **sets)
    for same in (pruned(programs, interface=VECTOR), canonical(programs, interface=VECTOR).programs):
        again = evaluate(same.check(), tasks, **sets)
        np.testing.assert_array_equal(whole.fitness, again.fitness)
        np.testing.assert_array_equal(whole.train_steps, again.train_steps)


def test_more_than_64_addresses():
    wide = dataclasses.replace(FEW_OPS, memory=(30, 30, 6))
    programs = random_programs(wide, 300, np.random.default_rng(0))
    vector = Interface.vector(wide.memory)
    np.testing.assert_array_equal(live(programs, vector), liveness(programs, vector))


def test_the_last_of_equal_maxima_is_predicted_and_a_nan_is_none():
    classes = Classes(3, -1)
    nan, inf = np.nan, np.inf
    logits = np.array(
        [[1, 1, 0, 9], [0, 2, 2, 9], [nan, 1, 0, 9], [nan, nan, nan, 9], [-inf, nan, nan, 0], [5, inf, inf, 0]]
    )
    assert classes.predicted(jax.numpy.asarray(logits, "float32")).tolist() == [1, 2, 1, 0, 0, 2]
    ties = Programs.parse("def Setup():\ndef Predict():\ndef Learn():\n  v3 = v0 + v0", (2, 4, 0))  # v2 stays 0
    tasks = blobs(1, 4, 4)
    for executor in ("xla", "simd"):
        fitness = evaluate(ties, tasks, executor=executor).fitness.item()
        assert fitness == pytest.approx((tasks.valid_y[0] == 3).mean())


def test_only_a_nan_stops_a_run():
    text = "def Setup():\n  s2 = 1000.0\ndef Predict():\n  v2 = bcast(s2)\ndef Learn():\n  s2 = s2 / s3"  # then inf
    tasks = blobs(1, 4, 3, train=9)
    for executor in ("xla", "simd"):
        results = evaluate(Programs.parse(text, (4, 3, 0)), tasks, executor=executor)
        assert (results.train_steps.item(), results.fitness.item()) == (2, 0)


def test_programs_are_known_by_what_they_do_on_such_tasks():
    evaluator = Evaluator(blobs(), executor="simd", stages=(KnownForms(), Probe(5)))
    one = library.program("softmax_linear")
    text = one.listing(0).replace("v4", "v5").replace("def Learn():", "def Learn():\n  s1 = s1 + s0")
    other = Programs.parse(text, (3, 6, 2))
    first = evaluator(one)
    again = evaluator(other)
    np.testing.assert_array_equal(first.fitness, again.fitness)
    assert evaluator.counts.evaluated == 1
    assert can_learn(one, Interface.vector(one.memory))[0]
    assert not can_learn(one)[0]


def test_bad_input():
    x, y = np.zeros((1, 4, 3)), np.array([[0, 1, 2, 3]])
    with pytest.raises(ValueError, match="4 classes need at least as many features"):
        Tasks(x, y, x, y, "accuracy", classes=4)
    with pytest.raises(ValueError, match=r"train_y\[0, 3\] is 3.0: labels must be whole numbers from 0 to 2"):
        Tasks(x, y, x, y, "accuracy", classes=3)
    with pytest.raises(ValueError, match="classes are for the accuracy loss"):
        Tasks(x, y, x, y, "rmse", classes=3)
    with pytest.raises(ValueError, match="classes must be at least 2, not 1"):
        Tasks(x, y, x, y, "accuracy", classes=1)
    with pytest.raises(ValueError, match="need 3 vectors"):
        evaluate(Programs.parse("def Predict(): s1 = dot(v0, v0)", (2, 2, 0)), blobs())


def test_an_interface_belongs_to_its_memory():
    memory = MemorySize(3, 4, 2)
    assert Interface.of(memory, blobs()) == Interface.vector(memory) == (4, 3, 5)
    assert Interface.of(memory, blobs(classes=2)) == Interface.scalar(memory) == (0, 3, 1)
    assert Interface.vector(memory).is_vector
    assert not Interface.scalar(memory).is_vector
    programs = library.program("linear")
    for analysis in (canonical, live, liveness, can_learn):
        with pytest.raises(ValueError, match=r"does not belong to a memory of \(4, 3, 0\)"):
            analysis(programs, interface=Interface.vector(memory))
    with pytest.raises(ValueError, match="more than two classes need 3 vectors"):
        Interface.vector(MemorySize(2, 2, 0))
