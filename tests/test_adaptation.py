"""`experiments/adaptation.py`: what it counts, and all of it in small."""

import json
import sys
from pathlib import Path

import pytest

from zero_jax import Programs, evaluate, library


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "experiments"))
    for module in ("adaptation", "traits"):
        sys.modules.pop(module, None)
    import adaptation

    return adaptation


def changed(name, **changes):
    """A program of the library with text put in at the end of components."""
    text = library.program(name, learning_rate=0.3).listing(0)
    for component, line in changes.items():
        text = text.replace(f"def {component}():", f"def {component}():\n  {line}")
    return Programs.parse(text)


@pytest.mark.parametrize("name", ["network", pytest.param("softmax_network", marks=pytest.mark.slow)])
def test_what_is_counted(experiment, name):
    classes = 10 if name.startswith("softmax") else 2
    tasks = experiment.TaskSet("digits", tasks=2, features=16, train=60, valid=20, classes=classes).make(0, "select")
    rate = "s2" if classes == 10 else "s3"
    weights = "m0"
    none = {"noise": False, "decay": False, "weights": False}
    assert experiment.traits.traits(library.program(name), tasks) == none
    assert experiment.traits.traits(changed(name, Learn=f"{rate} = arctan({rate})"), tasks) == none | {"decay": True}
    steady = f"{rate} = abs({rate})"
    assert experiment.traits.traits(changed(name, Learn=steady), tasks) == none
    noisy = changed(name, Predict="v0 = v0 + v9\n  v9 = gaussian(0, 0.1)" if classes == 2 else "v9 = gaussian(0, 0.1)")
    assert experiment.traits.traits(noisy, tasks)["noise"] == (
        classes == 2
    )  # in the other, v9 is written again before it is read
    mean = changed(name, Learn=f"{rate} = mean({weights})\n  {rate} = abs({rate})")
    assert experiment.traits.traits(mean, tasks)["weights"]
    assert not experiment.traits.traits(mean, tasks)["decay"]  # it depends on the data


@pytest.mark.parametrize(
    ("trait", "lines", "constants"),
    [
        ("noise", "v9 = gaussian(0.5, 0.1, n_features)\n  v0 = v0 + v9", "gaussian(0.5, 0.0, n_features)"),
        ("noise", "v9 = uniform(0.25, 0.75, n_features)\n  v0 = v0 + v9", "uniform(0.5, 0.5, n_features)"),
        ("decay", "s3 = arctan(s3)", "s3 = 0.1"),
        (
            "weights",
            "m1 = uniform(-0.25, -0.25, (n_features, n_features))\n  s3 = mean(m1)\n  s3 = abs(s3)",
            "s3 = -0.25",
        ),
    ],
)
def test_what_is_taken_out_leaves_constants(experiment, trait, lines, constants):
    tasks = experiment.TaskSet("digits", tasks=9, features=4, train=60, valid=50).make(0, "select")
    program = changed("network", Learn=lines)
    assert experiment.traits.traits(program, tasks)[trait]
    lacks = experiment.traits.without(program, trait, tasks)
    assert constants in lacks.listing(0)
    assert trait == "noise" or not experiment.traits.traits(lacks, tasks)[trait]
    before, after = (evaluate(one, tasks).fitness for one in (program, lacks))
    assert (before != after).any() == (trait != "weights")  # the mean there is the same all the time


def test_something_is_useful_where_a_program_is_clearly_worse_without_it(experiment):
    rows = [{"worth": {"noise": [0.05, 0.01]}}, {"worth": {"noise": [0.05, 0.03]}}, {"worth": {}}]
    assert [experiment.is_useful(row, "noise") for row in rows] == [True, False, False]


def test_only_the_end_of_training_is_judged(experiment):
    tasks = experiment.TaskSet("digits", tasks=4, features=8, train=40, valid=50, epochs=8).make(0, "unseen")
    program = library.program("network", learning_rate=1.0)
    best, last = (evaluate(program, some, 1).fitness[0] for some in (tasks, experiment.at_end(tasks)))
    assert (best >= last).all()
    assert (best > last).any()
    once = experiment.TaskSet("digits", tasks=4, features=8, train=40, valid=50).make(0, "unseen")
    assert (evaluate(program, once, 1).fitness == evaluate(program, experiment.at_end(once), 1).fitness).all()


@pytest.mark.slow
def test_from_end_to_end(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(experiment.SIZES, "small", experiment.SIZES["small"] | {"programs": 200})
    out, few = tmp_path / "stored.json", ["--seeds", "0", "--processes", "1", "--dataset", "digits"]
    experiment.main([*few, "--out", str(out)])
    stored = json.loads(out.read_text())["results"]
    assert [row["case"] for row in stored["table"]] == ["few examples", "few epochs", "ten classes"]
    assert all(0 <= row["counts"]["condition"]["noise"] <= row["searches"] == 1 for row in stored["table"])
    assert all(set(row["worth"]) == {t for t in row["worth"] if row[t]} for row in stored["rows"])
    assert {row["case"] for row in stored["rows"] if row["opposite"]} == {row["case"] for row in stored["table"]}
    assert all(set(row["gain"]["condition"]) == {"network", "linear"} for row in stored["table"])
    assert "ten classes" in capsys.readouterr().out
    assert "<svg" in out.with_suffix(".svg").read_text()
    experiment.main([*few, "--out", str(out)])
    assert json.loads(out.read_text())["results"]["rows"] == stored["rows"]  # with the seconds they took
