"""Niche search: what its niches are, what it asks for, what it keeps, and that it finds a network from nothing."""

import copy
import dataclasses
import json

import numpy as np
import pytest

from tests.helpers import QUICK, assert_equal, call, records
from tests.spaces import GENES
from zero_jax import Candidates, Component, Evaluator, Programs, Scores, SearchSpace, library
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import resolved
from zero_jax.program.roles import described, roles
from zero_jax.run import build, cluster, run
from zero_jax.run.presets import PRESETS
from zero_jax.search import Mutations, NicheSearch, mutate
from zero_jax.search.operators.expressions import expression_of, identity
from zero_jax.search.operators.learners import new_mutants, settle
from zero_jax.search.operators.mutation import vary_initial_values
from zero_jax.search.operators.predictions import predictions
from zero_jax.search.operators.validity import can_learn
from zero_jax.support.codec import encode
from zero_jax.tasks import arrays, synthetic
from zero_jax.tasks.references import affine_fitness
from zero_jax.tasks.sets import TaskSet

TEACHER = PRESETS["teacher"][1].searcher.space
SMALL = NicheSearch(TEACHER, niches=20, niche_size=10, children=30, sets=2, tune_every=500)
ENDS = resolved(None, TEACHER.memory)


def made_up(candidates):
    """A fitness that depends on structure and constants."""
    code = np.asarray(candidates.programs.code, np.int64)
    return (code * np.arange(1, code.shape[1] + 1)[:, None]).sum((1, 2)) % 97 / 100


def after(search, asks, seed=0):
    state, asked = search.init(seed), []
    for _ in range(asks):
        state, candidates = search.ask(state)
        asked.append((state.phase, candidates))
        state = search.tell(state, candidates, Scores.of(made_up(candidates)))
    return state, asked


# ---------------------------------------------------------------------------------------------- initial values


def test_setup_of_initial_values_stays_one_for_any_mutation():
    space = TEACHER
    assert space.genes == ((0, 2), *((1, n) for n in range(1, 6)), (2, 0), (2, 1))
    rng = np.random.default_rng(0)
    from zero_jax import random_programs
    from zero_jax.search.operators.mutation import TYPES

    programs = random_programs(space, 500, rng)
    for kind in TYPES:
        children = mutate(programs, space, Mutations((kind,), probability=1.0), rng)
        _check_genes(children)
    several = children[np.repeat(np.arange(100), 3)]
    vary_initial_values(several, space, 1.0, 0.2, 3, rng)
    _check_genes(several)
    first = np.arange(0, 300, 3)
    assert_equal(several[first], children[np.arange(100)])
    changed = (several.data[:, :8] != children.data[np.repeat(np.arange(100), 3), :8]).any((1, 2))
    assert changed[np.setdiff1d(np.arange(300), first)].mean() > 0.95


def _check_genes(programs):
    genes = TEACHER.genes
    assert (programs.length[:, 0] == len(genes)).all()
    for g, (kind, address) in enumerate(genes):
        op, out = programs.code[:, g, 0], programs.code[:, g, 3]
        assert np.isin(op, ((56,), (0, 63), (0, 64))[kind]).all()
        assert (out[op > 0] == address).all()
        assert not programs.data[op == 0, g].any()
        assert (programs.data[:, g, 1] >= 0).all()


def test_initial_values_that_read_memory_are_refused():
    with pytest.raises(ValueError, match="setup: SCALAR_SUM reads memory"):
        SearchSpace((3, 3, 1), Component(["SCALAR_SUM"]), Component(), Component(), initial_values=True)
    with pytest.raises(ValueError, match="setup: VECTOR_CONST_SET reads memory"):
        SearchSpace((3, 3, 1), Component(["VECTOR_CONST_SET"]), Component(), Component(), initial_values=True)


# ---------------------------------------------------------------------------------------------- the search


def test_asks_for_programs_that_can_learn_in_sets_and_never_twice():
    _, asked = after(SMALL, 30)
    phases = [phase for phase, _ in asked]
    assert phases[:2] == ["begin", "first"]
    assert {"evolve", "tune"} <= set(phases)
    known = set()
    for phase, candidates in asked:
        assert can_learn(candidates.programs).all()
        if phase in ("begin", "tune"):
            assert (candidates.tasks_share, candidates.examples_share) == (1.0, 1.0)
            continue
        assert (candidates.tasks_share, candidates.examples_share) == SMALL.fidelity[0]
        first = candidates.hashes[:: SMALL.sets].tolist()
        assert len(set(first)) == len(first)
        assert not known & set(first)
        known |= set(first)


