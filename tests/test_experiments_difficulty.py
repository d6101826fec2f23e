"""The experiments of Figs. 4 and 5: that what random search leaves out cannot succeed, and that they run."""

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from zero_jax import evaluate, program_fitness, random_programs
from zero_jax.search.operators.validity import CONDITIONS, conditions
from zero_jax.tasks import synthetic

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def experiment(name):
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXPERIMENTS))


difficulty, teacher = experiment("difficulty"), experiment("teacher")
BY_NAME = {space.name: space for space in difficulty.SPACES}


@pytest.mark.parametrize("name", ["linear", "affine"])
def test_the_forms_of_predict_are_as_frequent_as_they_say(name):
    space = BY_NAME[name]
    programs = random_programs(space.space, 100_000, np.random.default_rng(0))
    code = np.asarray(programs.code)[:, programs.starts[1] : programs.starts[2]]
    dot = np.isin(code[:, 0, 1] + 3 * code[:, 0, 2], (1, 2, 3, 6)) & (code[:, 0, 0] == 27)
    if name == "linear":
        forms = [dot & (code[:, 0, 3] == 1)]
    else:
        t, (a, b), out = code[:, 0, 3], code[:, 1, 1:3].T, code[:, 1, 3]
        bias = np.where(a == t, b, a)
        every = dot & (code[:, 1, 0] == 1) & (out == 1) & ((a == t) ^ (b == t)) & (bias > 0)
        forms = [every & (t == 1), every & (t != 1) & (bias == 1), every & (t != 1) & (bias != 1)]
    for form, which in zip(space.forms, forms, strict=True):
        expected = form.probability * len(programs)
        assert abs(which.sum() - expected) < 5 * np.sqrt(expected)


def test_programs_of_no_form_cannot_learn():
    """Of the linear space; in the affine one they can, but without a bias."""
    programs = random_programs(BY_NAME["linear"].space, 100_000, np.random.default_rng(1))
    able = np.asarray(programs.code)[conditions(programs) == CONDITIONS]
    dots = able[:, programs.starts[1]]
    assert len(able) > 30
    assert (dots[:, 3] == 1).all()
    assert np.isin(dots[:, 1] + 3 * dots[:, 2], (1, 2, 3, 6)).all()


@pytest.mark.parametrize("name", list(BY_NAME))
def test_learns_that_are_left_out_fail(name):
    space, rng = BY_NAME[name], np.random.default_rng(2)
    for form in space.forms:
        every = difficulty.random_batch(space, form, 5_000, rng, screened=False)
        bits, all_bits = difficulty.needs(difficulty.learn_table(space.space), form)
        by_row = dict(zip(map(tuple, difficulty.learn_table(space.space).tolist()), bits.tolist(), strict=True))
        learn = np.asarray(every.code)[:, every.starts[2] :].tolist()
        has = np.array([np.bitwise_or.reduce([by_row[tuple(row)] for row in rows]) for rows in learn])
        kept = (has == all_bits) & difficulty.able(every, form)
        evaluator, _ = difficulty.evaluators(space, 0)
        assert 0 < kept.sum() < 500
        assert program_fitness(evaluator(every[~kept]).fitness).max() < 0.95


def test_random_learns_are_those_of_the_package():
    space = BY_NAME["learn-only linear"]
    programs = random_programs(space.space, 50_000, np.random.default_rng(3))
    ours = difficulty.random_batch(space, space.forms[0], 50_000, np.random.default_rng(4), screened=False)
    for field in range(4):
        counts = [
            np.bincount(np.asarray(p.code)[:, p.starts[2] :, field].ravel(), minlength=24) for p in (programs, ours)
        ]
        assert abs(np.subtract(*counts)).max() < 5 * np.sqrt(2 * 200_000)


@pytest.mark.slow
def test_difficulty_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        difficulty.PLANS, "small", {"learn-only linear": ((500_000,), 1200, 1), "linear": ((500_000,), 1200, 1)}
    )
    monkeypatch.setitem(difficulty.UNSCREENED, "small", 20_000)
    monkeypatch.setattr(difficulty.results, "processes", lambda n: ThreadPoolExecutor(1))
    monkeypatch.setattr(difficulty, "SUFFICIENT", 0.17)
    monkeypatch.setattr(difficulty, "HELD_OUT", 0.1)
    difficulty.main(["--small", "--seeds", "0", "--out", str(tmp_path / "out.json")])
    stored = json.loads((tmp_path / "out.json").read_text())
    assert [row["space"] for row in stored["results"]["rows"]] == ["learn-only linear", "linear"]
    assert stored["results"]["rows"][0]["difficulty"] > 1
    assert "<svg" in (tmp_path / "out.svg").read_text()
    assert "ratio" in capsys.readouterr().out


@pytest.mark.slow
def test_teacher_runs(tmp_path, monkeypatch, capsys):
    size = teacher.SIZES["small"]
    searches = {kind: search._replace(evaluations=600) for kind, search in size.searches.items()}
    monkeypatch.setitem(teacher.SIZES, "small", size._replace(searches=searches, repair=(2, 500, 1, 120)))
    monkeypatch.setattr(teacher.results, "processes", lambda n: ThreadPoolExecutor(1))
    monkeypatch.setattr(teacher, "SUFFICIENT", 0.5)
    teacher.main(["--small", "--seeds", "0", "1", "--out", str(tmp_path / "out.json")])
    stored = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [row["kind"] for row in stored["searches"]] == [kind for kind in searches for _ in (0, 1)]
    assert stored["over_seeds"]["least_squares"]["seeds"] == 2
    assert all(row["search_fitness"]["whole"] > 0.5 for row in stored["repairs"])
    assert "<svg" in (tmp_path / "out.svg").read_text()
    assert "def Learn():" in capsys.readouterr().out


def test_the_papers_teacher_experiment_can_begin():
    chosen = teacher.experiment(teacher.SIZES["paper"], "many tasks", 0)
    searcher = chosen.searcher
    assert (chosen.tasks.search.tasks, searcher.space.max_size, searcher.islands) == (100, (21, 3, 9), 1000)


def test_no_linear_program_beats_least_squares():
    tasks = synthetic.teacher(8, features=4, train=1000, valid=500, seed=5)
    assert (teacher.least_squares(tasks) > teacher.tuned("linear", tasks)).all()


def test_the_damaged_network_does_not_learn_hidden_units():
    tasks = synthetic.teacher(4, features=4, train=2000, valid=500, seed=6)
    whole, damaged = (evaluate(program, tasks).fitness.mean() for program in (teacher.WHOLE, teacher.damaged_network()))
    assert damaged < teacher.least_squares(tasks).mean() < whole
