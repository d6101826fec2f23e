"""`Evaluator`: what saves work around `evaluate`: a program is trained once, under whatever guise it comes.

Axes: `P` programs, `T` tasks.
"""

import numbers
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from zero_jax import parallel
from zero_jax.canonical import canonical
from zero_jax.compiled import entry_point
from zero_jax.executors import batches
from zero_jax.executors.batches import MAX_BYTES
from zero_jax.executors.choice import choose
from zero_jax.executors.evaluate import check_threads, launch
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


Steps = Generator[None, None, "Evaluated"]
"""What yields whenever a device has been given work, so that the host can do something else, and returns the result."""


class Evaluator:
    """Evaluates programs on one set of tasks, each canonical form once.

    Programs of one canonical form (`zero_jax.canonical`) have the same fitness bit for bit, so results do not depend on
    what is remembered, but for `probe`.

    Args:
      tasks: the tasks.
      seed, executor, ops, max_abs_error, max_bytes, threads: as in `evaluate`.
      remember: how many programs to remember, rounded up to a power of two; 0 remembers nothing.
      probe: with `simd` and `pallas`, programs that are new are first trained on so many examples, and validated on as
        many, and one whose errors are those of an earlier program, to the bit, is taken to have its fitness: the
        functional equivalence cache (SPEC 4; section 4 of the paper's supplement). 0 for none.
      devices: as in `evaluate`, but by default all GPUs or TPUs there are.
      interpret: as in `evaluate`.
      background: whether `simd` works on a thread of its own while the caller goes on, as a GPU does.

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
        devices: Sequence[jax.Device] | None = None,
        interpret: bool = False,
        background: bool = False,
    ) -> None:
        _check_counts(remember, probe)
        check_threads(threads)
        self.devices = batches.first_devices(0) if devices is None else batches.chosen_devices(devices)
        # Threads do not see the caller's `with jax.default_device(...)`.
        self._home = self.devices or (batches.default_device(),)
        self.interpret = interpret
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="zero-jax evaluator") if background else None
        if self._worker is not None:
            weakref.finalize(self, self._worker.shutdown, wait=False)
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
        self._laid_out: dict[tuple[str, bool], Any] = {}

    def __call__(self, programs: Programs) -> Evaluated:
        """The fitness of `P` programs."""
        steps = self.steps(programs)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def steps(self, programs: Programs) -> Steps:
        """The same, step by step. Several may be under way; what is remembered then depends on the order of their
        steps, as does what `probe` finds alike, and nothing else.
        """
        self._batch += 1
        batch = self._batch
        form = canonical(programs, self.options["threads"])
        with batches.at_home(self._home):
            chosen = choose(self.executor, programs.memory, self.tasks, self.max_bytes, interpret=self.interpret)
        alike = evaluated = spent = 0

        def train(rows: np.ndarray) -> Steps:
            nonlocal evaluated, spent
            waiting = self._launch(chosen, form.programs, rows)
            yield
            told = Evaluated(*waiting())
            evaluated, spent = evaluated + len(rows), spent + int(told.train_steps.sum(dtype=np.int64))
            return told

        def compare(rows: np.ndarray) -> Steps:
            nonlocal alike
            waiting = self._launch(chosen, form.programs, rows, fingerprints=True)
            yield
            (prints,) = waiting()
            steps = self._remembered(self._fingerprints, prints, batch, lambda some: train(rows[some]))
            told, runs, _ = yield from steps
            alike += len(rows) - runs
            return told

        probes = self._probe and chosen != "xla"
        result, runs, known = yield from self._remembered(self._forms, form.hashes, batch, compare if probes else train)
        n, empty = len(programs), int((form.programs.length.sum(1) == 0).sum())
        new = (n, evaluated, n - runs - known, known, alike, empty, spent)
        self.counts = Counts(*(a + b for a, b in zip(self.counts, new, strict=True)))
        return result

    def tree(self) -> dict[str, Any]:
        """All that later calls depend on, as `zero_jax.files.packed` takes it; while nothing is under way."""
        return {
            "counts": list(self.counts),
            "batch": self._batch,
            "forms": self._forms._asdict(),
            "fingerprints": self._fingerprints._asdict(),
        }

    def restore(self, tree: dict[str, Any]) -> None:
        """Goes on from what `tree` told of an evaluator with the same arguments."""
        self.counts = Counts(*tree["counts"])
        self._batch = tree["batch"]
        self._forms, self._fingerprints = (_Cache(**tree[name]) for name in ("forms", "fingerprints"))

    def _remembered(
        self, cache: "_Cache", hashes: np.ndarray, batch: int, train: Callable[[np.ndarray], Steps]
    ) -> Generator[None, None, tuple[Evaluated, int, int]]:
        """Results for hashes, remembered or from `train`, which takes the rows that are new, each hash once; how many
        rows those were, and how many were remembered from earlier batches.
        """
        n, n_tasks = len(hashes), len(self.tasks)
        fitness, steps = np.zeros((n, n_tasks), np.float32), np.zeros((n, n_tasks), np.int32)
        run_of, entry_of, first = np.full((3, n), -1, np.int64)
        runs, known = _look_up(hashes, cache, batch, fitness, run_of, entry_of, first)
        if runs:
            trained = yield from train(first[:runs])
            _keep(hashes, cache, *trained, run_of, entry_of, first, fitness, steps)
        return Evaluated(fitness, steps), runs, known

    def _launch(
        self, chosen: str, programs: Programs, rows: np.ndarray, fingerprints: bool = False
    ) -> Callable[[], tuple[np.ndarray, ...]]:
        """Begins to train the programs of some rows, or to make `[R, 2]` uint64 hashes of all errors of a short
        training; returns what waits for the result.
        """
        if chosen == "simd":
            return self._launch_on_lanes(programs, rows, fingerprints)
        with batches.at_home(self._home):
            waiting = launch(
                programs[rows],
                self._prepared(chosen, fingerprints, lambda tasks: batches.placed(tasks, self.devices)),
                self.seed,
                executor=chosen,
                ops=self.ops,
                max_bytes=self.max_bytes,
                devices=self.devices,
                interpret=self.interpret,
                canonical_form=True,
                fingerprints=fingerprints,
                **self.options,
            )
        if fingerprints:
            return lambda: (np.ascontiguousarray(waiting()[0]).view(np.uint64),)
        return waiting

    def _launch_on_lanes(
        self, programs: Programs, rows: np.ndarray, fingerprints: bool
    ) -> Callable[[], tuple[np.ndarray, ...]]:
        from zero_jax.executors import simd  # only where there is Numba

        lanes = self._prepared("simd", fingerprints, simd.lay_out)

        def work() -> tuple[np.ndarray, ...]:
            if not fingerprints:
                trained = simd.evaluate(programs, lanes, self.seed, rows=rows, **self.options)
                return trained.fitness, trained.train_steps
            found = simd.evaluate(
                programs, lanes, self.seed, rows=rows, **self.options, fuse=False, fingerprints=True
            ).fingerprints
            assert found is not None
            factors = np.uint64(0x9E3779B97F4A7C15) ** np.arange(found.shape[1], dtype=np.uint64)
            return ((found * factors[:, None]).sum(1, dtype=np.uint64),)

        if self._worker is None:
            done = work()
            return lambda: done
        future = self._worker.submit(work)

        def wait() -> tuple[np.ndarray, ...]:
            try:
                return future.result()
            except KeyboardInterrupt:
                parallel.stop_all()
                raise

        return wait

    def _prepared(self, chosen: str, short: bool, prepare: Callable[[Tasks], Any]) -> Any:
        """The tasks, or those of the probe, as an executor takes them."""
        if (chosen, short) not in self._laid_out:
            tasks = self.tasks.shortened(self._probe, self._probe) if short else self.tasks
            self._laid_out[chosen, short] = prepare(tasks)
        return self._laid_out[chosen, short]


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
      run: int64 `[sets, ways]`, the place of an entry's program among those that its batch trains; -1 once its results
        are here.
      owner: int64 `[sets, ways]`, that batch.
      fitness: float32 `[sets * ways, T]`.
    """

    hashes: np.ndarray
    used: np.ndarray
    run: np.ndarray
    owner: np.ndarray
    fitness: np.ndarray


