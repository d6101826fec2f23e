"""The defining property of each searcher that is a variation of evolution, and of exhaustive search."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zero_jax import Component, Evaluator, RegularizedEvolution, Scores, SearchSpace, evaluate, library
from zero_jax.program.canonical import canonical
from zero_jax.program.space import random_programs
from zero_jax.search import (
    FrontEvolution,
    GridSearch,
    Hyperband,
    LexicaseEvolution,
    MorphismEvolution,
    SuccessiveHalving,
    WeightedEvolution,
)
from zero_jax.search.checks import check_ops
from zero_jax.search.lexicase import chosen, deviations
from zero_jax.search.nsga2 import crowding, fronts, repeats
from zero_jax.search.operators.morphs import _Program, morph
from zero_jax.support.codec import encode
from zero_jax.tasks import synthetic

SETUP, PREDICT = Component(["SCALAR_CONST_SET"], (1, 2, 2)), Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
LEARN = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (1, 4, 4))
SPACE = SearchSpace((4, 3, 1), SETUP, PREDICT, LEARN)
TINY = SearchSpace((3, 3, 0), Component(["SCALAR_CONST_SET"], (0, 1, 1)), PREDICT,
                   Component(["SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (0, 1, 2)))  # fmt: skip
TASKS = synthetic.linear(3, features=4, train=30, valid=10)
SMALL = {"islands": 2, "population": 20, "cohort": 10}
SEARCHES = {
    "weighted": WeightedEvolution(SPACE, **SMALL),
    "nsga2": FrontEvolution(SPACE, **SMALL),
    "morphism": MorphismEvolution(SPACE, **SMALL, morphism=0.5),
    "lexicase": LexicaseEvolution(SPACE, **SMALL, selection_tasks=0.7),
    "grid": GridSearch(SPACE, cohort=60),
    "halving": SuccessiveHalving(SPACE, proposals=30, proposer="efficient"),
    "hyperband": Hyperband(SPACE, proposals=27, rungs=3),
}


def gone_on(search, state, cohorts, evaluator=None):
    evaluator = evaluator or Evaluator(TASKS)
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    return state


def scored(search, state, fitness, cost=1.0):
    """The state after the candidates asked for next got this fitness and cost."""
    state, candidates = search.ask(state)
    scores = Scores.of(np.broadcast_to(fitness, (len(candidates), *np.shape(fitness)[1:])))
    scores = dataclasses.replace(scores, cost=np.broadcast_to(np.float64(cost), len(candidates)))
    return search.tell(state, candidates, scores)


@pytest.mark.parametrize("name", SEARCHES)
def test_it_goes_on_from_a_file_as_if_nothing_had_happened(name, tmp_path):
    search = SEARCHES[name]
    state = gone_on(search, search.init(3), 4)
    search.save(state, tmp_path / "state.npz")
    again, at_once = (gone_on(search, one, 4) for one in (search.load(tmp_path / "state.npz"), state))
    np.testing.assert_equal(encode(again), encode(at_once))
    best = search.best(again)
    assert best.fitness == pytest.approx(Evaluator(TASKS)(best.program).combined[0])
    other = next(one for one in SEARCHES.values() if one is not search)
    with pytest.raises(ValueError, match="it is of type"):
        other.check(state)


@pytest.mark.parametrize("name", ["weighted", "nsga2", "morphism", "lexicase"])
def test_islands_exchange_individuals_with_all_that_belongs_to_them(name):
    search = SEARCHES[name]
    state = gone_on(search, search.init(0), 3)
    (after,) = search.migrate([state], np.random.default_rng(0))
    rows = {one.to_json(): row for row, one in enumerate(state.programs[[i]] for i in range(40))}
    for row in range(40):
        before = rows[after.programs[[row]].to_json()]
        for field in dataclasses.fields(state.individuals):
            values, there = (getattr(one.individuals, field.name) for one in (after, state))
            if isinstance(values, np.ndarray):
                np.testing.assert_array_equal(values[row], there[before])
    again = gone_on(search, after, 2)
    assert again.evaluations == state.evaluations + 40


# ---------------------------------------------------------------------------------------------- weighted


def test_of_equal_programs_the_cheap_ones_have_children():
    search = WeightedEvolution(SPACE, population=20, cohort=10, tournament=20)
    costs = np.linspace(1.0, 5.0, 20)
    state = scored(search, search.init(0), np.full(20, 0.5), costs)
    state, _ = search.ask(state)
    assert (state.individuals.costs[state.parents] < 1.7).mean() > 0.7
    assert state.best.fitness == 0.5
    assert state.best_reward == pytest.approx(0.5)


def test_the_best_has_the_highest_reward_and_its_own_fitness():
    search = WeightedEvolution(SPACE, population=4, cohort=4, target_cost=2.0, exponent=-0.5)
    fitness, costs = np.array([0.5, 0.9, 0.8, 0.1]), np.array([0.5, 8.0, 2.0, 0.0])
    state = scored(search, search.init(0), fitness, costs)
    rewards = fitness * (np.maximum(costs, 1e-3) / 2.0) ** -0.5
    assert state.best_reward == pytest.approx(rewards.max())
    assert state.best.fitness == fitness[rewards.argmax()]
    worse = scored(search, state, np.full(4, 0.9), 1e6)
    assert worse.best is state.best
    assert worse.best_reward == state.best_reward


def test_without_an_exponent_it_is_plain_evolution():
    plain = RegularizedEvolution(SPACE, **SMALL)
    one, other = (
        gone_on(search, search.init(5), 6) for search in (plain, WeightedEvolution(SPACE, **SMALL, exponent=0.0))
    )
    np.testing.assert_array_equal(one.programs.code, other.programs.code)
    assert one.best.evaluations == other.best.evaluations


# ---------------------------------------------------------------------------------------------- nsga2


@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 3).map(float)))
def test_fronts_are_what_is_left_undominated(values):
    numbers, left = fronts(values), set(range(len(values)))
    for number in range(numbers.max() + 1):
        front = {
            i for i in left
            if not any((values[j] <= values[i]).all() and (values[j] < values[i]).any() for j in left)
        }  # fmt: skip
        assert front == set(np.flatnonzero(numbers == number).tolist())
        left -= front
    assert not left


def test_crowding_distances_are_those_of_the_paper():
    """Both neighbours' distance, by objective, over its range; infinite at the ends."""
    values = np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 2.0], [4.0, 0.0]])
    np.testing.assert_allclose(crowding(values, np.zeros(4, int)), [np.inf, 3 / 4 + 2 / 4, 3 / 4 + 3 / 4, np.inf])


