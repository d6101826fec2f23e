"""`Evaluator`: the results of `evaluate`, with less work."""

import jax
import numpy as np
import pytest

from tests.spaces import DEMO, SMALL
from zero_jax import Evaluator, Mutations, Programs, evaluate, library, mutate, random_programs
from zero_jax.evaluation import cost
from zero_jax.evaluation.hurdles import Rung
from zero_jax.program.canonical import canonical
from zero_jax.program.programs import concatenate
from zero_jax.support.files import packed, unpacked
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, features=4, train=30, valid=20)


def generations(n=6, size=200):
    """Programs as a search asks for them: children of children."""
    rng = np.random.default_rng(0)
    programs = random_programs(DEMO, size, rng)
    for _ in range(n):
        yield programs
        programs = mutate(programs, DEMO, Mutations(), rng)


@pytest.mark.parametrize("executor", [pytest.param("xla", marks=pytest.mark.slow), "simd"])
@pytest.mark.parametrize("remember", [0, 16, 2**15])
def test_results_are_those_of_evaluate_whatever_is_remembered(executor, remember):
    evaluator = Evaluator(TASKS, 3, executor=executor, ops=DEMO.ops, remember=remember)
    for programs in generations():
        want = evaluate(programs, TASKS, 3, executor=executor, ops=DEMO.ops)
        got = evaluator(programs)
        np.testing.assert_array_equal(got.fitness, want.fitness)
        spent = got.train_steps.any(1)
        np.testing.assert_array_equal(got.train_steps[spent], np.asarray(want.train_steps)[spent])
    counts = evaluator.counts
    assert counts.considered == 1200 == counts.evaluated + counts.repeated + counts.known + counts.alike
    assert counts.alike == 0
    if remember > 1000:
        assert counts.known > 300
        assert counts.evaluated < 800


@pytest.mark.slow
def test_the_pallas_executor_and_several_devices_give_the_same():
    tasks = TASKS.shortened(8, 4)
    how = {"executor": "pallas", "interpret": True}
    plain = Evaluator(tasks, 3, ops=DEMO.ops, **how)
    probing = Evaluator(tasks, 3, ops=DEMO.ops, probe=8, devices=jax.devices()[:3], **how)
    for programs in generations(3, 100):
        want = evaluate(programs, tasks, 3, ops=DEMO.ops, **how).fitness
        np.testing.assert_array_equal(plain(programs).fitness, want)
        np.testing.assert_array_equal(probing(programs).fitness, want)  # the probe sees all examples
    assert probing.counts.alike > 20
    assert probing.counts.evaluated + probing.counts.alike == plain.counts.evaluated


def test_batches_may_be_under_way_parallel_trials():
    first, second, third = generations(3)
    evaluator = Evaluator(TASKS, 3, remember=64)
    a, b = evaluator.steps(first), evaluator.steps(concatenate([first, second]))
    next(a), next(b)
    got = evaluator(third).fitness
    np.testing.assert_array_equal(got, evaluate(third, TASKS, 3).fitness)
    for steps, programs in ((b, concatenate([first, second])), (a, first)):
        with pytest.raises(StopIteration) as end:
            next(steps)
        np.testing.assert_array_equal(end.value.value.fitness, evaluate(programs, TASKS, 3).fitness)
    counts = evaluator.counts
    assert counts.considered == 800 == counts.evaluated + counts.repeated + counts.known
    np.testing.assert_array_equal(evaluator(first).fitness, evaluate(first, TASKS, 3).fitness)


def test_equal_programs_are_trained_once():
    program = Programs.parse(
        "def Setup():\n s3 = 1.0\ndef Predict():\n s1 = s0 + s2\ndef Learn():\n s2 = s0 + s1", (4, 2, 0)
    )
    renamed = Programs.parse(
        "def Setup():\n s2 = 5.0\ndef Predict():\n s1 = s3 + s0\ndef Learn():\n s3 = s1 + s0", (4, 2, 0)
    )
    evaluator = Evaluator(TASKS)
    both = concatenate([program, renamed])
    first = evaluator(both)
    second = evaluator(both)
    np.testing.assert_array_equal(first.fitness[0], first.fitness[1])
    np.testing.assert_array_equal(first.fitness, second.fitness)
    assert evaluator.counts[:4] == (4, 1, 1, 2)
    assert evaluator.counts.train_steps == first.train_steps.sum() == first.train_steps[0].sum()


