"""Lineage: of each line of descent, the programs that beat all their ancestors."""

import dataclasses
import gc
import time

import numpy as np
import pytest

from tests.helpers import bytes_of, evolved, plain_line, scores, searching, step
from tests.spaces import DEMO
from zero_jax import Mutations, RandomSearch, RegularizedEvolution
from zero_jax.search import migrate
from zero_jax.search.operators import lineage
from zero_jax.search.operators.lineage import Ancestor, Chains, chain
from zero_jax.support.codec import Known, encode
from zero_jax.support.files import packed, unpacked

SHAPES = [(1, 30, 10), (1, 30, 30), (3, 20, 7), (2, 20, 20), (1, 12, 1)]
"""Islands, population and cohort."""


def stored(ancestors):
    return Chains("N").encode(ancestors)


def restored(tree):
    return Chains("N").decode(tree, "lineage", Known({}, {}))


def steps_up(history):
    """The oracle: of all ancestors of a program, `(fitness, evaluations, program)`, itself last, those that beat all
    before them; and how many generations ago the last of them was.
    """
    line, last = [], 0
    for age, (fitness, evaluations, program) in enumerate(history):
        if not line or fitness > line[-1][0]:
            line.append((fitness, evaluations, age - last, program))
            last = age
    return line, len(history) - 1 - last


@pytest.mark.parametrize("shape", SHAPES)
def test_lines_are_what_remembering_every_ancestor_would_tell(shape):
    _, population, cohort = shape
    search = searching(*shape)
    state, _, first = step(search, search.init(1))
    histories = [[(f, len(first), bytes_of(first, row))] for row, f in enumerate(scores(first).tolist())]
    best = max(histories, key=lambda history: history[-1][0])
    longest = 0
    for _ in range(300 if cohort == 1 else 40):
        oldest = state.oldest
        state, asked, children = step(search, state)
        extended = [
            [*histories[parent], (f, state.evaluations, bytes_of(children, row))]
            for row, (parent, f) in enumerate(zip(asked.parents.tolist(), scores(children).tolist(), strict=True))
        ]
        for row, history in enumerate(extended):
            island, place = divmod(row, cohort)
            histories[island * population + (oldest + place) % population] = history
            if history[-1][0] > best[-1][0]:
                best = history
        for i, history in enumerate(histories):
            line, births = steps_up(history)
            assert (plain_line(state.lines.ancestors[i]), state.lines.births[i]) == (line, births)
            assert state.lines.fitness[i] == line[-1][0] >= state.fitness.reshape(-1)[i]
            longest = max(longest, len(line))
        assert plain_line(state.best.ancestor) == steps_up(best)[0]
        assert bytes_of(state.best.ancestor.program) == bytes_of(state.best.program)
        assert state.best.ancestor.fitness == state.best_fitness == scores(state.best.program)[0]
    assert longest > 4


def test_births_add_up_to_the_generations_there_were():
    state = evolved(searching(2, 20, 20), 1 + 35)
    for last, since in zip(state.lines.ancestors, state.lines.births, strict=True):
        assert sum(one.births for one in chain(last)) + since == 35


def test_children_descend_from_the_parents_they_were_copied_from():
    search = searching(3, 10, 4, mutations=Mutations(("identity",)))
    state = evolved(search, 1)
    for _ in range(20):
        before = state
        state, asked, children = step(search, state)
        for row, parent in enumerate(asked.parents):
            assert bytes_of(children, row) == bytes_of(before.programs, parent)
    assert all(len(plain_line(last)) == 1 for last in state.lines.ancestors)  # equally fit is no step up


def test_states_are_left_as_they_were():
    search = searching()
    state = evolved(search, 10)
    before = encode(state)
    for _ in range(10):
        step(search, state)
    np.testing.assert_equal(encode(state), before)


# ---------------------------------------------------------------------------------------------- migration


def lines_of(state):
    """Of each program: itself, its fitness, its line and how long that stands still."""
    lines, fitness = state.lines, state.fitness.reshape(-1)
    return [(bytes_of(state.programs, i), fitness[i], id(lines.ancestors[i]), lines.fitness[i], lines.births[i])
            for i in range(len(fitness))]  # fmt: skip


def test_programs_that_migrate_bring_their_line_along():
    search = searching(2, 20, 10)
    before = [evolved(search, 15, seed) for seed in (1, 2)]
    untouched = [encode(state) for state in before]
    after = migrate(before, np.random.default_rng(0))
    known = {one for state in before for one in lines_of(state)}
    assert all(one in known for state in after for one in lines_of(state))
    moved = sum(one not in lines_of(before[i]) for i in range(2) for one in lines_of(after[i]))
    assert moved > 5  # from the other state
    for state, tree in zip(before, untouched, strict=True):
        np.testing.assert_equal(encode(state), tree)
    for state in after:
        for _ in range(10):
            state, _, _ = step(search, state)
            for i, last in enumerate(state.lines.ancestors):
                fitness = [one.fitness for one in chain(last)]
                assert (np.diff(fitness) > 0).all()
                assert fitness[-1] == state.lines.fitness[i] >= state.fitness.reshape(-1)[i]
                assert fitness == [scores(one.program)[0] for one in chain(last)]


