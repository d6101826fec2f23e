"""Compiles the Pallas executor's kernel for an NVIDIA H200 on a machine that has none, and counts registers and spills.

    python3 -m venv .venv-h200 && .venv-h200/bin/pip install -r experiments/throughput/h200-requirements.txt
    .venv-h200/bin/python experiments/throughput/h200.py

XLA's own CUDA compiler runs without a GPU: the target is described by the text below. The kernel is the real one, all 65
ops, both losses' code as `evaluate` calls it. Registers and spills are those that NVIDIA's assembler reports for the PTX
that XLA wrote. Exit code 1 where a kernel does not compile, or training spills at F <= 8.
"""

import dataclasses
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, NamedTuple

DUMP = tempfile.mkdtemp()
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_dump_to={DUMP} --xla_dump_hlo_as_text"

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from target import H200

from zero_jax.cli import options
from zero_jax.executors import dispatch
from zero_jax.executors.blocks import prepared
from zero_jax.executors.pallas import gpu as pallas
from zero_jax.executors.pallas.layout import Layout, layout_for
from zero_jax.program.memory import Interface, MemorySize
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

COUNT = 64
"""How many programs; the code does not depend on it."""

KINDS = ("train", "errors", "classes", "execute")
"""What to compile: training, at every F; then, at one, training that returns errors; training of ten classes, at F = 16; a run
of one component."""


class Case(NamedTuple):
    """What to compile."""

    kind: str
    features: int
    tasks: int
    layout: Layout
    ops: tuple[int, ...]


