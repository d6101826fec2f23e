"""What only a GPU can tell about the Pallas executor, in one command of under 8 minutes.

    python experiments/throughput/gpu.py

It needs the package's base install and a CUDA jax. Results go to `<device>.json` and `<device>.png` beside this file, or
into `--out`. `--rehearse` runs all of it small, the kernel interpreted, on any machine.

1. golden:    the golden data on the device, at every number of warps, ten times: right, and equal every time?
   random:    the same of random programs at other F, with epochs and errors, against XLA on the CPU.
2. caches:    do stores keep L1 lines valid? The network at F = 16, with hit rates where `ncu` is at hand.
3. rates:     demo and network in programs/s, populations of 1,000, 10,000 and 100,000, against the device's copy
              bandwidth and float32 rate; then the table of `zero-jax bench`.
4. ptx:       does XLA's custom call for PTX load and run, so that a kernel in CUDA C++ could be shipped as text?
5. compiling: how long is a first call, and does JAX's persistent compilation cache remove it?
6. layouts:   other lanes and warps than the table's (`zero_jax/executors/pallas/layout.py`).
7. overlap:   how long the device waits for the host (`overlap.py`).
8. searches:  `linear` and `digits`, whole.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import date
from functools import partial
from pathlib import Path
from typing import Literal

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes that this one starts need memory too

import jax
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import overlap  # noqa: E402

from zero_jax import Component, Programs, SearchSpace, Tasks, evaluate, library, random_programs  # noqa: E402
from zero_jax.cli.options import parsed  # noqa: E402
from zero_jax.executors import blocks, dispatch  # noqa: E402
from zero_jax.executors.base import Options  # noqa: E402
from zero_jax.executors.pallas import gpu as kernel  # noqa: E402
from zero_jax.executors.pallas.layout import Layout, layout_for  # noqa: E402
from zero_jax.executors.registry import EXECUTORS  # noqa: E402
from zero_jax.run.api import run as run_experiment  # noqa: E402
from zero_jax.run.presets import PRESETS  # noqa: E402
from zero_jax.tasks import synthetic  # noqa: E402
from zero_jax.use import bench  # noqa: E402

GOLDEN = HERE.parent.parent / "tests" / "golden" / "programs.json"
BUDGET = 420.0
"""Seconds after which nothing new begins: the command is to end in under 8 minutes."""

SEARCH_SECONDS = 40.0
"""The seconds after which a search ends and keeps its results."""

BEGAN = time.perf_counter()


def late() -> bool:
    return time.perf_counter() - BEGAN > BUDGET


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything: the whole, or a rehearsal."""

    interpret: bool
    programs: int = 1000
    repeats: int = 10
    warps: tuple[int, ...] = (1, 2, 4, 8)
    features: tuple[int, ...] = (4, 8, 16, 32)
    examples: tuple[int, int] = (bench.TRAIN, bench.VALID)
    demo: tuple[int, ...] = (1_000, 10_000, 98_304)
    network: tuple[int, ...] = (1_024, 8_192)
    seconds: float = 0.5


REHEARSAL = Size(True, 40, 2, (1, 2), (2, 4), (20, 10), (50, 100), (2, 4), 0.05)


@dataclasses.dataclass(frozen=True)
class Script:
    """What the script is asked for; `child` is for itself."""

    rehearse: bool = False
    out: Path = HERE
    only: tuple[str, ...] = ()  # which parts; all of them by default
    child: Literal["compile", "network"] | None = None


def main() -> None:
    chosen = parsed(Script, sys.argv[1:], description=__doc__)
    size = REHEARSAL if chosen.rehearse else Size(False)
    if chosen.child:
        return child(chosen.child, size)
    device = jax.devices()[0]
    if device.platform != "gpu" and not chosen.rehearse:
        sys.exit(f"JAX sees no GPU here, but {device}: --rehearse runs the same small, interpreted")
    command = " ".join(["python", *sys.argv])
    result = {"date": date.today().isoformat(), "command": command, "device": device.device_kind}
    result |= {"machine": bench.machine()}
    for name in chosen.only or PARTS:
        if late():
            result[name] = "left out: no time was left"
            continue
        part_began = time.perf_counter()
        try:
            result[name] = PARTS[name](size)
        except Exception as error:  # what one part finds out must not be lost to another
            traceback.print_exc()
            result[name] = f"failed: {type(error).__name__}: {error}"[:500]
        print(f"-- {name}: {time.perf_counter() - part_began:.1f} s\n{json.dumps(result[name], indent=1)}", flush=True)
        save(result, chosen.out)
    result["seconds"] = time.perf_counter() - BEGAN
    save(result, chosen.out)
    draw(result, chosen.out)
    print(f"{result['seconds']:.0f} s in all; written to {path(result, chosen.out)}.json and .png")
    return None


