"""Dead code, canonical form and hash."""

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from tests.spaces import ALL_OPS, DEMO
from zero_jax import Component, Programs, SearchSpace, evaluate, random_programs
from zero_jax.program import ops
from zero_jax.program.canonical import canonical, live, pruned
from zero_jax.program.liveness import liveness
from zero_jax.program.ops import COMMUTATIVE
from zero_jax.tasks import synthetic

WIDE = SearchSpace(
    (40, 30, 10),
    Component(tuple(range(1, 65)), (6, 6, 6)),
    Component(tuple(range(1, 65)), (6, 6, 6)),
    Component(tuple(range(1, 65)), (6, 6, 6)),
)
"""More addresses than bits in a word."""

traced_liveness = jax.jit(liveness)

MIXING = SearchSpace(
    (6, 5, 3),
    Component((*COMMUTATIVE, 2, 18, 28, 31, 56, 62, 63, 64), (8, 8, 8)),
    Component((*COMMUTATIVE, 2, 18, 28, 31), (8, 8, 8)),
    Component((*COMMUTATIVE, 2, 18, 28, 31), (8, 8, 8)),
)


def disguised(programs, rng):
    """The same programs with addresses renamed, and operands of sums and products swapped at random."""
    code = np.array(programs.code)
    sizes = programs.memory
    for program in code:
        names = [
            np.concatenate([np.arange(fixed), fixed + rng.permutation(n - fixed)])
            for n, fixed in zip(sizes, (2, 1, 0), strict=True)
        ]
        for instruction in program:
            op = instruction[0]
            kinds = (*ops.INPUT_KINDS[op], ops.OUTPUT_KINDS[op])
            for field, kind in enumerate(kinds, 1):
                if kind >= 0:
                    instruction[field] = names[kind][instruction[field]]
            if op in COMMUTATIVE and rng.random() < 0.5:
                instruction[[1, 2]] = instruction[[2, 1]]
    return programs.with_arrays(code, programs.data, programs.length)


@given(st.sampled_from([ALL_OPS, DEMO, MIXING, WIDE]), st.integers(0, 2**32))
def test_live_code_is_that_of_the_traced_analysis(space, seed):
    programs = random_programs(space, 30, np.random.default_rng(seed))
    np.testing.assert_array_equal(live(programs), np.asarray(traced_liveness(programs)))


@given(st.sampled_from([ALL_OPS, DEMO, MIXING, WIDE]), st.integers(0, 2**32))
def test_names_and_the_order_of_operands_do_not_matter(space, seed):
    rng = np.random.default_rng(seed)
    programs = random_programs(space, 30, rng)
    first, second = canonical(programs), canonical(disguised(programs, rng))
    np.testing.assert_array_equal(first.programs.code, second.programs.code)
    np.testing.assert_array_equal(first.hashes, second.hashes)
    again = canonical(first.programs)
    np.testing.assert_array_equal(again.programs.code, first.programs.code)
    np.testing.assert_array_equal(again.hashes, first.hashes)
    first.programs.check()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["xla", "simd"])
def test_the_canonical_form_has_the_same_fitness_to_the_bit(executor):
    programs = random_programs(ALL_OPS, 400, np.random.default_rng(0))
    tasks = synthetic.linear(3, features=3, train=10, valid=5)
    form = canonical(programs).programs
    assert form.length.sum() < programs.length.sum()
    want, got = (evaluate(p, tasks, 5, executor=executor, ops=range(65)) for p in (programs, form))
    np.testing.assert_array_equal(want.fitness, got.fitness)
    np.testing.assert_array_equal(want.train_steps, got.train_steps)


def test_different_programs_have_different_hashes():
    form = canonical(random_programs(MIXING, 20_000, np.random.default_rng(1)))
    texts = [part.tobytes() for part in np.concatenate(
        [form.programs.code.reshape(20_000, -1), form.programs.data.view(np.int32).reshape(20_000, -1),
         form.programs.length], axis=1)]  # fmt: skip
    hashes = {tuple(h) for h in form.hashes.tolist()}
    assert len(hashes) == len(set(texts)) > 10_000
    assert len({h[0] for h in hashes}) == len({h[1] for h in hashes}) == len(hashes)


def test_small_differences_show():
    base = [[[56, 0, 0, 2, 0.5]], [[27, 0, 1, 1], [2, 1, 2, 1]], [[18, 1, 0, 1]]]
    changed = [
        [[[56, 0, 0, 2, -0.5]], *base[1:]],
        [base[0], [[27, 0, 1, 1], [2, 2, 1, 1]], base[2]],
        [base[0], base[1], [[18, 0, 0, 1]]],
        [[], base[1], base[2]],
    ]
    hashes = canonical(Programs.from_lists([base, *changed], (3, 2, 0))).hashes
    assert len(np.unique(hashes[:, 0])) == 5


def test_addresses_that_nothing_writes_share_a_name():
    one, two = (
        Programs.parse(
            f"def Setup():\ndef Predict():\n s1 = {a} + {b}\n s1 = s1 + s4\ndef Learn():\n s4 = s0 * s0", (6, 1, 0)
        )
        for a, b in (("s2", "s3"), ("s5", "s5"))
    )
    np.testing.assert_array_equal(canonical(one).hashes, canonical(two).hashes)


def test_threads_do_not_matter():
    programs = random_programs(DEMO, 3000, np.random.default_rng(2))
    np.testing.assert_array_equal(canonical(programs, 1).hashes, canonical(programs, 3).hashes)


def test_pruned_keeps_names_and_order():
    text = (
        "def Setup():\n s3 = 1.0\n s2 = 0.5\ndef Predict():\n v2 = abs(v0)\n s1 = norm(v2)\ndef Learn():\n s2 = s2 * s2"
    )
    want = "def Setup():\ndef Predict():\n  v2 = abs(v0)\n  s1 = norm(v2)\ndef Learn():"
    assert pruned(Programs.parse(text, (4, 3, 0))).listing(0) == want
