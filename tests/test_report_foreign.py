"""The page of a run whose files somebody, or something, has changed: one message, or a page without harm."""

import copy
import json
import os
import shutil
import socket
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from tests.helpers import ROWS, STEPS, is_safe, write_best
from zero_jax import cli, report
from zero_jax.report import figures
from zero_jax.run.outcome import Progress
from zero_jax.run.schemas import Record

FILES = ("config.json", "records.jsonl", "hall.json", "lineage.json", "outcome.json", "best.json")
MISSING, EXTRA = object(), object()


def deep(depth):
    tree = []
    for _ in range(depth):
        tree = [tree]
    return tree


class Raw(str):
    """JSON as it is to stand in a file."""


STRANGE = {
    "null": None,
    "true": True,
    "-1": -1,
    "2": 2,
    "1e308": 1e308,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "10**30": 10**30,
    "10**400": 10**400,
    "10**5000": Raw("1" + "0" * 5000),
    "empty": "",
    "x": "x",
    "1 MB": "x" * 2**20,
    "surrogate": "\ud800",
    "escapes": "\x1b[31m\x00\x07\x9b\u202e\u2066\r",
    "[]": [],
    "{}": {},
    "deep": Raw("[" * 100_000 + "]" * 100_000),
    "missing": MISSING,
    "extra": EXTRA,
}

MARKUP = {
    "script": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "quote": "' autofocus onfocus='alert(1)",
    "template": "{{7*7}}{% raw %}",
    "mathtext": r"$\frac{$",
    "end": "</pre></code></title></style></svg><iframe src=//x>",
    "entity": "&lt;b&gt;&amp;<!--",
}


@pytest.fixture(scope="module")
def clean(ended, tmp_path_factory):
    """The folder of a run that has ended, with few records, so that pages are made fast."""
    folder = tmp_path_factory.mktemp("clean") / "run"
    shutil.copytree(ended.folder, folder)
    lines = (folder / "records.jsonl").read_text().splitlines()
    (folder / "records.jsonl").write_text("\n".join([lines[0], lines[-1]]) + "\n")
    write_best(folder, ROWS[:2], STEPS[:2])
    return folder