def path(result: dict, out: Path) -> Path:
    return out / ("rehearsal" if "--rehearse" in result["command"] else result["device"].replace(" ", "-").lower())


def save(result: dict, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path(result, out).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------- the parts


def golden(size: Size) -> dict:
    stored = json.loads(GOLDEN.read_text())
    sizes, results = stored["sizes"], {}
    memory = (sizes["scalars"], sizes["vectors"], sizes["matrices"])
    programs = Programs.from_lists(stored["programs"][: size.programs], memory=memory)
    sets = dispatch.op_sets(None, programs.memory)
    ready = jax.jit(lambda p: blocks.prepared(p, sets, prune=True))(programs)
    for loss in ("rmse", "accuracy"):
        data = stored[loss]
        tasks = Tasks(data["train_x"], data["train_y"], data["valid_x"], data["valid_y"], loss=loss)
        for warps in size.warps if loss == "rmse" else size.warps[::3]:
            layout = layout_for(tasks.features, len(tasks))._replace(warps=warps)
            train = jax.jit(
                partial(kernel.evaluate_programs, sets=sets, interpret=size.interpret, layout=layout, errors=False)
            )
            runs = [
                jax.device_get(train(ready, tasks, jnp.uint32(0), jnp.float32(stored["max_abs_error"])))
                for _ in range(size.repeats)
            ]
            fitness, steps = (np.array(data[key])[: size.programs] for key in ("fitness", "train_steps"))
            results[f"{loss}, {warps} warps"] = {
                "close": float((np.abs(runs[0][0] - fitness) <= 1e-3).mean()),
                "steps": float((runs[0][1] == steps).mean()),
                "equal_runs": all(np.array_equal(a, b) for r in runs[1:] for a, b in zip(r, runs[0], strict=True)),
            }
    return results


def random(size: Size) -> dict:
    results = {}
    for features in size.features[1:]:
        for kind in ("epochs", "errors"):
            if not late():
                results[f"{kind}, F={features}"] = against_cpu(size, features, kind == "errors")
    return results


def against_cpu(size: Size, features: int, errors: bool) -> dict:
    """Random programs with all ops on 19 tasks, in the layout that `evaluate` takes, against XLA on the CPU."""
    every = tuple(range(65))
    space = SearchSpace(
        (5, 4, 3), Component(every, (2, 6, 8)), Component(every, (2, 8, 10)), Component(every, (2, 8, 12))
    )
    programs = random_programs(space, 20 if size.interpret else 300, np.random.default_rng(features))
    tasks = synthetic.linear(19, features=features, train=12, valid=6, epochs=1 if errors else 2)
    pallas, xla = EXECUTORS["pallas"], EXECUTORS["xla"]
    prepared = pallas.prepare(tasks, Options(ops=every, interpret=size.interpret))
    runs = [pallas.launch(programs, prepared, 5, fingerprints=errors)() for _ in range(size.repeats)]
    agreement = {"equal_runs": all(np.array_equal(a, b) for r in runs[1:] for a, b in zip(r, runs[0], strict=True))}
    if not errors:
        on_cpu = Options(ops=every, devices=jax.devices("cpu")[:1])
        want = xla.launch(programs, xla.prepare(tasks, on_cpu), 5)()
        agreement["close"] = float((np.abs(want[0] - runs[0][0]) <= 1e-4).mean())
        agreement["steps"] = float((want[1] == runs[0][1]).mean())
    return agreement


def caches(size: Size) -> dict:
    measured = network(size, size.features[-2])._asdict()
    if shutil.which("ncu") and not size.interpret:
        metrics = "l1tex__t_sector_hit_rate.pct,lts__t_sector_hit_rate.pct,sm__warps_active.avg.pct_of_peak_sustained_active,smsp__inst_executed.avg.per_cycle_active"
        command = ["ncu", "--clock-control", "none", "-k", "regex:zero_jax_train", "-c", "1", "--metrics", metrics]
        command = ["timeout", "90", *command, sys.executable, __file__, "--child", "network"]
        profiled = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line.strip() for line in profiled.stdout.splitlines() if "__" in line]
        measured["ncu"] = lines or {
            "exit": profiled.returncode,
            "out": profiled.stdout[-800:],
            "err": profiled.stderr[-800:],
        }
    return measured


