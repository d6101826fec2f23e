"""Compiles the GPU executor's kernel for an NVIDIA H200 on a machine that has none, and counts registers and spills.

    python3 -m venv .venv-h200 && .venv-h200/bin/pip install -r experiments/throughput/h200-requirements.txt
    .venv-h200/bin/python experiments/throughput/h200.py

XLA's own CUDA compiler runs without a GPU: the target is described by the text below. The kernel is the real one, all 65
ops, both losses' code as `evaluate` calls it. Registers and spills are those that NVIDIA's assembler reports for the PTX
that XLA wrote. Exit code 1 where a kernel does not compile, or spills at F <= 8.
"""

import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DUMP = tempfile.mkdtemp()
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_dump_to={DUMP} --xla_dump_hlo_as_text"

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from zero_jax.executors import contract, pallas
from zero_jax.executors.blocks import prepared
from zero_jax.executors.layout import Layout, layout_for
from zero_jax.programs import MemorySize, Programs
from zero_jax.tasks import Tasks

TARGET = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 62914560 clock_rate_ghz: 1.98 device_memory_size: 150000000000
  shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
runtime_version { major: 13 minor: 0 patch: 0 } platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 } device_description_str: "NVIDIA H200"
"""

STUDY = {4: (1, 116, 0), 8: (2, 168, 0), 16: (8, 128, 36), 32: (8, None, 1100)}
"""What the project's first study found, by F: warps, registers, bytes spilled."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10])
    parser.add_argument("--layout", nargs="*", help="lanes,warps,by_row (as 16,2,1) to try in place of the table's")
    parser.add_argument("--loss", default="rmse", choices=["rmse", "accuracy"])
    parser.add_argument("--ops", type=int, nargs="+", default=list(range(65)))
    parser.add_argument("--keep", type=Path, help="a folder for the PTX")
    parser.add_argument("--out", type=Path, help="write what was found as JSON")
    chosen = parser.parse_args()
    topology = topologies.get_topology_desc("h200", "cuda", topology="1x1x1", target_config=TARGET)
    sharding = SingleDeviceSharding(topology.devices[0])
    print("F   tasks  lanes  warps  registers  spilled  shared  compiled   beside the study")
    rows = []
    for features in chosen.features:
        for tasks in chosen.tasks:
            layouts = [parsed(text) for text in chosen.layout or []]
            for layout in layouts or [layout_for(features, tasks)]:
                rows.append(measure(features, tasks, layout, chosen.loss, tuple(chosen.ops), sharding, chosen.keep))
                print(line(rows[-1]), flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps({"jax": jax.__version__, "kernels": rows}, indent=1) + "\n")
    if any(row["spilled"] and row["features"] <= 8 for row in rows):
        sys.exit("a kernel for F <= 8 spills registers")


def parsed(text: str) -> Layout:
    lanes, warps, by_row = map(int, text.split(","))
    return Layout(lanes, warps, bool(by_row))


def line(row: dict) -> str:
    study = STUDY.get(row["features"])
    beside = f"{study[1] or '?'} registers, {study[2]:,} bytes spilled at {study[0]} warps" if study else "-"
    return (
        f"{row['features']:2}  {row['tasks']:5}  {row['lanes']:5}  {row['warps']:5}  {row['registers']:9}  "
        f"{row['spilled']:5} B  {row['shared']:4} B  {row['seconds']:6.1f} s   {beside}"
    )


def measure(features, tasks, layout, loss, ops, sharding, keep) -> dict:
    seconds = compile_kernel(features, tasks, layout, loss, ops, sharding)
    found = [name for name in glob.glob(f"{DUMP}/*.ptx") if "zero_jax_train" in Path(name).read_text()]
    report = assemble(found[-1])
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"f{features}-t{tasks}-l{layout.lanes}-w{layout.warps}.ptx").write_bytes(Path(found[-1]).read_bytes())
    for name in glob.glob(f"{DUMP}/*"):
        os.remove(name)
    return {"features": features, "tasks": tasks, **layout._asdict(), **report, "seconds": seconds}


def compile_kernel(features, tasks, layout, loss, ops, sharding) -> float:
    """Compiles training as `evaluate` calls it; seconds."""
    count, capacity, memory = 64, (21, 21, 45), MemorySize(8, 14, 3)
    sets = contract.op_sets(ops, memory)

    def spec(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    slots = sum(capacity)
    programs = Programs(
        spec(count, slots, 4, dtype=jnp.int32), spec(count, slots, 3), spec(count, 3, dtype=jnp.int32), capacity, memory
    )
    parts = (spec(tasks, 100, features), spec(tasks, 100), spec(tasks, 50, features), spec(tasks, 50))
    order = (spec(1, 100, dtype=jnp.int32), spec(tasks, dtype=jnp.int32))
    on = Tasks.tree_unflatten(loss, [*parts, *order])

    def train(programs, on, seed, limit):
        return pallas.evaluate_programs(prepared(programs, sets, prune=True), on, seed, limit, sets, layout=layout)

    began = time.time()
    traced = jax.jit(train, out_shardings=sharding).trace(programs, on, spec(dtype=jnp.uint32), spec())
    traced.lower(lowering_platforms=("cuda",)).compile()
    return time.time() - began


def assemble(ptx: str) -> dict:
    """Registers a thread, bytes of spills, and shared memory a block, as `ptxas` reports them."""
    roots = [Path(p) for p in sys.path if (Path(p) / "nvidia").is_dir()]
    ptxas = next((str(p) for root in roots for p in root.glob("nvidia/*/bin/ptxas")), "ptxas")
    target = re.search(r"\.target (\S+)", Path(ptx).read_text())[1].rstrip(",")
    command = [ptxas, "-v", f"-arch={target}", ptx, "-o", "/dev/null"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    text = text[text.index("zero_jax_train") :]
    shared = re.search(r"(\d+) bytes smem", text)
    return {
        "registers": int(re.search(r"Used (\d+) registers", text)[1]),
        "spilled": int(re.search(r"(\d+) bytes spill stores", text)[1]),
        "shared": int(shared[1]) if shared else 0,
    }


if __name__ == "__main__":
    main()
