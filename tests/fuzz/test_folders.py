"""Folders of runs: files changed, swapped, removed, or replaced by what is no file."""

import json
import os
import shutil

import pytest
from markupsafe import Markup

from tests.fuzz import commands, runs
from tests.fuzz.fuzzing import Refused, dumped, must, mutated_bytes, mutated_text, mutated_tree
from zero_jax.report import figures

NAMES = ["config.json", "records.jsonl", "hall.json", "lineage.json", "outcome.json", "best.json", "best.txt"]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pages without figures, which take a second."""
    monkeypatch.setattr(figures, "_svg", lambda *args, **how: Markup("<svg></svg>"))


def damage(rng, folder, other):
    """Changes one file."""
    there = sorted(p for p in folder.iterdir() if p.name != ".lock")
    file = rng.choice([rng.choice(there), *[folder / rng.choice(NAMES)] * 2])
    elsewhere = rng.choice([other / file.name, *there, *sorted(other.iterdir())])
    way = rng.randrange(12)
    if way <= 4 and file.suffix == ".json" and file.is_file():
        change_json(rng, file)
    elif way <= 6 and file.is_file():
        change_bytes(rng, file, elsewhere)
    elif way <= 8 and elsewhere.is_file():
        data = read(elsewhere)
        remove(file)
        file.write_bytes(data)
    elif way == 9:
        remove(file)
    else:
        remove(file)
        put_something_else(rng, file)


def read(file):
    with open(file, "rb") as stream:
        return stream.read(1_000_000)


def remove(file):
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def change_json(rng, file):
    try:
        tree = json.loads(read(file))
    except (ValueError, RecursionError):  # changed before
        return
    if (
        file.name == "config.json"
        and isinstance(tree, dict)
        and isinstance(tree.get("config"), dict)
        and rng.randrange(2)
    ):
        tree["config"] = with_another_setting(rng, tree["config"])
    else:
        tree = mutated_tree(rng, tree)
    file.write_text(dumped(tree))


def with_another_setting(rng, config):
    name = rng.choice(list(config) or ["name"])
    if isinstance(config.get(name), dict) and rng.randrange(4):
        return config | {name: with_another_setting(rng, config[name])}
    changed = mutated_tree(rng, {name: config.get(name)})
    return config | changed if isinstance(changed, dict) else changed


def change_bytes(rng, file, elsewhere):
    data = read(file)
    others = [data, read(elsewhere) if elsewhere.is_file() else b""]
    if rng.randrange(2):
        file.write_bytes(mutated_bytes(rng, data, others))
    else:
        text = mutated_text(rng, data.decode("latin1"), [other.decode("latin1") for other in others])
        file.write_bytes(text.encode("utf-8", "surrogatepass"))


def put_something_else(rng, file):
    way = rng.randrange(7)
    if way == 0:
        file.mkdir()
    elif way == 1:
        os.mkfifo(file)
    elif way == 2:
        file.symlink_to(rng.choice([file, "nowhere", "/dev/zero", "/dev/null", ".", "/proc/self/mem", "/dev/full"]))
    elif way == 3:
        file.write_bytes(b"")
    elif way == 4:
        with open(file, "wb") as sparse:
            sparse.truncate(rng.choice([100, 2**40]))
    elif way == 5:
        file.write_text(rng.choice(["{}", "[]", "null", "0", "\n", '"x"', "[" * 100_000, '{"schema": 2}', "\ufeff{}"]))
    else:
        file.write_bytes(rng.randbytes(1000))


@pytest.mark.slow
def test_a_run_is_reported_and_resumed_or_refused(fuzz, runs_to_damage, tmp_path):
    def attempt(rng):
        run, other = rng.choice(runs_to_damage), rng.choice(runs_to_damage)
        folder = runs.copied(run, tmp_path)
        for _ in range(rng.choice([1, 1, 2])):
            damage(rng, folder, rng.choice([other.folder, other.folder.parent / "whole"]))
        report = commands.call("report", str(folder))
        resumed = commands.call("search", "--resume", str(folder), "--quiet")
        if resumed.code == 0 and not resumed.err:
            must(run.listing in resumed.out, f"a silent change: {run.listing} is not in {resumed.out}")
            if all((folder / name).is_file() for name in ("outcome.json", "best.json")):
                outcome = runs.outcome_in(folder)
                must(outcome == run.outcome, f"a silent change: {outcome} is not {run.outcome}")
        if report.code or resumed.code:
            raise Refused

    fuzz("run folders", 200, attempt)
