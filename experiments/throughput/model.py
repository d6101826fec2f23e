"""How fast the CUDA executor should be on an H100 or H200, on paper: from the machine code to programs/s.

    python3 -m venv .venv-h200 && .venv-h200/bin/pip install -r experiments/throughput/h200-requirements.txt .
    .venv-h200/bin/python experiments/throughput/model.py

No GPU is needed. NVRTC compiles the kernel once for each op, with that op alone in its switch, and the machine instructions of
its loop are counted (inner loops unrolled); likewise those around the components. The ops are those that programs run, as
superinstructions: the 2-layer network, and 2,000 random programs of the `demo` preset with as many steps as they took on its
tasks. What the switch takes to find one of all ops is added (`DISPATCH`). From the counts follow two limits of a
multiprocessor, and an estimate:

- issue:    its four schedulers start one instruction a cycle each;
- shared:   its memory pipe takes one load or store of a warp a cycle;
- expected: a warp starts an instruction every `STALL` cycles at most, so few warps cannot fill the schedulers.

What would falsify it: `gpu.py` measures less than half of the lower estimate, or more than the smaller limit. What it leaves
out: bank conflicts, misses of the instruction cache (the kernel's code is larger than the 32 KB next to a scheduler's), what
blocks cost to start, global memory. All goes to `model.json`, the roofline to `model.svg`.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from registers import TASKS, compiled

from zero_jax import library, random_programs
from zero_jax.cli import options
from zero_jax.executors import fusion
from zero_jax.executors.base import Options as Evaluation
from zero_jax.executors.gpu import ptx_carrier, source
from zero_jax.executors.gpu.layout import Shape, program_bytes, shape_of
from zero_jax.executors.registry import EXECUTORS
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.run.presets import PRESETS
from zero_jax.tasks import Tasks
from zero_jax.use import bench

HERE = Path(__file__).parent
ARCHITECTURE = 90

DISPATCH = 18
"""Instructions from a row's op to its branch: six comparisons and jumps, loads from a table, and a jump."""

STALL = 6.0, 14.0
"""Cycles between two instructions of a warp, if nothing else is in the way: at best those of dependent arithmetic, at worst of
chains of loads from shared memory (23 cycles) with a few instructions in between (Jia et al. 2018 and later, of Volta to Hopper).
An assumption."""


class Gpu(NamedTuple):
    """A GPU (NVIDIA's data sheets): the clock is the highest."""

    multiprocessors: int
    hertz: float
    bytes_per_second: float

    @property
    def flops(self) -> float:
        return self.multiprocessors * self.hertz * 256


GPUS = {"H100": Gpu(132, 1.98e9, 3.35e12), "H200": Gpu(132, 1.98e9, 4.8e12)}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    features: tuple[int, ...] = (4, 8, 16, 32)
    many: tuple[int, ...] = (128, 256, 512, 784, 1024, 3072)
    out: Path = HERE / "model.json"


class Cost(NamedTuple):
    """Machine instructions of a warp or block, and those of them that go to shared memory."""

    instructions: float
    shared: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.instructions + other.instructions, self.shared + other.shared)

    def times(self, n: float) -> "Cost":
        return Cost(n * self.instructions, n * self.shared)


class Work(NamedTuple):
    """What a program does on its tasks: how often each op runs in all, and how often a component."""

    ops: Counter
    components: float
    flops: float


def main() -> None:
    chosen = options.parsed(Options, sys.argv[1:], description=__doc__)
    cases = [("demo", 4, demo())] + [("network", features, network(features)) for features in chosen.features]
    rows = [row for case in cases for row in modelled(*case)]
    print(
        "GPU   program   F   blocks  warps  instructions  of them shared   issue limit  shared limit  expected, programs/s"
    )
    for row in rows:
        print(line(row))
    large = [many_features(features) for features in chosen.many]
    print("\nH200, the network   F   bytes a program  programs at a time      cuda       xla, programs/s")
    for row in large:
        print(f"{row['features']:20}  {row['bytes']:16,}  {row['programs']:18,}  {row['cuda']:8.2f}  {row['xla']:8.2f}")
    found = {"stall": STALL, "dispatch": DISPATCH, "rows": rows, "many_features": large}
    chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    draw(rows, chosen.out.with_suffix(".svg"))


# ---------------------------------------------------------------------------------------------- what programs do


def network(features: int) -> Work:
    program = fused(library.program("network", learning_rate=bench.LEARNING_RATE))
    runs = 1, bench.TRAIN + bench.VALID, bench.TRAIN
    predict, both = bench.network_operations(features)
    return Work(ops(program, np.array([runs])), sum(runs), TASKS * (bench.TRAIN * both + bench.VALID * predict))


