"""Which rows are learned from, and which are scored on."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from zero_jax.use.splits import Splits

TABLES = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 60),
        "kind": st.sampled_from(["any", "classes", "groups", "time"]),
        "seed": st.integers(0, 1000),
        "share": st.floats(0.05, 0.6),
    }
)


def made(rows, kind, seed):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, rows) if kind == "classes" else None
    groups = np.concatenate([[0, 1], rng.integers(0, 9, rows)])[:rows] if kind == "groups" and rows > 1 else None
    return Splits(rows, classes, groups, kind == "time")


def check(splits, learned, scored):
    if splits.groups is not None:
        assert not set(splits.groups[learned]) & set(splits.groups[scored])
    if splits.in_time:
        assert learned.max() < scored.min()


@given(TABLES)
@example({"rows": 16, "kind": "classes", "seed": 0, "share": 0.125})  # three classes, two rows held out
def test_no_row_is_on_both_sides_and_none_is_lost(table):
    splits = made(table["rows"], table["kind"], table["seed"])
    learned, held_out = splits.held_out(table["share"], table["seed"])
    if table["rows"] < 8:
        assert learned.tolist() == held_out.tolist() == [*range(table["rows"])]
        return
    assert sorted([*learned, *held_out]) == [*range(table["rows"])]
    assert len(learned)
    assert len(held_out)
    check(splits, learned, held_out)
    for train, test in splits.folds(learned, 3, table["seed"]):
        if len(learned) >= 8 and not np.array_equal(train, test):
            assert not set(train) & set(test)
            assert set(train) | set(test) <= set(learned)
            check(splits, train, test)
    rng = np.random.default_rng(table["seed"])
    train, valid = splits.drawn(learned, len(learned) // 2, max(1, len(learned) // 4), rng)
    assert (len(train), len(valid)) == (len(learned) // 2, max(1, len(learned) // 4))
    assert set(train) | set(valid) <= set(learned)
    assert not set(train) & set(valid)
    if len(train) and (splits.groups is None or len(np.unique(splits.groups[learned])) > 1):
        check(splits, train, valid)


def test_shares_of_classes_are_kept():
    classes = np.repeat([0, 1], [90, 10])
    splits = Splits(100, classes)
    learned, held_out = splits.held_out(0.2, 0)
    assert classes[held_out].sum() == 2
    assert all(classes[test].sum() in (2, 3) for _, test in splits.folds(learned, 3, 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": np.zeros(5)}, "groups has 5 values for 10 rows"),
        ({"groups": np.zeros(10)}, "all rows are in one group"),
        ({"groups": np.arange(10), "in_time": True}, "by groups or in time, not both"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Splits(10, **settings)
