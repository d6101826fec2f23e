"""The table itself; the numbers are tested in test_golden.py and test_evaluate.py."""

import json
from pathlib import Path

import numpy as np

from tests import oracle
from zero_jax.program import ops


def test_names_and_numbers_are_upstreams():
    costs = json.loads((Path(__file__).parent / "golden" / "upstream_costs.json").read_text())["cost"]
    assert [op.name for op in ops.OPS] == list(costs)
    assert [op.number for op in ops.OPS] == list(range(65))


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
