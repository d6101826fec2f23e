"""The CUDA executor's kernel, run on a CPU with real blocks and barriers: held to upstream's data, to the other executors,
and to itself on blocks of other sizes and without one of its barriers."""

import importlib.metadata
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warp

from tests.spaces import ALL_OPS, SMALL
from zero_jax import Component, Programs, SearchSpace, Tasks, evaluate, execute, library, random_programs
from zero_jax.executors import blocks, devices, dispatch, fusion, registry
from zero_jax.executors.base import Options, Request
from zero_jax.executors.gpu import executor as cuda
from zero_jax.executors.gpu import kernel, layout, source, warp_carrier
from zero_jax.executors.gpu.layout import Layout
from zero_jax.program import liveness
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.tasks import synthetic

GOLDEN = Path(__file__).parent / "golden"
INTERPRETED = {"executor": "cuda", "interpret": True}
SIMD = {"executor": "simd"}
NOISY = """def Setup():
 v1 = uniform(-1, 1, n_features)
 m0 = gaussian(0, 1, (n_features, n_features))
def Predict():
 s2 = uniform(0, 1)
 v2 = dot(m0, v1)
 s1 = dot(v2, v0)
 s1 = s1 + s2
def Learn():
 v1 = uniform(-1, 1, n_features)"""


def ready(programs):
    """As the kernel takes them, with superinstructions, and the ops that it covers."""
    sets = dispatch.op_sets(None, programs.memory)
    form = canonical(blocks.prepared(programs, sets, prune=True)).programs
    numbered = liveness.number_draws(form, np.ones(form.code.shape[:2], bool))
    return fusion.fused(numbered, Interface.scalar(form.memory)), sets


def trained(programs, tasks, layout=None, errors=False, before=None):
    clean, sets = ready(programs)
    train = partial(kernel.train, sets=sets, layout=layout, errors=errors)
    return jax.jit(train)(clean, tasks, jnp.uint32(3), jnp.float32(100), before=before)


def memory_of(program, tasks, features):
    rng = np.random.default_rng(0)
    shapes = zip(program.memory, ((), (features,), (features, features)), strict=True)
    return tuple(jnp.asarray(rng.normal(size=(1, tasks, n, *shape)), jnp.float32) for n, shape in shapes)


# ---------------------------------------------------------------------------------------------- the right numbers


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


@pytest.mark.parametrize(
    ("features", "count"), [(4, 300), *(pytest.param(n, 2000, marks=pytest.mark.slow) for n in (3, 4, 16, 20))]
)
def test_random_programs_with_every_op_agree(features, count):
    programs = random_programs(ALL_OPS, count, np.random.default_rng(features))
    tasks = synthetic.linear(3, features=features, train=12, valid=6)
    other = SIMD if count < 1000 else {"executor": "xla"}  # which takes a minute to compile
    want, got = (evaluate(programs, tasks, 5, **how) for how in (other, INTERPRETED))
    assert (np.abs(np.asarray(want.fitness) - np.asarray(got.fitness)) <= 1e-4).mean() >= 0.995
    assert (np.asarray(want.train_steps) == np.asarray(got.train_steps)).mean() >= 0.995
    assert len(np.unique(np.asarray(want.fitness).round(4))) > 50


