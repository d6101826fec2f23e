"""The SIMD executor: the loops beside this file, on a CPU. Imports no Numba before it runs one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zero_jax.executors import devices, stream
from zero_jax.executors.base import Executor, Memory, Options, Pending, Prepared, Request
from zero_jax.executors.simd.layout import Layout
from zero_jax.program import liveness
from zero_jax.program.canonical import canonical, live
from zero_jax.program.programs import Programs
from zero_jax.support import threads as parallel
from zero_jax.support.compiled import HAVE_NUMBA, WHY_INTERPRETED
from zero_jax.tasks import Tasks


class Simd(Executor):
    """Sixteen tasks in a vector register, a true branch for each instruction."""

    name = "simd"
    fingerprints = True
    carries = True
    on_host = True
    compiles_once = True
    fuses = True

    def refusal(self, request: Request) -> str | None:
        if request.options.differentiable:
            return "the simd executor has no gradients"
        if not HAVE_NUMBA:
            return f"{WHY_INTERPRETED}, and the simd executor needs it"
        if not _fits(request):
            layout = Layout.of(request.tasks.features, len(request.tasks))
            return (
                f"sixteen tasks at a time, a program needs {layout.program_bytes(request.memory):,} bytes and these "
                f"tasks {layout.tasks_bytes(request.tasks):,}, together more than "
                f"max_bytes={request.options.max_bytes:,} (raise it, or evaluate fewer tasks at a time)"
            )
        return None

    def preferred(self, request: Request) -> bool:
        """On a CPU, unless arguments are traced, which costs a callback, or the tasks are too large in lanes."""
        options = request.options
        usual = not options.traced and not options.differentiable
        return usual and devices.platform() == "cpu" and _fits(request)

    def bytes(self, request: Request) -> int:
        return self.bytes_in_use(request, 1)

    def bytes_in_use(self, request: Request, programs: int) -> int:
        """The tasks in lanes, and a program on each thread."""
        threads = min(request.options.threads or parallel.cores(), programs)
        layout = Layout.of(request.tasks.features, len(request.tasks))
        return layout.tasks_bytes(request.tasks) + threads * layout.program_bytes(request.memory)

    def prepare(self, tasks: Tasks, options: Options) -> Prepared:
        from zero_jax.executors.simd import arrays

        return Prepared(arrays.lay_out(tasks), options)

    def launch(
        self,
        programs: Programs,
        prepared: Prepared,
        seed: Any,
        *,
        rows: np.ndarray | None = None,
        fingerprints: bool = False,
    ) -> Pending:
        from zero_jax.executors.simd import lanes

        options = prepared.options
        if not options.canonical_form:
            programs = canonical(programs.check(), options.threads, prepared.tasks.interface(programs.memory)).programs
        result = lanes.evaluate(
            programs,
            prepared.tasks,
            int(seed),
            options.max_abs_error,
            rows=rows,
            threads=options.threads,
            fuse=False if fingerprints else options.fuse,
            want="fingerprints" if fingerprints else "fitness",
        )
        if result.fingerprints is None:
            return lambda: (result.fitness, result.train_steps)
        groups = result.fingerprints.shape[1]
        factors = np.uint64(0x9E3779B97F4A7C15) ** np.arange(groups, dtype=np.uint64)
        hashes = (result.fingerprints * factors[:, None]).sum(1, dtype=np.uint64)
        return lambda: (hashes,)

    def launch_carrying(self, programs: Programs, prepared: Prepared, seed: Any, memory: Memory | None) -> Pending:
        from zero_jax.executors.simd import lanes

        options = prepared.options
        result = lanes.evaluate(
            programs,
            prepared.tasks._replace(memory=memory),
            int(seed),
            options.max_abs_error,
            threads=options.threads,
            want="memory",
        )
        return lambda: (result.fitness, result.train_steps, *(result.memory or ()))

    def execute(
        self, programs: Programs, memory: Sequence[Array], component: int, seed: Any, ids: Any, options: Options
    ) -> Memory:
        from zero_jax.executors.simd import lanes

        checked = jax.tree.map(np.asarray, programs.check())
        numbered = liveness.number_draws(checked, live(checked))
        values = tuple(np.asarray(part) for part in memory)
        after = lanes.execute(numbered, values, component, int(stream.seed_bits(seed)), np.asarray(ids))
        return Memory(*map(jnp.asarray, after))


def _fits(request: Request) -> bool:
    layout = Layout.of(request.tasks.features, len(request.tasks))
    return layout.program_bytes(request.memory) + layout.tasks_bytes(request.tasks) <= request.options.max_bytes
