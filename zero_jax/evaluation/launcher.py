"""Launching programs on an executor: on all tasks or a part of them, prepared once."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from zero_jax.evaluation.base import Part
from zero_jax.executors import devices as there
from zero_jax.executors.api import check_bound, check_threads
from zero_jax.executors.base import MAX_BYTES, Executor, Memory, Options, Pending, Prepared, Request
from zero_jax.executors.registry import choose
from zero_jax.program.memory import MemorySize
from zero_jax.program.programs import Programs
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
        self.devices = there.first_devices(0) if self.devices is None else there.chosen_devices(self.devices)
        # Threads do not see the caller's `with jax.default_device(...)`.
        self._home = self.devices or (there.default_device(),)
        self._worker = parallel.Worker("zero-jax evaluator") if self.background else None
        self._prepared: dict[tuple[str, Part | None], Prepared] = {}
        self._chosen: dict[tuple[MemorySize, bool], Executor] = {}

    def on(self, tasks: Tasks) -> "Launcher":
        """The same on other tasks; both share one thread."""
        other = copy.copy(self)
        other.tasks, other._prepared, other._chosen = tasks, {}, {}
        return other

    def options(self) -> Options:
        """How programs are evaluated."""
        return Options(
            ops=self.ops,
            max_abs_error=self.max_abs_error,
            max_bytes=self.max_bytes,
            threads=self.threads,
            devices=self.devices,
            interpret=self.interpret,
            canonical_form=True,
        )

    def choose(self, memory: MemorySize, carries: bool = False) -> Executor:
        """The executor that serves programs with such a memory; `carries` as in `Request`."""
        if (memory, carries) not in self._chosen:
            request = Request(memory, self.tasks, self.options(), carries=carries)
            with there.at_home(self._home):
                self._chosen[memory, carries] = choose(self.executor, request)
        return self._chosen[memory, carries]

    def launch(
        self, executor: Executor, programs: Programs, rows: np.ndarray, part: Part | None, fingerprints: bool
    ) -> Pending:
        """Begins to train the programs of some rows; see `Batch.launch`."""
        with there.at_home(self._home):
            prepared = self._tasks_for(executor, part)
            if not executor.on_host or self._worker is None:
                return executor.launch(programs, prepared, self.seed, rows=rows, fingerprints=fingerprints)
        return self._worker.begin(
            lambda: executor.launch(programs, prepared, self.seed, rows=rows, fingerprints=fingerprints)()
        )

    def launch_carrying(self, executor: Executor, programs: Programs, memory: Memory | None) -> Pending:
        """Begins to train programs from given memory; see `Executor.launch_carrying`."""
        with there.at_home(self._home):
            prepared = self._tasks_for(executor, None)
            return executor.launch_carrying(programs, prepared, self.seed, memory)

    def _tasks_for(self, executor: Executor, part: Part | None) -> Prepared:
        """The tasks, or a part of them, as an executor takes them."""
        if (executor.name, part) not in self._prepared:
            tasks = self.tasks if part is None else part.part(self.tasks)
            self._prepared[executor.name, part] = executor.prepare(tasks, self.options())
        return self._prepared[executor.name, part]

    def __getstate__(self) -> dict[str, Any]:
        """Everything except threads and what lies on devices; devices by kind and number."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_prepared", "_chosen", "devices")}
        home = [(device.platform, device.id) for device in self._home]
        return kept | {"_home": home, "chosen": self.devices is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On the same devices, or on the default ones if those are not available."""
        home, chosen = state.pop("_home"), state.pop("chosen")
        vars(self).update(state)
        same = _same_devices(home)
        self.devices = there.first_devices(0) if same is None else same if chosen else None
        self._home = same or self.devices or (there.default_device(),)
        self._prepared, self._chosen = {}, {}


def _same_devices(where: list[tuple[str, int]]) -> tuple[jax.Device, ...] | None:
    """The devices of these kinds and numbers; None unless all are available."""
    try:
        kinds = {kind for kind, _ in where}
        devices = {(d.platform, d.id): d for kind in kinds for d in jax.local_devices(backend=kind)}
        return tuple(devices[kind, number] for kind, number in where)
    except (RuntimeError, KeyError):  # no devices of such a kind, or fewer
        return None
