"""Curves for TensorBoard, read back from their events."""

import importlib.util
import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from tests.helpers import QUICK
from zero_jax import cli
from zero_jax.run.api import resume, run

DRAWN = QUICK.replace(parallel_trials=1, tensorboard=True, out="runs", checkpoint_seconds=0)


def events(folder):
    """The events of a run, in order: each is its length in 8 bytes, 4 of checksum, itself, 4 of checksum."""
    (file,) = (folder / "tensorboard").iterdir()
    data, parsed = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        parsed.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return parsed


def scalars(folder):
    """`{tag: [(step, value), ...]}`."""
    values = {}
    for event in events(folder):
        for value in event.summary.value:
            values.setdefault(value.tag, []).append((event.step, value.simple_value))
    return values


def records(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_curves_are_the_records(tmp_path):
    folder = run(DRAWN.replace(out=str(tmp_path))).folder
    lines, curves = records(folder), scalars(folder)
    for tag, of in {
        "fitness/best": lambda r: r["best_fitness"],
        "fitness/median": lambda r: r["quantiles"][2],
        "population/diversity": lambda r: r["diversity"],
        "run/trial": lambda r: r["trial"],
    }.items():
        assert [step for step, _ in curves[tag]] == [r["evaluations"] for r in lines]
        assert [value for _, value in curves[tag]] == pytest.approx([of(r) for r in lines])
    share = (lines[4]["known"] - lines[3]["known"]) / (lines[4]["evaluations"] - lines[3]["evaluations"])
    assert curves["share/known"][4][1] == pytest.approx(share)
    speed = (lines[4]["evaluations"] - lines[3]["evaluations"]) / (lines[4]["seconds"] - lines[3]["seconds"])
    assert curves["run/evaluations per second"][4][1] == pytest.approx(speed)
    written = events(folder)
    assert written[0].file_version == "brain.Event:2"
    assert written[1].session_log.status == 1  # START at step 0: whoever has read older events forgets them
    assert written[-1].wall_time - written[2].wall_time == pytest.approx(lines[-1]["seconds"] - lines[0]["seconds"])


class Killed(BaseException):
    """Nothing in the package catches it."""


def test_a_resumed_run_has_the_curves_of_one_that_was_not_killed(tmp_path, monkeypatch):
    reports = []

    def kill(progress):
        reports.append(progress)
        if len(reports) == 45:
            raise Killed

    with pytest.raises(Killed):
        run(DRAWN.replace(checkpoint_seconds=1e9, out=str(tmp_path)), kill)
    (folder,) = tmp_path.iterdir()
    before = scalars(folder)["fitness/best"]
    assert before  # will be cut off, since there is no checkpoint, and drawn again
    resume(folder)
    again = scalars(folder)["fitness/best"]
    assert [step for step, _ in again] == [r["evaluations"] for r in records(folder)]
    assert again[: len(before)] == before
    assert len(again) > len(before)


def test_without_the_package_nothing_is_written(tmp_path, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else real(name))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"pip install 'zero-jax\[tensorboard\]'"):
        run(DRAWN.replace(out=str(tmp_path)))
    small = ["--train-steps", "1000", "--search-tasks.tasks", "1", "--tensorboard"]
    assert cli.main(["search", "demo", *small]) == 2
    assert "zero-jax[tensorboard]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_curves_without_a_folder_are_refused():
    with pytest.raises(ValueError, match="writes curves to the run's folder"):
        DRAWN.replace(out=None)
