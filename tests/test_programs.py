"""Programs as arrays, the search space, and random programs."""

import re

import jax
import numpy as np
import pytest

from tests.helpers import assert_equal
from tests.spaces import ALL_OPS, SMALL
from zero_jax import Component, MemorySize, Programs, SearchSpace, library, random_programs
from zero_jax.program.ops import OPS
from zero_jax.program.programs import concatenate


def test_from_lists_lays_components_out_behind_each_other():
    programs = Programs.from_lists(
        [[[[56, 0, 0, 2, 0.5]], [[27, 1, 0, 1], [1, 1, 2, 1]], []], [[], [], [[57, 9, 9, 1, 7, 0.25, -1, 3]]]],
        memory=(4, 3, 1),
    )
    assert programs.capacity == (1, 2, 1)
    assert programs.memory == MemorySize(4, 3, 1)
    assert programs.length.tolist() == [[1, 2, 0], [0, 0, 1]]
    assert programs.code[0].tolist() == [[56, 0, 0, 2], [27, 1, 0, 1], [1, 1, 2, 1], [0, 0, 0, 0]]
    assert programs.data[0, 0].tolist() == [0.5, 0, 0]
    # What VECTOR_CONST_SET does not use (in1, in2, activation_data, float_data_2) is zeroed.
    assert programs.code[1, 3].tolist() == [57, 0, 0, 1]
    assert programs.data[1, 3].tolist() == [0.25, -1, 0]
    assert programs.code.dtype == np.int32
    assert programs.data.dtype == np.float32
    assert programs.length.dtype == np.int32


def test_lists_and_back():
    programs = random_programs(ALL_OPS, 50, np.random.default_rng(0))
    assert_equal(Programs.from_lists(programs.to_lists(), programs.memory, programs.capacity), programs)


def test_indexing_selects_batches():
    programs = random_programs(SMALL, 7, np.random.default_rng(0))
    assert [len(programs), len(programs[2]), len(programs[2:5]), len(programs[np.array([0, 0])])] == [7, 1, 3, 2]
    assert_equal(programs[-1], programs[6])
    assert_equal(concatenate([programs[:3], programs[3:]]), programs)
    with pytest.raises(IndexError):
        programs[7]


def test_it_is_a_pytree_with_static_sizes():
    programs = library.program("linear")
    leaves, tree = jax.tree.flatten(programs)
    assert len(leaves) == 3
    assert_equal(jax.tree.unflatten(tree, leaves), programs)
    assert jax.jit(lambda p: p.length.sum())(programs) == 6


def test_it_shows_its_listing_in_a_notebook():
    assert "s1 = dot(v1, v0)" in library.program("linear")._repr_html_()
    assert repr(library.program("linear")) == library.program("linear").listing(0)
    many = random_programs(SMALL, 9, np.random.default_rng(0))
    assert "6 more" in many._repr_html_()
    assert repr(many) == "Programs(9 programs, capacity (5, 2, 6), memory (4, 3, 1))"


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ([65, 0, 0, 0], "program 0, predict, instruction 2: there is no op 65"),
        ([-1, 0, 0, 0], "no op -1"),
        ([27, 3, 0, 1], r"v3 is outside the memory of 3 vectors \(v0 to v2\)"),
        ([27, 0, 0, 4], "s4 is outside"),
        ([39, 0, 1, 0], "m1 is outside the memory of 1 matrices"),
        ([1, -1, 0, 0], "s-1 is outside"),
        ([1, 0.5, 0, 0], "predict, instruction 2: an instruction is"),
        ([1] * 9, "up to four constants"),
        ("ab", "list of up to 8 numbers"),
    ],
)
def test_wrong_instructions_are_named(instruction, message):
    with pytest.raises(ValueError, match=message):
        Programs.from_lists([[[], [[0], instruction], []]], memory=(4, 3, 1))


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match="2 components"):
        Programs.from_lists([[[], []]], memory=(4, 3, 1))
    with pytest.raises(ValueError, match="too small"):
        Programs.from_lists([], memory=(1, 1, 0))
    with pytest.raises(ValueError, match="predict has 2 instructions, more than its capacity of 1"):
        Programs.from_lists([[[], [[0], [0]], []]], memory=(2, 1, 0), capacity=(1, 1, 1))
    with pytest.raises(ValueError, match="cannot be joined"):
        concatenate([library.program("linear"), library.program("network")])