def test_a_niche_holds_one_program_of_a_structure_with_its_predict():
    state, _ = after(SMALL, 30)
    n = len(SMALL.predictions)
    for niche in range(n):
        held = np.flatnonzero(state.place_fitness[niche] >= 0)
        structures = state.structures[niche, held]
        assert len(np.unique(structures)) == len(held) > 0
        programs = state.places[niche * SMALL.niche_size + held]
        first, size = programs.starts[1], len(SMALL.predictions[niche].code)
        assert (programs.code[:, first : first + size] == SMALL.predictions[niche].code).all()
        assert (programs.length[:, 1] == size).all()
    assert (state.champion_fitness >= state.place_fitness.max(1)).all()
    np.testing.assert_array_equal(canonical(state.champions).hashes[:, 0], state.hashes)


def test_equal_seeds_ask_alike_a_saved_state_goes_on_and_asking_changes_no_state(tmp_path):
    one, _ = after(SMALL, 12, seed=3)
    other, _ = after(SMALL, 12, seed=3)
    np.testing.assert_equal(encode(one), encode(other))
    before = copy.deepcopy(encode(one))
    state, candidates = SMALL.ask(one)
    asked = copy.deepcopy(encode(state))
    SMALL.tell(state, candidates, Scores.of(made_up(candidates)))
    np.testing.assert_equal(encode(one), before)
    np.testing.assert_equal(encode(state), asked)
    SMALL.save(one, tmp_path / "state.npz")
    again = SMALL.load(tmp_path / "state.npz")
    np.testing.assert_equal(encode(again), before)
    for _ in range(3):
        one, a = SMALL.ask(one)
        again, b = SMALL.ask(again)
        assert_equal(a.programs, b.programs)
        scores = Scores.of(made_up(a))
        one, again = SMALL.tell(one, a, scores), SMALL.tell(again, b, scores)


def test_the_best_program_is_of_a_full_evaluation():
    tasks = synthetic.teacher(4, features=4, train=60, valid=20)
    search = dataclasses.replace(SMALL, fidelity=((0.5, 0.2),))
    evaluator, state = Evaluator(tasks), search.init(0)
    for _ in range(12):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    assert float(Evaluator(tasks)(state.best.program).combined[0]) == state.best.fitness


