"""`Evaluator`: what saves work around `evaluate`: a program is trained once, under whatever guise it comes.

Axes: `P` programs, `T` tasks.
"""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from zero_jax.canonical import canonical
from zero_jax.compiled import entry_point
from zero_jax.executors.evaluate import MAX_BYTES, check_threads, choose, evaluate
from zero_jax.programs import Programs
from zero_jax.tasks import Tasks

REMEMBERED = 2**15
"""How many programs an evaluator remembers."""

_WAYS = 4
"""A program's hash leads to so many entries; where all are taken, the one that was asked for least recently goes."""


class Counts(NamedTuple):
    """What became of the programs asked for.

    Attributes:
      considered: all of them: the sum of the next four.
      evaluated: those that were trained.
      repeated: those equal to an earlier one of their batch.
      known: those remembered from an earlier batch.
      alike: those that a probe found to do what an earlier one does.
      empty: those of all the above that never write a prediction: without dead code nothing is left of them, so they
        are equal, and only the first is trained.
      train_steps: training examples that the trained ones saw, probes not counted.
    """

    considered: int = 0
    evaluated: int = 0
    repeated: int = 0
    known: int = 0
    alike: int = 0
    empty: int = 0
    train_steps: int = 0


class Evaluated(NamedTuple):
    """Fitness `[P, T]` float32, and train_steps `[P, T]` int32: those spent now, 0 for a fitness that was known."""

    fitness: np.ndarray
    train_steps: np.ndarray


class Evaluator:
    """Evaluates programs on one set of tasks, each canonical form once.

    Programs of one canonical form (`zero_jax.canonical`) have the same fitness bit for bit, so results do not depend on
    what is remembered, but for `probe`.

    Args:
      tasks: the tasks.
      seed, executor, ops, max_abs_error, max_bytes, threads: as in `evaluate`.
      remember: how many programs to remember, rounded up to a power of two; 0 remembers nothing.
      probe: with `simd`, programs that are new are first trained on so many examples, and validated on as many, and one
        whose errors are those of an earlier program, to the bit, is taken to have its fitness: the functional
        equivalence cache (SPEC 4; section 4 of the paper's supplement). 0 for none.

    Attributes:
      counts: `Counts` of all calls so far.

    Raises:
      ValueError: as `evaluate`, and `remember` or `probe` that is no whole number from 0 on.

    Example:
      >>> from zero_jax import library
      >>> from zero_jax.tasks import synthetic
      >>> evaluator = Evaluator(synthetic.linear(2, train=10))
      >>> program = library.program("linear")
      >>> evaluator(program).fitness.shape, evaluator(program).fitness.shape
      ((1, 2), (1, 2))
      >>> evaluator.counts.evaluated, evaluator.counts.known
      (1, 1)
    """

    def __init__(
        self,
        tasks: Tasks,
        seed: int = 0,
        *,
        executor: str = "auto",
        ops: Any = None,
        max_abs_error: float = 100.0,
        max_bytes: int = MAX_BYTES,
        threads: int | None = None,
        remember: int = REMEMBERED,
        probe: int = 0,
    ) -> None:
        _check_counts(remember, probe)
        check_threads(threads)
        self.tasks = tasks
        self.seed = seed
        self.executor = executor
        self.options: dict[str, Any] = {"max_abs_error": max_abs_error, "threads": threads}
        self.ops = ops
        self.max_bytes = max_bytes
        self.counts = Counts()
        self._forms = _cache(remember, len(tasks))
        self._fingerprints = _cache(remember if probe else 0, len(tasks))
        self._probe = probe
        self._batch = 0
        self._lanes: Any = None
        self._probe_lanes: Any = None
        self._on_device: Any = None

    def __call__(self, programs: Programs) -> Evaluated:
        """The fitness of `P` programs."""
        self._batch += 1
        form = canonical(programs, self.options["threads"])
        simd = choose(self.executor, programs.memory, self.tasks, self.max_bytes) == "simd"
        alike = evaluated = spent = 0

        def train(rows: np.ndarray) -> Evaluated:
            nonlocal evaluated, spent
            told = self._train(form.programs, rows, simd)
            evaluated, spent = evaluated + len(rows), spent + int(told.train_steps.sum(dtype=np.int64))
            return told

        def compare(rows: np.ndarray) -> Evaluated:
            nonlocal alike
            prints = self._fingerprint(form.programs, rows)
            told, runs, _ = self._remembered(self._fingerprints, prints, lambda some: train(rows[some]))
            alike += len(rows) - runs
            return told

        result, runs, known = self._remembered(self._forms, form.hashes, compare if simd and self._probe else train)
        n, empty = len(programs), int((form.programs.length.sum(1) == 0).sum())
        new = (n, evaluated, n - runs - known, known, alike, empty, spent)
        self.counts = Counts(*(a + b for a, b in zip(self.counts, new, strict=True)))
        return result

    def _remembered(
        self, cache: "_Cache", hashes: np.ndarray, train: Callable[[np.ndarray], Evaluated]
    ) -> tuple[Evaluated, int, int]:
        """Results for hashes, remembered or from `train`, which takes the rows that are new, each hash once; how many
        rows those were, and how many were remembered from earlier batches.
        """
        n, n_tasks = len(hashes), len(self.tasks)
        fitness, steps = np.zeros((n, n_tasks), np.float32), np.zeros((n, n_tasks), np.int32)
        run_of, entry_of, first = np.full((3, n), -1, np.int64)
        runs, known = _look_up(hashes, cache, self._batch, fitness, run_of, entry_of, first)
        if runs:
            trained = train(first[:runs])
            _keep(hashes, cache, *trained, run_of, entry_of, first, fitness, steps)
        return Evaluated(fitness, steps), runs, known

    def _fingerprint(self, programs: Programs, rows: np.ndarray) -> np.ndarray:
        """`[R, 2]` uint64: hashes of all errors of a short training of some programs."""
        from zero_jax.executors import simd  # only where there is Numba

        if self._probe_lanes is None:
            self._probe_lanes = simd.lay_out(self.tasks.shortened(self._probe, self._probe))
        found = simd.evaluate(
            programs, self._probe_lanes, self.seed, rows=rows, **self.options, fuse=False, fingerprints=True
        ).fingerprints
        assert found is not None
        factors = np.uint64(0x9E3779B97F4A7C15) ** np.arange(found.shape[1], dtype=np.uint64)
        return (found * factors[:, None]).sum(1, dtype=np.uint64)

    def _train(self, programs: Programs, rows: np.ndarray, simd: bool) -> Evaluated:
        if simd:
            from zero_jax.executors import simd as lanes  # only where there is Numba

            if self._lanes is None:
                self._lanes = lanes.lay_out(self.tasks)
            result = lanes.evaluate(programs, self._lanes, self.seed, rows=rows, **self.options)
            return Evaluated(result.fitness, result.train_steps)
        if self._on_device is None:
            self._on_device = jax.device_put(self.tasks)
        told = evaluate(
            programs[rows],
            self._on_device,
            self.seed,
            executor="xla",
            ops=self.ops,
            max_bytes=self.max_bytes,
            **self.options,
        )
        return Evaluated(np.asarray(told.fitness), np.asarray(told.train_steps))


