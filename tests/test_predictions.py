"""The functions that Predict can compute: which are listed, and which are found near others."""

import dataclasses
import itertools

import numpy as np
import pytest

from zero_jax import Component, Programs, SearchSpace
from zero_jax.program.canonical import live
from zero_jax.program.memory import resolved
from zero_jax.program.ops import OPS
from zero_jax.run.presets import PRESETS
from zero_jax.search.operators.expressions import FEATURES, expression_of, identity, shown
from zero_jax.search.operators.predictions import all_listed, explored, predictions, variation

TEACHER = PRESETS["teacher"][1].searcher.space
ENDS = resolved(None, TEACHER.memory)
LARGE = SearchSpace(
    (5, 9, 2),
    Component(),
    Component(["SCALAR_SUM", "VECTOR_SUM", "VECTOR_INNER_PRODUCT", "MATRIX_VECTOR_PRODUCT", "VECTOR_MAX"], (1, 1, 11)),
    Component(["SCALAR_SUM"]),
)


@pytest.mark.slow
def test_the_functions_of_the_teacher_space_are_those_that_its_programs_can_compute():
    """Against random programs: the Predict of each that reads features and memory is one of the niches, by its values."""
    known = predictions(TEACHER, 1000)
    assert len({str(one) for one in known}) == len(known) == 59
    assert [len(one.code) for one in known] == sorted(len(one.code) for one in known)
    values = {_value(one.code) for one in known}
    assert len(values) == len(known)  # no two compute the same
    rng, met = np.random.default_rng(0), set()
    for code in _random_predicts(rng, 12_000):
        value = _value(code)
        if value is not None:
            met.add(value)
            assert value in values
    assert len(met) > 20


def _random_predicts(rng, n):
    for _ in range(n):
        rows = []
        for _ in range(3):
            op = (27, 31, 48)[rng.integers(3)]
            first = rng.integers(2) if op == 31 else rng.integers(6)
            rows.append([op, first, rng.integers(6), rng.integers(1, 6) if op != 27 else rng.integers(1, 3)])
        yield np.array(rows)


def _value(code):
    """The prediction from random numbers, the least over all ways to give memory its values: equal for equal functions.

    None for what reads no features, no memory, or what an earlier example left; or makes no prediction.
    """
    program = Programs.from_lists([[[], code.tolist(), []]], memory=(3, 6, 2))
    code = code[live(program)[0][: len(code)]]
    if not len(code) or code[-1, 0] != 27:
        return None
    written, read = {("v", 0)}, []
    for op, a, b, out in code.tolist():
        inputs = ("m" if op == 31 else "v", a), ("v", b)
        read += [one for one in inputs if one not in written]
        written |= {("v", out)} if op != 27 else set()
    if written & set(read):  # what one example leaves for the next
        return None
    places = [[a for kind, a in dict.fromkeys(read) if kind == which] for which in "vm"]
    features = (code[:, 2] == 0) | ((code[:, 1] == 0) & (code[:, 0] != 31))
    if not any(places) or not features.any():
        return None
    rng = np.random.default_rng(1)
    x, vectors, matrices = rng.normal(size=16), rng.normal(size=(5, 16)), rng.normal(size=(2, 16, 16))
    orders = itertools.product(*(itertools.permutations(range(len(some))) for some in places))
    return min(_run(code, x, dict(zip(places[0], vectors[list(v)], strict=True)),
                    dict(zip(places[1], matrices[list(m)], strict=True))) for v, m in orders)  # fmt: skip


def _run(code, x, v, m):
    v, s = {0: x} | v, 0.0
    for op, a, b, out in code.tolist():
        if op == 27:
            s = float(v[a] @ v[b])
        else:
            v[out] = m[a] @ v[b] if op == 31 else np.maximum(v[a], v[b])
    return round(s, 6)


def test_a_predict_that_is_too_large_to_enumerate_ends_soon():
    sums = dataclasses.replace(TEACHER, predict=Component(["VECTOR_SUM", "VECTOR_MAX"], (1, 1, 12)))
    with pytest.raises(ValueError, match="which is too large to list: give Predict fewer ops"):
        predictions(sums, 100)
    assert len(predictions(LARGE, 300)) == 300


def test_it_is_known_whether_all_functions_are_listed():
    assert [all_listed(TEACHER, most) for most in (58, 59, 60)] == [False, True, True]
    assert not all_listed(LARGE, 300)


# ---------------------------------------------------------------------------------------------- near others


def test_an_expression_is_read_off_its_instructions():
    for one in predictions(TEACHER, 59) + predictions(LARGE, 300):
        space = TEACHER if len(one.code) <= 3 else LARGE
        assert expression_of(one.code, resolved(None, space.memory)) == one.expression


def test_expressions_read_as_they_are_computed():
    number = {op.name: op.number for op in OPS}
    dot, total = number["VECTOR_INNER_PRODUCT"], number["VECTOR_SUM"]
    layer = (number["MATRIX_VECTOR_PRODUCT"], (2, 0), FEATURES)
    assert shown((dot, (1, 0), (total, layer, FEATURES))) == "dot(va, (dot(ma, x) + x))"
    assert shown((dot, layer, (number["VECTOR_ABS"], FEATURES))) == "dot(dot(ma, x), abs(x))"


def test_variations_of_listed_functions_are_listed_where_all_are():
    known = {identity(one.expression) for one in predictions(TEACHER, 59)}
    values = {_value(one.code) for one in predictions(TEACHER, 59)}
    rng, met = np.random.default_rng(0), set()
    for one in predictions(TEACHER, 59):
        for _ in range(40):
            near = variation(one.expression, TEACHER, rng)
            if near is not None:
                assert identity(near.expression) in known
                assert expression_of(near.code, ENDS) == near.expression
                assert _value(near.code) in values
                met.add(identity(near.expression))
    assert len(met) > 50  # and nearly all are met on the way


def test_functions_are_found_that_are_new_and_fit_the_space():
    some = predictions(LARGE, 50)
    slots = np.zeros((len(some), LARGE.capacity[1], 4), np.int32)
    for row, one in zip(slots, some, strict=True):
        row[: len(one.code)] = one.code
    rng, known = np.random.default_rng(0), {identity(one.expression) for one in some}
    found = explored(slots, np.ones(len(some)), 30, LARGE, rng)
    assert len(found) == 30
    for number, one in found:
        assert 0 <= number < len(some)
        assert identity(one.expression) not in known
        known.add(identity(one.expression))
        assert len(one.code) <= LARGE.max_size[1]
        assert "x" in shown(one.expression)
        assert shown(one.expression).count("a")
        assert (one.code[:, 3] < max(LARGE.memory)).all()
    again = explored(slots, np.ones(len(some)), 30, LARGE, np.random.default_rng(0))
    assert [str(one) for _, one in again] == [str(one) for _, one in found]


def test_where_all_functions_are_known_none_are_found():
    some = predictions(TEACHER, 59)
    slots = np.zeros((59, 3, 4), np.int32)
    for row, one in zip(slots, some, strict=True):
        row[: len(one.code)] = one.code
    assert explored(slots, np.ones(59), 5, TEACHER, np.random.default_rng(0)) == []