def test_states_of_other_searches_and_damaged_ones_are_refused(tmp_path):
    state, _ = after(SMALL, 12)
    state, candidates = SMALL.ask(state)
    with pytest.raises(ValueError, match=f"{len(candidates)} candidates were asked for, not 5"):
        SMALL.tell(state, Candidates.of(candidates.programs[:5]), Scores.of(np.zeros(5)))
    for other in ({"niche_size": 11}, {"niches": 10}):
        with pytest.raises(ValueError, match="niches and programs of each"):
            dataclasses.replace(SMALL, **other).check(state)
    moved = np.roll(np.arange(len(state.places)), SMALL.niche_size)
    for changes, message in (
        ({"rung": 2}, "its rung or its tuning"),
        ({"phase": "tune", "tuned": None}, "its rung or its tuning"),
        ({"places": state.places[moved]}, "its programs do not fit their niches"),
        ({"champion_fitness": np.full_like(state.champion_fitness, -1.0), "phase": "evolve"}, "all niches are empty"),
    ):
        with pytest.raises(ValueError, match=message):
            SMALL.check(dataclasses.replace(state, **changes))
    tree = encode(state) | {"asked_structures": state.asked_structures[1:]}
    with pytest.raises(ValueError, match="asked"):
        SMALL.restored(tree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": dataclasses.replace(TEACHER, initial_values=False)}, "needs a Setup of initial values"),
        ({"migration": 1.0}, "migration must be from 0 to below 1"),
        ({"fidelity": ()}, "fidelity needs at least one rung"),
        ({"fidelity": ((0.5, 1.5),)}, "the share of examples must be above 0"),
        ({"niches": 100_000, "niche_size": 10_000}, "take fewer"),
        ({"sets": 0}, "sets must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_spaces_without_niches_or_learners_are_refused():
    constant = dataclasses.replace(TEACHER, predict=Component(["SCALAR_CONST_SET"], (1, 1, 1)))
    with pytest.raises(ValueError, match="no function of features and memory can be computed by Predict"):
        dataclasses.replace(SMALL, space=constant).init(0)
    bare = SearchSpace((2, 1, 0), Component(), Component(["VECTOR_INNER_PRODUCT"]), Component(["SCALAR_SUM"]))
    with pytest.raises(ValueError, match="has no address for what a program learns"):
        predictions(bare, 10)
    idle = dataclasses.replace(TEACHER, learn=Component(["SCALAR_SUM"], (1, 1, 2)))
    search = dataclasses.replace(SMALL, space=idle)
    with pytest.raises(ValueError, match="no program that can learn from its mistakes was found"):
        search.ask(search.init(0))


def test_a_shorter_function_is_filled_up_to_the_smallest_predict():
    space = dataclasses.replace(TEACHER, predict=Component(["VECTOR_INNER_PRODUCT", "VECTOR_MAX"], (2, 2, 3)))
    search = dataclasses.replace(SMALL, space=space)
    _, candidates = search.ask(search.init(0))
    assert str(search.predictions[0]) == "dot(x, va)"
    assert candidates.programs.length[:, 1].min() == 2


def test_a_search_that_stalls_gives_way_to_the_next_trial(capsys):
    config = PRESETS["teacher"][1].replace(
        out=None, space=TEACHER, niche_size=10, niches=5, children=20, tune_every=100, patience=400, trials=2,
        parallel_trials=1, train_steps=10**9, sufficient_margin=None, sufficient_fitness=1.0,
        **{f"{role}_tasks": TaskSet("teacher", tasks=2, features=4, train=20, valid=10)
           for role in ("search", "select", "unseen")},
    )  # fmt: skip
    outcome = run(config)
    assert outcome.progress.exhausted == outcome.progress.trial == 2
    assert outcome.progress.train_steps < 10**9


def test_a_rule_that_moves_into_a_niche_is_evaluated_as_it_is():
    search = dataclasses.replace(SMALL, migration=0.9)
    state, _ = after(search, 6)
    parents = state.champions[np.flatnonzero(state.champion_fitness > -1)]
    moved, done, _ = new_mutants(
        parents,
        lambda some: np.zeros(len(some), np.int64),
        np.zeros(64, np.uint64),
        unevaluated=np.ones(len(parents), bool),
    )
    assert_equal(moved, parents)
    assert done.tolist() == list(range(len(parents)))


def test_a_variation_that_does_the_same_takes_the_place_of_its_model():
    fitness, structures = np.array([[0.5, 0.25, -1.0]]), np.array([[1, 2, 0]], np.uint64)
    ring, owners = np.array([2]), np.full(3, -1)
    niches = np.zeros(3, np.int64)
    new, own, best = np.array([3, 4, 2], np.uint64), np.array([0.25, 0.3, 0.1]), np.array([0.4, 0.3, 0.2])
    settle(fitness, structures, ring, niches, new, own, best, owners)
    assert structures.tolist() == [[2, 3, 4]]  # 3 for 2, then 4 in the free place, then 2 in the place after it
    assert fitness.tolist() == [[0.2, 0.4, 0.3]]
    assert owners.tolist() == [2, 0, 1]


# ---------------------------------------------------------------------------------------------- functions found on the way


FEW = dataclasses.replace(SMALL, niches=6, explore_every=100)


def test_functions_that_are_not_listed_are_found_as_the_search_goes_along():
    state, asked = after(FEW, 60)
    assert "explore" in [phase for phase, _ in asked]
    first, last = state.champions.starts[1:3]
    now = [identity(expression_of(code, ENDS)) for code in state.champions.code[:, first:last]]
    assert len(set(now)) == len(now) == 6
    assert set(now) - {identity(one.expression) for one in FEW.predictions}
    assert set(now) <= {identity(one.expression) for one in predictions(TEACHER, 1000)}
    niches, rows = np.nonzero(state.place_fitness >= 0)
    held = state.places[niches * FEW.niche_size + rows]
    assert (held.code[:, first:last] == state.champions.code[niches, first:last]).all()
    assert can_learn(held).all()
    FEW.check(state)


def test_the_best_niches_stay_when_functions_are_found():
    state, _ = after(FEW, 40)
    kept = int(state.champion_fitness.argmax())
    before = state.champions.code[kept]
    while state.phase != "explore":
        state, candidates = FEW.ask(state)
        state = FEW.tell(state, candidates, Scores.of(np.full(len(candidates), 0.01)))
    state, candidates = FEW.ask(state)
    assert (state.champion_fitness[np.unique(state.asked)] == -1).all()
    np.testing.assert_array_equal(state.champions.code[kept], before)


def test_a_search_that_has_all_functions_does_not_look_for_others():
    all_of_them = dataclasses.replace(SMALL, niches=59, explore_every=50)
    _, asked = after(all_of_them, 20)
    assert "explore" not in [phase for phase, _ in asked]
    never = dataclasses.replace(FEW, explore_every=0)
    _, asked = after(never, 20)
    assert "explore" not in [phase for phase, _ in asked]


def test_a_search_that_finds_functions_is_resumed(tmp_path):
    state, _ = after(FEW, 25)
    FEW.save(state, tmp_path / "state.npz")
    again = FEW.load(tmp_path / "state.npz")
    for _ in range(12):
        state, a = FEW.ask(state)
        again, b = FEW.ask(again)
        assert_equal(a.programs, b.programs)
        state, again = (FEW.tell(one, a, Scores.of(made_up(a))) for one in (state, again))


# ---------------------------------------------------------------------------------------------- discovery


@pytest.mark.slow
def test_it_runs_through_ray(tmp_path):
    pytest.importorskip("ray")
    config = QUICK.replace(
        method="niches", space=GENES, niche_size=10, children=20, tune_every=500, parallel_trials=1, workers=2, trials=1
    )
    outcome = cluster.run(config.replace(out=str(tmp_path)))
    assert outcome.search_fitness > 0
    assert outcome.progress.train_steps >= config.schedule.train_steps
    assert len(records(outcome.folder)) >= 1


@pytest.mark.slow
def test_a_network_is_found_from_random_programs(tmp_path, capsys):
    assert call("search", "teacher", "--seed", "407", "--time-limit", "5m", "--out", tmp_path) == 0
    (folder,) = tmp_path.iterdir()
    outcome = json.loads((folder / "outcome.json").read_text())
    affine = outcome["references"]["affine least squares"]
    assert outcome["unseen_fitness"] > affine + 0.1
    assert 0 < outcome["references"]["network"] <= 1
    assert "updates the weights m" in capsys.readouterr().out


def test_the_target_is_the_lower_of_fitness_and_margin():
    config = PRESETS["teacher"][1]
    tasks = synthetic.teacher(3, features=4, train=200, valid=100)
    assert build.target(config, tasks) == pytest.approx(affine_fitness(tasks) + 0.15)
    assert build.target(config.replace(sufficient_fitness=0.3), tasks) == 0.3
    assert build.target(config, synthetic.affine(2)) == 0.9999
    assert build.target(config.replace(sufficient_margin=None), tasks) == 0.9999
    with pytest.raises(ValueError, match="sufficient_margin is above an affine fit, which is for regression"):
        build.target(config, arrays.digits([(3, 8)]))


def test_any_preset_can_be_searched_by_niches(tmp_path, capsys):
    words = ["--method", "niches", "--children", "20", "--niche-size", "5", "--train-steps", "100000", "--trials", "1"]
    small = [f"--{role}-tasks.tasks=3" for role in ("search", "select", "unseen")]
    assert call("search", "linear", *words, *small, "--parallel-trials", "1", "--out", tmp_path) == 0
    assert "def Predict():" in capsys.readouterr().out


def test_one_neuron_is_no_network():
    neuron = """
def Predict():
  s2 = dot(v1, v0)
  s1 = sin(s2)
def Learn():
  s3 = s0 - s1
  v2 = s3 * v0
  v1 = v1 + v2
"""
    known = roles(Programs.parse(neuron, memory=(4, 3, 0)))
    assert (known.hidden, known.trained) == (frozenset(), {"v1"})


def test_roles_are_read_off_the_flow_of_data():
    network = described(library.program("network"))
    for role in ("layer with weights m0", "activation", "error", "updates the weights m0", "updates the weights v1"):
        assert f"# {role}" in network
    frozen = """
def Setup(): m0 = gaussian(0, 1, (n_features, n_features))
def Predict():
  v2 = dot(m0, v0)
  v3 = maximum(v2, v4)
  s1 = dot(v1, v3)
def Learn():
  s1 = s0 - s1
  v5 = s1 * v3
  v1 = v1 + v5
"""
    program = Programs.parse(frozen, memory=(3, 6, 2))
    assert (roles(program).hidden, roles(program).trained) == ({"m0"}, {"v1"})
    assert not roles(program).trains_hidden_layer


def test_the_affine_fit_is_that_of_least_squares():
    tasks = synthetic.affine(3, features=5, train=40, valid=10)
    assert affine_fitness(tasks) == pytest.approx(1.0, abs=1e-6)
    teacher = synthetic.teacher(5, features=4, train=500, valid=200)
    assert 0.4 < affine_fitness(teacher) < 0.9
