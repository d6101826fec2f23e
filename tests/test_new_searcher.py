"""The example searcher of ARCHITECTURE.md: registered, run, saved and continued."""

import dataclasses
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import QUICK, after, call, read_json, records, without_clock
from tests.spaces import DEMO
from zero_jax import Candidates, Evaluator
from zero_jax.run import cluster, run
from zero_jax.run.config import from_folder
from zero_jax.search import SEARCHERS, Best, Searcher, register
from zero_jax.support.codec import encode
from zero_jax.support.files import packed, unpacked
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, features=4, train=20, valid=10)


@pytest.fixture(scope="module")
def source():
    """The example, as somebody would copy it into a file."""
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text()
    (source,) = re.findall(r"## A new searcher\n.*?```python\n(.*?)```", text, re.S)
    assert len(source.strip().splitlines()) <= 40
    return source


@pytest.fixture(scope="module")
def climber(source):
    """The class."""
    names = {"__name__": "climber"}
    exec(compile(source, "climber.py", "exec"), names)
    yield SEARCHERS["hill_climber"]
    del SEARCHERS["hill_climber"]


def climbed(search, evaluator, state, cohorts):
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    return state


def test_it_climbs_and_is_deterministic(climber):
    search = climber(DEMO, children=20)
    one, other = (climbed(search, Evaluator(TASKS), search.init(3), 30) for _ in range(2))
    np.testing.assert_equal(encode(one), encode(other))
    assert one.evaluations == 600
    best = search.best(one)
    assert isinstance(best, Best)
    assert best.fitness > climbed(search, Evaluator(TASKS), search.init(3), 1).best_fitness
    assert best.fitness == Evaluator(TASKS)(best.program).combined[0]


def test_it_goes_on_from_a_file_as_if_nothing_had_happened(climber, tmp_path):
    search, evaluator = climber(DEMO), Evaluator(TASKS)
    state = climbed(search, evaluator, search.init(0), 5)
    search.save(state, tmp_path / "state.npz")
    again = Evaluator(TASKS)
    again.restore(unpacked(packed(evaluator.tree())))
    resumed = climbed(search, again, search.load(tmp_path / "state.npz"), 5)
    np.testing.assert_equal(encode(resumed), encode(climbed(search, evaluator, state, 5)))
    assert again.counts == evaluator.counts


def test_a_damaged_state_is_refused(climber):
    search = climber(DEMO)
    tree = encode(climbed(search, Evaluator(TASKS), search.init(0), 2))
    with pytest.raises(ValueError, match=r"state.parent.capacity is \[1, 1, 1\], not \[10, 2, 8\]"):
        search.restored(tree | {"parent": tree["parent"] | {"capacity": [1, 1, 1]}})
    with pytest.raises(ValueError, match=r"state.fitness is 'high', not a finite number"):
        search.restored(tree | {"fitness": "high"})


def test_two_searchers_cannot_have_one_name(climber):
    with pytest.raises(ValueError, match=r"searcher 'hill_climber' exists already: climber.HillClimber"):

        @register("hill_climber")
        @dataclasses.dataclass(frozen=True)
        class Other(Searcher):
            pass


def test_a_searcher_may_ask_for_a_fidelity(climber):
    """A cohort on half of the tasks, then its best on all of them."""
    evaluator, search = Evaluator(TASKS), climber(DEMO, children=20)
    _, candidates = search.ask(search.init(0))
    part = dataclasses.replace(candidates, tasks_share=0.67)
    early = evaluator(part)
    assert early.fitness.shape == (20, 2)
    best = candidates.programs[int(early.combined.argmax())]
    np.testing.assert_array_equal(evaluator(Candidates.of(best)).fitness[0, :2], early.fitness[early.combined.argmax()])


# ---------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def module(source, tmp_path, monkeypatch):
    """A file climber.py where the command is called; nothing of it is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "climber.py").write_text(source)
    before = dict(SEARCHERS)
    yield "climber"
    SEARCHERS.clear()
    SEARCHERS.update(before)
    sys.modules.pop("climber", None)


SEARCH = [
    *("search", "demo", "--import", "climber", "--method", "hill_climber", "--children", 20, "--trials", 2),
    *("--parallel-trials", 1, "--train-steps", 40_000, "--checkpoint-seconds", 0, "--quiet"),
    *("--search-tasks.train", 30, "--search-tasks.tasks", 3, "--select-tasks.tasks", 3, "--unseen-tasks.tasks", 3),
]


@pytest.mark.slow
def test_it_runs_from_the_command_line_and_is_resumed_and_reported(module, tmp_path, capsys):
    assert call(*SEARCH, "--out", "whole") == 0
    (whole,) = (tmp_path / "whole").iterdir()
    searcher = read_json(whole, "config.json")["config"]["searcher"]
    assert (searcher["method"], searcher["children"]) == ("hill_climber", 20)
    assert set(searcher) == {"method", "space", "children", "mutations"}
    part = run(from_folder(whole).replace(out="part"), after(40)).folder
    assert len(records(part)) < len(records(whole))
    assert call("resume", part, "--import", "climber", "--quiet") == 0
    assert without_clock(records(part)) == without_clock(records(whole))
    judged = [read_json(folder, "outcome.json")["select_fitness"] for folder in (part, whole)]
    assert judged[0] >= judged[1]  # an interruption has more programs judged
    assert call("report", whole, "--import", "climber") == 0
    assert "hill_climber" in (whole / "report.html").read_text()
    capsys.readouterr()
    assert call("search", "demo", "--import", "nothing_there") == 2
    assert "--import 'nothing_there': ModuleNotFoundError" in capsys.readouterr().err


def test_without_its_module_a_run_is_refused_by_name(module, tmp_path, capsys):
    assert call(*SEARCH, "--out", "runs", "--train-steps", 2000) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    del SEARCHERS["hill_climber"]
    assert call("resume", folder) == 2
    error = capsys.readouterr().err
    assert "unknown method 'hill_climber' (known: " in error
    assert "does not fit this version" not in error


@pytest.mark.slow
def test_it_runs_through_ray(module, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the processes that Ray starts
    sys.path.insert(0, str(tmp_path))
    importlib.import_module(module)
    config = QUICK.replace(method="hill_climber").replace(children=20, parallel_trials=1, workers=2, trials=1)
    outcome = cluster.run(config.replace(out=str(tmp_path / "runs")))
    assert outcome.search_fitness > 0
    assert outcome.progress.train_steps >= config.schedule.train_steps
    assert len(records(outcome.folder)) >= 1
