"""The hall of fame: what it keeps of a stream of programs."""

import dataclasses

import numpy as np
import pytest

from tests.spaces import ALL_OPS
from zero_jax import Programs, library, random_programs
from zero_jax.evaluation.cost import UPSTREAM, cost
from zero_jax.program.canonical import canonical
from zero_jax.program.programs import concatenate
from zero_jax.run.hall import Entries, Entry, HallOfFame, hall_fields, lineage_fields, merged
from zero_jax.search.operators.lineage import Ancestor
from zero_jax.support.codec import decode, encode
from zero_jax.support.files import packed, unpacked

EXAMPLES = 100


def programs_of_many_costs():
    """60 programs in canonical form; of each cost there are several, and some programs stand twice."""
    drawn = canonical(random_programs(ALL_OPS, 300, np.random.default_rng(0))).programs
    drawn = drawn[drawn.length.sum(1) > 0]
    order = np.argsort(cost(drawn, EXAMPLES), kind="stable")
    some = drawn[order[np.linspace(0, len(order) - 1, 25).astype(int)]]
    twins = some.with_arrays(some.code, some.data + np.float32(1), some.length)
    return concatenate([some, twins, some[np.arange(10)]])


PROGRAMS = programs_of_many_costs()
COSTS = cost(PROGRAMS, EXAMPLES) / cost(library.program("network"), EXAMPLES)[0]
RANK = np.argsort(np.argsort(COSTS)) / len(COSTS)


def stream(seed, cohorts=30, levels=12):
    """What a search offers: rows of programs and their fitness, of which many are equal, 0 among them."""
    rng = np.random.default_rng(seed)
    for n in range(1, cohorts + 1):
        which = rng.integers(0, len(PROGRAMS), rng.integers(0, 25))
        top = rng.integers(1, levels + 1)  # sometimes nothing that is any good
        yield which, np.ceil(rng.random(len(which)) * top * (0.2 + 0.8 * RANK[which]) - 0.2) / levels, 100 * n


def stored_and_read(entries):
    return decode(Entries, unpacked(packed(encode(entries, Entries))))


def kept(offered, size):
    """The oracle: of all `(fitness, cost, evaluations, row)`, in order, the fittest and the front."""
    offered = [one for one in offered if one[0] > 0]
    levels = sorted({one[0] for one in offered}, reverse=True)[:size]
    best = [min((one for one in offered if one[0] == level), key=lambda one: one[1]) for level in levels]  # the first
    firsts = {one[:2]: one for one in reversed(offered)}.values()
    front = [
        one
        for one in firsts
        if not any(o[0] >= one[0] and o[1] <= one[1] and o[:2] != one[:2] for o in firsts)
    ]  # fmt: skip
    return sorted({*best, *front}, key=lambda one: (-one[0], one[1])), best, front


def summary(hall):
    rows = {PROGRAMS.code[i].tobytes() + PROGRAMS.data[i].tobytes(): i for i in reversed(range(len(PROGRAMS)))}
    return [(e.fitness, e.cost, e.evaluations, rows[e.program.code[0].tobytes() + e.program.data[0].tobytes()])
            for e in hall.entries()]  # fmt: skip


def offer(hall, which, fitness, evaluations, lines=None):
    hall.offer(PROGRAMS, fitness, COSTS[which], evaluations, lines, which)


def first_rows(offered):
    """Equal programs are one: the row of the first of them."""
    rows = {}
    for i in range(len(PROGRAMS)):
        rows.setdefault(PROGRAMS.code[i].tobytes() + PROGRAMS.data[i].tobytes(), i)
    return [(*one[:3], rows[PROGRAMS.code[one[3]].tobytes() + PROGRAMS.data[one[3]].tobytes()]) for one in offered]


@pytest.mark.parametrize("size", [1, 3, 20])
@pytest.mark.parametrize("levels", [6, 1000])
def test_it_keeps_the_fittest_and_the_front_of_all_that_it_was_offered(size, levels):
    for seed in range(12):
        hall, offered = HallOfFame(EXAMPLES, UPSTREAM, size), []
        for which, fitness, n in stream(seed, levels=levels):
            offer(hall, which, fitness, n)
            offered += [(f, COSTS[row], n, row) for f, row in zip(fitness.tolist(), which.tolist(), strict=True)]
            assert summary(hall) == first_rows(kept(offered, size)[0])
        assert len(kept(offered, size)[2]) > 2  # a front worth the name


