"""What an evaluator remembers: fitness by hash, in a set-associative table."""

from typing import Any, NamedTuple

import numpy as np

from zero_jax.support.checked import Fields
from zero_jax.support.compiled import entry_point

WAYS = 4
"""A hash leads to so many entries; where all are taken, the one that was asked for least recently goes."""


class Cache(NamedTuple):
    """Entries, in sets of `WAYS`.

    Attributes:
      hashes: uint64 `[sets, ways, 2]`.
      used: int64 `[sets, ways]`, the batch that last asked for an entry, -1 for an empty one.
      run: int64 `[sets, ways]`, the place of an entry's program among those that its batch trains; -1 once its results
        are here.
      owner: int64 `[sets, ways]`, that batch.
      uses: int64 `[sets, ways]`, how often an entry was asked for, its making included.
      steps: int64 `[sets * ways]`, the train steps of an entry's program.
      fitness: float32 `[sets * ways, T]`.
    """

    hashes: np.ndarray
    used: np.ndarray
    run: np.ndarray
    owner: np.ndarray
    uses: np.ndarray
    steps: np.ndarray
    fitness: np.ndarray


def empty(remember: int, n_tasks: int) -> Cache:
    """An empty one, of a power of two sets."""
    sets = 1 << max(0, -(-remember // WAYS) - 1).bit_length() if remember else 0
    return Cache(
        np.zeros((sets, WAYS, 2), np.uint64),
        np.full((sets, WAYS), -1, np.int64),
        np.zeros((sets, WAYS), np.int64),
        np.zeros((sets, WAYS), np.int64),
        np.zeros((sets, WAYS), np.int64),
        np.zeros(sets * WAYS, np.int64),
        np.zeros((sets * WAYS, n_tasks), np.float32),
    )


def restored(tree: Any, like: Cache, batch: int, where: str) -> Cache:
    """A cache from what `_asdict` told of one.

    Args:
      tree: what it told.
      like: one of the shape that it must have.
      batch: the last that has asked for anything.
      where: what errors call it.

    Raises:
      ValueError: what is not a cache of that shape, or none that the loops below could have left.
    """
    told = Fields(tree, where, Cache._fields)
    ranges: dict[str, dict[str, Any]] = {
        "used": {"least": -1, "most": batch},
        "run": {"least": -1},
        "owner": {"least": 0, "most": batch},
        "uses": {"least": 0},
        "steps": {"least": 0},
        "fitness": {"finite": True},
    }
    shapes = like._asdict().items()
    found = Cache(*(told.array(name, each.dtype, each.shape, **ranges.get(name, {})) for name, each in shapes))
    sets = len(found.used)
    elsewhere = (found.hashes[..., 0] & np.uint64(max(sets - 1, 0))) != np.arange(sets, dtype=np.uint64)[:, None]
    if (elsewhere & (found.used >= 0)).any():
        raise ValueError(f"{told.where('hashes')} has some in sets where they would not be looked for")
    return found


@entry_point
def look_up(hashes, cache, batch, forget, fitness, run_of, entry_of, first):  # type: ignore[no-untyped-def]
    """Copies what is known, and numbers what must be trained; returns how many those are and these, and the train steps
    of what is known. An entry is dropped once it was asked for `forget` times (0 for never).

    `run_of` `[P]`: a program's number among them, -1 if it is known; `first` and `entry_of`: by that number, the first
    such program and its entry. What another batch is still training is trained here too.
    """
    runs, known, saved, sets = 0, 0, 0, len(cache.used)
    for p in range(len(hashes)):
        low, high = hashes[p, 0], hashes[p, 1]
        s = np.int64(low & np.uint64(max(sets - 1, 0)))
        found, oldest = -1, 0
        for w in range(cache.used.shape[1] if sets > 0 else 0):
            if cache.used[s, w] >= 0 and cache.hashes[s, w, 0] == low and cache.hashes[s, w, 1] == high:
                found = w
            if cache.used[s, w] < cache.used[s, oldest]:
                oldest = w
        elsewhere = found >= 0 and cache.run[s, found] >= 0 and cache.owner[s, found] != batch
        if elsewhere:
            oldest = found  # taken over
        if found >= 0 and not elsewhere:
            cache.used[s, found] = batch
            run_of[p] = cache.run[s, found]
            if run_of[p] < 0:
                known += 1
                entry = s * cache.used.shape[1] + found
                saved += cache.steps[entry]
                for t in range(fitness.shape[1]):
                    fitness[p, t] = cache.fitness[entry, t]
            cache.uses[s, found] += 1
            if cache.uses[s, found] == forget:
                cache.used[s, found], cache.run[s, found] = -1, -1
            continue
        run_of[p], first[runs] = runs, p
        if sets > 0:
            cache.hashes[s, oldest, 0], cache.hashes[s, oldest, 1] = low, high
            cache.used[s, oldest], cache.run[s, oldest], cache.owner[s, oldest] = batch, runs, batch
            cache.uses[s, oldest] = 1
            entry_of[runs] = s * cache.used.shape[1] + oldest
        runs += 1
    return runs, known, saved


@entry_point
def keep(hashes, cache, trained, trained_steps, run_of, entry_of, first, fitness, steps):  # type: ignore[no-untyped-def]
    """Hands the results out, and remembers those whose entries nobody has taken since; returns the train steps that
    repeated programs would have made.
    """
    saved = 0
    for p in range(len(hashes)):
        run = run_of[p]
        if run >= 0:
            repeated = first[run] != p
            for t in range(fitness.shape[1]):
                fitness[p, t] = trained[run, t]
                if repeated:
                    saved += trained_steps[run, t]
                else:
                    steps[p, t] = trained_steps[run, t]
    for run in range(len(trained)):
        entry = entry_of[run]
        if entry >= 0:
            s, w = entry // cache.used.shape[1], entry % cache.used.shape[1]
            low, high = hashes[first[run], 0], hashes[first[run], 1]
            if cache.run[s, w] >= 0 and cache.hashes[s, w, 0] == low and cache.hashes[s, w, 1] == high:
                cache.run[s, w] = -1
                seen = 0
                for t in range(fitness.shape[1]):
                    cache.fitness[entry, t] = trained[run, t]
                    seen += trained_steps[run, t]
                cache.steps[entry] = seen
    return saved
