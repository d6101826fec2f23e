"""The Pallas executor, interpreted on a CPU: held to upstream's data, to XLA and to itself under other layouts.

What only a GPU can tell (races between threads, speed) is `experiments/throughput/gpu.py`'s to ask.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.spaces import ALL_OPS, SMALL
from zero_jax import Component, Programs, SearchSpace, Tasks, evaluate, execute, library, random_programs
from zero_jax.executors import blocks, devices, dispatch, registry
from zero_jax.executors.base import Options, Request
from zero_jax.executors.pallas import executor as pallas_executor
from zero_jax.executors.pallas import gpu as pallas
from zero_jax.executors.pallas import layout
from zero_jax.tasks import synthetic

pytestmark = pytest.mark.optimized
GOLDEN = Path(__file__).parent / "golden"
INTERPRETED = {"executor": "pallas", "interpret": True}
LAST_BITS = {"rtol": 0, "atol": 1e-6}
"""Interpreted, a kernel is code that XLA compiles for each number of programs; from JAX 0.12 on it fuses, and so rounds,
that of one program otherwise than that of fifty. Programs that were mixed up would differ by far more."""
SIMD = {"executor": "simd"}
"""Held to XLA and to the oracle by tests of its own, and compiles no interpreter for each shape."""


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["rmse", "accuracy"])
def test_programs_train_as_upstream_trains_them(loss):
    golden = json.loads((GOLDEN / "programs.json").read_text())
    sizes, data = golden["sizes"], golden[loss]
    memory = (sizes["scalars"], sizes["vectors"], sizes["matrices"])
    programs = Programs.from_lists(golden["programs"], memory=memory)
    tasks = Tasks(data["train_x"], data["train_y"], data["valid_x"], data["valid_y"], loss=loss)
    result = evaluate(programs, tasks, max_abs_error=golden["max_abs_error"], **INTERPRETED)
    close = np.abs(np.asarray(result.fitness) - np.array(data["fitness"])) <= 1e-3
    assert close.shape == (1000, 4)
    assert close.mean() >= 0.995
    assert (np.asarray(result.train_steps) == np.array(data["train_steps"])).mean() >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize("features", [3, 16])  # upstream's data have 4
def test_random_programs_with_every_op_agree_with_simd(features):
    programs = random_programs(ALL_OPS, 500, np.random.default_rng(features))
    tasks = synthetic.linear(3, features=features, train=12, valid=6)
    want, got = (evaluate(programs, tasks, 5, **how) for how in (SIMD, INTERPRETED))
    close = np.abs(np.asarray(want.fitness) - np.asarray(got.fitness)) <= 1e-4
    assert close.mean() >= 0.995
    assert (np.asarray(want.train_steps) == np.asarray(got.train_steps)).mean() >= 0.995
    assert len(np.unique(np.asarray(want.fitness).round(4))) > 50


@pytest.mark.parametrize("features", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_uniform_draws_are_those_of_simd_to_the_bit_and_all_nearly_those_of_xla(features):
    rng, ops = np.random.default_rng(59), np.repeat(np.arange(59, 65), 3)
    lists = [[[(int(op), 0, 0, 1, *rng.normal(size=3))] * 2, [], []] for op in ops]
    programs = Programs.from_lists(lists, memory=(2, 2, 2))
    memory = tuple(np.zeros((len(ops), 5, *shape)) for shape in ((2,), (2, features), (2, features, features)))
    xla, simd, got = (
        [np.asarray(part) for part in execute(programs, memory, "setup", seed=7, **how)]
        for how in ({"executor": "xla"}, SIMD, INTERPRETED)
    )
    for near, same, part in zip(xla, simd, got, strict=True):
        np.testing.assert_array_equal(part[ops < 62], same[ops < 62])
        np.testing.assert_allclose(part, near, atol=1e-6, rtol=1e-6)
    for op in range(59, 65):
        assert len(np.unique(got[(op - 59) % 3][ops == op])) > 2


NOISY = "def Setup():\n v1 = uniform(-1, 1)\n m0 = gaussian(0, 1)\ndef Predict():\n s2 = uniform(0, 1)\n v2 = dot(m0, v1)\n s1 = dot(v2, v0)\n s1 = s1 + s2\ndef Learn():\n v1 = uniform(-1, 1)"


@pytest.mark.parametrize("loss", ["rmse", pytest.param("accuracy", marks=pytest.mark.slow)])
def test_epochs_draws_and_many_tasks_agree_with_simd(loss):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(19, 15, 3))
    y = x.sum(-1) if loss == "rmse" else (x.sum(-1) > 0).astype(float)
    tasks = Tasks(x[:, :9], y[:, :9], x[:, 9:], y[:, 9:], loss=loss, epochs=3, ids=np.arange(19) * 7)
    programs = Programs.from_lists(
        [Programs.parse(NOISY).to_lists()[0], *library.program("network").to_lists()], (5, 9, 2)
    )
    want, got = (evaluate(programs, tasks, 11, **how) for how in (SIMD, INTERPRETED))
    np.testing.assert_allclose(got.fitness, want.fitness, atol=1e-5)
    np.testing.assert_array_equal(got.train_steps, want.train_steps)


@pytest.mark.slow
def test_the_layout_changes_rounding_at_most():
    programs = random_programs(ALL_OPS, 30, np.random.default_rng(2))
    tasks = synthetic.linear(5, features=3, train=8, valid=4)
    sets = dispatch.op_sets(None, programs.memory)
    ready = blocks.prepared(programs, sets, prune=True)
    train = jax.jit(partial(pallas.evaluate_programs, sets=sets, interpret=True), static_argnames="layout")
    want = train(ready, tasks, jnp.uint32(3), jnp.float32(100))
    for given in ((2, 2, True), (32, 1, False)):
        got = train(ready, tasks, jnp.uint32(3), jnp.float32(100), layout=layout.Layout(*given))
        np.testing.assert_allclose(got[0], want[0], atol=1e-6)
        np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.slow
def test_the_memory_of_the_paper_fits():
    space = SearchSpace(
        (20, 20, 20), Component(range(65), (2, 4, 4)), Component(range(65), (2, 4, 4)), Component(range(65), (2, 4, 4))
    )
    programs = random_programs(space, 20, np.random.default_rng(0))
    tasks = synthetic.linear(2, features=4, train=5, valid=5)
    want, got = (evaluate(programs, tasks, **how) for how in (SIMD, INTERPRETED))
    np.testing.assert_allclose(got.fitness, want.fitness, atol=1e-4)


@pytest.mark.slow
def test_chunks_batches_and_empty_populations():
    programs = random_programs(SMALL, 50, np.random.default_rng(0))
    tasks = synthetic.linear(3, train=6, valid=4)
    call = partial(evaluate, ops=SMALL.ops, **INTERPRETED)
    whole = np.asarray(call(programs, tasks).fitness)
    for more in ({"chunk_size": 7}, {"max_bytes": 20 * layout.program_bytes(SMALL.memory, tasks)}):
        np.testing.assert_allclose(call(programs, tasks, **more).fitness, whole, **LAST_BITS)
    np.testing.assert_allclose(call(programs[13], tasks).fitness, whole[13:14], **LAST_BITS)
    assert len(np.unique(whole)) > 20
    assert evaluate(programs[:0], tasks, **INTERPRETED).fitness.shape == (0, 3)


@pytest.mark.slow
def test_programs_without_slots_and_empty_memories():
    nothing = Programs.from_lists([[[], [], []]], memory=(4, 3, 1))
    tasks = synthetic.linear(3, train=6, valid=4)
    want = evaluate(nothing, tasks, executor="xla").fitness
    np.testing.assert_allclose(evaluate(nothing, tasks, **INTERPRETED).fitness, want, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda p: evaluate(p, tasks, **INTERPRETED).fitness)(nothing), want, atol=1e-6)
    for count, n in ((0, 3), (2, 0)):
        memory = tuple(np.zeros((count, n, *shape)) for shape in ((4,), (3, 2), (1, 2, 2)))
        after = execute(nothing[np.zeros(count, int)], memory, "predict", **INTERPRETED)
        assert [part.shape for part in after] == [part.shape for part in memory]


def test_gradients_are_refused_with_a_word_on_what_to_do():
    programs, tasks = library.program("linear"), synthetic.linear(2, train=6, valid=4)
    for how in ({"executor": "xla"}, INTERPRETED):

        def fitness(data, how=how):
            return evaluate(programs.with_arrays(programs.code, data, programs.length), tasks, **how).fitness.sum()

        with pytest.raises(ValueError, match="differentiable=True"):
            jax.grad(fitness)(jnp.asarray(programs.data))


@pytest.mark.slow
def test_inside_jit_vmap_and_scan():
    programs = random_programs(SMALL, 10, np.random.default_rng(0))
    tasks = synthetic.linear(18, train=6, valid=4)  # two blocks a program
    noisy = Programs.parse(NOISY)
    call = partial(evaluate, ops=((56, 57, 60, 64), (1, 27, 31, 59), (2, 3, 18, 23, 60)), **INTERPRETED)
    want = np.asarray(call(programs, tasks).fitness)
    np.testing.assert_array_equal(jax.jit(lambda p, t: call(p, t).fitness)(programs, tasks), want)
    stacked = jax.tree.map(lambda a: np.stack([a[:5], a[5:]]), programs)
    halves = jax.vmap(lambda p: call(p, tasks).fitness)(stacked)
    np.testing.assert_array_equal(np.concatenate(halves), want)
    seeds = jnp.arange(3)
    direct = np.stack([call(noisy, tasks, int(s)).fitness for s in seeds])
    np.testing.assert_allclose(jax.vmap(lambda s: call(noisy, tasks, s).fitness)(seeds), direct, atol=1e-6)
    scanned = jax.lax.scan(lambda c, s: (c, call(noisy, tasks, s).fitness), 0, seeds)[1]
    np.testing.assert_allclose(scanned, direct, atol=1e-6)
    assert len(np.unique(direct)) > 3


def test_fingerprints_are_equal_for_equal_errors_alone():
    text = "def Setup():\n s2 = {}\ndef Predict():\n s1 = s2 * s2\ndef Learn():"
    lists = [Programs.parse(text.format(c), (3, 1, 0)).to_lists()[0] for c in (0.5, -0.5, 0.25)]
    tasks = synthetic.linear(20, train=10, valid=10)
    executor = registry.EXECUTORS["pallas"]
    prepared = executor.prepare(tasks, Options(interpret=True))
    (prints,) = executor.launch(Programs.from_lists(lists, (3, 1, 0)), prepared, 0, fingerprints=True)()
    np.testing.assert_array_equal(prints[0], prints[1])
    assert (prints[0] != prints[2]).all()


@pytest.mark.slow
def test_errors_are_those_of_each_example_and_0_after_a_stop():
    program = Programs.parse("def Setup():\ndef Predict():\n s1 = s2 * s2\ndef Learn():\n s2 = s0 + s2", (3, 1, 0))
    x = np.zeros((2, 4, 1))
    y = np.array([[1.0, 2.0, 3.0, 1000.0], [1.0, 10.0, 10.0, 1.0]])
    tasks = Tasks(x, y, x[:, :2], y[:, :2])
    sets = dispatch.op_sets(((), (3,), (1,)), program.memory)
    ready = blocks.prepared(program, sets, prune=True)
    _, steps, errors = pallas.evaluate_programs(
        ready, tasks, jnp.uint32(0), jnp.float32(100), sets, interpret=True, errors=True
    )
    sums = np.cumsum(y, 1)
    want = np.array([y[0, 0], *(y[0, 1:] - sums[0, :-1] ** 2)])
    np.testing.assert_allclose(errors[0, 0], [*want, 0, 0], rtol=1e-6)  # the fourth error is above 100
    np.testing.assert_allclose(errors[0, 1], [1, 10 - 1, 10 - 121, 0, 0, 0], rtol=1e-6)
    assert steps.tolist() == [[4, 3]]


# ---------------------------------------------------------------------------------------------- many devices


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["xla", "pallas"])
def test_eight_devices_give_what_one_gives(executor):
    programs = random_programs(SMALL, 1000, np.random.default_rng(0))
    tasks = synthetic.linear(3, train=6, valid=4)
    call = partial(evaluate, ops=SMALL.ops, executor=executor, interpret=executor == "pallas")
    assert len(jax.devices()) == 8
    for count in (1000, 1003 - 100, 3):
        some = programs[np.arange(count)]
        one, eight = (call(some, tasks, 1, devices=jax.devices()[:n]) for n in (1, 8))
        last_bits = LAST_BITS if executor == "pallas" else {"rtol": 0}
        np.testing.assert_allclose(eight.fitness, one.fitness, **last_bits)
        np.testing.assert_array_equal(eight.train_steps, one.train_steps)
        np.testing.assert_allclose(call(some, tasks, 1).fitness, one.fitness, **last_bits)


# ---------------------------------------------------------------------------------------------- what is refused


class FakeGPU:
    platform, device_kind, compute_capability = "gpu", "NVIDIA H200", "9.0"

    def __init__(self, limit=2**30, **more):
        self.limit = limit
        vars(self).update(more)

    def memory_stats(self):
        return {"bytes_limit": self.limit}


def on(monkeypatch, device):
    registry._warn_once.cache_clear()
    monkeypatch.setattr(devices, "default_device", lambda: device)


def chosen(memory, tasks, **options):
    return registry.choose("auto", Request(memory, tasks, Options(**options))).name


def test_auto_takes_it_on_an_nvidia_gpu_for_few_features(monkeypatch):
    monkeypatch.delitem(registry.EXECUTORS, "cuda")
    memory, tasks = library.program("network").memory, synthetic.linear(2, features=4, train=5, valid=5)
    wide = synthetic.linear(2, features=33, train=5, valid=5)
    on(monkeypatch, FakeGPU())
    assert chosen(memory, tasks) == "pallas"
    assert chosen(memory, tasks, traced=True) == "pallas"
    assert chosen(memory, tasks, differentiable=True) == "xla"
    assert chosen(memory, wide) == "xla"
    for device in (FakeGPU(compute_capability="7.5"), FakeGPU(compute_capability="gfx942", device_kind="AMD MI300X")):
        on(monkeypatch, device)
        with pytest.warns(UserWarning, match=r"slower xla executor: .* needs an NVIDIA GPU"):
            assert chosen(memory, tasks) == "xla"
        assert chosen(memory, tasks) == "xla"  # a second warning would be an error
    on(monkeypatch, FakeGPU())
    monkeypatch.setattr(pallas_executor, "_have_triton", lambda: False)
    with pytest.warns(UserWarning, match="no Pallas for Triton any more"):
        assert chosen(memory, tasks) == "xla"
    on(monkeypatch, FakeGPU(platform="tpu"))
    assert chosen(memory, tasks) == "xla"


def test_more_memory_than_the_device_has_narrows_the_chunk_or_is_refused(monkeypatch):
    program, tasks = library.program("network"), synthetic.linear(2, features=4, train=50, valid=5)
    executor, one = registry.EXECUTORS["pallas"], layout.program_bytes(program.memory, tasks)

    def request(max_bytes, tasks=tasks):
        return Request(program.memory, tasks, Options(max_bytes=max_bytes))

    assert executor.bytes(request(2**40)) == one
    assert executor.room(request(2**40)) == 2**40  # a CPU has no known limit
    on(monkeypatch, FakeGPU(limit=100_000))
    room = executor.room(request(2**40))
    assert room < 90_000
    assert executor.width(request(2**40), 1000, 1) == room // one
    big = FakeGPU()
    on(monkeypatch, big)
    assert [executor.width(request(2**30), programs, 1) for programs in (3, 10**5)] == [1024, 16384]
    big.limit = 100_000
    with pytest.raises(ValueError, match="evaluate fewer tasks at a time"):
        executor.room(request(2**40, synthetic.linear(2, features=4, train=5000, valid=5)))
    with pytest.raises(ValueError, match="raise max_bytes, or evaluate fewer tasks"):
        executor.check_fits(request(one - 1))


def test_a_machine_that_cannot_run_it_says_which_it_can():
    program, tasks = library.program("network"), synthetic.linear(2, features=4, train=5, valid=5)
    wide = synthetic.linear(2, features=64, train=5, valid=5)
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU.*device here is cpu: use executor='xla' or 'simd'"):
        evaluate(program, tasks, executor="pallas")
    with pytest.raises(ValueError, match="at most 32 features, not 64: use executor='xla'"):
        evaluate(program, wide, **INTERPRETED)
    with pytest.raises(ValueError, match="no gradients"):
        evaluate(program, tasks, differentiable=True, **INTERPRETED)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        execute(program, (np.zeros((1, 1, 5)), np.zeros((1, 1, 9, 4)), np.zeros((1, 1, 2, 4, 4))), executor="pallas")
    for some in ([], ["gpu"], [jax.devices()[0]] * 2, 2, jax.devices()[0]):
        with pytest.raises(ValueError, match="devices must be"):
            evaluate(program, tasks, executor="xla", devices=some)
