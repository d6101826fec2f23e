"""The JAX baselines: against a loop in NumPy, on data that can be learnt, and with what they must refuse."""

import dataclasses

import numpy as np
import pytest

from zero_jax import Tasks
from zero_jax.tasks import synthetic
from zero_jax.tasks.sets import TaskSet
from zero_jax.use import baselines
from zero_jax.use.baselines import Classifier

DIGITS = TaskSet("digits", 4, 8, 60, 30)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(weights, x, y, rate, decay, beta, optimiser):
    """One pass of plain NumPy: the gradients of the cross-entropy, and the rules as their papers write them."""
    w = {name: np.array(value, np.float64) for name, value in weights.items()}
    first, second = ({name: np.zeros_like(value) for name, value in w.items()} for _ in range(2))
    for step, (one, label) in enumerate(zip(x, y, strict=True), 1):
        before = w["layer"] @ one + w["shift"] if "layer" in w else None
        inner = one if before is None else np.maximum(before, 0)
        error = sigmoid(w["out"] @ inner + w["bias"]) - label
        slope = {"out": error * inner, "bias": error}
        if before is not None:
            back = error * w["out"] * (before > 0)
            slope |= {"layer": np.outer(back, one), "shift": back}
        for name, g in slope.items():
            if optimiser == "adam":
                first[name] = beta * first[name] + (1 - beta) * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                g = first[name] / (1 - beta**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
            else:
                g = first[name] = beta * first[name] + g
            w[name] = w[name] - rate * (g + decay * w[name])
    return w


def accuracy_by_hand(w, x, y):
    inner = np.maximum(x @ w["layer"].T + w["shift"], 0) if "layer" in w else x
    return ((inner @ w["out"] + w["bias"] > 0) == (y > 0.5)).mean()


@pytest.mark.parametrize("model", ["logistic", "network"])
@pytest.mark.parametrize(("optimiser", "rate"), [("sgd", 0.02), ("adam", 0.01)])
def test_training_equals_an_independent_loop(model, optimiser, rate):
    tasks = DIGITS.make(0)
    one = Classifier(model, 0, optimiser, rate, 0.3, 0.01, 0.8)
    start, end = baselines.initial(one, tasks, seed=3), baselines.trained(one, tasks, seed=3)
    scores = baselines.accuracy(one, tasks, seed=3)
    for t in range(len(tasks)):
        weights = {name: value[t] for name, value in start.items()}
        expected = by_hand(weights, tasks.train_x[t], tasks.train_y[t], rate, 0.01, 0.8, optimiser)
        for name, value in expected.items():
            np.testing.assert_allclose(end[name][t], value, atol=1e-4, err_msg=name)
        exact = accuracy_by_hand(expected, tasks.valid_x[t], tasks.valid_y[t])
        assert abs(scores[0, t] - exact) <= 1 / 30 + 1e-6  # an example on the border may fall to either side


def test_epochs_follow_the_order_of_the_tasks_and_the_best_counts():
    tasks = TaskSet("digits", 2, 8, 60, 30, epochs=3).make(0)
    one = Classifier(learning_rate=0.1)
    expected = {name: value[0] for name, value in baselines.initial(one, tasks).items()}
    best = 0.0
    for order in tasks.order:
        expected = by_hand(expected, tasks.train_x[0][order], tasks.train_y[0][order], 0.1, 0, 0, "sgd")
        best = max(best, accuracy_by_hand(expected, tasks.valid_x[0], tasks.valid_y[0]))
    np.testing.assert_allclose(baselines.trained(one, tasks)["out"][0], expected["out"], atol=1e-4)
    assert baselines.accuracy(one, tasks)[0, 0] == pytest.approx(best, abs=1 / 30 + 1e-6)


def separable(shape):
    """Labels that a line tells, or, for `ring`, none does."""
    x = np.random.default_rng(0).normal(size=(3, 700, 4))
    y = (x[..., 0] > 0 if shape == "line" else (x[..., :2] ** 2).sum(-1) > 1.4).astype(float)
    return Tasks(x[:, :500], y[:, :500], x[:, 500:], y[:, 500:], loss="accuracy")


def test_both_learn_linear_classes_and_only_the_network_others():
    some = [
        Classifier(model, learning_rate=rate, scale=0.5) for model in ("logistic", "network") for rate in (0.03, 0.3)
    ]
    logistic, network = baselines.accuracy(some, separable("line")).mean(1).reshape(2, 2).max(1)
    assert min(logistic, network) > 0.96
    logistic, network = baselines.accuracy(some, separable("ring")).mean(1).reshape(2, 2).max(1)
    assert logistic < 0.7 < 0.8 < network


def test_tuning_reports_its_result_and_repeats_it():
    tasks = DIGITS.make(0)
    tuned = baselines.tune("network", tasks, evaluations=20, seed=5)
    assert tuned.evaluations == len(tuned.history) == 20
    assert tuned.fitness == tuned.history[-1] == tuned.history.max()
    assert tuned.history[0] == pytest.approx(baselines.accuracy(Classifier("network"), tasks, seed=5).mean())
    assert tuned.fitness == pytest.approx(baselines.accuracy(tuned.classifier, tasks, seed=5).mean(), abs=0.01)
    again = baselines.tune("network", tasks, evaluations=20, seed=5)
    assert again.classifier == tuned.classifier
    assert (again.history == tuned.history).all()


def test_classifiers_of_all_shapes_keep_their_order():
    tasks = DIGITS.make(0)
    some = [Classifier(), Classifier("network"), Classifier(optimiser="adam"), Classifier(learning_rate=0.0)]
    together = baselines.accuracy(some, tasks)
    for one, row in zip(some, together, strict=True):
        np.testing.assert_allclose(row, baselines.accuracy(one, tasks)[0], atol=1 / 30 + 1e-6)


def test_initial_weights_know_a_task_by_its_id():
    tasks = DIGITS.make(0)
    every, last = (baselines.initial(Classifier(), some)["out"] for some in (tasks, tasks[3]))
    np.testing.assert_array_equal(every[3], last[0])


def test_exploding_weights_predict_class_0():
    tasks = DIGITS.make(0)
    scores = baselines.accuracy(Classifier("network", learning_rate=1e30), tasks)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "forest"}, "model must be one of logistic, network"),
        ({"optimiser": "lbfgs"}, "optimiser must be one of"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"scale": float("inf")}, "scale"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
        ({"hidden": 3}, "no hidden units"),
        ({"model": "network", "hidden": -1}, "hidden must be"),
        ({"model": "network", "hidden": 1.5}, "hidden must be"),
    ],
)
def test_invalid_classifiers_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Classifier(**settings)


def test_invalid_tasks_are_refused():
    tasks = DIGITS.make(0)
    with pytest.raises(ValueError, match="accuracy loss, not rmse"):
        baselines.accuracy(Classifier(), synthetic.linear(2))
    several = dataclasses.replace(DIGITS, features=16, classes=10).make(0)
    with pytest.raises(ValueError, match="must have 2 classes, not 10"):
        baselines.trained(Classifier(), several)
    with pytest.raises(ValueError, match="no classifiers"):
        baselines.accuracy([], tasks)
    with pytest.raises(ValueError, match="evaluations must be"):
        baselines.tune("logistic", tasks, evaluations=0)
    with pytest.raises(ValueError, match="model must be"):
        baselines.tune("forest", tasks)