def test_an_empty_one_has_nothing_and_takes_nothing_that_is_worth_nothing():
    hall = HallOfFame(EXAMPLES, UPSTREAM)
    offer(hall, np.zeros(0, np.int64), np.zeros(0), 1)
    offer(hall, np.arange(5), np.zeros(5), 1)
    assert hall.entries() == []
    hall.restore(stored_and_read([]))
    assert hall.entries() == []
    offer(hall, np.arange(5), np.full(5, 0.5), 1)
    assert len(hall.entries()) == 1
    assert merged([]) == []


def test_of_equally_fit_programs_the_cheapest_is_kept_and_of_equally_cheap_ones_the_first():
    cheap, costly = np.argmin(COSTS), np.argmax(COSTS)
    hall = HallOfFame(EXAMPLES, UPSTREAM, 5)
    offer(hall, np.array([costly, costly]), np.array([0.5, 0.5]), 1)
    offer(hall, np.array([costly]), np.array([0.5]), 2)
    assert [entry[:3] for entry in hall.entries()] == [(0.5, COSTS[costly], 1)]
    offer(hall, np.array([costly, cheap, cheap]), np.array([0.5, 0.5, 0.5]), 3)
    assert [entry[:3] for entry in hall.entries()] == [(0.5, COSTS[cheap], 3)]
    almost = np.nextafter(0.5, 0)
    offer(hall, np.array([costly]), np.array([almost]), 4)  # another fitness
    assert [entry[0] for entry in hall.entries()] == [0.5, almost]


def test_costs_are_multiples_of_the_network_on_as_many_examples():
    both = concatenate([library.program(name).resized((6, 9, 2), (3, 5, 11)) for name in ("linear", "network")])
    for table in (UPSTREAM, np.arange(65.0)):
        hall = HallOfFame(7, table)
        forms = canonical(both).programs[np.array([1, 0])]
        hall.offer(forms, np.array([0.9, 0.8]), hall.costs(forms), 2)
        network, linear = hall.entries()
        assert network.cost == 1
        assert (
            linear.cost == cost(library.program("linear"), 7, table)[0] / cost(library.program("network"), 7, table)[0]
        )


def test_what_it_keeps_does_not_change_with_the_arrays_it_was_offered():
    given = PROGRAMS.with_arrays(PROGRAMS.code.copy(), PROGRAMS.data.copy(), PROGRAMS.length.copy())
    hall = HallOfFame(EXAMPLES, UPSTREAM)
    hall.offer(given, np.linspace(0.1, 0.9, 20), COSTS[:20], 1)
    before = summary(hall)
    given.code[:] = 0
    given.data[:] = 0
    assert summary(hall) == before


def lines_of(rows):
    """An ancestor for each, and how long ago: they differ in the program's row."""
    ancestors = np.empty(len(rows), object)
    ancestors[:] = [Ancestor(row / 1000, row, 0, PROGRAMS, row, None) for row in rows.tolist()]
    return ancestors, rows + 1


@pytest.mark.parametrize("size", [1, 4, 20])
def test_written_down_and_read_back_it_goes_on_as_if_nothing_had_happened(size):
    for seed in range(8):
        one = HallOfFame(EXAMPLES, UPSTREAM, size)
        for n, (which, fitness, evaluations) in enumerate(stream(seed)):
            offer(one, which, fitness, evaluations, lines_of(which) if n % 3 else None)
            if n == 10:
                other = HallOfFame(EXAMPLES, UPSTREAM, size)
                other.restore(stored_and_read(one.entries()))
            if n > 10:
                offer(other, which, fitness, evaluations, lines_of(which) if n % 3 else None)
                np.testing.assert_equal(*(encode(hall.entries(), Entries) for hall in (one, other)))
        for a, b in zip(one.entries(), other.entries(), strict=True):
            assert (a.line is None) == (b.line is None)
            if a.line:
                assert (a.line.fitness, a.line.evaluations, a.births) == (b.line.fitness, b.line.evaluations, b.births)
                assert a.births == a.line.evaluations + 1  # it is its own line, no other's


