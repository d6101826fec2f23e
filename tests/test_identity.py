"""A run goes on with the settings and the data that it began with, or not at all."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest

from tests.helpers import QUICK, call
from tests.settings import with_setting
from zero_jax import library
from zero_jax.program.programs import concatenate
from zero_jax.run import build
from zero_jax.run.api import resume, run
from zero_jax.tasks import synthetic
from zero_jax.tasks.sets import TaskSet, save

OWN = QUICK.replace(parallel_trials=1, trials=1, train_steps=100_000)


def write(path, flip=False, features=4, loss=None, seed=0):
    """Two tasks of one's own, which a linear program learns."""
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(2, 30, features)), rng.normal(size=(2, 10, features))
    label = (lambda x: (x.sum(-1) > 0) * 1.0) if loss == "accuracy" else (lambda x: x.sum(-1) / features)
    y, w = label(x), label(v)
    more = {} if loss is None else {"loss": loss}
    np.savez(path, train_x=x, train_y=1 - y if flip else y, valid_x=v, valid_y=1 - w if flip else w, **more)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """The folder of a run on one's own tasks, named by a relative path, that was interrupted."""
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        write(tmp_path / f"{name}.npz", seed=ord(name))
    sets = {
        f"{role}_tasks": TaskSet(f"{name}.npz")
        for role, name in zip(("search", "select", "unseen"), "abc", strict=True)
    }

    def interrupt(progress):
        raise KeyboardInterrupt

    outcome = run(OWN.replace(out="runs", **sets), interrupt)
    assert outcome.interrupted
    return outcome.folder.absolute()


def test_a_damaged_outcome_is_said_to_be_of_no_use(begun):
    (begun / "outcome.json").write_text("{")
    with pytest.warns(UserWarning, match=r"the run continues without the best program that .* has: .*outcome\.json"):
        resume(begun)


@pytest.mark.parametrize("how", [{"flip": True}, {"features": 3}])
@pytest.mark.parametrize("name", "abc")
def test_a_run_does_not_go_on_with_other_data(begun, tmp_path, name, how):
    write(tmp_path / f"{name}.npz", seed=ord(name), **how)
    if how.get("features"):  # of one shape
        for other in "abc":
            write(tmp_path / f"{other}.npz", seed=ord(other), **how)
    before = {path: path.read_bytes() for path in begun.iterdir()}
    role = dict(zip("abc", ("search_tasks", "select_tasks", "unseen_tasks"), strict=True))[name]
    with pytest.raises(ValueError, match=rf"{role}.*{name}\.npz.*differ from those that the run in .* began with"):
        resume(begun)
    assert {path: path.read_bytes() for path in begun.iterdir()} == before


