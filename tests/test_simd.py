"""The SIMD executor: as the XLA executor, in any grouping, on any number of threads, inside jit, and stoppable."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.spaces import ALL_OPS, DEMO
from zero_jax import Component, Programs, SearchSpace, Tasks, evaluate, execute, library, random_programs
from zero_jax.executors.simd import arrays, machine, translate, vector
from zero_jax.executors.simd import lanes as simd
from zero_jax.executors.simd.layout import Layout
from zero_jax.program.canonical import canonical, table
from zero_jax.program.memory import Interface
from zero_jax.support.compiled import entry_point
from zero_jax.tasks import synthetic

EVERY = tuple(range(1, 65))
RANDOM = SearchSpace((5, 5, 3), Component(EVERY, (6, 6, 6)), Component(EVERY, (5, 5, 5)), Component(EVERY, (6, 6, 6)))


@pytest.mark.slow
@pytest.mark.parametrize(("features", "loss"), [(8, "rmse"), (20, "accuracy")])  # the loops for one F, and for any
def test_random_programs_with_every_op_agree_with_xla(features, loss):
    programs = random_programs(RANDOM, 500, np.random.default_rng(features))
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(5, 50, features)), rng.normal(size=(5, features))
    y = np.einsum("tnf,tf->tn", x, w)
    y = y if loss == "rmse" else y > 0
    tasks = Tasks(x[:, :30], y[:, :30], x[:, 30:], y[:, 30:], loss=loss, epochs=3)
    want, got = (evaluate(programs, tasks, 3, executor=executor) for executor in ("xla", "simd"))
    assert (np.abs(np.asarray(want.fitness) - np.asarray(got.fitness)) <= 1e-4).mean() >= 0.995
    assert (np.asarray(want.train_steps) == np.asarray(got.train_steps)).mean() >= 0.995
    assert len(np.unique(np.asarray(want.fitness).round(4))) > (150 if loss == "rmse" else 10)


@pytest.mark.parametrize("features", [pytest.param(3, marks=pytest.mark.slow), 4])  # loops for any F, and for one
def test_draws_from_the_unit_interval_are_equal_to_the_bit_and_the_others_nearly(features):
    """Whether XLA rounds `low + (high - low) * u` once or twice depends on its version and on the CPU."""
    rng = np.random.default_rng(0)
    for op in range(59, 65):
        bounds = np.vstack([[0, 1], rng.uniform(-1, 1, (29, 2))])
        lists = [[[[op, 0, 0, 1, 0, low, high]], [], []] for low, high in bounds]
        programs = Programs.from_lists(lists, memory=(2, 2, 2))
        shapes = ((2,), (2, features), (2, features, features))
        memory = tuple(np.zeros((30, 20, *shape)) for shape in shapes)
        want, got = (
            np.asarray(execute(programs, memory, "setup", executor, seed=7)[(op - 59) % 3])
            for executor in ("xla", "simd")
        )
        if op < 62:
            np.testing.assert_array_equal(got[0], want[0])
            np.testing.assert_allclose(got, want, atol=1.2e-7, rtol=0)  # two roundings of numbers below 1
        else:
            np.testing.assert_allclose(got, want, atol=1e-6, rtol=1e-6)
        assert len(np.unique(got)) > 20


def test_draws_in_training_are_those_of_xla():
    text = "def Setup():\n v1 = uniform(-1, 1)\ndef Predict():\n s2 = uniform(0, 1)\n s1 = dot(v1, v0)\n s1 = s1 + s2\ndef Learn():\n v1 = uniform(-1, 1)"
    program = Programs.parse(text, (3, 2, 0))
    tasks = synthetic.linear(18, features=4, train=9, valid=5, epochs=3)
    want, got = (np.asarray(evaluate(program, tasks, 11, executor=e).fitness) for e in ("xla", "simd"))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_task_has_the_same_fitness_in_any_lane_and_group():
    programs = random_programs(ALL_OPS, 100, np.random.default_rng(0))
    tasks = synthetic.linear(35, features=5, train=10, valid=5)
    whole = evaluate(programs, tasks, 2, executor="simd")
    for some in ([0], [34, 3], list(range(17, 33)), list(range(1, 35))):
        part = evaluate(programs, tasks[some], 2, executor="simd")
        np.testing.assert_array_equal(part.fitness, np.asarray(whole.fitness)[:, some])
        np.testing.assert_array_equal(part.train_steps, np.asarray(whole.train_steps)[:, some])


def test_threads_and_batches_do_not_matter():
    programs = random_programs(DEMO, 300, np.random.default_rng(0))
    tasks = synthetic.linear(20, features=4, train=20, valid=10)
    want = np.asarray(evaluate(programs, tasks, executor="simd", threads=1).fitness)
    np.testing.assert_array_equal(evaluate(programs, tasks, executor="simd", threads=3).fitness, want)
    np.testing.assert_array_equal(evaluate(programs[7], tasks, executor="simd").fitness, want[7:8])


# ---------------------------------------------------------------------------------------------- superinstructions


@entry_point
def translated(code, data, length, starts, table, ends, places, fuse, scratch, rows, constants, shape):
    translate.translate(code, data, length, starts, table, ends, places, fuse, scratch, rows, constants, shape)


def rows(program, features=4):
    form = canonical(program).programs
    work, made, constants, shape = simd._scratch(form)
    places = translate.places(form.memory, Layout(features, 0))
    ends = np.array(Interface.scalar(form.memory))
    arrays = (form.code[0], form.data[0], form.length[0], np.array(form.starts), table(form.memory), ends)
    translated(*arrays, places, True, work, made, constants, shape)
    ops = made[:, machine.OP].tolist()
    return ops[: ops.index(machine.JUDGE) + 1 + (shape[5] > 0)]


def test_the_network_becomes_nine_rows_and_setup():
    m = machine
    predict = [m.MATVEC_SUM, 48, m.DOT_SUM]
    learn = [m.SCALAR_DIFF_PRODUCT, 1, m.SCALED_SUM, m.GATED_SCALE, 23, m.RANK_ONE]
    assert rows(library.program("network"))[3:] == [
        m.NEXT, *predict, m.CHECK, *learn[:-1], m.NEXT, *predict, m.JUDGE, learn[-1]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "learn",
    [
        "s3 = s0 * s1\n s2 = s3 + s2\n s4 = s3",  # another instruction reads the product
        "s3 = s0 * s1\n s0 = s1 + s1\n s2 = s3 + s2",  # an operand is still needed as it was
    ],
)
def test_what_somebody_else_needs_is_not_fused_away(learn):
    learn = learn.replace("s4 = s3", "s2 = s3 - s2")
    text = f"def Setup():\ndef Predict():\n s1 = s2 * s1\ndef Learn():\n {learn}"
    program = Programs.parse(text, (5, 1, 0))
    tasks = synthetic.linear(3, features=2, train=600, valid=5)
    lanes, form = arrays.lay_out(tasks), canonical(program).programs
    want, got = (simd.evaluate(form, lanes, 0, fuse=fuse).fitness for fuse in (False, True))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("features", [3, 4, 9])
def test_superinstructions_change_rounding_at_most(features):
    hot = (1, 2, 3, 16, 18, 23, 25, 27, 28, 31, 39, 48)
    space = SearchSpace(
        (5, 5, 2),
        Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET", "MATRIX_CONST_SET"), (4, 4, 4)),
        Component(hot, (6, 6, 6)),
        Component(hot, (8, 8, 8)),
    )
    programs = random_programs(space, 1500, np.random.default_rng(features))
    lanes = arrays.lay_out(synthetic.linear(4, features=features, train=20, valid=10))
    form = canonical(programs).programs
    want, got = (simd.evaluate(form, lanes, 0, fuse=fuse).fitness for fuse in (False, True))
    assert (np.abs(want - got) <= 1e-4).mean() > 0.995
    assert len(np.unique(want.round(4))) > 100


# ---------------------------------------------------------------------------------------------- errors of examples


def test_errors_are_those_of_each_example_and_0_after_a_stop():
    program = Programs.parse("def Setup():\ndef Predict():\n s1 = s2 * s2\ndef Learn():\n s2 = s0 + s2", (3, 1, 0))
    x = np.zeros((2, 4, 1))
    y = np.array([[1.0, 2.0, 3.0, 1000.0], [1.0, 10.0, 10.0, 1.0]])
    tasks = Tasks(x, y, x[:, :2], y[:, :2])
    result = simd.evaluate(canonical(program).programs, arrays.lay_out(tasks), 0, want="errors")
    sums = np.cumsum(y, 1)
    want = np.array([y[0, 0], *(y[0, 1:] - sums[0, :-1] ** 2)])
    np.testing.assert_allclose(result.errors[0, 0], [*want, 0, 0], rtol=1e-6)  # the fourth error is above 100
    np.testing.assert_allclose(result.errors[0, 1], [1, 10 - 1, 10 - 121, 0, 0, 0], rtol=1e-6)
    assert result.train_steps.tolist() == [[4, 3]]


def test_fingerprints_are_equal_for_equal_errors_alone():
    text = "def Setup():\n s2 = {}\ndef Predict():\n s1 = s2 * s2\ndef Learn():"
    programs = Programs.from_lists(
        [Programs.parse(text.format(c), (3, 1, 0)).to_lists()[0] for c in (0.5, -0.5, 0.25)], (3, 1, 0)
    )
    lanes = arrays.lay_out(synthetic.linear(20, train=10, valid=10))
    prints = simd.evaluate(canonical(programs).programs, lanes, 0, want="fingerprints").fingerprints
    np.testing.assert_array_equal(prints[0], prints[1])
    assert (prints[0] != prints[2]).all()


# ---------------------------------------------------------------------------------------------- as any executor


def test_inside_jit_and_vmap():
    programs = random_programs(DEMO, 20, np.random.default_rng(0))
    tasks = synthetic.linear(3, features=4, train=10, valid=5)
    want = np.asarray(evaluate(programs, tasks, 1, executor="simd").fitness)
    inside = jax.jit(lambda p, t, s: evaluate(p, t, s, executor="simd").fitness)(programs, tasks, np.uint32(1))
    np.testing.assert_array_equal(inside, want)
    seeds = np.arange(3, dtype=np.uint32)
    mapped = jax.vmap(lambda s: evaluate(programs, tasks, s, executor="simd").fitness)(seeds)
    np.testing.assert_array_equal(mapped[1], want)
    in_scan = jax.lax.map(
        lambda p: evaluate(p, tasks, 1, executor="simd").fitness, jax.tree.map(lambda x: x[:, None], programs)
    )
    np.testing.assert_array_equal(in_scan[:, 0], want)


def test_operations_have_names_of_their_own():
    """Of one name, `map2` of either had one symbol, and where code kept on disk by two processes came together the
    maximum of matrices stood for their difference (in CI, by chance).
    """
    operations = [value for value in vars(vector).values() if type(value) is type(vector.add)]
    names = {repr(operation) for operation in operations}  # what Numba calls their types
    assert len(names) == len(operations) > 30


def test_what_it_cannot_do_is_refused():
    program, tasks = library.program("network"), synthetic.linear(2, features=64, train=5, valid=5)
    with pytest.raises(ValueError, match="no gradients"):
        evaluate(program, tasks, executor="simd", differentiable=True)
    with pytest.raises(ValueError, match=r"together more than max_bytes=500,000 .raise it"):
        evaluate(program, tasks, executor="simd", max_bytes=500_000)
    wrong = program.with_arrays(np.full_like(program.code, 60), program.data, program.length)
    with pytest.raises(ValueError, match="outside the memory"):
        evaluate(wrong, tasks, executor="simd")


def run_python(code, **more):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False, **more
    )


@pytest.mark.slow
def test_without_numba_auto_takes_xla_with_one_warning_and_loops_give_the_same():
    code = """
