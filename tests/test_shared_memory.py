"""Programs that begin with memory that others have trained: the executors' part, and `enas`."""

import dataclasses
import itertools

import numpy as np
import pytest

from zero_jax import Candidates, Component, Evaluator, Memory, Programs, Scores, SearchSpace, library
from zero_jax.evaluation import Hurdles, Rung
from zero_jax.search import Enas
from zero_jax.search.operators.inheritance import inheriting, learned
from zero_jax.support.codec import encode
from zero_jax.tasks import Tasks, synthetic

TASKS = synthetic.teacher(18, features=4, train=40, valid=20)
SPACE = SearchSpace(
    (4, 3, 0),
    Component(["SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET"], (2, 2, 2)),
    Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1)),
    Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (4, 4, 4)),
)
ENAS = Enas(SPACE, cohort=30, hidden=16, memory_cohorts=2, policy_cohorts=3, judged=5)
SIMD = {"executor": "simd"}
CUDA = {"executor": "cuda", "interpret": True}


def carried(programs, tasks, memory=None, **how):
    candidates = dataclasses.replace(Candidates.of(programs), memory=memory, keeps_memory=True)
    return Evaluator(tasks, **how)(candidates)


def of(memory, program):
    """The memory of one program."""
    return Memory(*(np.asarray(part)[program] for part in memory))


def drawn(size, tasks, seed=0):
    rng, f = np.random.default_rng(seed), tasks.features
    shapes = (size.scalars,), (size.vectors, f), (size.matrices, f, f)
    return Memory(*(rng.normal(size=(len(tasks), *shape)).astype(np.float32) for shape in shapes))


# ---------------------------------------------------------------------------------------------- executors


@pytest.mark.parametrize("name", ["linear", pytest.param("network", marks=pytest.mark.slow)])
@pytest.mark.parametrize("given", [pytest.param(False, marks=pytest.mark.slow), True])
def test_executors_leave_the_same_memory(name, given):
    program = library.program(name)
    memory = drawn(program.memory, TASKS) if given else None
    one, *others = (carried(program, TASKS, memory, **how) for how in (SIMD, {"executor": "xla"}, CUDA))
    for other in others:
        np.testing.assert_array_equal(one.train_steps, other.train_steps)
        np.testing.assert_allclose(one.fitness, other.fitness, atol=1e-5)
        for left, right in zip(one.memory, other.memory, strict=True):
            assert left.shape[:2] == (1, 18)
            np.testing.assert_allclose(left, right, atol=1e-4)


@pytest.mark.parametrize("executor", ["simd", pytest.param("xla", marks=pytest.mark.slow)])
def test_without_memory_given_fitness_is_the_usual_one(executor):
    program = library.program("network")
    usual = Evaluator(TASKS, executor=executor)(program)
    scores = carried(program, TASKS, executor=executor)
    np.testing.assert_allclose(scores.fitness, usual.fitness, atol=1e-6)
    assert scores.fresh.tolist() == [0]


@pytest.mark.parametrize("how", [SIMD, {"executor": "xla"}, CUDA])
def test_a_second_evaluation_goes_on_where_the_first_ended(how):
    tasks = synthetic.linear(3, features=4, train=50, valid=10, epochs=2)
    program = library.program("linear")
    twice = carried(program, tasks, **how)

    def epoch(number):
        order = np.asarray(tasks.order)[number]
        return Tasks(tasks.train_x[:, order], tasks.train_y[:, order], tasks.valid_x, tasks.valid_y)

    first = carried(program, epoch(0), **how)
    second = carried(program, epoch(1), of(first.memory, 0), **how)
    np.testing.assert_allclose(second.memory.vectors, twice.memory.vectors, atol=1e-6)
    assert (second.fitness > first.fitness).all()
    assert not len(second.fresh)  # a fitness that is not the program's own enters no hall of fame


def test_pallas_says_which_executor_can():
    with pytest.raises(ValueError, match=r"cannot carry memory.*use executor="):
        carried(library.program("linear"), TASKS, executor="pallas", interpret=True)


# ---------------------------------------------------------------------------------------------- what is shared


@pytest.mark.parametrize(("name", "places"), [("linear", ["v1"]), ("network", ["s2", "v1", "v2", "m0"])])
def test_programs_learn_where_a_step_goes_on_from_the_last_one(name, places):
    program = library.program(name)
    names = [f"{kind}{i}" for kind, n in zip("svm", program.memory, strict=True) for i in range(n)]
    assert [names[place] for place in np.flatnonzero(learned(program)[0])] == places


