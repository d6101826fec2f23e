"""Local moves: what each does to hand-written programs, and that what is connected stays so; and weights that adapt."""

import dataclasses
import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import assert_equal
from tests.spaces import ALL_OPS, GENES, SMALL
from zero_jax import Component, Mutations, Programs, Scores, SearchSpace, evaluate, library, mutate, random_programs
from zero_jax.program import ops
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.search import EfficientEvolution, NicheSearch, RegularizedEvolution
from zero_jax.search.operators import credit
from zero_jax.search.operators.credit import FLOOR, Credit
from zero_jax.search.operators.mutation import MOVES, TYPES, mutate_in_place
from zero_jax.search.operators.validity import can_learn
from zero_jax.support.codec import encode
from zero_jax.tasks import synthetic

ONE_EACH = SearchSpace(
    (4, 4, 1),
    Component(("SCALAR_CONST_SET", "VECTOR_CONST_SET"), (1, 1, 1)),
    Component(("VECTOR_SUM", "SCALAR_VECTOR_PRODUCT"), (1, 1, 1)),
    Component(("VECTOR_SUM", "VECTOR_DIFF", "SCALAR_VECTOR_PRODUCT"), (1, 1, 1)),
)
"""Of one instruction in each component, which may have vector labels."""


def around(name, memory, more=3):
    """A library program, and a space of its own ops with room for `more` instructions in each component."""
    program = library.program(name, memory=memory)
    parts = [program.code[0, a:b, 0] for a, b in zip(program.starts, program.starts[1:], strict=False)]
    sizes = [(1, n, n + more) for n in program.length[0].tolist()]
    components = [Component(sorted(set(part.tolist())), size) for part, size in zip(parts, sizes, strict=True)]
    space = SearchSpace(memory, *components)
    return program.resized(capacity=space.capacity), space


LINEAR, NETWORK = around("linear", (5, 4, 1)), around("network", (6, 10, 3))


def children(given_, kind, n=2000, components=(0, 1, 1)):
    """Parents, and children that differ from them."""
    program, space = given_
    parents = program[np.zeros(n, int)]
    made = mutate(parents, space, Mutations((kind,), probability=1.0, components=components), np.random.default_rng(0))
    made.check()
    changed = (made.code != parents.code).any((1, 2))
    return parents[changed], made[changed]


def body(*lines):
    """Learn of these lines, behind Setup and Predict of the linear regressor."""
    head = "def Setup():\n  s2 = 0.01\ndef Predict():\n  s1 = dot(v1, v0)\ndef Learn():\n"
    return head + "\n".join("  " + line for line in lines)


def listings(programs):
    return {programs.listing(i) for i in range(len(programs))}


def accesses(program):
    """What each instruction of one program reads and writes, as (kind, address)."""
    for row in program.code[0]:
        ins = [(int(kind), int(a)) for kind, a in zip(ops.INPUT_KINDS[row[0]], row[1:3], strict=True) if kind >= 0]
        out = int(ops.OUTPUT_KINDS[row[0]])
        yield ins, (out, int(row[3])) if out >= 0 else None


def dangling(program):
    """Addresses that are read, although nothing writes them and no example does."""
    steps = list(accesses(program))
    reads, writes = {one for ins, _ in steps for one in ins}, {out for _, out in steps}
    return reads - writes - {(0, 0), (1, 0)}


# ---------------------------------------------------------------------------------------------- in any space


