"""The experiments on discovery (tables, ablations, lineage, parts) run in small, and count what they say they count."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from zero_jax import Programs
from zero_jax.evaluation.base import Scores
from zero_jax.search.operators.validity import can_learn

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def experiment():
    """An experiment's module by name, imported as its script finds its neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        yield importlib.import_module


# ---------------------------------------------------------------------------------------------- rows


def test_an_interrupted_script_keeps_its_rows_and_continues(experiment, tmp_path):
    results, to, done = experiment("results"), tmp_path / "rows.json", []

    def square(n):
        if n == 3 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(n)
        return {"square": n * n}

    keys = [{"n": n} for n in (1, 2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        results.finished(1, square, keys, to, [0])
    assert [row["square"] for row in results.stored_rows(to)] == [1, 4]
    done.append("resumed")
    rows = results.finished(1, square, keys[::-1], to, [0])
    assert done == [1, 2, "resumed", 4, 3]
    assert [(row["n"], row["square"]) for row in rows] == [(4, 16), (3, 9), (2, 4), (1, 1)]
    assert all(row["commit"] for row in json.loads(to.read_text())["results"]["rows"])


def test_the_time_of_all_runs_is_kept(experiment, tmp_path):
    results, to = experiment("results"), tmp_path / "rows.json"
    results.finished(1, lambda n: {}, [{"n": 1}], to, [0])
    stored = json.loads(to.read_text())
    to.write_text(json.dumps(stored | {"wall_seconds": 1000.0}))
    rows = results.finished(1, lambda n: {}, [{"n": 2}], to, [0])
    results.write(to, results.time.monotonic(), [0], {"rows": rows})
    assert json.loads(to.read_text())["wall_seconds"] >= 1000
    results.write(to, results.time.monotonic(), [0], {"table": []})  # nothing of it was resumed
    assert json.loads(to.read_text())["wall_seconds"] < 1000


def test_shares_come_with_wilson_intervals(experiment):
    low, high = experiment("results").wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)


# ---------------------------------------------------------------------------------------------- the table


def test_the_tables_tasks_are_as_published(experiment):
    table = experiment("discovery_table")
    for name, problem in table.PROBLEMS.items():
        tasks, noisy = table.tasks(problem, 0.0, 1), table.tasks(problem, 0.5, 1)
        assert (len(tasks), tasks.features, tasks.train_x.shape[1], tasks.valid_x.shape[1]) == (10, 4, 1000, 100)
        assert (tasks.loss == "accuracy") == (problem.labels == "classes")
        assert table.affine(noisy) < table.affine(tasks)
        exact = name in ("linear", "affine")
        assert (table.affine(tasks) > 0.9999) == exact
        assert table.network_bar(table.affine(tasks), tasks.loss) > table.affine(tasks)
        theirs = problem.space
        assert theirs.max_size == theirs.min_size
        for method in table.METHODS:
            space = table.searcher(problem, method).space
            assert space.ops[1:] == theirs.ops[1:]
            assert space.capacity[1:] == theirs.capacity[1:]


def test_a_linear_problem_is_solved_at_equal_evaluations_and_not_again(experiment, tmp_path, capsys, monkeypatch):
    table, to = experiment("discovery_table"), tmp_path / "table.json"
    words = [
        "--problems",
        "linear",
        "--methods",
        "plain",
        "efficient",
        "--seeds",
        "100",
        "--jobs",
        "1",
        "--out",
        str(to),
    ]
    table.main([*words, "--limit", "0.3"])
    rows = {row["method"]: row for row in json.loads(to.read_text())["results"]["rows"]}
    for method, row in rows.items():
        assert row["evaluations"] <= 6_000 + 1_000, method
        assert row["fitness"] >= row["best"]["5000"] >= 0
        assert "20000" not in row["best"]  # beyond the budget
        assert (row["stopped"] == "at the optimum") == ("optimum" in row["solved"]) == (row["fitness"] >= 0.999)
    assert rows["efficient"]["best"]["5000"] > rows["plain"]["best"]["5000"]
    printed = capsys.readouterr().out
    assert "| linear | efficient |" in printed

    def never(**_):
        raise AssertionError("searched again")

    monkeypatch.setattr(table, "search", never)
    table.main([*words, "--limit", "0.3"])
    table.main([*words, "--limit", "0.3", "--markdown"])
    assert capsys.readouterr().out.count("| linear | efficient |") == 2


@pytest.mark.slow
def test_every_problem_and_method_of_the_table_runs(experiment, tmp_path):
    table, to = experiment("discovery_table"), tmp_path / "table.json"
    table.main(["--small", "--seconds", "2", "--seeds", "100", "--jobs", "1", "--out", str(to)])
    rows = json.loads(to.read_text())["results"]["rows"]
    assert len(rows) == 15
    assert all(0 <= row["unseen_fitness"] <= 1 for row in rows)
    lines = table.table(rows)
    assert [line["goal"] for line in lines[::3]] == ["optimum", "optimum", "network", "optimum", "network"]


# ---------------------------------------------------------------------------------------------- the ablation


def begun(network, name, cohorts=6):
    """What a variant asks for first, and its searcher; every fitness is random."""
    build = importlib.import_module("zero_jax.run.build")
    how, rng = network.VARIANTS[name], np.random.default_rng(0)
    with how.applied():
        config = network.config(0, 4, 1.0, 1).replace(**how.settings)
        if hasattr(config.searcher, "niche_size"):
            config = config.replace(niche_size=config.searcher.niche_size // 20, children=20)
        search = build.searcher(config)
        state, asked = search.init(0), []
        for _ in range(cohorts):
            phase = getattr(state, "phase", "")
            state, candidates = search.ask(state)
            asked.append((phase, candidates))
            state = search.tell(state, candidates, Scores.of(rng.random(len(candidates))))
    return search, asked


def predict(programs):
    first, last = programs.starts[1:3]
    return {programs.code[i, first:last].tobytes() for i in range(len(programs))}


def test_the_whole_search_asks_for_programs_that_can_learn(experiment):
    search, asked = begun(experiment("network"), "niche search")
    assert all(can_learn(candidates.programs).all() for _, candidates in asked)
    assert len(search.predictions) > 50


def test_without_niches_predict_still_differs(experiment):
    search, asked = begun(experiment("network"), "no niches")
    assert (len(search.predictions), len(search.functions) > 50) == (1, True)
    children = [candidates.programs for phase, candidates in asked if phase == "evolve"]
    assert children
    assert all(1 < len(predict(some)) <= len(search.functions) for some in children)


def test_without_initial_values_setup_is_searched(experiment):
    search, asked = begun(experiment("network"), "no initial values as genes")
    assert not search.space.genes
    variants = next(candidates.programs for phase, candidates in asked if phase == "tune")
    assert (variants.code[0] == variants.code[1]).all()
    assert (variants.data[0] != variants.data[1]).any()


def test_without_the_validity_filter_some_cannot_learn(experiment):
    _, asked = begun(experiment("network"), "no validity filter")
    assert not can_learn(asked[1][1].programs).all()


def test_without_tuning_champions_are_evaluated_as_they_are(experiment):
    _, asked = begun(experiment("network"), "no tuning")
    tuned = [len(candidates) for phase, candidates in asked if phase == "tune"]
    assert tuned
    assert max(tuned) <= 4


def test_the_papers_moves_are_those_of_the_paper(experiment):
    moves = experiment("network_variants").VARIANTS["the paper's moves"].settings["mutations"]
    preset = experiment("network_variants").PRESET.mutations
    assert set(moves.types) == set(preset.types) & set(experiment("network_variants").PAPER_MOVES) != set(preset.types)


@pytest.mark.parametrize("name", ["no canonical filter", "equal niches", "no migration", "four sets", "efficient"])
def test_the_other_variants_search(experiment, name):
    _, asked = begun(experiment("network"), name, 4)
    assert all(len(candidates) for _, candidates in asked)


def test_the_presets_names_are_back_after_a_variant(experiment):
    from zero_jax.search import niches

    before = niches.VARIANTS, niches.vary_initial_values
    begun(experiment("network"), "no tuning", 2)
    begun(experiment("network"), "no initial values as genes", 2)
    assert before == (niches.VARIANTS, niches.vary_initial_values)


@pytest.mark.slow
def test_network_tells_how_often_each_variant_finds_one(experiment, tmp_path, capsys):
    network, to = experiment("network"), tmp_path / "n.json"
    words = ["--only", "niche search", "four sets", "--seeds", "420", "--limit", "1", "--out", str(to)]
    network.main(words)
    rows = json.loads(to.read_text())["results"]["rows"]
    assert [row["variant"] for row in rows] == ["niche search", "four sets"]
    assert "| four sets | 0 of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_lineage_leads_from_a_random_program_to_the_best(experiment, tmp_path, capsys):
    network, story, to = experiment("network"), experiment("network_story"), tmp_path / "n.json"
    network.main(["--lineage", "421", "--figure", "421", "--limit", "6", "--out", str(to)])
    stored = json.loads((tmp_path / "n_lineage.json").read_text())
    steps = stored["steps"]
    assert steps[0]["how"] == "random"
    assert all(step["how"] in ("mutation", "tuning", "again") for step in steps[1:])
    assert [step["evaluations"][0] for step in steps] == sorted(step["evaluations"][0] for step in steps)
    bare = story.without_numbers(steps[-1]["listing"])
    described = story.without_numbers(stored["program"])
    assert [line.split("  # ")[0].strip() for line in described.splitlines()] == [x.strip() for x in bare.splitlines()]
    assert (tmp_path / "n_lineage.md").read_text().count("## Step") >= 1
    assert "<svg" in (tmp_path / "n.svg").read_text()
    assert "the best program" in capsys.readouterr().out


def test_numbers_are_taken_out_of_a_listing(experiment):
    text = "  s2 = -0.5\n  v1 = gaussian(0.0, 1e-05, n_features)\n  m0 = outer(v7, v0)"
    expected = "  s2 = #\n  v1 = gaussian(#, #, n_features)\n  m0 = outer(v7, v0)"
    assert experiment("network_story").without_numbers(text) == expected


# ---------------------------------------------------------------------------------------------- beyond


def of(beyond, text, rate=0.02):
    return Programs.parse(text.format(rate=rate), beyond.SPACE.memory, beyond.SPACE.capacity)


@pytest.mark.parametrize("kind", ["bias", "decay", "normalised gradient"])
def test_a_part_written_by_hand_is_recognised_where_it_helps(experiment, kind):
    beyond, parts = experiment("beyond"), experiment("network_parts")
    setting, text = beyond.PARTS[kind]
    select, unseen = (beyond.tasks(setting, role, 0) for role in ("select", "unseen"))
    counted = [part["kind"] for part in parts.recognised(beyond.tuned(text, select), select, unseen) if part["counts"]]
    assert set(counted) == {kind}
    assert parts.recognised(beyond.tuned(beyond.START, select), select, unseen) == []


def test_a_part_without_effect_is_seen_but_does_not_count(experiment):
    beyond, parts = experiment("beyond"), experiment("network_parts")
    select, unseen = (beyond.tasks("plain", role, 0, 20) for role in ("select", "unseen"))
    steady = beyond.PARTS["decay"][1].replace("0.998", "1.0")
    seen = parts.recognised(of(beyond, steady), select, unseen)
    assert [(part["kind"], part["counts"]) for part in seen] == [("decay", False)]
    fixed = beyond.START.replace("  v4 = max", "  v3 = v3 + v9\n  v4 = max").replace(
        "  s2 =", "  v9 = gaussian(0, 1e-4)\n  s2 ="
    )
    seen = parts.recognised(of(beyond, fixed), select, unseen)
    assert [(part["kind"], part["counts"]) for part in seen] == [("fixed bias", False)]


def test_what_depends_on_data_is_no_decay(experiment):
    beyond, parts = experiment("beyond"), experiment("network_parts")
    text = beyond.START.replace("  v6 = s3", "  s2 = s2 * s3\n  v6 = s3")
    assert not list(parts.candidates_of(of(beyond, text)))


def test_a_constant_takes_the_place_of_a_divisor(experiment):
    beyond, parts = experiment("beyond"), experiment("network_parts")
    bare = of(beyond, beyond.PARTS["normalised gradient"][1])
    (part,) = parts.candidates_of(bare)
    other = parts.without(bare, part, 4.0)
    assert "  s8 = 4.0" in other.listing(0)
    assert "  s3 = s3 / s8" in other.listing(0)


@pytest.mark.slow
def test_beyond_counts_parts_by_setting(experiment, tmp_path, capsys):
    to = tmp_path / "beyond.json"
    experiment("beyond").main(
        ["--seconds", "2", "--settings", "biases", "--seeds", "100", "--jobs", "1", "--out", str(to)]
    )
    (row,) = json.loads(to.read_text())["results"]["rows"]
    assert row["gain"] == pytest.approx(row["unseen"] - row["start"])
    assert set(row["has"]) <= {part["kind"] for part in row["parts"]}
    assert "| biases |" in capsys.readouterr().out