def test_the_first_fronts_stay_and_no_form_twice():
    search = SEARCHES["nsga2"]
    before = gone_on(search, search.init(1), 2)
    asked, candidates = search.ask(before)
    scores = Evaluator(TASKS)(candidates)
    after = search.tell(asked, candidates, scores)
    for island in range(2):
        old = [(-f, c, s) for f, c, s in _of(before, island)]
        new = slice(10 * island, 10 * (island + 1))
        sizes = np.asarray(candidates.forms.programs.length)[new].sum(1)
        new = [(-f, c, s) for f, c, s in zip(scores.combined[new], scores.cost[new], sizes, strict=True)]
        whole, stayed = np.array(old + new, float), np.array([(-f, c, s) for f, c, s in _of(after, island)], float)
        front = np.unique(whole[fronts(whole) == 0], axis=0)
        assert len(front) <= 20
        for point in front:  # all of the first front that is there
            assert (np.isclose(stayed, point).all(1)).any()
    rows = after.front()
    assert (np.diff(after.individuals.fitness[rows]) <= 0).all()
    assert not repeats(after.individuals.hashes[rows]).any()


def _of(state, island):
    some, rows = state.individuals, slice(20 * island, 20 * (island + 1))
    return zip(some.fitness[rows], some.costs[rows], some.sizes[rows], strict=True)


