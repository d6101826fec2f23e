"""Runs that are killed and resumed, from Python and from the command line."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import damage
from tests.helpers import QUICK, after, call, records, without_clock
from tests.spaces import GENES
from zero_jax import library
from zero_jax.run import checkpoint, runner
from zero_jax.run.api import resume, run
from zero_jax.run.config import from_tree
from zero_jax.run.config_file import config_of
from zero_jax.run.folder import RunFolder
from zero_jax.run.presets import PRESETS
from zero_jax.support import files

OFTEN = QUICK.replace(parallel_trials=1, train_steps=45_000, cache_size=500, checkpoint_seconds=0)
"""Writes a checkpoint after every cohort."""

VARIANTS = {
    "one trial at a time": {},
    "two in parallel": {"parallel_trials": 2, "trials": 3, "train_steps": 150_000},
    "two groups": {"groups": 2},
    "niches": {
        "method": "niches",
        "space": GENES,
        "niche_size": 10,
        "children": 20,
        "fidelity": ((1.0, 0.5), (1.0, 1.0)),
        "climb_after": 500,
        "tune_every": 1000,
        "train_steps": 400_000,
    },
    "probes, hurdles and a budget": {"probe": 5, "hurdle_examples": 0.5, "train_budget": 1.0, "forget_every": 3},
    "migration": {"migrate_every": 70, "groups": 2},
    "several candidates": {"candidates": 3, "trials": 3},
    "task variants": {
        "task_variants": ("features=4,train=30", "features=8,train=20,epochs=2"),
        "groups": 2,
        "migrate_every": 70,
        "candidates": 2,
    },
    "random search": {"method": "random", "train_steps": 150_000},
    "efficient evolution": {"method": "efficient", "migrate_every": 70, "train_steps": 150_000},
}
QUICKEST = ("probes, hurdles and a budget",)
NO_FILES = ["FIFO", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("device", "folder"))]


def final(folder):
    """All that a run ends with, but for the clock: checkpoint, outcome, hall of fame, lineage and records."""
    (path,) = sorted(folder.glob("checkpoint-*.npz"))[-1:]
    tree = files.unpacked(path.read_bytes())["run"]
    tree.pop("seconds")
    tree["progress"].pop("seconds")
    outcome = json.loads((folder / "outcome.json").read_text())
    outcome["progress"].pop("seconds")
    outcome.pop("digest")  # of the clock, too
    pages = [json.loads((folder / name).read_text()) for name in ("hall.json", "lineage.json")]
    return tree, outcome, pages, without_clock(records(folder))


class Killed(BaseException):
    """Nothing in the package catches it, as nothing catches a kill."""


@pytest.mark.parametrize(
    "how", [name if name in QUICKEST else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, how, monkeypatch):
    monkeypatch.setattr("zero_jax.run.trial.COHORTS_PER_CHECKPOINT", 3)
    monkeypatch.setattr("zero_jax.run.crew.WORK_PER_ROUND", 500)
    quick = OFTEN.replace(**VARIANTS[how])
    whole = run(quick.replace(out=str(tmp_path / "whole")))
    reports = []

    def kill_soon(progress):
        reports.append(progress)
        if len(reports) % 13 == 0:
            raise Killed

    killed = 0
    with pytest.raises(Killed):
        run(quick.replace(out=str(tmp_path / "killed")), kill_soon)
    (folder,) = (tmp_path / "killed").iterdir()
    while True:
        try:
            again = resume(folder, kill_soon)
            break
        except Killed:
            killed += 1
    assert killed >= 3
    np.testing.assert_equal(final(folder), final(whole.folder))
    assert again.program.listing(0) == whole.program.listing(0)
    assert (again.search_fitness, again.unseen_fitness) == (whole.search_fitness, whole.unseen_fitness)


def test_a_run_that_has_ended_tells_its_outcome_again(tmp_path):
    first = run(QUICK.replace(out=str(tmp_path)))
    before = [(first.folder / f"{name}.json").read_text() for name in ("outcome", "hall", "lineage")]
    again = resume(first.folder)
    assert dataclasses.replace(again, program=None) == dataclasses.replace(first, program=None)
    assert [(first.folder / f"{name}.json").read_text() for name in ("outcome", "hall", "lineage")] == before


@pytest.mark.parametrize(
    "more", [pytest.param({}, marks=pytest.mark.slow), {"parallel_trials": 2}, VARIANTS["task variants"]]
)
def test_a_run_that_was_interrupted_and_judged_goes_on_to_end_as_one_that_was_not(tmp_path, monkeypatch, more):
    monkeypatch.setattr("zero_jax.run.trial.COHORTS_PER_CHECKPOINT", 3)
    monkeypatch.setattr("zero_jax.run.crew.WORK_PER_ROUND", 500)
    quick = OFTEN.replace(**{"candidates": 3, "trials": 2, **more})
    whole = run(quick.replace(out=str(tmp_path / "whole")))
    interrupted = run(quick.replace(out=str(tmp_path / "interrupted")), after(4))
    folder = interrupted.folder
    assert interrupted.interrupted
    assert resume(folder, after(4)).interrupted
    last = resume(folder)
    assert not last.interrupted
    (tree, outcome, (hall, lineage), lines), (tree2, outcome2, (hall2, lineage2), lines2) = map(
        final, (folder, whole.folder)
    )
    np.testing.assert_equal((tree, lineage, lines), (tree2, lineage2, lines2))
    assert outcome["select_fitness"] >= outcome2["select_fitness"]  # an interruption has more programs judged
    if outcome["select_fitness"] == outcome2["select_fitness"]:
        assert (outcome, hall) == (outcome2, hall2)


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(checkpoint, "SCHEMA", 1)
        folder = run(QUICK.replace(out=str(tmp_path))).folder
    with pytest.raises(ValueError, match=r"has schema 1, and this version of zero-jax reads 7: resume the run with"):
        resume(folder)


def test_a_run_without_a_checkpoint_begins_anew(tmp_path):
    first = run(QUICK.replace(out=str(tmp_path)))
    want = final(first.folder)
    for path in first.folder.glob("checkpoint-*"):
        path.unlink()
    resume(first.folder)
    np.testing.assert_equal(final(first.folder), want)


def no_regular_file(kind, path):
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("name", ["outcome.json", "best.json"])
def test_a_best_program_that_was_edited_is_left_out(tmp_path, name):
    first = run(QUICK.replace(out=str(tmp_path)))
    want = final(first.folder)
    tree = json.loads((first.folder / name).read_text())
    edited = tree | {"select_fitness": 1.0} if "select_fitness" in tree else tree | {"programs": [[[], [], []]]}
    (first.folder / name).write_text(json.dumps(edited))
    with pytest.warns(
        UserWarning, match=r"continues without the best program that .* has: outcome\.json or best\.json"
    ):
        again = resume(first.folder)
    assert again.select_fitness == first.select_fitness
    assert not again.solved
    np.testing.assert_equal(final(first.folder), want)
    assert resume(first.folder).select_fitness == first.select_fitness


@pytest.mark.parametrize("kind", NO_FILES)
def test_a_checkpoint_that_is_no_file_is_passed_over(tmp_path, kind):
    folder = run(OFTEN.replace(out=str(tmp_path))).folder
    want = final(folder)
    before, last = sorted(folder.glob("checkpoint-*.npz"))
    no_regular_file(kind, last)
    with pytest.warns(
        UserWarning, match=rf"{last.name} is (a folder|not a regular file)\): going on from {before.name}"
    ):
        resume(folder)
    last.rmdir() if kind == "folder" else last.unlink()
    np.testing.assert_equal(final(folder), want)


@pytest.mark.parametrize("kind", NO_FILES)
def test_records_that_are_no_file_are_refused(tmp_path, kind):
    folder = run(OFTEN.replace(out=str(tmp_path))).folder
    no_regular_file(kind, folder / "records.jsonl")
    with pytest.raises(ValueError, match=r"records.jsonl is not a regular file"):
        resume(folder)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_read_back_from_its_configuration(name):
    preset = PRESETS[name][1]
    assert from_tree(json.loads(json.dumps(preset.tree()))) == preset


# ---------------------------------------------------------------------------------------------- the command line

SEARCH = [sys.executable, "-m", "zero_jax.cli", "search"]
SMALL = ["affine", "--trials", "1", "--train-steps", "3000000", "--checkpoint-seconds", "0.1", "--search-tasks.train", "50",
         "--search-tasks.valid", "20", "--baselines", "linear"]  # fmt: skip


def command(*arguments, **how):
    return subprocess.run([*SEARCH, *arguments], capture_output=True, text=True, timeout=300, **how)


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing_but_time(tmp_path):
    whole = command(*SMALL, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    (whole_folder,) = (tmp_path / "whole").iterdir()
    rng, kills = np.random.default_rng(0), 0
    process = subprocess.Popen([*SEARCH, *SMALL, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    while not (folders := list((tmp_path / "killed").glob("*/config.json"))):
        time.sleep(0.05)
    folder = folders[0].parent
    while kills < 3:
        time.sleep(rng.uniform(0.3, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = subprocess.Popen([*SEARCH, "--resume", str(folder)], stderr=subprocess.DEVNULL)
        time.sleep(1.5)  # imports
    assert process.wait(300) == 0
    np.testing.assert_equal(final(folder), final(whole_folder))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        [*SEARCH, "teacher", "--out", str(tmp_path), "--checkpoint-seconds", "0.2"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while not list(tmp_path.glob("*/checkpoint-*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    (folder,) = tmp_path.iterdir()
    assert f"zero-jax resume {folder}" in out


@pytest.fixture
def refused(capsys):
    """Calls the command line, which must say no in one line that has these parts."""

    def call_and_look(arguments, *parts):
        capsys.readouterr()
        assert call("search", *arguments) == 2
        assert_one_line(capsys.readouterr().err, *parts)

    return call_and_look


def assert_one_line(error, *parts):
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    for part in parts:
        assert part in error


def test_other_settings_are_refused(tmp_path, refused):
    first = run(QUICK.replace(out=str(tmp_path)))
    refused(["linear", "--seed", "3", "--resume", str(first.folder)], "Leave out: 'linear --seed 3'")
    refused(["--resume"], "--resume needs a value")
    refused(["--resume", str(tmp_path)], "is not the folder of a run")


def test_damaged_files_are_named_and_the_checkpoint_before_is_used(tmp_path, refused):
    first = run(OFTEN.replace(out=str(tmp_path)))
    want = final(first.folder)
    older, newest = sorted(first.folder.glob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged .*going on from {older.name}"):
        resume(first.folder)
    np.testing.assert_equal(final(first.folder), want)
    for path in first.folder.glob("checkpoint-*"):
        path.write_bytes(b"nothing")
    refused(["--resume", str(first.folder)], "is damaged", "no other checkpoint")
    config = first.folder / "config.json"
    whole = config.read_text()
    config.write_text(whole[:100])
    refused(["--resume", str(first.folder)], "config.json is damaged")
    config.write_text(whole.replace('"schema": 3', '"schema": 99'))
    refused(["--resume", str(first.folder)], "schema 99", "reads schema 3")


def test_what_a_run_goes_on_from_is_checked(tmp_path):
    first = run(OFTEN.replace(out=str(tmp_path)))
    newest = sorted(first.folder.glob("checkpoint-*"))[-1]
    whole = files.unpacked(newest.read_bytes())["run"]
    (trial,) = whole["trials"]
    for path, value, message in [
        (("seconds",), -1.0, "run.seconds is -1.0, not a finite number of at least 0"),
        (("searched",), None, "run.searched is None, not true or false"),
        (("progress", "diversity"), 2.0, "run.progress: .*diversity"),
        (("counts", "known"), -1, "run.counts.known is -1, not a whole number from 0 on"),
        (("hall", "programs", "memory"), [9, 3, 1], r"run.hall.programs.memory is \[9, 3, 1\], not "),
        (("trials",), [trial, trial], "run.trials has 2: 1 trials are under way at most"),
        (("trials", 0, "number"), 9, r"run.trials\[0\].number is 9, and . have begun"),
        (("trials", 0, "workers"), trial["workers"] * 2, r"run.trials\[0\] has 2 workers, not one"),
        (("trials", 0, "workers", 0, "checkpoint", "idle"), [1],
         r"run.trials\[0\].workers\[0\].checkpoint.idle is \[1\], not each of 1 groups once"),
        (("trials", 0, "workers", 0, "checkpoint", "evaluators", 0, "levels", 0, "tasks_share"), 2.0,
         r"checkpoint.evaluators\[0\].levels\[0\]: the share of tasks must be above 0 and at most 1, not 2.0"),
        (("trials", 0, "workers", 0, "checkpoint", "evaluators", 0, "levels"), [],
         r"checkpoint.evaluators\[0\]: levels do not begin with the whole"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            runner.Runner(OFTEN).restore(damage.put(whole, path, value))
    again = runner.Runner(OFTEN)
    again.restore(whole)
    assert again.progress.evaluations == first.progress.evaluations


def test_records_that_were_cut_are_reported(tmp_path, refused):
    first = run(QUICK.replace(out=str(tmp_path)))
    file = first.folder / "records.jsonl"
    os.truncate(file, file.stat().st_size - 10)
    refused(["--resume", str(first.folder)], "records.jsonl", "it was cut")


def test_a_folder_that_another_process_is_writing_is_refused(tmp_path):
    first = run(QUICK.replace(out=str(tmp_path)))
    held = RunFolder(first.folder)
    done = command("--resume", str(first.folder))
    assert done.returncode == 2
    assert_one_line(done.stderr, "is being written by another process")
    held.close()
    assert config_of(first.folder)["name"] == "demo"


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_a_message_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    whole = run(OFTEN.replace(out=str(tmp_path / "whole")))
    write, written = files.write_atomically, []

    def full(path, content):
        written.append(path)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_atomically", full)
        with pytest.raises(OSError, match=r"No space left on device: .*checkpoint.*zero-jax resume .* resumes it"):
            run(OFTEN.replace(out=str(tmp_path / "full")))
    (folder,) = (tmp_path / "full").iterdir()
    resume(folder)
    np.testing.assert_equal(final(folder), final(whole.folder))


def test_the_loop_writes_a_checkpoint_as_often_as_asked(tmp_path, monkeypatch):
    clock = iter(range(10**9))
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(clock) * 1.0)
    made = []
    monkeypatch.setattr(RunFolder, "checkpoint", lambda self, tree: made.append(tree["progress"]["evaluations"]))
    run(OFTEN.replace(out=str(tmp_path), checkpoint_seconds=10))
    often = len(made)
    run(OFTEN.replace(out=str(tmp_path), checkpoint_seconds=10**9))
    assert len(made) == often + 2  # soon, and at the end
    assert often > 5


def test_the_file_of_the_initial_program_may_be_gone_when_a_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = library.program("linear").listing(0)
    (tmp_path / "mine.txt").write_text(text)
    given = QUICK.replace(initial="mine.txt", out="runs")
    whole = run(given)

    def interrupt(progress):
        raise KeyboardInterrupt

    interrupted = run(given, interrupt)
    (tmp_path / "mine.txt").unlink()
    resume(interrupted.folder)
    np.testing.assert_equal(final(interrupted.folder), final(whole.folder))
