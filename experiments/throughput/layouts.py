"""Tasks or features as lanes of the SIMD executor: which is faster for how many features and tasks, on one thread.

    python experiments/throughput/layouts.py
    python experiments/throughput/layouts.py --beside ../before --features 4 8 16 32 --tasks 10 16

It trains the library's 2-layer network on linear tasks of 8,000 + 1,000 examples with each layout in turns; a ratio is of
the fastest of each. Cycles are those of `zero-jax bench`; the roofline has on one axis the operations that the tasks
need for each byte that goes between registers and the first cache, on the other how many are done in a second. With
`--beside`, another checkout of this repository takes turns too, with its own choice, in a process of its own. All goes
to `layouts.json`, and without `--beside` a figure to `layouts.svg`.
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
from matplotlib.axes import Axes
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


def operations(features: int, tasks: int) -> int:
    """Floating-point operations that one program needs on all tasks."""
    predict, both = bench.network_operations(features)
    return tasks * (bench.TRAIN * both + bench.VALID * predict)


def bytes_moved(layout: Layout, tasks: int) -> int:
    """What one program loads and stores on all tasks.

    In training the matrix is loaded and stored, in validation loaded; of vectors, counting each operand and result of
    each row, 16 and 8.
    """
    vector = tasks * layout.registers if layout.registers else -(-tasks // WIDTH) * layout.features
    matrix = vector * layout.features
    return 4 * WIDTH * (bench.TRAIN * (2 * matrix + 16 * vector) + bench.VALID * (matrix + 8 * vector))


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
    examples = bench.TRAIN + bench.VALID
    for name, layout in layouts.items():
        best, (train, valid) = measured[name].best, layout.least_cycles(tasks)
        cycles = peak * 1e9 / (2 * WIDTH) / (best * examples)
        least = (bench.TRAIN * train + bench.VALID * valid) / examples
        gflops, intensity = (
            best * operations(features, tasks) / 1e9,
            operations(features, tasks) / bytes_moved(layout, tasks),
        )
        out[name] = {"programs_per_second": best, "cycles": cycles, "least_cycles": least, "share": least / cycles}
        out[name] |= {"gflops": gflops, "operations_per_byte": intensity}
    out["ratio"] = measured["features as lanes"].best / measured["tasks as lanes"].best
    if other:
        mine = measured["features as lanes" if Layout.of(features, tasks).registers else "tasks as lanes"].best
        out |= {"beside": before, "gain": mine / before}
    return out


def draw(rows: list[dict], peak: float, to: Path) -> None:
    """The roofline, and how many times as fast features as lanes are."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_roofline(left, [one for one in rows if one["tasks"] == 10], peak)
    draw_ratios(right, rows)
    figure.savefig(to)


def draw_roofline(axes: Axes, rows: list[dict], peak: float) -> None:
    """GFLOP/s over operations per byte, under what the core can do."""
    bytes_a_second = peak / (2 * WIDTH) * 1.5 * 4 * WIDTH  # a load of sixteen numbers in a cycle, a store in two
    for layout, marker in (("tasks as lanes", "o"), ("features as lanes", "s")):
        x, y = ([one[layout][key] for one in rows] for key in ("operations_per_byte", "gflops"))
        axes.plot(x, y, marker, label=layout)
        for one, at in zip(rows, zip(x, y, strict=True), strict=True):
            if one["features"] in (4, 8, 16, 32, 64):
                axes.annotate(f"F = {one['features']}", at, (5, -3), textcoords="offset points", fontsize=8)
    x = np.geomspace(0.03, 3, 100)
    axes.plot(x, np.minimum(bytes_a_second * x, peak), color="0.4", label="multiply-adds; first cache")
    axes.set(xscale="log", yscale="log", xlabel="operations per byte, 10 tasks", ylabel="GFLOP/s")
    axes.legend()


def draw_ratios(axes: Axes, rows: list[dict]) -> None:
    """How many times as fast features as lanes are, over F, a line for each number of tasks."""
    for tasks in dict.fromkeys(one["tasks"] for one in rows):
        some = [one for one in rows if one["tasks"] == tasks]
        axes.plot([one["features"] for one in some], [one["ratio"] for one in some], marker="o", label=f"{tasks} tasks")
    axes.axhline(1, color="0.6", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="features", ylabel="features as lanes / tasks as lanes, programs/s")
    axes.set_xticks([4, 8, 16, 32, 64], [4, 8, 16, 32, 64])
    axes.set_yticks([0.2, 0.5, 1, 2, 4], [0.2, 0.5, 1, 2, 4])
    axes.minorticks_off()
    axes.legend()


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
        draw(rows, peak, chosen.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
