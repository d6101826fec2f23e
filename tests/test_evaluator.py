"""`Evaluator`: the results of `evaluate`, with less work."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.spaces import DEMO, SMALL
from zero_jax import (
    Candidates,
    Component,
    Evaluator,
    Mutations,
    Programs,
    SearchSpace,
    evaluate,
    library,
    mutate,
    random_programs,
)
from zero_jax.evaluation import Fate, Hurdles, KnownForms, Probe, Rung, TrainBudget, base, cost
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import concatenate
from zero_jax.search import EfficientEvolution, RandomSearch, RegularizedEvolution, efficient
from zero_jax.support.codec import Count
from zero_jax.support.files import packed, unpacked
from zero_jax.tasks import synthetic

FIG4 = SearchSpace(
    (4, 3, 1),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET"), (5, 5, 5)),
    Component(("VECTOR_INNER_PRODUCT",), (1, 1, 1)),
    Component(("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (4, 4, 4)),
)
TASKS = synthetic.linear(3, features=4, train=30, valid=20)


def generations(n=6, size=200):
    """Programs as a search asks for them: children of children."""
    rng = np.random.default_rng(0)
    programs = random_programs(DEMO, size, rng)
    for _ in range(n):
        yield programs
        programs = mutate(programs, DEMO, Mutations(), rng)


@pytest.mark.parametrize("executor", [pytest.param("xla", marks=pytest.mark.slow), "simd"])
@pytest.mark.parametrize("cache_size", [0, 16, 2**15])
def test_results_are_those_of_evaluate_whatever_is_remembered(executor, cache_size):
    evaluator = Evaluator(TASKS, 3, executor=executor, ops=DEMO.ops, stages=(KnownForms(cache_size),))
    for programs in generations():
        want = evaluate(programs, TASKS, 3, executor=executor, ops=DEMO.ops)
        got = evaluator(programs)
        np.testing.assert_array_equal(got.fitness, want.fitness)
        spent = got.train_steps.any(1)
        np.testing.assert_array_equal(got.train_steps[spent], np.asarray(want.train_steps)[spent])
    counts = evaluator.counts
    assert counts.considered == 1200 == counts.evaluated + counts.repeated + counts.known + counts.equivalent
    assert counts.equivalent == 0
    if cache_size > 1000:
        assert counts.known > 300
        assert counts.evaluated < 800


@pytest.mark.slow
def test_the_pallas_executor_and_several_devices_give_the_same():
    tasks = TASKS.shortened(8, 4)
    how = {"executor": "pallas", "interpret": True}
    plain = Evaluator(tasks, 3, ops=DEMO.ops, **how)
    probing = Evaluator(tasks, 3, ops=DEMO.ops, stages=(KnownForms(), Probe(8)), devices=jax.devices()[:3], **how)
    for programs in generations(3, 100):
        want = evaluate(programs, tasks, 3, ops=DEMO.ops, **how).fitness
        np.testing.assert_array_equal(plain(programs).fitness, want)
        np.testing.assert_array_equal(probing(programs).fitness, want)  # the probe sees all examples
    assert probing.counts.equivalent > 20
    assert probing.counts.evaluated + probing.counts.equivalent == plain.counts.evaluated


def test_batches_may_be_under_way_side_by_side():
    first, second, third = generations(3)
    evaluator = Evaluator(TASKS, 3, stages=(KnownForms(64),))
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
    evaluator, plain = Evaluator(tasks, stages=(KnownForms(), Probe(10))), Evaluator(tasks)
    for programs in generations(12):
        got, want = evaluator(programs).fitness, plain(programs).fitness
        assert (np.abs(got - want) < 1e-5).mean() > 0.98  # a few differ after the probe's examples
    assert evaluator.counts.equivalent > 100
    assert evaluator.counts.evaluated + evaluator.counts.equivalent == plain.counts.evaluated


def test_a_probe_tells_programs_apart_that_differ_late():
    # Equal as long as no error is above 1, which the first examples decide.
    early, late = (
        Programs.parse(
            f"def Setup():\n s2 = {c}\ndef Predict():\n s1 = s3 * s3\ndef Learn():\n s3 = s3 + s2", (4, 2, 0)
        )
        for c in (1e-3, 2e-3)
    )
    evaluator = Evaluator(TASKS, stages=(KnownForms(), Probe(10)))
    evaluator(concatenate([early, late]))
    assert evaluator.counts.evaluated == 2


def test_a_small_memory_forgets_what_was_asked_for_longest_ago():
    programs = random_programs(SMALL, 64, np.random.default_rng(0))
    evaluator = Evaluator(TASKS, stages=(KnownForms(4),))
    for i in range(64):
        evaluator(programs[i])
        evaluator(programs[i])
    assert evaluator.counts.known >= 64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KnownForms(-1), "cache_size must be at least 0"),
        (lambda: KnownForms(1.5), "cache_size must be a whole number"),
        (lambda: Probe(0), "probe must be at least 1"),
        (lambda: Probe(0.5), "probe must be a whole number"),
        (lambda: Probe(forget_every=1.5), "forget_every must be a whole number"),
        (lambda: TrainBudget(-1), "the train budget must be above 0, not -1"),
        (lambda: Evaluator(TASKS, threads=0), "threads"),
        (lambda: Evaluator(TASKS, costs="seconds"), "costs must be upstream or operations, not 'seconds'"),
        (lambda: Rung(tasks=0), "the share of tasks must be above 0"),
        (lambda: Rung(examples=1.1), "the share of examples must be above 0 and at most 1"),
        (lambda: Rung(quantile=1.0), "the quantile of a rung"),
    ],
)
def test_invalid_settings_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------------------------------- work not done


def test_forgetting_trains_a_known_program_again():
    program = library.program("linear")
    evaluator = Evaluator(TASKS, executor="simd", stages=(KnownForms(16), Probe(5, 16, forget_every=3)))
    variants = [
        f"def Setup():\n s2 = {c}\ndef Predict():\n s1 = s2 - s2\ndef Learn():" for c in np.linspace(0.1, 1, 10)
    ]
    for text in variants:  # other forms, equal errors
        evaluator(Programs.parse(text, program.memory))
    counts = evaluator.counts
    assert (counts.evaluated, counts.equivalent) == (4, 6)  # trained, used twice, trained...
    never = Evaluator(TASKS, executor="simd", stages=(KnownForms(16), Probe(5, 16, forget_every=0)))
    for text in variants:
        never(Programs.parse(text, program.memory))
    assert (never.counts.evaluated, never.counts.equivalent) == (1, 9)
    assert never.counts.saved_equivalent == 9 * 3 * 30


@pytest.mark.parametrize("costs", ["upstream", "operations"])
def test_programs_over_the_budget_get_0_untrained(costs):
    costly = "def Setup():\ndef Predict():\n m0 = gaussian(0, 1)\n v1 = dot(m0, v0)\n s1 = mean(v1)\ndef Learn():\n m1 = matmul(m0, m0)\n m1 = matmul(m1, m0)"
    memory = library.program("network").memory
    network = library.program("network").to_lists()[0]
    programs = Programs.from_lists([network, Programs.parse(costly, memory).to_lists()[0], network], memory)
    evaluator = Evaluator(TASKS, stages=(TrainBudget(2), KnownForms()), costs=costs)
    scores = evaluator(programs)
    want = np.array(evaluate(programs, TASKS).fitness)
    assert want[1].any()
    want[1] = 0
    np.testing.assert_array_equal(scores.fitness, want)
    assert not scores.train_steps[1].any()
    counts = evaluator.counts
    assert (counts.considered, counts.evaluated, counts.repeated, counts.over_budget) == (3, 1, 1, 1)
    assert counts.saved_over_budget == 3 * 30
    assert counts.saved_repeated == counts.train_steps == 3 * 30


def test_the_budget_is_upstreams_rule():
    cifar10 = library.program("cifar10")
    ratio = cost.cost(cifar10, 8000) / cost.cost(library.program("network"), 8000)
    assert ratio == pytest.approx(1.96, abs=0.005)
    assert cost.within_budget(cifar10, 8000, 2.0).all()
    assert not cost.within_budget(cifar10, 8000, 1.9).any()


@pytest.mark.parametrize("executor", ["simd", pytest.param("xla", marks=pytest.mark.slow)])
def test_a_hurdle_stops_who_does_badly_on_a_part(executor):
    rungs = (Rung(tasks=0.4, quantile=0.5), Rung(examples=0.5, quantile=0.5))
    evaluator = Evaluator(TASKS, 3, executor=executor, ops=DEMO.ops, stages=(KnownForms(), Hurdles(rungs)))
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
        {"stages": (TrainBudget(0.5), KnownForms())},
        {"stages": (KnownForms(64),)},
        {"stages": (KnownForms(), Hurdles((Rung(examples=0.5),)))},
        {"stages": (TrainBudget(0.5), KnownForms(), Probe(5), Hurdles((Rung(tasks=0.4), Rung(examples=0.5))))},
    ],
)
def test_fresh_are_those_trained_in_full_with_their_rows_and_canonical_form(more):
    evaluator, seen = Evaluator(TASKS, 3, executor="simd", ops=DEMO.ops, **more), set()
    for programs in generations(6, 300):
        candidates = Candidates.of(programs)
        scores = evaluator(candidates)
        form, rows = candidates.forms.programs, scores.fresh
        assert scores.train_steps[rows].any() or not len(rows)
        np.testing.assert_array_equal(scores.fitness[rows], evaluate(programs[rows], TASKS, 3, ops=DEMO.ops).fitness)
        want = canonical(programs[rows])
        np.testing.assert_array_equal(form.code[rows], want.programs.code)
        np.testing.assert_array_equal(form.data[rows], want.programs.data)
        np.testing.assert_array_equal(form.length[rows], want.programs.length)
        if KnownForms(64) not in more.get("stages", ()):
            hashes = {bytes(one) for one in want.hashes}
            assert len(hashes) == len(rows)
            assert not hashes & seen
            seen |= hashes
    if not more:
        assert len(seen) == evaluator.counts.evaluated


def test_programs_that_a_probe_finds_equivalent_are_fresh_too():
    evaluator, n = Evaluator(TASKS, 3, executor="simd", ops=DEMO.ops, stages=(KnownForms(), Probe(5))), 0
    for programs in generations(4, 300):
        n += len(evaluator(programs).fresh)
    assert evaluator.counts.equivalent > 50
    assert n == evaluator.counts.evaluated + evaluator.counts.equivalent


def test_an_evaluator_goes_on_from_what_it_wrote_down():
    how = {
        "executor": "simd",
        "ops": DEMO.ops,
        "stages": (TrainBudget(1), KnownForms(64), Probe(5, 64), Hurdles((Rung(examples=0.5),))),
    }
    one, batches = Evaluator(TASKS, 3, **how), list(generations(6, 200))
    for programs in batches[:3]:
        one(programs)
    other = Evaluator(TASKS, 3, **how)
    other.restore(unpacked(packed(one.tree())))
    for programs in batches[3:]:
        np.testing.assert_equal(vars(one(programs)), vars(other(programs)))
    np.testing.assert_equal(one.tree(), other.tree())


# ---------------------------------------------------------------------------------------------- the contract


def test_fates_say_what_became_of_each():
    costly = "def Predict():\n m0 = gaussian(0, 1)\n v1 = dot(m0, v0)\n s1 = mean(v1)\ndef Learn():\n m1 = matmul(m0, m0)\n m1 = matmul(m1, m0)"
    memory = library.program("network").memory
    rows = [library.program(name, memory=memory).to_lists()[0] for name in ("linear", "linear", "network")]
    programs = Programs.from_lists([*rows, Programs.parse(costly, memory).to_lists()[0]], memory)
    evaluator = Evaluator(TASKS, stages=(TrainBudget(2), KnownForms()))
    first, again = evaluator(programs), evaluator(programs)
    trained, repeated, known, over = Fate.TRAINED, Fate.REPEATED, Fate.KNOWN, Fate.OVER_BUDGET
    assert first.fates.tolist() == [trained, repeated, trained, over]
    assert again.fates.tolist() == [known, known, known, over]
    assert first.fresh.tolist() == [0, 2]
    assert not len(again.fresh)
    np.testing.assert_allclose(first.cost[:3], cost.cost(programs, 30)[:3] / cost.network_cost(30))
    np.testing.assert_array_equal(first.combined, first.fitness.mean(1, dtype=np.float64))
    median = Evaluator(TASKS, combine="median")(programs)
    np.testing.assert_array_equal(median.combined, np.sort(median.fitness, 1)[:, 1])


def test_a_fidelity_is_a_part_of_the_work_and_remembered_apart():
    evaluator, programs = Evaluator(TASKS, 3), random_programs(DEMO, 50, np.random.default_rng(0))
    for tasks_share, examples_share in ((1.0, 1.0), (0.7, 1.0), (1.0, 0.5), (0.3, 0.1)):
        part = Candidates(programs, canonical(programs), None, tasks_share, examples_share)
        want = evaluate(programs, Rung(tasks_share, examples_share).part(TASKS), 3).fitness
        for _ in range(2):
            before = evaluator.counts
            scores = evaluator(part)
            np.testing.assert_array_equal(scores.fitness, want)
        assert evaluator.counts.known - before.known == 50  # the second time
        fresh = len(Evaluator(TASKS, 3)(part).fresh)
        assert fresh == (np.unique(part.hashes).size if tasks_share == examples_share == 1 else 0)
    other = Evaluator(TASKS, 3)
    other.restore(unpacked(packed(evaluator.tree())))
    np.testing.assert_equal(other.tree(), evaluator.tree())
    assert other(part).fates.tolist() == [Fate.KNOWN] * 50


def test_candidates_for_other_labels_are_refused():
    wide = library.program("linear", memory=(4, 3, 0))
    candidates = Candidates.of(wide, Interface.vector(wide.memory))
    with pytest.raises(ValueError, match="the tasks have scalar labels, but the candidates are in canonical form for"):
        Evaluator(TASKS)(candidates)


@dataclasses.dataclass(frozen=True)
class Halve:
    """A stage of a user: only every other program is evaluated; counts its batches."""

    def memory(self, tasks):
        return Batches(0)

    def run(self, batch, memory, following):
        memory.count += 1
        some, results = np.arange(0, len(batch), 2), batch.results(Fate.STOPPED)
        results.put(some, (yield from following(batch[some])))
        return results

    def check(self, memory, like, calls, where):
        if memory.count > calls:
            raise ValueError(f"{where}.count is {memory.count}, more than {calls}")


@dataclasses.dataclass
class Batches:
    count: Count


def test_a_stage_of_ones_own_is_one_class():
    programs = random_programs(DEMO, 20, np.random.default_rng(0))
    evaluator = Evaluator(TASKS, stages=(Halve(), KnownForms()))
    scores = evaluator(programs)
    np.testing.assert_array_equal(scores.fitness[::2], evaluate(programs, TASKS).fitness[::2])
    assert not scores.fitness[1::2].any()
    other = Evaluator(TASKS, stages=(Halve(), KnownForms()))
    tree = evaluator.tree()
    other.restore(tree)
    np.testing.assert_equal(other.tree(), tree)
    tree["levels"][0]["memories"][0]["count"] = 2
    with pytest.raises(ValueError, match=r"evaluator.levels\[0\].memories\[0\].count is 2, more than 1"):
        other.restore(tree)


@pytest.mark.parametrize("kind", [RegularizedEvolution, EfficientEvolution, RandomSearch])
def test_the_canonical_form_is_computed_once_per_child(kind, monkeypatch):
    """From ask to cache, executor and records: what else there is, are the mutants that efficient evolution looks at."""
    counted = []

    def counting(programs, *args, **more):
        counted.append(len(programs))
        return canonical(programs, *args, **more)

    for module in (base, efficient):
        monkeypatch.setattr(module, "canonical", counting)
    search = kind(FIG4, cohort=10) if kind is RandomSearch else kind(FIG4, population=20, cohort=10)
    evaluator, state = Evaluator(TASKS), search.init(0)
    for _ in range(4):
        state, candidates = search.ask(state)
        asked = len(counted)
        state = search.tell(state, candidates, evaluator(candidates))
        assert len(state.hashes) == len(state.programs)
        assert len(counted) == asked  # nothing after ask
        if kind is not EfficientEvolution:
            assert counted.pop() == len(candidates)
            assert counted == []
    np.testing.assert_array_equal(state.hashes, canonical(state.programs).hashes[:, 0])
