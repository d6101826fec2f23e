"""Searches shared among workers of Ray."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import QUICK, records
from zero_jax.run import api, build, cluster
from zero_jax.run.cluster import connection
from zero_jax.run.cluster import crew as crews
from zero_jax.run.worker import Order, Worker
from zero_jax.search.operators.migration import offered, taken
from zero_jax.support import files

ray = pytest.importorskip("ray")

SHARED = QUICK.replace(parallel_trials=1, islands=4, workers=2, sufficient_fitness=2.0)
"""Two workers of two islands each; never solved."""

LONG = SHARED.replace(train_steps=3_000_000, trials=1, checkpoint_seconds=0.2)
"""Some seconds."""


@pytest.fixture(scope="module", name="local")
def _local():
    """A cluster that stays for all tests of this file."""
    with connection.connected():
        yield


def worker_processes(ancestor):
    """Of all descendants of a process."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            parents[int(status.parent.name)] = int(fields["PPid"]), "ray::Worker" in fields["Name"]
        except OSError:  # it has ended
            continue

    def descends(pid):
        while pid in parents and pid != ancestor:
            pid = parents[pid][0]
        return pid == ancestor

    return sorted(pid for pid, (_, is_worker) in parents.items() if is_worker and descends(pid))


def last_checkpoint(folder):
    return files.unpacked(sorted(folder.glob("checkpoint-*.npz"))[-1].read_bytes())["run"]


# ---------------------------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_two_workers_end_as_asked_and_all_they_did_is_counted(local, tmp_path):
    seen = []
    outcome = cluster.run(SHARED.replace(out=str(tmp_path), train_steps=400_000), seen.append)
    assert (outcome.interrupted, outcome.solved, outcome.progress.trial) == (False, False, 2)
    assert outcome.progress.train_steps >= 800_000
    assert outcome.unseen_fitness is not None
    for name in ("evaluations", "train_steps", "seconds"):
        values = [getattr(p, name) for p in seen]
        assert values == sorted(values)
    lines = records(outcome.folder)
    assert {len(line["islands"]) for line in lines} == {4}
    assert [line["trial"] for line in lines] == sorted(line["trial"] for line in lines)
    # The last trial's workers remember their evaluations; the records have those of the first trial.
    first = max(line["evaluations"] for line in lines if line["trial"] == 1)
    trees = [one["checkpoint"] for one in last_checkpoint(outcome.folder)["trials"][0]["workers"]]
    second = sum(evaluator["counts"]["considered"] for tree in trees for evaluator in tree["evaluators"])
    assert first + second == outcome.progress.evaluations
    assert all(len(state["individuals"]["fitness"]) == 2 * 60 for tree in trees for state in tree["states"])
    # The reported fitness is that of the reported program, on the T_search that both workers had.
    tasks = build.tasks(SHARED, "search", outcome.trial)
    assert build.fitness(SHARED, outcome.program, tasks, "search")[0] == outcome.search_fitness
    hall = json.loads((outcome.folder / "hall.json").read_text())
    assert {row["trial"] for row in hall["rows"]} <= {1, 2}


@pytest.mark.slow
def test_a_search_ends_when_one_worker_has_found_it(local):
    outcome = cluster.run(LONG.replace(sufficient_fitness=0.05))
    assert outcome.search_fitness > 0.05
    assert outcome.progress.train_steps < LONG.schedule.train_steps


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"method": "random"}, {"groups": 2, "probe": 5}, {"workers": 0, "islands": 3}])
def test_other_settings_go_with_workers(local, tmp_path, how):
    outcome = cluster.run(SHARED.replace(out=str(tmp_path), trials=1, **how))
    assert outcome.progress.train_steps >= SHARED.schedule.train_steps
    config = json.loads((outcome.folder / "config.json").read_text())["config"]["schedule"]
    assert config["workers"] == (1 if "workers" in how else 2)  # three islands cannot be shared by two


