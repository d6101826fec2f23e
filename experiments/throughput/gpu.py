"""What only a GPU can tell about the executors `cuda` and `pallas`, in one command of under 5 minutes.

    python experiments/throughput/gpu.py

It needs a CUDA jax, `zero-jax[gpu]` and cuda-bindings. Results go to `<device>.json` and `<device>.png` beside this file, or
into `--out`. `--rehearse` runs all of it small, the kernels interpreted, on any machine.

1. golden:    the golden data on the device, in every layout and by both carriers, ten times: right, and equal every time?
   random:    the same of random programs at other F, with epochs and errors, against XLA on the CPU.
2. rates:     demo and network in programs/s, populations of 1,000, 10,000 and 100,000, against the device's copy
              bandwidth and float32 rate, and beside what `model.py` expects of `cuda`.
3. caches:    the network at F = 16, with instructions a cycle and hit rates where `ncu` is at hand.
4. compiling: how long is a first call, and do caches on disk remove it?
5. layouts:   others than those of the tables (`zero_jax/executors/gpu/layout.py`, `.../pallas/layout.py`).
6. overlap:   how long the device waits for the host (`overlap.py`).
7. searches:  `demo` and `empty`, whole.
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
from collections.abc import Callable
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
from zero_jax.executors.gpu import kernel as cuda  # noqa: E402
from zero_jax.executors.gpu import layout as cuda_layout  # noqa: E402
from zero_jax.executors.pallas import gpu as pallas  # noqa: E402
from zero_jax.executors.pallas import layout as pallas_layout  # noqa: E402
from zero_jax.executors.registry import EXECUTORS  # noqa: E402
from zero_jax.run.api import run as run_experiment  # noqa: E402
from zero_jax.run.presets import PRESETS  # noqa: E402
from zero_jax.tasks import synthetic  # noqa: E402
from zero_jax.use import bench  # noqa: E402

GOLDEN = HERE.parent.parent / "tests" / "golden" / "programs.json"
BUDGET = 240.0
"""Seconds after which nothing new begins: the command is to end in under 5 minutes."""

SEARCH_SECONDS = 20.0
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
    columns: tuple[int, ...] = (1, 2, 4)
    warps: tuple[int, ...] = (1, 8)
    features: tuple[int, ...] = (4, 8, 16, 32)
    examples: tuple[int, int] = (bench.TRAIN, bench.VALID)
    demo: tuple[int, ...] = (1_000, 10_000, 98_304)
    network: tuple[int, ...] = (1_024, 8_192)
    seconds: float = 0.5


REHEARSAL = Size(True, 40, 2, (1, 2), (1,), (2, 4), (20, 10), (50, 100), (2, 4), 0.05)


EXECUTED = ("cuda", "pallas")

Train = Callable[..., tuple[jax.Array, jax.Array]]
"""Fitness and train steps of prepared programs, given tasks, seed and bound."""


def trainings(executor: str, layouts: dict, interpret: bool) -> dict[str, Train]:
    """Training by an executor's kernel, for all ops, in each layout by name."""
    made = {}
    for name, layout in layouts.items():

        def train(ready, tasks, seed, limit, layout=layout):
            sets = dispatch.op_sets(None, ready.memory)
            if executor == "cuda":
                done = cuda.train(ready, tasks, seed, limit, sets, layout=layout)
                return done.fitness, done.steps
            return pallas.evaluate_programs(ready, tasks, seed, limit, sets, interpret=interpret, layout=layout)

        made[name] = jax.jit(train)
    return made


def of_cuda(features: int, columns: tuple[int, ...], interpret: bool) -> dict:
    """Layouts of `cuda`: its own and others, and its own by the other carrier, which needs a GPU."""
    own = next(row for row in cuda_layout.LAYOUTS if features <= row.features)
    layouts = {f"columns {n}": own._replace(columns=n, blocks=1) for n in columns} | {"the table's": own}
    return layouts if interpret else layouts | {"the table's, by XLA's call": own._replace(carrier="ptx")}


def of_pallas(features: int, tasks: int, warps: tuple[int, ...]) -> dict:
    own = pallas_layout.layout_for(features, tasks)
    return {f"warps {n}": own._replace(warps=n) for n in warps}


