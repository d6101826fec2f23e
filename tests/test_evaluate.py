"""`evaluate` and `execute`: right, pure, and independent of batch, chunk and neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests import oracle
from tests.spaces import ALL_OPS, DEMO, SMALL
from zero_jax import Memory, Programs, Tasks, evaluate, execute, library, random_programs
from zero_jax.executors import dispatch, stream
from zero_jax.executors.base import Options, Request
from zero_jax.executors.batches import in_chunks
from zero_jax.executors.blocks import Plan, evaluate_blocks
from zero_jax.executors.registry import EXECUTORS
from zero_jax.executors.xla.executor import block_width
from zero_jax.program import ops as op_table
from zero_jax.tasks import synthetic

PLAIN = {"xla_backend_optimization_level": 0}
"""For LLVM, which decides neither how much memory is taken nor whether slopes are right, and takes half of the time."""


def small_tasks(loss="rmse", epochs=1, features=4, n=2, train=12, valid=6, ids=None):
    rng = np.random.default_rng(7)
    x, v = rng.normal(size=(n, train, features)), rng.normal(size=(n, valid, features))
    w = rng.normal(size=(n, features))
    y, z = np.einsum("tnf,tf->tn", x, w), np.einsum("tnf,tf->tn", v, w)
    if loss == "accuracy":
        y, z = y > 0, z > 0
    return Tasks(x, y, v, z, loss=loss, epochs=epochs, ids=ids)


def program_bytes(memory, tasks):
    return EXECUTORS["xla"].bytes(Request(memory, tasks, Options(ops=ALL_OPS.ops)))


def fitness(*args, **kwargs):
    return np.asarray(evaluate(*args, **kwargs).fitness)


def ops_of(programs):
    """Those in use in each component: XLA compiles a branch for each, and gradients several."""
    return tuple(set(part[..., 0].ravel()) for part in np.split(programs.code, programs.starts[1:3], 1))


# ---------------------------------------------------------------------------------------------- right


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "epochs", "features"), [("rmse", 1, 4), ("accuracy", 1, 3), ("rmse", 3, 1), ("accuracy", 3, 5)]
)
def test_random_programs_with_every_op_agree_with_the_oracle(loss, epochs, features):
    programs = random_programs(ALL_OPS, 60, np.random.default_rng(epochs))
    extra = [library.program(name, ALL_OPS.memory, (8, 10, 12)) for name in ("linear",)]
    tasks = small_tasks(loss, epochs, features, ids=[5, 1000])
    lists = programs.to_lists() + extra[0].to_lists()
    both = Programs.from_lists(lists, ALL_OPS.memory, ALL_OPS.capacity)
    got = evaluate(both, tasks, seed=123)
    want = np.array(
        [
            [
                oracle.evaluate(
                    program, ALL_OPS.memory, tasks.train_x[t], tasks.train_y[t], tasks.valid_x[t], tasks.valid_y[t],
                    tasks.order, loss, 123, int(tasks.ids[t]),
                )
                for t in range(len(tasks))
            ]
            for program in lists
        ]
    )  # fmt: skip
    close = np.abs(np.asarray(got.fitness) - want[..., 0]) < 1e-4
    same = np.asarray(got.train_steps) == want[..., 1]
    # Programs that amplify rounding may differ; they are few.
    assert close.mean() >= 0.97
    assert same.mean() >= 0.97
    assert len(np.unique(want[..., 0].round(4))) > 5


def test_uniform_draws_are_the_oracles_to_the_bit_and_gaussian_ones_nearly():
    ids = np.array([0, 3, 123456], np.int32)
    for shape in ((), (5,), (3, 3)):
        number = stream.draw_number(2, jnp.int32(777), jnp.int32(4))
        got = np.stack(stream.draws(shape, stream.seed_bits(2**40 + 9), jnp.asarray(ids), number))
        for t, task in enumerate(ids):
            want = oracle.uniforms(shape, 9, int(task), 777 << 10 | 4 << 2 | 2)
            np.testing.assert_array_equal(got[:, t], want)
    source = "def Setup():\n  m0 = gaussian(0.5, 2)\n  v1 = gaussian(-1, 0)\n  s2 = uniform(3, -3)\ndef Predict():\n  s1 = norm(m0)\n  s1 = dot(v1, v0)\n  s1 = s1 + s2\ndef Learn():"
    programs = Programs.parse(source, memory=(3, 2, 1))
    empty = np.zeros((1, 2, 3)), np.zeros((1, 2, 2, 16)), np.zeros((1, 2, 1, 16, 16))
    after = execute(programs, empty, "setup", seed=4, ids=[0, 9])
    assert np.all(np.asarray(after.vectors)[:, :, 1] == -1)
    assert np.all(np.asarray(after.scalars)[..., 2] == 3)  # the first bound is the greater one
    # m0 is dead, so it draws behind the two live ones of Setup.
    u, w = oracle.uniforms((16, 16), 4, 9, 2 << 2)
    want = 0.5 + 2 * np.sqrt(-2 * np.log(1 - u.astype(np.float64))) * np.cos(2 * np.pi * w.astype(np.float64))
    np.testing.assert_allclose(np.asarray(after.matrices)[0, 1, 0], want, atol=1e-5)


def test_draws_have_their_distributions():
    u, w = stream.draws((64, 64), jnp.uint32(1), jnp.arange(8), jnp.uint32(5))
    for sample in (np.asarray(u).ravel(), np.asarray(w).ravel()):
        assert sample.min() >= 0
        assert sample.max() < 1
        counts, _ = np.histogram(sample, 64, (0, 1))
        expected = sample.size / 64
        assert ((counts - expected) ** 2 / expected).sum() < 120  # chi-square with 63 degrees: 1e-5
    assert abs(np.corrcoef(np.asarray(u).ravel(), np.asarray(w).ravel())[0, 1]) < 0.02


def test_dead_code_and_no_ops_do_not_move_the_random_stream():
    plain = "def Setup():\n v1 = gaussian(0, 1)\ndef Predict():\n s1 = dot(v1, v0)\ndef Learn():\n v1 = uniform(0, 1)"
    padded = (
        "def Setup():\n NoOp()\n v2 = gaussian(0, 1)\n v1 = gaussian(0, 1)\ndef Predict():\n s2 = gaussian(0, 1)\n"
        " s1 = dot(v1, v0)\ndef Learn():\n v1 = uniform(0, 3)\n v1 = uniform(0, 1)\n v2 = uniform(0, 1)"
    )
    tasks = small_tasks()
    memory, capacity = (3, 3, 0), (3, 2, 3)
    first, second = (Programs.parse(text, memory, capacity) for text in (plain, padded))
    np.testing.assert_array_equal(fitness(first, tasks, 3), fitness(second, tasks, 3))
    assert not np.array_equal(fitness(first, tasks, 3), fitness(first, tasks, 4))


def test_known_programs_learn():
    tasks = synthetic.linear(5, features=4, train=1000)
    assert fitness(library.program("linear"), tasks).min() > 0.999
    teacher = synthetic.teacher(5, features=8, train=4000)
    network = fitness(library.program("network"), teacher).mean()
    assert network > fitness(library.program("linear"), teacher).mean() + 0.05


def test_a_run_stops_at_a_large_error_and_counts_the_stopping_example():
    program = Programs.parse(
        "def Setup():\ndef Predict():\n  s1 = s2 / s3\ndef Learn():\n  s2 = s0 * s0\n  s3 = 1 / s0", (4, 1, 0)
    )
    y = np.array([[1.0, 3.0, 6.0, 1.0, 1.0]])
    x = np.zeros((1, 5, 1))
    # The first prediction is 0 / 0.
    result = evaluate(program, Tasks(x, y, x, y))
    assert result.fitness.tolist() == [[0.0]]
    assert result.train_steps.tolist() == [[1]]
    cube = Programs.parse("def Setup():\ndef Predict():\n  s1 = s2 * s2\ndef Learn():\n  s2 = s0 * s0", (4, 1, 0))
    result = evaluate(cube, Tasks(x, y, x, np.zeros((1, 5))))
    assert result.train_steps.tolist() == [[4]]  # 6^4 - 1 > 100
    assert evaluate(cube, Tasks(x, y, x, np.zeros((1, 5))), max_abs_error=1e9).train_steps.tolist() == [[5]]


def test_a_stop_in_a_later_epoch_keeps_the_best_so_far():
    counter = Programs.parse(
        "def Setup():\n  s2 = 10\ndef Predict():\n  s1 = s1 + s3\ndef Learn():\n  s3 = s3 + s2", (4, 1, 0)
    )
    x, y = np.zeros((1, 2, 1)), np.zeros((1, 2))
    one, three = (evaluate(counter, Tasks(x, y, x, y, epochs=e)) for e in (1, 3))
    assert one.fitness[0, 0] > 0
    assert three.fitness.tolist() == one.fitness.tolist()
    assert three.train_steps[0, 0] < 6


# ---------------------------------------------------------------------------------------------- pure and independent


def test_neighbours_batches_and_chunks_change_no_bit():
    programs = random_programs(ALL_OPS, 300, np.random.default_rng(0))
    poison = Programs.parse(
        "def Setup():\n  s2 = log(s3)\n  s3 = 0.0\ndef Predict():\n  s1 = s2 / s3\ndef Learn():",
        ALL_OPS.memory,
        ALL_OPS.capacity,
    )
    tasks = small_tasks()
    ops = range(65)
    whole = fitness(programs, tasks, ops=ops)
    assert (whole == 0).any()
    for index in (slice(100, 101), slice(17, 160), np.arange(300)[::-1]):
        np.testing.assert_array_equal(fitness(programs[index], tasks, ops=ops), whole[index])
    for chunk_size in (1, 40, 128, 10_000):
        np.testing.assert_array_equal(fitness(programs, tasks, ops=ops, chunk_size=chunk_size), whole)
    mixed = Programs.from_lists([*poison.to_lists(), *programs[:9].to_lists()], ALL_OPS.memory, ALL_OPS.capacity)
    np.testing.assert_array_equal(fitness(mixed, tasks, ops=ops)[1:], whole[:9])


@pytest.mark.slow
def test_tasks_do_not_depend_on_each_other():
    programs = random_programs(ALL_OPS, 40, np.random.default_rng(1))
    tasks = small_tasks(n=3)
    alone = np.concatenate([fitness(programs, tasks[i : i + 1]) for i in range(3)], 1)
    np.testing.assert_allclose(fitness(programs, tasks), alone, atol=1e-4)


def test_restricting_the_dispatcher_changes_nothing():
    programs = random_programs(DEMO, 20, np.random.default_rng(0))
    tasks = small_tasks()
    want = fitness(programs, tasks, ops=DEMO.ops)
    np.testing.assert_allclose(fitness(programs, tasks, ops=range(65)), want, atol=1e-6)
    np.testing.assert_allclose(fitness(programs, tasks), want, atol=1e-6)


def test_it_works_under_jit_vmap_and_scan():
    programs = random_programs(SMALL, 10, np.random.default_rng(0))
    noisy = Programs.parse(
        "def Setup():\n v1 = gaussian(0, 1)\ndef Predict():\n s1 = dot(v1, v0)\ndef Learn():", (4, 3, 1)
    )
    tasks = small_tasks()
    want = fitness(programs, tasks, ops=SMALL.ops)
    jitted = jax.jit(lambda p, t, s: evaluate(p, t, s, ops=SMALL.ops).fitness)
    np.testing.assert_allclose(jitted(programs, tasks, 0), want, atol=1e-6)

    seeds = jnp.arange(3)
    direct = np.stack([fitness(noisy, tasks, int(s)) for s in seeds])
    vmapped = jax.vmap(lambda s: evaluate(noisy, tasks, s, ops=((63,), (27,), ())).fitness)(seeds)
    np.testing.assert_allclose(vmapped, direct, atol=1e-6)
    assert len(np.unique(direct[:, 0, 0])) == 3
    scanned = jax.lax.scan(lambda c, s: (c, evaluate(noisy, tasks, s, ops=((63,), (27,), ())).fitness), 0, seeds)[1]
    np.testing.assert_allclose(scanned, direct, atol=1e-6)

    stacked = jax.tree.map(lambda a: np.stack([a[:5], a[5:]]), programs)
    halves = jax.vmap(lambda p: evaluate(p, tasks, ops=SMALL.ops).fitness)(stacked)
    np.testing.assert_allclose(np.concatenate(halves), want, atol=1e-6)


@pytest.mark.parametrize(
    "executor", ["xla", *(pytest.param(name, marks=pytest.mark.slow) for name in ("simd", "pallas"))]
)
def test_it_works_sharded_over_devices(executor):
    programs = random_programs(SMALL, 1000, np.random.default_rng(0))
    tasks = small_tasks()
    mesh, spec = Mesh(np.array(jax.devices()), ("programs",)), PartitionSpec("programs")

    def call(programs):
        return evaluate(programs, tasks, 3, ops=SMALL.ops, executor=executor, interpret=executor == "pallas")

    sharded = jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    want = call(programs)
    assert len(jax.devices()) == 8
    spread = jax.device_put(programs, NamedSharding(mesh, spec))
    for got in (jax.jit(sharded)(programs), jax.jit(sharded)(spread), jax.jit(call)(spread)):
        np.testing.assert_array_equal(got.fitness, want.fitness)
        np.testing.assert_array_equal(got.train_steps, want.train_steps)


def test_the_default_device_is_used():
    programs = random_programs(DEMO, 64, np.random.default_rng(0))
    tasks = small_tasks()
    want = fitness(programs, tasks, ops=DEMO.ops)
    with jax.default_device(jax.devices()[3]):
        result = evaluate(programs[np.arange(2000) % 64], tasks, ops=DEMO.ops).fitness
    np.testing.assert_array_equal(np.asarray(result)[:64], want)
    assert result.devices() == {jax.devices()[3]}


@pytest.mark.slow
def test_traced_programs_dispatch_every_op_by_default():
    programs = random_programs(ALL_OPS, 5, np.random.default_rng(3))
    tasks = small_tasks(train=4, valid=2)
    jitted = jax.jit(lambda p: evaluate(p, tasks).fitness)(programs)
    np.testing.assert_allclose(jitted, fitness(programs, tasks, ops=range(65)), atol=1e-5)


@pytest.mark.slow
def test_programs_of_many_features_run_one_by_one_and_agree_with_simd():
    programs = random_programs(ALL_OPS, 60, np.random.default_rng(2))
    tasks = small_tasks(epochs=2, features=64, n=3, train=6, valid=3)
    assert block_width(program_bytes(ALL_OPS.memory, tasks)) == 1
    want, got = (evaluate(programs, tasks, 9, executor=executor) for executor in ("simd", "xla"))
    assert (np.abs(np.asarray(want.fitness) - np.asarray(got.fitness)) <= 1e-4).mean() >= 0.98
    assert (np.asarray(want.train_steps) == np.asarray(got.train_steps)).mean() >= 0.98
    assert len(np.unique(np.asarray(want.fitness).round(3))) > 10


@pytest.mark.slow
def test_xla_lowers_for_tpus():
    programs = random_programs(ALL_OPS, 10, np.random.default_rng(0))
    tasks = small_tasks()
    exported = export.export(jax.jit(lambda p, t: tuple(evaluate(p, t, executor="xla"))), platforms=["tpu"])(
        programs, tasks
    )
    assert exported.platforms == ("tpu",)
    assert [(out.shape, out.dtype) for out in exported.out_avals] == [((10, 2), np.float32), ((10, 2), np.int32)]


@pytest.mark.slow
def test_arguments_closed_over_may_be_concrete_under_jit_and_scan():
    programs, tasks = random_programs(SMALL, 5, np.random.default_rng(0)), small_tasks(n=2)
    want = evaluate(programs, tasks, executor="xla").fitness
    for call in (
        jax.jit(lambda c: c * evaluate(programs, tasks).fitness),
        lambda c: jax.lax.scan(lambda c, _: (c, evaluate(programs, tasks).fitness), c, None, length=2)[1][1],
    ):
        np.testing.assert_allclose(call(1.0), want, atol=1e-6)


def test_no_programs_give_no_fitness():
    programs = random_programs(DEMO, 3, np.random.default_rng(0))[:0]
    assert evaluate(programs, small_tasks(n=2)).fitness.shape == (0, 2)


def test_memory_is_bounded_whatever_the_population():
    tasks = small_tasks()
    programs = random_programs(ALL_OPS, 64, np.random.default_rng(0))
    need = program_bytes(ALL_OPS.memory, tasks)
    tight = fitness(programs, tasks, ops=range(65), max_bytes=5 * need)
    np.testing.assert_allclose(tight, fitness(programs, tasks, ops=range(65)), atol=1e-4)
    with pytest.raises(ValueError, match="raise max_bytes"):
        evaluate(programs, tasks, max_bytes=need // 2)


@pytest.mark.slow
@pytest.mark.parametrize(("features", "n"), [(4, 10), (16, 4)])
def test_the_compiler_agrees_that_a_block_keeps_to_the_estimate(features, n):
    tasks = small_tasks(features=features, n=n)
    programs = random_programs(ALL_OPS, 8, np.random.default_rng(0))
    need = program_bytes(programs.memory, tasks)
    width = block_width(need)
    (blocks,) = in_chunks(programs, width, 1)
    compiled = evaluate_blocks.lower(
        blocks,
        tasks,
        jnp.uint32(0),
        jnp.float32(100),
        plan=Plan(EXECUTORS["xla"].kernel(), dispatch.op_sets(None, programs.memory)),
    ).compile(PLAIN)
    used = compiled.memory_analysis().temp_size_in_bytes
    assert used <= width * need + 2**20


@pytest.mark.slow
def test_gradients_keep_to_the_memory_bound_whatever_the_population():
    tasks = small_tasks(features=8, train=100)
    programs = library.program("network")[np.zeros(300, int)]
    bound = 4 * 2**20

    def total(data):
        changed = programs.with_arrays(programs.code, data, programs.length)
        return evaluate(changed, tasks, ops=ops_of(programs), max_bytes=bound, differentiable=True).fitness.sum()

    compiled = jax.jit(jax.grad(total)).lower(programs.data).compile(PLAIN)
    assert compiled.memory_analysis().temp_size_in_bytes <= bound + 2**20


# ---------------------------------------------------------------------------------------------- gradients


SMOOTH = """
def Setup():
  s3 = 0.01
  s2 = 0.99
  m0 = gaussian(0.1, 0.3)
  v2 = uniform(-0.5, 0.5)
