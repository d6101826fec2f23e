"""Mutation: validity of every type, and the frequencies."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from tests.spaces import ALL_OPS, DEMO, SMALL
from zero_jax import Component, Mutations, Programs, SearchSpace, library, mutate, random_programs
from zero_jax.program.ops import OPS
from zero_jax.program.programs import clean
from zero_jax.search.operators.mutation import PAPER, TYPES

ALWAYS = 1.0


def children_of(programs, space, *types, n=1, seed=0, **more):
    parents = programs[np.repeat(np.arange(len(programs)), n)]
    return parents, mutate(parents, space, Mutations(types, probability=ALWAYS, **more), np.random.default_rng(seed))


def assert_valid(children, parents, space):
    children.check()
    code, data = clean(children.code, children.data)
    np.testing.assert_array_equal(code, children.code)
    np.testing.assert_array_equal(data, children.data)
    allowed = [{0, *ops} for ops in space.ops]
    for c in range(3):
        first, last = children.starts[c], children.starts[c + 1]
        slot = np.arange(last - first)
        length = children.length[:, c, None]
        part = children.code[:, first:last]
        assert not part[slot >= length].any()
        assert not children.data[:, first:last][slot >= length].any()
        assert set(np.unique(part[..., 0])) <= allowed[c]
        size = children.length[:, c]
        low, high = (
            min(space.min_size[c], parents.length[:, c].min()),
            max(space.max_size[c], parents.length[:, c].max()),
        )
        assert ((low <= size) & (size <= high)).all()
    written = children.code[np.isin(children.code[..., 0], [op.number for op in OPS if op.output in ("s", "v")])][:, 3]
    assert (written >= 1).all()


@given(
    st.sampled_from(TYPES),
    st.sampled_from([ALL_OPS, DEMO, SMALL]),
    st.integers(0, 2**32),
    st.sampled_from(["upstream", "paper"]),
)
def test_every_type_keeps_programs_valid(kind, space, seed, constants):
    rng = np.random.default_rng(seed)
    programs = random_programs(space, 20, rng)
    parents = programs
    for _ in range(6):
        before = programs
        programs = mutate(before, space, Mutations((kind,), probability=ALWAYS, constants=constants), rng)
        assert_valid(programs, parents, space)


def test_parents_are_left_as_they_were():
    programs = random_programs(ALL_OPS, 50, np.random.default_rng(0))
    copies = [np.array(a) for a in (programs.code, programs.data, programs.length)]
    mutate(programs, ALL_OPS, Mutations(TYPES), np.random.default_rng(0))
    for was, now in zip(copies, (programs.code, programs.data, programs.length), strict=True):
        np.testing.assert_array_equal(was, now)


def differs(a, b):
    """[n, L] which slots differ."""
    return (a.code != b.code).any(-1) | (np.asarray(a.data) != b.data).any(-1)


def test_an_output_that_can_only_be_v0_stays():
    space = SearchSpace(
        (2, 1, 0),
        Component(("SCALAR_CONST_SET",), (0, 0, 0)),
        Component(("VECTOR_INNER_PRODUCT",), (0, 0, 0)),
        Component(("SCALAR_DIFF",), (0, 1, 1)),
    )
    program = Programs.parse("def Setup():\ndef Predict():\ndef Learn():\n v0 = abs(v0)", space.memory, (0, 0, 1))
    _, children = children_of(program, space, "alter_param", n=100)
    children.check()


def test_types_and_components_are_drawn_as_configured():
    programs = random_programs(ALL_OPS, 1, np.random.default_rng(0))
    n = 30_000
    parents = programs[np.zeros(n, int)]
    children = mutate(parents, ALL_OPS, PAPER, np.random.default_rng(1))
    grown, shrunk = (children.length > parents.length).any(1), (children.length < parents.length).any(1)
    counts = [grown.sum(), shrunk.sum(), n - grown.sum() - shrunk.sum()]
    expected = [0.9 * n / 9, 0.9 * n * 2 / 9, n - 0.3 * n]
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    per_component = (children.length != parents.length).sum(0)
    assert stats.chisquare(per_component).pvalue > 1e-3


def test_a_tenth_of_children_are_copies():
    programs = random_programs(DEMO, 1, np.random.default_rng(0))
    n = 20_000
    parents = programs[np.zeros(n, int)]
    children = mutate(parents, DEMO, Mutations(("randomize_algorithm",)), np.random.default_rng(1))
    copies = (~differs(parents, children).any(1)).sum()
    assert stats.binomtest(int(copies), n, 0.1).pvalue > 1e-3


def test_component_without_ops_is_never_mutated():
    space = SearchSpace(
        (4, 3, 1),
        Component((), (1, 1, 1)),
        Component((), (1, 1, 1)),
        Component(("SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"), (1, 4, 4)),
    )
    parents, children = children_of(library.program("linear", (4, 3, 1)), space, *TYPES, n=500)
    assert differs(parents, children)[:, 2:].any()
    assert not differs(parents, children)[:, :2].any()
    closed = SearchSpace((4, 3, 1), Component((), (1, 1, 1)), Component((), (1, 1, 1)), Component((), (1, 4, 4)))
    with pytest.raises(ValueError, match="nothing can be mutated"):
        children_of(library.program("linear", (4, 3, 1)), closed, "identity")


def test_alter_param_redraws_one_address_of_one_instruction():
    text = "def Setup():\ndef Predict():\ndef Learn():\n s3 = s1 + s2\n v2 = s2 * v1"
    space = SearchSpace(
        (4, 3, 0),
        Component((), (0, 0, 0)),
        Component((), (0, 0, 0)),
        Component(("SCALAR_SUM", "SCALAR_VECTOR_PRODUCT"), (0, 2, 2)),
    )
    parents, children = children_of(Programs.parse(text, space.memory, (0, 0, 2)), space, "alter_param", n=60_000)
    changed = children.code != parents.code
    assert not changed[..., 0].any()
    assert (changed.sum((1, 2)) <= 1).all()
    assert stats.chisquare(np.bincount(children.code[changed[:, 0, 1], 0, 1], minlength=4)[[0, 2, 3]]).pvalue > 1e-3
    # Instruction, field and new address are uniform; a redraw may hit the old address.
    n = len(parents)
    sizes = [[4, 4, 3], [4, 3, 2]]  # outputs skip s0 and v0
    expected = np.array([[n / 6 * (1 - 1 / size) for size in row] for row in sizes])
    got = changed[..., 1:].sum(0)
    assert stats.chisquare(got.ravel(), expected.ravel() * got.sum() / expected.sum()).pvalue > 1e-3
    assert abs(got.sum() / expected.sum() - 1) < 0.02


def altered(text, memory, n=40_000, **more):
    """Old and new constants of the children of a program of one instruction whose data was altered."""
    program = Programs.parse(text, memory, (1, 0, 0))
    op = int(program.code[0, 0, 0])
    space = SearchSpace(memory, Component((op,), (1, 1, 1)), Component((), (0, 0, 0)), Component((), (0, 0, 0)))
    parents, children = children_of(program, space, "alter_param", n=n, **more)
    moved = (children.data != parents.data).any((1, 2))
    assert stats.binomtest(int(moved.sum()), n, 0.5).pvalue > 1e-3  # output or data, half each
    return parents.data[moved, 0], children.data[moved, 0]


def test_constants_are_flipped_or_scaled():
    old, new = altered("def Setup():\n s2 = -0.5", (5, 1, 0))
    ratio = new[:, 0] / old[:, 0]
    flipped = ratio == -1
    assert stats.binomtest(int(flipped.sum()), len(ratio), 0.1).pvalue > 1e-3
    assert (ratio[~flipped] > 0).all()
    assert stats.kstest(np.log(ratio[~flipped]), "norm").pvalue > 1e-3
    old, new = altered("def Setup():\n s2 = -0.5", (5, 1, 0), constants="paper")
    ratio = new[:, 0] / old[:, 0]
    assert stats.kstest(ratio[ratio > 0], "uniform", (0.5, 1.5)).pvalue > 1e-3


def test_an_index_is_redrawn_and_a_value_beside_it_is_scaled():
    old, new = altered("def Setup():\n m0[0.25, 0.5] = 1.0", (2, 1, 4))
    changed = new != old
    assert (changed.sum(1) == 1).all()
    assert stats.chisquare(changed.sum(0)).pvalue > 1e-3
    assert stats.kstest(new[changed[:, 0], 0], "uniform").pvalue > 1e-3


def test_a_stdev_never_flips_and_bounds_stay_sorted():
    old, new = altered("def Setup():\n s2 = gaussian(1, 0.5)", (5, 1, 0))
    assert (new[:, 1] > 0).all()
    mean_changed = new[:, 0] != old[:, 0]
    assert stats.binomtest(int(mean_changed.sum()), len(new), 0.5).pvalue > 1e-3
    assert stats.binomtest(int((new[mean_changed, 0] == -1).sum()), int(mean_changed.sum()), 0.1).pvalue > 1e-3
    _, new = altered("def Setup():\n s2 = uniform(0.25, 0.5)", (5, 1, 0))
    assert (new[:, 0] <= new[:, 1]).all()
    assert (new[:, 0] > 0.25).any()


def test_randomize_instruction_redraws_one():
    programs = random_programs(DEMO, 300, np.random.default_rng(0))
    parents, children = children_of(programs, DEMO, "randomize_instruction", n=20)
    assert (differs(parents, children).sum(1) <= 1).all()
    where = differs(parents, children).sum(0)
    # A third of mutations go to each component, uniformly over its 10, 2 or 8 instructions.
    for c in range(3):
        assert stats.chisquare(where[parents.starts[c] : parents.starts[c + 1]]).pvalue > 1e-3


def test_randomize_component_and_algorithm_keep_lengths():
    programs = random_programs(SMALL, 300, np.random.default_rng(0))
    for kind, most in (("randomize_component", 1), ("randomize_algorithm", 3)):
        parents, children = children_of(programs, SMALL, kind)
        np.testing.assert_array_equal(parents.length, children.length)
        d = differs(parents, children)
        parts = np.stack([d[:, a:b].any(1) for a, b in zip(parents.starts[:3], parents.starts[1:], strict=True)], 1)
        assert parts.sum(1).max() == most


def test_insertion_removal_and_trade_keep_the_other_instructions_in_order():
    programs = random_programs(SMALL, 300, np.random.default_rng(0))
    for kind, change in (("insert_instruction", 1), ("remove_instruction", -1), ("trade_instruction", 0)):
        parents, children = children_of(programs, SMALL, kind)
        assert set((children.length - parents.length).sum(1)) <= {0, change}
        for old, new in zip(parents.to_lists(), children.to_lists(), strict=True):
            for before, after in zip(old, new, strict=True):
                shorter, longer = sorted((before, after), key=len)
                if kind == "trade_instruction":
                    assert sum(row in after for row in before) >= len(before) - 1
                elif len(shorter) != len(longer):
                    assert any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def test_insertion_stops_one_short_of_the_maximum_and_removal_at_the_minimum():
    programs = random_programs(SMALL, 50, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    grown = shrunk = programs
    for _ in range(60):
        grown = mutate(grown, SMALL, Mutations(("insert_instruction",), probability=1), rng)
        shrunk = mutate(shrunk, SMALL, Mutations(("remove_instruction",), probability=1), rng)
    assert (grown.length == np.array(SMALL.max_size) - 1).all()
    assert (shrunk.length == SMALL.min_size).all()


def test_trade_works_at_any_size():
    full = SearchSpace(
        (4, 3, 1),
        Component(("SCALAR_CONST_SET",), (0, 1, 1)),
        Component(("VECTOR_INNER_PRODUCT",), (0, 1, 1)),
        Component(("SCALAR_DIFF", "SCALAR_PRODUCT"), (0, 0, 0)),
    )
    parents, children = children_of(
        random_programs(full, 100, np.random.default_rng(0)), full, "trade_instruction", n=5
    )
    np.testing.assert_array_equal(parents.length, children.length)
    assert differs(parents, children).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"types": ()}, "mutation types must be among"),
        ({"types": ("grow",)}, "mutation types must be among"),
        ({"weights": (1.0,)}, "weights"),
        ({"weights": (0.0, 0.0, 0.0)}, "weights"),
        ({"probability": 1.5}, "probability"),
        ({"constants": "mine"}, "constants"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Mutations(**kwargs)
