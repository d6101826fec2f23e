"""Features as lanes of the SIMD executor: the same numbers as with tasks as lanes, but for rounding."""

import numpy as np
import pytest

from zero_jax import Component, Programs, SearchSpace, library, random_programs
from zero_jax.executors.simd import arrays, lanes
from zero_jax.executors.simd.layout import Layout
from zero_jax.program import liveness
from zero_jax.program.canonical import canonical, live
from zero_jax.tasks import Tasks, synthetic

EVERY = tuple(range(1, 65))
RANDOM = SearchSpace((5, 5, 3), Component(EVERY, (6, 6, 6)), Component(EVERY, (5, 5, 5)), Component(EVERY, (6, 6, 6)))
HOT = (1, 2, 3, 16, 18, 23, 25, 27, 28, 31, 39, 48)
FUSING = SearchSpace(
    (5, 5, 2),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET", "MATRIX_CONST_SET", "MATRIX_GAUSSIAN_SET"), (4, 4, 4)),
    Component(HOT, (6, 6, 6)),
    Component(HOT, (8, 8, 8)),
)
SIZES = [(16, 17), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((3, 1), (16, 10), (20, 17), (100, 5)))]


def both(programs, tasks, **more):
    """What either layout says: tasks as lanes, then features."""
    form, features = canonical(programs).programs, tasks.features
    layouts = Layout(features, 0), Layout.with_features(features)
    return [lanes.evaluate(form, arrays.lay_out(tasks, layout), 3, **more) for layout in layouts]


def linear_tasks(features, n_tasks, **more):
    return synthetic.linear(n_tasks, features=features, train=20, valid=10, seed=features, **more)


def assert_near(want, got):
    assert (np.abs(want.fitness - got.fitness) <= 1e-4).mean() >= 0.995
    assert (want.train_steps == got.train_steps).mean() >= 0.995
    assert len(np.unique(want.fitness.round(4))) > 100


@pytest.mark.parametrize(("features", "n_tasks"), SIZES)
def test_random_programs_with_every_op_agree(features, n_tasks):
    programs = random_programs(RANDOM, 2000, np.random.default_rng(features))
    assert_near(*both(programs, linear_tasks(features, n_tasks, epochs=2)))


@pytest.mark.parametrize(("features", "n_tasks"), SIZES)
def test_superinstructions_agree(features, n_tasks):
    programs = random_programs(FUSING, 2000, np.random.default_rng(features))
    assert_near(*both(programs, linear_tasks(features, n_tasks), fuse=True))