@dataclasses.dataclass(frozen=True)
class Script:
    """What the script is asked for; `child` is for itself."""

    rehearse: bool = False
    out: Path = HERE
    only: tuple[str, ...] = ()  # which parts; all of them by default
    child: Literal["cuda", "pallas", "network"] | None = None


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
        fitness, steps = (np.array(data[key])[: size.programs] for key in ("fitness", "train_steps"))
        layouts = {
            "cuda": of_cuda(tasks.features, size.columns, size.interpret),
            "pallas": of_pallas(tasks.features, len(tasks), size.warps),
        }
        for executor in EXECUTED:
            for name, train in trainings(executor, layouts[executor], size.interpret).items():
                call = partial(train, ready, tasks, jnp.uint32(0), jnp.float32(stored["max_abs_error"]))
                runs = [jax.device_get(call()) for _ in range(size.repeats)]
                results[f"{executor}, {loss}, {name}"] = {
                    "close": float((np.abs(runs[0][0] - fitness) <= 1e-3).mean()),
                    "steps": float((runs[0][1] == steps).mean()),
                    "equal_runs": all(np.array_equal(a, b) for r in runs[1:] for a, b in zip(r, runs[0], strict=True)),
                }
    return results


def random(size: Size) -> dict:
    results = {}
    for executor in EXECUTED:
        for features in size.features[1:]:
            for kind in ("epochs", "errors"):
                if not late():
                    results[f"{executor}, {kind}, F={features}"] = against_cpu(
                        size, executor, features, kind == "errors"
                    )
    return results


def against_cpu(size: Size, executor: str, features: int, errors: bool) -> dict:
    """Random programs with all ops on 19 tasks, in the layout that `evaluate` takes, against XLA on the CPU."""
    every = tuple(range(65))
    space = SearchSpace(
        (5, 4, 3), Component(every, (2, 6, 8)), Component(every, (2, 8, 10)), Component(every, (2, 8, 12))
    )
    programs = random_programs(space, 20 if size.interpret else 300, np.random.default_rng(features))
    tasks = synthetic.linear(19, features=features, train=12, valid=6, epochs=1 if errors else 2)
    on_gpu, xla = EXECUTORS[executor], EXECUTORS["xla"]
    prepared = on_gpu.prepare(tasks, Options(ops=every, interpret=size.interpret))
    runs = [on_gpu.launch(programs, prepared, 5, fingerprints=errors)() for _ in range(size.repeats)]
    agreement = {"equal_runs": all(np.array_equal(a, b) for r in runs[1:] for a, b in zip(r, runs[0], strict=True))}
    if not errors:
        on_cpu = Options(ops=every, devices=jax.devices("cpu")[:1])
        want = xla.launch(programs, xla.prepare(tasks, on_cpu), 5)()
        agreement["close"] = float((np.abs(want[0] - runs[0][0]) <= 1e-4).mean())
        agreement["steps"] = float((want[1] == runs[0][1]).mean())
    return agreement


def caches(size: Size) -> dict:
    measured = network(size, "cuda", size.features[-2])._asdict()
    if shutil.which("ncu") and not size.interpret:
        metrics = "l1tex__t_sector_hit_rate.pct,lts__t_sector_hit_rate.pct,sm__warps_active.avg.pct_of_peak_sustained_active,smsp__inst_executed.avg.per_cycle_active"
        command = ["ncu", "--clock-control", "none", "-k", "regex:zero_jax", "-c", "1", "--metrics", metrics]
        command = ["timeout", "90", *command, sys.executable, __file__, "--child", "network"]
        profiled = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line.strip() for line in profiled.stdout.splitlines() if "__" in line]
        measured["ncu"] = lines or {
            "exit": profiled.returncode,
            "out": profiled.stdout[-800:],
            "err": profiled.stderr[-800:],
        }
    return measured


def network(size: Size, executor: str, features: int, tasks: int = 10, batch: int = 0) -> bench.Measurement:
    effort = bench.Effort(size.seconds, size.examples, batch or (2 if size.interpret else 0), size.interpret)
    return bench.network(features, tasks, executor=executor, effort=effort)


def rates(size: Size) -> dict:
    device = bench.device_rates(2**20, 16) if size.interpret else bench.device_rates()
    measured = {"copy_gb_per_s": device.copy, "multiply_add_gflops": device.multiply_adds}
    efforts = [bench.Effort(size.seconds, batch=n, interpret=size.interpret) for n in size.demo]
    middle = size.features[-2]
    for executor in EXECUTED:
        demos = [bench.demo(executor=executor, effort=effort) for effort in efforts]
        measured[f"{executor}, demo"] = {n: m.programs_per_second for n, m in zip(size.demo, demos, strict=True)}
        networks = {n: network(size, executor, middle, 10, n).programs_per_second for n in size.network}
        measured[f"{executor}, network, F={middle}"] = networks
        cases = [(f, 10) for f in size.features] + [(middle, 16)]
        measured[f"{executor}, table"] = [network(size, executor, *case)._asdict() for case in cases]
    return measured | {"modelled": modelled()}


