"""A cache of fitness by hash: a set-associative table, looked up and filled by compiled loops.

Axes: `n` programs of a batch, `T` tasks; `S` sets of `W` entries.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np

from zero_jax.evaluation.base import Batch, Steps
from zero_jax.support.codec import Array
from zero_jax.support.compiled import entry_point

CACHE_SIZE = 2**15
"""How many programs a stage remembers by default."""

WAYS = 4
"""The entries of a set. When all are taken, the one that was used least recently is replaced."""


class Cache(NamedTuple):
    """Entries in sets; a hash belongs to one set.

    Attributes:
      hashes: uint64 `[S, W, 2]`.
      used: int64 `[S, W]`, the batch that last asked for an entry, -1 for an empty one.
      run: int64 `[S, W]`, the place of an entry's program among those that its batch trains; -1 once its results
        are here.
      owner: int64 `[S, W]`, that batch.
      uses: int64 `[S, W]`, how often an entry was used, its creation included.
      steps: int64 `[S * W]`, the train steps of an entry's program.
      fitness: float32 `[S * W, T]`.
    """

    hashes: Annotated[np.ndarray, Array(np.uint64, ("S", "W", 2))]
    used: Annotated[np.ndarray, Array(np.int64, ("S", "W"), least=-1)]
    run: Annotated[np.ndarray, Array(np.int64, ("S", "W"), least=-1)]
    owner: Annotated[np.ndarray, Array(np.int64, ("S", "W"), least=0)]
    uses: Annotated[np.ndarray, Array(np.int64, ("S", "W"), least=0)]
    steps: Annotated[np.ndarray, Array(np.int64, ("S*W",), least=0)]
    fitness: Annotated[np.ndarray, Array(np.float32, ("S*W", "T"))]


def empty(size: int, tasks: int) -> Cache:
    """An empty cache for at least `size` programs, with a power of two of sets."""
    sets = 1 << max(0, -(-size // WAYS) - 1).bit_length() if size else 0
    return Cache(
        np.zeros((sets, WAYS, 2), np.uint64),
        np.full((sets, WAYS), -1, np.int64),
        np.zeros((sets, WAYS), np.int64),
        np.zeros((sets, WAYS), np.int64),
        np.zeros((sets, WAYS), np.int64),
        np.zeros(sets * WAYS, np.int64),
        np.zeros((sets * WAYS, tasks), np.float32),
    )


def check(memory: Cache, like: Cache, calls: int, where: str) -> None:
    """Refuses a cache from a file that the loops below could not have left after `calls` calls.

    Raises:
      ValueError: another shape than `like` has, batches that there were not, a hash where it would not be looked for.
    """
    for name, array, expected in zip(Cache._fields, memory, like, strict=True):
        if array.shape != expected.shape:
            raise ValueError(f"{where}.{name} has shape {array.shape}, not {expected.shape}")
    for name in ("used", "owner"):
        if getattr(memory, name).max(initial=0) > calls:
            raise ValueError(f"{where}.{name} has {getattr(memory, name).max()}, more than {calls}")
    sets = len(memory.used)
    elsewhere = (memory.hashes[..., 0] & np.uint64(max(sets - 1, 0))) != np.arange(sets, dtype=np.uint64)[:, None]
    if (elsewhere & (memory.used >= 0)).any():
        raise ValueError(f"{where}.hashes has some in sets where they would not be looked for")


def looked_up(
    memory: Cache,
    hashes: np.ndarray,
    batch: Batch,
    following: Callable[[Batch], Steps],
    *,
    known: int,
    repeated: int,
    forget: int = 0,
) -> Steps:
    """Results by hashes `[n, 2]` of a batch: remembered ones, or those of `following`, which gets each new hash once.

    Args:
      memory: the cache, which changes.
      hashes: by which programs are known.
      batch: the programs.
      following: evaluates the new ones.
      known: the fate of those that an earlier batch had.
      repeated: the fate of those that an earlier row of this batch has.
      forget: an entry is dropped after this many uses; 0 for never.
    """
    n, results = len(batch), batch.results(known)
    run_of, entry_of, first = np.full((3, n), -1, np.int64)
    runs, _, saved = look_up(hashes, memory, batch.number, forget, results.fitness, run_of, entry_of, first)
    results.saved[known] += saved
    if runs:
        new = yield from following(batch[first[:runs]])
        trained = new.fitness, new.train_steps
        saved = keep(hashes, memory, *trained, run_of, entry_of, first, results.fitness, results.train_steps)
        rows = np.flatnonzero(run_of >= 0)
        runs_of_rows = run_of[rows]
        results.fates[rows] = np.where(first[runs_of_rows] == rows, new.fates[runs_of_rows], repeated)
        results.saved[repeated] += saved
        results.saved[:] += new.saved
    return results


@entry_point
def look_up(hashes, cache, batch, forget, fitness, run_of, entry_of, first):  # type: ignore[no-untyped-def]
    """Copies known fitness, and numbers the programs that must be trained. Returns how many must be trained, how many
    are known, and the train steps of the known ones. An entry is dropped once it was used `forget` times (0 for never).

    `run_of` `[n]`: a program's number among those to train, -1 if it is known; `first` and `entry_of`: by that number,
    the first such program and its entry. A program that another batch is still training is trained here too.
    """
    runs, known, saved, sets = 0, 0, 0, len(cache.used)
    for p in range(len(hashes)):
        low, high = hashes[p, 0], hashes[p, 1]
        s = np.int64(low & np.uint64(max(sets - 1, 0)))
        hit, oldest = -1, 0
        for w in range(cache.used.shape[1] if sets > 0 else 0):
            if cache.used[s, w] >= 0 and cache.hashes[s, w, 0] == low and cache.hashes[s, w, 1] == high:
                hit = w
            if cache.used[s, w] < cache.used[s, oldest]:
                oldest = w
        elsewhere = hit >= 0 and cache.run[s, hit] >= 0 and cache.owner[s, hit] != batch
        if elsewhere:
            oldest = hit  # taken over
        if hit >= 0 and not elsewhere:
            cache.used[s, hit] = batch
            run_of[p] = cache.run[s, hit]
            if run_of[p] < 0:
                known += 1
                entry = s * cache.used.shape[1] + hit
                saved += cache.steps[entry]
                for t in range(fitness.shape[1]):
                    fitness[p, t] = cache.fitness[entry, t]
            cache.uses[s, hit] += 1
            if cache.uses[s, hit] == forget:
                cache.used[s, hit], cache.run[s, hit] = -1, -1
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
    """Copies the results to all programs, and remembers those whose entries have not been replaced since. Returns the
    train steps that repeated programs would have made.
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
