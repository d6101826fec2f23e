"""Fine-tuning of constants."""

import sys
from functools import cache

import jax
import numpy as np
import pytest

from tests.helpers import call
from zero_jax import Programs, Tasks, evaluate, library, program_fitness, tune
from zero_jax.program.programs import concatenate
from zero_jax.tasks import synthetic
from zero_jax.use import tuning
from zero_jax.use.judge import Judge, scaled

METHODS = ("random", "optuna", "gradient")
SLOW = library.program("linear", learning_rate=1e-4)

# Live and dead constants; a 0 and indices, which stay; bounds in order and not; a standard deviation.
MANY = """
def Setup():
  s2 = 0.01
  s3 = 0.5
  s4 = 0.5
  v1[0.25] = -0.5
  m0[0.75, 0.5] = 0.5
  v2 = uniform(-0.002, 0.7, n_features)
  s5 = uniform(2.0, 1.0)
  v3 = gaussian(0, 0.25, n_features)
def Predict():
  v4 = dot(m0, v0)
  s1 = dot(v1, v4)
  s6 = dot(v2, v3)
  s6 = s6 * s5
  s6 = s6 * s2
  s1 = s1 + s6
def Learn():
  s4 = 0.5
"""


@cache
def few(loss="rmse"):
    tasks = synthetic.linear(4, train=40, valid=20, seed=1)
    if loss == "rmse":
        return tasks
    return Tasks(tasks.train_x, tasks.train_y > 0, tasks.valid_x, tasks.valid_y > 0, "accuracy")


SLOPES = {"max_bytes": 2**30, "max_abs_error": 100.0}


def NO_REPORT(done, fitness):
    pass


def fitness(program, tasks, seed=0, combine="mean"):
    return program_fitness(evaluate(program, tasks, seed).fitness, combine)[0]


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow) if name == "gradient" else name for name in METHODS]
)
def test_every_method_finds_a_learning_rate_and_says_what_it_spent(method):
    tuned = tune(SLOW, few(), method, evaluations=101, seed=3)
    assert tuned.fitness_before == fitness(SLOW, few(), 3) < 0.6
    assert tuned.fitness == fitness(tuned.program, few(), 3) > 0.8
    np.testing.assert_array_equal(tuned.program.code, SLOW.code)
    assert 101 - tuning.GRADIENT_COST < tuned.evaluations <= 101
    assert tuned.train_steps <= 101 * few().train_y.size
    assert tuned.history.shape == (tuned.evaluations,)
    assert (np.diff(tuned.history) >= 0).all()
    assert (tuned.history[0], tuned.history[-1]) == (tuned.fitness_before, tuned.fitness)
    again = tune(SLOW, few(), method, evaluations=101, seed=3)
    np.testing.assert_array_equal(again.program.data, tuned.program.data)
    np.testing.assert_array_equal(again.history, tuned.history)
    other = tune(SLOW, few(), method, evaluations=101, seed=4)
    assert not np.array_equal(other.history, tuned.history)


@pytest.mark.slow
def test_gradients_alone_climb_from_the_original():
    tuned = tune(SLOW, few(), "gradient", evaluations=101, scout=0, learning_rate=0.5)
    assert tuned.fitness > 0.9
    assert tuned.train_steps == (2 + 19 * tuning.GRADIENT_COST) * few().train_y.size  # no run stops on this way


def test_only_live_nonzero_constants_other_than_indices_are_tuned():
    program = Programs.parse(MANY)
    where = np.asarray(program.data)[0][tuning.tunable(program)]
    np.testing.assert_allclose(where, [0.01, -0.5, 0.5, -0.002, 0.7, 2, 1, 0.25])
    tuned = tune(program, few(), evaluations=200)
    assert tuned.fitness > tuned.fitness_before
    changed = np.asarray(tuned.program.data != program.data)[0]
    np.testing.assert_array_equal(changed, tuning.tunable(program))


def test_candidates_keep_signs_and_the_order_of_bounds_and_spread_over_six_decades():
    program = Programs.parse(MANY)
    judge = Judge(program, few(), 0, "mean", {}, np.inf, NO_REPORT)
    made = judge.candidates(judge.draw(2000)).check()
    before, after = np.asarray(program.data)[0], np.asarray(made.data)
    np.testing.assert_array_equal(np.sign(after), np.broadcast_to(np.sign(before), after.shape))
    low, high = after[:, 5, 0], after[:, 5, 1]
    assert (low <= high).all()
    exponents = np.log10(after[:, 0, 0] / before[0, 0])
    assert -3.001 < exponents.min() < -2.9
    assert 2.9 < exponents.max() < 3.001
    np.testing.assert_allclose(np.quantile(exponents, [0.25, 0.5, 0.75]), [-1.5, 0, 1.5], atol=0.2)
    positive = Programs.parse(
        "def Setup():\n  v1 = uniform(0.002, 0.7, n_features)\ndef Predict():\n  s1 = dot(v0, v1)"
    )
    judge = Judge(positive, few(), 0, "mean", {}, np.inf, NO_REPORT)
    exponents = judge.draw(500)
    data = np.asarray(judge.candidates(exponents).data)[:, 0]
    crossed = 0.002 * 10 ** exponents[:, 0] > 0.7 * 10 ** exponents[:, 1]
    assert 0 < crossed.mean() < 1
    assert (data[:, 0] <= data[:, 1]).all()
    np.testing.assert_allclose(
        data[:, 0], np.where(crossed, 0.7 * 10 ** exponents[:, 1], 0.002 * 10 ** exponents[:, 0]), rtol=1e-5
    )