def test_a_run_on_the_same_data_goes_on_from_another_folder(begun, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert not resume(begun).interrupted
    (tmp_path / "a.npz").unlink()
    with pytest.raises(ValueError, match=r"no file .*a\.npz"):
        resume(begun)


EDITS = {
    "population": 50,
    "cohort": 20,
    "seed": 7,
    "train_steps": 10**6,
    "trials": 9,
    "max_abs_error": 5.0,
    "initial": "linear",
    "probe": 3,
    "hurdle_examples": 0.5,
    "train_budget": 1.0,
    "cache_size": 9,
    "combine": "median",
    "sufficient_fitness": 0.5,
    "space": {"memory": [5, 3, 1]},
    "mutations": {"probability": 0.5},
    "search_tasks": {"train": 29},
}


@pytest.mark.parametrize("name", EDITS)
def test_settings_edited_in_the_configuration_are_refused_and_named(tmp_path, name):
    folder = run(OWN.replace(out=str(tmp_path), train_steps=20_000)).folder
    file = folder / "config.json"
    config = json.loads(file.read_text())
    edit = EDITS[name]
    with_setting(config["config"], name, edit)
    if isinstance(edit, dict):
        name, edit = f"{name}.{next(iter(edit))}", next(iter(edit.values()))
    file.write_text(json.dumps(config))
    named = name.replace("search_tasks", "tasks.search")
    expected = f"{named} is {json.dumps(edit)}, and was "
    with pytest.raises(ValueError, match=re.escape(expected)):
        resume(folder)
    for path in folder.glob("checkpoint-*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"config\.json was edited\."):
        resume(folder)


def test_settings_that_results_do_not_depend_on_may_be_edited(tmp_path):
    first = run(OWN.replace(out=str(tmp_path)))
    file = first.folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in {"threads": 2, "checkpoint_seconds": 5.0, "max_bytes": 2**29}.items():
        with_setting(config["config"], name, value)
    file.write_text(json.dumps(config))
    again = resume(first.folder)
    assert again.had_ended
    assert again.program.listing(0) == first.program.listing(0)


@pytest.mark.slow
def test_another_runs_checkpoint_is_not_taken_for_one_of_this(tmp_path):
    often = OWN.replace(checkpoint_seconds=0, out=str(tmp_path))
    mine, other = (run(often.replace(seed=seed)) for seed in (1, 2))
    older, newest = sorted(mine.folder.glob("checkpoint-*"))
    shutil.copy(sorted(other.folder.glob("checkpoint-*"))[-1], newest)
    with pytest.warns(UserWarning, match=rf"{newest.name} is of another run: going on from {older.name}"):
        again = resume(mine.folder)
    assert again.program.listing(0) == mine.program.listing(0)
    shutil.copy(sorted(other.folder.glob("checkpoint-*"))[-1], older)
    for path in mine.folder.glob("checkpoint-*"):
        shutil.copy(sorted(other.folder.glob("checkpoint-*"))[-1], path)
    with pytest.raises(ValueError, match=r"is of another run.*no other checkpoint"):
        resume(mine.folder)


def test_one_flipped_bit_in_a_checkpoint_is_noticed(tmp_path):
    first = run(OWN.replace(checkpoint_seconds=0, out=str(tmp_path)))
    older, newest = sorted(first.folder.glob("checkpoint-*"))
    rng = np.random.default_rng(0)
    for i, place in enumerate(rng.integers(0, newest.stat().st_size, 5)):
        copy = shutil.copytree(first.folder, tmp_path / f"copy{i}")
        damaged = bytearray(newest.read_bytes())
        damaged[place] ^= 1 << rng.integers(8)
        (copy / newest.name).write_bytes(damaged)
        with pytest.warns(UserWarning, match=rf"{newest.name} is damaged .*going on from {older.name}"):
            again = resume(copy)
        assert again.program.listing(0) == first.program.listing(0)


def test_a_run_sees_the_data_that_were_there_when_it_began(begun, tmp_path):
    def overwrite(progress):
        for name in "abc":
            write(tmp_path / f"{name}.npz", seed=ord(name), flip=True)

    fresh = run(
        OWN.replace(
            search_tasks=TaskSet("a.npz"), select_tasks=TaskSet("b.npz"), unseen_tasks=TaskSet("c.npz"), out=None
        )
    )
    changed = run(
        OWN.replace(
            search_tasks=TaskSet("a.npz"), select_tasks=TaskSet("b.npz"), unseen_tasks=TaskSet("c.npz"), out=None
        ),
        overwrite,
    )
    assert (changed.select_fitness, changed.unseen_fitness) == (fresh.select_fitness, fresh.unseen_fitness)


def test_tasks_in_memory_make_an_experiment_that_goes_on_wherever_its_folder_is(tmp_path):
    sets = {
        f"{role}_tasks": synthetic.linear(3, train=30, epochs=2, seed=seed).with_ids([7, 8, 9])
        for seed, role in enumerate(("search", "select", "unseen"))
    }
    given = OWN.replace(**sets, train_steps=60_000)
    whole = run(given.replace(out=None))

    def interrupt(progress):
        raise KeyboardInterrupt

    first = run(given.replace(out=str(tmp_path / "runs")), interrupt)
    moved = tmp_path / "moved"
    first.folder.rename(moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = resume(moved)
    assert again.progress._replace(seconds=0.0) == whole.progress._replace(seconds=0.0)
    assert again.select_fitness >= whole.select_fitness
    (search,) = moved.glob(f"{TaskSet.of(sets['search_tasks']).source}")
    save(sets["select_tasks"], search)
    with pytest.raises(ValueError, match=r"search_tasks .* differ from those"):
        resume(moved)


# ---------------------------------------------------------------------------------------------- extending a run


def test_a_run_that_has_ended_goes_on_with_a_larger_budget_as_one_that_had_it(tmp_path):
    short = OWN.replace(train_steps=30_000, out=str(tmp_path / "short"))
    longer = run(short.replace(train_steps=80_000, out=str(tmp_path / "longer")))
    first = run(short)
    extended = resume(first.folder, train_steps=80_000)
    assert not extended.had_ended
    assert extended.progress._replace(seconds=0.0) == longer.progress._replace(seconds=0.0)
    assert extended.search_fitness == longer.search_fitness
    assert json.loads((first.folder / "config.json").read_text())["config"]["schedule"]["train_steps"] == 80_000
    assert resume(first.folder).had_ended
    with pytest.raises(ValueError, match="train_steps can only be raised: 50000 would lower it from 80000"):
        resume(first.folder, train_steps=50_000)


def test_a_run_that_has_ended_goes_on_with_more_trials(tmp_path):
    first = run(OWN.replace(train_steps=30_000, out=str(tmp_path)))
    extended = resume(first.folder, trials=3)
    assert (first.progress.trial, extended.progress.trial) == (1, 3)
    assert extended.progress.train_steps >= 90_000


def test_a_run_ends_at_its_time_limit_and_goes_on_with_a_larger_one(tmp_path):
    endless = OWN.replace(train_steps=10**15, sufficient_fitness=2.0, out=str(tmp_path), time_limit=1.0)
    first = run(endless)
    assert first.timed_out
    assert not first.interrupted
    assert 1 <= first.progress.seconds < 10
    assert first.unseen_fitness is not None
    assert json.loads((first.folder / "outcome.json").read_text())["timed_out"]
    again = resume(first.folder)
    assert again.had_ended
    assert again.progress.evaluations == first.progress.evaluations
    more = resume(first.folder, time_limit=2.0)
    assert more.timed_out
    assert not more.had_ended
    assert more.progress.evaluations > first.progress.evaluations
    assert more.progress.seconds >= 2
    assert more.select_fitness >= first.select_fitness


def test_a_run_that_was_interrupted_while_it_was_judged_had_not_ended(tmp_path, monkeypatch):
    real = build.fitness

    def fitness(config, programs, tasks, role):
        if role == "unseen":
            raise KeyboardInterrupt
        return real(config, programs, tasks, role)

    with monkeypatch.context() as patched:
        patched.setattr(build, "fitness", fitness)
        first = run(OWN.replace(train_steps=20_000, out=str(tmp_path)))
    assert first.interrupted
    again = resume(first.folder)
    assert not again.had_ended
    assert again.unseen_fitness is not None
    assert resume(first.folder).had_ended


def test_the_command_line_says_that_a_run_had_ended_and_extends_it(tmp_path, monkeypatch, capsys):
    folder = run(OWN.replace(train_steps=30_000, out=str(tmp_path))).folder
    assert call("search", "--resume", folder) == 0
    out = capsys.readouterr().out
    assert (
        f"{folder} has already finished; there is nothing to resume. A larger --train-steps or --trials extends it"
        in out
    )
    assert call("search", "--resume", folder, "--train-steps", 20_000) == 2
    assert "train_steps can only be raised: 20000 would lower it from 30000" in capsys.readouterr().err
    assert call("search", "--resume", folder, "--train-steps", 60_000, "--time-limit", "10m") == 0
    assert "already ended" not in capsys.readouterr().out
    solved = run(OWN.replace(sufficient_fitness=0.01, out=str(tmp_path))).folder
    assert call("search", "--resume", solved, "--train-steps", 10**9) == 0
    assert "has already finished and solved its tasks; there is nothing to resume." in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------- whose data it is


def test_a_search_on_ones_own_data_names_what_it_is_judged_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("mine.npz", loss="accuracy", features=16)
    small = ["--train-steps", 20_000, "--population", 20, "--cohort", 10, "--islands", 1, "--baselines"]
    assert call("search", "empty", "--search-tasks.source", "mine.npz", *small) == 2
    error = capsys.readouterr().err
    assert "search tasks are 'mine.npz', but the select and unseen tasks would still be digits: set them too" in error
    assert not (tmp_path / "runs").exists()
    all_roles = [word for role in ("search", "select", "unseen") for word in (f"--{role}-tasks.source", "mine.npz")]
    assert call("search", "empty", *all_roles, *small) == 0
    error = capsys.readouterr().err
    assert "note: select tasks and unseen tasks are those that the search sees" in error


def test_tuning_that_gets_nowhere_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 40, 4))
    np.savez("tall.npz", train_x=x, train_y=x.sum(-1) + 152, valid_x=x, valid_y=x.sum(-1) + 152)
    assert call("tune", "linear", "--task", "tall.npz", "--evaluations", 20) == 0
    assert "all candidates have fitness 0: an error above 100 in training" in capsys.readouterr().err
    assert call("tune", "linear", "--evaluations", 10**6, "--time-limit", "1s") == 0
    assert "Out of time after " in capsys.readouterr().out
    for value in ("0", "-1", "nan"):
        assert call("evaluate", "linear", f"--max-abs-error={value}") == 2
        assert "max_abs_error must be above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_labels_that_make_every_run_stop_are_noted_and_the_bound_is_a_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 40, 4))
    np.savez("tall.npz", train_x=x, train_y=x.sum(-1) + 152, valid_x=x, valid_y=x.sum(-1) + 152)
    roles = [word for role in ("search", "select", "unseen") for word in (f"--{role}-tasks.source", "tall.npz")]
    small = ["--train-steps", 20_000, "--population", 20, "--cohort", 10, "--trials", 1, "--out", "None"]
    assert call("search", "demo", *roles, *small) == 0
    error = capsys.readouterr().err
    assert "on T_search all runs of the linear and of the network program stop early" in error
    assert "mean 152" in error
    assert "--max-abs-error" in error
    assert call("search", "demo", *roles, *small, "--max-abs-error", 1000) == 0
    assert "stop early" not in capsys.readouterr().err
    assert call("evaluate", "linear", "--task", "tall.npz") == 0
    out, error = capsys.readouterr()
    assert "mean fitness 0.000000" in out
    assert "all runs stopped early" in error
    assert call("evaluate", "linear", "--task", "tall.npz", "--max-abs-error", 1000) == 0
    out, error = capsys.readouterr()
    assert "mean fitness 0.000000" not in out
    assert "stopped early" not in error


def test_the_printed_command_gives_the_printed_fitness(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--train-steps", 300_000, "--unseen-tasks.tasks", 3, "--select-tasks.tasks", 9, "--seed", 3, "--baselines"]
    assert call("search", "empty", *small, "--space.predict.ops", 27, 64) == 0  # 64 draws at random
    out = capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    outcome = json.loads((folder / "outcome.json").read_text())
    command = re.search(r"To reproduce the unseen fitness: zero-jax (.*)", out)[1].split()
    assert call(*command) == 0
    assert f"mean accuracy {outcome['unseen_fitness']:.6f}" in capsys.readouterr().out
    assert command[command.index("--draws-seed") + 1] == str(outcome["seeds"]["unseen"]["draws"])


# ---------------------------------------------------------------------------------------------- where a run begins


def test_a_run_begins_with_what_another_found_or_with_several_programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run(OWN.replace(train_steps=30_000, out="runs"))
    fixed = OWN.replace(train_steps=1, cohort=1)
    again = run(fixed.replace(initial=str(first.folder)))
    assert again.search_fitness == first.search_fitness
    wide = QUICK.searcher.space.with_sizes(fewest=(1, 1, 4), initial=(1, 1, 4))
    two = [library.program("linear", (4, 3, 1), learning_rate=rate) for rate in (0.01, 0.2)]
    (tmp_path / "two.json").write_text(concatenate(two).to_json())
    state = build.searcher(fixed.replace(initial="two.json", space=wide)).init(0)
    rates = np.asarray(state.programs.data)[:, 0, 0]
    np.testing.assert_array_equal(rates, np.tile(np.float32([0.01, 0.2]), 60))
    efficient = build.searcher(fixed.replace(initial="two.json", space=wide, method="efficient")).init(0)
    assert len(efficient.programs) == 120
    (tmp_path / "three.json").write_text(concatenate([*two, two[0]]).to_json())
    with pytest.raises(ValueError, match="3 initial programs do not fit into a population of 2"):
        fixed.replace(initial="three.json", population=2, space=wide)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--name", "../escape", "name must be 1 to 100 letters"),
        ("--name", "a/b", "name must be 1 to 100 letters"),
        ("--name", "", "name must be 1 to 100 letters"),
        ("--name", ".hidden", "name must be 1 to 100 letters"),
        ("--name", "x" * 300, "name must be 1 to 100 letters"),
        ("--name", "a\x1b[31m", "name must be 1 to 100 letters"),
        ("--out", "", "out must be a folder, or None"),
        ("--out", " ", "out must be a folder, or None"),
        ("--out", "a\nb", "out must be a folder, or None"),
        ("--out", "INSIDE", "is in the folder of a run"),
        ("--out", "INSIDE/deeper/still", "is in the folder of a run"),
        ("--initial", "NOTHING", "has no best program yet"),
        ("--initial", ".", "is a folder, but not a run"),
        ("--out", "/dev/null", "cannot make a folder for the run in /dev/null: /dev/null is not a folder"),
        ("--out", "/proc/version/x/y", "/proc/version is not a folder"),
    ],
)
def test_names_and_folders_that_make_no_sense_are_refused(tmp_path, monkeypatch, capsys, option, value, words):
    monkeypatch.chdir(tmp_path)
    if "INSIDE" in value or value == "NOTHING":
        folder = run(OWN.replace(train_steps=1, out="runs")).folder
        value = value.replace("INSIDE", str(folder))
        if value == "NOTHING":
            (folder / "best.json").unlink()
            value = str(folder)
    before = sorted(tmp_path.rglob("*"))
    assert call("search", "demo", "--trials", 1, "--train-steps", 1, option, value) == 2
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in error
    assert "\x1b" not in error
    assert sorted(tmp_path.rglob("*")) == before
