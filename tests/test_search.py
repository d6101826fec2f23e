"""Regularized evolution with islands, random search, and their state."""

import dataclasses

import numpy as np
import pytest

from tests.helpers import assert_equal
from tests.spaces import DEMO, SMALL
from zero_jax import (
    Candidates,
    Mutations,
    RandomSearch,
    RegularizedEvolution,
    Scores,
    evaluate,
    library,
    program_fitness,
)
from zero_jax.support.codec import encode
from zero_jax.tasks import synthetic


def scores(programs):
    """A fitness that needs no device: how often op 3 stands in a program."""
    return (programs.code[..., 0] == 3).sum(1) / 100


def scored(candidates):
    return Scores.of(scores(candidates.programs))


def with_programs(state, **arrays):
    """The state with other arrays in its programs."""
    programs = dataclasses.replace(state.programs, **arrays)
    return dataclasses.replace(state, individuals=dataclasses.replace(state.individuals, programs=programs))


def run(search, steps, seed=0, fitness=scores):
    state = search.init(seed)
    for _ in range(steps):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, Scores.of(fitness(candidates.programs)))
    return state


def assert_same_state(a, b):
    np.testing.assert_equal(encode(a), encode(b))


def test_the_first_ask_is_the_whole_population_and_later_ones_are_cohorts():
    search = RegularizedEvolution(SMALL, islands=3, population=20, tournament=4, cohort=5)
    state, first = search.ask(search.init(0))
    assert len(first) == 60
    state = search.tell(state, first, scored(first))
    _, children = search.ask(state)
    assert len(children) == 15
    assert state.evaluations == 60


def test_the_oldest_die_first():
    search = RegularizedEvolution(SMALL, islands=2, population=6, tournament=2, cohort=4)
    state = run(search, 1)
    history = [np.asarray(state.programs.code).reshape(2, 6, -1)]
    for oldest in (0, 4, 2, 0):
        assert state.oldest == oldest
        state, children = search.ask(state)
        state = search.tell(state, children, scored(children))
        now = np.asarray(state.programs.code).reshape(2, 6, -1)
        slots = (oldest + np.arange(4)) % 6
        np.testing.assert_array_equal(now[:, slots], children.programs.code.reshape(2, 4, -1))
        kept = np.setdiff1d(np.arange(6), slots)
        np.testing.assert_array_equal(now[:, kept], history[-1][:, kept])
        history.append(now)
    np.testing.assert_array_equal(state.fitness.ravel(), scores(state.programs))


def test_tournaments_favour_the_fittest_of_their_island_as_often_as_they_should():
    n, t = 20, 3
    search = RegularizedEvolution(
        SMALL, islands=2, population=n, tournament=t, cohort=n, mutations=Mutations(("identity",))
    )
    state = search.init(0)
    marked = np.array(state.programs.data)
    marked[:, 0, 0] = np.arange(2 * n)  # tells programs apart
    state = with_programs(state, data=marked)
    fitness = np.tile(np.arange(n) / n, 2)
    state = search.tell(state, Candidates.of(state.programs), Scores.of(fitness))
    parents = []
    for _ in range(400):
        state, children = search.ask(state)
        parents.append(children.programs.data[:, 0, 0].reshape(2, n))
    parents = np.stack(parents, 1).reshape(2, -1)
    for island in range(2):
        assert ((parents[island] >= n * island) & (parents[island] < n * (island + 1))).all()
        rank = np.bincount(parents[island].astype(int) - n * island, minlength=n) / parents.shape[1]
        k = np.arange(n)
        want = ((k + 1) / n) ** t - (k / n) ** t  # the best of t draws with replacement is number k
        np.testing.assert_allclose(rank, want, atol=0.015)


def test_islands_do_not_mix():
    search = RegularizedEvolution(
        SMALL, islands=2, population=10, tournament=3, cohort=5, mutations=Mutations(("alter_param",))
    )
    state = search.init(0)
    alone = np.array(state.programs.code)
    alone[:10, 0, 0], alone[10:, 0, 0] = 56, 57  # alter_param keeps ops
    alone[:, 0, 3] = 1
    state = with_programs(state, code=alone)
    for _ in range(10):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, scored(candidates))
    ops = np.asarray(state.programs.code)[:, 0, 0]
    assert (ops[:10] == 56).all()
    assert (ops[10:] == 57).all()


def test_evolution_climbs_and_random_search_remembers_its_best():
    evolved = run(RegularizedEvolution(DEMO, population=50, tournament=10, cohort=10), 200)
    drawn = run(RandomSearch(DEMO, cohort=50), 41)
    assert evolved.best_fitness > drawn.best_fitness + 0.03
    assert scores(evolved.best.program)[0] == evolved.best_fitness
    assert scores(drawn.best.program)[0] == drawn.best_fitness
    assert drawn.evaluations == 41 * 50