@pytest.fixture
def folder(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures."""
    monkeypatch.setattr(figures, "_svg", lambda *args, **how: Markup("<svg></svg>"))


def tree_of(file):
    text = file.read_text()
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


def places(tree, here=()):
    """Every field of a tree, the first two elements of its lists, and the tree itself."""
    yield here
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from places(value, (*here, name))
    elif isinstance(tree, list):
        for i, value in enumerate(tree[:2]):
            yield from places(value, (*here, i))


def changed(tree, place, value):
    """The tree with a value in that place; None where it cannot be put there."""
    if not place:
        return None if value in (MISSING, EXTRA) else value
    tree = copy.deepcopy(tree)
    node = tree
    for step in place[:-1]:
        node = node[step]
    if value is MISSING:
        del node[place[-1]]
    elif value is EXTRA:
        if not isinstance(node, dict):
            return None
        node["extra"] = 1
    else:
        node[place[-1]] = value
    return tree


def written(tree, lines):
    """As JSON, what is `Raw` as it is."""
    raw = []

    def kept(node):
        if isinstance(node, Raw):
            raw.append(node)
            return f"RAW{len(raw) - 1}RAW"
        if isinstance(node, dict):
            return {name: kept(value) for name, value in node.items()}
        return [kept(value) for value in node] if isinstance(node, list) else node

    def text_of(node):
        text = json.dumps(kept(node))
        for i, one in enumerate(raw):
            text = text.replace(f'"RAW{i}RAW"', one)
        return text

    return "".join(text_of(line) + "\n" for line in tree) if lines and isinstance(tree, list) else text_of(tree)


def reported(folder, name, capsys, what):
    """The page of a folder, or None and one message that names the file: never anything else."""
    page = folder / "report.html"
    page.unlink(missing_ok=True)
    code = cli.main(["report", str(folder)])
    out, err = capsys.readouterr()
    assert is_safe(out + err), what
    if code == 0:
        assert err == "", what
        return page.read_text(encoding="utf-8")
    assert (code, out, err.count("\n")) == (2, "", 1), (what, err)
    assert err.startswith("zero-jax: "), what
    assert name in err, (what, err)
    assert len(err) < 1000, what
    assert not page.exists(), what
    return None


def with_fields_changed(folder, name, values, every=1):
    """Puts each value into each field of a file, one at a time, or every so manieth; gives what was changed."""
    file = folder / name
    before, tree = file.read_bytes(), tree_of(file)
    cases = [(place, what) for place in places(tree) for what in values]
    for place, what in cases[::every]:
        now = changed(tree, place, values[what])
        if now is not None or (not place and values[what] is None):
            file.write_text(written(now, file.suffix == ".jsonl"))
            yield place, what
    file.write_bytes(before)


# ---------------------------------------------------------------------------------------------- damage

EVERY = int(os.environ.get("ZERO_JAX_TEST_EVERY", "8"))
"""Of all pairs of a field and a value, the slow tests take one in so many."""


def sweep(folder, name, capsys, every):
    pages = [reported(folder, name, capsys, what) for what in with_fields_changed(folder, name, STRANGE, every)]
    assert sum(page is None for page in pages) > len(pages) / 2


@pytest.mark.parametrize("name", FILES)
def test_a_strange_value_in_a_field_is_one_message_or_a_page(folder, capsys, undrawn, name):
    sweep(folder, name, capsys, 89 if name in FILES[2:4] else 37)  # of 20 values: other ones of each field


@pytest.mark.parametrize("name", FILES[1:4])
def test_a_strange_value_that_is_drawn_is_one_message_or_a_page(folder, capsys, name):
    sweep(folder, name, capsys, 307)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_more_strange_values_in_fields(folder, capsys, undrawn, name):
    sweep(folder, name, capsys, EVERY)


def test_a_file_cut_anywhere_is_one_message_or_a_page(folder, capsys, undrawn):
    for name in FILES:
        whole = (folder / name).read_bytes()
        for size in sorted({0, 1, 2, *range(3, len(whole), len(whole) // 7), len(whole) - 2, len(whole) - 1}):
            (folder / name).write_bytes(whole[:size])
            reported(folder, name, capsys, (name, size))
        (folder / name).write_bytes(whole)


def nothing(file):
    file.write_bytes(b"")


def folder_in_place(file):
    file.mkdir()


def link_to_nothing(file):
    file.symlink_to("nothing")


def link_to_itself(file):
    file.symlink_to(file.name)


def fifo(file):
    os.mkfifo(file)


def socket_in_place(file):
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(file.parent)  # names of sockets are short
        try:
            one.bind(file.name)
        finally:
            os.chdir(here)


def device(file):
    file.symlink_to("/dev/zero")


def not_utf8(file):
    file.write_bytes(b'{"schema": 1, "x": "\xff\xfe"}\n')


def sparse(file):
    with open(file, "wb") as one:
        one.truncate(2**40)


def zeros(file):
    file.write_bytes(b"\0" * 1000 + b"\n")


def twice(file):
    file.write_bytes(b'{"schema": 1, "schema": 1}\n')


NO_FILES = (
    folder_in_place,
    link_to_nothing,
    link_to_itself,
    fifo,
    socket_in_place,
    device,
    not_utf8,
    sparse,
    zeros,
    twice,
)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_of_a_run_is_named(folder, capsys, name):
    for make in NO_FILES if name == "records.jsonl" else (*NO_FILES, nothing):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
        make(folder / name)
        assert reported(folder, name, capsys, make.__name__) is None


def test_a_file_of_200_mb_of_nothing_is_refused(folder, capsys):
    with open(folder / "hall.json", "r+b") as file:
        file.truncate(200 * 2**20)
    assert reported(folder, "hall.json", capsys, "zeros behind JSON") is None


def test_a_link_to_a_file_of_a_run_is_followed(folder, capsys, undrawn):
    (folder / "hall.json").rename(folder / "elsewhere.json")
    (folder / "hall.json").symlink_to("elsewhere.json")
    assert "kept as" in reported(folder, "hall.json", capsys, "a link")


def test_islands_may_differ_in_number_from_record_to_record(folder, capsys):
    lines = tree_of(folder / "records.jsonl")
    lines = [line | {"trial": 2, "islands": line["islands"][:2] * (k + 1)} for k, line in enumerate(lines)]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "each of the 4 islands" in reported(folder, "records.jsonl", capsys, "islands")


def test_whole_numbers_that_look_like_fractions_are_settings_too(folder, capsys, undrawn):
    config = tree_of(folder / "config.json")
    config["config"]["schedule"]["train_steps"] = 2e8
    config["config"]["evaluation"]["train_budget"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    assert "200,000,000 per trial" in reported(folder, "config.json", capsys, "2e8")


def test_an_unknown_setting_is_named(folder, capsys):
    config = tree_of(folder / "config.json")
    config["config"]["searcher"]["space"]["colour"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: .*there is no setting 'searcher\.space\.colour'"):
        report.write(folder)


def test_records_are_described_as_they_are_written():
    assert Record.__struct_fields__ == Progress._fields
    required = len(Progress._fields) - len(Progress._field_defaults)
    assert Record.__struct_defaults__ == tuple(Progress._field_defaults[name] for name in Progress._fields[required:])


# ---------------------------------------------------------------------------------------------- markup


class Elements(HTMLParser):
    """The elements of a page with their attributes, and what it declares, comments on or processes."""

    def __init__(self, page):
        super().__init__()
        self.parts = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.parts.append((tag, tuple(attributes)))

    def handle_comment(self, data):
        self.parts.append(("!--", data))

    def handle_decl(self, decl):
        self.parts.append(("!", decl))

    def handle_pi(self, data):
        self.parts.append(("?", data))

    def unknown_decl(self, data):
        self.parts.append(("?", data))


def kinds_of(page):
    """Elements with attributes: of figures without where things are drawn, since that follows the data."""
    drawn = ("path", "use", "g", "text", "tspan", "defs", "clipPath", "rect", "style", "svg")
    return {(tag, "drawn" if tag in drawn else attributes) for tag, attributes in Elements(page).parts}


@pytest.mark.parametrize("name", ["best.json", *(pytest.param(name, marks=pytest.mark.slow) for name in FILES[:5])])
def test_markup_in_any_field_makes_no_element(folder, capsys, undrawn, name):
    usual = kinds_of(reported(folder, name, capsys, "as it was"))
    pages = 0
    for what in with_fields_changed(folder, name, MARKUP, 3 if name == "outcome.json" else 11):
        page = reported(folder, name, capsys, what)
        if page is not None:
            pages += 1
            assert kinds_of(page) <= usual, what
    assert pages or name not in ("config.json", "outcome.json")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=name, marks=[pytest.mark.slow] * (name not in ("end", "mathtext")))
        for name, text in MARKUP.items()
    ],
)
def test_markup_in_texts_is_shown_as_it_is(folder, capsys, text):
    usual = kinds_of(reported(folder, "", capsys, "as it was"))
    config, outcome = tree_of(folder / "config.json"), tree_of(folder / "outcome.json")
    config["versions"]["jax"] = config["config"]["tasks"]["search"]["source"] = text
    outcome["baselines"][0]["name"] = text
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "outcome.json").write_text(json.dumps(outcome))
    (folder / "best.txt").write_text(text)
    named = folder.with_name(f"run {text.replace('/', '')}")
    folder.rename(named)
    page = reported(named, "", capsys, text)
    assert kinds_of(page) <= usual
    words = Text(page).text
    assert words.count(text) >= 3  # baseline, versions, tasks
    assert named.name in words


class Text(HTMLParser):
    """The text of a page."""

    def __init__(self, page):
        super().__init__()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_data(self, data):
        self.text += data


def test_what_cannot_be_seen_is_visible_in_the_page(folder, capsys, undrawn):
    config = tree_of(folder / "config.json")
    config["config"]["tasks"]["search"]["source"] = "a\x1b[31m\u202eb\x00\ud800"
    (folder / "config.json").write_text(json.dumps(config))
    named = folder.with_name(os.fsdecode(b"run \xff\x1b[1m\n"))
    folder.rename(named)
    page = reported(named, "", capsys, "escapes")
    assert is_safe(page)
    assert "a\\x1b[31m\\u202eb\\x00\\ud800" in page
