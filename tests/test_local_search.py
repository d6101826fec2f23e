"""The defining property of local search: climbers go up or stay, and begin again where nothing nearby is better."""

import dataclasses

import numpy as np
import pytest

from zero_jax import Evaluator, Scores
from zero_jax.benchmark import load, race, searcher
from zero_jax.search import LocalSearch
from zero_jax.support.codec import encode

SEARCH = dataclasses.replace(searcher("local"), patience=30)


def gone_on(state, cohorts, evaluator):
    for _ in range(cohorts):
        state, candidates = SEARCH.ask(state)
        state = SEARCH.tell(state, candidates, evaluator(candidates))
    return state


def test_climbers_go_up_or_begin_again():
    evaluator, state, began = load("linear").evaluator(), SEARCH.init(0), 0
    for _ in range(120):
        before, (state, candidates) = state, SEARCH.ask(state)
        fitness = evaluator(candidates)
        state = SEARCH.tell(state, candidates, fitness)
        again = np.isneginf(state.heights)
        assert (state.heights >= before.heights)[~again].all()
        assert (before.failures[again] == SEARCH.patience - 1).all()
        moved = ~again & (fitness.combined >= before.heights)
        np.testing.assert_array_equal(
            np.asarray(state.climbers.code)[moved], np.asarray(candidates.programs.code)[moved]
        )
        began += again.sum()
    assert began > 0
    known = Evaluator(load("linear").tasks)(state.best.program).combined[0]
    assert state.best.fitness == pytest.approx(known, abs=2e-5)


@pytest.mark.slow
def test_it_finds_more_than_random_search_does():
    local, drawn = (race("digits", searcher(name), range(3), 3000).regret[1000] for name in ("local", "random"))
    assert local < drawn + 0.02


def test_it_goes_on_from_a_file_as_if_nothing_had_happened(tmp_path):
    evaluator = load("linear").evaluator()
    state = gone_on(SEARCH.init(0), 40, evaluator)
    SEARCH.save(state, tmp_path / "state.npz")
    again, at_once = (gone_on(one, 20, evaluator) for one in (SEARCH.load(tmp_path / "state.npz"), state))
    np.testing.assert_equal(encode(again), encode(at_once))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalSearch(SEARCH.space, patience=0), "patience must be at least 1"),
        (lambda: SEARCH.tell(*SEARCH.ask(SEARCH.init(0)), Scores.of(np.zeros(3))), "10 numbers, one for each"),
        (lambda: dataclasses.replace(SEARCH, cohort=11).check(SEARCH.init(0)), "10 climbers, not 11"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
