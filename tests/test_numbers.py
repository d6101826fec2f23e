"""What numbers mean on every executor: deviations of equal values, and subnormal numbers."""

import numpy as np
import pytest

from zero_jax import Programs, evaluate, execute
from zero_jax.executors.registry import EXECUTORS
from zero_jax.program.ops import OPS
from zero_jax.tasks import synthetic

pytestmark = pytest.mark.optimized
TINY = np.finfo(np.float32).tiny
SUBNORMAL = np.float32(TINY / 10)


def ran(program, memory, executor):
    after = execute(program, memory, "predict", executor, interpret=EXECUTORS[executor].interprets)
    return [np.asarray(part) for part in after]


# ---------------------------------------------------------------------------------------------- std


DEVIATIONS = Programs.parse("def Predict():\n s1 = std(v0)\n s2 = std(m0)\n v1 = std(m0, axis=1)", (3, 2, 1))


def deviations(values, executor):
    """`[n, 2 + F]` of matrices `[n, F, F]`, and of their first rows."""
    n, features, _ = values.shape
    vectors = np.zeros((1, n, 2, features), np.float32)
    vectors[0, :, 0] = values[:, 0]
    scalars, vectors, _ = ran(DEVIATIONS, (np.zeros((1, n, 3)), vectors, values[None, :, None]), executor)
    return np.concatenate([scalars[0, :, 1:], vectors[0, :, 1]], -1)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("features", [2, *(pytest.param(f, marks=pytest.mark.slow) for f in (3, 4, 5, 16, 20))])
def test_equal_values_deviate_by_exactly_0(executor, features):
    rng = np.random.default_rng(features)
    value = (rng.normal(size=(64, 1, 1)) * 10.0 ** rng.uniform(-30, 30, (64, 1, 1))).astype(np.float32)
    np.testing.assert_array_equal(deviations(value + np.zeros((features, features), np.float32), executor), 0)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_deviations_are_exact_far_from_0_and_nan_and_infinity_stay_nan(executor):
    values = np.random.default_rng(0).normal(1000, 0.01, (20, 5, 5)).astype(np.float32)
    exact = values.astype(np.float64)
    want = np.concatenate([exact[:, 0].std(-1)[:, None], exact.std((1, 2))[:, None], exact.std(2)], -1)
    np.testing.assert_allclose(deviations(values, executor), want, rtol=1e-3)
    for wrong in (np.nan, np.inf, -np.inf):
        for place in ((0, 0), (0, 3), (2, 1)):
            spoilt = values[:1].copy()
            spoilt[0][place] = wrong
            got = deviations(spoilt, executor)[0]
            assert np.isnan(got[[1, 2 + place[0]]]).all()
            assert np.isnan(got[0]) == (place[0] == 0)


# ---------------------------------------------------------------------------------------------- subnormal numbers


SQUARED = "def Predict():\n s2 = {}\n s3 = s2 * s2\n s1 = s3 / s3"
CONSTANT = "def Predict():\n s2 = {}\n s1 = s2 / s2"


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(("text", "normal", "subnormal"), [(SQUARED, 2e-19, 1e-19), (CONSTANT, 2e-38, 1e-38)])
def test_subnormal_numbers_are_zero_in_arithmetic(executor, text, normal, subnormal):
    tasks = synthetic.linear(3, features=4, train=5, valid=5)
    steps = [
        np.asarray(
            evaluate(
                Programs.parse(text.format(value)), tasks, executor=executor, interpret=EXECUTORS[executor].interprets
            )[1]
        )
        for value in (normal, subnormal)
    ]
    np.testing.assert_array_equal(steps[0], 5)  # 1 is predicted
    np.testing.assert_array_equal(steps[1], 1)  # 0 / 0 is NaN, which stops a run


@pytest.mark.slow
@pytest.mark.parametrize("op", [op for op in OPS if op.output and not op.random], ids=lambda op: op.name)
def test_executors_treat_subnormal_numbers_the_same_in_every_op(op):
    rng, program = np.random.default_rng(0), Programs.from_lists([[[], [[op.number, 1, 2, 1]], []]], (3, 3, 3))
    choices = np.array([0, -0.0, SUBNORMAL, -SUBNORMAL, TINY, 1e-20, 2], np.float32)
    memory = [rng.choice(choices, size=(1, 40, 3, *shape)) for shape in ((), (4,), (4, 4))]
    plain, lanes = (ran(program, memory, executor)["svm".index(op.output)][0, :, 1] for executor in ("xla", "simd"))
    # What only moves a number may leave it as it is.
    plain, lanes = (np.where(np.abs(x) < TINY, 0, x) for x in (plain, lanes))
    np.testing.assert_allclose(lanes, plain, rtol=1e-5, atol=1e-36)


def test_arithmetic_outside_keeps_subnormal_numbers():
    def here():
        return float(np.full(8, TINY, np.float32).__truediv__(np.float32(10))[0])

    before, program = here(), Programs.parse(CONSTANT.format(1.0))
    evaluate(program, synthetic.linear(1, features=4, train=5, valid=5), executor="simd", threads=1)
    ran(program, (np.zeros((1, 1, 3)), np.zeros((1, 1, 1, 4)), np.zeros((1, 1, 0, 4, 4))), "simd")
    assert here() == before > 0
