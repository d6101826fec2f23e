"""From a table of data to a model and its predictions, by the command line."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_wine

from tests.helpers import QUICK_COMMAND, call
from zero_jax.use import models, tables
from zero_jax.use.splits import Splits
from zero_jax.use.table_tasks import table_sets


@pytest.fixture
def wine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = load_wine(as_frame=True).frame
    frame["target"] = frame["target"].map({0: "barolo", 1: "grignolino", 2: "barbera"})
    frame["cellar"] = np.array(["north", "south", None], object)[np.arange(len(frame)) % 3]
    frame.loc[3, "alcohol"] = np.nan
    frame.to_csv("wine.csv", index=False)
    return frame


def test_a_program_is_fitted_and_predicts_new_rows(wine, capsys):
    assert call("fit", "network", "--data", "wine.csv", "--target", "target", "--out", "model.npz") == 0
    assert "178 rows, 15 features, 3 classes; accuracy on these rows " in capsys.readouterr().out
    new = wine.drop(columns="target").iloc[::-1].head(30)
    new.loc[new.index[0], "cellar"] = "elsewhere"
    new.to_csv("new.csv", index=False)
    assert call("predict", "model.npz", "--data", "new.csv", "--out", "out.csv") == 0
    assert "30 predictions written to out.csv" in capsys.readouterr().out
    out = pd.read_csv("out.csv")
    assert list(out.columns[: len(new.columns)]) == list(new.columns)
    assert (out["predicted_target"] == "barbera").mean() > 0.9
    assert np.allclose(out.filter(like="predicted_probability").sum(axis=1), 1.0)


@pytest.mark.slow
def test_a_stored_model_predicts_alike_in_another_process_without_pickle(wine):
    options = "--bias", "--multi-class", "ovo", "--n-estimators", "2", "--epochs", "4"
    call("fit", "linear", "--data", "wine.csv", "--target", "target", "--out", "model.npz", *options)
    expected = models.load("model.npz").predict(wine)["target"].tolist()
    script = "from zero_jax.use import models, tables\nimport json\n"
    script += "print(json.dumps(models.load('model.npz').predict(tables.read('wine.csv'))['target'].tolist()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected
    with np.load("model.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored)


def test_numbers_are_predicted_in_their_units(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = load_diabetes(as_frame=True).frame
    frame.to_csv("diabetes.tsv", sep="\t", index=False)
    assert call("fit", "linear", "--data", "diabetes.tsv", "--target", "target", "--out", "model.npz") == 0
    assert "10 features, numbers to predict; R^2 on these rows 0." in capsys.readouterr().out
    predictions = models.load("model.npz").predict(frame)["target"]
    assert 100 < predictions.mean() < 200
    assert np.corrcoef(predictions, frame["target"])[0, 1] > 0.65


@pytest.mark.slow
def test_a_search_on_a_table_ends_with_a_model_beside_baselines(wine, capsys):
    words = ["--data", "wine.csv", "--target", "target", "--time-limit", "8s", "--out", "found.npz"]
    assert call("search", "table", *words) == 0
    out = capsys.readouterr().out
    for text in ("accuracy on 36 rows that were held out", "found program", "logistic regression", "def Learn():"):
        assert text in out
    assert models.load("found.npz").predict(wine).shape == (178, 4)


def test_unseen_tasks_of_a_table_score_on_rows_that_no_other_task_has():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), np.arange(100.0)
    search, select, unseen = (one.make() for one in table_sets(x, y, False, (6, 5, 4), Splits(100)))
    assert (len(search), len(select), len(unseen)) == (6, 5, 4)
    seen = np.concatenate([np.ravel(part) for one in (search, select) for part in (one.train_y, one.valid_y)])
    assert not set(np.ravel(unseen.valid_y)) & set(seen)
    assert set(np.ravel(unseen.train_y)) <= set(seen)
    assert len(set(seen)) == 80
    classes = table_sets(x, np.arange(100) % 3, True, (2, 2, 2), Splits(100, np.arange(100) % 3))
    assert {one.labels for one in classes} == {"2 classes"}


@pytest.mark.slow
def test_a_run_takes_its_tasks_from_a_table_and_is_resumed(wine, tmp_path, capsys):
    words = [*QUICK_COMMAND, "--data", "wine.csv", "--target", "target", "--out", "runs"]
    assert call(*words) == 0
    assert "accuracy" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    assert len(list(run.glob("tasks-*.npz"))) == 3
    assert call("resume", run, "--train-steps", "60000") == 0
    assert "trial 1" in capsys.readouterr().out
    assert call("search", "demo", "--data", "wine.csv") == 2
    assert "--target is missing" in capsys.readouterr().err


def test_layouts_are_read_off_the_columns():
    frame = pd.DataFrame({"a": [1.0, np.nan] * 15, "b": ["x", "y", None] * 10, "c": [True, False] * 15, "y": range(30)})
    layout = tables.layout(frame, "y")
    assert [column.categories for column in layout.columns] == [(), ("x", "y"), ("False", "True")]
    assert (layout.features, layout.classes) == (5, ())
    assert layout.encoded(frame).shape == (30, 5)
    assert not np.isnan(layout.encoded(frame)).any()
    frame["y"] = np.arange(30) % 2
    assert tables.layout(frame, "y").classes == ("0", "1")
    assert tables.layout(frame, "y", "numbers").classes == ()
    assert tables.layout(frame, "y", ignored=["a"]).features == 4


def _table(tmp_path, name="data.csv", **columns):
    base = {"a": np.arange(40.0), "b": ["x", "y"] * 20, "y": np.arange(40) % 2}
    pd.DataFrame(base | columns).to_csv(tmp_path / name, index=False)
    return name


@pytest.mark.parametrize(
    ("columns", "words", "message"),
    [
        ({}, ["--target", "z"], "no column 'z'"),
        ({"y": np.zeros(40)}, ["--target", "y"], "in every row: nothing can be learned"),
        ({"y": ["p", "q"] * 20}, ["--target", "y", "--goal", "numbers"], "holds text such as 'p', not numbers"),
        ({"b": [f"name {i}" for i in range(40)] }, ["--target", "y", "--data", "long.csv"], "cannot read"),
        ({"a": np.r_[np.inf, np.arange(39.0)]}, ["--target", "y"], "is infinite in row 1"),
        ({}, ["--target", "y", "--out", "missing/model.npz"], "missing"),
        ({}, ["--target", "y", "--ignore", "c"], "no column 'c'"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_one_message(columns, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["--data", _table(tmp_path, **columns), "--out", "model.npz", *words]
    options = dict(zip(given[::2], given[1::2], strict=True))
    assert call("fit", "linear", *[word for pair in options.items() for word in pair]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--groups", "z"], "no column 'z'"),
        (["--groups", "b", "--time", "a"], "by groups or in time, not both"),
        (["--groups", "c"], "the column 'c' is missing in row 2"),
        (["--time", "b"], "holds neither numbers nor dates"),
    ],
)
def test_splits_that_do_not_fit_are_one_message(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = _table(tmp_path, c=[1.0, np.nan] * 20)
    assert call("search", "table", "--data", table, "--target", "y", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model.npz").exists()


def test_rows_are_put_in_the_order_of_time():
    frame = pd.DataFrame({"when": ["2024-03-01", "2023-12-31", "2024-01-15"], "n": [3, 1, 2]})
    assert tables.sorted_by(frame, "when")["n"].tolist() == [1, 2, 3]
    assert tables.sorted_by(frame, "n")["n"].tolist() == [1, 2, 3]


def test_few_rows_long_text_and_unknown_files_are_refused(tmp_path):
    few = pd.DataFrame({"a": range(10), "y": range(10)})
    with pytest.raises(ValueError, match="10 rows with a target; at least 20"):
        tables.layout(few, "y")
    long = pd.DataFrame({"a": [f"name {i}" for i in range(100)], "y": range(100)})
    with pytest.raises(ValueError, match=r"100 different values; at most 50 .* --ignore a"):
        tables.layout(long, "y")
    (tmp_path / "data.xlsx").write_text("a")
    with pytest.raises(ValueError, match="is not a table: expected a name that ends in"):
        tables.read(tmp_path / "data.xlsx")


def test_other_columns_and_damaged_models_are_refused(wine, tmp_path, capsys):
    call("fit", "linear", "--data", "wine.csv", "--target", "target", "--out", "model.npz")
    wine.drop(columns="hue").to_csv("new.csv", index=False)
    capsys.readouterr()
    assert call("predict", "model.npz", "--data", "new.csv", "--out", "out.csv") == 2
    assert "no column 'hue', which the model needs" in capsys.readouterr().err
    wine.assign(hue="red").to_csv("new.csv", index=False)
    assert call("predict", "model.npz", "--data", "new.csv", "--out", "out.csv") == 2
    assert "holds text where numbers are expected" in capsys.readouterr().err
    whole = (tmp_path / "model.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"abc"):
        (tmp_path / "cut.npz").write_bytes(damaged)
        assert call("predict", "cut.npz", "--data", "wine.csv", "--out", "out.csv") == 2
        assert "is not a model of zero-jax, or damaged" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
