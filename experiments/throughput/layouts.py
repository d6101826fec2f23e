"""Tasks or features as lanes of the SIMD executor: which is faster for how many features and tasks, on one thread.

    python experiments/throughput/layouts.py
    python experiments/throughput/layouts.py --beside ../before --features 4 8 16 32 --tasks 10 16

It trains the library's 2-layer network on linear tasks of 8,000 + 1,000 examples with each layout in turns; a ratio is of
the fastest of each. `limit` is what the multiply-adds alone would take at the rate that `zero-jax bench` measures, for
the lanes that a layout computes, used or not. With `--beside`, another checkout of this repository takes turns too, with
its own choice, in a process of its own. All goes to `layouts.json`, and without `--beside` a figure to `layouts.svg`.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from zero_jax.cli.options import parsed
from zero_jax.executors.simd import arrays, lanes
from zero_jax.executors.simd.layout import WIDTH, Layout
from zero_jax.program import library
from zero_jax.program.canonical import canonical
from zero_jax.tasks import synthetic
from zero_jax.use import bench

OTHER = """
import sys
try:
    from zero_jax.use import bench
except ImportError:  # before that room was built
    from zero_jax import bench
for line in sys.stdin:
    features, tasks, seconds = line.split()
    more = {"effort": bench.Effort(float(seconds))} if hasattr(bench, "Effort") else {"seconds": float(seconds)}
    print(bench.network(int(features), int(tasks), 1, **more).programs_per_second, flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    features: tuple[int, ...] = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64)
    tasks: tuple[int, ...] = (1, 4, 10, 16, 45)
    rounds: int = 5
    seconds: float = 0.2
    beside: Path | None = None  # another checkout
    out: Path = Path(__file__).parent / "layouts.json"


class Other:
    """Another checkout, which measures on request."""

    def __init__(self, folder: Path) -> None:
        here = os.environ | {"PYTHONPATH": str(folder.resolve()), "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER],
            env=here,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rate(self, features: int, tasks: int, seconds: float) -> float:
        """Programs a second."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(features, tasks, seconds, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


class Measured:
    """The network on some tasks, with one layout."""

    def __init__(self, layout: Layout, tasks: int, seconds: float) -> None:
        program = library.program("network", learning_rate=bench.LEARNING_RATE)
        self.form = canonical(program).programs
        self.tasks = arrays.lay_out(
            synthetic.linear(tasks, features=layout.features, train=bench.TRAIN, valid=bench.VALID), layout
        )
        self.count, self.best = 1, 0.0
        self.turn()  # compiles
        while (took := self.turn()) < seconds / 2:
            self.count = int(self.count * max(2, 0.8 * seconds / took))

    def turn(self) -> float:
        """Trains the network some times, and returns the seconds it took."""
        began = time.perf_counter()
        lanes.evaluate(self.form, self.tasks, 0, rows=np.zeros(self.count, np.int64), threads=1)
        took = time.perf_counter() - began
        self.best = max(self.best, self.count / took)
        return took


def operations(layout: Layout, tasks: int) -> float:
    """Floating-point operations on all lanes, for one program on all tasks."""
    predict, both = bench.network_operations(layout.features)
    used = bench.TRAIN * both + bench.VALID * predict
    groups = -(-tasks // WIDTH)
    padded = groups * WIDTH if not layout.registers else tasks * layout.registers * WIDTH / layout.features
    return used * padded


def row(features: int, tasks: int, chosen: Options, peak: float, other: Other | None) -> dict:
    """Both layouts in turns, and perhaps another checkout."""
    layouts = {"tasks as lanes": Layout(features, 0), "features as lanes": Layout.with_features(features)}
    measured = {name: Measured(layout, tasks, chosen.seconds) for name, layout in layouts.items()}
    before = 0.0
    for _ in range(chosen.rounds):
        for one in measured.values():
            for _ in range(bench.REPEATS):
                one.turn()
        if other:
            before = max(before, other.rate(features, tasks, chosen.seconds))
    out: dict = {"features": features, "tasks": tasks}
    for name, layout in layouts.items():
        limit = peak * 1e9 / operations(layout, tasks)
        out[name] = {"programs_per_second": measured[name].best, "limit": limit, "share": measured[name].best / limit}
    out["ratio"] = measured["features as lanes"].best / measured["tasks as lanes"].best
    if other:
        mine = measured["features as lanes" if Layout.of(features, tasks).registers else "tasks as lanes"].best
        out |= {"beside": before, "gain": mine / before}
    return out


def draw(rows: list[dict], to: Path) -> None:
    """How many times as fast features as lanes are, over F, a line for each number of tasks."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for tasks in dict.fromkeys(one["tasks"] for one in rows):
        some = [one for one in rows if one["tasks"] == tasks]
        axes.plot([one["features"] for one in some], [one["ratio"] for one in some], marker="o", label=f"{tasks} tasks")
    axes.axhline(1, color="0.6", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="features", ylabel="features as lanes / tasks as lanes, programs/s")
    axes.set_xticks([4, 8, 16, 32, 64], [4, 8, 16, 32, 64])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(to)


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    other = Other(chosen.beside) if chosen.beside else None
    peak, rows = bench.peak(1), []
    for features in chosen.features:
        for tasks in chosen.tasks:
            rows.append(row(features, tasks, chosen, peak, other))
            print(json.dumps(rows[-1]), flush=True)
    about = {"date": date.today().isoformat(), "machine": bench.machine(), "peak_gflops": peak}
    chosen.out.write_text(json.dumps(about | {"beside": str(chosen.beside or ""), "rows": rows}, indent=1) + "\n")
    if not other:
        draw(rows, chosen.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
