"""The comparison of all searchers runs in small, and counts what it says it counts."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from zero_jax.search import SEARCHERS

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def comparison():
    """The script, imported as it finds its neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        yield importlib.import_module("searchers")


def row(method, solved, curve, steps=10**8):
    return {"problem": "linear", "method": method, "solved": solved, "curve": curve, "train_steps": steps, "bias": None,
            "select_fitness": curve[-1][2], "fitness": curve[-1][2], "evaluations": 10, "spent": 8.0}  # fmt: skip


def test_a_line_compares_at_equal_steps_and_at_the_end(comparison):
    rows = [
        row("slow", False, [[0.5, 10_000, 0.3], [7.0, 2_000_000, 0.5]], steps=3_000_000),
        row("fast", True, [[0.1, 500_000, 0.6], [0.2, 5_000_000, 1.0]], steps=5_000_000),
        row("fast", False, [[0.1, 900_000, 0.8]]),
    ]
    fast, slow = comparison.table(rows, "linear")
    assert (fast["method"], fast["solved"], fast["of"]) == ("fast", 1, 2)
    assert fast["steps"] == {
        "1000000": pytest.approx(0.7),
        "10000000": pytest.approx(0.9),
        "100000000": pytest.approx(0.9),
    }
    assert slow["steps"] == {"1000000": pytest.approx(0.3)}  # it did not get further
    assert slow["median_seconds"] == np.inf
    assert comparison.at([[1.0, 5, 0.2]], 0, 0.5) == 0.0


def test_tasks_to_judge_on_are_others(comparison):
    for problem in comparison.SPACES:
        one, again, other = (comparison.tasks(problem, seed) for seed in (3, 3, 4))
        assert len(one) == 10
        assert one.digest() == again.digest() != other.digest()


@pytest.mark.slow
def test_every_searcher_runs(comparison, tmp_path):
    to = tmp_path / "searchers.json"
    comparison.main(
        [
            "--small",
            "--seconds",
            "0.5",
            "--seeds",
            "100",
            "--jobs",
            "2",
            "--problems",
            "linear",
            "digits",
            "--out",
            str(to),
        ]
    )
    rows = json.loads(to.read_text())["results"]["rows"]
    assert len(rows) == len(SEARCHERS) * 2
    refused = [(one["problem"], one["method"]) for one in rows if "refused" in one]
    assert refused == [("digits", "darts")]
    assert all(0 <= one["select_fitness"] <= 1 for one in rows if "refused" not in one)
    assert to.with_suffix(".svg").exists()
    assert comparison.markdown(rows).count("| darts |") == 2
