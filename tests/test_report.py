"""Tables and the page of a run, on files as a run leaves them."""

import dataclasses
import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.helpers import LINEAR, QUICK, RANDOM, ROWS, STEPS, hall, one, row, write_best
from zero_jax import cli, evaluate, library, report
from zero_jax.program.canonical import pruned
from zero_jax.report.page import command
from zero_jax.run import build
from zero_jax.run.api import RunConfig, run
from zero_jax.run.outcome import Progress
from zero_jax.run.presets import PRESETS


class Page(HTMLParser):
    """What a page holds: tags, all of its text, and the text of each `<pre>`, `<ins>`, `<del>`."""

    ALONE = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.texts = [], [], "", {"pre": [], "ins": [], "del": [], "td": []}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.ALONE:
            self.open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data
        for tag in set(self.open) & set(self.texts):
            self.texts[tag][-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def page_of(folder):
    return Page(report.write(folder).read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------- tables


def test_records_are_a_table(ended):
    table = report.records(ended.folder)
    lines = [json.loads(line) for line in (ended.folder / "records.jsonl").read_text().splitlines()]
    assert len(table) == len(lines) > 4
    for name in ("evaluations", "known", "best_fitness", "diversity"):
        assert table[name].tolist() == [line[name] for line in lines]
    assert table["median"].tolist() == [line["quantiles"][2] for line in lines]
    assert table.islands.iloc[-1] == tuple(map(tuple, lines[-1]["islands"]))
    kinds = {"i": ("trial", "evaluations", "saved_steps"), "f": ("seconds", "best_fitness", "least", "greatest")}
    assert all(table[name].dtype.kind == kind for kind, names in kinds.items() for name in names)


def test_no_records_are_an_empty_table_of_the_same_columns(ended, folder):
    usual = report.records(folder)
    (folder / "records.jsonl").unlink()
    empty = report.records(folder)
    assert len(empty) == 0
    assert empty.dtypes.drop("islands").equals(usual.dtypes.drop("islands"))


def test_records_without_quantiles_and_from_before_there_were_some_counts(folder):
    old = {k: v for k, v in Progress(1, 5, 5, 9, 0.1, 0.5)._asdict().items() if k not in ("empty", "quantiles")}
    (folder / "records.jsonl").write_text(json.dumps(old) + "\n")
    table = report.records(folder)
    assert table["empty"].tolist() == [0]
    assert table["median"].isna().all()
    assert "<svg" in report.write(folder).read_text()


def test_the_hall_of_fame_is_sorted_and_its_programs_come_in_its_order(folder):
    table = report.hall_of_fame(folder)
    assert table.search_fitness.tolist() == [0.999, 0.9, 0.9, 0.4]
    assert table.cost.tolist() == [0.3, 0.4, 0.5, 0.1]  # the cheaper first among equals
    assert table[table.pareto].index.tolist() == [0, 3]
    assert table.best.tolist() == [True, False, True, False]
    assert table.select_fitness[0] == 0.998
    assert table.select_fitness[1:].isna().all()
    programs = report.programs(folder)
    for i, expected in enumerate((LINEAR, RANDOM[2], RANDOM[1], RANDOM[0])):
        assert programs.listing(i) == expected.listing(0)
        assert table.listing[i] == pruned(expected).listing(0)
    front = programs[table.index[table.pareto]]
    assert evaluate(front, build.tasks(QUICK, "search")).fitness.shape == (2, 3)
    assert programs.to_proto(0) == LINEAR.to_proto()


def test_a_lineage_lists_gains_and_changes(folder):
    table = report.lineage(folder)
    assert table.attrs["trial"] == 2
    np.testing.assert_allclose(table.gain, [np.nan, 0.3, 0.399])
    assert table.births.tolist() == [0, 2, 1]
    before, after = table.listing[1].splitlines(), table.listing[2].splitlines()
    lines = table.change[2].splitlines()
    assert [line[1:] for line in lines if line[0] in " -"] == before
    assert [line[1:] for line in lines if line[0] in " +"] == after


def test_missing_files_give_empty_tables(ended, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(ended.folder / "config.json", bare)
    assert report.hall_of_fame(bare).empty
    assert report.lineage(bare).empty
    assert report.hall_of_fame(bare).pareto.dtype == bool
    with pytest.raises(ValueError, match="bare has no hall of fame"):
        report.programs(bare)
    assert "there are no records yet" in page_of(bare).text


# ---------------------------------------------------------------------------------------------- the page


def test_the_page_shows_all_of_it_escaped_and_needs_nothing_else(folder, ended):
    before = {p.name for p in folder.iterdir()}
    page = page_of(folder)
    assert {p.name for p in folder.iterdir()} - before == {"report.html"}
    assert "<run> & co" in page.text
    assert page.count("svg") == page.count("figure") == 7  # graph, overview, progress, islands, front, lineage, work
    for text in report.hall_of_fame(folder).listing:
        assert text in page.texts["pre"]
    assert ended.program is not None
    assert pruned(ended.program).listing(0) in page.texts["pre"]
    assert f"{ended.search_fitness:.6f}" in page.texts["td"]
    assert any(cell.startswith("linear (learning rate") for cell in page.texts["td"])
    assert f"{ended.progress.evaluations:,} programs" in page.text
    assert f"{ended.progress.trained / ended.progress.evaluations:.1%}" in page.texts["td"]
    changes = "\n".join(report.lineage(folder).change[1:]).splitlines()
    assert sorted(page.texts["ins"]) == sorted(line for line in changes if line[0] == "+")
    assert sorted(page.texts["del"]) == sorted(line for line in changes if line[0] == "-")
    assert "0.600000 to 0.999000 (+0.4) by 1 birth, after 4,000 programs" in page.text
    assert not page.count("script")
    assert not page.count("img")
    assert not page.count("link")
    whole = (folder / "report.html").read_text()
    assert not re.search(r"url\((?!#)|@import", whole)
    assert "#010203" not in whole
    ids = re.findall(r' id="([^"]*)"', whole)
    assert len(ids) == len(set(ids))


def test_a_page_is_written_where_asked_and_is_reproducible(folder, tmp_path):
    first, second = report.write(folder, tmp_path / "a.html"), report.write(folder, str(tmp_path / "b.html"))
    assert first.read_bytes() == second.read_bytes()
    assert not (folder / "report.html").exists()


def test_a_killed_run_has_a_page(folder):
    for name in ("outcome.json", "best.txt", "best.json", "hall.json", "lineage.json"):
        (folder / name).unlink(missing_ok=True)
    rows = len(report.records(folder))
    with open(folder / "records.jsonl", "a", encoding="utf-8") as file:
        file.write('{"trial": 2, "evalua')
    assert len(report.records(folder)) == rows
    page = page_of(folder)
    assert "Running, or killed" in page.text
    assert "There is no hall of fame" in page.text
    assert "There is no lineage" in page.text
    assert page.count("svg") == 4


def test_a_run_interrupted_before_it_evaluated_anything_has_a_page(tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    outcome = run(QUICK.replace(parallel_trials=1, out=str(tmp_path)), interrupt)
    page = page_of(outcome.folder)
    assert "Interrupted in trial 1" in page.text
    assert "There are no records yet" in page.text


def test_only_the_steps_that_gained_most_are_unfolded(folder):
    steps = [STEPS[0] | {"fitness": 0.2 + 0.001 * i * i, "evaluations": 10 + i} for i in range(20)]
    write_best(folder, steps=steps)
    opened = ["open" in attributes for tag, attributes in page_of(folder).tags if tag == "details"]
    assert opened[len(ROWS) :][:20] == [True, *[False] * 14, *[True] * 5]
    assert "Only dead code changed" in page_of(folder).text


def test_a_run_of_one_island_and_one_experiment_with_a_perfect_program(tmp_path):
    outcome = run(QUICK.replace(method="random", trials=1, train_steps=9000, out=str(tmp_path)))
    write_best(outcome.folder, [row(LINEAR, 1.0, 0.3, pareto=True)], [STEPS[0] | {"fitness": 1.0}])
    page = page_of(outcome.folder)
    assert page.count("svg") == 5  # graph, progress, front, lineage, work
    assert "T_search: linear, 3 tasks of 30 + 10 examples of 4 features, 1 epoch. Programs: random search." in page.text


def test_the_command_says_what_differs_from_the_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my program.txt").write_text(LINEAR.listing(0))
    changed = PRESETS["demo"][1].replace(seed=3, initial="my program.txt")
    changed = changed.replace(search_tasks=dataclasses.replace(changed.tasks.search, train=7))
    assert command(changed) == "zero-jax search demo --search-tasks.train 7 --initial 'my program.txt' --seed 3"


# ---------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("records.jsonl", '{"trial": 1}\n'),
        ("records.jsonl", "nonsense\n{}\n"),
        ("records.jsonl", json.dumps(Progress("x", 0, 0, 0, 0.0, 0.0)._asdict()) + "\n"),
        ("hall.json", "{"),
        ("hall.json", "[]"),
        ("hall.json", '{"rows": []}'),
        ("hall.json", '{"schema": 7, "rows": []}'),
        ("hall.json", '{"schema": 3, "interface": null, "rows": [{"cost": 1}]}'),
        ("hall.json", '{"schema": 3, "interface": null, "rows": 3}'),
        ("hall.json", hall([ROWS[0] | {"cost": "high"}])),
        ("hall.json", hall([ROWS[0] | {"program": {"schema": 1}}])),
        ("hall.json", hall([ROWS[0] | {"program": one(RANDOM)}])),
        ("hall.json", hall([ROWS[0], ROWS[0] | {"program": one(library.program("linear"))}])),
        ("hall.json", hall(ROWS, [1000, 4, 1])),
        ("lineage.json", "[" * 100_000),
        ("lineage.json", json.dumps({"schema": 3, "interface": None, "trial": 1, "steps": [STEPS[0] | {"evaluations": None}]})),
        ("outcome.json", "{}"),
        ("outcome.json", "[]"),
        ("config.json", "{"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(folder, capsys, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(name)):
        report.write(folder)
    assert not (folder / "report.html").exists()
    assert cli.main(["report", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert name in err


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, capsys):
    for call in (report.records, report.hall_of_fame, report.programs, report.lineage, report.write):
        with pytest.raises(ValueError, match="is not the folder of a run"):
            call(tmp_path)
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_one_message(folder, tmp_path, capsys):
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert "nowhere/page.html" in capsys.readouterr().err


def test_a_page_is_written_through_links_and_to_devices_but_not_over_others(folder, tmp_path, capsys):
    (tmp_path / "link").symlink_to("page.html")
    os.mkfifo(tmp_path / "fifo")
    for name in (tmp_path / "link", "/dev/null"):
        assert cli.main(["report", str(folder), "--out", str(name)]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert os.path.exists("/dev/null")
    assert not os.path.isfile("/dev/null")
    capsys.readouterr()
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "fifo")]) == 2
    assert capsys.readouterr().err == f"zero-jax: cannot write {tmp_path / 'fifo'}: it is a FIFO\n"


# ---------------------------------------------------------------------------------------------- the command line


def test_the_command_prints_the_hall_of_fame_and_writes_the_page(folder, tmp_path, capsys):
    assert cli.main(["report", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["T_search", "T_select", "cost", "instructions", "trial", "front"]
    assert lines[1].split() == ["0", "0.999000", "0.998000", "0.3000", "6", "1", "*"]
    assert lines[2].split()[:4] == ["1", "0.900000", "-", "0.4000"]
    assert lines[-1] == f"Written to {folder / 'report.html'}"
    (folder / "hall.json").unlink()
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == (
        f"There is no hall of fame yet: hall.json is missing or empty\nWritten to {tmp_path / 'page.html'}\n"
    )


def test_every_preset_has_a_command():
    for name, (_, preset) in PRESETS.items():
        assert isinstance(preset, RunConfig)
        assert command(preset) == f"zero-jax search {name}"