def test_traced_candidates_are_those_of_numpy():
    program = Programs.parse(MANY)
    judge = Judge(program, few(), 0, "mean", {}, np.inf, NO_REPORT)
    exponents = judge.spread(judge.draw(50))
    plain = scaled(program, exponents)
    traced = jax.jit(scaled)(jax.tree.map(np.asarray, program), exponents.astype(np.float32))
    np.testing.assert_allclose(traced.data, plain.data, rtol=1e-5)
    np.testing.assert_array_equal(traced.code, plain.code)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("text", "evaluations"),
    [
        ("def Predict():\n  s1 = dot(v1, v0)", 50),
        ("def Setup():\n  s2 = 0.1", 50),
        ("def Setup():", 50),
        (SLOW.listing(0), 1),
    ],
)
def test_without_tunable_constants_or_budget_the_program_is_unchanged(method, text, evaluations):
    program = Programs.parse(text)
    tuned = tune(program, few(), method, evaluations=evaluations)
    np.testing.assert_array_equal(tuned.program.data, program.data)
    assert tuned.evaluations == 1
    assert tuned.history.tolist() == [tuned.fitness] == [tuned.fitness_before]


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_never_worse_than_the_original(method):
    good = library.program("linear", learning_rate=0.1)
    for evaluations in (2, 7, 12):
        tuned = tune(good, few(), method, evaluations=evaluations)
        assert tuned.fitness == fitness(tuned.program, few()) >= tuned.fitness_before == fitness(good, few())
        assert 1 < tuned.evaluations <= evaluations or (method, evaluations) == ("gradient", 2)


def test_over_a_cliff_the_climb_goes_back():
    """The first stride, of three decades, ends where every run stops."""
    program = library.program("linear", learning_rate=1e-3)
    assert fitness(library.program("linear", learning_rate=1.0), few()) == 0
    tuned = tune(program, few(), "gradient", evaluations=201, scout=0, learning_rate=3)
    assert (tuned.history[tuning.GRADIENT_COST + 1 :][: tuning.GRADIENT_COST] == tuned.fitness_before).all()
    assert tuned.fitness > 0.9


def test_slopes_stay_finite_and_short_where_training_explodes():
    judge = Judge(library.program("linear", learning_rate=0.6), few(), 0, "mean", SLOPES, np.inf, NO_REPORT)
    for decade in np.linspace(-1, 1, 9):
        slopes = judge.slopes()(judge.spread(np.array([[decade]])).astype(np.float32))
        assert np.isfinite(np.asarray(slopes.slopes)).all()
        assert np.linalg.norm(slopes.slopes) <= 1.0001


@pytest.mark.slow
def test_a_slope_that_is_not_a_number_leaves_the_others():
    """The norm of zeros has none."""
    text = "def Setup():\n  s2 = 0.01\n  s3 = 0.5\ndef Predict():\n  v1 = s3 * v2\n  s1 = norm(v1)\n  s1 = s1 + s2"
    judge = Judge(Programs.parse(text), few(), 0, "mean", SLOPES, np.inf, NO_REPORT)
    slopes = np.asarray(judge.slopes()(judge.spread(np.zeros((1, 2))).astype(np.float32)).slopes)
    assert np.isfinite(slopes).all()
    assert slopes[0, 0, 0] != 0


def test_the_objective_may_be_the_median_or_accuracy():
    tuned = tune(SLOW, few(), evaluations=50, combine="median")
    assert tuned.fitness == fitness(tuned.program, few(), combine="median") > tuned.fitness_before
    tuned = tune(library.program("network", learning_rate=1e-4), few("accuracy"), "optuna", evaluations=41)
    assert tuned.fitness > 0.7 > tuned.fitness_before


