"""Efficient evolution: what it asks for, what it keeps, and that it needs few evaluations."""

import numpy as np
import pytest

from tests.spaces import DEMO
from zero_jax import Evaluator, Programs, SearchSpace, cli, library, program_fitness, random_programs
from zero_jax.program.canonical import canonical
from zero_jax.run.presets import PRESETS
from zero_jax.search import EfficientEvolution, migrate
from zero_jax.search.efficient import structures
from zero_jax.search.operators.validity import can_learn
from zero_jax.tasks import synthetic

FIG4 = SearchSpace((4, 3, 1), (56, 57), (27,), (2, 3, 18, 23), (5, 1, 4), (5, 1, 4), (5, 1, 4))
SMALL = EfficientEvolution(FIG4, islands=2, population=30, cohort=10, tournament=4)


def made_up(programs):
    """A fitness that depends on structure and constants, with ties and zeros."""
    hashes = structures(programs) % 7
    constants = np.abs(np.asarray(programs.data)).sum((1, 2))
    return np.where(hashes == 0, 0.0, hashes / 10 + np.round(constants, 0) / 100)


def after(search, cohorts, seed=0):
    state, programs = search.ask(search.init(seed))
    asked = [programs]
    state = search.tell(state, programs, made_up(programs))
    for _ in range(cohorts):
        state, programs = search.ask(state)
        asked.append(programs)
        state = search.tell(state, programs, made_up(programs))
    return state, asked


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
    found = can_learn(programs)
    np.testing.assert_array_equal(found, can_learn(canonical(programs).programs))
    assert 0 < found.sum() < 100


def test_asks_for_programs_that_can_learn_and_for_none_twice():
    _, asked = after(SMALL, 20)
    assert [len(programs) for programs in asked] == [60] + [20] * 20
    assert all(can_learn(programs).all() for programs in asked)
    hashes = np.concatenate([canonical(programs).hashes[:, 0] for programs in asked])
    assert len(np.unique(hashes)) == len(hashes)


def test_an_island_holds_one_program_of_a_structure_and_of_a_fitness():
    state, _ = after(SMALL, 20)
    kept = structures(state.population).reshape(2, 30)
    np.testing.assert_array_equal(kept.reshape(-1), state.niches.structures)
    np.testing.assert_array_equal(made_up(state.population), state.fitness.reshape(-1))
    new = np.arange(30)[None] < state.niches.ring[:, None]  # places filled since the first population
    for island in range(2):
        assert len(np.unique(kept[island, new[island]])) == new[island].sum()


def test_a_child_of_a_known_structure_stays_only_if_it_is_fitter():
    state, programs = SMALL.ask(SMALL.init(0))
    state = SMALL.tell(state, programs, np.linspace(0.1, 0.9, 60))
    state, children = SMALL.ask(state)
    own = structures(children)
    worst = SMALL.tell(state, children, np.full(20, 0.01))
    for place in np.flatnonzero(np.isin(state.niches.structures, own)).tolist():
        if worst.fitness.reshape(-1)[place] == 0.01:
            continue
        assert worst.fitness.reshape(-1)[place] == state.fitness.reshape(-1)[place]
    first_of_each = np.unique(own[:10], return_index=True)[1]
    unknown = [i for i in first_of_each if own[i] not in state.niches.structures[:30]]
    assert (worst.fitness[0] == 0.01).sum() <= max(1, len(unknown))


def test_equal_seeds_ask_alike_and_asking_changes_no_state():
    one, _ = after(SMALL, 5, seed=3)
    other, _ = after(SMALL, 5, seed=3)
    np.testing.assert_equal(one.tree(), other.tree())
    before = one.tree()
    first, second = SMALL.ask(one)[1], SMALL.ask(one)[1]
    np.testing.assert_array_equal(first.code, second.code)
    np.testing.assert_equal(one.tree(), before)
    different, _ = after(SMALL, 5, seed=4)
    assert (different.population.code != one.population.code).any()


def test_lineages_rise_and_migrants_keep_their_niches():
    state, _ = after(SMALL, 10)
    assert (state.lines.fitness >= state.fitness.reshape(-1)).all()
    (moved,) = migrate([state], np.random.default_rng(0), sample=20)
    np.testing.assert_array_equal(moved.niches.structures, structures(moved.population))
    moved, children = SMALL.ask(moved)
    assert len(SMALL.tell(moved, children, made_up(children)).population) == 60


def test_begins_from_empty_programs_by_climbing_to_learners():
    space = PRESETS["digits"][1].searcher.space
    search = EfficientEvolution(
        space, population=20, cohort=10, initial="no_op", mutations=PRESETS["digits"][1].searcher.mutations
    )
    _, programs = search.ask(search.init(0))
    assert can_learn(programs).all()
    assert len(np.unique(canonical(programs).hashes[:, 0])) == 20


@pytest.mark.parametrize("seed", [0, 1])
def test_finds_linear_regression_in_few_evaluations(seed):
    """Where plain evolution needs millions (SPEC 6); `experiments/efficiency.py` has the mean of 10."""
    tasks = synthetic.linear(3, features=8, train=1000, valid=100, seed=seed)
    evaluator = Evaluator(tasks, ops=FIG4.ops)
    search = EfficientEvolution(FIG4, population=100, cohort=10, tournament=10)
    state = search.init(seed)
    while state.best_fitness <= 0.9999 and state.evaluations < 25_000:
        state, programs = search.ask(state)
        state = search.tell(state, programs, program_fitness(evaluator(programs).fitness))
    assert state.best_fitness > 0.9999


def test_the_command_line_knows_it(tmp_path, capsys):
    settings = "--train-steps 300000 --population 20 --cohort 10 --islands 2 --trials 1 --parallel-trials 1"
    assert cli.main(["search", "linear", "--method", "efficient", "--out", str(tmp_path), *settings.split()]) == 0
    assert "found program" in capsys.readouterr().out


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="again must be from 0 to below 1"):
        EfficientEvolution(FIG4, again=1.0)
    with pytest.raises(ValueError, match="born must be"):
        EfficientEvolution(FIG4, born="normal")


def test_a_space_in_which_nothing_can_learn_is_refused_before_anything_is_written(tmp_path, capsys):
    settings = "--space.learn-ops 56 --population 20 --cohort 10 --islands 1 --parallel-trials 1"
    assert cli.main(["search", "linear", "--method", "efficient", "--out", str(tmp_path), *settings.split()]) == 2
    assert "no program was found that can learn" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
