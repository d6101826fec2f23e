"""What is pickled or copied goes on as the original does."""

import copy
import dataclasses
import gc
import multiprocessing
import pickle
import threading

import jax
import numpy as np
import pytest

from tests.helpers import assert_equal, evolved, plain_line, searching
from tests.spaces import DEMO
from zero_jax import Evaluator, Mutations, RandomSearch, RegularizedEvolution, Scores, library
from zero_jax.evaluation import Counts, Hurdles, KnownForms, Probe, Rung, TrainBudget
from zero_jax.executors.devices import default_device
from zero_jax.run.presets import PRESETS
from zero_jax.search import EfficientEvolution
from zero_jax.search.operators.lineage import Ancestor, chain
from zero_jax.support.codec import encode
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, train=20, valid=10)

SEARCH = RegularizedEvolution(DEMO, 2, 60, 5, 30)


def with_cloudpickle(value):
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(value))


WAYS = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "cloudpickle": with_cloudpickle,
}

EVALUATORS = {
    "plain": {},
    "probe": {"stages": (KnownForms(), Probe(5, forget_every=2))},
    "hurdles": {"stages": (KnownForms(), Hurdles((Rung(tasks=0.4), Rung(examples=0.5))))},
    "budget": {"stages": (TrainBudget(0.8), KnownForms()), "costs": "operations"},
    "background": {"background": True, "stages": (KnownForms(), Probe(5))},
    "xla": {"executor": "xla", "stages": (KnownForms(50),)},
}


def populations(seed=0, count=6):
    state = SEARCH.init(seed)
    for _ in range(count):
        state, candidates = SEARCH.ask(state)
        yield candidates.programs
        state = SEARCH.tell(state, candidates, Scores.of(candidates.programs.code[:, :, 3].sum(1) / 100))


def assert_goes_on_equally(one, other, seed=1):
    assert one.counts == other.counts
    for programs in populations(seed):
        a, b = one(programs), other(programs)
        np.testing.assert_array_equal(a.fitness, b.fitness)
        np.testing.assert_array_equal(a.train_steps, b.train_steps)
    assert one.counts == other.counts
    np.testing.assert_equal(one.tree(), other.tree())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", [pytest.param(n, marks=[pytest.mark.slow] * (n == "xla")) for n in EVALUATORS])
def test_an_evaluator_goes_on_with_all_that_it_knows(how, way):
    one = Evaluator(TASKS, 3, ops=DEMO.ops, **EVALUATORS[how])
    for programs in populations():
        one(programs)
    other = WAYS[way](one)
    assert other.counts.known + other.counts.equivalent > 0
    before = copy.deepcopy(one.tree())
    other(SEARCH.init(9).programs)
    np.testing.assert_equal(one.tree(), before)  # it shares nothing
    assert_goes_on_equally(one, *[WAYS[way](one)])


def test_one_with_programs_under_way_takes_them_up_again():
    one = Evaluator(TASKS, 3, background=True)
    programs = SEARCH.init(0).programs
    steps = one.steps(programs)
    next(steps)
    other = pickle.loads(pickle.dumps(one))
    want = Evaluator(TASKS, 3)(programs).fitness
    np.testing.assert_array_equal(other(programs).fitness, want)
    with pytest.raises(StopIteration) as end:
        next(steps)  # it is trained in one step
    np.testing.assert_array_equal(end.value.value.fitness, want)


def evaluate_elsewhere(one, programs):
    return one(programs).fitness, one.counts


@pytest.mark.slow
def test_an_evaluator_goes_to_a_process_that_is_spawned():
    one = Evaluator(TASKS, 3, background=True)
    for programs in populations():
        one(programs)
    programs = SEARCH.init(5).programs
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        fitness, counts = pool.apply(evaluate_elsewhere, (one, programs))
    np.testing.assert_array_equal(fitness, one(programs).fitness)
    assert counts == one.counts


def test_devices_are_those_of_the_same_number_or_the_default_ones(monkeypatch):
    devices = jax.devices()[1:3]
    one = Evaluator(TASKS, executor="xla", devices=devices)
    assert pickle.loads(pickle.dumps(one)).launcher.devices == tuple(devices)
    with jax.default_device(jax.devices()[4]):
        at_fourth = Evaluator(TASKS)
    again = copy.deepcopy(at_fourth).launcher
    assert (again.devices, again._home) == (None, (jax.devices()[4],))
    for there in ([*jax.devices()[:2]], RuntimeError("Unknown backend tpu")):

        def local(backend=None, there=there):
            if isinstance(there, Exception) and backend:
                raise there
            return there if backend else jax.devices()

        data = pickle.dumps(one)
        with monkeypatch.context() as patched:
            patched.setattr(jax, "local_devices", local)
            again = pickle.loads(data).launcher
        assert (again.devices, again._home) == (None, (default_device(),))


def workers():
    return sum(thread.name.startswith("zero-jax evaluator") for thread in threading.enumerate())


def test_the_thread_of_a_copy_ends_with_it():
    gc.collect()
    before = workers()
    one = pickle.loads(pickle.dumps(Evaluator(TASKS, background=True)))
    one(SEARCH.init(0).programs)
    assert workers() == before + 1
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("zero-jax evaluator")][-1:]
    del one
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "value",
    [
        DEMO, Mutations(("identity",)), *(preset for _, preset in PRESETS.values()), SEARCH,
        RandomSearch(DEMO, 7), EfficientEvolution(DEMO, 2, 10, 3, 5),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_settings_stay_what_they_are(value, way):
    again = WAYS[way](value)
    assert again == value
    assert hash(again) == hash(value)


@pytest.mark.parametrize("way", WAYS)
def test_tasks_and_programs_stay_what_they_are(way):
    tasks = WAYS[way](jax.device_put(TASKS))
    assert repr(tasks) == repr(TASKS)
    jax.tree.map(np.testing.assert_array_equal, tasks, TASKS)
    programs = WAYS[way](library.program("network"))
    assert_equal(programs, library.program("network"))
    search = dataclasses.replace(SEARCH, initial=library.program("linear", memory=DEMO.memory))
    assert_equal(WAYS[way](search).init(3).programs, search.init(3).programs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("search", [searching(), RandomSearch(DEMO, 20)])
def test_a_state_goes_on_as_the_original_does(search, way):
    for steps in (0, 1, 10):
        state = evolved(search, steps)
        again = WAYS[way](state)
        np.testing.assert_equal(encode(again), encode(state))
        (_, a), (_, b) = search.ask(state), search.ask(again)
        assert_equal(a.programs, b.programs)


@pytest.mark.parametrize("way", WAYS)
def test_a_long_line_is_not_too_deep(way):
    programs, last = SEARCH.init(0).programs, None
    for n in range(5000):
        last = Ancestor(n / 5000, n, int(n > 0), programs, n % 60, last)
    again = WAYS[way](last)
    assert len(chain(again)) == 5000
    assert plain_line(again) == plain_line(last)
    assert Counts() == WAYS[way](Counts())
