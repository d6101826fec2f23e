"""Islands that exchange programs."""

import numpy as np
import pytest

from tests.helpers import QUICK
from tests.spaces import DEMO
from zero_jax import RegularizedEvolution, Scores
from zero_jax.run.api import run
from zero_jax.search import migrate


def states(islands, size, count=1):
    search = RegularizedEvolution(DEMO, islands=islands, population=size, tournament=2, cohort=1)
    for s in range(count):
        state, candidates = search.ask(search.init(s))
        yield search.tell(state, candidates, Scores.of(np.arange(islands * size) + 1000.0 * s))


def owner(fitness, size):
    """Which program it was, and of which island: the fitness tells."""
    return np.floor_divide(fitness, size)


def test_half_of_a_sample_gives_way_to_what_all_islands_offer():
    before = list(states(3, 250, 2))
    after = migrate(before, np.random.default_rng(0))
    old, new = (np.concatenate([state.fitness for state in some]) for some in (before, after))
    changed = old != new
    assert (changed.sum(1) <= 50).all()
    assert (changed.sum(1) >= 45).all()  # some take what they had
    offered = {value for row in new[changed].reshape(-1).tolist() for value in [row]}
    assert offered <= set(old.reshape(-1).tolist())
    assert len(offered) > 100
    foreign = owner(new, 250) != owner(old, 250)
    assert (foreign.sum(1) > 20).all()
    for was, now in zip(before, after, strict=True):  # programs travel with their fitness
        everything = {
            f: bytes(p.code)
            for f, p in ((f, s.programs[i]) for s in before for i, f in enumerate(s.fitness.reshape(-1)))
        }
        for i, f in enumerate(now.fitness.reshape(-1)):
            assert bytes(now.programs[i].code) == everything[f]
        assert (now.evaluations, now.best_fitness, now.oldest) == (was.evaluations, was.best_fitness, was.oldest)


@pytest.mark.parametrize(("islands", "size"), [(1, 5), (2, 1), (3, 2)])
def test_small_islands_exchange_what_they_can(islands, size):
    (before,) = states(islands, size)
    (after,) = migrate([before], np.random.default_rng(0))
    assert set(after.fitness.reshape(-1)) <= set(before.fitness.reshape(-1))
    assert after.fitness.shape == (islands, size)
    np.testing.assert_array_equal(before.fitness.reshape(-1), np.arange(islands * size))  # not changed in place


def test_a_run_with_migration_finds_something_else_and_the_same_again(tmp_path):
    how = {"parallel_trials": 1, "trials": 1, "islands": 4, "sufficient_fitness": 2.0, "out": str(tmp_path)}
    quick = QUICK.replace(**how)
    plain, first, second = (run(quick.replace(migrate_every=n)) for n in (0, 60, 60))
    records = [(o.folder / "records.jsonl").read_text().count("\n") for o in (plain, first, second)]
    assert records[1] == records[2]
    assert first.program.listing(0) == second.program.listing(0)
    assert first.progress.quantiles == second.progress.quantiles != plain.progress.quantiles
    threads = run(quick.replace(migrate_every=60, threads=1))
    assert threads.progress.quantiles == first.progress.quantiles


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="random search has no islands"):
        QUICK.replace(method="random", migrate_every=5)
    with pytest.raises(ValueError, match="migrate_every must be at least 0"):
        QUICK.replace(migrate_every=-1)
