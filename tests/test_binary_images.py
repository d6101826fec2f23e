"""`experiments/binary_images.py`, in a few seconds, on digits and on small images kept as CIFAR-10."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from zero_jax import Programs
from zero_jax.support import files
from zero_jax.tasks.sets import TaskSet

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def experiment(monkeypatch):
    """The script as a module, its sizes tiny."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    sys.modules.pop("binary_images", None)
    import binary_images

    searching = binary_images.SMALL | {"islands": 1, "population": 50, "cohort": 10, "train_steps": 20_000}
    tiny = binary_images.Size(
        30, 20, 3, 4, search=4, choice=9, splits=1, candidates=3, evaluations=5, wide=4, searching=searching
    )
    searching = binary_images.LARGE | {
        "islands": 4,
        "population": 20,
        "cohort": 10,
        "train_steps": 20_000,
        "migrate_every": 50,
    }
    paper = dataclasses.replace(tiny, searching=searching)
    monkeypatch.setattr(binary_images, "SIZES", {"small": tiny, "paper": paper})
    return binary_images


@pytest.mark.slow
def test_digits_from_end_to_end(experiment, tmp_path, capsys):
    out = tmp_path / "digits.json"
    experiment.main(["--seeds", "0", "1", "--processes", "1", "--out", str(out)])
    stored = json.loads(out.read_text())["results"]
    methods = {
        experiment.BEST,
        *experiment.STARTS,
        "linear, program",
        "linear, JAX",
        "network, program",
        "network, JAX",
    }
    assert {row["method"] for row in stored["accuracy"]} == {*methods, "network of 4, JAX"}
    assert len(stored["accuracy"]) == 2 * len(methods) + 1  # F = 4 has that network already
    for row in stored["differences"]:
        mean = {r["method"]: r["accuracy"][0] for r in stored["accuracy"] if r["dimension"] == row["dimension"]}
        assert row["over_seeds"][0] == pytest.approx(mean[row["evolved"]] - mean[row["baseline"]], abs=1e-6)
        assert row["over_seeds"][0] == pytest.approx(row["over_tasks"][0]) == pytest.approx(row["over_pairs"][0])
        model = row["baseline"].split(",")[0].split(" of")[0]
        assert mean[row["baseline"]] == max(value for name, value in mean.items() if name.startswith(model))
    for run in stored["runs"]:
        for search in run["searches"].values():
            assert len(Programs.parse("\n".join(search["listing"]), memory=experiment.SPACE.memory)) == 1
    printed = capsys.readouterr().out
    assert "full dimension" in printed
    assert "def Predict():" in printed
    assert out.with_suffix(".svg").read_text().count("<svg") == 1


@pytest.mark.slow
def test_another_set_takes_the_same_way(experiment, tmp_path, monkeypatch):
    asked = []

    class Noted(TaskSet):
        def make(self, seed=0, role="search"):
            asked.append((self.source, self.features, role))
            return super().make(seed, role)

    labels = np.arange(400, dtype=np.int32) % 10
    pixels = np.random.default_rng(0).integers(200, size=(400, 4, 4, 1)) + 5 * labels[:, None, None, None]
    kept = {"train_images": pixels.astype(np.uint8), "train_labels": labels, "class_names": list("0123456789")}
    kept |= {"test_images": kept["train_images"][:0], "test_labels": labels[:0]}
    monkeypatch.setenv("ZERO_JAX_CACHE", str(tmp_path))
    (tmp_path / "images" / "cifar10").mkdir(parents=True)
    (tmp_path / "images" / "cifar10" / "3.0.2-10.npz").write_bytes(files.packed(kept))
    monkeypatch.setattr(experiment, "TaskSet", Noted)
    out = tmp_path / "cifar10.json"
    experiment.main(["--paper", "--dataset", "cifar10", "--seeds", "0", "--processes", "1", "--out", str(out)])
    assert json.loads(out.read_text())["results"]["dataset"] == "cifar10"
    assert {source for source, _, _ in asked} == {"cifar10"}
    assert {(features, role) for _, features, role in asked} == {
        (3, "search"),
        *((f, r) for f in (4, 0) for r in ("search", "unseen")),
    }


@pytest.mark.slow
def test_nothing_is_chosen_on_held_out_tasks(experiment, monkeypatch):
    """With other held-out examples the same programs and classifiers are chosen, to the bit."""
    size = experiment.SIZES["small"]

    def chosen():
        judged = experiment.run(("digits", size, 0))["judged"]
        return {(d, name): (pick["choice"], str(pick["tuned"])) for d in judged for name, pick in judged[d].items()}

    def scrambled(dataset, size, features):
        tasks = held_out(dataset, size, features)
        tasks.train_x, tasks.valid_y = np.zeros_like(tasks.train_x), 1 - tasks.valid_y
        return tasks

    before, held_out = chosen(), experiment.held_out
    monkeypatch.setattr(experiment, "held_out", scrambled)
    assert chosen() == before


def test_pairs_and_tasks_of_the_three_parts_are_different(experiment):
    size = dataclasses.replace(experiment.SIZES["small"], search=40, choice=40, splits=2)
    for_search, for_choice = experiment.tasks_of("digits", size, 4, 0)
    held_out = experiment.held_out("digits", size, 4)
    assert (len(for_search), len(for_choice), len(held_out)) == (40, 40, 18)
    assert len({*for_search.ids.tolist(), *for_choice.ids.tolist(), *held_out.ids.tolist()}) == 98


def test_differences_are_paired(experiment):
    """A shift that all tasks and seeds share has no standard error, however much they differ from each other."""
    rng = np.random.default_rng(0)
    base = rng.random((3, 18))
    runs = [
        {
            "judged": {
                d: {name: {"held_out": (base[i] + shift).tolist()} for name, shift in SHIFTS.items()}
                for d in ("projected", "full")
            }
        }
        for i in range(3)
    ]
    row = experiment.compared(runs)[0]
    for over in ("over_seeds", "over_tasks", "over_pairs"):
        assert row[over] == pytest.approx([0.3, 0.0], abs=1e-9)
    assert row["baseline"] == "linear, JAX"


SHIFTS = {
    "the best of all searches": 0.5, "evolved from nothing": 0.5, "evolved from the network": 0.6, "linear, program": 0.1, "linear, JAX": 0.2,
    "network, program": 0.1, "network, JAX": 0.0,
}  # fmt: skip