@pytest.mark.slow
@given(
    st.sampled_from(MOVES),
    st.sampled_from([ALL_OPS, SMALL, GENES, ONE_EACH]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_children_stay_within_the_space(kind, space, vector, seed):
    rng = np.random.default_rng(seed)
    interface = Interface.vector(space.memory) if vector and space.memory.vectors > 2 else None
    programs = random_programs(space, 20, rng)
    for _ in range(6):
        programs = mutate(programs, space, Mutations((kind,), probability=1.0), rng, interface)
        programs.check()
        assert (programs.length >= space.min_size).all()
        assert (programs.length <= space.max_size).all()
        for c, (first, last) in enumerate(zip(programs.starts, programs.starts[1:], strict=False)):
            part = programs.code[:, first:last]
            assert np.isin(part[..., 0], [0, *space.ops[c]]).all()
            assert not part[np.arange(last - first) >= programs.length[:, c, None]].any()
    written = np.isin(ops.OUTPUT_KINDS[programs.code[..., 0]], [0, 1])
    assert (programs.code[..., 3][written] > 0).all()


@pytest.mark.parametrize("kind", MOVES)
def test_a_closed_component_stays_as_it_is(kind):
    program, _ = NETWORK
    first, last = program.starts[1:3]
    _, made = children(NETWORK, kind, components=(1, 0, 1))
    assert (made.code[:, first:last] == program.code[:, first:last]).all()


@pytest.mark.parametrize("name", ["softmax_linear", "softmax_network"])
@pytest.mark.parametrize("kind", MOVES)
def test_vector_labels_are_values_in_learn_only(name, kind):
    program, space = around(name, (4, 12, 5))
    interface = Interface.vector(space.memory)
    parents = program[np.zeros(500, int)]
    made = mutate(parents, space, Mutations((kind,), probability=1.0), np.random.default_rng(0), interface)
    predict = made.code[:, made.starts[1] : made.starts[2]]
    for field in range(2):
        assert not ((ops.INPUT_KINDS[predict[..., 0], field] == 1) & (predict[..., field + 1] == 1)).any()


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("parent", [LINEAR, NETWORK], ids=["linear", "network"])
def test_nothing_new_is_left_dangling(parent, kind):
    _, made = children(parent, kind, 300)
    before = dangling(parent[0])
    gone = (
        {out for _, out in accesses(parent[0])}
        if kind in ("remove_and_mend", "rebuild_update", "rebuild_value")
        else set()
    )
    for i in range(len(made)):
        assert dangling(made[[i]]) <= before | gone


# ---------------------------------------------------------------------------------------------- each move


def test_reconnect_changes_one_input():
    for parent in (LINEAR, NETWORK):
        before, after = children(parent, "reconnect")
        changed = after.code != before.code
        assert (changed.sum((1, 2)) == 1).all()
        assert changed[..., 1:3].any((1, 2)).all()


def test_constant_or_connection_turns_one_into_the_other():
    before, after = children(LINEAR, "constant_or_connection")
    changed = after.code != before.code
    assert (changed.sum((1, 2)) == 1).all()
    rows, slots, fields = np.nonzero(changed)
    old, new = before.code[rows, slots, fields], after.code[rows, slots, fields]
    constant = 2  # the learning rate, s2, is the only one
    assert ((old == constant) != (new == constant)).all()
    assert (old == constant).any()
    assert (new == constant).any()


def test_a_duplicate_computes_the_same():
    before, after = children(NETWORK, "duplicate_instruction", 200)
    assert ((after.length - before.length).sum(1) == 1).all()
    assert len(listings(after)) > 5
    tasks = synthetic.teacher(2, features=4, train=20, valid=10)
    np.testing.assert_array_equal(evaluate(after, tasks).fitness, evaluate(before, tasks).fitness)
    assert can_learn(after).all()


def test_removal_mends_the_flow_of_data():
    _, made = children(LINEAR, "remove_and_mend", components=(0, 0, 1))
    mended = body("s3 = s0 - s1", "v2 = s3 * v0", "v1 = v1 + v2")  # the error itself, for want of a learning rate
    without_scale = {text for text in listings(made) if "s2 * s3" not in text and "s0 - s1" in text}
    assert any(Programs.parse(mended, (5, 4, 1)).listing() == text for text in without_scale)
    without_error = {text for text in listings(made) if "s0 - s1" not in text}
    assert {text.split("def Learn():\n")[1].split("\n")[0].strip() for text in without_error} == {
        "s3 = s2 * s0",
        "s3 = s2 * s1",
    }


def test_the_prediction_is_not_removed():
    program, _ = NETWORK
    _, made = children(NETWORK, "remove_and_mend", components=(0, 1, 0))
    first, last = program.starts[1:3]
    outputs = (made.code[:, first:last, 3] == 1) & (ops.OUTPUT_KINDS[made.code[:, first:last, 0]] == 0)
    assert outputs.any(1).all()
    assert (made.length[:, 1] == program.length[0, 1] - 1).all()


def test_a_value_is_rebuilt_by_one_to_three_instructions_from_its_leaves():
    text = "def Setup():\n  s2 = 0.5\ndef Predict():\n  s1 = s2 * s3\ndef Learn():\n  s3 = s0 - s4"
    sums = Component(("SCALAR_SUM", "SCALAR_PRODUCT", "SCALAR_DIFF"), (1, 1, 6))
    space = SearchSpace((8, 1, 0), Component(("SCALAR_CONST_SET",), (1, 1, 1)), sums, sums)
    program = Programs.parse(text, space.memory, space.capacity)
    before, after = children((program, space), "rebuild_value", 6000, components=(0, 1, 0))
    added = np.bincount(after.length[:, 1] - before.length[:, 1], minlength=3)
    assert len(added) == 3
    assert 2.5 < added[1] / added[2] < 3.5  # 0.6 to 0.2; of single ones some are what was there
    for i in range(0, len(after), 50):
        steps = list(accesses(after[[i]]))[1 : 1 + after.length[i, 1]]
        known = {(0, 2), (0, 3)}
        for ins, out in steps:
            assert set(ins) <= known
            known |= {out}
        assert steps[-1][1] == (0, 1)
        assert all(out in ins for (_, out), (ins, _) in itertools.pairwise(steps))


def test_a_rebuilt_value_keeps_to_the_size():
    full = around("network", (6, 10, 3), more=0)
    before, after = children(full, "rebuild_value")
    assert (after.length <= before.length).all()
    assert (after.length < before.length).any()


def test_an_update_is_rebuilt_where_learn_writes_what_predict_reads():
    before, after = children(NETWORK, "rebuild_update")
    first, last = after.starts[2:4]
    assert (after.code[:, :first] == before.code[:, :first]).all()
    learned = {(1, 1), (1, 2), (0, 2), (2, 0)}
    for i in range(0, len(after), 20):
        old, new = ([out for _, out in accesses(one[[i]]) if out][-12:] for one in (before, after))
        assert {out for out in new if out in learned} == {out for out in old if out in learned}
    assert set(np.unique(after.length[:, 2] - before.length[:, 2])) == {0, 1, 2}
    assert last - first == after.capacity[2]


def test_moves_keep_more_learners_than_redrawn_instructions():
    def able(kind):
        before, after = children(NETWORK, kind, 4000)
        other = canonical(after).hashes[:, 0] != canonical(before).hashes[:, 0]
        return can_learn(after[other]).mean()

    redrawn = able("randomize_instruction")
    assert able("rebuild_value") > redrawn + 0.2
    assert able("rebuild_update") > redrawn + 0.2
    assert able("reconnect") > redrawn + 0.05
    assert able("constant_or_connection") > redrawn + 0.05


# ---------------------------------------------------------------------------------------------- adaptive weights

TYPES_OF_A_SEARCH = ("alter_param", "insert_instruction", "reconnect", "remove_and_mend")
ADAPTIVE = Mutations(TYPES_OF_A_SEARCH, adaptive=True)
SEARCHES = {
    "evolution": RegularizedEvolution(SMALL, islands=2, population=20, tournament=3, cohort=10, mutations=ADAPTIVE),
    "efficient": EfficientEvolution(SMALL, islands=2, population=20, tournament=3, cohort=10, mutations=ADAPTIVE),
    "niches": NicheSearch(GENES, niche_size=10, children=50, tune_every=2000, climb_after=1200, mutations=ADAPTIVE),
}


def longer(programs):
    """The more instructions the better."""
    return np.asarray(programs.length).sum(1) / 100


def after_cohorts(search, state, n, score=longer):
    for _ in range(n):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, Scores.of(score(candidates.programs)))
    return state


def test_it_is_reported_which_types_changed_each_child():
    programs, rng = random_programs(SMALL, 400, np.random.default_rng(0)), np.random.default_rng(1)
    before = programs.with_arrays(*(np.array(a) for a in (programs.code, programs.data, programs.length)))
    mutations = Mutations(("identity", "insert_instruction"), probability=0.5)
    applied = mutate_in_place(programs, SMALL, mutations, rng)
    grown = (programs.length > before.length).any(1)
    assert set(applied.tolist()) == {0, 1, 2}
    assert (applied[grown] == 2).all()
    assert_equal(programs[applied < 2], before[applied < 2])
    only = mutate_in_place(programs, SMALL, mutations, rng, weights=np.array([0.0, 1.0]))
    assert set(only.tolist()) == {0, 2}
    assert set(mutate_in_place(programs, SMALL, mutations, rng, weights=np.array([1.0, 0.0])).tolist()) == {0}


@pytest.mark.parametrize("name", SEARCHES)
def test_weights_rise_for_the_type_that_succeeds(name):
    search = SEARCHES[name]
    state = search.init(0)
    assert credit.weights(state.credit, search.mutations).tolist() == [0.25] * 4
    shares = []
    for _ in range(12):
        state = after_cohorts(search, state, 1)
        shares.append(credit.weights(state.credit, search.mutations))
    most = np.max(shares, 0)
    assert most.argmax() == TYPES_OF_A_SEARCH.index("insert_instruction")
    assert most.max() > 0.4
    assert np.min(shares) >= FLOOR / 4
    np.testing.assert_allclose(np.sum(shares, 1), 1)


def test_old_counts_fade():
    start = credit.start(ADAPTIVE)
    bars, ones = np.zeros(100), np.ones(100, np.int64)
    good = credit.settled(credit.asked(start, ones, bars), bars + 1)
    assert (good.tried[0], good.succeeded[0]) == (100, 100)
    later = good
    for _ in range(40):
        later = credit.settled(credit.asked(later, 2 * ones, bars), bars + 1)
    assert later.succeeded[0] == pytest.approx(25)
    weights = credit.weights(later, dataclasses.replace(ADAPTIVE, weights=(4.0, 2.0, 1.0, 1.0)))
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_resumes_exactly(name, tmp_path):
    search = SEARCHES[name]
    whole = after_cohorts(search, search.init(1), 10)
    half, candidates = search.ask(after_cohorts(search, search.init(1), 6))  # between ask and tell
    search.save(half, tmp_path / "state.npz")
    again = search.load(tmp_path / "state.npz")
    assert isinstance(again.credit, Credit)
    assert len(again.credit.applied)
    again = search.tell(again, candidates, Scores.of(longer(candidates.programs)))
    np.testing.assert_equal(encode(after_cohorts(search, again, 3)), encode(whole))


@pytest.mark.parametrize("name", SEARCHES)
def test_states_with_other_weights_are_refused(name):
    search = SEARCHES[name]
    state = after_cohorts(search, search.init(1), 3)
    fixed = dataclasses.replace(search, mutations=Mutations(TYPES_OF_A_SEARCH))
    with pytest.raises(ValueError, match="mutation weights adapt"):
        fixed.restored(encode(state))
    other = dataclasses.replace(search, mutations=Mutations(TYPES[:3], adaptive=True))
    with pytest.raises(ValueError, match="does not fit the mutation types"):
        other.restored(encode(state))
    broken = dataclasses.replace(state.credit, succeeded=state.credit.tried + 1)
    with pytest.raises(ValueError, match="more successes than children"):
        search.restored(encode(dataclasses.replace(state, credit=broken)))


def test_without_it_nothing_is_counted():
    search = dataclasses.replace(SEARCHES["evolution"], mutations=Mutations())
    assert after_cohorts(search, search.init(0), 3).credit is None
    with pytest.raises(ValueError, match="adaptive must be true or false"):
        Mutations(adaptive="yes")
