"""Arguments of the scripts: mistakes end them before anything is run or written."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "experiments"
NAMES = [
    *(
        "adaptation",
        "beyond",
        "binary_images",
        "difficulty",
        "discovery_table",
        "network",
        "paper_programs",
        "searchers",
    ),
    *("search_baselines", "tables", "teacher"),
]


def refused(name, words, monkeypatch, capsys):
    """The last line of what the experiment says as it refuses."""
    monkeypatch.syspath_prepend(str(FOLDER))
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main([str(word) for word in words])
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_all_refuse_the_same(name, tmp_path, monkeypatch, capsys):
    for words, said in [
        (["--seeds", "0", "0"], "each seed once"),
        (["--seeds", "-1"], "'-1' is not a whole number from 0 on"),
        (["--out", tmp_path / "nowhere" / "x.json"], "cannot be written"),
        (["--out", tmp_path / "x.svg"], "does not end in .json"),
    ]:
        assert said in refused(name, words, monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("paper_programs", ["--only", "nonsense"], "no case 'nonsense'; the cases are 'digits, F = 16'"),
        ("paper_programs", ["--evaluations", "0"], "'0' is not a whole number from 1 on"),
        ("search_baselines", ["--processes", "1", "1", "4"], "three different numbers"),
        ("binary_images", ["--dataset", "nosuch"], "nosuch"),
        ("discovery_table", ["--problems", "nonsense"], "unknown 'nonsense'; expected among linear, affine"),
        ("searchers", ["--methods", "annealing"], "unknown 'annealing'; expected among darts, evolution"),
        ("discovery_table", ["--limit", "2"], "--limit is above 0 and at most 1"),
        ("network", ["--only", "nonsense"], "unknown 'nonsense'; expected among niche search"),
        ("beyond", ["--settings", "nonsense"], "unknown 'nonsense'; expected among plain"),
        ("beyond", ["--jobs", "0"], "'0' is not a whole number from 1 on"),
        ("binary_images", ["--dataset", "linear"], "linear has no pairs of classes"),
    ],
)
def test_mistakes_of_one(name, words, said, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    assert said in refused(name, words, monkeypatch, capsys)
    assert {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()} == before


@pytest.mark.slow
def test_processes_end_with_the_experiment(tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(
        "import os, time, results\n"
        "def wait(_):\n    print(os.getpid(), flush=True); time.sleep(60)\n"
        "if __name__ == '__main__':\n    results.mapped(2, wait, [0, 1])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])}
    parent = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