def _check_counts(remember: int, probe: int) -> None:
    for name, value in (("remember", remember), ("probe", probe)):
        if not isinstance(value, numbers.Integral) or value < 0:
            raise ValueError(f"{name} must be a whole number from 0 on, not {value!r}")


# ---------------------------------------------------------------------------------------------- what is remembered


class _Cache(NamedTuple):
    """Entries, in sets of `_WAYS`.

    Attributes:
      hashes: uint64 `[sets, ways, 2]`.
      used: int64 `[sets, ways]`, the batch that last asked for an entry, -1 for an empty one.
      run: int64 `[sets, ways]`, the place of an entry's program among those that the current batch trains; -1 once its
        results are here.
      fitness: float32 `[sets * ways, T]`.
    """

    hashes: np.ndarray
    used: np.ndarray
    run: np.ndarray
    fitness: np.ndarray


def _cache(remember: int, n_tasks: int) -> _Cache:
    """An empty one, of a power of two sets."""
    sets = 1 << max(0, -(-remember // _WAYS) - 1).bit_length() if remember else 0
    return _Cache(
        np.zeros((sets, _WAYS, 2), np.uint64),
        np.full((sets, _WAYS), -1, np.int64),
        np.zeros((sets, _WAYS), np.int64),
        np.zeros((sets * _WAYS, n_tasks), np.float32),
    )


@entry_point
def _look_up(hashes, cache, batch, fitness, run_of, entry_of, first):
    """Copies what is known, and numbers what must be trained; returns how many those are and these.

    `run_of` `[P]`: a program's number among them, -1 if it is known; `first` and `entry_of`: by that number, the first
    such program and its entry.
    """
    runs, known, sets = 0, 0, len(cache.used)
    for p in range(len(hashes)):
        low, high = hashes[p, 0], hashes[p, 1]
        s = np.int64(low & np.uint64(max(sets - 1, 0)))
        found, oldest = -1, 0
        for w in range(cache.used.shape[1] if sets > 0 else 0):
            if cache.used[s, w] >= 0 and cache.hashes[s, w, 0] == low and cache.hashes[s, w, 1] == high:
                found = w
            if cache.used[s, w] < cache.used[s, oldest]:
                oldest = w
        if found >= 0:
            cache.used[s, found] = batch
            run_of[p] = cache.run[s, found]
            if run_of[p] < 0:
                known += 1
                entry = s * cache.used.shape[1] + found
                for t in range(fitness.shape[1]):
                    fitness[p, t] = cache.fitness[entry, t]
            continue
        run_of[p], first[runs] = runs, p
        if sets > 0:
            cache.hashes[s, oldest, 0], cache.hashes[s, oldest, 1] = low, high
            cache.used[s, oldest], cache.run[s, oldest] = batch, runs
            entry_of[runs] = s * cache.used.shape[1] + oldest
        runs += 1
    return runs, known


@entry_point
def _keep(hashes, cache, trained, trained_steps, run_of, entry_of, first, fitness, steps):
    """Hands the results out, and remembers those whose entries nobody has taken since."""
    for p in range(len(hashes)):
        run = run_of[p]
        if run >= 0:
            for t in range(fitness.shape[1]):
                fitness[p, t] = trained[run, t]
                if first[run] == p:
                    steps[p, t] = trained_steps[run, t]
    for run in range(len(trained)):
        entry = entry_of[run]
        if entry >= 0:
            s, w = entry // cache.used.shape[1], entry % cache.used.shape[1]
            if cache.run[s, w] == run and cache.hashes[s, w, 0] == hashes[first[run], 0]:
                cache.run[s, w] = -1
                for t in range(fitness.shape[1]):
                    cache.fitness[entry, t] = trained[run, t]
