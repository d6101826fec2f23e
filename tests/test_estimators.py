"""Programs as scikit-learn estimators."""

import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.estimator_checks import check_estimator

from zero_jax import ProgramClassifier, ProgramRegressor, library
from zero_jax.use.learner import learner

IRIS = load_iris(return_X_y=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [ProgramClassifier(), ProgramRegressor(), ProgramClassifier("softmax_network")],
    ids=["classifier", "regressor", "vectors"],
)
def test_it_passes_the_checks_of_scikit_learn(estimator):
    """None is skipped but that of array_api, which needs SCIPY_ARRAY_API in the environment."""
    rows = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(rows) > 40
    failed = [(row["check_name"], row["exception"]) for row in rows if row["status"] not in ("passed", "skipped")]
    assert not failed
    assert {row["check_name"] for row in rows if row["status"] == "skipped"} <= {"check_array_api_input"}


def test_a_model_is_what_the_program_learns():
    x, y = make_regression(80, 3, noise=5.0, random_state=0)
    model = ProgramRegressor("linear", epochs=2, shuffle=False, standardize=False, random_state=1).fit(x, y / 50)
    made = learner(library.program("linear"))
    state = made.fit(made.init(0, 3), x, y / 50, epochs=2)
    np.testing.assert_allclose(model.predict(x), made.predict(state, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("program", ["network", "softmax_network"])
def test_several_classes_are_told_apart(program):
    model = ProgramClassifier(program, random_state=0).fit(*IRIS)
    assert model.score(*IRIS) > 0.93
    probabilities = model.predict_proba(IRIS[0])
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    np.testing.assert_array_equal(model.decision_function(IRIS[0]).argmax(1), model.predict(IRIS[0]))


def test_a_bias_learns_what_no_feature_says():
    x = np.random.default_rng(0).normal(size=(300, 2))
    y = (x[:, 0] > 1).astype(int)  # no line through 0 tells these apart
    without, with_bias = (ProgramClassifier("linear", bias=bias, random_state=0).fit(x, y) for bias in (False, True))
    assert with_bias.score(x, y) > 0.95 > without.score(x, y) + 0.05
    level = ProgramRegressor("linear", standardize=False, bias=True, epochs=50, random_state=0).fit(
        x, np.full(300, 3.0)
    )
    np.testing.assert_allclose(level.predict(x), 3.0, atol=0.01)


def test_pairs_of_classes_have_a_model_each():
    x, y = IRIS
    pairs = ProgramClassifier("linear", multi_class="ovo", shuffle=False, standardize=False, random_state=0).fit(x, y)
    assert {len(values) for values in pairs.memory_.values()} == {3}
    for number, (first, second) in enumerate([(0, 1), (0, 2), (1, 2)]):
        rows = np.isin(y, [first, second])
        alone = ProgramClassifier("linear", shuffle=False, standardize=False, random_state=0).fit(x[rows], y[rows])
        np.testing.assert_allclose(pairs.memory_["v1"][number], alone.memory_["v1"][0], rtol=1e-5)
    probabilities = pairs.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    np.testing.assert_array_equal(pairs.decision_function(x).argmax(1), pairs.predict(x))
    # versicolor lies between the others: no line tells it from the rest
    both = (
        ProgramClassifier("linear", multi_class=how, epochs=60, bias=True, random_state=0) for how in ("ovo", "ovr")
    )
    by_pairs, by_rest = (model.fit(x, y).score(x, y) for model in both)
    assert by_pairs > 0.94 > by_rest


def test_several_models_are_trained_and_their_mean_predicts():
    x, y = load_diabetes(return_X_y=True)
    settings = {"epochs": 4, "bias": True, "random_state": 3}
    mean = ProgramRegressor("network", n_estimators=4, **settings).fit(x, y)
    assert mean.memory_["v1"].shape == (4, 11)
    each = np.stack([_one(mean, i).predict(x) for i in range(4)])
    assert len({row.tobytes() for row in each}) == 4
    np.testing.assert_allclose(mean.predict(x), each.mean(0), rtol=1e-4)
    classes = ProgramClassifier("network", multi_class="ovo", n_estimators=3, random_state=0).fit(*IRIS)
    assert classes.memory_["v1"].shape == (9, 4)
    np.testing.assert_allclose(classes.predict_proba(IRIS[0]).sum(1), 1.0)
    assert classes.score(*IRIS) > 0.85


def _one(model, number):
    """One of the models of an estimator."""
    other = clone(model).set_params(n_estimators=1)  # counts when it is restored
    stored = model.stored()
    parts = {name: {key: value[[number]] for key, value in stored[name].items()} for name in ("memory", "counts")}
    other.restore(stored | parts, model.n_features_in_)
    return other


def test_settings_that_change_after_fit_count_from_the_next_one_on():
    model = ProgramClassifier("linear", bias=True, multi_class="ovo", epochs=5, random_state=0).fit(*IRIS)
    before = model.predict_proba(IRIS[0])
    model.set_params(multi_class="ovr", bias=False, n_estimators=3)
    np.testing.assert_array_equal(model.predict_proba(IRIS[0]), before)
    model.partial_fit(*IRIS)
    assert model.memory_["v1"].shape == (3, 5)
    assert model.fit(*IRIS).memory_["v1"].shape == (9, 4)


@pytest.mark.parametrize("power", [-300, -20, 200])
def test_features_of_any_scale_are_standardised(power):
    x, y = IRIS
    one, other = (ProgramClassifier("linear", epochs=3, random_state=0).fit(z, y) for z in (x, x * 10.0**power))
    assert one.score(x, y) == pytest.approx(other.score(x * 10.0**power, y), abs=0.02)


def test_weights_say_how_often_an_example_is_shown():
    x, y = make_regression(60, 3, random_state=0)
    times = np.random.default_rng(0).integers(0, 4, 60)
    weighted = ProgramRegressor("linear", random_state=0).fit(x, y, sample_weight=times)
    repeated = ProgramRegressor("linear", random_state=0).fit(np.repeat(x, times, 0), np.repeat(y, times))
    np.testing.assert_array_equal(weighted.predict(x), repeated.predict(x))
    halves = ProgramRegressor("linear", epochs=100, random_state=0).fit(x, y, sample_weight=np.full(60, 0.5))
    assert halves.score(x, y) > 0.95


def test_it_learns_in_parts():
    x, y = load_breast_cancer(return_X_y=True)
    names = np.array(["benign", "malignant"])[y]
    model = ProgramClassifier("linear", shuffle=False, random_state=0)
    for start in range(0, 500, 100):
        model.partial_fit(x[start : start + 100], names[start : start + 100], classes=["benign", "malignant"])
    assert model.score(x[500:], names[500:]) > 0.9
    one = ProgramRegressor("linear", random_state=0).partial_fit(x[:300], x[:300, 0])
    assert one.partial_fit(x[300:], x[300:, 0]).score(x, x[:, 0]) > 0.8


def test_grid_search_pipelines_and_frames():
    x, y = load_diabetes(return_X_y=True, as_frame=True)
    search = GridSearchCV(ProgramRegressor("linear", random_state=0), {"epochs": [1, 20]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.4
    assert list(search.best_estimator_.feature_names_in_) == list(x.columns)
    with pytest.warns(UserWarning, match="feature names"):
        search.best_estimator_.predict(x.to_numpy())
    steps = make_pipeline(PolynomialFeatures(2, include_bias=False), ProgramClassifier("linear", random_state=0))
    assert cross_val_score(steps, *IRIS, cv=3).mean() > 0.85
    frame = pd.DataFrame(IRIS[0], columns=list("abcd"))
    assert ProgramClassifier("linear").fit(frame, pd.Series(IRIS[1])).predict(frame).shape == (150,)


def test_a_stored_model_predicts_alike_in_another_process(tmp_path):
    model = ProgramClassifier("network", random_state=0).fit(*IRIS)
    joblib.dump(model, tmp_path / "model.joblib")
    np.save(tmp_path / "x.npy", IRIS[0])
    script = "import joblib, numpy as np; print(joblib.load('model.joblib').predict(np.load('x.npy')).tolist())"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(model.predict(IRIS[0]).tolist())
    assert clone(model).get_params() == model.get_params()


def test_programs_from_files_and_listings(tmp_path):
    listing = library.program("linear").listing(0)
    (tmp_path / "program.txt").write_text(listing)
    same = [ProgramRegressor(one, random_state=0) for one in (listing, tmp_path / "program.txt", "linear")]
    x, y = make_regression(50, 3, random_state=0)
    predictions = [one.fit(x, y).predict(x) for one in same]
    np.testing.assert_array_equal(predictions[0], predictions[1])
    np.testing.assert_array_equal(predictions[0], predictions[2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProgramClassifier("nothing").fit(*IRIS), "is not a file"),
        (lambda: ProgramClassifier(epochs=0).fit(*IRIS), "epochs must be at least 1"),
        (lambda: ProgramClassifier(bias="no").fit(*IRIS), "bias must be True or False, not 'no'"),
        (lambda: ProgramRegressor("softmax_linear").fit(*IRIS), "predicts a vector, for several classes"),
        (lambda: ProgramClassifier(multi_class="all").fit(*IRIS), "multi_class must be 'ovr' or 'ovo', not 'all'"),
        (lambda: ProgramClassifier().partial_fit(*IRIS), "needs classes="),
        (lambda: ProgramRegressor().fit([[1.0], [np.inf]], [0, 1]), "infinity"),
        (lambda: ProgramRegressor().fit([[1.0], [2.0]], [0, 1], sample_weight=[0, 0]), "0 everywhere|non-zero"),
        (lambda: ProgramRegressor().fit([[1.0], [2.0]], [0, 1]).predict([[1.0, 2.0]]), "2 features"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
