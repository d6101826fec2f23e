"""The table itself; the numbers are tested in test_golden.py and test_evaluate.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests import oracle
from zero_jax.program import ops


def test_names_and_numbers_are_upstreams():
    costs = json.loads((Path(__file__).parent / "golden" / "upstream_costs.json").read_text())["cost"]
    assert [op.name for op in ops.OPS] == list(costs)
    assert [op.number for op in ops.OPS] == list(range(65))
    assert [op.cost for op in ops.OPS] == ops.COSTS.tolist() == list(costs.values())


def value(op, *operands):
    """What an op gives for operands of 3 features."""
    if op.product:
        a, b = operands
        operands = (lambda k: a[:, k]), (lambda k: b[k])
    with np.errstate(all="ignore"):
        return np.asarray(op.value(ops.unrolled_features(3), *operands))


SHAPES = {"s": (), "v": (3,), "m": (3, 3)}


@pytest.mark.parametrize("op", [op for op in ops.OPS if op.inputs], ids=lambda op: op.name)
def test_when_a_value_is_certainly_zero(op):
    zeros = [np.zeros(SHAPES[kind], np.float32) for kind in op.inputs]
    ones = [np.full(SHAPES[kind], 0.5, np.float32) for kind in op.inputs]
    if len(op.inputs) == 1:
        assert op.zero in ("union", "never")
        assert value(op, *zeros).any() == (op.zero == "never")
        return
    zero = [not value(op, zeros[0], ones[1]).any(), not value(op, ones[0], zeros[1]).any()]
    if op.inputs[0] == op.inputs[1]:
        assert (not value(op, ones[0], ones[1]).any()) == (op.zero == "difference")
    if op.name.endswith(("MIN", "MAX")):  # of numbers of either sign
        zero = [not value(op, zeros[0], sign * ones[1]).any() for sign in (1, -1)]
    assert (op.zero == "product") == all(zero)
    if op.zero != "product":
        assert zero[0] == (op.zero == "quotient") or op.name.endswith(("MIN", "MAX"))


def test_a_constant_is_never_certainly_zero():
    assert all(op.zero == "never" for op in ops.OPS[1:] if not op.inputs)


@pytest.mark.parametrize("op", [op for op in ops.OPS if op.inputs in ("ss", "vv", "mm")], ids=lambda op: op.name)
def test_operands_of_commutative_ops_may_change_places(op):
    rng = np.random.default_rng(0)
    differs = False
    for _ in range(30):
        a, b = (rng.choice([0, 1, -2, 0.3, np.inf, np.nan], SHAPES[kind]).astype(np.float32) for kind in op.inputs)
        one, other = value(op, a, b), value(op, b, a)
        differs |= not np.array_equal(one, other, equal_nan=True)
    assert op.commutative == (not differs)


def test_ops_are_given_by_name_or_number():
    for op in ops.OPS:
        assert {ops.number_of(given) for given in (op.number, op.name, f"{op.name}_OP", str(op.number))} == {op.number}
    assert ops.number_of("vector_sum") == ops.Number.VECTOR_SUM == 23
    for given, message in [
        ("VECTOR_INERPRODUCT", "unknown op 'VECTOR_INERPRODUCT'; did you mean 'VECTOR_INNER_PRODUCT'"),
        ("", "unknown op ''"),
        ("x" * 10_000_000, "unknown op 'xxx"),
        ("9" * 5000, "unknown op '999"),
        (65, r"there is no op 65 \(ops are 0 to 64\)"),
        (-1, "there is no op -1"),
        (10**400, "there is no op 1000"),
        (1.0, "by name or number, not 1.0"),
        (True, "by name or number, not True"),
        (None, "by name or number, not None"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.number_of(given)


def test_signatures_agree_with_the_oracles():
    for op in ops.OPS:
        assert f"{op.inputs or '':-<2}{op.output or '-'}" == oracle.SIGNATURES[op.number], op


def test_derived_tables_agree_with_the_rows():
    for op in ops.OPS:
        assert (ops.INPUT_KINDS[op.number] >= 0).sum() == len(op.inputs)
        assert (ops.OUTPUT_KINDS[op.number] >= 0) == bool(op.output)
        assert ops.CONSTANT_COUNTS[op.number] == len(op.constants)
    assert sorted(ops.RANDOM) == [59, 60, 61, 62, 63, 64]
    assert np.all(ops.CONSTANT_COUNTS[sorted(ops.RANDOM)] == 2)
