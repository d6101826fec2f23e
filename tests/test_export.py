"""Exported code: read as Python, and run beside the executors."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import call
from tests.spaces import ALL_OPS
from zero_jax import Programs, evaluate, library, random_programs
from zero_jax.program.memory import Interface
from zero_jax.program.statements import written
from zero_jax.tasks import synthetic
from zero_jax.use.export import exported
from zero_jax.use.export.words import contributions, latex, markdown
from zero_jax.use.learner import learner


def module(program, to, classes=0):
    names = {}
    exec(compile(exported(program, to, classes), "exported", "exec"), names)
    return names


def trained(program, to, x, y, new, classes=0, seed=3):
    """Predictions, or scores, of exported code for new examples after training."""
    names = module(program, to, classes)
    if to == "numpy":
        model = names["Model"](x.shape[1], seed).fit(x, y)
        return np.array([model.predict_one(row) for row in new])
    state = names["fit"](names["init"](x.shape[1], seed), x, y)
    out = []
    for row in new:
        prediction, state = names["predict_one"](state, row)
        out.append(np.asarray(prediction))
    return np.array(out)


def expected(program, x, y, new, classes=0, seed=3, rounding=None):
    """Predictions of the executors' functions; with `rounding`, constants and examples are moved by one rounding."""
    model = learner(program, "accuracy" if classes else "rmse", classes)
    constants = model.constants
    if rounding is not None:
        x, y, new, *constants = (moved(part, rounding) for part in (x, y, new, *constants))
    predictions, _ = model.predict_in_turn(model.fit(model.init(seed, x.shape[1], constants), x, y), new)
    return np.asarray(predictions)


def moved(values, rng):
    """Numbers as they may come out of another rounding; the third constant of a random op is a whole number."""
    new = (values * (1 + rng.choice([-1, 1], values.shape) * 2.0**-23)).astype(np.float32)
    return np.where(values == np.round(values), values, new)


def examples(classes=0, features=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, features)).astype(np.float32)
    y = x[:, 0] - 0.5 * x[:, 1]
    if classes:
        y = np.digitize(y, np.linspace(-1, 1, classes - 1)) if classes > 2 else (y > 0)
    y = np.asarray(y, np.float32)
    return x[:40], y[:40], x[40:]


@pytest.mark.parametrize("to", ["numpy", "jax"])
@pytest.mark.parametrize("name", library.NAMES)
def test_library_programs_predict_as_the_executors_do(name, to):
    program = library.program(name)
    for classes in (3,) if "softmax" in name else (0, 2):
        x, y, new = examples(classes)
        ours = trained(program, to, x, y, new, classes)
        if classes == 3:
            ours = ours[:, :3]
        theirs = expected(program, x, y, new, classes)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize(
    ("to", "n"),
    [("numpy", 6), ("jax", 4), *(pytest.param(to, 40, marks=pytest.mark.slow) for to in ("numpy", "jax"))],
)
def test_random_programs_predict_as_the_executors_do(to, n):
    programs, rng = random_programs(ALL_OPS, n, np.random.default_rng(2)), np.random.default_rng(0)
    x, y, new = (part[:6] for part in examples())
    amplifying = 0
    for i in range(n):
        program = programs[i]
        theirs, ours = expected(program, x, y, new), trained(program, to, x, y, new)
        near = {"rtol": 1e-5, "atol": 1e-5 * np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)}
        if not np.allclose(ours, theirs, equal_nan=True, **near):
            # Then the executor's own predictions must move as much when constants are rounded another way.
            others = np.stack([expected(program, x, y, new, rounding=rng) for _ in range(10)])
            assert np.abs(ours - theirs).max() <= 5 * np.abs(others - theirs).max(), (i, ours, theirs)
            amplifying += 1
    assert amplifying <= n * 0.02


@pytest.mark.slow
def test_numpy_modules_predict_the_same_where_there_is_numpy_alone(tmp_path):
    programs = random_programs(ALL_OPS, 20, np.random.default_rng(4))
    cases = [(f"random_{i}", programs[i], 0) for i in range(20)]
    for name in library.NAMES:
        cases += [
            (f"{name}_{classes}", library.program(name), classes) for classes in ((3,) if "softmax" in name else (0, 2))
        ]
    for name, program, classes in cases:
        (tmp_path / f"{name}.py").write_text(exported(program, "numpy", classes))
        x, y, new = examples(classes)
        np.savez(tmp_path / f"{name}.npz", x=x[:6], y=y[:6], new=new[:4])
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy"], check=True)
    script = """
import importlib, sys, numpy as np
for name in sys.argv[1:]:
    data = np.load(f"{name}.npz")
    model = importlib.import_module(name).Model(data["x"].shape[1], 3).fit(data["x"], data["y"])
    np.save(f"{name}.npy", np.array([model.predict_one(row) for row in data["new"]]))
"""
    subprocess.run([python, "-c", script, *(name for name, _, _ in cases)], cwd=tmp_path, check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    assert {line.split("==")[0] for line in listed.stdout.split()} <= {"numpy", "pip", "setuptools"}
    for name, program, classes in cases:
        x, y, new = examples(classes)
        theirs = expected(program, x[:6], y[:6], new[:4], classes)
        ours = np.load(tmp_path / f"{name}.npy")[..., :classes] if classes == 3 else np.load(tmp_path / f"{name}.npy")
        largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * largest, err_msg=name)


