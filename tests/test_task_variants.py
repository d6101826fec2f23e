"""Groups of islands with tasks of their own."""

import dataclasses

import numpy as np
import pytest

from tests.helpers import ONE, call, costs_of, program_of, read_json, same
from tests.helpers import QUICK_COMMAND as COMMAND
from tests.spaces import DEMO
from zero_jax import Evaluator, RegularizedEvolution, evaluate, program_fitness
from zero_jax.program.programs import Programs
from zero_jax.run import build
from zero_jax.run.api import resume, run
from zero_jax.run.forecast import forecast
from zero_jax.run.trial import Terms, Trial
from zero_jax.support import files
from zero_jax.support.codec import decode
from zero_jax.tasks import synthetic

KINDS = ("features=4,train=30", "features=8,train=20,epochs=2")
TWO = ONE.replace(islands=4, groups=2, task_variants=KINDS, train_steps=150_000)
EXAMPLES = (30, 40)


def fitness_on(experiment, tasks, programs):
    """By `evaluate`, not by what the search has."""
    seed = build.derived_seed(experiment, "search draws", 0)
    result = evaluate(
        programs, tasks, seed, ops=build.searcher(experiment).ops, executor=experiment.evaluation.executor
    )
    return program_fitness(result.fitness, experiment.evaluation.combine)


def final_states(folder):
    """Populations and fitness of each group, as a run left them."""
    (path,) = sorted(folder.glob("checkpoint-*.npz"))[-1:]
    (trial,) = files.unpacked(path.read_bytes())["run"]["trials"]
    states = [state["individuals"] for state in trial["workers"][0]["checkpoint"]["states"]]
    return [(decode(Programs, state["programs"]), state["fitness"].reshape(-1)) for state in states]


def test_tasks_of_variants_are_t_search_with_what_they_change():
    plain, (first, second) = build.tasks(ONE, "search", 3), build.variant_tasks(TWO, 3)
    np.testing.assert_array_equal(first.train_x, plain.train_x)  # features=4,train=30 changes nothing
    np.testing.assert_array_equal(first.valid_y, plain.valid_y)
    assert second.train_x.shape == (3, 20, 8)
    assert second.order.shape == (2, 20)
    assert second.valid_x.shape[1] == plain.valid_x.shape[1]
    assert [len(build.variant_tasks(one)) for one in (ONE, TWO)] == [1, 2]


@pytest.mark.parametrize(
    ("groups", "executor", "steps"),
    [
        (4, "simd", 150_000),
        *(pytest.param(2, *more, marks=pytest.mark.slow) for more in (("simd", 150_000), ("xla", 30_000))),
    ],
)
def test_the_fitness_of_each_group_is_that_on_its_own_tasks(tmp_path, groups, executor, steps):
    experiment = TWO.replace(groups=groups, executor=executor, train_steps=steps, out=str(tmp_path))
    outcome = run(experiment)
    states = final_states(outcome.folder)
    assert len(states) == groups
    tasks = build.variant_tasks(experiment)
    for group, (programs, fitness) in enumerate(states):
        np.testing.assert_array_equal(fitness_on(experiment, tasks[group % 2], programs), fitness)
        assert (fitness_on(experiment, tasks[1 - group % 2], programs) != fitness).any()
    assert outcome.progress.evaluations > 4 * 60


@pytest.mark.parametrize("candidates", [1, 3])
def test_the_best_on_each_kind_of_tasks_are_judged(tmp_path, candidates):
    experiment = TWO.replace(candidates=candidates, trials=2, out=str(tmp_path))
    outcome = run(experiment)
    rows = read_json(outcome.folder)["rows"]
    for number in (1, 2):
        tasks = build.variant_tasks(experiment, number)
        fitness = {0: [], 1: []}
        for row in (row for row in rows if row["trial"] == number):
            kind = [fitness_on(experiment, one, program_of(row))[0] for one in tasks].index(row["search_fitness"])
            assert row["cost"] == costs_of(program_of(row), EXAMPLES[kind])[0]
            if row["select_fitness"] is not None:
                fitness[kind].append(row["search_fitness"])
        assert [len(fitness[0]), len(fitness[1])] == [candidates, candidates]
    winner = max((row for row in rows if row["select_fitness"] is not None), key=lambda row: row["select_fitness"])
    assert same(outcome.program, program_of(winner))
    assert outcome.search_fitness == winner["search_fitness"]


def test_programs_that_migrate_between_workers_bring_their_fitness_along(tmp_path):
    experiment = TWO.replace(migrate_every=100, candidates=2, out=str(tmp_path))
    outcome = run(experiment)
    tasks, foreign = build.variant_tasks(experiment), 0
    for group, (programs, fitness) in enumerate(final_states(outcome.folder)):
        own, other = (fitness_on(experiment, tasks[kind], programs) for kind in (group, 1 - group))
        assert ((own == fitness) | (other == fitness)).all()
        foreign += ((own != fitness) & (other == fitness)).sum()
    # Children of foreign ones are trained at home, and cohorts are half a population: few are left by now.
    alone = experiment.replace(migrate_every=0)
    assert run(alone).progress.quantiles != outcome.progress.quantiles
    steps = read_json(outcome.folder, "lineage.json")["steps"]
    assert same(program_of(steps[-1]), outcome.program)
    assert all(step["births"] > 0 for step in steps[1:])
    again = resume(outcome.folder)
    assert (again.search_fitness, again.select_fitness) == (outcome.search_fitness, outcome.select_fitness)


