"""Launching programs on an executor: on all tasks or a part of them, prepared once."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from zero_jax.evaluation.base import Part, Waiting
from zero_jax.executors import batches
from zero_jax.executors.api import check_bound, check_threads, launch
from zero_jax.executors.batches import MAX_BYTES
from zero_jax.executors.choice import choose
from zero_jax.program.programs import MemorySize, Programs
from zero_jax.support import threads as parallel
from zero_jax.tasks import Tasks


@dataclasses.dataclass(eq=False)
class Launcher:
    """Runs programs in canonical form on the tasks.

    Attributes:
      tasks: the tasks.
      seed, executor, ops, max_abs_error, max_bytes, threads, interpret: as in `evaluate`.
      devices: as in `evaluate`, but by default all GPUs or TPUs.
      background: whether `simd` works on a thread of its own while the caller continues, as a GPU does.
    """

    tasks: Tasks
    seed: int = 0
    executor: str = "auto"
    ops: Any = None
    max_abs_error: float = 100.0
    max_bytes: int = MAX_BYTES
    threads: int | None = None
    devices: Sequence[jax.Device] | None = None
    interpret: bool = False
    background: bool = False

    def __post_init__(self) -> None:
        check_threads(self.threads)
        check_bound(self.max_abs_error)
        self.devices = batches.first_devices(0) if self.devices is None else batches.chosen_devices(self.devices)
        # Threads do not see the caller's `with jax.default_device(...)`.
        self._home = self.devices or (batches.default_device(),)
        self._worker = parallel.Worker("zero-jax evaluator") if self.background else None
        self._prepared: dict[tuple[str, Part | None], Any] = {}

    def on(self, tasks: Tasks) -> "Launcher":
        """The same on other tasks; both share one thread."""
        other = copy.copy(self)
        other.tasks, other._prepared = tasks, {}
        return other

    def choose(self, memory: MemorySize) -> str:
        """The executor that serves programs with such a memory."""
        with batches.at_home(self._home):
            return choose(self.executor, memory, self.tasks, self.max_bytes, interpret=self.interpret)

    def launch(
        self, executor: str, programs: Programs, rows: np.ndarray, part: Part | None, fingerprints: bool
    ) -> Waiting:
        """Begins to train the programs of some rows; see `Batch.launch`."""
        if executor == "simd":
            return self._launch_on_lanes(programs, rows, part, fingerprints)
        with batches.at_home(self._home):
            waiting = launch(
                programs[rows],
                self._tasks_for(executor, part, lambda tasks: batches.placed(tasks, self.devices)),
                self.seed,
                executor=executor,
                ops=self.ops,
                max_abs_error=self.max_abs_error,
                threads=self.threads,
                max_bytes=self.max_bytes,
                devices=self.devices,
                interpret=self.interpret,
                canonical_form=True,
                fingerprints=fingerprints,
            )
        if fingerprints:
            return lambda: (np.ascontiguousarray(waiting()[0]).view(np.uint64),)
        return waiting

    def _launch_on_lanes(self, programs: Programs, rows: np.ndarray, part: Part | None, fingerprints: bool) -> Waiting:
        from zero_jax.executors.simd import lanes as simd  # only where there is Numba

        lanes = self._tasks_for("simd", part, simd.lay_out)
        how: dict[str, Any] = {"rows": rows, "max_abs_error": self.max_abs_error, "threads": self.threads}

        def work() -> tuple[np.ndarray, ...]:
            if not fingerprints:
                trained = simd.evaluate(programs, lanes, self.seed, **how)
                return trained.fitness, trained.train_steps
            prints = simd.evaluate(programs, lanes, self.seed, **how, fuse=False, fingerprints=True).fingerprints
            assert prints is not None
            factors = np.uint64(0x9E3779B97F4A7C15) ** np.arange(prints.shape[1], dtype=np.uint64)
            return ((prints * factors[:, None]).sum(1, dtype=np.uint64),)

        if self._worker is None:
            done = work()
            return lambda: done
        return self._worker.begin(work)

    def _tasks_for(self, executor: str, part: Part | None, prepare: Callable[[Tasks], Any]) -> Any:
        """The tasks, or a part of them, as an executor takes them."""
        if (executor, part) not in self._prepared:
            self._prepared[executor, part] = prepare(self.tasks if part is None else part.part(self.tasks))
        return self._prepared[executor, part]

    def __getstate__(self) -> dict[str, Any]:
        """Everything except threads and what lies on devices; devices by kind and number."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_prepared", "devices")}
        home = [(device.platform, device.id) for device in self._home]
        return kept | {"_home": home, "chosen": self.devices is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On the same devices, or on the default ones if those are not available."""
        home, chosen = state.pop("_home"), state.pop("chosen")
        vars(self).update(state)
        same = _same_devices(home)
        self.devices = batches.first_devices(0) if same is None else same if chosen else None
        self._home = same or self.devices or (batches.default_device(),)
        self._prepared = {}


def _same_devices(where: list[tuple[str, int]]) -> tuple[jax.Device, ...] | None:
    """The devices of these kinds and numbers; None unless all are available."""
    try:
        kinds = {kind for kind, _ in where}
        devices = {(d.platform, d.id): d for kind in kinds for d in jax.local_devices(backend=kind)}
        return tuple(devices[kind, number] for kind, number in where)
    except (RuntimeError, KeyError):  # no devices of such a kind, or fewer
        return None
