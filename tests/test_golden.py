"""Upstream's own executor made these numbers (tests/golden)."""

import json
from pathlib import Path

import numpy as np
import pytest

from zero_jax import Programs, Tasks, evaluate, execute
from zero_jax.executors.registry import EXECUTORS
from zero_jax.executors.simd.layout import Layout
from zero_jax.program.ops import OPS

pytestmark = pytest.mark.optimized
GOLDEN = Path(__file__).parent / "golden"
LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture(scope="module")
def single_ops():
    with np.load(GOLDEN / "ops.npz") as file:
        stored = dict(file)
    n, (s, v, m, f) = len(stored["instructions"]), (int(x) for x in stored["sizes"])
    instructions = [
        [*map(int, i), *map(float, c)] for i, c in zip(stored["instructions"], stored["constants"], strict=True)
    ]
    programs = Programs.from_lists([[[], [i], []] for i in instructions], memory=(s, v, m))
    before = stored["memory_before"][:, None]
    memory = (
        before[..., :s],
        before[..., s : s + v * f].reshape(n, 1, v, f),
        before[..., s + v * f :].reshape(n, 1, m, f, f),
    )
    return programs, memory, stored["result"]


FEATURES = pytest.param("features as lanes", marks=pytest.mark.slow)


@pytest.fixture
def executor(request, monkeypatch):
    """An executor by its name; `simd` with features as lanes, whatever their number, is none by itself."""
    if request.param != "features as lanes":
        return request.param
    monkeypatch.setattr(Layout, "of", classmethod(lambda cls, features, tasks: cls.with_features(features)))
    return "simd"


@pytest.mark.parametrize("executor", ["xla", "simd", FEATURES, "cuda", "pallas"], indirect=True)
def test_every_deterministic_op_gives_upstreams_values(single_ops, executor):
    programs, memory, results = single_ops
    after = execute(programs, memory, "predict", executor, interpret=EXECUTORS[executor].interprets)
    seen, wrong = set(), []
    for i, want in enumerate(results):
        op, out = OPS[programs.code[i, 0, 0]], programs.code[i, 0, 3]
        if not op.output:
            continue
        seen.add(op.number)
        kind = "svm".index(op.output)
        got = np.asarray(after[kind])[i, 0, out].astype(np.float64).ravel()
        want = want[: got.size]
        with np.errstate(all="ignore"):
            fine = np.isclose(got, want, rtol=1e-5, atol=1e-6, equal_nan=True)
            # Where the value or a square on the way to it is beyond float32, inf or NaN may stand instead.
            operands = zip(op.inputs, programs.code[i, 0, 1:3], strict=False)
            inputs = np.concatenate([[0.0], *(np.ravel(memory["svm".index(k)][i, 0, a]) for k, a in operands)])
            beyond = (np.abs(want) > LARGEST) | (np.abs(inputs[np.isfinite(inputs)]).max() ** 2 > LARGEST)
        if not (fine | (beyond & ~np.isfinite(got))).all():
            wrong.append((op.name, got, want))
    assert not wrong
    assert seen == set(range(1, 59))


@pytest.mark.parametrize(
    ("loss", "executor"),
    [
        ("rmse", "xla"),
        ("rmse", "simd"),
        pytest.param("rmse", "features as lanes", marks=pytest.mark.slow),
        pytest.param("accuracy", "xla", marks=pytest.mark.slow),
        ("accuracy", "simd"),
        pytest.param("accuracy", "features as lanes", marks=pytest.mark.slow),
    ],
    indirect=["executor"],
)
def test_programs_train_as_upstream_trains_them(loss, executor):
    golden = json.loads((GOLDEN / "programs.json").read_text())
    sizes, data = golden["sizes"], golden[loss]
    programs = Programs.from_lists(golden["programs"], memory=(sizes["scalars"], sizes["vectors"], sizes["matrices"]))
    tasks = Tasks(data["train_x"], data["train_y"], data["valid_x"], data["valid_y"], loss=loss)
    result = evaluate(programs, tasks, max_abs_error=golden["max_abs_error"], executor=executor)
    close = np.abs(np.asarray(result.fitness) - np.array(data["fitness"])) <= 1e-3
    same_steps = np.asarray(result.train_steps) == np.array(data["train_steps"])
    assert close.mean() >= 0.995
    assert same_steps.mean() >= 0.995
    assert 0.02 < (np.array(data["fitness"]) == 0).mean() < 0.95  # the bar means something: some stop, some do not