def test_right_after_a_migration_fitness_is_that_of_where_programs_came_from():
    sets = [synthetic.linear(3, features=4, train=20, valid=10), synthetic.linear(2, features=8, train=15, valid=10)]
    searcher = RegularizedEvolution(DEMO, islands=1, population=40, tournament=5, cohort=20)
    evaluators = [Evaluator(tasks, ops=DEMO.ops) for tasks in sets]
    trial = Trial(1, searcher, 7, evaluators, Terms(groups=2, migrate_every=150))
    while not trial.migrations:
        trial.evaluate_cohort()
    foreign = []
    for group, state in enumerate(trial.states):
        own, other = (
            program_fitness(evaluate(state.programs, sets[kind], ops=DEMO.ops).fitness) for kind in (group, 1 - group)
        )
        fitness = state.fitness.reshape(-1)
        assert ((own == fitness) | (other == fitness)).all()
        foreign.append(((own != fitness) & (other == fitness)).sum())
    assert min(foreign) > 3


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("kinds", [KINDS, KINDS[::-1]])
def test_a_run_that_is_interrupted_before_all_workers_have_a_result_tells_of_the_others(tmp_path, after, kinds):
    reports = []

    def interrupt(progress):
        reports.append(progress)
        if len(reports) == after:
            raise KeyboardInterrupt

    experiment = TWO.replace(task_variants=kinds, candidates=2, out=str(tmp_path))
    outcome = run(experiment, interrupt)
    assert outcome.interrupted
    rows = read_json(outcome.folder)["rows"]
    judged = [row for row in rows if row["select_fitness"] is not None]
    assert len(judged) == 4  # the interruption waits for the cohort of the other workers
    assert all(row["search_fitness"] > 0 for row in rows)
    assert outcome.select_fitness == max(row["select_fitness"] for row in judged)


def test_an_experiment_may_end_before_all_workers_have_a_result(tmp_path):
    outcome = run(TWO.replace(train_steps=1, out=str(tmp_path)))
    assert outcome.search_fitness > 0
    (row,) = (row for row in read_json(outcome.folder)["rows"] if row["select_fitness"] is not None)
    assert row["search_fitness"] == outcome.search_fitness


def test_a_forecast_is_of_the_workers_with_most_to_do():
    few, many = "features=4,train=30", "features=4,train=64,tasks=5"
    for kinds in ((few, many), (many, few)):
        expected = forecast(TWO.replace(task_variants=kinds))
        assert expected.examples == 4 * 60 * 5 * 64


@pytest.mark.parametrize(
    "text",
    ["features", "features=", "features=x", "features=-1", "features=1.5", "size=3", "", "features=4,", "features = 4",
     "source=digits", "features=4=5", "features=4,features=6", "features=²", "train=" + "9" * 30],
)  # fmt: skip
def test_text_that_says_no_change_is_refused(text):
    with pytest.raises(
        ValueError, match=r"a task variant names what it changes of the tasks, as in features=8,train=1000"
    ):
        TWO.replace(task_variants=(KINDS[0], text))


def test_workers_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="2 groups cannot share 3 task variants evenly"):
        TWO.replace(task_variants=(*KINDS, "tasks=2"))
    with pytest.raises(ValueError, match="1 groups cannot share 2 task variants"):
        TWO.replace(groups=1)
    mine = dataclasses.replace(TWO.tasks.search, source="mine.npz")
    with pytest.raises(ValueError, match=r"task variants cannot change tasks that come from a file.*mine\.npz"):
        TWO.replace(search_tasks=mine)
    for bad in ("tasks=0", "features=0", "train=0", "epochs=0"):
        with pytest.raises(ValueError, match="at least 1"):
            run(TWO.replace(task_variants=(KINDS[0], bad), out=str(tmp_path)))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------- the command line


def test_task_variants_are_given_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*COMMAND, "--task-variants", "features=4", "features=8,train=20", "--groups", 2, "--candidates", 2) == 0
    assert "Written to runs/demo-" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    assert sum(row["select_fitness"] is not None for row in read_json(folder)["rows"]) == 4
    assert read_json(folder, "config.json")["config"]["tasks"]["variants"] == ["features=4", "features=8,train=20"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task-variants", "features=4", "size=6", "--groups", 2], ["features=8,train=1000", "not 'size=6'"]),
        (["--task-variants", "features=4", "features=6"], ["1 groups cannot share 2 task variants evenly"]),
        (
            ["--task-variants", "features=4", "features=0", "--groups", 2],
            ["features must be at least 1, not 0"],
        ),
        (["--candidates", 0], ["candidates must be at least 1, not 0"]),
    ],
)
def test_bad_workers_give_one_message_exit_code_2_and_no_files(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert call(*COMMAND, *arguments) == 2
    out, err = capsys.readouterr()
    message = " ".join((out + err).replace("│", " ").split())
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())
