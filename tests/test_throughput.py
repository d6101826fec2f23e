"""`experiments/throughput/overlap.py` on a CPU, in small: the search that it traces is one that the package can run."""

from pathlib import Path

import pytest

from zero_jax.executors.simd import lanes as simd


def test_overlap_traces_a_search(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "experiments" / "throughput"))
    monkeypatch.setattr(simd, "evaluate", simd.evaluate)  # it puts a stopwatch around it, for good
    import overlap

    measured, events = overlap.measure(2, islands=2, cohorts=1)
    assert measured["groups"] == 2
    assert measured["programs_per_second"] > 0
    assert 0 <= measured["device_idle"] < 1
    assert {event["name"] for event in events} == {"device", "ask", "tell"}
    assert overlap.idle_share([(0, 1), (3, 4)]) == pytest.approx(0.5)