@pytest.mark.slow
def test_a_worker_killed_in_mid_run_is_started_again(local, tmp_path):
    killed = []

    def kill(progress):
        if not killed and list(tmp_path.glob("*/checkpoint-*")):
            killed.append(worker_processes(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.warns(UserWarning, match="worker . was lost .* started again from its last checkpoint"):
        outcome = cluster.run(LONG.replace(out=str(tmp_path)), kill)
    assert killed
    assert outcome.progress.lost == 1
    assert outcome.progress.train_steps >= LONG.schedule.train_steps
    assert outcome.unseen_fitness is not None
    steps = [line["train_steps"] for line in records(outcome.folder)]
    assert steps == sorted(steps)
    trees = [one["checkpoint"] for one in last_checkpoint(outcome.folder)["trials"][0]["workers"]]
    remembered = sum(evaluator["counts"]["train_steps"] for tree in trees for evaluator in tree["evaluators"])
    assert remembered <= outcome.progress.train_steps  # what was lost was done, too


@pytest.mark.slow
def test_a_worker_lost_again_and_again_ends_the_run(local, tmp_path, monkeypatch):
    monkeypatch.setattr(crews, "TRIES", 0)
    made = []

    def crew(config):
        made.append(crews.RayCrew(config))
        return made[0]

    with pytest.raises(OSError, match=r"worker 1 was lost 1 times in a row.*zero-jax resume .* --ray resumes it"):
        api.begun(LONG.replace(out=str(tmp_path)), lambda _: ray.kill(made[0].seats[1].handle), crew)


class Killed(BaseException):
    """Nothing in the package catches it, as nothing catches a kill."""


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_last_checkpoint_of_each_worker(local, tmp_path):
    def kill(progress):
        if list(tmp_path.glob("*/checkpoint-*")):
            raise Killed

    with pytest.raises(Killed):
        cluster.run(LONG.replace(out=str(tmp_path), migrate_every=2000), kill)
    (folder,) = tmp_path.iterdir()
    before = last_checkpoint(folder)
    assert before["trials"][0]["number"] == 1
    seen = []
    outcome = cluster.resume(folder, seen.append)
    assert before["progress"]["evaluations"] < seen[0].evaluations < outcome.progress.evaluations
    assert outcome.progress.train_steps >= LONG.schedule.train_steps
    again = cluster.resume(folder)  # it has ended: nothing more is done
    assert again.progress.evaluations == outcome.progress.evaluations
    with pytest.raises(ValueError, match="among 2 Ray workers: begin and resume it with --ray"):
        api.resume(folder)


# ---------------------------------------------------------------------------------------------- migration


@pytest.mark.slow
def test_islands_of_two_workers_exchange_programs(local, tmp_path):
    how = {"migrate_every": 600, "out": str(tmp_path), "train_steps": 1_000_000, "trials": 1}
    outcome = cluster.run(SHARED.replace(**how))
    trees = [one["checkpoint"] for one in last_checkpoint(outcome.folder)["trials"][0]["workers"]]
    for tree in trees:
        evaluations = sum(state["evaluations"] for state in tree["states"])
        assert 2 < tree["migrations"] <= evaluations // 1200


def test_programs_travel_with_fitness_and_line():
    workers = [Worker(SHARED.replace(migrate_every=120), index) for index in range(2)]
    done = []
    for worker in workers:
        worker.begin(1)
        done += [worker.advance(Order(60.0))]  # ends when migration is due
    assert [one.counts.considered for one in done] == [240, 240]
    assert all(one.offer for one in done)
    states = workers[1].trial.states
    offer = workers[1].trial.searcher.offer_from(files.unpacked(done[0].offer))
    (after,) = taken(states, [offer], np.random.default_rng(0))
    (before,) = states
    (other,) = workers[0].trial.states
    was, now, theirs = (
        [bytes(code) + bytes(data) for code, data in zip(s.programs.code, s.programs.data, strict=True)]
        for s in (before, after, other)
    )
    changed = [i for i in range(120) if now[i] != was[i]]
    assert 30 < len(changed) <= 60  # half of each island at most
    for i in changed:
        source = theirs.index(now[i])
        assert after.fitness.reshape(-1)[i] == other.fitness.reshape(-1)[source]
        assert after.lines.fitness[i] == after.lines.ancestors[i].fitness >= after.fitness.reshape(-1)[i]
    assert (after.evaluations, after.best_fitness) == (before.evaluations, before.best_fitness)


def test_half_an_island_is_offered_and_half_taken():
    worker = Worker(SHARED, 0)
    worker.begin(1)
    worker.advance(Order())
    offer = offered(worker.trial.states, np.random.default_rng(0), sample=10)
    assert len(offer.fitness) == 2 * 5
    (after,) = taken(worker.trial.states, [offer, offer], np.random.default_rng(1), sample=10)
    assert (after.fitness != worker.trial.states[0].fitness).sum() <= 10


# ---------------------------------------------------------------------------------------------- bad input

SEARCH = [sys.executable, "-m", "zero_jax.cli", "search"]


def refused(folder, *arguments):
    """The one line that the command line says."""
    began = time.monotonic()
    done = subprocess.run([*SEARCH, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2, done
    assert not list(folder.iterdir())
    assert time.monotonic() - began < 30
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.slow
def test_an_address_that_does_not_answer_gives_one_line(tmp_path):
    line = refused(tmp_path, "teacher", "--ray", "127.0.0.1:1", "--out", str(tmp_path))
    assert "no Ray cluster answers at 127.0.0.1:1" in line
    line = refused(tmp_path, "teacher", "--ray=here", "--out", str(tmp_path))
    assert "HOST:PORT or auto, not 'here'" in line


def test_what_is_no_cluster_is_refused(monkeypatch):
    monkeypatch.setattr(connection, "ANSWERED_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OSError, match=f"what answers at {address} did not turn out to be a Ray cluster within 2 s"):
            connection.check_answers(address)


@pytest.mark.slow
def test_settings_that_do_not_go_together_are_refused(local, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="4 islands cannot be shared evenly among 3 workers"):
        SHARED.replace(workers=3)
    with pytest.raises(ValueError, match="parallel_trials must be 1"):
        SHARED.replace(parallel_trials=2)
    with pytest.raises(ValueError, match="2 islands of each worker cannot be divided into 4 groups"):
        SHARED.replace(groups=4)
    with pytest.raises(ValueError, match="4 workers take a CPU each, and the Ray cluster has room for 2"):
        cluster.run(SHARED.replace(workers=4, out=str(tmp_path)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="2 Ray workers"):
        api.run(SHARED)
    alone = api.run(QUICK.replace(out=str(tmp_path)))
    with pytest.raises(ValueError, match="without --ray"):
        cluster.resume(alone.folder)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'zero-jax\[ray\]'"):
        cluster.run(SHARED)


# ---------------------------------------------------------------------------------------------- the command line


@pytest.mark.slow
def test_ctrl_c_and_on_again(tmp_path):
    small = ["--search-tasks.train", "50", "--search-tasks.valid", "20", "--baselines", "linear", "--method", "evolution",
             "--population", "1000", "--cohort", "500"]  # fmt: skip
    process = subprocess.Popen(
        [*SEARCH, "affine", "--sufficient-fitness", "2", "--trials", "1", "--ray", "--workers", "1", "--out", str(tmp_path), "--checkpoint-seconds", "0.1", *small,
         "--train-steps", "100000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(tmp_path.glob("*/checkpoint-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    (folder,) = tmp_path.iterdir()
    assert f"zero-jax resume {folder} --ray" in out
    done = subprocess.run([*SEARCH, "--resume", str(folder), "--ray"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "below the target fitness" in done.stdout
    assert json.loads((folder / "outcome.json").read_text())["progress"]["train_steps"] >= 100_000_000