def test_random_programs_are_valid_and_of_their_space():
    programs = random_programs(SMALL, 2000, np.random.default_rng(0)).check()
    assert programs.capacity == SMALL.max_size
    assert (programs.length == SMALL.initial_size).all()
    for c in range(3):
        first, n = programs.starts[c], SMALL.initial_size[c]
        here = programs.code[:, first : first + n]
        assert set(np.unique(here[..., 0])) == set(SMALL.ops[c])
        assert not programs.code[:, first + n : programs.starts[c + 1]].any()
    scalar_out = programs.code[np.isin(programs.code[..., 0], (2, 3, 27, 56))][:, 3]
    vector_out = programs.code[np.isin(programs.code[..., 0], (18, 23, 57))][:, 3]
    assert set(scalar_out) == {1, 2, 3}
    assert set(vector_out) == {1, 2}


def test_constants_at_birth_have_their_ranges():
    programs = random_programs(ALL_OPS, 3000, np.random.default_rng(0))
    for op in (op for op in OPS if op.constants):
        values = programs.data[programs.code[..., 0] == op.number]
        for i, meaning in enumerate(op.constants):
            low = 0 if meaning in ("index", "stdev") else -1
            assert low <= values[:, i].min() < low + 0.1
            assert 0.9 < values[:, i].max() <= 1
        assert not values[:, len(op.constants) :].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setup": Component((39,), (1, 1, 1)), "memory": (4, 3, 0)}, r"setup: MATRIX_SUM needs at least 1 matrices"),
        ({"memory": (4, 1, 0)}, r"setup: VECTOR_CONST_SET needs at least 2 vectors; the memory is \(4, 1, 0\)"),
        ({"memory": (4, 3)}, "three whole numbers"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(change, message):
    fields = {name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__} | change
    with pytest.raises(ValueError, match=message):
        SearchSpace(**fields)


@pytest.mark.parametrize(
    ("ops", "size", "message"),
    [
        ((), (4, 3, 5), "sizes must be 0 <= fewest <= initial <= most, not 4, 3, 5"),
        ((), (4, 3), "size must be three whole numbers"),
        ((70,), (1, 1, 1), "there is no op 70"),
        (("SCALAR_SUMM",), (1, 1, 1), "unknown op 'SCALAR_SUMM'; did you mean 'SCALAR_SUM'?"),
        ("SCALAR_SUM", (1, 1, 1), "ops must be a list of names or numbers, not 'SCALAR_SUM'"),
        (3, (1, 1, 1), "ops must be a list"),
    ],
)
def test_a_component_that_makes_no_sense_is_refused(ops, size, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Component(ops, size)


def test_ops_of_a_component_are_kept_by_name_and_used_by_number():
    given = Component(["VECTOR_SUM", 1, "scalar_diff_op", "27"], [1, 2, 3])
    assert given == Component(("VECTOR_SUM", "SCALAR_SUM", "SCALAR_DIFF", "VECTOR_INNER_PRODUCT"), (1, 2, 3))
    assert given.numbers == (23, 1, 2, 27)
    assert SearchSpace((4, 3, 1), Component(), given, given).ops == ((), (23, 1, 2, 27), (23, 1, 2, 27))


def test_other_sizes_leave_the_rest_of_a_space_alone():
    changed = SMALL.with_sizes(initial=(1, 2, 3))
    assert (changed.min_size, changed.initial_size, changed.max_size) == ((1, 1, 1), (1, 2, 3), (5, 2, 6))
    assert (changed.ops, changed.memory) == (SMALL.ops, SMALL.memory)
