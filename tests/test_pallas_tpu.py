"""The Pallas executor's kernel for TPUs, interpreted on a CPU: held to upstream's data and to XLA.

`experiments/throughput/v5e.py` compiles it; nobody has run it on a TPU.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental.pallas import tpu as pltpu

from tests.spaces import ALL_OPS, SMALL
from zero_jax import Programs, Tasks, evaluate, execute, library, random_programs
from zero_jax.evaluation import Evaluator, KnownForms, Probe
from zero_jax.executors import blocks, devices, dispatch, stream
from zero_jax.executors.base import Options, Request
from zero_jax.executors.pallas import layout
from zero_jax.executors.pallas import tpu as pallas_tpu
from zero_jax.executors.registry import EXECUTORS, choose
from zero_jax.tasks import synthetic

pytestmark = pytest.mark.optimized
GOLDEN = Path(__file__).parent / "golden"
INTERPRETED = {"executor": "pallas", "interpret": True}


@pytest.fixture
def tpu(monkeypatch):
    monkeypatch.setattr(devices, "platform", lambda: "tpu")


def ready(programs, ops=None, prune=True):
    sets = dispatch.op_sets(ops, programs.memory)
    return blocks.prepared(programs, sets, prune=prune), sets


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["rmse", "accuracy"])
def test_programs_train_as_upstream_trains_them(loss, tpu):
    golden = json.loads((GOLDEN / "programs.json").read_text())
    sizes, data = golden["sizes"], golden[loss]
    memory = (sizes["scalars"], sizes["vectors"], sizes["matrices"])
    programs = Programs.from_lists(golden["programs"], memory=memory)
    tasks = Tasks(data["train_x"], data["train_y"], data["valid_x"], data["valid_y"], loss=loss)
    result = evaluate(programs, tasks, max_abs_error=golden["max_abs_error"], ops=range(65), **INTERPRETED)
    assert (np.abs(np.asarray(result.fitness) - np.array(data["fitness"])) <= 1e-3).mean() >= 0.995
    assert (np.asarray(result.train_steps) == np.array(data["train_steps"])).mean() >= 0.995


@pytest.mark.slow
def test_more_tasks_than_lanes_epochs_and_draws_agree_with_simd(tpu):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(130, 9, 3))
    tasks = Tasks(x[:, :5], x[:, :5].sum(-1), x[:, 5:], x[:, 5:].sum(-1), epochs=2, ids=np.arange(130) * 7)
    programs = random_programs(ALL_OPS, 30, np.random.default_rng(5))
    want = evaluate(programs, tasks, 11, executor="simd")
    got = evaluate(programs, tasks, 11, ops=range(65), **INTERPRETED)
    assert (np.abs(np.asarray(want.fitness) - np.asarray(got.fitness)) <= 1e-4).mean() >= 0.995
    assert (np.asarray(want.train_steps) == np.asarray(got.train_steps)).mean() >= 0.995
    assert len(np.unique(np.asarray(want.fitness).round(3))) > 50


@pytest.mark.slow
def test_uniform_draws_are_those_of_simd_to_the_bit_and_all_nearly_those_of_xla(tpu):
    rng, ops = np.random.default_rng(59), np.arange(59, 65)
    lists = [[[(int(op), 0, 0, 1, *rng.normal(size=3))] * 2, [], []] for op in ops]
    programs = Programs.from_lists(lists, memory=(2, 2, 2))
    memory = tuple(np.zeros((6, 5, *shape)) for shape in ((2,), (2, 9), (2, 9, 9)))  # at F = 9 row by row
    xla, simd, got = (
        [np.asarray(part) for part in execute(programs, memory, "setup", seed=7, **how)]
        for how in ({"executor": "xla"}, {"executor": "simd"}, INTERPRETED)
    )
    for near, same, part in zip(xla, simd, got, strict=True):
        np.testing.assert_array_equal(part[ops < 62], same[ops < 62])
        np.testing.assert_allclose(part, near, atol=1e-6, rtol=1e-6)
    for k in range(6):
        assert len(np.unique(got[k % 3][k])) > 2


@pytest.mark.slow
def test_a_tpu_imitated_closely_finds_no_race_between_copies_and_reads(capfd):
    """Examples arrive while others are read; what nobody has written is NaN."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(140, 9, 3))
    tasks = Tasks(x[:, :5], x[:, :5].sum(-1), x[:, 5:], x[:, 5:].sum(-1), epochs=2)
    programs = random_programs(SMALL, 3, np.random.default_rng(0))
    want = evaluate(programs, tasks, 5, executor="simd")
    assert len(np.unique(np.asarray(want.fitness).round(4))) > 100
    results = pallas_tpu.evaluate_programs(
        *(lambda p, sets: (p, tasks, jnp.uint32(5), jnp.float32(100), sets))(*ready(programs, SMALL.ops)),
        interpret=pltpu.InterpretParams(detect_races=True),
    )
    np.testing.assert_allclose(results[0], want.fitness, atol=1e-5)
    np.testing.assert_array_equal(results[1], want.train_steps)
    assert "RACE" not in "".join(capfd.readouterr()).upper()