def Predict():
  v3 = dot(m0, v0)
  v4 = v3 * v3
  s1 = dot(v4, v2)
  s1 = sin(s1)
  s5 = std(v3)
  s1 = s1 + s5
  s6 = norm(m0)
  s1 = s1 / s6
def Learn():
  s4 = s0 - s1
  s4 = s3 * s4
  v6 = s4 * v4
  v2 = v2 + v6
  m1 = outer(v6, v0)
  m0 = m0 + m1
  s3 = s3 * s2
"""


@pytest.mark.slow
def test_gradients_match_finite_differences():
    linear = library.program("linear").to_lists()
    programs = Programs.from_lists(linear + Programs.parse(SMOOTH).to_lists(), (7, 7, 2))
    tasks = synthetic.teacher(2, features=4, train=30, valid=20, epochs=2)

    def total(data):
        changed = programs.with_arrays(programs.code, data, programs.length)
        return evaluate(changed, tasks, 1, ops=ops_of(programs), differentiable=True).fitness.sum()

    def plain(data):
        return fitness(programs.with_arrays(programs.code, data, programs.length), tasks, 1).astype(float).sum()

    value, gradient = jax.jit(jax.value_and_grad(total), compiler_options=PLAIN)(jnp.asarray(programs.data))
    np.testing.assert_allclose(value, plain(programs.data), rtol=1e-5)
    #           learning rates             decay      mean       stdev      bounds
    for where in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 2, 1), (1, 3, 0), (1, 3, 1)):
        step = np.zeros_like(programs.data)
        step[where] = 1e-3 * max(0.1, abs(programs.data[where]))
        numeric = (plain(programs.data + step) - plain(programs.data - step)) / (2 * step[where])
        assert abs(numeric) > 1e-3
        np.testing.assert_allclose(gradient[where], numeric, rtol=0.01, atol=1e-3)


@pytest.mark.slow
def test_gradients_are_finite_beside_runs_that_stop_and_infinite_slopes():
    texts = [
        "def Setup():\n  s2 = 0.5\ndef Predict():\n  s1 = s2 / s3\ndef Learn():",
        "def Setup():\n  s2 = 0.5\n  s3 = 0.1\ndef Predict():\n  s1 = s2 / s3\ndef Learn():\n  s3 = s3 * s2",
        "def Setup():\n  s2 = 0.5\ndef Predict():\n  s1 = s2 * s2\ndef Learn():\n  s3 = arcsin(s2)",
    ]
    programs = Programs.from_lists([Programs.parse(t).to_lists()[0] for t in texts], (4, 1, 0), (2, 1, 1))
    tasks, ops = small_tasks(), ((56,), (3, 4, 10, 11, 14), (3, 4, 10, 11, 14))

    def total(data):
        changed = programs.with_arrays(programs.code, data, programs.length)
        return evaluate(changed, tasks, ops=ops, differentiable=True).fitness.sum()

    gradient = np.asarray(jax.grad(total)(jnp.asarray(programs.data)))
    assert np.isfinite(gradient).all()
    assert not gradient[0].any()  # it divides by zero at once
    assert gradient[2, 0, 0] != 0
    with pytest.raises(ValueError, match="rmse"):
        evaluate(programs, small_tasks("accuracy"), differentiable=True)


# ---------------------------------------------------------------------------------------------- execute, bad input


def test_execute_runs_one_component_and_nothing_else():
    programs = library.program("linear")
    memory = np.zeros((1, 3, 4)), np.ones((1, 3, 3, 2)), np.zeros((1, 3, 0, 2, 2))
    after = execute(programs, memory, "setup")
    assert isinstance(after, Memory)
    np.testing.assert_array_equal(np.asarray(after.scalars)[0, :, 2], np.float32(0.01))
    np.testing.assert_array_equal(after.vectors, memory[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"executor": "gpu"}, "executor must be one of auto, xla, .*, not 'gpu'"),
        ({"ops": [27]}, r"setup uses ops \[56\].* does not cover"),
        ({"ops": [99]}, "0 to 64"),
        ({"ops": 5}, "ops must be op names or numbers"),
        ({"ops": "SCALAR_SUM"}, "ops must be op names or numbers"),
        ({"ops": ["SCALAR_SUMM"]}, "unknown op 'SCALAR_SUMM'; did you mean 'SCALAR_SUM'"),
        ({"ops": [1, (2,)]}, "0 to 64"),
        ({"seed": "a"}, "seed must be one whole number"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(library.program("linear"), small_tasks(), **change)


def test_ops_may_be_named():
    program, tasks = library.program("linear"), small_tasks()
    parts = np.split(program.code[0, :, 0], program.starts[1:3])
    numbers = [np.unique(part[part > 0]).tolist() for part in parts]
    names = [[op_table.OPS[n].name for n in part] for part in numbers]
    expected = evaluate(program, tasks).fitness
    for ops in (names, numbers, {*names[0], *names[1], *names[2]}, [names[0], numbers[1], names[2]]):
        np.testing.assert_array_equal(evaluate(program, tasks, ops=ops).fitness, expected)
    with pytest.raises(ValueError, match=r"setup uses ops .* does not cover"):
        evaluate(program, tasks, ops=["VECTOR_INNER_PRODUCT"])


def test_execute_names_what_does_not_fit():
    programs = library.program("linear")
    with pytest.raises(ValueError, match="scalars has shape"):
        execute(programs, (np.zeros((1, 1, 9)), np.zeros((1, 1, 3, 2)), np.zeros((1, 1, 0, 2, 2))))
    with pytest.raises(ValueError, match="component must be one of setup, predict, learn"):
        execute(programs, (np.zeros((1, 1, 4)), np.zeros((1, 1, 3, 2)), np.zeros((1, 1, 0, 2, 2))), "train")


@pytest.mark.parametrize("executor", ["xla", "simd"])
def test_a_program_without_any_slot_predicts_0(executor):
    program = Programs.from_lists([[[], [], []]], memory=(4, 3, 1))
    y = np.full((1, 5), 2.0)
    result = evaluate(program, Tasks(np.ones((1, 5, 2)), y, np.ones((1, 5, 2)), y), executor=executor)
    np.testing.assert_allclose(result.fitness, 1 - 2 / np.pi * np.arctan(2), rtol=1e-6)