def test_setup_leaves_inherited_addresses_alone_and_learning_rates_in_place():
    network = library.program("network")
    everywhere = np.ones(sum(network.memory), bool)
    child = inheriting(network, everywhere)
    before, after = (one.listing().split("def Predict")[0] for one in (network, child))
    kept = [line for line in after.splitlines() if "NoOp" not in line]
    assert set(kept) < set(before.splitlines())
    assert any("s" in line and "=" in line for line in kept)  # the learning rate
    assert not any("gaussian" in line for line in kept)
    assert inheriting(network, ~everywhere).listing() == network.listing()


def test_a_child_begins_with_shared_memory():
    """Weights that others have trained, and no learning of its own: as good as they were."""
    tasks = synthetic.linear(4, features=4, train=300, valid=20)
    teacher = library.program("linear", learning_rate=0.1)
    trained = of(carried(teacher, tasks).memory, 0)
    idle = library.program("linear", learning_rate=0.0)
    children = inheriting(idle, np.ones(sum(idle.memory), bool))
    assert carried(idle, tasks).combined[0] < 0.6
    assert carried(children, tasks, trained).combined[0] > 0.99


# ---------------------------------------------------------------------------------------------- enas


def gone_on(search, state, cohorts, evaluator):
    asked = []
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        asked.append((state, candidates))
        state = search.tell(state, candidates, evaluator(candidates))
    return state, asked


@pytest.mark.slow
def test_phases_take_turns_and_only_programs_judged_alone_count():
    tasks = synthetic.linear(3, features=4, train=60, valid=20)
    evaluator = Evaluator(tasks)
    state, asked = gone_on(ENAS, ENAS.init(0), 13, evaluator)
    phases = [one.phase for one, _ in asked]
    assert phases == ["begin", *(["memory"] * 2 + ["policy"] * 3 + ["judge"]) * 2]
    for before, candidates in asked:
        shares = before.phase in ("memory", "policy")
        assert (candidates.memory is not None) == shares
        assert candidates.examples_share == (ENAS.share if shares else 1.0)
        if shares:
            np.testing.assert_array_equal(candidates.memory.vectors, before.vectors)
            assert not (learned(candidates.programs) & before.trained)[:, :1].any()
    for (before, _), (after, _) in itertools.pairwise(asked[1:]):
        controller, memory = (encode(one.learned) for one in (before, after)), (before.vectors, after.vectors)
        if before.phase == "policy":
            np.testing.assert_array_equal(*memory)
        elif before.phase == "memory":
            np.testing.assert_equal(*controller)
    assert state.best.fitness == pytest.approx(Evaluator(tasks)(state.best.program).combined[0])


def test_shared_memory_becomes_the_mean_of_what_the_best_leave():
    evaluator = Evaluator(synthetic.linear(3, features=4, train=60, valid=20))
    state, candidates = ENAS.ask(ENAS.init(1))
    scores = evaluator(candidates)
    after = ENAS.tell(state, candidates, scores)
    best = np.argsort(-scores.combined, kind="stable")[:3]
    where = learned(candidates.programs[best])
    assert after.trained.tolist() == where.any(0).tolist()
    for address in range(4):
        writers = best[where[:, address]]
        expected = np.asarray(scores.memory.scalars)[writers, :, address].mean(0) if len(writers) else np.zeros(3)
        np.testing.assert_allclose(after.scalars[:, address], expected, rtol=1e-6)


@pytest.mark.slow
def test_it_goes_on_from_a_file_as_if_nothing_had_happened(tmp_path):
    evaluator = Evaluator(synthetic.linear(3, features=4, train=30, valid=10))
    state, _ = gone_on(ENAS, ENAS.init(0), 5, evaluator)
    ENAS.save(state, tmp_path / "state.npz")
    again, at_once = (gone_on(ENAS, one, 4, evaluator)[0] for one in (ENAS.load(tmp_path / "state.npz"), state))
    np.testing.assert_equal(encode(again), encode(at_once))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Enas(SPACE, share=0.0), "share is a share, above 0"),
        (lambda: Enas(SPACE, judged=0), "judged must be"),
        (lambda: ENAS.check_work(TASKS, (Hurdles((Rung(tasks=0.5),)),)), "leave out hurdles.*reinforce"),
        (lambda: ENAS.tell(*ENAS.ask(ENAS.init(0)), Scores.of(np.zeros(30))), "evaluate its candidates with an Evalu"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_states_of_other_spaces_are_refused():
    other = dataclasses.replace(ENAS, space=dataclasses.replace(SPACE, memory=(4, 4, 0)))
    with pytest.raises(ValueError, match="another search"):
        other.check(ENAS.init(0))


def test_programs_without_memory_learn_nowhere():
    nothing = Programs.from_lists([[[], [[27, 0, 1, 1]], []]], memory=(4, 3, 0))
    assert not learned(nothing).any()
