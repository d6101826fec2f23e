"""`experiments/adaptation.py`: what it counts, and all of it in small."""

import json
import sys
from pathlib import Path

import pytest

from zero_jax import Programs, evaluate, library


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "experiments"))
    sys.modules.pop("adaptation", None)
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
    assert experiment.traits(library.program(name), tasks) == none
    assert experiment.traits(changed(name, Learn=f"{rate} = arctan({rate})"), tasks) == none | {"decay": True}
    steady = f"{rate} = abs({rate})"
    assert experiment.traits(changed(name, Learn=steady), tasks) == none
    noisy = changed(name, Predict="v0 = v0 + v9\n  v9 = gaussian(0, 0.1)" if classes == 2 else "v9 = gaussian(0, 0.1)")
    assert experiment.traits(noisy, tasks)["noise"] == (
        classes == 2
    )  # in the other, v9 is written again before it is read
    mean = changed(name, Learn=f"{rate} = mean({weights})\n  {rate} = abs({rate})")
    assert experiment.traits(mean, tasks)["weights"]
    assert not experiment.traits(mean, tasks)["decay"]  # it depends on the data


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
    out = tmp_path / "stored.json"
    experiment.main(["--seeds", "0", "--processes", "1", "--out", str(out)])
    stored = json.loads(out.read_text())["results"]
    assert [row["case"] for row in stored["table"]] == ["few examples", "few epochs", "ten classes"]
    assert all(0 <= row["counts"]["condition"]["noise"] <= row["searches"] == 1 for row in stored["table"])
    assert {row["case"] for row in stored["rows"] if row["opposite"]} == {row["case"] for row in stored["table"]}
    assert all(set(row["gain"]["condition"]) == {"network", "linear"} for row in stored["table"])
    assert "ten classes" in capsys.readouterr().out
    assert "<svg" in out.with_suffix(".svg").read_text()
    experiment.main(["--seeds", "0", "--processes", "1", "--out", str(out)])
    assert json.loads(out.read_text())["results"]["rows"] == stored["rows"]  # with the seconds they took
