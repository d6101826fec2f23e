"""Compiles the CUDA executor's kernel for NVIDIA GPUs on a machine that has none, and says what it takes of one.

    python3 -m venv .venv-h200 && .venv-h200/bin/pip install -r experiments/throughput/h200-requirements.txt .
    .venv-h200/bin/python experiments/throughput/registers.py

The kernel is the real one, with all 65 ops and the superinstructions. Warp compiles it for each architecture, and NVIDIA's
assembler reports registers, spills and stack. Shared memory is that of the 2-layer network on 10 tasks; how many blocks a
multiprocessor holds follows from these and from its limits. XLA compiles the other carrier's call for an H200. All goes to
`registers.json`. Exit code 1 where something does not compile or, at F <= 16 on capability 9.0 or later, spills or takes more than 128 registers (255 where memory is
global).
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import warp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from target import H200

from zero_jax import library
from zero_jax.cli import options
from zero_jax.executors import devices, dispatch
from zero_jax.executors.gpu import kernel, warp_carrier
from zero_jax.executors.gpu.layout import LAYOUTS, Layout, Shape, shape_of
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

TASKS = 10


class Multiprocessor(NamedTuple):
    """What one has (CUDA C++ Programming Guide, compute capabilities)."""

    shared: int
    registers: int = 65536
    threads: int = 2048
    blocks: int = 32

    def holds(self, threads: int, registers: int, shared: int) -> int:
        """How many blocks fit: warps take registers in units of 256, CUDA keeps 1 KiB of shared memory in each block."""
        of_warp = -(-registers * 32 // 256) * 256
        by_registers = self.registers // (of_warp * -(-threads // 32))
        return min(self.blocks, self.threads // threads, by_registers, self.shared // (shared + 1024))


MULTIPROCESSORS = {80: Multiprocessor(164 * 1024), 90: Multiprocessor(228 * 1024), 100: Multiprocessor(228 * 1024)}
"""By compute capability: A100; H100 and H200; B200."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    features: tuple[int, ...] = (2, 4, 8, 16, 32)
    architectures: tuple[int, ...] = (80, 90, 100)
    layout: tuple[str, ...] = ()  # columns,blocks (as 8,7) to try in place of the table's
    xla: bool = True  # compile the other carrier's call too
    out: Path | None = None


def main() -> None:
    chosen = options.parsed(Options, sys.argv[1:], description=__doc__)
    print("arch  kind     F   threads  registers  spilled  stack  shared     blocks  warps (most)  compiled")
    rows = []
    for kind, shape in shapes(chosen):
        for architecture in chosen.architectures:
            rows.append({"kind": kind} | compiled(shape, architecture))
            print(line(rows[-1]), flush=True)
    seconds = call_compiled_by_xla() if chosen.xla else None
    if seconds is not None:
        print(f"XLA {jax.__version__} compiled the other carrier's call for an H200 in {seconds:.1f} s")
    if chosen.out:
        versions = {"warp": warp.__version__, "jax": jax.__version__, "ptxas": assembler()[1]}
        chosen.out.write_text(json.dumps(versions | {"xla_seconds": seconds, "kernels": rows}, indent=1) + "\n")
    new = [row for row in rows if row["features"] <= 16 and row["architecture"] >= 90]
    bad = [row for row in new if row["spilled"] or row["registers"] > most(row)]
    if bad:
        sys.exit("these spill or take too many registers:\n" + "\n".join(map(line, bad)))


def shapes(chosen: Options) -> Iterator[tuple[str, Shape]]:
    """Training at every F; then, at one, with accuracy and errors, with ten classes, with memory in global memory, and a
    run of one component.
    """
    network = library.program("network")
    size, slots = network.memory, tuple(network.starts)

    def shape(features: int, **more) -> Shape:
        given = [Layout(features, *map(int, text.split(","))) for text in chosen.layout] or [None]
        return shape_of(size, slots, features, TASKS, given[0], **more)

    for features in chosen.features:
        yield "train", shape(features)
    yield "errors", shape(4, accuracy=True, errors=True)
    yield "classes", shape(16, accuracy=True, classes=10)
    yield "global", dataclasses.replace(shape(16), shared_bytes=1024, blocks=1)
    yield "execute", shape(8, component=1)