def demo() -> Work:
    """Of an average program."""
    config, count = PRESETS["demo"][1], 2000
    tasks, space = config.tasks.search.make(0), config.searcher.space
    form = canonical(random_programs(space, count, np.random.default_rng(0))).programs
    simd = EXECUTORS["simd"]
    fitness, steps = simd.launch(form, simd.prepare(tasks, Evaluation(canonical_form=True)), 0)()
    # A block runs until its last task stops, and validates then if it has not.
    longest = steps.max(1)
    lives = (longest == tasks.train_x.shape[1]) & (fitness > 0).any(1)
    runs = np.stack([np.ones(count), longest + lives * tasks.valid_x.shape[1], longest], 1)
    done = ops(fused(form), runs)
    return Work(Counter({op: n / count for op, n in done.items()}), runs.sum() / count, 0.0)


def fused(programs: Programs) -> Programs:
    form = canonical(programs).programs
    return fusion.fused(form, Interface.scalar(form.memory))


def ops(programs: Programs, runs: np.ndarray) -> Counter:
    """How often each op runs, if components run so often, `[P, 3]`."""
    done: Counter = Counter()
    for p, counts in enumerate(runs):
        for component, first in enumerate(programs.starts[:3]):
            for op in programs.code[p, first : first + programs.length[p, component], 0]:
                done[int(op)] += float(counts[component])
    return done


# ---------------------------------------------------------------------------------------------- what it costs