def test_programs_that_never_write_a_prediction_are_trained_once_and_counted():
    text = "def Setup():\n s2 = {}\ndef Predict():\n s3 = dot(v0, v1)\ndef Learn():\n v1 = s2 * v0"
    programs = concatenate([Programs.parse(text.format(c), (4, 2, 0)) for c in (0.1, 0.2, 0.3)])
    evaluator = Evaluator(TASKS)
    fitness = evaluator(programs).fitness
    np.testing.assert_array_equal(fitness, np.asarray(evaluate(programs, TASKS).fitness))
    assert (evaluator.counts.evaluated, evaluator.counts.repeated, evaluator.counts.empty) == (1, 2, 3)


def test_a_probe_finds_programs_that_do_the_same():
    tasks = synthetic.linear(3, features=4, train=200, valid=50)
    evaluator, plain = Evaluator(tasks, probe=10), Evaluator(tasks)
    for programs in generations(12):
        got, want = evaluator(programs).fitness, plain(programs).fitness
        assert (np.abs(got - want) < 1e-5).mean() > 0.98  # a few differ after the probe's examples
    assert evaluator.counts.alike > 100
    assert evaluator.counts.evaluated + evaluator.counts.alike == plain.counts.evaluated


def test_a_probe_tells_programs_apart_that_differ_late():
    # Equal as long as no error is above 1, which the first examples decide.
    early, late = (
        Programs.parse(
            f"def Setup():\n s2 = {c}\ndef Predict():\n s1 = s3 * s3\ndef Learn():\n s3 = s3 + s2", (4, 2, 0)
        )
        for c in (1e-3, 2e-3)
    )
    evaluator = Evaluator(TASKS, probe=10)
    evaluator(concatenate([early, late]))
    assert evaluator.counts.evaluated == 2


def test_a_small_memory_forgets_what_was_asked_for_longest_ago():
    programs = random_programs(SMALL, 64, np.random.default_rng(0))
    evaluator = Evaluator(TASKS, remember=4)
    for i in range(64):
        evaluator(programs[i])
        evaluator(programs[i])
    assert evaluator.counts.known >= 64


@pytest.mark.parametrize(
    "setting", [{"remember": -1}, {"remember": 1.5}, {"probe": -1}, {"probe": 0.5}, {"threads": 0}]
)
def test_numbers_that_are_none_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Evaluator(TASKS, **setting)


# ---------------------------------------------------------------------------------------------- work not done


def test_forgetting_trains_a_known_program_again():
    program = library.program("linear")
    evaluator = Evaluator(TASKS, executor="simd", remember=16, probe=5, forget_every=3)
    variants = [
        f"def Setup():\n s2 = {c}\ndef Predict():\n s1 = s2 - s2\ndef Learn():" for c in np.linspace(0.1, 1, 10)
    ]
    for text in variants:  # other forms, equal errors
        evaluator(Programs.parse(text, program.memory))
    counts = evaluator.counts
    assert (counts.evaluated, counts.alike) == (4, 6)  # trained, used twice, trained...
    never = Evaluator(TASKS, executor="simd", remember=16, probe=5, forget_every=0)
    for text in variants:
        never(Programs.parse(text, program.memory))
    assert (never.counts.evaluated, never.counts.alike) == (1, 9)
    assert never.counts.saved_alike == 9 * 3 * 30


@pytest.mark.parametrize("costs", ["upstream", "operations"])
def test_programs_over_the_budget_get_0_untrained(costs):
    dear = "def Setup():\ndef Predict():\n m0 = gaussian(0, 1)\n v1 = dot(m0, v0)\n s1 = mean(v1)\ndef Learn():\n m1 = matmul(m0, m0)\n m1 = matmul(m1, m0)"
    memory = library.program("network").memory
    network = library.program("network").to_lists()[0]
    programs = Programs.from_lists([network, Programs.parse(dear, memory).to_lists()[0], network], memory)
    evaluator = Evaluator(TASKS, budget=2, costs=costs)
    told = evaluator(programs)
    want = np.array(evaluate(programs, TASKS).fitness)
    assert want[1].any()
    want[1] = 0
    np.testing.assert_array_equal(told.fitness, want)
    assert not told.train_steps[1].any()
    counts = evaluator.counts
    assert (counts.considered, counts.evaluated, counts.repeated, counts.too_dear) == (3, 1, 1, 1)
    assert counts.saved_too_dear == 3 * 30
    assert counts.saved_repeated == counts.train_steps == 3 * 30