def test_huge_constants_stay_finite():
    huge = Programs.parse("def Setup():\n  s2 = 3e38\ndef Predict():\n  s1 = sin(s2)")
    assert np.isfinite(np.asarray(tune(huge, few(), evaluations=50).program.data)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"program": concatenate([SLOW, SLOW])}, "one program, not 2"),
        ({"method": "annealing"}, "method must be one of random, optuna, gradient, not 'annealing'"),
        ({"evaluations": 0}, "evaluations must be at least 1, not 0"),
        ({"evaluations": 1.5}, "evaluations must be a whole number, not 1.5"),
        ({"combine": "max"}, "combine must be 'mean' or 'median', not 'max'"),
        ({"scout": 2}, "scout must be from 0 to 1"),
        ({"learning_rate": 0}, "learning_rate above 0"),
        ({"seed": "x"}, "seed must be one whole number"),
        ({"executor": "gpu"}, "executor must be one of"),
        ({"threads": 0}, "threads must be"),
        (
            {"method": "gradient", "tasks": "accuracy"},
            "gradient' needs rmse tasks, because accuracy has no useful gradient",
        ),
    ],
)
def test_bad_arguments_are_named(change, words):
    given = {"program": SLOW, "method": "random", "tasks": "rmse"} | change
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        tune(given.pop("program"), few(given.pop("tasks")), **given)


def test_without_optuna_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'zero-jax\[optuna\]'"):
        tune(SLOW, few(), "optuna", evaluations=5)
    assert tune(SLOW, few(), evaluations=5).evaluations == 5


def test_optuna_keeps_its_verbosity(capfd):
    import optuna

    loudness = optuna.logging.get_verbosity()
    tune(SLOW, few(), "optuna", evaluations=5)
    assert optuna.logging.get_verbosity() == loudness
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------- the command line

QUICK = ["--tasks", 4, "--train", 40, "--valid", 20, "--evaluations", 60]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.txt").write_text(SLOW.listing(0))
    return tmp_path


def numbers_of(out, words):
    (line,) = [line for line in out.splitlines() if words in line]
    before, after = line.split(": ")[1].split(", ")
    return float(before.split()[0]), float(after.split()[0])


def test_tune_reports_both_sets_of_tasks_and_writes_a_listing_that_evaluates_to_the_same(capsys, folder):
    assert call("tune", "slow.txt", *QUICK, "--out", "tuned.txt") == 0
    out = capsys.readouterr().out
    before, after = numbers_of(out, "fitness on the 4 tasks used for tuning")
    others_before, others_after = numbers_of(out, "fitness on 4 other tasks")
    assert max(before, others_before) < 0.6 < 0.9 < min(after, others_after)
    assert library.load("tuned.txt").listing(0) in out
    common = ["evaluate", "tuned.txt", "--tasks", 4, "--train", 40, "--valid", 20]
    assert call(*common, "--role", "select", "--seed", 1) == 0
    assert f"mean fitness {others_after:.6f}" in capsys.readouterr().out
    assert call(*common, "--role", "search", "--seed", 0) == 0
    assert f"mean fitness {after:.6f}" in capsys.readouterr().out


def test_tune_takes_your_own_arrays_and_makes_no_other_tasks(capsys, folder):
    tasks = few()
    np.savez("mine.npz", train_x=tasks.train_x, train_y=tasks.train_y, valid_x=tasks.valid_x, valid_y=tasks.valid_y)
    assert call("tune", "slow.txt", "--task", "mine.npz", "--evaluations", 20, "--method", "optuna") == 0
    out = capsys.readouterr().out
    assert "20 evaluations" in out
    assert "4 tasks used for tuning" in out
    assert "other tasks" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune"], ["required"]),
        (["tune", "slow.txt", "--method", "annealing"], ["--method", "annealing"]),
        (["tune", "slow.txt", "--evaluations", "0"], ["evaluations must be at least 1, not 0"]),
        (["tune", "two.json"], ["one program, not 2"]),
        (
            ["tune", "slow.txt", "--out", "nowhere/tuned.txt"],
            ["cannot write nowhere/tuned.txt: folder nowhere does not exist"],
        ),
        (["tune", "slow.txt", "--out", "."], ["it is a folder"]),
        (["tune", "slow.txt", "--task", "digits", "--method", "gradient"], ["accuracy has no useful gradient"]),
        (["tune", "slow.txt", "--task", "mine.npz", "--train", "5"], ["--train cannot be used with 'mine.npz'"]),
        (["tune", "slow.txt", "--seed", "-1"], ["zero-jax: seed must be at least 0, not -1"]),
    ],
)
def test_bad_input_gives_one_message_exit_code_2_and_no_files(capsys, folder, arguments, words):
    (folder / "two.json").write_text(concatenate([SLOW, SLOW]).to_json())
    before = sorted(path.name for path in folder.iterdir())
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    message = " ".join((out + err).replace("│", " ").split())
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert sorted(path.name for path in folder.iterdir()) == before
