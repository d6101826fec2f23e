"""Compiles the TPU kernel for a TPU v5e on a machine that has none: all 65 ops, at each F.

    python3 -m venv .venv-v5e && .venv-v5e/bin/pip install -r experiments/throughput/v5e-requirements.txt .
    .venv-v5e/bin/python experiments/throughput/v5e.py

`libtpu`, from PyPI, holds the TPU's compiler and needs no TPU. The kernel is the real one, as `evaluate` calls it. Exit
code 1 where a kernel does not compile. It runs with newer versions too (tried: JAX 0.12.0 with libtpu 0.0.52).
"""

import dataclasses
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from zero_jax.cli.options import parsed
from zero_jax.executors import dispatch
from zero_jax.executors.blocks import prepared
from zero_jax.executors.pallas import tpu as pallas_tpu
from zero_jax.program.memory import Interface, MemorySize
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

COUNT = 64
"""How many programs; the code does not depend on it."""

KINDS = ("train", "errors", "classes", "execute")
"""What to compile: training, at every F; then, at one, training that returns errors; training of ten classes, at F = 16; a run
of one component."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    features: tuple[int, ...] = (2, 4, 8, 16, 32)
    tasks: int = 10
    kinds: tuple[Literal[*KINDS], ...] = tuple(KINDS)  # train: at every F
    ops: tuple[int, ...] = tuple(range(65))
    out: Path | None = None  # write the results as JSON


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    topology = topologies.get_topology_desc("v5e:2x2", "tpu")
    spec = partial(_spec, SingleDeviceSharding(topology.devices[0]))
    print("kernel    F   code         memory of a program  compiled")
    rows = []
    for i, kind in enumerate(chosen.kinds):
        for features in chosen.features if i == 0 else [16] if kind == "classes" else chosen.features[:1]:
            rows.append(measure(kind, features, chosen.tasks, chosen.ops, spec))
            print(
                "{kind:8} {features:2}  {code:12,} B  {memory:12,} B  {seconds:6.1f} s".format(**rows[-1]), flush=True
            )
    if chosen.out:
        chosen.out.write_text(json.dumps({"jax": jax.__version__, "kernels": rows}, indent=1) + "\n")


def _spec(sharding, *shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def measure(kind: str, features: int, tasks: int, ops: list[int], spec) -> dict:
    capacity, memory = (21, 21, 45), MemorySize(8, 14, 3)
    arrays = spec(COUNT, 87, 4, dtype=jnp.int32), spec(COUNT, 87, 3), spec(COUNT, 3, dtype=jnp.int32)
    programs, sets = Programs(*arrays, capacity, memory), dispatch.op_sets(ops, memory)
    scalar, ids = spec(dtype=jnp.uint32), spec(tasks, dtype=jnp.int32)
    began = time.time()
    if kind == "execute":
        s, v, m = memory
        on = (
            spec(COUNT, tasks, s), spec(COUNT, tasks, v, features), spec(COUNT, tasks, m, features, features)
        )  # fmt: skip

        def run(programs, on, ids, seed):
            return pallas_tpu.execute_programs(prepared(programs, sets, prune=False), on, ids, seed, 1, sets)

        with pallas_tpu.lowered_for_v5e():
            lowered = jax.jit(run).trace(programs, on, ids, scalar).lower()
    else:
        errors = kind == "errors"
        parts = (spec(tasks, 100, features), spec(tasks, 100), spec(tasks, 50, features), spec(tasks, 50))
        order = spec(1 + errors, 100, dtype=jnp.int32)
        loss = {"errors": ("accuracy", 2), "classes": ("accuracy", 10)}.get(kind, ("rmse", 0))
        on = Tasks.tree_unflatten(loss, [*parts, order, ids])

        def train(programs, on, seed, limit):
            return pallas_tpu.evaluate_programs(
                prepared(programs, sets, prune=True, interface=Interface.of(programs.memory, on)),
                on,
                seed,
                limit,
                sets,
                errors=errors,
            )

        with pallas_tpu.lowered_for_v5e():
            lowered = jax.jit(train).trace(programs, on, scalar, spec()).lower()
    compiled = lowered.compile()
    code = compiled.memory_analysis().generated_code_size_in_bytes
    held = 4 * 128 * sum(n * features**axis for axis, n in enumerate(memory))
    return {"kind": kind, "features": features, "code": code, "memory": held, "seconds": time.time() - began}


if __name__ == "__main__":
    main()