def modelled(name: str, features: int, work: Work) -> list[dict]:
    space = PRESETS["demo"][1].searcher.space
    program = library.program("network") if name == "network" else random_programs(space, 1, np.random.default_rng(0))
    shape = shape_of(program.memory, tuple(program.starts), features, TASKS)
    of_block = -(-shape.threads // 32)
    whole = compiled(shape, ARCHITECTURE)
    passed_over = longest_loop(dataclasses.replace(shape, component=1), ())
    first = total = Cost(0, 0)
    for cost, times, is_scalar in [
        (frame(shape), work.components, False),
        *((one(shape, op), times, fusion.ALL_OPS[op].output == "s") for op, times in work.ops.items()),
        (Cost(DISPATCH, 0), sum(work.ops.values()), False),
    ]:
        first += cost.times(times)
        total += cost.times(times)
        # The threads that own a lane's scalars are in the first warp.
        total += (passed_over if is_scalar else cost).times((of_block - 1) * times)
    rows = []
    for gpu_name, gpu in GPUS.items():
        cycles = gpu.multiprocessors * gpu.hertz
        limits = {"issue": 4 * cycles / total.instructions, "shared": cycles / total.shared}
        slow, fast = (whole["blocks"] * cycles / stall / first.instructions for stall in reversed(STALL))
        expected = [min(*limits.values(), rate) for rate in (slow, fast)]
        rows.append(
            {"gpu": gpu_name, "program": name, "features": features, "threads": shape.threads}
            | {key: whole[key] for key in ("registers", "shared", "blocks", "warps")}
            | {"instructions": total.instructions, "to_shared": total.shared, "limits": limits, "expected": expected}
            | {"flops": work.flops, "peak": gpu.flops, "bandwidth": gpu.multiprocessors * gpu.hertz * 128}
        )
    return rows


def one(shape: Shape, op: int) -> Cost:
    """One run of an op, without finding it."""
    return longest_loop(dataclasses.replace(shape, component=1), (fusion.ALL_OPS[op],))


def frame(shape: Shape) -> Cost:
    """What goes around a component, but for the fitness at the end of an epoch."""
    return longest_loop(shape, ())


def longest_loop(shape: Shape, only: tuple) -> Cost:
    """The largest loop with a barrier in it, of the kernel with these ops alone."""
    text = ptx_carrier.text(shape, only).replace("for (k = 0;", "UNROLL(64) for (k = 0;")
    text = text.replace("UNROLL(1)\n    for (int from", "UNROLL(1024)\n    for (int from")
    text = text.replace(source.RMSE, "0.0f")
    text = text.replace("__syncwarp()", "__syncthreads()")  # which machine code shows
    lines = machine_code(text)
    places = {label: n for n, line in enumerate(lines) for label in re.findall(r"^(\.L_x_\d+):", line)}
    loops = []
    for n, line in enumerate(lines):
        for label in re.findall(r"BRA.*\(?(\.L_x_\d+)", line):
            if places.get(label, n) < n:
                loops.append([part for part in lines[places[label] : n + 1] if ";" in part])
    loop = max((loop for loop in loops if any("BAR.SYNC" in part for part in loop)), key=len)
    return Cost(len(loop), sum(bool(re.search(r"\b(LDS|STS|ATOMS)", part)) for part in loop))


def machine_code(text: str) -> list[str]:
    made = ptx_carrier.compiled(text, f"sm_{ARCHITECTURE}")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made)
        here = [str(path) for root in sys.path for path in Path(root).glob("nvidia/*/bin/nvdisasm")]
        command = [next(iter(here), "nvdisasm"), "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


# ---------------------------------------------------------------------------------------------- many features

SUSTAINED = 0.6
"""The share of the memory's bandwidth that either executor can have at best."""

IN_FLIGHT, LATENCY = 8, 600e-9
"""How many loads of 4 bytes a thread has under way, and seconds that one takes. Assumptions, as are those around them."""

LAUNCH = 2.5e-6
"""Seconds for each instruction by XLA, which makes a kernel of it."""


def many_features(features: int) -> dict:
    """Programs/s of the network where its matrices lie in an H200's memory, and are read for each product, read and written
    for each update. `cuda` has as many blocks as fit 1 GiB or the GPU; XLA one program at a time, spread over all of it.
    """
    gpu, program = GPUS["H200"], fused(library.program("network"))
    shape = shape_of(program.memory, tuple(program.starts), features, TASKS)
    tasks = Tasks(*(np.zeros((TASKS, 1, *rest)) for rest in ((features,), (), (features,), ())))
    one = program_bytes(program.memory, tasks)
    programs = max(1, 2**30 // one)
    blocks = min(programs * shape.groups, gpu.multiprocessors * (2048 // shape.threads // 4))
    moved = TASKS * (3 * bench.TRAIN + bench.VALID) * features**2 * 4
    bandwidth = SUSTAINED * gpu.bytes_per_second
    instructions = int(program.length[0, 1:].sum())
    return {
        "features": features,
        "bytes": one,
        "programs": programs,
        "cuda": min(bandwidth, blocks * shape.threads * IN_FLIGHT * 4 / LATENCY) / moved,
        "xla": min(bandwidth / moved, 1 / (LAUNCH * instructions * (bench.TRAIN + bench.VALID))),
    }


# ---------------------------------------------------------------------------------------------- what is shown


def line(row: dict) -> str:
    limits, (slow, fast) = row["limits"], row["expected"]
    return (
        f"{row['gpu']}  {row['program']:8} {row['features']:2}  {row['blocks']:6}  {row['warps']:5}  {row['instructions']:12,.0f}  "
        f"{row['to_shared']:14,.0f}  {limits['issue']:12,.0f}  {limits['shared']:12,.0f}  {slow:,.0f} to {fast:,.0f}"
    )


UPSTREAM = {4: 199.0, 8: 110.0, 16: 64.0}
"""Programs/s of the authors' C++ on one core, the network on 10 tasks, measured beside our SIMD executor."""

PALLAS = 5_000.0, 9_000.0
"""Programs/s of the Pallas kernel on an H200 at F = 16, as an earlier study estimates them: it has never run on one."""


def draw(rows: list[dict], path: Path) -> None:
    """The roofline of an H200's shared memory, with the network on it; and what CPUs measure, by the bytes to their first
    cache.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes: Axes = figure.subplots()
    mine = [row for row in rows if row["gpu"] == "H200" and row["program"] == "network"]
    peak, bandwidth = mine[0]["peak"], mine[0]["bandwidth"]
    intensity = np.geomspace(0.05, 10, 100)
    axes.plot(
        intensity,
        np.minimum(peak, intensity * bandwidth) / 1e9,
        color="0.3",
        label="H200: multiply-adds, shared memory",
    )
    for row in mine:
        x = row["flops"] / (row["to_shared"] * 128)
        bar(axes, x, row["flops"], row["expected"], "C0", "cuda on an H200, modelled", row["features"])
        if row["features"] == 16:
            bar(axes, 0.9 * x, row["flops"], PALLAS, "C1", "pallas on an H200, estimated", 16)
    core = json.loads((HERE / "layouts.json").read_text())
    axes.axhline(core["peak_gflops"], color="0.7", linestyle=":", label="one CPU core: multiply-adds, measured")
    for row in core["rows"]:
        if row["tasks"] != TASKS or row["features"] not in {mine["features"] for mine in mine}:
            continue
        best = max((row[name] for name in ("tasks as lanes", "features as lanes")), key=lambda one: one["gflops"])
        x, flops = best["operations_per_byte"], best["gflops"] * 1e9 / best["programs_per_second"]
        bar(axes, x, flops, [best["programs_per_second"]] * 2, "C2", "simd on one core, measured", row["features"])
        if row["features"] in UPSTREAM:
            bar(
                axes, x, flops, [UPSTREAM[row["features"]]] * 2, "C3", "upstream on one core, measured", row["features"]
            )
    axes.set(
        xscale="log", yscale="log", xlabel="operations for each byte to or from the nearest memory", ylabel="GFLOP/s"
    )
    axes.set_title("The 2-layer network on 10 tasks; the numbers are F")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), fontsize=8)
    figure.savefig(path)


def bar(axes: Axes, x: float, flops: float, rates, color: str, label: str, features: int) -> None:
    """A range of programs/s, in GFLOP/s."""
    low, high = (flops * rate / 1e9 for rate in rates)
    axes.plot([x, x], [low, high], "_-", color=color, label=label)
    axes.annotate(f" {features}", (x, high), fontsize=8, color=color)


if __name__ == "__main__":
    main()
