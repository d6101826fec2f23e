"""What reaches the terminal: nothing of a foreign file that could steer it, and no more of one than a line or two."""

import copy
import json
import os
import re

import numpy as np
import pytest

from tests.helpers import QUICK, is_safe
from tests.settings import with_setting
from zero_jax import cli, library
from zero_jax.run.api import run
from zero_jax.support.foreign import ECHOED, cut, plain, reason, shown

NASTY = "\x1b[31m\x07\x00\x7f\x9b1m\u202e\u2066\u200b\r\x0b\ufeff"
LISTING = library.program("linear").listing(0)
PROTO = library.program("linear").to_proto()
JSON = library.program("linear").to_json()


def said(arguments, capsys):
    """The exit code, and what was printed, which is checked."""
    try:
        code = cli.main(arguments)
    except SystemExit as error:  # of tyro
        code = error.code
    out, err = capsys.readouterr()
    assert is_safe(out + err), ascii(out + err)
    assert all(len(line) < 1000 for line in err.splitlines()), len(err)
    return code, out, err


def spoiled(text, step):
    """The text with something nasty in it, at one place after another, and with something long."""
    for i in range(0, len(text) + 1, step):
        yield text[:i] + NASTY + text[i:]
        yield text[:i] + "x" * 10_000 + text[i:]
        yield text[:i] + "9" * 4000 + text[i:]


@pytest.mark.parametrize("text", [LISTING, PROTO, JSON], ids=["listing", "proto", "json"])
def test_programs(tmp_path, capsys, text):
    file = tmp_path / "program.txt"
    codes = []
    for one in spoiled(text, len(text) // 20):
        file.write_text(one)
        codes.append(said(["show", str(file)], capsys)[0])
    assert set(codes) <= {0, 2}
    assert codes.count(2) > 10


@pytest.mark.slow
def test_comments_are_not_printed(tmp_path, capsys):
    file = tmp_path / "program.txt"
    file.write_text(
        "".join(f"{line}  # {NASTY.replace(chr(13), '').replace(chr(11), '')}\n" for line in LISTING.splitlines())
    )
    few = ["--tasks", "2", "--train", "10", "--valid", "5"]
    for arguments in (["show", str(file)], ["evaluate", str(file), *few], ["show", str(file), "--form", "json"]):
        assert said(arguments, capsys)[0] == 0


@pytest.mark.parametrize("field", ["schema", "memory", "capacity", "programs"])
@pytest.mark.parametrize(
    "value", [NASTY, [NASTY], {NASTY: NASTY}, "x" * 10**5, 10**4000, [[[[10**4000]], [], []]], [1] * 10**5]
)
def test_fields_of_json(tmp_path, capsys, field, value):
    file = tmp_path / "program.json"
    file.write_text(json.dumps(json.loads(JSON) | {field: value}))
    code, _, err = said(["show", str(file)], capsys)
    assert code == 2
    assert err.count("\n") == 1


def test_arrays_of_ones_own(tmp_path, capsys):
    x, y = np.zeros((1, 4, 2)), np.zeros((1, 4))
    arrays = {"train_x": x, "train_y": y, "valid_x": x, "valid_y": y}
    file = tmp_path / "mine.npz"
    for more in (
        {"\x1b[31mname": x},
        {"x" * 5000: x},
        {"loss": np.array("\x1b[31m\u202e")},
        {"loss": np.array("x" * 5000)},
        {"epochs": np.array("\x1b[31m")},
        {"epochs": np.arange(10_000)},
    ):
        np.savez(file, **arrays, **more)
        assert said(["evaluate", "linear", "--task", str(file)], capsys)[0] == 2


def test_names_of_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"\x1b[31m\xff\n.txt")
    for arguments in (
        ["show"],
        ["evaluate"],
        ["report"],
        ["tune"],
        ["search", "--resume"],
        ["evaluate", "linear", "--task"],
    ):
        assert said([*arguments, name if arguments != ["show"] else name.replace("\n", "")], capsys)[0] == 2
    assert said([NASTY], capsys)[0] == 2


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    return run(QUICK.replace(out=str(tmp_path_factory.mktemp("runs")))).folder


