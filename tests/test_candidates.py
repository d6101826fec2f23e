"""What a run writes of its best programs, and which of them it judges on T_select: hall.json and lineage.json."""

import numpy as np
import pytest

from tests.helpers import ONE, costs_of, program_of, read_json, same
from zero_jax import RandomSearch, RegularizedEvolution
from zero_jax.program.canonical import pruned
from zero_jax.program.programs import concatenate
from zero_jax.run import build
from zero_jax.run.api import run


def assert_holds(experiment, folder):
    """Every row of a run's hall.json, and every step of its lineage.json, is what it says it is."""
    rows = read_json(folder)["rows"]
    for row in rows:
        program, number = program_of(row), row["trial"]
        assert (
            build.fitness(experiment, program, build.tasks(experiment, "search", number), "search")[0]
            == row["search_fitness"]
        )
        assert row["cost"] == costs_of(program)[0]
        assert row["instructions"] == pruned(program).length.sum()
        if row["select_fitness"] is not None:
            assert (
                build.fitness(experiment, program, build.tasks(experiment, "select"), "select")[0]
                == row["select_fitness"]
            )
    assert [row["search_fitness"] for row in rows] == sorted((row["search_fitness"] for row in rows), reverse=True)
    front = [row for row in rows if row["pareto"]]
    assert (np.diff([row["cost"] for row in front]) < 0).all()
    best = [row["search_fitness"] for row in rows if row["best"]]
    assert len(set(best)) == len(best) <= 20
    lineage = read_json(folder, "lineage.json")
    *before, last = lineage["steps"]
    tasks = build.tasks(experiment, "search", lineage["trial"])
    for step in lineage["steps"]:
        assert build.fitness(experiment, program_of(step), tasks, "search")[0] == step["fitness"]
    assert (np.diff([step["fitness"] for step in before]) > 0).all()
    assert (np.diff([step["evaluations"] for step in lineage["steps"]]) > 0).all()
    assert lineage["steps"][0]["births"] == 0
    assert all(step["births"] > 0 for step in lineage["steps"][1:])
    return rows, lineage, last


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"trials": 3, "parallel_trials": 2},
        {"islands": 4, "groups": 2, "migrate_every": 60, "combine": "median"},
        {"cohort": 60},
    ],
)
def test_of_the_best_on_t_search_the_best_on_t_select_is_the_outcome(tmp_path, more):
    experiment = ONE.replace(candidates=5, seed=3, out=str(tmp_path), **more)
    outcome = run(experiment)
    rows, lineage, last = assert_holds(experiment, outcome.folder)
    judged = [row for row in rows if row["select_fitness"] is not None]
    for number in range(1, experiment.schedule.trials + 1):
        mine = [row for row in judged if row["trial"] == number]
        assert len(mine) == 5
        others = [row for row in rows if row["trial"] == number and row not in mine]
        fitness = {row["search_fitness"] for row in mine}
        assert len(fitness) == 5  # one of each: a cheaper one, equal to the bit, stands beside the best, unjudged
        assert all(row["search_fitness"] <= min(fitness) or row["search_fitness"] in fitness for row in others)
    winner = max(judged, key=lambda row: row["select_fitness"])
    assert outcome.select_fitness == winner["select_fitness"]
    assert outcome.search_fitness == winner["search_fitness"]
    assert outcome.trial == winner["trial"] == lineage["trial"]
    assert same(outcome.program, program_of(winner))
    assert same(outcome.program, program_of(last))
    assert (last["fitness"], last["evaluations"]) == (winner["search_fitness"], winner["evaluations"])