@pytest.mark.parametrize("search", [RegularizedEvolution(SMALL, 2, 10, 3, 5), RandomSearch(SMALL, 7)])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(search, tmp_path):
    state = run(search, 5)
    search.save(state, tmp_path / "state.npz")
    again = search.load(tmp_path / "state.npz")
    assert_same_state(again, state)
    for _ in range(3):
        (state, a), (again, b) = search.ask(state), search.ask(again)
        assert_equal(a.programs, b.programs)
        state, again = search.tell(state, a, scored(a)), search.tell(again, b, scored(b))
    assert_same_state(again, state)


def test_a_file_that_is_no_state_is_refused(tmp_path):
    path, search = tmp_path / "state.npz", RandomSearch(SMALL, 7)
    search.save(run(search, 1), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a saved search"):
        search.load(path)


def test_ask_and_tell_leave_the_state_they_were_given_as_it_was():
    search = RegularizedEvolution(SMALL, population=10, tournament=3, cohort=5)
    state = run(search, 3)
    fitness, code = state.fitness.copy(), np.array(state.programs.code)
    after, children = search.ask(state)
    search.tell(after, children, scored(children))
    np.testing.assert_array_equal(state.fitness, fitness)
    np.testing.assert_array_equal(state.programs.code, code)
    _, again = search.ask(state)
    assert_equal(children.programs, again.programs)


@pytest.mark.parametrize("chunk_size", [1, 64, 1000])
def test_the_same_seed_gives_the_same_search_in_any_chunk_size(chunk_size):
    tasks = synthetic.linear(3, train=20, valid=10)

    def fitness(programs, size):
        return program_fitness(evaluate(programs, tasks, ops=DEMO.ops, chunk_size=size).fitness)

    search = RegularizedEvolution(DEMO, islands=2, population=300, tournament=5, cohort=150)
    want = run(search, 4, 3, lambda p: fitness(p, None))
    assert_same_state(run(search, 4, 3, lambda p: fitness(p, chunk_size)), want)
    assert want.best_fitness > 0


def test_initial_populations():
    evolution = {"population": 4, "tournament": 2, "cohort": 2}
    no_op = RegularizedEvolution(SMALL, initial="no_op", **evolution).init(0).programs
    assert not no_op.code.any()
    assert (no_op.length == SMALL.initial_size).all()
    linear = RegularizedEvolution(SMALL, initial="linear", **evolution).init(0).programs
    assert (linear.length == np.maximum(SMALL.initial_size, (1, 1, 4))).all()  # filled up with NO_OP
    text = linear.listing(3).replace("  NoOp()\n", "")
    assert text == library.program("linear").listing(0)
    given = RegularizedEvolution(SMALL, initial=library.program("linear", learning_rate=0.5), **evolution)
    assert "s2 = 0.5" in given.init(0).programs.listing(3)
    random = RegularizedEvolution(SMALL, **evolution).init(0).programs
    assert len({random.listing(i) for i in range(4)}) == 4
    with pytest.raises(ValueError, match="more than its capacity"):
        RegularizedEvolution(SMALL, initial="network", **evolution)
    with pytest.raises(ValueError, match="is not a file, a run's folder or a library program"):
        RegularizedEvolution(SMALL, initial="zero", **evolution)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"cohort": 11}, "a cohort of 11 does not fit into a population of 10"),
        ({"islands": 0}, "at least 1"),
        ({"tournament": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RegularizedEvolution(SMALL, **({"population": 10, "cohort": 5, "tournament": 3} | kwargs))
    with pytest.raises(ValueError, match="at least 1"):
        RandomSearch(SMALL, 0)


def test_fitness_that_does_not_fit_is_refused():
    search = RegularizedEvolution(SMALL, population=10, tournament=3, cohort=5)
    state, candidates = search.ask(search.init(0))
    with pytest.raises(ValueError, match="fitness must be 10 finite numbers"):
        search.tell(state, candidates, Scores.of(np.full(10, np.nan)))
    with pytest.raises(ValueError):
        search.tell(state, candidates, Scores.of(np.zeros(9)))


def test_program_fitness_combines_tasks():
    values = [[0.1, 0.2, 0.9, 0.4], [1, 1, 1, 0]]
    np.testing.assert_allclose(program_fitness(values), [0.4, 0.75])
    np.testing.assert_allclose(program_fitness(values, "median"), [0.4, 1])  # the upper one of an even number
    np.testing.assert_allclose(program_fitness([[0.3, 0.1, 0.2]], "median"), [0.2])
    with pytest.raises(ValueError, match="combine"):
        program_fitness(values, "max")