STUDY = {4: (1, 116, 0), 8: (2, 168, 0), 16: (8, 128, 36), 32: (8, None, 1100)}
"""What the project's first study found, by F: warps, registers, bytes spilled."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    features: tuple[int, ...] = (2, 4, 8, 16, 32)
    tasks: tuple[int, ...] = (10,)
    layout: tuple[str, ...] = ()  # lanes,warps,by_row (as 16,2,1) to try in place of the table's
    kinds: tuple[Literal[*KINDS], ...] = tuple(KINDS)  # train: at every F
    ops: tuple[int, ...] = tuple(range(65))
    keep: Path | None = None  # a folder for the PTX
    out: Path | None = None  # write the results as JSON


def main() -> None:
    chosen = options.parsed(Options, sys.argv[1:], description=__doc__)
    topology = topologies.get_topology_desc("h200", "cuda", topology="1x1x1", target_config=H200)
    sharding = SingleDeviceSharding(topology.devices[0])
    print("kernel    F   tasks  lanes  warps  registers  spilled  static shared  compiled   beside the study")
    rows = []
    for i, kind in enumerate(chosen.kinds):
        for features in chosen.features if i == 0 else [16] if kind == "classes" else chosen.features[:1]:
            for tasks in chosen.tasks:
                layouts = [parsed(text) for text in chosen.layout or []]
                for layout in layouts or [layout_for(features, tasks)]:
                    case = Case(kind, features, tasks, layout, tuple(chosen.ops))
                    rows.append(measure(case, sharding, chosen.keep))
                    print(line(rows[-1]), flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps({"jax": jax.__version__, "kernels": rows}, indent=1) + "\n")
    if any(row["spilled"] and row["features"] <= 8 and row["kind"] == "train" for row in rows):
        sys.exit("a kernel for F <= 8 spills registers")


def parsed(text: str) -> Layout:
    lanes, warps, by_row = map(int, text.split(","))
    return Layout(lanes, warps, bool(by_row))


def line(row: dict) -> str:
    study = STUDY.get(row["features"])
    beside = f"{study[1] or '?'} registers, {study[2]:,} bytes spilled at {study[0]} warps" if study else "-"
    return (
        f"{row['kind']:8}  {row['features']:2}  {row['tasks']:5}  {row['lanes']:5}  {row['warps']:5}  "
        f"{row['registers']:9}  {row['spilled']:5} B  {row['shared']:11} B  {row['seconds']:6.1f} s   {beside}"
    )


def measure(case: Case, sharding, keep) -> dict:
    began = time.time()
    traced = trace_execution(case, sharding) if case.kind == "execute" else trace_training(case, sharding)
    traced.lower(lowering_platforms=("cuda",)).compile()
    seconds = time.time() - began
    entry = f"zero_jax_{'execute' if case.kind == 'execute' else 'train'}"
    (ptx,) = [name for name in glob.glob(f"{DUMP}/*.ptx") if f".entry {entry}" in Path(name).read_text()]
    report = assemble(ptx, entry)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        name = f"{case.kind}-f{case.features}-t{case.tasks}-l{case.layout.lanes}-w{case.layout.warps}.ptx"
        (keep / name).write_bytes(Path(ptx).read_bytes())
    for name in glob.glob(f"{DUMP}/*"):
        os.remove(name)
    described = {"kind": case.kind, "features": case.features, "tasks": case.tasks, **case.layout._asdict()}
    return described | report | {"seconds": seconds}


def trace_training(case: Case, sharding):
    """Training as `evaluate` calls it: `errors` with the errors of a probe, on accuracy and with two epochs."""
    features, tasks, errors = case.features, case.tasks, case.kind == "errors"
    programs, sets, spec = population(case, sharding)
    parts = (spec(tasks, 100, features), spec(tasks, 100), spec(tasks, 50, features), spec(tasks, 50))
    order = (spec(1 + errors, 100, dtype=jnp.int32), spec(tasks, dtype=jnp.int32))
    loss = {"errors": ("accuracy", 2), "classes": ("accuracy", 10)}.get(case.kind, ("rmse", 0))
    on = Tasks.tree_unflatten(loss, [*parts, *order])

    def train(programs, on, seed, limit):
        ready = prepared(programs, sets, prune=True, interface=Interface.of(programs.memory, on))
        return pallas.evaluate_programs(ready, on, seed, limit, sets, errors=errors, layout=case.layout)

    return jax.jit(train, out_shardings=sharding).trace(programs, on, spec(dtype=jnp.uint32), spec())


def trace_execution(case: Case, sharding):
    programs, sets, spec = population(case, sharding)
    (s, v, m), t, f = programs.memory, case.tasks, case.features
    memory = (spec(COUNT, t, s), spec(COUNT, t, v, f), spec(COUNT, t, m, f, f))

    def run(programs, memory, ids, seed):
        ready = prepared(programs, sets, prune=False)
        return pallas.execute_programs(ready, memory, ids, seed, 1, sets, layout=case.layout)

    ids, seed = spec(t, dtype=jnp.int32), spec(dtype=jnp.uint32)
    return jax.jit(run, out_shardings=sharding).trace(programs, memory, ids, seed)


def population(case: Case, sharding):
    capacity, memory = (21, 21, 45), MemorySize(8, 14, 3)

    def spec(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    slots = sum(capacity)
    arrays = spec(COUNT, slots, 4, dtype=jnp.int32), spec(COUNT, slots, 3), spec(COUNT, 3, dtype=jnp.int32)
    return Programs(*arrays, capacity, memory), dispatch.op_sets(case.ops, memory), spec


def assemble(ptx: str, entry: str) -> dict:
    """Registers a thread, bytes of spills, and static shared memory a block, as `ptxas` reports them; reductions over warps
    also take dynamic shared memory, which it does not know.
    """
    roots = [Path(p) for p in sys.path if (Path(p) / "nvidia").is_dir()]
    ptxas = next((str(p) for root in roots for p in root.glob("nvidia/*/bin/ptxas")), "ptxas")
    target = re.search(r"\.target (\S+)", Path(ptx).read_text())[1].rstrip(",")
    command = [ptxas, "-v", f"-arch={target}", ptx, "-o", "/dev/null"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    text = text[text.index(f"'{entry}'") :]
    shared = re.search(r"(\d+) bytes smem", text)
    return {
        "registers": int(re.search(r"Used (\d+) registers", text)[1]),
        "spilled": int(re.search(r"(\d+) bytes spill stores", text)[1]),
        "shared": int(shared[1]) if shared else 0,
    }


if __name__ == "__main__":
    main()