def test_a_run_that_is_resumed(ended, capsys):
    config = json.loads((ended / "config.json").read_text())
    (ended / f"{NASTY.replace(chr(0), '')}").write_text("")
    for field in (
        "name",
        "initial",
        "executor",
        "method",
        "combine",
        "baselines",
        "task_variants",
        "search_tasks",
        "population",
        NASTY,
    ):
        for value in (NASTY, "x" * 10_000, [NASTY], {"source": NASTY}):
            changed = copy.deepcopy(config)
            with_setting(changed["config"], field, value)
            changed = json.dumps(changed)
            (ended / "config.json").write_text(changed)
            if field != "name" or not isinstance(value, str):  # which goes on, and does little
                assert said(["search", "--resume", str(ended)], capsys)[0] == 2, (field, value)
    (ended / "config.json").write_text(json.dumps(config))
    assert said(["search", "--resume", str(ended)], capsys)[0] == 0


def test_what_messages_repeat_is_short_and_can_be_seen():
    values = (
        NASTY,
        NASTY * 1000,
        "x" * 10**6,
        "'" * 100,
        "\\" * 100,
        10**4000,
        10**5000,
        [NASTY] * 1000,
        {NASTY: 1},
        deep(5000),
        None,
    )
    for value in values:
        assert is_safe(shown(value))
        assert len(shown(value)) <= ECHOED + len("''... (1,000,000 characters)")
    for text in (NASTY * 1000, "\ud800" * 50):
        assert is_safe(plain(text))
        assert is_safe(cut(text))
        assert len(cut(text)) < ECHOED + 30
        assert is_safe(reason(ValueError(text)))
    assert [shown(x) for x in ("a\n", 1.5, (1, 2), True)] == ["'a\\n'", "1.5", "(1, 2)", "True"]
    assert shown("x" * ECHOED) == repr("x" * ECHOED)
    assert shown(list(range(30))) == f"{str(list(range(30)))[:ECHOED]}..."
    assert re.fullmatch(r"'(\\x1b)+'\.\.\. \(1,000 characters\)", shown("\x1b" * 1000))


def deep(depth):
    tree = []
    for _ in range(depth):
        tree = [tree]
    return tree


SHORT = ["--tasks", "2", "--train", "10", "--valid", "5"]


@pytest.mark.parametrize("word", [NASTY, "\ud800", "x" * 900])
@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "linear", "--seed", "{}"], ["evaluate", "linear", "{}"], ["evaluate", "linear", "--{}"], ["tune", "linear", "--method={}"],
        ["show", "linear", "--form", "{}"], ["report", "run", "--out", "x", "{}"], ["bench", "--features", "{}"], ["bench", "--json", "{}"],
        ["completion", "{}"], ["search", "demo", "--seed", "{}"], ["search", "demo", "{}"], ["search", "{}"], ["search", "demo", "--method", "{}"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_arguments_that_are_refused_are_repeated_without_harm(capsys, arguments, word):
    code, out, err = said([argument.replace("{}", word) for argument in arguments], capsys)
    assert (code, out) == (2, "")
    assert "x" * (ECHOED + 1) not in "".join(err.split())


def test_arguments_with_such_characters_do_what_they_say(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("\x1b[31m", "\u202e", "x" * 200):
        (tmp_path / name).write_text(LISTING)
        want = said(["evaluate", "linear", *SHORT], capsys)
        assert said(["evaluate", name, *SHORT], capsys) == want
        assert said(["tune", name, *SHORT, "--evaluations", "2", "--quiet", "--out", f"{name}2"], capsys)[0] == 0
        assert said(["show", f"{name}2"], capsys)[0] == 0
        assert said(["show", name, "--help"], capsys)[1].startswith("usage")


@pytest.mark.parametrize("arguments", [["report", "{}"], ["show", "{}"], ["evaluate", "linear", "--task", "{}.npz"], ["search", "demo", "--out", "{}"]])  # fmt: skip
def test_names_of_any_length_make_no_long_message(capsys, arguments):
    assert cli.main([argument.replace("{}", 100_000 * "x") for argument in arguments]) == 2
    assert len(capsys.readouterr().err) < 2500
