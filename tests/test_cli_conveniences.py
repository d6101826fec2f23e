"""What people expect of any command: a version, completion, one line about a missing device."""

import os
import re
import subprocess
import sys

import pytest

import zero_jax
from tests.helpers import QUICK, call
from zero_jax.cli.options import seconds
from zero_jax.run import run
from zero_jax.tasks.sets import TaskSet


def command(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "zero_jax", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_version_comes_at_once_and_without_jax():
    code = "import sys\nfrom zero_jax import cli\ncode = cli.main(['--version'])\nprint(code, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"zero-jax {zero_jax.__version__}\n0 False\n"
    assert command("--version") == (0, f"zero-jax {zero_jax.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["evaluate", "linear"], ["search", "demo"], ["tune", "linear"], ["bench"]])
def test_a_device_that_is_not_there_is_one_line(arguments, tmp_path):
    where = ["--out", str(tmp_path / "runs")] if arguments[0] == "search" else []
    code, out, error = command(*arguments, *where, JAX_PLATFORMS="cuda")
    assert (code, out) == (2, "")
    assert (
        error == "zero-jax: JAX has no device for cuda: install JAX for it, or set JAX_PLATFORMS=cpu to take the CPU\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "mistake",
    [
        ["--populatoin", "3"],
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (["--population", "x"], ["--method", "evolutionn"], ["affine"], ["--initial"])
        ),
    ],
)
def test_an_error_names_the_command_whose_help_lists_the_options(mistake):
    code, out, error = command("search", "demo", *mistake)
    assert (code, out) == (2, "")
    assert re.findall(r"(zero-jax .*--help)", error) == ["zero-jax search demo --help"]
    code, out, error = command("search", "demo", "--help")
    assert (code, error) == (0, "")
    assert out.startswith("usage: zero-jax search demo [-h]")
    assert out.count("As --search-tasks.train.") == 2


@pytest.mark.parametrize("arguments", [["search", "--resume", "--help"], ["resume", "-h"], ["resume", "RUN", "--help"]])
def test_resume_has_its_help_wherever_it_is_asked_for(arguments, capsys):
    assert call(*arguments) == 0
    assert capsys.readouterr().out.startswith("usage: zero-jax resume RUN")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("search demo --population 1e3", "--population: must be a whole number, not '1e3'"),
        ("search linear --max-abs-error much", "--max-abs-error: must be a number, not 'much'"),
        ("evaluate linear --tasks 1.5", "--tasks: must be a whole number, not '1.5'"),
        ("resume RUN --trials x", "zero-jax: --trials must be a whole number, not 'x'"),
        (
            "resume RUN --time-limit soon",
            "zero-jax: --time-limit must be a time as in 90, 90s, 10m or 1h30m, not 'soon'",
        ),
        ("search --seed 1 linear", "search needs a preset before its options: one of linear, affine, teacher"),
    ],
)
def test_what_is_no_number_is_refused_in_plain_words(arguments, message, capsys):
    assert call(*arguments.split()) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


WORDS = {
    "zero-jax ": {
        "search",
        "report",
        "evaluate",
        "tune",
        "show",
        "export",
        "fit",
        "predict",
        "bench",
        "benchmark",
        "completion",
    },
    "zero-jax search ": {"linear", "affine", "teacher", "digits", "paper"},
    "zero-jax search linear --ti": {"--time-limit"},
    "zero-jax search --res": {"--resume"},
    "zero-jax tune --eval": {"--evaluations"},
    "zero-jax show --fo": {"--form"},
}


@pytest.mark.slow
def test_bash_completes_commands_and_options(tmp_path):
    code, script, error = command("completion", "bash")
    assert (code, error) == (0, "")
    (tmp_path / "script").write_text(script)
    for typed, wanted in WORDS.items():
        words = typed.split(" ")
        ask = (
            f"source {tmp_path / 'script'}; COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); "
            f"COMP_CWORD={len(words) - 1}; COMP_LINE='{typed}'; COMP_POINT={len(typed)}; "
            "_tyro_zero_jax zero-jax; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert wanted <= set(done.stdout.split()), typed


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell, capsys):
    assert call("completion", shell) == 0
    assert "evaluate" in capsys.readouterr().out
    assert call("completion", "cmd") == 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)],
)
def test_times_are_seconds(text, wanted):
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "10x", "m", "-5", "1e3", "nan", "inf", "10 m", "1h30", "\uff11\uff10m", "9" * 20])
def test_what_is_not_a_time_is_refused(text, capsys):
    with pytest.raises(ValueError, match="--time-limit must be a time as in 90, 90s, 10m or 1h30m, not "):
        seconds(text)
    assert call("tune", "linear", f"--time-limit={text}") == 2
    assert "must be a time as in" in capsys.readouterr().err


@pytest.mark.slow
def test_a_note_says_that_a_run_was_searched_on_other_tasks(capsys, tmp_path, ended):
    affine = TaskSet("affine", tasks=3, features=8, train=30, valid=10)
    roles = dict.fromkeys(("search_tasks", "select_tasks", "unseen_tasks"), affine)
    folder = run(QUICK.replace(**roles, train_steps=10_000, trials=1, out=str(tmp_path))).folder
    own = ["--task", "affine", "--tasks", "3", "--features", "8", "--train", "30", "--valid", "10"]
    for command, more in (("evaluate", []), ("tune", ["--evaluations", "2", "--quiet"])):
        assert call(command, folder, "--tasks", 2, *more) == 0
        error = capsys.readouterr().err
        assert "was searched on affine tasks; these are linear" in error
        assert f"For the run's own, add: {' '.join(own)}\n" in error
        for quiet in ([folder, *own], [folder, "--task=linear"], [ended.folder], ["linear"]):
            assert call(command, *quiet, *more) == 0
            assert "was searched on" not in capsys.readouterr().err
