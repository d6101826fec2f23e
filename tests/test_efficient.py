"""Efficient evolution: what it asks for, what it keeps, and that it needs few evaluations."""

import numpy as np
import pytest

from tests.helpers import assert_equal
from tests.spaces import DEMO
from zero_jax import Component, Evaluator, Programs, Scores, SearchSpace, cli, library, random_programs
from zero_jax.program.canonical import canonical
from zero_jax.run.presets import PRESETS
from zero_jax.search import EfficientEvolution, migrate
from zero_jax.search.efficient import structures
from zero_jax.search.operators.validity import can_learn
from zero_jax.support.codec import encode
from zero_jax.tasks import synthetic

FIG4 = SearchSpace(
    (4, 3, 1),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET"), (5, 5, 5)),
    Component(("VECTOR_INNER_PRODUCT",), (1, 1, 1)),
    Component(("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (4, 4, 4)),
)
SMALL = EfficientEvolution(FIG4, islands=2, population=30, cohort=10, tournament=4)


def made_up(programs):
    """A fitness that depends on structure and constants, with ties and zeros."""
    hashes = structures(programs) % 7
    constants = np.abs(np.asarray(programs.data)).sum((1, 2))
    return np.where(hashes == 0, 0.0, hashes / 10 + np.round(constants, 0) / 100)


def after(search, cohorts, seed=0):
    state, candidates = search.ask(search.init(seed))
    asked = [candidates]
    state = search.tell(state, candidates, scored(candidates))
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        asked.append(candidates)
        state = search.tell(state, candidates, scored(candidates))
    return state, asked


def scored(candidates):
    return Scores.of(made_up(candidates.programs))


@pytest.mark.parametrize("name", ["linear", "network", "cifar10"])
def test_hand_written_learners_can_learn(name):
    assert can_learn(library.program(name)).all()


@pytest.mark.parametrize(
    "body",
    [
        "def Predict(): s1 = dot(v1, v0)",  # never learns
        "def Predict(): s1 = dot(v1, v0)\ndef Learn(): v1 = s0 * v0",  # remembers one example
        "def Predict(): s1 = dot(v1, v0)\ndef Learn():\n v2 = s0 * v0\n v1 = v1 + v2",  # does not look at its mistakes
        "def Predict(): s1 = dot(v1, v0)\ndef Learn():\n s2 = s1 * s3\n v2 = s2 * v0\n v1 = v1 + v2",  # no label
        "def Predict(): s1 = s2 + s3\ndef Learn():\n s3 = s0 - s1\n s2 = s2 + s3",  # looks at no features
        "def Predict(): s1 = dot(v1, v0)\ndef Learn():\n s2 = s0 - s1\n s2 = s2 * s3\n v2 = s2 * v0\n v1 = v1 + v2",  # s3 is 0
        "def Predict(): s1 = dot(v1, v0)\ndef Learn():\n s2 = s0 - s1\n s2 = s2 - s2\n v2 = s2 * v0\n v1 = v1 + v2",
    ],
)
def test_programs_that_cannot_learn_are_known_by_their_instructions(body):
    assert not can_learn(Programs.parse(body, memory=(4, 3, 0))).any()


def test_dead_code_does_not_make_a_learner():
    programs = random_programs(DEMO, 5000, np.random.default_rng(0))
    able = can_learn(programs)
    np.testing.assert_array_equal(able, can_learn(canonical(programs).programs))
    assert 0 < able.sum() < 100


def test_asks_for_programs_that_can_learn_and_for_none_twice():
    _, asked = after(SMALL, 20)
    assert [len(candidates) for candidates in asked] == [60] + [20] * 20
    assert all(can_learn(candidates.programs).all() for candidates in asked)
    for candidates in asked:
        forms = canonical(candidates.programs)
        np.testing.assert_array_equal(candidates.forms.hashes, forms.hashes)
        assert_equal(candidates.forms.programs, forms.programs)
    hashes = np.concatenate([candidates.hashes for candidates in asked])
    assert len(np.unique(hashes)) == len(hashes)


def test_an_island_holds_one_program_of_a_structure_and_of_a_fitness():
    state, _ = after(SMALL, 20)
    kept = structures(state.programs).reshape(2, 30)
    np.testing.assert_array_equal(kept.reshape(-1), state.individuals.structures)
    np.testing.assert_array_equal(made_up(state.programs), state.fitness.reshape(-1))
    new = np.arange(30)[None] < state.ring[:, None]  # places filled since the first population
    for island in range(2):
        assert len(np.unique(kept[island, new[island]])) == new[island].sum()


def test_a_child_of_a_known_structure_stays_only_if_it_is_fitter():
    state, candidates = SMALL.ask(SMALL.init(0))
    state = SMALL.tell(state, candidates, Scores.of(np.linspace(0.1, 0.9, 60)))
    state, children = SMALL.ask(state)
    own = structures(children.programs)
    worst = SMALL.tell(state, children, Scores.of(np.full(20, 0.01)))
    for place in np.flatnonzero(np.isin(state.individuals.structures, own)).tolist():
        if worst.fitness.reshape(-1)[place] == 0.01:
            continue
        assert worst.fitness.reshape(-1)[place] == state.fitness.reshape(-1)[place]
    first_of_each = np.unique(own[:10], return_index=True)[1]
    unknown = [i for i in first_of_each if own[i] not in state.individuals.structures[:30]]
    assert (worst.fitness[0] == 0.01).sum() <= max(1, len(unknown))


def test_equal_seeds_ask_for_the_same_and_asking_changes_no_state():
    one, _ = after(SMALL, 5, seed=3)
    other, _ = after(SMALL, 5, seed=3)
    np.testing.assert_equal(encode(one), encode(other))
    before = encode(one)
    first, second = (SMALL.ask(one)[1].programs for _ in range(2))
    np.testing.assert_array_equal(first.code, second.code)
    np.testing.assert_equal(encode(one), before)
    different, _ = after(SMALL, 5, seed=4)
    assert (different.programs.code != one.programs.code).any()


def test_lineages_rise_and_migrants_keep_their_niches():
    state, _ = after(SMALL, 10)
    assert (state.lines.fitness >= state.fitness.reshape(-1)).all()
    (moved,) = migrate([state], np.random.default_rng(0), sample=20)
    np.testing.assert_array_equal(moved.individuals.structures, structures(moved.programs))
    moved, children = SMALL.ask(moved)
    assert len(SMALL.tell(moved, children, scored(children)).programs) == 60


def test_begins_from_empty_programs_by_climbing_to_learners():
    space = PRESETS["empty"][1].searcher.space
    search = EfficientEvolution(
        space, population=20, cohort=10, initial="no_op", mutations=PRESETS["empty"][1].searcher.mutations
    )
    _, candidates = search.ask(search.init(0))
    assert can_learn(candidates.programs).all()
    assert len(np.unique(candidates.hashes)) == 20


@pytest.mark.parametrize("seed", [0, 1])
def test_finds_linear_regression_in_few_evaluations(seed):
    """Where plain evolution needs millions; `experiments/efficiency.py` has the mean of 10."""
    tasks = synthetic.linear(3, features=8, train=1000, valid=100, seed=seed)
    evaluator = Evaluator(tasks, ops=FIG4.ops)
    search = EfficientEvolution(FIG4, population=100, cohort=10, tournament=10)
    state = search.init(seed)
    while state.best_fitness <= 0.9999 and state.evaluations < 25_000:
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    assert state.best_fitness > 0.9999


def test_the_command_line_knows_it(tmp_path, capsys):
    settings = "--train-steps 300000 --population 20 --cohort 10 --islands 2 --trials 1 --parallel-trials 1"
    assert cli.main(["search", "demo", "--method", "efficient", "--out", str(tmp_path), *settings.split()]) == 0
    assert "best program" in capsys.readouterr().out


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="repeat_mutation must be from 0 to below 1"):
        EfficientEvolution(FIG4, repeat_mutation=1.0)
    with pytest.raises(ValueError, match="constant_init must be"):
        EfficientEvolution(FIG4, constant_init="normal")


def test_a_space_in_which_nothing_can_learn_is_refused_before_anything_is_written(tmp_path, capsys):
    settings = "--space.learn.ops SCALAR_CONST_SET --population 20 --cohort 10 --islands 1 --parallel-trials 1"
    assert cli.main(["search", "demo", "--method", "efficient", "--out", str(tmp_path), *settings.split()]) == 2
    assert "no program that can learn from its mistakes was found" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
