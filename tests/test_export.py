"""Exported code: read as Python, and run beside the executors."""

import numpy as np
import pytest

from tests.spaces import ALL_OPS
from zero_jax import library, random_programs
from zero_jax.use.export import exported
from zero_jax.use.learner import learner


def module(program, to, classes=0):
    names = {}
    exec(compile(exported(program, to, classes), "exported", "exec"), names)
    return names


def trained(program, to, x, y, new, classes=0, seed=3):
    """Predictions, or scores, of exported code for new examples after training."""
    names = module(program, to, classes)
    if to == "numpy":
        model = names["Model"](x.shape[1], seed).fit(x, y)
        return np.array([model.predict_one(row) for row in new])
    state = names["fit"](names["init"](x.shape[1], seed), x, y)
    out = []
    for row in new:
        prediction, state = names["predict_one"](state, row)
        out.append(np.asarray(prediction))
    return np.array(out)


def expected(program, x, y, new, classes=0, seed=3):
    model = learner(program, "accuracy" if classes else "rmse", classes)
    predictions, _ = model.predict_in_turn(model.fit(model.init(seed, x.shape[1]), x, y), new)
    return np.asarray(predictions)


def examples(classes=0, features=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, features)).astype(np.float32)
    y = x[:, 0] - 0.5 * x[:, 1]
    if classes:
        y = np.digitize(y, np.linspace(-1, 1, classes - 1)) if classes > 2 else (y > 0)
    y = np.asarray(y, np.float32)
    return x[:40], y[:40], x[40:]


@pytest.mark.parametrize("to", ["numpy", "jax"])
@pytest.mark.parametrize("name", library.NAMES)
def test_library_programs_predict_as_the_executors_do(name, to):
    program = library.program(name)
    for classes in (3,) if "softmax" in name else (0, 2):
        x, y, new = examples(classes)
        ours = trained(program, to, x, y, new, classes)
        if classes == 3:
            ours = ours[:, :3]
        theirs = expected(program, x, y, new, classes)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize(("to", "n"), [("numpy", 200), ("jax", 12)])
def test_random_programs_predict_as_the_executors_do(to, n):
    programs = random_programs(ALL_OPS, n, np.random.default_rng(2))
    x, y, new = examples()
    wrong = []
    for i in range(n):
        program = programs[i]
        theirs = expected(program, x[:6], y[:6], new[:4])
        ours = trained(program, to, x[:6], y[:6], new[:4])
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=True):
            wrong.append((i, ours, theirs))
    assert len(wrong) <= n * 0.02, wrong