def compiled(shape: Shape, architecture: int) -> dict:
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        module = warp_carrier.kernel(shape).module
        warp.compile_aot_module(module, arch=architecture, use_ptx=True, module_dir=folder)
        (made,) = Path(folder).glob("*.ptx")
        made.write_bytes(made.read_bytes().replace(b"\0", b""))
        command = [assembler()[0], "-v", f"-arch=sm_{architecture}", str(made), "-o", f"{folder}/cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, shared = int(re.search(r"Used (\d+) registers", report)[1]), 4 * shape.shared_words
    static = re.search(r"(\d+) bytes smem", report)
    blocks = MULTIPROCESSORS[architecture].holds(shape.threads, registers, shared + (int(static[1]) if static else 0))
    return {
        "architecture": architecture, "features": shape.features, "threads": shape.threads, "registers": registers,
        "spilled": int(re.search(r"(\d+) bytes spill stores", report)[1]),
        "stack": int(re.search(r"(\d+) bytes stack frame", report)[1]),
        "shared": shared, "blocks": blocks, "warps": blocks * -(-shape.threads // 32), "seconds": time.time() - began,
    }  # fmt: skip


def assembler() -> tuple[str, str]:
    """NVIDIA's assembler of this environment, or of the machine, and its version."""
    here = [str(path) for root in sys.path for path in Path(root).glob("nvidia/*/bin/ptxas")]
    path = next(iter(here), "ptxas")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return path, re.search(r"release (\S+),", version)[1]


def most(row: dict) -> int:
    """How many registers a thread may have: pointers to global memory take more of them."""
    return 255 if row["kind"] == "global" else 128


def line(row: dict) -> str:
    return (
        f"{row['architecture']:4}  {row['kind']:7}  {row['features']:2}  {row['threads']:7}  {row['registers']:9}  "
        f"{row['spilled']:5} B  {row['stack']:3} B  {row['shared']:6} B  {row['blocks']:6}  {row['warps']:5}  (64)        "
        f"{row['seconds']:5.1f} s"
    )


def call_compiled_by_xla() -> float:
    """Seconds that XLA takes to compile training by the other carrier for an H200."""
    began = time.time()
    topology = topologies.get_topology_desc("h200", "cuda", topology="1x1x1", target_config=H200)
    sharding = SingleDeviceSharding(topology.devices[0])

    def spec(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    network = library.program("network")
    slots = network.starts[-1]
    arrays = spec(64, slots, 4, dtype=jnp.int32), spec(64, slots, 3), spec(64, 3, dtype=jnp.int32)
    programs = Programs(*arrays, network.capacity, network.memory)
    parts = spec(TASKS, 100, 16), spec(TASKS, 100), spec(TASKS, 50, 16), spec(TASKS, 50)
    order = spec(1, 100, dtype=jnp.int32), spec(TASKS, dtype=jnp.int32)
    tasks = Tasks.tree_unflatten(("rmse", 0), [*parts, *order])
    layout = next(row for row in LAYOUTS if row.features == 16)._replace(carrier="ptx")

    def train(programs, tasks, seed, limit):
        sets = dispatch.op_sets(None, programs.memory)
        return kernel.train(programs, tasks, seed, limit, sets, layout=layout)

    with mock.patch.object(devices, "compute_capability", return_value=(9, 0)):
        traced = jax.jit(train, out_shardings=sharding).trace(programs, tasks, spec(dtype=jnp.uint32), spec())
        text = traced.lower(lowering_platforms=("cuda",)).compile().as_text()
    if "xla.gpu.ptx" not in text:
        sys.exit("the call of the kernel is not in what XLA compiled")
    return time.time() - began


if __name__ == "__main__":
    main()