import sys
sys.modules["numba"] = None
import warnings, numpy as np
from zero_jax import Component, Mutations, SearchSpace, evaluate, mutate, random_programs
from zero_jax.program.canonical import canonical
from zero_jax.tasks import synthetic
parts = Component((56, 57), (1, 3, 5)), Component((27,), (1, 1, 2)), Component((2, 3, 18, 23), (1, 4, 6))
space = SearchSpace((4, 3, 1), *parts)
programs = mutate(random_programs(space, 50, np.random.default_rng(0)), space, Mutations(), np.random.default_rng(1))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(2):
        evaluate(programs, synthetic.linear(2, train=5, valid=5))
assert ["slower xla executor: Numba is not installed" in str(w.message) for w in seen] == [True], seen
print(canonical(programs).hashes.tolist())
"""
    plain = run_python(code)
    assert plain.returncode == 0, plain.stderr
    with_numba = code.replace('sys.modules["numba"] = None', "").replace("assert [", "[")
    assert run_python(with_numba).stdout == plain.stdout


@pytest.mark.slow
def test_ctrl_c_ends_a_call_long_before_its_end():
    code = """
import numpy as np
from zero_jax import evaluate, library
from zero_jax.tasks import synthetic
tasks = synthetic.linear(16, features=8, train=1000, valid=10)
program = library.program("network")
evaluate(program, tasks, executor="simd")
print("ready", flush=True)
evaluate(program[np.zeros(10**6, int)], tasks, executor="simd")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(3)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert (
        time.monotonic() - began < 15
    )  # of a minute; a second, and the time that Python takes to end on a busy machine
