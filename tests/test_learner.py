"""A program as JAX functions: the numbers of `evaluate`, and what JAX can do with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.spaces import ALL_OPS
from zero_jax import Programs, evaluate, library, random_programs
from zero_jax.executors.fitness import rmse_fitness
from zero_jax.tasks import Tasks, arrays, synthetic
from zero_jax.use.learner import learner

LINEAR = library.program("linear", learning_rate=0.05)


def fitness(model, tasks, seed):
    """`[T]`, as `evaluate` computes it, from the learner's functions."""
    return np.array([_fitness(model, tasks, seed, t) for t in range(len(tasks))])


def _fitness(model, tasks, seed, t):
    state = model.init(seed, tasks.features, task=tasks.ids[t])
    best = 0.0
    for order in np.asarray(tasks.order):
        state = model.fit(state, tasks.train_x[t], tasks.train_y[t], order=order[None])
        predictions, state = model.predict_in_turn(state, tasks.valid_x[t])
        predictions, labels = np.asarray(predictions), np.asarray(tasks.valid_y[t])
        if tasks.loss == "rmse":
            best = max(best, float(rmse_fitness(jnp.mean((predictions - labels) ** 2))))
        else:
            chosen = predictions.argmax(1) if tasks.vector_labels else predictions > 0.5
            best = max(best, float((chosen == labels).mean()))
    return best


# ---------------------------------------------------------------------------------------------- the numbers of evaluate


@pytest.mark.parametrize("epochs", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", ["linear", "network", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_it_learns_as_evaluate_does(name, epochs):
    program = library.program(name)
    for tasks in (
        synthetic.teacher(2, features=4, train=60, valid=20, epochs=epochs),
        arrays.digits([(3, 8)], train=60, valid=20, epochs=epochs),
    ):
        expected = evaluate(program, tasks, seed=5).fitness[0]
        found = np.where(expected > 0, fitness(learner(program, tasks.loss), tasks, 5), 0)  # others were stopped
        np.testing.assert_allclose(found, expected, atol=1e-5 if tasks.loss == "rmse" else 0.051)


@pytest.mark.parametrize("name", ["softmax_linear", "softmax_network"])
def test_it_learns_several_classes(name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)), rng.integers(0, 3, 200)
    x[:, 0] += 2 * y
    tasks = Tasks.stack([(x[:150], y[:150], x[150:], y[150:])], "accuracy", 1, seed=0, classes=3)
    program = library.program(name, learning_rate=0.05)
    expected = evaluate(program, tasks, seed=3).fitness[0]
    np.testing.assert_allclose(fitness(learner(program, "accuracy", 3), tasks, 3), expected, atol=0.021)
    assert expected > 0.5


@pytest.mark.slow
def test_random_programs_of_all_ops_do_as_evaluate_does():
    tasks = synthetic.teacher(1, features=4, train=12, valid=6)
    programs = random_programs(ALL_OPS, 120, np.random.default_rng(1))
    expected = evaluate(programs, tasks, seed=9).fitness[:, 0]
    rows = np.flatnonzero(expected > 0)[:40]
    assert len(rows) > 25
    found = [fitness(learner(programs[int(row)]), tasks, 9)[0] for row in rows]
    close = np.isclose(found, expected[rows], atol=1e-4)
    assert close.mean() >= 0.97, rows[~close]


def test_predictions_of_many_are_those_of_each():
    model = learner(LINEAR, "accuracy")
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    state = model.fit(model.init(0, 3), x, (x[:, 0] > 0).astype(float), epochs=3)
    together = model.predict(state, x)
    assert together.shape == (50,)
    assert ((together > 0) & (together < 1)).all()
    np.testing.assert_allclose(together, [model.predict(state, one) for one in x], rtol=1e-6)
    assert ((together > 0.5) == (x[:, 0] > 0)).mean() > 0.9


# ---------------------------------------------------------------------------------------------- what JAX can do with it


@pytest.mark.slow
def test_it_jits_maps_over_seeds_and_data_and_has_gradients_of_constants():
    model = learner(LINEAR)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 30, 3)), jnp.float32)
    y = x @ jnp.array([1.0, -2.0, 0.5])

    def loss(constants, x, y):
        state = model.fit(model.init(0, 3, constants), x[:20], y[:20])
        return jnp.mean((model.predict(state, x[20:]) - y[20:]) ** 2)

    each = jax.jit(jax.vmap(loss, (None, 0, 0)))(model.constants, x, y)
    assert each.shape == (4,)
    slope = jax.jit(jax.grad(loss))(model.constants, x[0], y[0])
    (rate,) = np.asarray(slope[0])[:, 0]

    def at(value):
        setup = np.array(model.constants[0])
        setup[0, 0] = value
        return float(loss((setup, *model.constants[1:]), x[0], y[0]))

    assert rate == pytest.approx((at(0.0505) - at(0.0495)) / 0.001, rel=1e-2)
    network = learner(library.program("network"))
    states = jax.vmap(lambda key: network.init(key, 3))(jax.random.split(jax.random.key(0), 5))
    assert states.memory["m0"].shape == (5, 3, 3)
    assert len(np.unique(np.asarray(states.memory["m0"])[:, 0, 0])) == 5


def test_a_state_goes_on_where_it_was():
    model = learner(library.program("network"))
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    y = x[:, 0]
    whole = model.fit(model.init(1, 4), x, y)
    parts = model.fit(model.fit(model.init(1, 4), x[:25], y[:25]), x[25:], y[25:])
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: learner(Programs.from_lists([], (4, 3, 1))), "one program, not 0"),
        (lambda: learner(LINEAR, "mse"), "loss must be 'rmse' or 'accuracy'"),
        (lambda: learner(LINEAR, "rmse", 3), "3 classes need loss='accuracy'"),
        (lambda: learner(library.program("softmax_linear"), "accuracy", 5).init(0, 3), "at least as many features"),
        (lambda: learner(LINEAR).init(0, 0), "features must be at least 1"),
        (lambda: learner(LINEAR).predict(learner(LINEAR).init(0, 3), np.zeros(4)), "initialised for 3 features, not 4"),
        (lambda: learner(LINEAR).fit(learner(LINEAR).init(0, 3), np.zeros((5, 3)), np.zeros(4)), "labels"),
        (lambda: learner(LINEAR).init("x", 3), "seed must be one whole number"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
