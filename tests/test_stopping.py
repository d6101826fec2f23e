"""Signals and streams: a search that ends for any reason that lets code run leaves what it has."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import pytest

from tests.helpers import QUICK, after
from zero_jax import library, tune
from zero_jax.cli import main
from zero_jax.run import trial
from zero_jax.run.api import resume, run
from zero_jax.support import files, stopping
from zero_jax.tasks import synthetic

SEARCH = [sys.executable, "-m", "zero_jax", "search"]
ENDLESS = ["demo", "--sufficient-fitness", "2", "--train-steps", "1000000000000", "--population", "100", "--cohort", "50",
           "--parallel-trials", "1", "--seed", "1"]  # fmt: skip


def quick_with(**changes):
    return QUICK.replace(parallel_trials=1, trials=1, **changes)


def started(tmp_path, *more, arguments=ENDLESS, **how):
    """A search under way, and its folder, once a cohort is through."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how
    process = subprocess.Popen([*SEARCH, *arguments, "--out", str(tmp_path / "runs"), *more], **pipes)
    deadline = time.monotonic() + 200
    while not (files := list((tmp_path / "runs").glob("*/records.jsonl"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, files[0].parent


def assert_whole(folder):
    """A checkpoint that can be gone on from, and what the search has."""
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["interrupted"]
    assert library.load(str(folder / "best.txt")).listing(0) == library.load(str(folder)).listing(0)
    newest = sorted(folder.glob("checkpoint-*.npz"))[-1]
    tree = files.unpacked(newest.read_bytes())["run"]
    assert tree["progress"]["evaluations"] == outcome["progress"]["evaluations"]
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
    return outcome


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="INT"),
        pytest.param(signal.SIGTERM, 143, id="TERM", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 143, id="HUP", marks=pytest.mark.slow),
    ],
)
def test_a_signal_leaves_a_checkpoint_and_the_best_and_the_run_goes_on(tmp_path, number, code):
    process, folder = started(tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Interrupted in trial 1" in out
    assert f"zero-jax resume {folder}" in out
    assert "Traceback" not in err
    before = assert_whole(folder)
    again = subprocess.Popen(
        [*SEARCH, "--resume", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while len(sorted(folder.glob("checkpoint-*.npz"))) < 2:
        assert again.poll() is None, again.communicate()
        time.sleep(0.02)
    again.send_signal(number)
    again.communicate(timeout=60)
    after = assert_whole(folder)
    assert after["progress"]["evaluations"] > before["progress"]["evaluations"]
    assert after["select_fitness"] >= before["select_fitness"]


@pytest.mark.slow
def test_two_signals_end_a_search_at_once(tmp_path):
    slow = ["empty", "--population", "2000", "--cohort", "2000", "--islands", "8", "--initial", "network",
            "--search-tasks.tasks", "40", "--search-tasks.epochs", "40"]  # fmt: skip
    process = subprocess.Popen(
        [*SEARCH, *slow, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("*/config.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(1)
    began = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_signal_before_anything_is_there_ends_the_command(tmp_path):
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen([*SEARCH, *ENDLESS, "--out", str(tmp_path)], stderr=subprocess.PIPE, text=True)
        time.sleep(0.4)  # modules are being imported
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert err.splitlines()[-1:] == ["interrupted"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "redirection",
    [
        ">&- 2>&-",
        "2>/dev/full",
        *(pytest.param(r, marks=pytest.mark.slow) for r in ("2>&-", ">&-", "2>/dev/null <&-", ">/dev/full")),
    ],
)
def test_streams_that_fail_lose_nothing(tmp_path, redirection):
    easy = [
        "--sufficient-fitness",
        "0.3",
        "--population",
        "100",
        "--cohort",
        "50",
        "--parallel-trials",
        "1",
        "--seed",
        "1",
    ]
    command = " ".join([*SEARCH, "demo", *easy, "--out", str(tmp_path / "runs"), redirection])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=200)
    full = redirection == ">/dev/full"  # what was asked for cannot be printed, and a message says so
    assert done.returncode == (2 if full else 0), done.stderr
    assert ("cannot write the output: " in done.stderr) == full
    assert "Traceback" not in done.stderr + done.stdout
    assert "Error" not in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "outcome.json").read_text())["solved"]
    assert (folder / "best.txt").read_text().startswith("def Setup():")


def test_a_worse_result_never_overwrites_a_better_one(tmp_path):
    """A run without a checkpoint goes on from its beginning; interrupted again soon, it would have less."""
    would_be_worse = 0
    for seed in range(4):
        quick = quick_with(seed=seed, train_steps=10**9, sufficient_fitness=2.0, out=str(tmp_path))
        first, alone = run(quick, after(60)), run(quick.replace(out=None), after(1))
        would_be_worse += alone.select_fitness < first.select_fitness
        for path in first.folder.glob("checkpoint-*"):
            path.unlink()
        second = resume(first.folder, after(1))
        assert second.progress.evaluations < first.progress.evaluations
        assert second.select_fitness == max(alone.select_fitness, first.select_fitness)
        best = first if alone.select_fitness < first.select_fitness else alone
        assert library.load(str(first.folder)).listing(0) == second.program.listing(0) == best.program.listing(0)
        rows = json.loads((first.folder / "hall.json").read_text())["rows"]
        assert max(row["select_fitness"] or 0 for row in rows) == second.select_fitness
        assert resume(first.folder, after(120)).select_fitness >= second.select_fitness
    assert would_be_worse


@pytest.mark.slow
def test_an_interruption_within_a_cohort_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    real, cohorts = trial.Trial.evaluate_cohort, []

    def evaluate_cohort(self):
        cohorts.append(1)
        if len(cohorts) == 5:
            raise KeyboardInterrupt
        real(self)

    quick = quick_with(train_steps=100_000, out=str(tmp_path), checkpoint_seconds=0)
    with monkeypatch.context() as patched:
        patched.setattr(trial.Trial, "evaluate_cohort", evaluate_cohort)
        outcome = run(quick)
    assert outcome.interrupted
    whole = run(quick)
    again = resume(outcome.folder)
    assert again.progress._replace(seconds=0) == whole.progress._replace(seconds=0)
    assert again.select_fitness >= whole.select_fitness


# ---------------------------------------------------------------------------------------------- the handler itself


def interrupt_here(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)


def test_a_second_signal_does_not_wait():
    with stopping.handled() as stop, stop.deferred(60):
        interrupt_here()
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interrupt_here()
        assert stop.exit_code == 130


def test_a_signal_waits_no_longer_than_the_grace():
    with stopping.handled() as stop:
        with stop.deferred(0.05), pytest.raises(KeyboardInterrupt):
            interrupt_here()
        with pytest.raises(KeyboardInterrupt):
            interrupt_here()  # not deferred


def test_signals_may_wait_for_the_end_of_a_block():
    ended = []

    def deferred(stop):
        with stop.deferred(None):
            interrupt_here(3)
            ended.append(True)

    with stopping.handled() as stop, pytest.raises(KeyboardInterrupt):
        deferred(stop)
    assert ended


def test_handlers_of_others_stay_and_terminations_are_passed_on():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("mine"))
    try:
        with stopping.handled():
            os.kill(os.getpid(), signal.SIGTERM)
        assert came == ["mine"]
    finally:
        signal.signal(signal.SIGTERM, before)
    usual = signal.getsignal(signal.SIGINT)
    with stopping.handled(), stopping.handled():
        assert signal.getsignal(signal.SIGINT) is not usual
    assert signal.getsignal(signal.SIGINT) is usual
    code = (
        "import os, signal\nfrom zero_jax.support import stopping\nwith stopping.handled() as stop:\n"
        "  with stop.deferred():\n    os.kill(os.getpid(), signal.SIGTERM)\nprint('not reached')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_a_run_on_another_thread_needs_no_signals():
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run(quick_with(train_steps=1000))))
    thread.start()
    thread.join(200)
    assert outcomes[0].program is not None


# ---------------------------------------------------------------------------------------------- progress


def test_without_a_terminal_progress_is_a_plain_line_now_and_then(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("zero_jax.run.progress.SECONDS_PER_LINE", 0.3)
    few = ["--population", "60", "--cohort", "30", "--parallel-trials", "1", "--sufficient-fitness", "2"]
    assert main(["search", "demo", *few, "--trials", "1", "--time-limit", "1.5s", "--out", "None"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "compiling" not in line]
    assert 2 <= len(lines) <= 7
    for line in lines:
        form = r"demo: \d+%, (\d\d:\d\d left, )?[\d,]+ evaluations, \d\d:\d\d, trial 1, best fitness \d\.\d{5}"
        assert re.fullmatch(form, line), line
    assert "left" not in lines[0]  # nobody knows yet
    assert "left" in lines[-1]
    shares = [int(match[1]) for line in lines if (match := re.search(r"(\d+)%", line))]
    assert shares == sorted(shares)
    assert shares[-1] > 30


def test_quiet_says_nothing_but_the_result(capsys, tmp_path):
    few = [
        "--population",
        "60",
        "--cohort",
        "30",
        "--train-steps",
        "20000",
        "--trials",
        "1",
        "--out",
        str(tmp_path),
    ]
    for arguments in (["search", "demo", *few, "--quiet"], ["--quiet", "search", "demo", *few]):
        assert main(arguments) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "after trial 1" in out
    assert main(["tune", "linear", "--tasks", "2", "--train", "50", "--evaluations", "20", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_terminal_shows_a_bar_with_percentage_and_time_left(tmp_path):
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 150, 0, 0))
    few = ["--population", "60", "--cohort", "30", "--train-steps", "30000000", "--trials", "1", "--out", "None"]
    process = subprocess.Popen([*SEARCH, "demo", *few], stdout=subprocess.PIPE, stderr=writer, text=True)
    os.close(writer)
    shown = b""
    while True:
        try:
            part = os.read(reader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.communicate(timeout=60)
    assert process.returncode == 0
    text = shown.decode(errors="replace")
    assert re.search(r"demo:\s+\d+%\|.*\d\d:\d\d<\d\d:\d\d.*evaluations, trial 1, best fitness", text)


# ---------------------------------------------------------------------------------------------- tuning


@pytest.mark.parametrize("method", ["random", "optuna", "gradient"])
def test_tuning_that_is_interrupted_or_out_of_time_keeps_the_best_so_far(method):
    slow, few = library.program("linear", learning_rate=0.0001), synthetic.linear(2, train=30)
    seen = []

    def interrupt(done, fitness):
        seen.append((done, fitness))
        if done > 60:
            raise KeyboardInterrupt

    tuned = tune(slow, few, method, evaluations=5000, report=interrupt)
    assert tuned.interrupted
    assert 60 < tuned.evaluations < 2000
    assert tuned.fitness >= max(fitness for _, fitness in seen) > tuned.fitness_before
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    timed = tune(slow, few, method, evaluations=10**6, time_limit=1.0)
    assert not timed.interrupted
    assert timed.evaluations < 10**6
    assert timed.seconds < 30
    assert timed.fitness > timed.fitness_before


def test_ctrl_c_ends_tune_with_what_it_has(tmp_path):
    command = [sys.executable, "-m", "zero_jax", "tune", "network", "--task", "teacher", "--features", "8",
               "--method", "optuna", "--evaluations", "100000", "--out", str(tmp_path / "best.txt")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "best fitness" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted after " in out
    assert "Traceback" not in err
    assert library.load(str(tmp_path / "best.txt")).listing(0) in out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
def test_signals_at_random_moments(tmp_path, number):
    rng = np.random.default_rng(number)
    for i in range(4):
        process, folder = started(tmp_path / str(i), "--checkpoint-seconds", "0.3")
        time.sleep(rng.uniform(0, 2))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else 143), err
        assert_whole(folder)
