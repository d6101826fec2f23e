"""Command lines: options in any combination, with values that nobody should give them."""

import functools
import os
import re
import shutil

import numpy as np
import pytest

from tests.fuzz import commands
from tests.fuzz.fuzzing import NUMBERS, TEXTS, Refused, must
from zero_jax import library

TASKS = ["--tasks", "2", "--train", "8", "--valid", "8"]

BASES = {
    "search": [
        "search", "demo", "--train-steps", "1000", "--population", "10", "--cohort", "5", "--islands", "1", "--trials", "1",
        "--search-tasks.train", "8", "--search-tasks.tasks", "2", "--time-limit", "1s", "--baselines",
    ],
    "evaluate": ["evaluate", "linear", *TASKS],
    "tune": ["tune", "linear", *TASKS, "--evaluations", "5", "--time-limit", "1s"],
    "show": ["show", "linear"],
    "report": ["report", "run"],
    "bench": ["bench"],
    "completion": ["completion", "fish"],
    "resume": ["search", "--resume", "run"],
}  # fmt: skip
"""Each ends at once, whatever stands behind it."""

FILES = [
    "mine.npz", "program.txt", "folder", "folder.npz", "fifo", "fifo.npz", "missing", "missing.npz", "loop", "loop.npz", "empty.npz",
    "program.txt/x", "run", "run/config.json", "/dev/zero", "/dev/null", "/dev/full", "/proc/self/mem", "x" * 5000, "x" * 5000 + ".npz", "\x1b[31m.npz", "\x00.npz",
]  # fmt: skip

NAMES = [
    "linear",
    "network",
    "softmax_linear",
    "digits",
    "affine",
    "paper",
    "rmse",
    "random",
    "efficient",
    "simd",
    "operations",
    "log",
    "json",
]


@pytest.fixture(scope="module")
def given(tmp_path_factory, runs_to_damage):
    """What the folder holds in which commands are called."""
    folder = tmp_path_factory.mktemp("given")
    x = np.random.default_rng(0).normal(size=(2, 8, 3))
    np.savez(folder / "mine.npz", train_x=x, train_y=x[..., 0], valid_x=x, valid_y=x[..., 0])
    (folder / "program.txt").write_text(library.program("network").listing(0))
    (folder / "empty.npz").touch()
    for name in ("folder", "folder.npz"):
        (folder / name).mkdir()
    for name in ("loop", "loop.npz"):
        (folder / name).symlink_to(name)
    shutil.copytree(runs_to_damage[-1].folder, folder / "run")
    for words in (["search", *BASES["search"][1:], "--method", "efficient", "--out", "None"], BASES["tune"]):
        assert commands.call(*words).code == 0
    for features in ("3", "4", "16"):  # loops are compiled for these, and for any other number at once
        assert commands.call(*BASES["evaluate"], "--features", features).code == 0
    return folder


@functools.cache
def options(command):
    """Those that its help names, and some that belong to others."""
    words = BASES[command][:2] if command == "search" else BASES[command][:1]
    text = commands.call(*words, "--help").out
    return sorted({*re.findall(r"--[a-z][a-z0-9.-]*[a-z]", text), "--quiet"} - {"--ray"})


def command_line(rng):
    command = rng.choice([*BASES, *["search", "evaluate", "tune"] * 2])
    words = list(BASES[command])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        words += option(rng, command)
    if command in ("evaluate", "tune", "show", "report", "completion") and not rng.randrange(3):
        words[1] = value(rng)
    if command == "bench":  # which takes a minute otherwise
        words += ["--features", "0"]
    if not rng.randrange(20):
        words.insert(rng.randrange(len(words)), rng.choice(["--version", "--quiet", "--help", "-h", value(rng)]))
    if not rng.randrange(30):
        words[0] = value(rng)
    return words


def option(rng, command):
    name = rng.choice(options(command)) if rng.randrange(12) else rng.choice(["--bogus", "--", "-x", "--=", *TEXTS])
    if not rng.randrange(10):
        name = rng.choice([name.replace("-", "_").replace("__", "--", 1), name.upper(), name[:-2], name + name[-1]])
    values = [value(rng) for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 1, 3]))]
    if name == "--out":
        values = [one for one in values if one not in ("/", "\\")]
    words = [f"{name}={values[0]}"] if values and not rng.randrange(4) else [name, *values]
    return words * rng.choice([1, 1, 1, 1, 2])


def value(rng):
    text = rng.choice(rng.choice([NUMBERS, NUMBERS, NUMBERS[:8], TEXTS, FILES, NAMES]))
    return text.replace("\x00", "") if rng.randrange(4) else text


@pytest.mark.slow
def test_command_lines_end_with_one_message_or_do_what_they_say(fuzz, given, tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    outside = tmp_path / "a" / "b"

    def attempt(rng):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        shutil.copytree(given, folder, symlinks=True)
        for name in ("fifo", "fifo.npz"):
            os.mkfifo(folder / name)
        os.chdir(folder)
        words = command_line(rng)
        done = commands.call(*words)
        if not any(".." in word for word in words):
            left = [*tmp_path.iterdir(), *(tmp_path / "a").iterdir(), *outside.iterdir()]
            must(left == [tmp_path / "a", outside, folder], f"{words!r} left {left}")
        if done.code:
            raise Refused

    fuzz("command lines", 300, attempt)