@pytest.mark.parametrize("features", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_uniform_draws_are_those_of_simd_to_the_bit_and_all_nearly(features):
    rng, ops = np.random.default_rng(59), np.repeat(np.arange(59, 65), 3)
    lists = [[[(int(op), 0, 0, 1, *rng.normal(size=3))] * 2, [], []] for op in ops]
    programs = Programs.from_lists(lists, memory=(2, 2, 2))
    memory = tuple(np.zeros((len(ops), 5, *shape)) for shape in ((2,), (2, features), (2, features, features)))
    simd, got = (
        [np.asarray(part) for part in execute(programs, memory, "setup", seed=7, **how)] for how in (SIMD, INTERPRETED)
    )
    for same, part in zip(simd, got, strict=True):
        np.testing.assert_array_equal(part[ops < 62], same[ops < 62])
        np.testing.assert_allclose(part, same, atol=1e-6, rtol=1e-6)
        assert len(np.unique(part)) > 5


@pytest.mark.parametrize("loss", ["accuracy", pytest.param("rmse", marks=pytest.mark.slow)])
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


def test_errors_are_those_of_each_example_and_0_after_a_stop():
    program = Programs.parse("def Setup():\ndef Predict():\n s1 = s2 * s2\ndef Learn():\n s2 = s0 + s2", (3, 1, 0))
    x = np.zeros((2, 4, 1))
    y = np.array([[1.0, 2.0, 3.0, 1000.0], [1.0, 10.0, 10.0, 1.0]])
    results = trained(program, Tasks(x, y, x[:, :2], y[:, :2]), errors=True)
    sums = np.cumsum(y, 1)
    want = np.array([y[0, 0], *(y[0, 1:] - sums[0, :-1] ** 2)])
    np.testing.assert_allclose(results.errors[0, 0], [*want, 0, 0], rtol=1e-6)  # the fourth error is above 100
    np.testing.assert_allclose(results.errors[0, 1], [1, 10 - 1, 10 - 121, 0, 0, 0], rtol=1e-6)
    assert results.steps.tolist() == [[4, 3]]


def test_fingerprints_are_equal_for_equal_errors_alone():
    text = "def Setup():\n s2 = {}\ndef Predict():\n s1 = s2 * s2\ndef Learn():"
    lists = [Programs.parse(text.format(c), (3, 1, 0)).to_lists()[0] for c in (0.5, -0.5, 0.25)]
    executor = registry.EXECUTORS["cuda"]
    prepared = executor.prepare(synthetic.linear(20, train=10, valid=10), Options(interpret=True))
    (prints,) = executor.launch(Programs.from_lists(lists, (3, 1, 0)), prepared, 0, fingerprints=True)()
    np.testing.assert_array_equal(prints[0], prints[1])
    assert (prints[0] != prints[2]).all()


@pytest.mark.parametrize(
    ("features", "tasks", "count"),
    [(33, 2, 8), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((33, 3, 40), (64, 2, 40), (130, 1, 40)))],
)
def test_many_features_agree_with_simd(features, tasks, count):
    programs = random_programs(ALL_OPS, count, np.random.default_rng(features))
    on = synthetic.linear(tasks, features=features, train=6, valid=4, epochs=2)
    want, got = (evaluate(programs, on, 5, **how) for how in (SIMD, INTERPRETED))
    assert (np.abs(np.asarray(want.fitness) - np.asarray(got.fitness)) <= 1e-4).mean() >= 0.99
    assert (np.asarray(want.train_steps) == np.asarray(got.train_steps)).mean() >= 0.99
    assert len(np.unique(np.asarray(want.fitness).round(4))) > min(5, count // 3)


# ---------------------------------------------------------------------------------------------- superinstructions


FUSING = SearchSpace(
    (5, 5, 3),
    Component(range(56, 65), (4, 6, 8)),
    Component((1, 2, 3, 16, 18, 23, 25, 27, 31), (6, 10, 12)),
    Component((1, 2, 3, 16, 18, 23, 25, 27, 28, 31, 39), (8, 12, 14)),
)


def test_superinstructions_compute_what_their_instructions_do(monkeypatch):
    programs = random_programs(FUSING, 400, np.random.default_rng(0))
    tasks = synthetic.linear(3, features=4, train=12, valid=6)
    form = canonical(programs).programs
    joined = fusion.fused(form, Interface.of(form.memory, tasks))
    network, _ = ready(library.program("network"))
    found = {*joined.code[..., 0].ravel().tolist(), *network.code[..., 0].ravel().tolist()}
    assert found >= {row.number for row in fusion.SUPERINSTRUCTIONS}
    assert (joined.length <= form.length).all()
    made = []
    monkeypatch.setattr(cuda, "fused", lambda *given: made.append(fusion.fused(*given)) or made[-1])
    want, plain, got = (
        [np.asarray(part) for part in executor.launch(programs, executor.prepare(tasks, options), 5)()]
        for executor, options in (
            (registry.EXECUTORS["simd"], Options(fuse=False)),
            (registry.EXECUTORS["cuda"], Options(interpret=True, fuse=False)),
            (registry.EXECUTORS["cuda"], Options(interpret=True)),
        )
    )
    assert (np.abs(plain[0] - want[0]) <= 1e-4).mean() >= 0.995
    assert (np.abs(got[0] - plain[0]) <= 1e-4).mean() >= 0.995
    assert (got[1] == plain[1]).mean() >= 0.995
    assert [len(programs) for programs in made] == [400]  # the last launch alone joined any


def test_more_addresses_than_fusing_can_tell_apart_are_left_as_they_are():
    program = Programs.parse(library.program("network").listing(), (40, 20, 20))
    form = canonical(program).programs
    assert fusion.fused(form, Interface.scalar(form.memory)) is form


# ---------------------------------------------------------------------------------------------- threads and memory


@pytest.mark.slow
@pytest.mark.parametrize("features", [4, 7])
def test_no_number_of_threads_changes_a_bit(features):
    programs = random_programs(ALL_OPS, 40, np.random.default_rng(2))
    tasks = synthetic.linear(5, features=features, train=8, valid=4)
    want = trained(programs, tasks)
    for columns in (1, 3, 7):
        got = trained(programs, tasks, Layout(features, columns, 1))
        np.testing.assert_array_equal(got.fitness, want.fitness)
        np.testing.assert_array_equal(got.steps, want.steps)
    assert len(np.unique(want.fitness)) > 10


CROSSING = """def Setup():
 m0 = gaussian(0, 0.4, (n_features, n_features))
 v1 = gaussian(0, 1, n_features)
 s2 = 0.01
def Predict():
 s3 = norm(v0)
 v4 = s3 * v1
 m1 = transpose(m0)
 m1 = transpose(m1)
 m2 = matmul(m0, m1)
 m2 = matmul(m2, m2)
 v2 = dot(m2, v4)
 v2 = dot(m0, v2)
 v2 = dot(m1, v2)
 v2 = v2 + v4
 s1 = dot(v2, v0)
def Learn():
 s4 = s0 - s1
 s4 = s4 * s2
 v3 = s4 * v0
 v1 = v1 + v3"""
"""Each instruction needs what other threads have written."""


class Kernels:
    """What is compiled without some of the barriers."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.whole = source.body

    def without(self, number):
        """Takes the barrier of that number, in the order of the text, out of what is compiled from now on."""

        def body(shape):
            parts = self.whole(shape).split("BARRIER();")
            parts[number : number + 2] = [parts[number] + ";" + parts[number + 1]]
            return "BARRIER();".join(parts)

        warp_carrier.kernel.cache_clear()
        self.monkeypatch.setattr(source, "body", body)


@pytest.fixture
def kernels(monkeypatch):
    yield Kernels(monkeypatch)
    warp_carrier.kernel.cache_clear()


FEW = Layout(4, 2, 1)


def test_the_text_has_no_other_barriers_than_those_tested_below():
    for component, count in ((None, 8), (1, 6)):
        shape = layout.shape_of(Programs.parse(CROSSING).memory, (0, 3, 10, 15), 4, 6, FEW, component=component)
        assert source.body(shape).count("BARRIER();") == count


def differ(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(not np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.parametrize("number", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 4, 5, 6)), 7])
def test_training_needs_each_barrier(number, kernels):
    program, tasks = Programs.parse(CROSSING), synthetic.linear(6, features=4, train=20, valid=10)
    want, again = (trained(program, tasks, FEW, errors=True) for _ in range(2))
    assert not differ(want, again)
    assert (want.steps > 10).all()
    kernels.without(number)
    assert differ(want, trained(program, tasks, FEW, errors=True))


@pytest.mark.slow
def test_a_given_memory_needs_the_first_barrier(kernels):
    """Without it, one thread's zeros for Setup are overwritten by what another one copies."""
    program = Programs.parse("def Setup():\n v1 = v0 + v1\ndef Predict():\n s1 = dot(v0, v1)")
    memory, tasks = memory_of(program, 6, 4), synthetic.linear(6, features=4, train=5, valid=5)
    want = trained(program, tasks, FEW, before=memory)
    np.testing.assert_array_equal(want.memory[1][0, :, 1], memory[1][0, :, 1])
    kernels.without(0)
    assert differ(want.memory, trained(program, tasks, FEW, before=memory).memory)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_all_threads_pass_the_same_barriers_where_predict_is_empty(whole, kernels):
    """Without the barrier of number 2, threads see that the first one stops the last run before they have looked."""
    program = Programs.parse("def Setup():\ndef Predict():\ndef Learn():\n s2 = s0 + s2", (3, 1, 0))
    y = np.full((8, 5), 1000.0)
    y[0, :3] = 0
    tasks = Tasks(np.zeros((8, 5, 1)), y, np.zeros((8, 2, 1)), y[:, :2])
    text = source.body
    if not whole:
        kernels.without(2)
        text = source.body

    def counting(shape):
        ends = text(shape).replace("BARRIER();", "{ passed++; BARRIER(); }").replace("= seen[lane]", "= passed")
        return "int passed = 0;\n" + ends

    kernels.monkeypatch.setattr(source, "body", counting)
    passed = trained(program, tasks, FEW).steps
    assert (passed == passed[0, 0]).all() == whole


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_one_run_of_a_component_needs_each_barrier(number, kernels):
    program = Programs.parse(CROSSING)
    clean, sets = ready(program)

    def executed():
        run = jax.jit(partial(kernel.execute, component=1, sets=sets, layout=FEW))
        return run(clean, memory_of(program, 6, 4), jnp.arange(6), jnp.uint32(3))

    want = executed()
    kernels.without(number)
    assert differ(want, executed())


@pytest.mark.slow
def test_memory_that_does_not_fit_a_multiprocessor_lies_in_global_memory(monkeypatch):
    programs = random_programs(ALL_OPS, 20, np.random.default_rng(5))
    tasks = synthetic.linear(3, features=5, train=8, valid=4)
    want = trained(programs, tasks)
    monkeypatch.setattr(layout, "SHARED_BYTES", 1000)
    shape = layout.shape_of(programs.memory, tuple(programs.starts), 5, 3)
    assert not shape.in_shared
    assert layout.program_bytes(programs.memory, tasks) > 4 * shape.memory_words
    got = trained(programs, tasks)
    np.testing.assert_array_equal(got.fitness, want.fitness)


# ---------------------------------------------------------------------------------------------- calls


def test_chunks_batches_and_empty_populations():
    programs = random_programs(SMALL, 50, np.random.default_rng(0))
    tasks = synthetic.linear(3, train=6, valid=4)
    call = partial(evaluate, ops=SMALL.ops, **INTERPRETED)
    whole = np.asarray(call(programs, tasks).fitness)
    for more in ({"chunk_size": 7}, {"max_bytes": 20 * layout.program_bytes(SMALL.memory, tasks)}):
        np.testing.assert_array_equal(call(programs, tasks, **more).fitness, whole)
    np.testing.assert_array_equal(call(programs[13], tasks).fitness, whole[13:14])
    assert len(np.unique(whole)) > 20
    assert call(programs[:0], tasks).fitness.shape == (0, 3)


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


@pytest.mark.slow
def test_inside_jit_vmap_and_scan():
    programs = random_programs(SMALL, 10, np.random.default_rng(0))
    tasks = synthetic.linear(18, train=6, valid=4)  # two blocks a program
    noisy = Programs.parse(NOISY)
    call = partial(evaluate, ops=((56, 57, 60, 61, 64), (1, 27, 31, 59), (2, 3, 18, 23, 60)), **INTERPRETED)
    want = jax.jit(lambda p, t: call(p, t).fitness)(programs, tasks)
    np.testing.assert_allclose(call(programs, tasks).fitness, want, atol=1e-6)  # with superinstructions
    stacked = jax.tree.map(lambda a: np.stack([a[:5], a[5:]]), programs)
    halves = jax.vmap(lambda p: call(p, tasks).fitness)(stacked)
    np.testing.assert_array_equal(np.concatenate(halves), want)
    seeds = jnp.arange(3)
    direct = np.stack([call(noisy, tasks, int(s)).fitness for s in seeds])
    np.testing.assert_array_equal(jax.vmap(lambda s: call(noisy, tasks, s).fitness)(seeds), direct)
    scanned = jax.lax.scan(lambda c, s: (c, call(noisy, tasks, s).fitness), 0, seeds)[1]
    np.testing.assert_array_equal(scanned, direct)
    assert len(np.unique(direct)) > 3


def test_ops_that_are_not_covered_do_nothing():
    program, tasks = library.program("linear"), synthetic.linear(3, train=6, valid=4)
    call = partial(evaluate, ops=["VECTOR_INNER_PRODUCT", "SCALAR_DIFF"])
    got, want = (jax.jit(lambda p, h=how: call(p, tasks, **h).fitness)(program) for how in (INTERPRETED, {}))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.slow
def test_eight_devices_give_what_one_gives():
    programs = random_programs(SMALL, 1000, np.random.default_rng(0))
    tasks = synthetic.linear(3, train=6, valid=4)
    call = partial(evaluate, ops=SMALL.ops, **INTERPRETED)
    assert len(jax.devices()) == 8
    for count in (1000, 3):
        some = programs[np.arange(count)]
        one, eight = (call(some, tasks, 1, devices=jax.devices()[:n]) for n in (1, 8))
        np.testing.assert_array_equal(eight.fitness, one.fitness)
        np.testing.assert_array_equal(eight.train_steps, one.train_steps)


# ---------------------------------------------------------------------------------------------- what is refused


class FakeGPU:
    platform, device_kind, compute_capability = "gpu", "NVIDIA H200", "9.0"

    def __init__(self, **more):
        vars(self).update(more)


def chosen(features=4, **options):
    request = Request(
        library.program("network").memory, synthetic.linear(2, features=features, train=5, valid=5), Options(**options)
    )
    return registry.choose("auto", request).name


@pytest.fixture
def gpu(monkeypatch):
    """Puts a device in the place of the default one."""
    checks = cuda._without_warp, cuda._without_driver, registry._warn_once
    for check in checks:
        check.cache_clear()
    yield lambda **more: monkeypatch.setattr(devices, "default_device", lambda: FakeGPU(**more))
    for check in checks:
        check.cache_clear()


def test_auto_takes_it_on_an_nvidia_gpu_unless_there_are_many_features(gpu, monkeypatch):
    monkeypatch.setattr(cuda, "_without_driver", lambda: None)
    gpu()
    assert chosen() == chosen(traced=True) == chosen(features=512) == "cuda"
    assert chosen(differentiable=True) == chosen(features=513) == "xla"
    gpu(platform="tpu")
    assert chosen() == "xla"


def test_auto_says_what_the_faster_one_needs(gpu, monkeypatch):
    gpu()
    for driver, message in ((None, "finds none"), ((12, 8), r"cannot use the one here, which is for CUDA 12\.8")):
        cuda._without_driver.cache_clear()
        monkeypatch.setattr(warp, "get_cuda_driver_version", lambda driver=driver: driver)
        with pytest.warns(UserWarning, match=f"slower pallas executor: .* driver 580 or later: Warp .* {message}"):
            assert chosen() == "pallas"
    for version, message in (
        (None, r"needs NVIDIA Warp \(pip install 'zero-jax\[gpu\]'\)"),
        ("1.20.1", r"Warp 1\.19.* and 1\.20\.1 is installed"),
    ):
        cuda._without_warp.cache_clear()

        def installed(name, version=version):
            if version is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(importlib.metadata, "version", installed)
        with pytest.warns(UserWarning, match=f"slower pallas executor: .*{message}"):
            assert chosen() == "pallas"
        with pytest.raises(ValueError, match=message):
            evaluate(library.program("network"), synthetic.linear(2, features=4, train=5, valid=5), **INTERPRETED)
    for more in ({"compute_capability": "7.5"}, {"compute_capability": "gfx942", "device_kind": "AMD MI300X"}):
        registry._warn_once.cache_clear()
        gpu(**more)
        with pytest.warns(UserWarning, match=r"slower xla executor: the cuda executor needs an NVIDIA GPU"):
            assert chosen() == "xla"


def test_a_machine_that_cannot_run_it_says_which_it_can():
    program, tasks = library.program("network"), synthetic.linear(2, features=4, train=5, valid=5)
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU.*device here is cpu: use executor='xla' or 'simd'"):
        evaluate(program, tasks, executor="cuda")
    wide = synthetic.linear(1, features=20_000, train=2, valid=2)
    with pytest.raises(
        ValueError, match=r"at 20,000 features .* takes 8,\d+,\d+,\d+ numbers on a task.*use executor='xla'"
    ):
        evaluate(Programs.parse(program.listing(), (5, 9, 20)), wide, max_bytes=2**40, **INTERPRETED)
    with pytest.raises(ValueError, match="no gradients"):
        evaluate(program, tasks, differentiable=True, **INTERPRETED)
    one = layout.program_bytes(program.memory, tasks)
    with pytest.raises(ValueError, match="raise max_bytes"):
        evaluate(program, tasks, max_bytes=one - 1, **INTERPRETED)