def test_judging_more_candidates_changes_neither_the_search_nor_the_best_for_the_worse():
    outcomes = [run(ONE.replace(candidates=n, seed=3)) for n in (1, 2, 5, 50)]
    assert len({outcome.progress._replace(seconds=0) for outcome in outcomes}) == 1
    select = [outcome.select_fitness for outcome in outcomes]
    assert select == sorted(select)
    assert select[0] < select[-1]
    assert outcomes[-1].search_fitness < outcomes[0].search_fitness  # or this has shown nothing
    with pytest.raises(ValueError, match="candidates must be at least 1, not 0"):
        ONE.replace(candidates=0)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"cohort": 60, "combine": "median"},
        {"probe": 10, "forget_every": 3},
        {"train_budget": 0.5},
        {"cache_size": 16},
        {"cache_size": 0, "islands": 4, "groups": 2},
        {"method": "random"},
    ],
)
def test_nothing_that_was_found_is_missing(tmp_path, monkeypatch, more):
    everything = []
    for kind in (RegularizedEvolution, RandomSearch):
        real = kind.tell

        def tell(self, state, candidates, scores, real=real):
            everything.append((candidates.programs, scores.combined))
            return real(self, state, candidates, scores)

        monkeypatch.setattr(kind, "tell", tell)
    experiment = ONE.replace(out=str(tmp_path), **more)
    monkeypatch.setattr("zero_jax.run.runner.Runner._load", lambda *_: None)  # it tells of fitness 0
    outcome = run(experiment)
    rows = read_json(outcome.folder)["rows"]
    fitness = np.concatenate([one for _, one in everything])
    costs = costs_of(concatenate([programs for programs, _ in everything]))
    assert len(fitness) == outcome.progress.evaluations
    levels = np.unique(fitness[fitness > 0])[::-1][:20]
    cheapest = [costs[fitness == level].min() for level in levels]
    assert [(row["search_fitness"], row["cost"]) for row in rows if row["best"]] == [
        *zip(levels, cheapest, strict=True)
    ]
    front = {}
    for c in np.unique(costs):
        f = fitness[costs == c].max()
        if f > max(front.values(), default=0):
            front[c] = f
    assert [(row["cost"], row["search_fitness"]) for row in rows if row["pareto"]][::-1] == [*front.items()]
    assert len(front) > 1
    if more.get("groups", 1) == 1:
        ends = np.cumsum([len(one) for _, one in everything])  # of cohorts
        first = np.argmax((fitness == levels[0]) & (costs == cheapest[0]))
        assert rows[0]["evaluations"] == ends[np.searchsorted(ends, first, side="right")]


@pytest.mark.parametrize("after", [1, 2, 9])
@pytest.mark.parametrize("more", [{}, {"trials": 3, "parallel_trials": 2}, {"islands": 4, "groups": 2}])
def test_a_run_that_is_interrupted_tells_of_its_best_all_the_same(tmp_path, monkeypatch, after, more):
    monkeypatch.setattr("zero_jax.run.crew.WORK_PER_ROUND", 500)
    reports = []

    def interrupt(progress):
        reports.append(progress)
        if len(reports) == after:
            raise KeyboardInterrupt

    experiment = ONE.replace(candidates=3, out=str(tmp_path), train_steps=10**6, **more)
    outcome = run(experiment, interrupt)
    assert outcome.interrupted
    rows, _, last = assert_holds(experiment, outcome.folder)
    judged = [row for row in rows if row["select_fitness"] is not None]
    assert len(judged) == 3 * experiment.schedule.parallel_trials
    winner = max(judged, key=lambda row: row["select_fitness"])
    assert outcome.select_fitness == winner["select_fitness"]
    assert same(outcome.program, program_of(winner))
    assert same(outcome.program, program_of(last))


def test_a_run_interrupted_while_it_judges_tells_what_it_has_not_judged(tmp_path, monkeypatch):
    real = build.fitness

    def fitness(config, programs, tasks, role):
        if role == "select":
            raise KeyboardInterrupt
        return real(config, programs, tasks, role)

    experiment = ONE.replace(candidates=3, out=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(build, "fitness", fitness)
        outcome = run(experiment)
    assert outcome.interrupted
    rows, _, last = assert_holds(experiment, outcome.folder)
    assert all(row["select_fitness"] is None for row in rows)
    assert rows[0]["search_fitness"] == outcome.search_fitness == last["fitness"]
    assert same(outcome.program, program_of(last))


def test_hurdles_keep_out_of_the_hall_who_was_stopped(tmp_path):
    experiment = ONE.replace(hurdle_examples=0.5, candidates=3, out=str(tmp_path))
    outcome = run(experiment)
    assert outcome.progress.stopped > 10
    for row in read_json(outcome.folder)["rows"]:
        if row["select_fitness"] is None:  # fitness on half of the examples may have been judged, as the best there was
            program, tasks = program_of(row), build.tasks(experiment, "search", 1)
            assert build.fitness(experiment, program, tasks, "search")[0] == row["search_fitness"]