def entry(fitness, cost, trial=1, select=None, evaluations=1):
    return Entry(fitness, cost, evaluations, PROGRAMS[0], None, 0, trial, select)


def test_those_of_several_trials_become_one_and_whoever_was_judged_stays():
    first = [entry(0.9, 1.0), entry(0.5, 0.2), entry(0.3, 0.9, select=0.1)]
    second = [entry(0.9, 0.8, 2), entry(0.4, 0.2, 2), entry(0.5, 0.3, 2), entry(0.2, 0.1, 2)]
    rows = [(e.fitness, e.cost, e.trial, best, front) for e, best, front in merged([*first, *second], size=2)]
    assert rows == [
        (0.9, 0.8, 2, True, True),
        (0.5, 0.2, 1, True, True),
        (0.3, 0.9, 1, False, False),
        (0.2, 0.1, 2, False, True),
    ]


def test_of_those_judged_only_the_best_stay_however_many_trials_there_are():
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.arange(300) / 300).tolist()
    kept: list[Entry] = []
    for n, score in enumerate(scores):
        kept = [one for one, _, _ in merged([*kept, entry(0.5 - n / 1000, 0.5, n, score)], size=4)]
        assert len(kept) <= 8
    assert set(sorted(scores)[-4:]) <= {one.select_fitness for one in kept}


def test_of_equals_in_several_trials_the_first_stays():
    merged_entries = merged([entry(0.9, 1.0, 1), entry(0.9, 1.0, 2), entry(0.9, 1.0, 3)])
    assert [(e.trial, best, front) for e, best, front in merged_entries] == [(1, True, True)]


def test_merging_in_parts_gives_the_same_as_at_once():
    rng = np.random.default_rng(0)
    for _ in range(50):
        parts = [
            [
                entry(f / 9, c / 9, n, s / 9 if s < 5 else None)
                for f, c, s in rng.integers(1, 9, (rng.integers(0, 12), 3))
            ]
            for n in range(1, 5)
        ]
        whole = merged([one for part in parts for one in part], size=3)
        kept_so_far: list[Entry] = []
        for part in parts:
            kept_so_far = [one for one, _, _ in merged([*kept_so_far, *part], size=3)]
        assert [id(one) for one, _, _ in whole] == [id(one) for one in kept_so_far]


def test_the_files_say_what_the_entries_say():
    before = Ancestor(0.5, 20, 0, PROGRAMS, 3, None)
    line = Ancestor(0.6, 50, 4, PROGRAMS, 4, before)
    judged = Entry(0.7, 0.25, 90, PROGRAMS[5], line, 2, 3, 0.65)
    (row,) = hall_fields([(judged, True, False)])["rows"]
    assert {name: row[name] for name in ("trial", "evaluations", "search_fitness", "select_fitness", "cost")} == {
        "trial": 3, "evaluations": 90, "search_fitness": 0.7, "select_fitness": 0.65, "cost": 0.25,
    }  # fmt: skip
    assert (row["best"], row["pareto"]) == (True, False)
    assert row["instructions"] == PROGRAMS.length[5].sum()
    steps = lineage_fields(judged)["steps"]
    assert [(s["evaluations"], s["fitness"], s["births"]) for s in steps] == [(20, 0.5, 0), (50, 0.6, 4), (90, 0.7, 2)]
    for step, row in zip(steps, (3, 4, 5), strict=True):
        (lists,) = Programs.from_lists(step["program"]["programs"], ALL_OPS.memory, ALL_OPS.capacity).to_lists()
        assert lists == PROGRAMS[row].to_lists()[0]
    alone = dataclasses.replace(before, fitness=0.1)
    assert len(lineage_fields(entry(0.4, 1.0))["steps"]) == 1
    again = stored_and_read([judged, judged._replace(line=alone), entry(0.1, 2.0)])
    assert [(e.fitness, e.select_fitness, e.births, e.line and e.line.fitness) for e in again] == [
        (0.7, 0.65, 2, 0.6), (0.7, 0.65, 2, 0.1), (0.1, None, 0, None),
    ]  # fmt: skip
