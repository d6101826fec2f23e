"""The experiments on Fashion-MNIST: what they count, on rows made up here, and both from end to end in small."""

import gzip
import importlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from zero_jax.tasks import images

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def experiment(monkeypatch):
    """An experiment's module by name, imported as its script finds its neighbours."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


@pytest.fixture
def clothes(monkeypatch, tmp_path):
    """Small images of ten kinds, where Debian's package would put those of Fashion-MNIST."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 14_000), ("t10k", 5_100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(150, size=(count, 4, 4)) + 10 * labels[:, None, None]
        header = struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(header + pixels.astype(np.uint8).tobytes())
        )
        header = struct.pack(">4BI", 0, 0, 8, 1, count)
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))
    monkeypatch.setitem(images.PACKAGED, "fashion_mnist", (tmp_path, images.PACKAGED["fashion_mnist"][1]))


def test_success_is_counted_beside_each_baseline_of_the_same_seed(experiment):
    rows = [
        {"method": "Basic", "islands": 4, "seed": seed, "select": 0.9, "baselines": {"linear": linear, "network": 0.95}}
        for seed, linear in enumerate((0.89, 0.9, 0.91, 0.8))
    ]
    (line,) = experiment("success").table(rows)
    assert (line["linear"]["above"], line["network"]["above"], line["searches"]) == (2, 0, 4)  # equal is not above
    low, high = line["linear"]["interval"]
    assert low == pytest.approx(0.15, abs=0.01)
    assert high == pytest.approx(0.85, abs=0.01)


def test_differences_are_taken_seed_by_seed_between_cells_that_differ_in_one_thing(experiment):
    success = experiment("success")
    cells = {("Basic", 1): 0.5, ("Basic", 4): 0.5, ("Full", 1): 0.9, ("Full", 4): 0.9, ("niches", 1): 0.91}
    rows = [
        {"method": m, "islands": i, "seed": s, "select": mean + s / 1000, "baselines": {"linear": 0.85}}
        for (m, i), mean in cells.items()
        for s in range(20)
    ]
    found = {(line["one"], line["other"]): line for line in success.differences(rows)}
    assert len(found) == 8  # all ten but those that differ in method and islands
    equal, different = found[("Basic", 1), ("Basic", 4)], found[("Basic", 1), ("Full", 1)]
    assert equal["p_accuracy"] == equal["p_above_linear"] == 1
    assert different["median"] == pytest.approx(-0.4)
    assert max(different["p_accuracy"], different["p_above_linear"]) < 0.001
    assert success.holm([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])


def test_searches_have_the_same_tasks_and_steps_whatever_their_method_and_islands(experiment):
    success = experiment("success")
    configs = [success.config(method, islands, 3, 10**6) for method in success.METHODS for islands in (1, 16)]
    assert {config.schedule.train_steps for config in configs} == {10**6}
    assert {config.tasks for config in configs} == {success.NICHES.tasks}
    assert [config.evaluation.cache_size > 0 for config in configs[:4]] == [False, False, True, True]


def row(method, seed, pairs, dimension="projected"):
    return {"dimension": dimension, "method": method, "seed": seed, "pairs": pairs}


def test_the_best_search_is_chosen_off_the_held_out_pairs_and_compared_pair_by_pair(experiment):
    clothing = experiment("clothing")
    start = next(iter(clothing.STARTS))
    searches = [{"start": start, "seed": 0, "choice": 0.9}, {"start": start, "seed": 1, "choice": 0.95}]
    rows = [row(start, 0, [1.0] * 9), row(start, 1, [0.5 + i / 100 for i in range(9)])]
    rows += [row("linear, program", 0, [0.4 + i / 100 for i in range(9)])]
    evolved, linear = clothing.table(rows, searches)
    assert evolved["best"] == pytest.approx(0.54)  # not the one that is better on held-out pairs
    assert evolved["best_over"]["linear, program"] == pytest.approx([0.1, 0.0])
    assert evolved["above"] == {"linear, program": 2}
    assert linear["accuracy"] == pytest.approx([0.44, 0.0])
    assert "best" not in linear


@pytest.mark.slow
def test_both_run_in_small_and_go_on_where_they_were(experiment, clothes, monkeypatch, tmp_path, capsys):
    success, clothing = experiment("success"), experiment("clothing")
    to = tmp_path / "success.json"
    few = ["--seeds", "0", "--steps", "20000", "--islands", "2", "--methods", "Basic", "efficient", "--jobs", "1"]
    success.main([*few, "--out", str(to)])
    rows = json.loads(to.read_text())["results"]["rows"]
    success.main([*few, "--out", str(to)])
    assert json.loads(to.read_text())["results"]["rows"] == rows  # with the seconds they took
    assert [r["method"] for r in rows] == ["Basic", "efficient"]

    monkeypatch.setattr(clothing, "EVALUATIONS", {"projected": 3, "full": 2})
    monkeypatch.setattr(clothing, "TUNED_ON", (300, 100))
    monkeypatch.setattr(clothing, "TRAINED_ON", 1_000)
    starts = {"niches, random programs": ("niches", 16)}
    monkeypatch.setattr(clothing, "STARTS", starts)
    monkeypatch.setattr(clothing, "COMPARED", dict.fromkeys(clothing.DIMENSIONS, tuple(starts)))
    to = tmp_path / "clothing.json"
    both = ["--dimensions", *clothing.DIMENSIONS]
    clothing.main(["--seeds", "0", "--steps", "1000000", "--jobs", "1", "--out", str(to), *both])
    stored = json.loads(to.read_text())["results"]
    assert len(stored["table"]) == 2 * 7
    assert all(len(r["pairs"]) == 9 for r in stored["rows"] if "pairs" in r)
    assert to.with_suffix(".svg").exists()
    assert "full      S1b, program" in capsys.readouterr().out

    story, out = experiment("clothing_story"), tmp_path / "clothing_story.json"
    monkeypatch.setattr(story, "SIZES", {"projected": (250, 1_000), "full": (100,)})
    story.main(["--source", str(to), "--jobs", "1", "--out", str(out)])
    found = json.loads(out.read_text())["results"]
    assert [part["instruction"] for part in found["parts"]] == [
        line.strip() for line in found["program"].splitlines() if not line.startswith("def")
    ]
    assert max(part["lost"][0] for part in found["parts"]) > 5  # something is needed
    assert {np.shape(r["pairs"]) for r in found["rows"] if r["dimension"] == "projected"} == {(2, 9)}  # sizes and pairs
    assert {r["method"] for r in found["rows"] if r["dimension"] == "full"} == set(story.CURVES)
    assert "## Step 0: random" in (tmp_path / "clothing_lineage.md").read_text()
    assert out.with_suffix(".svg").exists()
