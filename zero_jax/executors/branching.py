"""What executors have in common whose kernel gives each program threads of its own, so that an instruction is a branch.

Axes: `P` programs, `T` tasks.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zero_jax.executors import batches, dispatch
from zero_jax.executors.base import Request
from zero_jax.executors.blocks import Plan, prepared
from zero_jax.executors.jax_executor import JaxExecutor, Job, check_one
from zero_jax.program import liveness
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.support.compiled import HAVE_NUMBA
from zero_jax.tasks import Tasks

_GRIDS = (1024, 16384)
"""How many programs a call takes: two widths, so that populations of all sizes compile at most twice."""


class BranchingExecutor(JaxExecutor):
    """Programs come to the device without dead code, in calls of two widths."""

    fingerprints = True
    interprets = True

    def most_programs(self, one: int) -> int:
        """How many programs of `one` bytes a call can take, whatever the memory."""
        return 2**31

    def programs_to_fill(self, features: int) -> int:
        """Some blocks for every multiprocessor, whatever their size."""
        return max(512, 2**18 // features**2)

    def width(self, request: Request, programs: int, devices: int) -> int:
        """How many programs a call takes."""
        options, room, one = request.options, self.room(request), self.bytes(request)
        check_one(one, room)
        most = min(room // one, self.most_programs(one), options.chunk_size or 2**31)
        needed = max(1, -(-programs // devices))
        if options.interpret:
            return min(most, batches.rounded_up(needed))
        return min(most, next((width for width in _GRIDS if width >= needed), _GRIDS[-1]))

    def _ready(self, job: Job) -> Job:
        """Dead code is removed on the host: on a GPU that takes milliseconds of many small steps."""
        if not HAVE_NUMBA:
            return job
        if job.options.canonical_form:
            plain = jax.tree.map(np.asarray, job.programs)
        else:
            plain = canonical(job.programs.check(), interface=Interface.of(job.programs.memory, job.tasks)).programs
        if dispatch.draws(job.plan.sets):
            plain = liveness.number_draws(plain, np.ones(plain.code.shape[:2], bool))
        return dataclasses.replace(job, plan=job.plan._replace(ready=True), programs=plain)


def ready(plan: Plan, programs: Programs, tasks: Tasks) -> Programs:
    """Programs as kernels take them; the first length is negative where there is no program."""
    if plan.ready:
        return programs
    clean = prepared(programs, plan.sets, prune=True, interface=Interface.of(programs.memory, tasks))
    filling: Array = jnp.asarray(programs.length)[:, :1] < 0
    return clean.with_arrays(clean.code, clean.data, jnp.where(filling, -1, clean.length))
