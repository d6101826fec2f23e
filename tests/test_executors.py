"""The contract that all executors keep: what they refuse, what they return, and that a new one is one class."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from tests.spaces import SMALL
from zero_jax import Evaluator, evaluate, library, random_programs
from zero_jax.evaluation import KnownForms, Probe
from zero_jax.executors import registry
from zero_jax.executors.base import Executor, Options, Request
from zero_jax.executors.registry import EXECUTORS, REFERENCE, choose, may_use_gpu
from zero_jax.executors.simd.executor import Simd
from zero_jax.tasks import synthetic
from zero_jax.use import bench

TASKS = synthetic.linear(3, features=4, train=8, valid=4)
PROGRAMS = random_programs(SMALL, 12, np.random.default_rng(0))


def options(executor, **more):
    return Options(interpret=executor.interprets, ops=SMALL.ops, **more)


@pytest.mark.parametrize("name", EXECUTORS)
def test_launch_trains_the_rows_asked_for_as_evaluate_does(name):
    executor = EXECUTORS[name]
    how = options(executor)
    prepared = executor.prepare(TASKS, how)
    whole = evaluate(PROGRAMS, TASKS, 5, executor=name, interpret=how.interpret, ops=SMALL.ops)
    rows = np.array([7, 2, 2])
    fitness, steps = executor.launch(PROGRAMS, prepared, 5, rows=rows)()
    assert (fitness.dtype, steps.dtype, fitness.shape) == (np.float32, np.int32, (3, 3))
    np.testing.assert_allclose(
        fitness, np.asarray(whole.fitness)[rows], atol=1e-6
    )  # interpreted kernels round otherwise
    np.testing.assert_array_equal(steps, np.asarray(whole.train_steps)[rows])


@pytest.mark.parametrize("name", EXECUTORS)
def test_fingerprints_are_two_words_a_program_or_refused(name):
    executor = EXECUTORS[name]
    prepared = executor.prepare(TASKS, options(executor))
    if not executor.fingerprints:
        with pytest.raises(ValueError, match=f"the {name} executor makes no fingerprints"):
            executor.launch(PROGRAMS, prepared, 0, fingerprints=True)
        return
    (prints,) = executor.launch(PROGRAMS, prepared, 0, rows=np.array([0, 1, 0]), fingerprints=True)()
    assert (prints.dtype, prints.shape) == (np.uint64, (3, 2))
    np.testing.assert_array_equal(prints[0], prints[2])
    assert (prints[0] != prints[1]).any()


@pytest.mark.parametrize("name", EXECUTORS)
def test_memory_grows_with_programs_and_the_bound_is_kept_or_named(name):
    executor = EXECUTORS[name]
    request = Request(SMALL.memory, TASKS, options(executor, threads=4))
    one = executor.bytes(request)
    assert 0 < one <= executor.bytes_in_use(request, 1) <= executor.bytes_in_use(request, 10**6) <= 2**30
    executor.check_fits(request)
    tight = dataclasses.replace(request, options=options(executor, max_bytes=one - 1))
    with pytest.raises(ValueError, match=f"max_bytes={one - 1:,}"):
        executor.check_fits(tight)


def test_auto_takes_the_first_preferred_executor_that_does_not_refuse():
    def chosen(**more):
        return choose("auto", Request(SMALL.memory, TASKS, Options(**more))).name

    assert jax.default_backend() == "cpu"
    assert [chosen(), chosen(traced=True), chosen(differentiable=True), chosen(max_bytes=1000)] == [
        "simd",
        *["xla"] * 3,
    ]
    assert REFERENCE == "xla"
    assert [may_use_gpu(name) for name in registry.names()] == [True, True, False, True, True]


class Counting(Simd):
    """A new executor, which is the SIMD executor under a name of its own, and counts launches."""

    name = "counting"
    launched = 0

    def refusal(self, request: Request) -> str | None:
        return "the counting executor counts up to 32 features" if request.tasks.features > 32 else None

    def launch(self, *args, **more):
        type(self).launched += 1
        return super().launch(*args, **more)


@pytest.fixture
def counting(monkeypatch):
    executors = {"counting": Counting(), **EXECUTORS}
    monkeypatch.setattr(registry, "EXECUTORS", executors)
    monkeypatch.setattr(Counting, "launched", 0)
    registry._warn_once.cache_clear()
    return executors["counting"]


def test_a_new_executor_needs_its_class_and_a_line_in_the_registry(counting):
    assert isinstance(counting, Executor)
    want = evaluate(PROGRAMS, TASKS, executor="simd")
    for name in ("auto", "counting"):
        np.testing.assert_array_equal(evaluate(PROGRAMS, TASKS, executor=name).fitness, want.fitness)
    assert counting.launched == 2
    evaluator = Evaluator(TASKS, stages=(KnownForms(), Probe(4)), background=True)
    np.testing.assert_array_equal(evaluator(PROGRAMS).fitness, want.fitness)
    assert counting.launched == 4  # once for the probe, once in full
    measured = bench.network(4, 2, executor="counting", effort=bench.Effort(0.01, (20, 10), batch=2))
    assert (measured.executor, measured.fused) == ("counting", True)
    with pytest.raises(ValueError, match=r"must be one of auto, xla, .*, counting, not 'abacus'"):
        evaluate(PROGRAMS, TASKS, executor="abacus")


def test_a_refusal_says_why_and_what_to_use_instead_and_auto_goes_on_with_one_warning(counting):
    wide = synthetic.linear(1, features=33, train=5, valid=5)
    program = library.program("linear")
    with pytest.raises(ValueError, match=r"counts up to 32 features: use executor='xla' or 'simd', or 'auto'"):
        evaluate(program, wide, executor="counting")
    with pytest.warns(UserWarning, match="on the slower simd executor: the counting executor counts up to 32"):
        assert choose("auto", Request(program.memory, wide)).name == "simd"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose("auto", Request(program.memory, wide))