def test_the_best_is_the_fittest():
    search = FrontEvolution(SPACE, population=4, cohort=4)
    state = scored(search, search.init(0), np.array([0.2, 0.9, 0.5, 0.1]), np.array([0.1, 9.0, 0.2, 0.05]))
    assert state.best.fitness == 0.9


# ---------------------------------------------------------------------------------------------- lexicase


@given(arrays(np.float32, (7, 3), elements=st.integers(0, 4).map(np.float32)), st.integers(0, 2**32 - 1))
def test_parents_are_what_some_order_of_the_tasks_leaves(fitness, seed):
    epsilon, possible = deviations(fitness), set()
    for order in itertools.permutations(range(3)):
        left = list(range(7))
        for task in order:
            best = max(fitness[i, task] for i in left)
            left = [i for i in left if fitness[i, task] >= best - epsilon[task]]
        possible |= set(left)
    drawn = set(chosen(fitness, 200, np.random.default_rng(seed)).tolist())
    assert drawn <= possible
    assert len(possible) > 3 or drawn == possible


def test_specialists_have_children_and_down_sampling_draws_tasks():
    search = LexicaseEvolution(SPACE, population=3, cohort=3)
    fitness = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.4]])
    state = scored(search, search.init(0), fitness)
    rng = np.random.default_rng(0)
    parents = np.concatenate([search.parents(state, rng) for _ in range(40)])
    assert set(parents.tolist()) == {0, 1}
    one_task = dataclasses.replace(search, selection_tasks=0.5)
    each = [set(one_task.parents(state, rng).tolist()) for _ in range(40)]
    assert {frozenset(one) for one in each} == {frozenset({0}), frozenset({1})}


# ---------------------------------------------------------------------------------------------- grid


@pytest.mark.slow
def test_every_canonical_form_is_asked_for_once_the_shortest_first():
    search = GridSearch(TINY, cohort=200, constants=(0.1, 1.0))
    state, hashes, sizes = search.init(0), [], []
    while not search.exhausted(state):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, Scores.of(np.zeros(len(candidates))))
        hashes += candidates.hashes.tolist()
        sizes += np.asarray(candidates.programs.length).sum(1).tolist()
    assert len(set(hashes)) == len(hashes)
    assert sizes == sorted(sizes)
    assert set(hashes) == set(canonical(_all_of_tiny()).hashes[:, 0].tolist())
    state, candidates = search.ask(state)  # nothing is left: something known is asked for
    assert len(candidates) == 1


def _all_of_tiny():
    """Each program of TINY, by itself."""
    setups = [[], *([[56, 0, 0, out, value]] for out in (1, 2) for value in (0.1, 1.0))]
    predicts = [[[27, a, b, out]] for a in range(3) for b in range(3) for out in (1, 2)]
    scaled = [[18, s, v, out] for s in range(3) for v in range(3) for out in (1, 2)]
    rules = [*scaled, *([23, a, b, out] for a in range(3) for b in range(3) for out in (1, 2))]
    learns = [[], *([one] for one in rules), *(list(two) for two in itertools.product(rules, rules))]
    from zero_jax import Programs

    whole = [[setup, predict, learn] for setup in setups for predict in predicts for learn in learns]
    return Programs.from_lists(whole, TINY.memory)


def test_the_seed_does_not_count_and_spaces_beyond_64_bits_can_be_listed():
    large = SearchSpace((10, 10, 2), *(Component(range(1, 50), (0, 6, 6)) for _ in range(3)))
    search = GridSearch(large, cohort=30, constants=(0.5,))
    one, other = (search.ask(search.init(seed))[1].hashes for seed in (0, 1))
    np.testing.assert_array_equal(one, other)
    sizes = (6, 6, 6)
    assert search._number(sizes) > 2**64
    last = search._listed(sizes, search._number(sizes) - 2, 2)
    assert (np.asarray(last.code)[0] != np.asarray(last.code)[1]).any()


# ---------------------------------------------------------------------------------------------- morphism