@pytest.mark.parametrize("want", ["errors", "memory"])
def test_errors_and_the_memory_that_is_left_agree(want):
    form, rng = canonical(library.program("network")).programs, np.random.default_rng(0)
    shapes = (form.memory.scalars,), (form.memory.vectors, 16), (form.memory.matrices, 16, 16)
    given = [rng.normal(0, 0.1, (18, *shape)).astype(np.float32) for shape in shapes] if want == "memory" else None
    results = [
        lanes.evaluate(form, arrays.lay_out(linear_tasks(16, 18), layout)._replace(memory=given), 0, want=want)
        for layout in (Layout(16, 0), Layout.with_features(16))
    ]
    parts = ([result.errors] if want == "errors" else result.memory for result in results)
    for one, other in zip(*parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        assert len(np.unique(one)) > 10


@pytest.mark.parametrize("features", [16, pytest.param(20, marks=pytest.mark.slow)])
def test_draws_are_equal_to_the_bit_and_a_value_may_replace_its_operand(features):
    text = """
    def Setup():
      s1 = gaussian(0, 1)
      v0 = uniform(-1, 1, n_features)
      v1 = gaussian(0, 1, n_features)
      m0 = uniform(-1, 1, (n_features, n_features))
      m1 = gaussian(0, 1, (n_features, n_features))
    def Predict():
      v1 = dot(m0, v1)
      m0 = transpose(m0)
      m1 = matmul(m0, m1)
    def Learn():
    """
    programs = Programs.parse(text, (2, 3, 2))
    numbered = liveness.number_draws(programs, live(programs))
    memory = tuple(np.zeros((1, 18, *shape), np.float32) for shape in ((2,), (3, features), (2, features, features)))
    drawn, after = [], []
    for layout in (Layout(features, 0), Layout.with_features(features)):
        drawn.append(lanes.execute(numbered, memory, 0, 5, np.arange(18), layout))
        after.append(lanes.execute(numbered, drawn[0], 1, 5, np.arange(18), layout))
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(*after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    (_, vectors, matrices), (_, before_v, before_m) = after[1], drawn[0]
    np.testing.assert_allclose(
        vectors[0, :, 1], np.einsum("trc,tc->tr", before_m[0, :, 0], before_v[0, :, 1]), atol=1e-5
    )
    np.testing.assert_array_equal(matrices[0, :, 0], before_m[0, :, 0].swapaxes(1, 2))


@pytest.mark.parametrize("features", [12, 16, 33])
def test_norms_means_and_deviations_are_those_of_numpy_whatever_fills_registers_up(features):
    text = """
    def Setup():
      v2 = v1 / v1
      v1 = v1 * v2
      m1 = m0 / m0
      m0 = m0 * m1
    def Predict():
      s0 = norm(v1)
      s1 = mean(v1)
      s2 = std(v1)
      s3 = norm(m0)
      s4 = mean(m0)
      s5 = std(m0)
    def Learn():
    """
    rng = np.random.default_rng(features)
    shapes = (6,), (3, features), (2, features, features)
    memory = [rng.normal(3, 2, (1, 5, *shape)).astype(np.float32) for shape in shapes]
    layout, programs = Layout.with_features(features), Programs.parse(text, (6, 3, 2))
    for component in (0, 1):
        memory = lanes.execute(programs, memory, component, 0, np.arange(5), layout)
    vectors, matrices = (np.float64(memory[kind])[0] for kind in (1, 2))
    for t, got in enumerate(memory[0][0]):
        for place, values in ((0, vectors[t, 1]), (3, matrices[t, 0])):
            want = np.sqrt((values**2).sum()), values.mean(), values.std()
            np.testing.assert_allclose(got[place : place + 3], want, rtol=1e-5)


def test_vector_labels_agree():
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(size=(18, 5, 16)) * 2, rng.integers(0, 5, (18, 40))
    x = centres[np.arange(18)[:, None], labels] + rng.normal(size=(18, 40, 16))
    tasks = Tasks(x[:, :30], labels[:, :30], x[:, 30:], labels[:, 30:], loss="accuracy", classes=5, epochs=3)
    program = library.program("softmax_network")
    form = canonical(program, None, arrays.lay_out(tasks).interface(program.memory)).programs
    want, got = (
        lanes.evaluate(form, arrays.lay_out(tasks, layout), 0, want="errors")
        for layout in (Layout(16, 0), Layout.with_features(16))
    )
    np.testing.assert_allclose(got.fitness, want.fitness, atol=0.11)
    np.testing.assert_allclose(got.errors, want.errors, atol=1e-3)
    assert want.fitness.mean() > 0.7


def test_a_task_has_the_same_fitness_beside_any_others_and_on_any_thread():
    programs = canonical(random_programs(RANDOM, 200, np.random.default_rng(0))).programs
    tasks = linear_tasks(16, 35)

    def evaluated(some, **more):
        return lanes.evaluate(programs, arrays.lay_out(tasks[some], Layout.with_features(16)), 2, **more)

    whole = evaluated(list(range(35)), threads=1)
    for some in ([0], [34, 3], list(range(17, 33)), list(range(1, 35))):
        part = evaluated(some, threads=3)
        np.testing.assert_array_equal(part.fitness, whole.fitness[:, some])
        np.testing.assert_array_equal(part.train_steps, whole.train_steps[:, some])


def test_fingerprints_are_equal_for_equal_errors_alone():
    text = "def Setup():\n s2 = {}\ndef Predict():\n s1 = s2 * s2\ndef Learn():"
    lists = [Programs.parse(text.format(c), (3, 1, 0)).to_lists()[0] for c in (0.5, -0.5, 0.25)]
    laid_out = arrays.lay_out(linear_tasks(16, 20), Layout.with_features(16))
    form = canonical(Programs.from_lists(lists, (3, 1, 0))).programs
    prints = lanes.evaluate(form, laid_out, 0, want="fingerprints").fingerprints
    np.testing.assert_array_equal(prints[0], prints[1])
    assert (prints[0] != prints[2]).all()


@pytest.mark.parametrize("features", [1, 12, 16, 33, 64])
@pytest.mark.parametrize("n_tasks", [1, 16, 19])
def test_memory_comes_out_of_lanes_as_it_went_in(features, n_tasks):
    rng = np.random.default_rng(features)
    values = [rng.normal(size=(n_tasks, *s)).astype(np.float32) for s in ((3,), (2, features), (2, features, features))]
    for layout in (Layout(features, 0), Layout.with_features(features)):
        laid_out = arrays.aligned((-(-n_tasks // 16), sum(np.multiply((3, 2, 2), layout.value_numbers())) + 5, 16))
        arrays.into_lanes(values, layout, laid_out)
        for before, after in zip(values, arrays.out_of_lanes(laid_out, values, layout), strict=True):
            np.testing.assert_array_equal(before, after)


def test_features_are_lanes_where_that_leaves_fewer_to_compute():
    assert [Layout.of(f, 10).registers for f in (4, 11, 12, 16, 17, 32, 64, 65, 784)] == [0, 0, 0, 1, 0, 2, 4, 0, 49]
    assert [Layout.of(16, tasks).registers for tasks in (1, 12, 13, 16, 20, 28, 45)] == [1, 1, 0, 0, 1, 0, 0]