def test_the_budget_is_upstreams_rule():
    cifar10 = library.program("cifar10")
    ratio = cost.cost(cifar10, 8000) / cost.cost(library.program("network"), 8000)
    assert ratio == pytest.approx(1.96, abs=0.005)  # SPEC 4
    assert cost.within_budget(cifar10, 8000, 2.0).all()
    assert not cost.within_budget(cifar10, 8000, 1.9).any()


@pytest.mark.parametrize("executor", ["simd", pytest.param("xla", marks=pytest.mark.slow)])
def test_a_hurdle_stops_who_does_badly_on_a_part(executor):
    rungs = (Rung(tasks=0.4, quantile=0.5), Rung(examples=0.5, quantile=0.5))
    evaluator = Evaluator(TASKS, 3, executor=executor, ops=DEMO.ops, hurdles=rungs)
    whole, stopped = [], 0
    for programs in generations(8, 150):
        want = np.asarray(evaluate(programs, TASKS, 3, executor=executor, ops=DEMO.ops).fitness)
        got = evaluator(programs).fitness
        full = (got == want).all(1)
        whole.append(full.mean())
        stopped += (~full).sum()
        early = got[~full]
        assert (early == early[:, :1]).all()  # the mean of the part, for every task
    assert whole[0] == 1  # nothing to compare with yet
    assert whole[-1] < 0.8
    counts = evaluator.counts
    assert 50 < counts.stopped <= stopped
    assert counts.saved_stopped > 0
    plain = Evaluator(TASKS, 3, executor=executor, ops=DEMO.ops)
    for programs in generations(8, 150):
        plain(programs)
    assert plain.counts.evaluated == counts.evaluated


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"budget": 0.5},
        {"remember": 64},
        {"hurdles": (Rung(examples=0.5),)},
        {"hurdles": (Rung(tasks=0.4), Rung(examples=0.5)), "budget": 0.5, "probe": 5},
    ],
)
def test_fresh_are_those_trained_in_full_with_their_rows_and_canonical_form(more):
    evaluator, seen = Evaluator(TASKS, 3, executor="simd", ops=DEMO.ops, **more), set()
    for programs in generations(6, 300):
        told = evaluator(programs)
        form, which, rows = told.fresh
        assert told.train_steps[rows].any() or not len(rows)
        np.testing.assert_array_equal(told.fitness[rows], evaluate(programs[rows], TASKS, 3, ops=DEMO.ops).fitness)
        want = canonical(programs[rows])
        np.testing.assert_array_equal(form.code[which], want.programs.code)
        np.testing.assert_array_equal(form.data[which], want.programs.data)
        np.testing.assert_array_equal(form.length[which], want.programs.length)
        if "remember" not in more:
            hashes = {bytes(one) for one in want.hashes}
            assert len(hashes) == len(rows)
            assert not hashes & seen
            seen |= hashes
    if not more:
        assert len(seen) == evaluator.counts.evaluated


def test_who_a_probe_finds_alike_is_fresh_too():
    evaluator, n = Evaluator(TASKS, 3, executor="simd", ops=DEMO.ops, probe=5), 0
    for programs in generations(4, 300):
        n += len(evaluator(programs).fresh.rows)
    assert evaluator.counts.alike > 50
    assert n == evaluator.counts.evaluated + evaluator.counts.alike


def test_an_evaluator_goes_on_from_what_it_wrote_down():
    how = {
        "executor": "simd",
        "ops": DEMO.ops,
        "probe": 5,
        "hurdles": (Rung(examples=0.5),),
        "remember": 64,
        "budget": 1,
    }
    one, batches = Evaluator(TASKS, 3, **how), list(generations(6, 200))
    for programs in batches[:3]:
        one(programs)
    other = Evaluator(TASKS, 3, **how)
    other.restore(unpacked(packed(one.tree())))
    for programs in batches[3:]:
        for a, b in zip(one(programs)[:2], other(programs)[:2], strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_equal(one.tree(), other.tree())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"budget": -1}, "budget must be at least 0"),
        ({"costs": "seconds"}, "costs upstream or operations"),
        ({"forget_every": 1.5}, "forget_every must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(more, words):
    with pytest.raises(ValueError, match=words):
        Evaluator(TASKS, **more)
    for bad in ({"tasks": 0}, {"examples": 1.1}, {"quantile": 1.0}):
        with pytest.raises(ValueError, match="a rung's"):
            Rung(**bad)