@pytest.mark.parametrize(
    ("features", "wide"), [(3, False), *(pytest.param(16, wide, marks=pytest.mark.slow) for wide in (False, True))]
)
def test_every_op_lowers_for_tpus(features, wide):
    with jax.enable_x64(wide) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(wide):
        lower_for_tpus(features)


def lower_for_tpus(features):
    programs = random_programs(ALL_OPS, 4, np.random.default_rng(0))
    tasks = synthetic.linear(3, features=features, train=8, valid=4)
    sets = dispatch.op_sets(None, programs.memory)
    train = jax.jit(partial(pallas_tpu.evaluate_programs, sets=sets, errors=True))
    run = jax.jit(partial(pallas_tpu.execute_programs, component=1, sets=sets))
    memory = tuple(np.zeros((4, 3, n, *(features,) * i), np.float32) for i, n in enumerate(programs.memory))
    calls = (
        (train, (programs, tasks, jnp.uint32(0), jnp.float32(100))),
        (run, (programs, memory, tasks.ids, jnp.uint32(0))),
    )
    for function, args in calls:
        with pallas_tpu.lowered_for_v5e():
            exported = export.export(function, platforms=["tpu"])(*args)
        assert "tpu_custom_call" in exported.mlir_module()


def test_arctan_is_within_three_units_in_the_last_place():
    x = np.concatenate([np.linspace(-5, 5, 100_001), [0, np.inf, -np.inf, 1e-30, 1e30, 2.4142135, 0.41421357]])
    x = x.astype(np.float32)
    want = np.arctan(x.astype(np.float64))
    units = np.abs(np.asarray(pallas_tpu.arctan(jnp.asarray(x)), np.float64) - want) / np.spacing(
        np.abs(want).astype(np.float32)
    )
    assert units.max() <= 3
    assert np.isnan(pallas_tpu.arctan(jnp.float32(np.nan)))


@pytest.mark.parametrize("name", ["SCALAR_ARCSIN", "SCALAR_ARCCOS"])
def test_arcsin_and_arccos_are_those_of_numpy(name):
    x = np.concatenate([np.linspace(-1, 1, 2001), [1.5, -1.5, np.nan]]).astype(np.float32)
    function = {"SCALAR_ARCSIN": np.arcsin, "SCALAR_ARCCOS": np.arccos}[name]
    with np.errstate(invalid="ignore"):
        want = function(x.astype(np.float64))
    np.testing.assert_allclose(pallas_tpu._FUNCTIONS[name](jnp.asarray(x)), want, atol=5e-7)


@pytest.mark.slow
def test_fingerprints_are_those_of_the_errors(tpu):
    programs = random_programs(SMALL, 12, np.random.default_rng(3))
    tasks = synthetic.linear(3, features=4, train=6, valid=4)
    executor, options = EXECUTORS["pallas"], Options(ops=SMALL.ops, interpret=True)
    (prints,) = executor.launch(programs, executor.prepare(tasks, options), 0, fingerprints=True)()
    p, sets = ready(programs, SMALL.ops)
    errors = pallas_tpu.evaluate_programs(p, tasks, jnp.uint32(0), jnp.float32(100), sets, interpret=True, errors=True)[
        2
    ]
    assert errors.shape == (12, 3, 10)
    np.testing.assert_array_equal(prints.view(np.uint32), stream.fingerprints(errors))
    evaluator = Evaluator(tasks, executor="pallas", interpret=True, ops=SMALL.ops, stages=(KnownForms(), Probe(4)))
    assert evaluator(programs).fitness.shape == (12, 3)


def test_what_does_not_fit_a_core_is_refused_before_it_is_compiled(tpu):
    program, tasks = library.program("network"), synthetic.linear(2, features=4, train=5, valid=5)
    assert choose("pallas", Request(program.memory, tasks)).name == "pallas"
    assert choose("auto", Request(program.memory, tasks)).name == "xla"  # until the kernel has been measured on a TPU
    assert layout.tpu_core_bytes(program.memory, 4) < 100_000
    wide = synthetic.linear(2, features=256, train=5, valid=5)
    with pytest.raises(ValueError, match=r"at 256 features takes 6\d,\d+,\d+ bytes of a core's.*executor='xla'"):
        evaluate(program, wide, executor="pallas")
    x = np.zeros((1, 150_000, 1))
    long = Tasks(x, x[..., 0], x[:, :1], x[:, :1, 0], epochs=2)
    with pytest.raises(ValueError, match=r"at most 200,000 examples, epochs times .* not 300,002: use executor='xla'"):
        evaluate(program, long, executor="pallas")
    big = synthetic.linear(1, features=4, train=60_000, valid=60_000)
    evaluator = Evaluator(big, executor="pallas", interpret=True, stages=(KnownForms(), Probe(60_000)))
    with pytest.raises(ValueError, match="lower probe"):
        evaluator(program)
