"""Estimators that search for a learning algorithm on the data they are given."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from zero_jax import DiscoveryClassifier, DiscoveryRegressor, Programs
from zero_jax.use import discovery
from zero_jax.use.table_tasks import MOST_FEATURES, class_tasks, regression_tasks

QUICK = {"evaluations": 200, "tasks": 8, "baselines": False, "random_state": 0}
TINY = QUICK | {"candidates": 1}


@pytest.mark.slow
def test_classes_are_learned_by_what_is_found():
    x, y = load_wine(return_X_y=True)
    names = np.array(["barolo", "grignolino", "barbera"])[y]
    model = DiscoveryClassifier(evaluations=20_000, random_state=0).fit(x, names)
    assert model.score(x, names) > 0.9
    assert model.predict_proba(x).shape == (178, 3)
    table = model.algorithms_
    assert 1 <= len(table) <= 9
    assert table["cross_validation"].idxmax() == table["listing"].tolist().index(_bare(model.program_))
    assert Programs.parse(table["listing"][0]).length[0, 1] > 0
    assert set(model.baselines_["model"]) == {"logistic regression", "MLP", "gradient boosting"}
    assert (model.baselines_["held_out"] > 0.7).all()
    assert (np.diff(model.curve_["fitness"]) > 0).all()
    front = table[table["pareto"]].sort_values("cost")
    assert (np.diff(front["fitness"]) > 0).all()


def _bare(program):
    return discovery.pruned(program).listing(0)


@pytest.mark.slow
def test_numbers_are_learned_and_equal_seeds_find_the_same():
    x, y = load_diabetes(return_X_y=True)
    quick = QUICK | {"evaluations": 60_000}
    model, again = (DiscoveryRegressor(**quick).fit(x, y) for _ in range(2))
    assert model.score(x, y) > 0.2
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    assert model.algorithms_.equals(again.algorithms_)
    assert not hasattr(model, "baselines_")


@pytest.mark.slow
def test_the_held_out_rows_are_not_seen_by_the_search(monkeypatch):
    x, y = load_iris(return_X_y=True)
    x[:, 0] = np.arange(150)  # names the rows
    seen = []
    monkeypatch.setattr(
        discovery, "class_tasks", lambda x, *rest, **how: (seen.append(x), class_tasks(x, *rest, **how))[1]
    )
    DiscoveryClassifier(**QUICK).fit(x, y)
    assert len(seen[0]) == 120


def test_search_tasks_differ_in_rows_projection_and_question():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 20)), rng.integers(0, 3, 200)
    tasks = class_tasks(x, y, 12, rng)
    assert tasks.train_x.shape[2] == MOST_FEATURES
    assert len({np.asarray(part).tobytes() for part in tasks.train_x}) == 12
    assert 0.2 < np.asarray(tasks.train_y).mean() < 0.8
    np.testing.assert_allclose(np.asarray(tasks.train_x).std((0, 1)), 1.0, atol=0.15)
    numbers = regression_tasks(x[:, :3], x[:, 0], 4, rng)
    assert (numbers.loss, numbers.train_x.shape[2]) == ("rmse", 3)
    with_bias = class_tasks(x, y, 4, rng, bias=True)
    assert with_bias.train_x.shape[2] == MOST_FEATURES
    assert (np.asarray(with_bias.train_x)[..., -1] == 1).all()
    assert (np.asarray(with_bias.valid_x)[..., -1] == 1).all()


WEIGHTS = "check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"
"""Rows are split at random, and a weighted row is one row of a split, a repeated one several: models may differ."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "train"),
    [(DiscoveryClassifier, "check_classifiers_train"), (DiscoveryRegressor, "check_regressors_train")],
    ids=["classes", "numbers"],
)
def test_it_passes_the_checks_of_scikit_learn(kind, train):
    """The check of the score has as many evaluations as it takes to find something that learns; the others few."""
    expected = dict.fromkeys((*WEIGHTS, train), "see above")
    rows = check_estimator(kind(**TINY), expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert len(rows) > 40
    states = {"passed", "skipped", "xfail"}
    assert not [(row["check_name"], row["exception"]) for row in rows if row["status"] not in states]
    assert {row["check_name"] for row in rows if row["status"] == "skipped"} <= {"check_array_api_input"}
    enough = kind(**QUICK | {"candidates": 3, "evaluations": 30_000})
    for how in ({}, {"readonly_memmap": True, "X_dtype": "float32"}):
        getattr(estimator_checks, train)(kind.__name__, enough, **how)


def test_rows_of_a_group_stay_together_and_time_goes_forward(monkeypatch):
    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    x, y, groups = x[order], y[order], np.arange(150) // 10
    trained = []
    monkeypatch.setattr(discovery, "scored", lambda model, data, rows, out: trained.append((rows, out)) or 0.5)
    DiscoveryClassifier(**TINY).fit(x, y, groups=groups)
    assert len(trained) == 5 * (5 + 16) + 2  # folds of settings and of initial values; what is held out, twice
    for rows, out in trained:
        assert not set(groups[rows]) & set(groups[out])
    trained.clear()
    model = DiscoveryClassifier(**TINY, in_time=True).fit(x, y)
    assert model.n_held_out_ == 30
    assert trained[-1][1].tolist() == [*range(120, 150)]
    assert all(rows.max() < out.min() for rows, out in trained)


@pytest.mark.slow
def test_rows_without_weight_are_not_there_and_baselines_have_the_weights():
    x, y = load_iris(return_X_y=True)
    weights = np.where(y == 2, 0.0, 1.0)
    model = DiscoveryClassifier(**TINY | {"baselines": True}, n_estimators=1).fit(x, y, sample_weight=weights)
    assert model.classes_.tolist() == [0, 1]
    assert model.predict_proba(x).shape == (150, 2)
    assert model.n_held_out_ == 20
    assert model.baselines_["held_out"].tolist()[0] == 1.0


@pytest.mark.slow
def test_it_is_tuned_in_a_pipeline_and_loads_in_another_process(tmp_path):
    x, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), DiscoveryClassifier(**TINY))
    search = GridSearchCV(pipe, {"discoveryclassifier__tasks": [8, 12]}, cv=2).fit(x, y)
    assert search.score(x, y) > 0.5
    joblib.dump(search, tmp_path / "search.joblib")
    script = "import joblib, sys; from sklearn.datasets import load_iris; x, y = load_iris(return_X_y=True); "
    script += "print(joblib.load(sys.argv[1]).predict(x).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "search.joblib"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(search.predict(x).tolist())


@pytest.mark.slow
def test_it_can_be_validated_from_outside():
    scores = cross_val_score(DiscoveryClassifier(**QUICK | {"evaluations": 20_000}), *load_iris(return_X_y=True), cv=3)
    assert (scores > 0.5).all()


def test_tables_from_which_no_class_can_be_learned_are_refused():
    x, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="y has one class only, 1: a search needs at least two"):
        DiscoveryClassifier(**TINY).fit(x, np.ones(150, int))
    with pytest.raises(ValueError, match="groups that say too much"):
        DiscoveryClassifier(**TINY).fit(x[:100], y[:100], groups=y[:100])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_limit": 0}, "time_limit must be above 0"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"held_out": 1.5}, "held_out is a share"),
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"tasks": 0}, "tasks must be at least 1"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DiscoveryClassifier(**(QUICK | settings)).fit(*load_iris(return_X_y=True))