def test_names_follow_from_what_values_are_for():
    found = written(library.program("network"))
    assert {"hidden_weights", "output_weights", "hidden_bias", "bias", "learning_rate", "hidden"} <= set(
        found.attributes
    )
    source = exported(library.program("linear"), "numpy")
    assert "self.weights = self.weights + gradient" in source
    assert "error = y - prediction" in source


def test_the_code_says_where_it_is_from_and_needs_nothing_else(tmp_path):
    source = exported(library.program("network"), "numpy", about="From a test, with a fitness of 0.5.")
    assert source.startswith('"""From a test, with a fitness of 0.5.')
    assert set(re.findall(r"^(?:import|from) (\w+)", source, re.M)) == {"math", "numpy"}
    (tmp_path / "model.py").write_text(source)
    script = """
import sys
import numpy as np
from model import Model
model = Model(3).fit(np.eye(3), [1, 2, 3])
print(model.predict(np.eye(3)).shape, 'jax' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3,) False"


def test_memory_that_is_never_written_and_setup_that_reads_it():
    text = """
def Setup():
  s2 = s3 + s0
  v1 = s2 * v0
def Predict():
  v2 = v1 + v3
  s1 = dot(v2, v0)
  s1 = s1 / s3
def Learn():
  v1 = v0
"""
    program = Programs.parse(text.replace("  v1 = v0\n", "  v1 = v0 + v3\n"), memory=(4, 4, 0))
    x, y, new = examples()
    for to in ("numpy", "jax"):
        np.testing.assert_array_equal(trained(program, to, x, y, new), expected(program, x, y, new))


# ---------------------------------------------------------------------------------------------- equations and words


def test_equations_name_every_instruction_and_balance():
    for name in library.NAMES:
        program = library.program(name)
        interface = Interface.vector(program.memory) if "softmax" in name else None
        text = latex(program, interface)
        assert text.count("&") == int(np.asarray(program.length).sum())
        assert text.count("{") == text.count("}")
    assert r"\mathbf{w} &\leftarrow \mathbf{w} + \mathbf{g}" in latex(library.program("linear"))
    programs = random_programs(ALL_OPS, 50, np.random.default_rng(0))
    for k in range(50):
        assert latex(programs[k]).count("{") == latex(programs[k]).count("}")


def test_every_instruction_is_explained_and_its_worth_measured():
    tasks = synthetic.linear(4, features=3, train=200, valid=50)
    program = library.program("linear", learning_rate=0.05)
    parts = contributions(program, tasks)
    assert [part.component for part in parts] == ["Setup", "Predict", "Learn", "Learn", "Learn", "Learn"]
    bare = np.asarray(evaluate(program, tasks).fitness).mean()
    without = Programs.parse(program.listing(0).replace("  s1 = dot(v1, v0)\n", ""), memory=(4, 3, 1))
    assert parts[1].lost == pytest.approx(bare - np.asarray(evaluate(without, tasks).fitness).mean(), abs=1e-6)
    assert all(part.lost > 0.1 for part in parts)
    text = markdown(program, tasks)
    assert "`error = y - prediction` | `y` less `prediction`: error" in text
    assert np.isnan([part.lost for part in contributions(program)]).all()
    programs = random_programs(ALL_OPS, 20, np.random.default_rng(0))
    for k in range(20):
        assert "## Listing" in markdown(programs[k])


# ---------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize("to", ["numpy", "jax", "latex", "markdown"])
def test_the_command_writes_each_form(to, tmp_path, capsys):
    out = tmp_path / "program.txt"
    assert call("export", "linear", "--to", to, "--task", "digits", "--tasks", "5", "--out", out) == 0
    assert f"Written to {out}" in capsys.readouterr().out
    text = out.read_text()
    marks = {"numpy": "class Model", "jax": "def fit(state", "latex": r"\begin{align}", "markdown": "fitness lost"}
    assert marks[to] in text
    assert ("classes." in text) == (to in ("numpy", "jax"))
    assert call("export", "linear", "--to", to, "--task", "digits", "--tasks", "5") == 0
    assert capsys.readouterr().out.strip() == text.strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "is not a file"),
        (["linear", "--to", "word"], "--to"),
        (["linear", "--out", "missing/model.py"], "missing"),
        (["linear", "--seed", "-1"], "seed"),
    ],
)
def test_mistakes_are_one_message(words, message, capsys):
    assert call("export", *words) == 2
    assert message in capsys.readouterr().err


def test_one_program_at_a_time(tmp_path):
    several = random_programs(ALL_OPS, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="one program is exported at a time, not 2"):
        exported(several, "numpy")
    with pytest.raises(ValueError, match="to 'numpy' or 'jax', not 'c'"):
        exported(library.program("linear"), "c")