def _cache(remember: int, n_tasks: int) -> _Cache:
    """An empty one, of a power of two sets."""
    sets = 1 << max(0, -(-remember // _WAYS) - 1).bit_length() if remember else 0
    return _Cache(
        np.zeros((sets, _WAYS, 2), np.uint64),
        np.full((sets, _WAYS), -1, np.int64),
        np.zeros((sets, _WAYS), np.int64),
        np.zeros((sets, _WAYS), np.int64),
        np.zeros((sets * _WAYS, n_tasks), np.float32),
    )


@entry_point
def _look_up(hashes, cache, batch, fitness, run_of, entry_of, first):
    """Copies what is known, and numbers what must be trained; returns how many those are and these.

    `run_of` `[P]`: a program's number among them, -1 if it is known; `first` and `entry_of`: by that number, the first
    such program and its entry. What another batch is still training is trained here too.
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
        elsewhere = found >= 0 and cache.run[s, found] >= 0 and cache.owner[s, found] != batch
        if elsewhere:
            oldest = found  # taken over
        if found >= 0 and not elsewhere:
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
            cache.used[s, oldest], cache.run[s, oldest], cache.owner[s, oldest] = batch, runs, batch
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
            low, high = hashes[first[run], 0], hashes[first[run], 1]
            if cache.run[s, w] >= 0 and cache.hashes[s, w, 0] == low and cache.hashes[s, w, 1] == high:
                cache.run[s, w] = -1
                for t in range(fitness.shape[1]):
                    cache.fitness[entry, t] = trained[run, t]