SOME = ["SCALAR_SUM", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM", "VECTOR_INNER_PRODUCT", "SCALAR_DIFF",
        "VECTOR_OUTER_PRODUCT", "MATRIX_SUM", "SCALAR_MATRIX_PRODUCT", "MATRIX_VECTOR_PRODUCT", "VECTOR_GAUSSIAN_SET"]  # fmt: skip
ROOMY = SearchSpace((8, 8, 4), Component(["SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET", "VECTOR_CONST_SET"], (0, 6, 12)),
                    Component(SOME, (0, 5, 12)), Component(SOME, (0, 7, 14)))  # fmt: skip


def test_morphisms_change_no_bit_of_fitness_until_a_constant_moves():
    rng = np.random.default_rng(0)
    before = random_programs(ROOMY, 200, rng)
    after, grown = before[np.arange(200)], np.zeros(200, int)
    for _ in range(3):
        grown += [morph(after, row, ROOMY, np.array(ROOMY.max_size), rng) for row in range(200)]
    assert (grown > 0).mean() > 0.6
    more = np.asarray(after.length).sum(1) - np.asarray(before.length).sum(1)
    assert ((more >= grown) & (more <= 2 * grown)).all()
    fitness = [np.asarray(evaluate(some, TASKS, seed=0).fitness) for some in (before, after)]
    np.testing.assert_array_equal(*fitness)
    assert (fitness[0] > 0).mean() > 0.3
    check_ops(after, ROOMY.ops)
    ones = np.asarray(after.code)[..., 0] == 56
    moved = after[np.arange(200)]
    moved.data[ones, 0] += 0.5
    changed = (np.asarray(evaluate(moved, TASKS, seed=0).fitness) != fitness[1]).any(1)
    assert changed.sum() > 10


@pytest.mark.parametrize("name", ["duplicate", "add_zero", "multiply_by_one", "split"])
def test_each_morphism_is_made_where_there_is_room(name):
    rng, made = np.random.default_rng(1), 0
    program = library.program("network").resized(capacity=(20, 20, 20), memory=(10, 12, 5))
    whole = dataclasses.replace(ROOMY, memory=program.memory).with_sizes(most=program.capacity)
    before = np.asarray(evaluate(program, TASKS, seed=0).fitness)
    for c in range(3):
        for i in range(int(np.asarray(program.length)[0, c])):
            some = program[[0]]
            parts = _Program(some, 0, whole, np.array(whole.max_size), None)
            if getattr(parts, name)(c, i, rng):
                parts.write(some, 0)
                np.testing.assert_array_equal(np.asarray(evaluate(some, TASKS, seed=0).fitness), before)
                made += 1
    assert made > 0


def test_children_are_as_good_as_their_parents_or_mutants_and_sizes_grow_by_schedule():
    search = MorphismEvolution(ROOMY, population=30, cohort=30, morphism=0.9, grow_every=60)
    evaluator, state = Evaluator(TASKS), search.init(0)
    for _ in range(6):
        state, candidates = search.ask(state)
        most = search.largest(state.evaluations)
        assert (np.asarray(candidates.programs.length) <= most).all()
        scores = evaluator(candidates)
        if state.evaluations:
            same = scores.combined == state.individuals.fitness[state.parents]
            assert same.mean() > 0.6
        state = search.tell(state, candidates, scores)
    assert most.tolist() == [8, 7, 9]


@pytest.mark.slow
def test_features_grow_by_schedule_and_only_all_of_them_decide_the_best():
    search = MorphismEvolution(SPACE, population=20, cohort=10, features=(0.5, 1.0), features_every=60)
    seen, state, asked = [], search.init(0), []
    evaluator = Evaluator(TASKS)
    for _ in range(11):
        state, candidates = search.ask(state)
        asked.append((candidates.features_share, len(candidates)))
        state = search.tell(state, candidates, evaluator(candidates))
        seen.append(state.best.fitness)
    assert asked == [(1.0, 20), (0.5, 20), *[(0.5, 10)] * 2, (1.0, 20), *[(1.0, 10)] * 6]
    assert seen[0] == seen[3]
    assert state.best.fitness == pytest.approx(evaluator(state.best.program).combined[0])
    half = TASKS.narrowed(2)
    assert (half.features, half.train_y.shape) == (2, TASKS.train_y.shape)
    old = dataclasses.replace(search.candidates(state.programs[np.arange(3)]), features_share=0.5)
    np.testing.assert_allclose(evaluator(old).fitness, Evaluator(half)(old.programs).fitness, atol=1e-6)


