"""Liveness, against the oracle's sets and against what execution shows."""

import jax
import numpy as np
import pytest

from tests import oracle
from tests.spaces import ALL_OPS, DEMO
from zero_jax import Programs, evaluate, library, random_programs
from zero_jax.program.liveness import liveness, number_draws
from zero_jax.tasks import synthetic


def live_text(text, memory):
    return np.asarray(liveness(Programs.parse(text, memory)))[0].tolist()


def test_what_later_steps_read_is_live():
    # s2 of Learn is read by the next Predict; v1 is overwritten before it is read; s3 is read by nobody.
    text = "def Setup():\n v1 = bcast(s2)\ndef Predict():\n v1 = abs(v0)\n s1 = s2 * s2\n s3 = norm(v1)\ndef Learn():\n s2 = s0 + s1"
    assert live_text(text, (4, 2, 0)) == [False, False, True, False, True]


def test_label_and_features_are_set_anew_but_single_elements_keep_the_rest():
    text = "def Setup():\n s0 = 1.0\n v1 = bcast(s3)\n v1[0.5] = 1.0\ndef Predict():\n s1 = dot(v1, v0)\ndef Learn():\n v0 = abs(v1)"
    assert live_text(text, (4, 2, 0)) == [False, True, True, True, False]


def test_the_library_has_no_dead_code_but_what_the_paper_left():
    assert np.asarray(liveness(library.program("linear"))).all()
    assert np.asarray(liveness(library.program("network"))).all()


@pytest.mark.slow
def test_ordinals_are_the_oracles():
    programs = random_programs(ALL_OPS, 200, np.random.default_rng(0))
    for function in (number_draws, jax.jit(number_draws)):
        numbered = function(programs)
        for i, program in enumerate(programs.to_lists()):
            for (c, slot), ordinal in oracle.live_ordinals(program).items():
                assert numbered.data[i, programs.starts[c] + slot, 2] == ordinal


def test_slots_behind_a_components_length_do_not_count():
    text = "def Setup():\n v1 = gaussian(0, 1)\ndef Predict():\n s1 = dot(v1, v0)\ndef Learn():"
    longer = "def Setup():\n v1 = gaussian(0, 1)\n v1 = gaussian(0, 1)\ndef Predict():\n s1 = dot(v1, v0)\ndef Learn():"
    memory, capacity = (2, 2, 0), (2, 1, 0)
    short, junk = (Programs.parse(t, memory, capacity) for t in (text, longer))
    junk = junk.with_arrays(junk.code, junk.data, short.length)
    tasks = synthetic.linear(2, train=5, valid=5)
    np.testing.assert_array_equal(evaluate(junk, tasks).fitness, evaluate(short, tasks).fitness)


def test_removing_dead_instructions_changes_no_prediction():
    programs = random_programs(DEMO, 300, np.random.default_rng(1))
    live = np.asarray(liveness(programs))
    assert 0.1 < live.mean() < 0.9
    pruned = Programs(
        programs.code * live[..., None],
        programs.data * live[..., None],
        programs.length,
        programs.capacity,
        programs.memory,
    )
    tasks = synthetic.linear(2, train=20, valid=5)
    want, got = (np.asarray(evaluate(p, tasks, ops=DEMO.ops).fitness) for p in (programs, pruned))
    np.testing.assert_array_equal(got, want)
