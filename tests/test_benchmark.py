"""Tables of small spaces: they hold what training gives, and searchers run on them as they do on tasks."""

import dataclasses
import json

import numpy as np
import pytest

from zero_jax import Evaluator, Programs, SearchSpace
from zero_jax.benchmark import NAMES, Table, build, load, methods, race, read, searcher, write
from zero_jax.benchmark.table import SHARES, SPACE
from zero_jax.cli import main
from zero_jax.program.canonical import canonical
from zero_jax.program.space import Component, random_programs
from zero_jax.search import GridSearch

TINY = dataclasses.replace(SPACE, learn=dataclasses.replace(SPACE.learn, size=(0, 2, 2)))
RULE = """
def Setup():
def Predict():
  s1 = dot(v0, v1)
def Learn():
  s1 = s0 - s1
  v2 = s1 * v0
  v1 = v1 + v2
"""


def drawn(n, seed=0):
    return random_programs(SPACE, n, np.random.default_rng(seed))


@pytest.mark.parametrize("name", NAMES)
def test_a_table_holds_what_training_gives(name):
    table, programs = load(name), drawn(300)
    trained = Evaluator(table.tasks, stages=())(programs)
    known = table.evaluator()(programs)
    np.testing.assert_allclose(known.fitness, trained.fitness, atol=2e-5)
    assert known.train_steps.sum() == 0
    assert (table.rows(canonical(programs).hashes[:, 0]) >= 0).all()


def test_parts_of_the_work_are_known_too():
    table, rule = load("linear"), Programs.parse(RULE, memory=SPACE.memory, capacity=SPACE.capacity)
    evaluator, plain = table.evaluator(), Evaluator(table.tasks, stages=())
    for share in SHARES:
        asked = dataclasses.replace(searcher("random").candidates(rule), examples_share=share, tasks_share=0.5)
        scores, expected = evaluator(asked), plain(asked)
        assert scores.fitness.shape == (1, 2)
        np.testing.assert_allclose(scores.fitness, expected.fitness, atol=2e-5)
    assert evaluator.counts.train_steps == 0


def test_the_rule_that_one_would_write_is_the_best_of_its_length():
    table = load("linear")
    rule = Programs.parse(RULE, memory=SPACE.memory, capacity=SPACE.capacity)
    assert table.evaluator()(rule).combined[0] > table.best - 1e-3


def test_a_program_that_is_not_in_the_table_is_trained():
    other = Programs.parse(RULE.replace("s1 = s0 - s1", "s1 = s0 * s1"), memory=SPACE.memory)
    scores = load("linear").evaluator()(other)
    assert scores.train_steps.sum() > 0
    assert scores.combined[0] == pytest.approx(Evaluator(load("linear").tasks)(other).combined[0])


def test_a_table_made_anew_agrees_with_the_one_at_hand(tmp_path):
    made, known = build("linear", TINY), load("linear")
    rows = known.rows(made.keys)
    assert (rows >= 0).all()
    np.testing.assert_allclose(made.fitness, known.fitness[rows], atol=4e-5)
    state, hashes = GridSearch(TINY).init(0), []
    while not GridSearch(TINY).exhausted(state):
        state, candidates = GridSearch(TINY).ask(state)
        hashes += candidates.hashes.tolist()
    assert len(made.keys) == len(set(hashes))
    write(made, tmp_path / "table")
    again = read("linear", tmp_path / "table")
    np.testing.assert_array_equal(again.keys, made.keys)
    np.testing.assert_array_equal(again.fitness, made.fitness)


def test_searchers_do_on_a_table_what_they_do_on_tasks():
    table, one = load("digits"), searcher("evolution")
    looked_up, trained = table.evaluator(), Evaluator(table.tasks)
    states = [one.init(3), one.init(3)]
    for _ in range(15):
        for i, evaluator in enumerate((looked_up, trained)):
            states[i], candidates = one.ask(states[i])
            states[i] = one.tell(states[i], candidates, evaluator(candidates))
    assert states[0].best.fitness == pytest.approx(states[1].best.fitness, abs=2e-5)
    assert states[0].best.program.listing() == states[1].best.program.listing()


def test_a_race_counts_evaluations_until_the_best_program():
    result = race("linear", searcher("efficient"), seeds=[0, 1, 2], evaluations=2000)
    assert result.method == "efficient"
    assert all(0 < evaluations <= 2000 for evaluations in result.solved)
    assert result.median == np.median(result.solved)
    assert result.regret[1000] <= result.regret[100]
    never = race("linear", searcher("random", cohort=5), seeds=[0], evaluations=10)
    assert never.solved == (None,)
    assert never.median == np.inf
    assert never.regret == {}


@pytest.mark.slow
def test_methods_that_a_table_cannot_serve_are_left_out():
    assert {"evolution", "random", "halving", "grid"} <= set(methods())
    assert not {"niches", "enas", "darts"} & set(methods())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: load("mnist"), "unknown table 'mnist': expected one of linear, digits"),
        (lambda: searcher("niches"), "initial values, which no table has"),
        (lambda: searcher("enas"), "needs training itself"),
        (lambda: searcher("evolutoin"), "did you mean 'evolution'"),
        (lambda: build("linear", SearchSpace((3, 3, 0), Component([56], (1, 1, 1)), SPACE.predict, SPACE.learn)),
         "without constants"),
        (lambda: race("linear", searcher("random"), [0], 0), "evaluations must be at least 1"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_file_that_was_cut_is_refused(tmp_path):
    table = load("linear")
    small = Table("linear", table.tasks, table.keys[:50], table.fitness[:50])
    write(small, tmp_path / "table")
    whole = (tmp_path / "table").read_bytes()
    for data in (whole[:-20], whole[:40] + b"?" + whole[41:], b"", b"nonsense"):
        (tmp_path / "table").write_bytes(data)
        with pytest.raises(ValueError, match=r"is not the table linear: .* --build FILE"):
            read("linear", tmp_path / "table")
    write(small, tmp_path / "table")
    with pytest.raises(ValueError, match="other tasks"):
        read("digits", tmp_path / "table")


def test_the_command_line(capsys):
    options = ["--methods", "random", "grid", "--seeds", "2", "--evaluations", "1000"]
    assert main(["benchmark", "linear", *options]) == 0
    printed = capsys.readouterr().out
    assert "163,239 programs, the best at 1.0000\n2 seeds of 1,000 evaluations" in printed
    assert [line.split()[:3] for line in printed.splitlines()[3:]] == [["random", "0/2", "-"], ["grid", "2/2", "750"]]
    assert main(["benchmark", "linear", *options, "--json"]) == 0
    assert [one["method"] for one in json.loads(capsys.readouterr().out)] == ["random", "grid"]
    assert main(["benchmark", "cifar"]) == 2
    assert "unknown table 'cifar'" in capsys.readouterr().err
