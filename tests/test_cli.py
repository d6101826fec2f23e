"""The command line, run for real."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.helpers import QUICK_COMMAND, call
from zero_jax import Programs, library
from zero_jax.program.canonical import pruned


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_search_prints_what_it_found_and_where_it_wrote_it(capsys, tmp_path):
    assert call(*QUICK_COMMAND, "--seed", 3) == 0
    out, err = capsys.readouterr()
    assert "Stopped after trial 1, below the target fitness of 0.9999" in out
    for words in (
        "T_search (3 tasks)",
        "T_select (3 tasks)",
        "unseen (3 tasks)",
        "def Predict():",
        "Written to runs/demo-seed3-",
    ):
        assert words in out
    assert "best fitness" in err
    assert "trial 1" in err
    (folder,) = (tmp_path / "runs").iterdir()
    assert call("show", folder / "best.txt") == 0
    shown = capsys.readouterr().out.strip()
    printed = "\n".join(line.split("#")[0].rstrip() for line in out.splitlines())  # without the roles
    assert pruned(Programs.parse(shown, memory=(4, 3, 1))).listing() in printed
    assert call("evaluate", folder / "best.json", "--tasks", 3) == 0
    assert "mean fitness" in capsys.readouterr().out


def test_search_solves_an_easy_space(capsys):
    easy = [
        "--space.setup.ops", "SCALAR_CONST_SET", "--space.predict.ops", "27", "--space.learn.ops", "2", "3", "18", "23",
        *["--space.setup.size", "1", "1", "1", "--space.predict.size", "1", "1", "1", "--space.learn.size", "4", "4", "4"],
    ]  # fmt: skip
    assert call("search", "demo", *easy, "--trials", 5) == 0
    out = capsys.readouterr().out
    assert "Solved in trial" in out


def test_a_long_search_tells_its_memory_and_time_first(capsys, monkeypatch):
    monkeypatch.setattr("zero_jax.run.forecast.LONG", 1000)
    easy = ["--sufficient-fitness", 0.1, "--search-tasks.tasks", 2, "--search-tasks.train", 64, "--out", "None"]
    assert call("search", "demo", *easy, "--trials", 1) == 0
    first, rest = capsys.readouterr().out.split("\n", 1)
    assert first.startswith("A generation of 2,000 programs sees 256,000 training examples: about 0.")
    assert "GiB of memory" in first
    assert "Solved in trial 1" in rest
    for mistake in (["--initial", "nonsense"], ["--unseen-tasks.source", "nonsense"]):
        assert call("search", "demo", *easy, *mistake) == 2
        assert "A generation" not in capsys.readouterr().out


@pytest.mark.slow
def test_digits_prints_accuracy_beside_the_baselines(capsys):
    few = ["--train-steps", 300000, "--search-tasks.tasks", 2, "--select-tasks.tasks", 9, "--unseen-tasks.tasks", 9]
    assert call("search", "empty", *few, "--out", "None") == 0
    out = capsys.readouterr().out
    assert "\naccuracy  " in out
    rows = {
        line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("linear", "network", "best"))
    }
    assert set(rows) == {"linear", "network", "best"}
    assert float(rows["linear"][-2]) > 0.9
    assert "Written" not in out


def test_evaluate_takes_names_files_and_your_own_arrays(capsys, tmp_path):
    assert call("evaluate", "linear", "--tasks", 5, "--seed", 1) == 0
    out = capsys.readouterr().out
    assert "Tasks(5 tasks, 1000 + 100 examples, 4 features, rmse, epochs=1)" in out
    assert float(out.split("mean fitness ")[1].split()[0]) > 0.999
    x = np.random.default_rng(0).normal(size=(2, 50, 4))
    np.savez(tmp_path / "mine.npz", train_x=x, train_y=x[..., 0], valid_x=x, valid_y=x[..., 0])
    (tmp_path / "mine.txt").write_text(library.program("linear").listing(0))
    assert call("evaluate", "mine.txt", "--task", "mine.npz") == 0
    assert "2 tasks, 50 + 50 examples" in capsys.readouterr().out
    digits = ["--task", "digits", "--tasks", 9, "--features", 4, "--train", 200, "--valid", 50]
    assert call("evaluate", "network", *digits) == 0
    assert "mean accuracy" in capsys.readouterr().out
    assert call("evaluate", "linear", "--task", "digits") == 0
    assert "Tasks(45 tasks, 240 + 50 examples, 16 features, accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["listing", "proto", "json"])
def test_show_prints_every_form_so_that_it_can_be_read_again(capsys, tmp_path, form):
    assert call("show", "network", "--form", form) == 0
    text = capsys.readouterr().out
    (tmp_path / "program").write_text(text)
    assert call("show", "program") == 0
    assert capsys.readouterr().out.strip() == library.program("network").listing(0)


GOOD = library.program("linear").listing(0)


def arrays(**change):
    x, y = np.zeros((2, 5, 3)), np.zeros((2, 5))
    return {"train_x": x, "train_y": y, "valid_x": x, "valid_y": y} | change


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "foo"], ["foo", "linear, affine, teacher, digits"]),
        (["search", "linera"], ["unknown preset 'linera'; did you mean 'linear'?"]),
        (["search", "demo", "--import", "climb.py"], ["without .py, as in --import climb"]),
        (["search", "demo", "--space.learn.size", "3", "2", "1"], ["--space.learn.size: sizes must be 0 <= fewest"]),
        (["search", "demo", "--mutations.weights", "1"], ["--mutations.*: weights (1.0,) must give"]),
        (["search"], ["linear"]),
        (["search", "demo", "--bogus", "3"], ["--bogus"]),
        (["search", "demo", "--seed", "x"], ["--seed"]),
        (["search", "demo", "--population", "10"], ["cohort of 1000", "population of 10"]),
        (["search", "demo", "--space.setup.ops", "70"], ["there is no op 70"]),
        (["search", "demo", "--space.setup.ops", "SCALAR_CONST"], ["--space.setup.ops: unknown op 'SCALAR_CONST'; did you mean 'SCALAR_CONST_SET'?"]),
        (["search", "demo", "--executor", "gpu"], ["executor must be one of auto, xla, ", "not 'gpu'"]),
        (["search", "demo", "--executor", "pallas"], ["needs an NVIDIA GPU", "the device here is cpu", "'xla' or 'simd'"]),
        (["search", "demo", "--devices", "3"], ["devices=3 needs several GPUs or TPUs"]),
        (["search", "demo", "--groups", "3"], ["2 islands cannot be divided into 3 groups of one size"]),
        (["bench", "--executor", "pallas"], ["needs an NVIDIA GPU", "'xla' or 'simd'"]),
        (["bench", "--executor", "cuda"], ["needs an NVIDIA GPU", "'xla' or 'simd'"]),
        (["evaluate", "linear", "--executor", "pallas"], ["needs an NVIDIA GPU"]),
        (["search", "demo", "--search-tasks.source", "foo"], ["unknown tasks 'foo'"]),
        (["search", "demo", "--search-tasks.tasks", "0"], ["at least 1"]),
        (["search", "demo", "--max-bytes", "10"], ["raise max_bytes"]),
        (["search", "demo", "--initial", "nowhere.txt"], ["nowhere.txt"]),
        (["search", "teacher", "--search-tasks.features", "2"], ["at least 3 features"]),
        (["search", "empty", "--search-tasks.train", "2000"], ["cannot take"]),
        (["search", "empty", "--search-tasks.source", "four.npz"], ["search tasks are 'four.npz', but the select and unseen tasks would still be digits"]),
        (["search", "empty", "--search-tasks.source", "four.npz", "--select-tasks.source", "digits", "--unseen-tasks.source", "digits"],
         ["must have the same labels", "4 classes (search_tasks), 2 classes (select_tasks)"]),
        (["search", "demo", "--search-tasks.source", "nothing.npz"], ["no file nothing.npz"]),
        (["search", "demo", "--unseen-tasks.source", "digits"], ["numbers (select_tasks), 2 classes (unseen_tasks)"]),
        (["evaluate", "linear", "--task", "digits", "--classes", "11"], ["digits has 10 classes, not 11"]),
        (["evaluate", "linear", "--task", "digits", "--train", "-5"], ["train and valid must be at least 2, an example of each class, not -5"]),
        (["search", "demo", "--initial", "far.json"], ["far.json: ", "s9 is outside the memory of 4 scalars"]),
        (["evaluate", "linear", "--seed", "-1"], ["zero-jax: seed must be at least 0, not -1"]),
        (["evaluate", "linear", "--seed", "1.5"], ["--seed: must be a whole number, not '1.5'"]),
        (["evaluate", "linear", "--draws-seed", "-1"], ["zero-jax: draws_seed must be at least 0, not -1"]),
        (["evaluate", "linear", "--draws-seed", "4294967296"], ["draws_seed must be from 0 to 4,294,967,295, not 4294967296"]),
        (["evaluate", "linear", "--seed", str(2**64)], ["seed must be from 0 to 18,446,744,073,709,551,615, not 18446744073709551616"]),
        (["search", "demo", "--seed", "-1"], ["zero-jax: seed must be at least 0, not -1"]),
        (["search", "demo", "--seed", "1.5"], ["--seed: must be a whole number, not '1.5'"]),
        (["search", "demo", "--seed", str(2**64)], ["seed must be from 0 to 18,446,744,073,709,551,615, not 18446744073709551616"]),
        (["search", "demo", "--hurdle-tasks", "2"], ["zero-jax: hurdle_tasks must be from 0 to 1, not 2.0"]),
        (["evaluate", "linear", "--tasks", "-3"], ["zero-jax: tasks must be at least 1, not -3"]),
        (["evaluate", "linear", "--task", "digits", "--features", "100"], ["64 dimensions", "not 100"]),
        (["evaluate", "linear", "--task", "nan.npz", "--epochs", "5"], ["--epochs cannot be used with 'nan.npz'"]),
        (["evaluate", "big.json"], ["big.json: program 0, setup, instruction 1: a number is beyond float32"]),
        (["evaluate", "big.txt"], ["line 2 (Setup, instruction 1): the constant 1e+300 is beyond float32"]),
        (["evaluate", "twice.proto"], ["line 1 (Setup, instruction 1): a field occurs twice"]),
        (["evaluate", "deep.json"], ["deep.json: not JSON"]),
        (["evaluate", "linear", "--task", "objects.npz"], ["objects.npz: train_y is an array of Python objects, not of numbers"]),
        (["evaluate", "linear", "--task", "words.npz"], ["words.npz: train_x is not an array of numbers"]),
        (["evaluate", "linear", "--features", "1000000000000"], ["features must be from 1 to 20,000, not 1000000000000"]),
        (["search", "demo", "--sufficient-fitness", "nan"], ["sufficient_fitness must be a number"]),
        (["search", "demo", "--islands", "1000000000000"], ["islands must be from 1 to 1,000,000, not 1000000000000"]),
        (["search", "demo", "--cohort", "0"], ["cohort must be at least 1, not 0"]),
        (["search", "demo", "--mutations.weights", "inf", "1", "1"], ["weights"]),
        (["search", "demo", "--space.setup.ops", "--space.predict.ops", "--space.learn.ops"], ["nothing can be mutated"]),
        (["search", "demo", "--space.learn.ops", "61", "--search-tasks.epochs", "50000"], ["at most 4,194,304 runs"]),
        (["search", "demo", "--initial", "cifar10"], ["outside the memory"]),
        (["search", "demo", "--baselines", "cifar10"], ["unknown baseline 'cifar10'; expected one of linear, network"]),
        (["evaluate", "empty.json"], ["empty.json holds no programs"]),
        (["evaluate", "memory.json"], ["memory.json: memory must be three whole numbers"]),
        (["evaluate", "nothing.txt"], ["nothing.txt", "linear, network, cifar10"]),
        (["evaluate", "bad.txt"], ["bad.txt: line 2 (Setup, instruction 1): cannot read 's2 == 0.5'"]),
        (["evaluate", "far.txt"], ["far.txt"]),
        (["evaluate", "bad.json"], ["bad.json: not JSON"]),
        (["evaluate", "op.json"], ["op.json: program 0, setup, instruction 1: there is no op 65"]),
        (["evaluate", "address.json"], ["s9 is outside the memory of 4 scalars"]),
        (["evaluate", "bad.proto"], ["line 1 (Learn, instruction 1): unknown op 'NOPE'"]),
        (["evaluate", "."], [". is a folder, but not a run"]),
        (["evaluate", "linear", "--task", "nan.npz"], ["nan.npz: valid_x[1, 2, 0] is nan"]),
        (["evaluate", "linear", "--task", "shape.npz"], ["train_x (2, 5, 3) and valid_x (2, 5, 2) differ"]),
        (["evaluate", "linear", "--task", "labels.npz"], ["train_y[0, 0] is 3.0: labels must be 0 or 1"]),
        (["show", "linear", "--form", "xml"], ["--form"]),
        (["dance"], ["unknown command 'dance'", "search PRESET"]),
        ([], ["no command given"]),
    ],
)  # fmt: skip
def test_bad_input_gives_one_message_exit_code_2_and_no_files(capsys, tmp_path, arguments, words):
    bad = np.zeros((2, 5, 3))
    bad[1, 2, 0] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays(valid_x=bad))
    np.savez(tmp_path / "shape.npz", **arrays(valid_x=np.zeros((2, 5, 2))))
    np.savez(tmp_path / "labels.npz", **arrays(train_y=np.full((2, 5), 3.0), loss="accuracy"))
    np.savez(tmp_path / "objects.npz", **arrays(train_y=np.array([None, {}])))
    np.savez(tmp_path / "words.npz", **arrays(train_x=np.full((2, 5, 3), "1.5")))
    np.savez(
        tmp_path / "four.npz",
        **arrays(train_x=np.zeros((2, 5, 16)), valid_x=np.zeros((2, 5, 16)), loss="accuracy", classes=4),
    )
    files = {
        "bad.txt": "def Setup():\n  s2 == 0.5",
        "far.txt": "def Setup():\n  s2 = dot(v0)",
        "bad.json": "{nope",
        "op.json": json.dumps({"schema": 1, "memory": [4, 3, 1], "programs": [[[[65]], [], []]]}),
        "address.json": json.dumps({"schema": 1, "memory": [4, 3, 1], "programs": [[[[1, 9, 0, 1]], [], []]]}),
        "far.json": json.dumps({"schema": 1, "memory": [10, 3, 1], "programs": [[[[1, 9, 0, 1]], [], []]]}),
        "empty.json": json.dumps({"schema": 1, "memory": [4, 3, 1], "programs": []}),
        "big.json": json.dumps({"schema": 1, "memory": [4, 3, 1], "programs": [[[[56, 0, 0, 2, 10**400]], [], []]]}),
        "big.txt": "def Setup():\n  s2 = 1e300",
        "twice.proto": "setup_instructions { op: SCALAR_CONST_SET_OP out: 2 out: 3 }",
        "deep.json": "[" * 100_000,
        "memory.json": '{"schema": 1, "memory": [Infinity, 3, 1], "programs": []}',
        "bad.proto": "learn_instructions { op: NOPE }",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    message = " ".join((out + err).replace("│", " ").split())
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (
            ["evaluate", "network", "--classes", 10],
            "the program predicts s1, these tasks read v2: as softmax_linear does",
        ),
        (["evaluate", "softmax_linear"], "the program predicts v2, these tasks read s1: as linear does"),
        (["tune", "softmax_linear", "--evaluations", 2, "--quiet"], "the program predicts v2"),
        (["evaluate", "softmax_linear", "--classes", 10], ""),
        (["evaluate", "network"], ""),
    ],
)
def test_a_program_for_other_labels_is_noted(capsys, arguments, note):
    assert call(*arguments, "--task", "digits", "--tasks", 1, "--train", 20, "--valid", 10) == 0
    err = capsys.readouterr().err
    assert note in err
    assert len(err.splitlines()) == bool(note)


def test_prune_sees_which_prediction_a_program_makes(capsys):
    for options in ([], ["--labels", "vector"]):
        assert call("show", "softmax_linear", "--prune", *options) == 0
        assert capsys.readouterr().out.strip() == library.program("softmax_linear").listing(0)


@pytest.mark.parametrize("command", ["evaluate", "tune", "show", "export"])
def test_help_names_the_programs_of_the_library(capsys, command):
    assert call(command, "--help") == 0
    words = capsys.readouterr().out.replace("│", " ").replace(",", " ").split()
    assert set(library.NAMES) <= set(words)


def test_an_unwritable_folder_is_one_message(capsys, tmp_path):
    (tmp_path / "runs").write_text("a file")
    assert call(*QUICK_COMMAND) == 2
    assert "runs" in capsys.readouterr().err


def test_an_empty_program_a_windows_file_and_a_single_task_are_fine(capsys, tmp_path):
    (tmp_path / "empty.txt").write_text("def Setup():\ndef Predict():\ndef Learn():\n")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    for name in ("empty.txt", "windows.txt"):
        assert call("evaluate", name, "--tasks", 1) == 0
        assert "mean fitness 0." in capsys.readouterr().out


def test_help_lists_presets_and_options(capsys):
    assert call("--help") == 0
    assert "search PRESET" in capsys.readouterr().out
    assert call("search", "demo", "--help") == 0
    out = capsys.readouterr().out
    for option in ("--seed", "--population", "--islands", "--cohort", "--train-steps", "--mutations.types"):
        assert option in out


@pytest.mark.parametrize("command", ["show network", "evaluate linear --tasks 2", "--help"])
def test_a_closed_pipe_is_no_error_worth_a_traceback(command):
    call = [sys.executable, "-m", "zero_jax.cli", *command.split()]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = [line for line in process.stderr.read().splitlines() if "waiting for another process" not in line]
        assert not said  # beside that another test's process happens to compile the same
        assert process.wait(60) == 1


def test_ctrl_c_ends_cleanly_with_what_was_found(tmp_path):
    command = [sys.executable, "-m", "zero_jax.cli", "search", "demo", "--sufficient-fitness", "2", "--seed", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/records.jsonl")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted in trial" in out
    assert "def Predict():" in out
    assert "Traceback" not in err
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "outcome.json").read_text())["interrupted"]
    assert (folder / "best.txt").exists()


IN_THE_COLLECTOR = """
import gc, os, signal, time
from zero_jax.support import stopping

once = [True]

def _xla_gc_callback(*_):  # as JAX's: what is raised in here is printed and lost
    if once:
        once.clear()
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))

gc.callbacks.append(_xla_gc_callback)
with stopping.handled():
    try:
        gc.collect()
        time.sleep(10)
    except KeyboardInterrupt:
        print("caught")
"""


def test_ctrl_c_is_not_lost_in_the_garbage_collector():
    done = subprocess.run([sys.executable, "-c", IN_THE_COLLECTOR], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("caught\n", "")