# ---------------------------------------------------------------------------------------------- halving


def test_a_bracket_spends_what_its_schedule_promises_and_the_best_go_on():
    search = SuccessiveHalving(SPACE, proposals=90, eta=3, rungs=2, least_tasks=1 / 3)
    tasks = synthetic.linear(9, features=4, train=90, valid=10)
    evaluator = Evaluator(tasks)
    state = gone_on(search, search.init(0), 1, evaluator)  # one program in full
    steps, fitness = [], {}
    for n, share in search.schedule(90, 2):
        state, candidates = search.ask(state)
        assert len(candidates) == n
        assert candidates.tasks_share * candidates.examples_share == pytest.approx(share)
        assert candidates.tasks_share == pytest.approx(max(share, 1 / 3))
        if fitness:  # those that were best on the rung before
            lowest = min(fitness[one] for one in candidates.hashes.tolist())
            assert sum(value > lowest for value in fitness.values()) <= n
        scores = evaluator(candidates)
        steps.append(int(Evaluator(tasks)(candidates).train_steps.sum(1).max()))  # those that diverge stop before
        fitness = dict(zip(candidates.hashes.tolist(), scores.combined, strict=True))
        state = search.tell(state, candidates, scores)
    assert steps == [810 / 9, 810 / 3, 810]
    assert (state.brackets, state.evaluations) == (1, 1 + 90 + 30 + 10)


def test_the_proposer_learns_what_the_last_rungs_gave():
    search = SuccessiveHalving(SPACE, proposals=20, proposer="evolution", eta=2, rungs=1)
    state = gone_on(search, search.init(0), 3)
    proposer = search._proposer()
    inner = proposer.restored(state.inner.tree)
    assert inner.evaluations == 20
    np.testing.assert_array_equal(inner.individuals.fitness, state.fitness)
    assert inner.best_fitness == state.fitness.max()


def test_brackets_of_hyperband_begin_on_all_rungs_and_get_about_the_same_work():
    search = Hyperband(SPACE, proposals=81, eta=3, rungs=3)
    turns = search._turns
    assert set(turns) == {0, 1, 2, 3}
    work = {r: sum(n * share for n, share in search.schedule(81, r)) * turns.count(r) for r in range(4)}
    assert max(work.values()) < 1.5 * min(work.values())
    assert [search.rungs_of(b) for b in range(len(turns) + 1)] == [*turns, turns[0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedEvolution(SPACE, target_cost=0.0), "target_cost must be above 0"),
        (lambda: WeightedEvolution(SPACE, exponent=0.5), "exponent must be at most 0"),
        (lambda: LexicaseEvolution(SPACE, selection_tasks=0.0), "selection_tasks is a share"),
        (lambda: SuccessiveHalving(SPACE, proposer="hyperband"), "halving itself: 'hyperband'; expected one of "),
        (lambda: MorphismEvolution(SPACE, features=(0.5, 0.9)), "features are shares above 0 that grow to 1.0"),
        (lambda: SuccessiveHalving(SPACE, proposer="niches"), "'niches' asks for more than fitness on all of the work"),
        (lambda: SuccessiveHalving(SPACE, eta=1), "eta must be from 2"),
        (lambda: SuccessiveHalving(SPACE, least_tasks=0.0), "least_tasks is a share"),
        (lambda: GridSearch(SPACE, constants=()), "at least one finite number"),
        (lambda: GridSearch(dataclasses.replace(SPACE, initial_values=True)), "lists instructions"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