def modelled() -> dict:
    """What `model.py` expects of `cuda` on an H200, in programs/s: the range, and the lower of its limits."""
    rows = json.loads((HERE / "model.json").read_text())["rows"]
    return {
        f"{row['program']}, F={row['features']}": [*row["expected"], min(row["limits"].values())]
        for row in rows
        if row["gpu"] == "H200"
    }


def compiling(size: Size) -> dict:
    times = {}
    for executor in EXECUTED:
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "WARP_CACHE_PATH": cache,
            }
            for name in ("without", "with"):
                command = [sys.executable, __file__, "--child", executor, *(["--rehearse"] if size.interpret else [])]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                key = f"{executor}, first call {name} cache, s"
                times[key] = done.stderr[-800:] if done.returncode else float(done.stdout.split()[-1])
    return times


def child(what: str, size: Size) -> None:
    """A process of its own, for `compiling` and for `ncu`."""
    if what == "network":
        network(size, "cuda", 16, 10, 1024)
        return
    tasks = synthetic.linear(10, features=4, train=100, valid=100)
    programs = random_programs(PRESETS["demo"][1].searcher.space, 100, np.random.default_rng(0))
    jnp.zeros(3).block_until_ready()
    began = time.perf_counter()
    np.asarray(evaluate(programs, tasks, ops=range(65), executor=what, interpret=size.interpret).fitness)
    print(time.perf_counter() - began)


def layouts(size: Size) -> dict:
    rates = {}
    own = {row.features: row for row in cuda_layout.LAYOUTS}
    tried = {
        4: [(4, 16), (4, 32), (1, 32)],
        8: [(4, 12), (2, 20), (2, 16)],
        16: [(8, 7), (8, 5), (16, 4), (4, 7)],
        32: [(16, 2), (8, 2)],
    }
    tried_by_pallas = {4: [(16, 2, True)], 8: [(16, 1, True)], 16: [(16, 4, True), (8, 4, True)], 32: [(16, 8, True)]}
    if size.interpret:
        tried, tried_by_pallas = {4: [(4, 1)]}, {4: [(16, 1, False)]}
    for features in tried:
        cudas = {f"columns {c}, blocks {b}": own[features]._replace(columns=c, blocks=b) for c, b in tried[features]}
        other = {str(layout): pallas_layout.Layout(*layout) for layout in tried_by_pallas[features]}
        for executor, some in zip(EXECUTED, (cudas, other), strict=True):
            for name, train in trainings(executor, some, size.interpret).items():
                if late():
                    return rates | {"left out": "no time was left"}
                rates[f"{executor}, F={features}, {name}"] = rate(size, features, train)
    return rates


def rate(size: Size, features: int, train: Train) -> float:
    """Programs/s of the network on an eighth of the examples."""
    program = library.program("network", learning_rate=bench.LEARNING_RATE)
    sets = dispatch.op_sets(None, program.memory)
    n, k = (size.examples[0] // 8 or 5, size.examples[1] // 8 or 5)
    count = 2 if size.interpret else max(512, 2**17 // features**2)
    ready = jax.jit(lambda p: blocks.prepared(p, sets, prune=True))(program[np.zeros(count, int)])
    tasks = jax.device_put(synthetic.linear(10, features=features, train=n, valid=k))
    call = partial(train, ready, tasks, jnp.uint32(0), jnp.float32(100))
    jax.block_until_ready(call())
    times = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return count / min(times)


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
        if isinstance(values, dict) and name != "modelled":
            left.plot([int(n) for n in values], list(values.values()), "o-", label=name)
    left.set(xscale="log", yscale="log", xlabel="programs in a call", ylabel="programs/s", title=result["device"])
    left.legend()
    for executor in EXECUTED:
        rows = [row for row in rates[f"{executor}, table"] if row["tasks"] == 10]
        right.plot([r["features"] for r in rows], [r["gflops"] for r in rows], "o-", label=executor)
    right.axhline(rates["multiply_add_gflops"], color="0.5", linestyle=":", label="measured multiply-adds")
    right.set(xscale="log", yscale="log", xlabel="features", ylabel="GFLOP/s", title="the 2-layer network")
    right.legend()
    figure.savefig(path(result, out).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
