"""What searches continue from: bytes that were damaged, and trees that are whole but of something else."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import damage
from tests.helpers import evolved, scores, searching
from tests.spaces import ALL_OPS, DEMO, SMALL
from zero_jax import Evaluator, MemorySize, Programs, RandomSearch, RegularizedEvolution, Scores
from zero_jax.evaluation import KnownForms
from zero_jax.run.crew import Course, StoredTrial
from zero_jax.run.hall import Entries
from zero_jax.run.presets import PRESETS
from zero_jax.run.worker import Order, Worker
from zero_jax.search import EfficientEvolution
from zero_jax.search.operators.migration import offered
from zero_jax.support.codec import decode, encode
from zero_jax.support.files import packed, unpacked
from zero_jax.tasks import synthetic

TREE = {"a": np.arange(6.0).reshape(2, 3), "b": [None, 2**70, -np.inf], "c": {"d": np.zeros((0, 4), np.int32)}}
WHOLE = packed(TREE)

# ---------------------------------------------------------------------------------------------- bytes


@given(st.integers(0, 8 * len(WHOLE) - 1))
def test_a_flipped_bit_anywhere_is_seen(bit):
    flipped = bytearray(WHOLE)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="its digest does not match its contents"):
        unpacked(bytes(flipped))


@given(st.data())
def test_bytes_cut_off_added_or_changed_are_seen(data):
    first = data.draw(st.integers(0, len(WHOLE)))
    last = data.draw(st.integers(first, len(WHOLE)))
    other = WHOLE[:first] + data.draw(st.binary(max_size=64)) + WHOLE[last:]
    if other != WHOLE:
        with pytest.raises(ValueError, match="its digest does not match its contents"):
            unpacked(other)


def test_what_is_packed_is_an_npz_file_and_comes_back():
    np.testing.assert_equal(unpacked(WHOLE), TREE)
    with np.load(io.BytesIO(WHOLE)) as file:
        np.testing.assert_equal(file["array0"], TREE["a"])


def test_a_member_of_another_file_is_seen():
    other, swapped = packed(TREE | {"a": np.zeros((2, 3))}), io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(WHOLE)) as a,
        zipfile.ZipFile(io.BytesIO(other)) as b,
        zipfile.ZipFile(swapped, "w") as file,
    ):
        for name in a.namelist():
            file.writestr(name, (b if name == "array0.npy" else a).read(name))
        file.comment = a.comment
    with pytest.raises(ValueError, match="its digest does not match its contents"):
        unpacked(swapped.getvalue())


# ---------------------------------------------------------------------------------------------- trees


FINE = (
    r"states\.\d\.parents: structure ndarray '\[\]'"
    r"|evaluators\.\d\.levels\.0\.memories\.\d\.fitness\.\d: structure ndarray '\[\]'"
    r"|states\.\d\.best\.ancestor: structure NoneType 'None'"
)
"""Other structures that a search can have: no children yet, no programs at a rung, a best program without a line."""


def assert_damage_is_refused(name, part, parts, least):
    done = subprocess.run(
        [sys.executable, "-m", "tests.damage", name, str(part), str(parts)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["errors"] == []
    assert report["tried"] > least
    for where in report["accepted"]:
        assert re.fullmatch(FINE, where), where
    assert report["refused"] > 0.7 * report["tried"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_or_goes_on():
    assert_damage_is_refused("groups", 4, 41, 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", damage.SEARCHES)
def test_every_field_of_a_checkpoint_is_checked(name):
    assert_damage_is_refused(name, 0, 1, 2000)


def test_an_error_names_its_place():
    whole = unpacked(packed(damage.searching("evolution").tree()))
    forms, place = whole["evaluators"][0]["levels"][0]["memories"][0], ("evaluators", 0, "levels", 0, "memories", 0)
    for path, value, message in [
        ((*place, "hashes"), forms["hashes"][:, :, :1],
         r"search.evaluators\[0\].levels\[0\].memories\[0\].hashes has shape \(16, 4, 1\), not \(16, 4, 2\)"),
        ((*place, "fitness"), forms["fitness"] * np.nan, r"memories\[0\].fitness has values that are not finite"),
        (("states", 0, "oldest"), 12, r"search.states\[0\]: islands, oldest, or which programs were evaluated"),
        (("states", 0, "oldest"), 1.0, "oldest is 1.0, not a whole number"),
        (("states", 0, "rng", "state"), None, r"states\[0\].rng.state is None, not a whole number"),
        (("states", 0, "individuals", "programs", "capacity"), [10, 2, 9], r"programs.capacity is \[10, 2, 9\], not \[10, 2, 8\]"),
        (("states", 0, "best", "program", "memory"), [5, 3, 1], r"search.states\[0\].best.program.memory is \[5, 3, 1\], not \[4, 3, 1\]"),
        (("number",), 2, "search.number is 2, not 1"),
        (("idle",), [1], r"search.idle\[0\]|search.idle is \[1\], not each of 1 groups once"),
        (("more\x1b[2J",), 1, r"search has 'more\\x1b\[2J', which does not belong there"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            damage.restored("evolution", damage.put(whole, path, value))


def test_ops_that_a_search_does_not_use_are_refused():
    whole = unpacked(packed(damage.searching("random").tree()))
    code = whole["states"][0]["programs"]["code"].copy()
    code[0, 0] = 57, 0, 0, 1
    with pytest.raises(ValueError, match=r"states\[0\]: the state is of another search: op 57 in setup"):
        damage.restored("random", damage.put(whole, ("states", 0, "programs", "code"), code))


def test_a_restored_evaluator_shares_nothing_with_the_one_it_came_from():
    search = RegularizedEvolution(DEMO, population=20, cohort=10)
    tasks = synthetic.linear(2, train=10, valid=5)
    one, other = (Evaluator(tasks, stages=(KnownForms(64),)) for _ in range(2))
    one(search.init(0).programs)
    tree = one.tree()
    other.restore(tree)
    before = packed(tree)
    other(search.init(1).programs)
    assert packed(one.tree()) == before


def test_migrants_are_checked():
    search = searching()
    state = evolved(search, 5)
    whole = unpacked(packed(encode(offered([state], np.random.default_rng(0)))))
    np.testing.assert_equal(encode(search.offer_from(whole)), whole)
    tried = 0
    for path in damage.paths(whole):
        for other in damage.structural(damage.at(whole, path)):
            tried += 1
            with pytest.raises(ValueError, match="migrants"):
                search.offer_from(damage.put(whole, path, other))
    assert tried > 300
    with pytest.raises(ValueError, match="migrants"):
        dataclasses.replace(search, space=ALL_OPS).offer_from(whole)


def test_what_a_worker_saved_is_checked():
    config = PRESETS["affine"][1].replace(
        method="evolution", parallel_trials=1, islands=2, workers=2, population=10, cohort=5
    )
    worker = Worker(config, 0)
    worker.begin(1)
    saved = worker.advance(Order(save=True)).saved
    whole = unpacked(packed(encode(Course(1, 2.0, cohorts=1).stored([saved, None]))))

    def read(tree):
        trial = decode(StoredTrial, tree, "trial")
        decode(Entries, *trial.workers[0].entries, like=config.searcher.space)
        return trial.number, trial.cohorts, trial.workers[0].best_fitness, trial.workers[1]

    assert read(whole) == (1, 1, saved.best_fitness, None)
    assert read(damage.put(whole, ("workers", 0, "best_fitness"), -np.inf))[2] == -np.inf  # before the first evaluation
    for path, value, message in [
        (("number",), 0, "trial.number is 0, not a whole number from 1 on"),
        (("recorded",), 2, "trial: recorded is 2, more than its 1 cohorts"),
        (
            ("workers", 0, "best_fitness"),
            np.inf,
            r"trial.workers\[0\].best_fitness is inf, not a finite number of at most 1",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            read(damage.put(whole, path, value))
    for path in damage.paths(whole):
        elsewhere = path in (("workers",), ("workers", 1)) or "checkpoint" in path  # checked on resume
        if not elsewhere and path[-1:] != ("select_fitness",):  # which may be NaN
            for other in damage.structural(damage.at(whole, path)):
                with pytest.raises((ValueError, AttributeError, IndexError), match=r"trial|NoneType|index"):
                    read(damage.put(whole, path, other))


@pytest.mark.parametrize("field", [1, 2])
def test_an_unused_field_below_zero_is_no_program(field):
    code = np.zeros((1, 1, 4), np.int32)
    code[0, 0, field] = -1
    with pytest.raises(ValueError, match=r"setup, instruction 1: NO_OP has an address, .* that it does not use"):
        Programs(
            code, np.zeros((1, 1, 3), np.float32), np.array([[1, 0, 0]], np.int32), (1, 0, 0), MemorySize(2, 1, 0)
        ).check()


# ---------------------------------------------------------------------------------------------- states of users


@pytest.mark.parametrize(
    "search", [RegularizedEvolution(SMALL, 2, 10, 3, 5), RandomSearch(SMALL, 7), EfficientEvolution(SMALL, 1, 10, 3, 5)]
)
def test_every_bit_of_a_saved_state_counts(search, tmp_path):
    state, candidates = search.ask(search.init(0))
    fitness = np.linspace(0, 1, len(candidates))
    search.save(search.tell(state, candidates, Scores.of(fitness)), tmp_path / "state.npz")
    data = (tmp_path / "state.npz").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data), size=30):
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.integers(8)
        (tmp_path / "flipped.npz").write_bytes(flipped)
        with pytest.raises(ValueError, match=r"flipped.npz is not a saved search: its digest"):
            search.load(tmp_path / "flipped.npz")


def test_saved_states_of_other_versions_and_other_things_are_refused(tmp_path):
    path, search = tmp_path / "state.npz", searching()
    tree = encode(evolved(search, 3))
    for stored, message in [
        ({"schema": 5, "state": tree}, "its schema is 5; this version reads 8"),
        ({"schema": None, "state": tree}, "its schema is None"),
        ({"state": tree}, "it lacks schema"),
        ({"schema": 8}, "it lacks state"),
        ([1], "it is a list of 1, not a dict"),
        ({"schema": 8, "state": tree | {"oldest": None}}, "state.oldest is None"),
    ]:
        path.write_bytes(packed(stored))
        with pytest.raises(ValueError, match=f"state.npz is not a saved search: {message}"):
            search.load(path)


def test_a_search_refuses_the_state_of_another():
    state = evolved(searching(2, 20), 3)
    for other, message in [
        (RegularizedEvolution(DEMO, 3, 20, 3, 10), r"islands and programs of each \(2, 20\), not \(3, 20\)"),
        (RegularizedEvolution(SMALL, 2, 20, 3, 10), r"programs of capacity \(10, 2, 8\), not \(5, 2, 6\)"),
        (RegularizedEvolution(dataclasses.replace(DEMO, memory=MemorySize(4, 4, 1)), 2, 20, 3, 10),
         r"programs of memory \(4, 3, 1\), not \(4, 4, 1\)"),
        (EfficientEvolution(DEMO, 2, 20, 3, 10), "it is of type EvolutionState, not EfficientState"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            other.ask(state)
        with pytest.raises(ValueError, match=message):
            other.check(state)
    searching(2, 20).check(state)
    assert scores(state.programs).shape == (40,)


def test_halls_of_another_space_are_refused():
    tree = unpacked(packed(damage.searching("evolution").tree()))["halls"][0]
    assert decode(Entries, tree, "hall", like=DEMO)
    with pytest.raises(ValueError, match=r"hall.lines.programs.capacity is \[10, 2, 8\], not \[8, 10, 12\]"):
        decode(Entries, tree, "hall", like=ALL_OPS)


def test_a_search_that_ends_with_cohorts_under_way_can_be_read_back():
    trial = damage.searching("groups")
    trial._settling = False
    while trial.settled:
        trial.evaluate_cohort()
    again = damage.restored("groups", unpacked(packed(trial.tree())))
    for _ in range(4):
        again.evaluate_cohort()
    again.settle()
    assert sorted(again.tree()["idle"]) == [0, 1]
    assert min(state.evaluations for state in again.states) > 24