def network(size: Size, features: int, tasks: int = 10, batch: int = 0) -> bench.Measurement:
    effort = bench.Effort(size.seconds, size.examples, batch or (2 if size.interpret else 0), size.interpret)
    return bench.network(features, tasks, executor="pallas", effort=effort)


def rates(size: Size) -> dict:
    device = bench.device_rates(2**20, 16) if size.interpret else bench.device_rates()
    measured = {"copy_gb_per_s": device.copy, "multiply_add_gflops": device.multiply_adds}
    efforts = [bench.Effort(size.seconds, batch=n, interpret=size.interpret) for n in size.demo]
    demos = [bench.demo(executor="pallas", effort=effort) for effort in efforts]
    measured["demo"] = {n: m.programs_per_second for n, m in zip(size.demo, demos, strict=True)}
    middle = size.features[-2]
    measured[f"network, F={middle}"] = {n: network(size, middle, 10, n).programs_per_second for n in size.network}
    cases = [(f, 10) for f in size.features] + [(middle, 16)]
    measured["table"] = [network(size, *case)._asdict() for case in cases]
    return measured


PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry add_one(.param .u64 x, .param .u64 y) {
  .reg .b64 %rd<6>; .reg .b32 %r<2>; .reg .f32 %f<2>;
  ld.param.u64 %rd0, [x]; ld.param.u64 %rd1, [y];
  cvta.to.global.u64 %rd2, %rd0; cvta.to.global.u64 %rd3, %rd1;
  mov.u32 %r0, %tid.x; mul.wide.u32 %rd4, %r0, 4;
  add.s64 %rd2, %rd2, %rd4; add.s64 %rd3, %rd3, %rd4;
  ld.global.f32 %f0, [%rd2]; add.f32 %f0, %f0, 0f3F800000; st.global.f32 [%rd3], %f0;
  ret;
}
"""


def ptx(size: Size) -> dict:
    if size.interpret:
        return {"runs": None}
    i = np.int32
    call = jax.ffi.ffi_call("__gpu$xla.gpu.ptx", jax.ShapeDtypeStruct((32,), jnp.float32))
    geometry = {"grid_x": i(1), "grid_y": i(1), "grid_z": i(1), "block_x": i(32), "block_y": i(1), "block_z": i(1)}
    result = jax.jit(
        lambda x: call(x, name="add_one", kernel_type="ptx", kernel_data=PTX, shared_mem_bytes=i(0), **geometry)
    )(jnp.arange(32, dtype=jnp.float32))
    return {"runs": bool((np.asarray(result) == np.arange(32) + 1).all())}


def compiling(size: Size) -> dict:
    times = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        for name in ("without", "with"):
            command = [sys.executable, __file__, "--child", "compile", *(["--rehearse"] if size.interpret else [])]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                return times | {"failed": done.stderr[-800:]}
            times[f"first call {name} cache, s"] = float(done.stdout.split()[-1])
    return times


def child(what: str, size: Size) -> None:
    """A process of its own, for `compiling` and for `ncu`."""
    if what == "network":
        network(size, 16, 10, 1024)
        return
    tasks = synthetic.linear(10, features=4, train=100, valid=100)
    programs = random_programs(PRESETS["demo"][1].searcher.space, 100, np.random.default_rng(0))
    jnp.zeros(3).block_until_ready()
    began = time.perf_counter()
    np.asarray(evaluate(programs, tasks, ops=range(65), executor="pallas", interpret=size.interpret).fitness)
    print(time.perf_counter() - began)


def layouts(size: Size) -> dict:
    rates = {}
    tried = {
        4: [(16, 1, False), (16, 1, True), (16, 2, True), (32, 1, False)],
        8: [(16, 2, True), (16, 1, True), (16, 4, True)],
        16: [(16, 8, True), (16, 4, True), (8, 4, True), (16, 16, True)],
        32: [(16, 8, True), (16, 16, True), (8, 8, True)],
    }
    if size.interpret:
        tried = {4: [(16, 1, False), (16, 2, True)]}
    program = library.program("network", learning_rate=bench.LEARNING_RATE)
    sets = dispatch.op_sets(None, program.memory)
    n, k = (size.examples[0] // 8 or 5, size.examples[1] // 8 or 5)
    for features, layouts_tried in tried.items():
        count = 2 if size.interpret else max(512, 2**17 // features**2)
        ready = jax.jit(lambda p: blocks.prepared(p, sets, prune=True))(program[np.zeros(count, int)])
        tasks = jax.device_put(synthetic.linear(16, features=features, train=n, valid=k))
        for layout in layouts_tried:
            if late():
                return rates | {"left out": "no time was left"}
            train = jax.jit(
                partial(kernel.evaluate_programs, sets=sets, interpret=size.interpret, layout=Layout(*layout))
            )
            call = partial(train, ready, tasks, jnp.uint32(0), jnp.float32(100))
            jax.block_until_ready(call())
            times = []
            for _ in range(3):
                began = time.perf_counter()
                jax.block_until_ready(call())
                times.append(time.perf_counter() - began)
            rates[f"F={features}, lanes {layout[0]}, warps {layout[1]}, by_row {layout[2]}"] = count / min(times)
    return rates


def overlapping(size: Size) -> list:
    islands, cohorts = (4, 2) if size.interpret else (400, 12)
    return [overlap.measure(groups, islands, cohorts)[0] for groups in (1, 2)]


def searches(size: Size) -> dict:
    runs = {}
    for name in ("demo", "empty"):
        experiment = PRESETS[name][1].replace(out=None, seed=1)
        if size.interpret:
            experiment = experiment.replace(train_steps=1_000_000, trials=1, baselines=())
        began = time.perf_counter()

        def stop(progress, began=began) -> None:
            if time.perf_counter() - began > SEARCH_SECONDS:
                raise KeyboardInterrupt

        outcome = run_experiment(experiment, stop)
        runs[name] = outcome.progress._asdict() | {
            "solved": outcome.solved,
            "select_fitness": outcome.select_fitness,
            "unseen_fitness": outcome.unseen_fitness,
            "interrupted": outcome.interrupted,
            "with_start": time.perf_counter() - began,
        }
    return runs


PARTS = {
    "golden": golden,
    "random": random,
    "rates": rates,
    "caches": caches,
    "ptx": ptx,
    "compiling": compiling,
    "overlap": overlapping,
    "layouts": layouts,
    "searches": searches,
}


def draw(result: dict, out: Path) -> None:
    """Programs/s by population, and the network's share of the float32 rate by F."""
    rates = result.get("rates")
    if not isinstance(rates, dict):
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for name, values in rates.items():
        if isinstance(values, dict):
            left.plot([int(n) for n in values], list(values.values()), "o-", label=name)
    left.set(xscale="log", yscale="log", xlabel="programs in a call", ylabel="programs/s", title=result["device"])
    left.legend()
    for tasks in sorted({row["tasks"] for row in rates["table"]}):
        rows = [row for row in rates["table"] if row["tasks"] == tasks]
        right.plot([r["features"] for r in rows], [r["gflops"] for r in rows], "o-", label=f"{tasks} tasks")
    right.axhline(rates["multiply_add_gflops"], color="0.5", linestyle=":", label="measured multiply-adds")
    right.set(xscale="log", yscale="log", xlabel="features", ylabel="GFLOP/s", title="the 2-layer network")
    right.legend()
    figure.savefig(path(result, out).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
