"""Searchers that learn what to propose: a recurrent controller, and Optuna's models."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zero_jax import Component, Evaluator, Scores, SearchSpace
from zero_jax.search import ModelSearch, Reinforce
from zero_jax.search.checks import check_ops
from zero_jax.search.tpe import _choices_of
from zero_jax.support.codec import encode
from zero_jax.tasks import synthetic

PREDICT = Component(["VECTOR_INNER_PRODUCT", "SCALAR_SUM"], (2, 2, 2))
SPACE = SearchSpace(
    (3, 2, 0), Component(["SCALAR_CONST_SET"], (1, 1, 1)), PREDICT, Component(["SCALAR_DIFF"], (1, 1, 1))
)
TASKS = synthetic.linear(2, features=4, train=20, valid=10)
REINFORCE = Reinforce(SPACE, cohort=50, hidden=16, learning_rate=0.02, constants=(0.5, -1.0))
MODEL = ModelSearch(SPACE, cohort=20, startup=40, remember=100)


def likeness(programs):
    """A bandit: the share of Predict's slots that hold an inner product."""
    first, last = programs.starts[1:3]
    return (np.asarray(programs.code)[:, first:last, 0] == 27).mean(1)


def gone_on(search, state, cohorts, worth=likeness):
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, Scores.of(worth(candidates.programs)))
    return state


@pytest.mark.parametrize("search", [pytest.param(REINFORCE, marks=pytest.mark.slow), MODEL], ids=["reinforce", "tpe"])
def test_it_goes_on_from_a_file_as_if_nothing_had_happened(search, tmp_path):
    state = gone_on(search, search.init(0), 5)
    search.save(state, tmp_path / "state.npz")
    again, at_once = (gone_on(search, one, 3) for one in (search.load(tmp_path / "state.npz"), state))
    np.testing.assert_equal(encode(again), encode(at_once))
    check_ops(again.best.program, search.ops)


@pytest.mark.parametrize("search", [pytest.param(REINFORCE, marks=pytest.mark.slow), MODEL], ids=["reinforce", "tpe"])
def test_it_searches_real_tasks(search):
    evaluator, state = Evaluator(TASKS), search.init(0)
    for _ in range(2):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    assert state.best.fitness == pytest.approx(evaluator(state.best.program).combined[0])


# ---------------------------------------------------------------------------------------------- the controller


def test_probabilities_of_all_programs_sum_to_one():
    tiny = SearchSpace((3, 2, 0), Component(["SCALAR_CONST_SET"], (1, 1, 1)), Component(["SCALAR_SUM"], (1, 1, 1)),
                       Component([], (0, 0, 0)))  # fmt: skip
    search = Reinforce(tiny, cohort=4, hidden=8, constants=(0.5, -1.0))
    nothing = [(0, 0, 0, 0, 0, 0, 0)]
    sets = nothing + [(56, 0, 0, out, c, 0, 0) for out in (1, 2) for c in (0, 1)]
    sums = (
        nothing
        + [(44, 0, 0, 0, 0, 0, 0)][:0]
        + [(1, a, b, out, 0, 0, 0) for a in range(3) for b in range(3) for out in (1, 2)]
    )
    tokens = np.array(list(itertools.product(sets, sums)), np.int32)
    assert search.probability(search.init(0), tokens).sum() == pytest.approx(1.0, abs=1e-4)


def test_what_is_written_is_as_likely_as_it_was_drawn():
    functions = REINFORCE._functions
    weights = functions.controller.weights(jax.random.key(0))
    written = functions.controller.written(weights, jax.random.key(1), 20)
    judged = functions.controller.judged(weights, written.tokens)
    np.testing.assert_allclose(judged.log_probability, written.log_probability, rtol=1e-4)
    assert (np.asarray(written.entropy) > 0).all()


@pytest.mark.parametrize(
    "settings",
    [{}, pytest.param({"updates": 4}, marks=pytest.mark.slow), pytest.param({"quantile": 0.2}, marks=pytest.mark.slow)],
    ids=["reinforce", "ppo", "risk-seeking"],
)
def test_the_best_program_becomes_more_likely(settings):
    search = Reinforce(
        SPACE, **{"cohort": 50, "hidden": 16, "learning_rate": 0.02, "constants": (0.5, -1.0)} | settings
    )
    state = search.init(0)
    _, candidates = search.ask(state)
    before = likeness(candidates.programs).mean()
    after = gone_on(search, state, 25)
    _, candidates = search.ask(after)
    assert likeness(candidates.programs).mean() > before + 0.25


@pytest.mark.slow
def test_the_gradient_is_that_of_advantage_times_log_probability():
    functions = REINFORCE._functions
    weights = functions.controller.weights(jax.random.key(0))
    tokens = functions.controller.written(weights, jax.random.key(1), 6).tokens
    advantage, search = jnp.arange(6.0) - 2.5, Reinforce(SPACE, hidden=16, constants=(0.5, -1.0), entropy_bonus=0.0)
    before = functions.controller.judged(weights, tokens).log_probability

    def plain(weights):
        return -(advantage * functions.controller.judged(weights, tokens).log_probability).mean()

    one, other = (jax.grad(loss)(weights) for loss in (lambda w: search.loss(w, tokens, advantage, before), plain))
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


def test_risk_seeking_learns_from_the_best_alone():
    search = Reinforce(SPACE, quantile=0.25)
    fitness = np.array([0.0, 0.5, 0.8, 1.0])
    np.testing.assert_allclose(search.advantage(fitness, 0.3), [0, 0, 0, 0.6], atol=1e-12)
    np.testing.assert_allclose(Reinforce(SPACE).advantage(fitness, 0.3), fitness - 0.3)


# ---------------------------------------------------------------------------------------------- Optuna


def test_programs_and_choices_are_the_same_thing():
    import optuna

    _state, candidates = MODEL.ask(MODEL.init(0))
    for i in range(len(candidates)):
        params, kinds = _choices_of(candidates.programs[i], SPACE, optuna)
        trial = optuna.trial.FixedTrial(params)
        from zero_jax.search.tpe import _proposed

        again = _proposed(trial, SPACE)
        np.testing.assert_array_equal(again.code, np.asarray(candidates.programs.code)[[i]])
        np.testing.assert_allclose(again.data, np.asarray(candidates.programs.data)[[i]], rtol=1e-6)
        assert params.keys() == kinds.keys()


@pytest.mark.slow
def test_the_model_proposes_more_of_what_was_good():
    state = MODEL.init(0)
    _, candidates = MODEL.ask(state)
    before = likeness(candidates.programs).mean()
    after = gone_on(MODEL, state, 8)
    _, candidates = MODEL.ask(after)
    assert likeness(candidates.programs).mean() > before + 0.25
    assert len(after.programs) == 100  # of 160: what it remembers
    assert after.known_fitness.max() == after.best_fitness


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reinforce(SPACE, quantile=0.0), "quantile above 0"),
        (lambda: Reinforce(SPACE, constants=(-1.0,)), "has no positive one"),
        (lambda: ModelSearch(SPACE, sampler="annealing"), "sampler must be tpe, gp or random, not 'annealing'"),
        (lambda: ModelSearch(SPACE, remember=1), "remember must be from 2"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [("equinox", lambda: Reinforce(SPACE), "rl"), ("optuna", lambda: ModelSearch(SPACE), "optuna")],
)
def test_without_its_library_the_message_says_how_to_get_it(module, make, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"pip install 'zero-jax\[{extra}\]'"):
        make()