def test_the_line_of_the_best_ends_in_the_best_where_others_came_from_easier_tasks():
    """Their fitness there, which they bring along, is above all that there is here."""
    search = searching(1, 20, 10)
    states, here_and_there = [search.init(5), search.init(6)], [lambda programs: scores(programs) - 10, scores]
    round_others = set()
    for n in range(60):
        states = [step(search, state, fitness)[0] for state, fitness in zip(states, here_and_there, strict=True)]
        here = states[0]
        assert here.best.ancestor.fitness == here.best_fitness == scores(here.best.program)[0] - 10
        assert bytes_of(here.best.ancestor.program) == bytes_of(here.best.program)
        line = chain(here.best.ancestor)
        assert (np.diff([one.fitness for one in line]) > 0).all()
        assert line[0].births == 0
        assert all(one.births > 0 for one in line[1:])
        if here.best.ancestor not in {*here.lines.ancestors}:
            round_others.add(here.best_fitness)
        if n % 5 == 4:
            states = migrate(states, np.random.default_rng(n), 10)
    assert len(round_others) > 3


def test_the_line_of_the_best_counts_the_generations_that_it_goes_round():
    programs = searching().init(0).programs
    first = Ancestor(0.1, 20, 0, programs, 0, None)
    second = Ancestor(0.9, 30, 3, programs, 1, first)
    third = Ancestor(0.95, 40, 2, programs, 2, second)
    lines = lineage.Lines(np.array([third, third]), np.full(2, 0.95), np.array([4, 0]))
    best = lineage.ending_in(lines, 0, programs[3], 0.5, 50)
    assert (best.before, best.births, best.evaluations, best.fitness) == (first, 3 + 2 + 4, 50, 0.5)
    alone = lineage.ending_in(lines, 0, programs[3], 0.05, 50)
    assert (alone.before, alone.births) == (None, 0)
    assert lineage.ending_in(lines, 1, programs[2], 0.95, 40) is third


# ---------------------------------------------------------------------------------------------- memory and files


def living():
    gc.collect()
    return {id(one): one for one in gc.get_objects() if type(one) is Ancestor}


@pytest.mark.slow
def test_lines_that_die_out_are_freed():
    before = living().keys()
    search = searching(2, 20, 10)
    state = evolved(search, 150)
    for _ in range(3):
        state = migrate([state], np.random.default_rng(0))[0]
        state, _, _ = step(search, state)
    reached = {id(one) for last in (*state.lines.ancestors, state.best.ancestor) for one in chain(last)}
    assert living().keys() - before == reached
    assert len(reached) < 150
    del state
    assert living().keys() <= before


@pytest.mark.parametrize("search", [searching(2, 20, 10), searching(1, 20, 20), RandomSearch(DEMO, 20)])
def test_a_state_that_was_read_back_again_and_again_is_written_down_as_one_that_was_not(search):
    whole = again = search.restored(encode(evolved(search, 1)))
    assert (whole.best.fitness, whole.best.evaluations) == (whole.best_fitness, whole.evaluations)
    for n in range(40):
        if n % 7 == 0:
            again = search.restored(unpacked(packed(encode(again))))
            assert bytes_of(again.best.program) == bytes_of(whole.best.program)
        whole, again = (step(search, state)[0] for state in (whole, again))
        if isinstance(search, RegularizedEvolution):
            assert plain_line(again.best.ancestor) == plain_line(whole.best.ancestor)
            assert [*map(plain_line, again.lines.ancestors)] == [*map(plain_line, whole.lines.ancestors)]
            whole, again = (migrate([state], np.random.default_rng(n))[0] for state in (whole, again))
        np.testing.assert_equal(encode(again), encode(whole))


def test_a_state_before_the_first_fitness_can_be_written_down():
    for search in (searching(), RandomSearch(DEMO, 20)):
        state = search.restored(unpacked(packed(encode(search.init(3)))))
        assert state.best is None
        np.testing.assert_equal(encode(step(search, state)[0]), encode(evolved(search, 1, 3)))


def test_lines_share_what_they_share_on_disk_too():
    state = evolved(searching(1, 20, 5), 100)
    tree = stored([*state.lines.ancestors, state.best.ancestor])
    reached = {id(one) for last in (*state.lines.ancestors, state.best.ancestor) for one in chain(last)}
    assert len(tree["fitness"]) == len(reached)
    assert len(tree["which"]) == 21


def test_lines_that_were_read_back_apart_are_written_down_as_those_that_share_their_ancestors():
    state = evolved(searching(1, 20, 5), 60)
    some = [*state.lines.ancestors[:6], state.best.ancestor]
    apart = [restored(unpacked(packed(stored([last]))))[0] for last in some]
    np.testing.assert_equal(stored(apart), stored(some))
    assert len(stored(apart)["fitness"]) < sum(len(chain(last)) for last in some)


def test_random_search_tells_when_its_best_was_found():
    search = RandomSearch(DEMO, 10)
    state, improved_at = search.init(0), 0
    for _ in range(30):
        before = state.best_fitness
        state, _, _ = step(search, state)
        improved_at = state.evaluations if state.best_fitness > before else improved_at
        assert (state.best.evaluations, state.best.fitness) == (improved_at, state.best_fitness)
        assert state.best.ancestor is None
    assert 10 < improved_at < 300


@pytest.mark.slow
def test_a_line_of_200_000_ancestors_is_written_read_and_freed_in_seconds():
    n = 200_000
    cohort = searching().init(0).programs
    batches = [dataclasses.replace(cohort) for _ in range(n // len(cohort))]
    began = time.process_time()
    last = None
    for i in range(n):
        last = Ancestor(i / n, i, min(i, 1), batches[i // len(cohort)], i % len(cohort), last)
    (again,) = restored(unpacked(packed(stored([last]))))
    line = chain(again)
    assert len(line) == len(chain(last)) == n
    np.testing.assert_array_equal([one.evaluations for one in line], np.arange(n))
    for i in (0, 1, 77_777, n - 1):
        assert bytes_of(line[i].program) == bytes_of(cohort, i % len(cohort))
    del last, again, line
    gc.collect()
    assert time.process_time() - began < 30
