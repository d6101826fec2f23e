"""What an example of 784 pixels takes with the SIMD executor, on one thread, with tasks or features as lanes.

    python experiments/throughput/pixels.py

It trains the library's linear program, its 2-layer network and the paper's best program (S1b) on linear tasks of 200 + 100
examples with each layout in turns; the fastest of each counts, divided by the examples of all tasks. Learning rates are so
small that no task is stopped. To `pixels.json`.
"""

import dataclasses
import json
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

from zero_jax.cli.options import parsed
from zero_jax.executors.simd import arrays, lanes
from zero_jax.executors.simd.layout import Layout
from zero_jax.program import library
from zero_jax.program.canonical import canonical
from zero_jax.support.files import write_atomically
from zero_jax.tasks import synthetic
from zero_jax.use import bench

PROGRAMS = {
    "linear": library.program("linear", learning_rate=1e-6),
    "network": library.program("network", learning_rate=1e-6),
    "S1b": library.program("cifar10"),
}
TRAIN, VALID = 200, 100


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    features: int = 784
    tasks: tuple[int, ...] = (1, 3, 9)
    rounds: int = 2
    out: Path = Path(__file__).parent / "pixels.json"


def seconds(name: str, tasks: int, layout: Layout) -> float:
    """What training and validation of a program take."""
    form = canonical(PROGRAMS[name]).programs
    made = synthetic.linear(tasks, features=layout.features, train=TRAIN, valid=VALID)
    laid_out = arrays.lay_out(made, layout)
    began = time.perf_counter()
    ran = lanes.evaluate(form, laid_out, 0, rows=np.zeros(1, np.int64), threads=1)
    took = time.perf_counter() - began
    assert (ran.train_steps == TRAIN).all(), name
    return took


def main(words: list[str] | None = None) -> None:
    chosen = parsed(Options, sys.argv[1:] if words is None else words, description=__doc__)
    layouts = {"tasks": Layout(chosen.features, 0), "features": Layout.with_features(chosen.features)}
    rows = []
    for name in PROGRAMS:
        for tasks in chosen.tasks:
            best = dict.fromkeys(layouts, np.inf)
            for _ in range(1 + chosen.rounds):  # the first compiles
                best = {lane: min(best[lane], seconds(name, tasks, layout)) for lane, layout in layouts.items()}
            each = {lane: round(1000 * took / tasks / (TRAIN + VALID), 4) for lane, took in best.items()}
            rows.append({"program": name, "tasks": tasks, "milliseconds": each})
            print(name, tasks, each, flush=True)
    stored = {
        "command": " ".join(["python experiments/throughput/pixels.py", *(sys.argv[1:] if words is None else words)]),
        "date": date.today().isoformat(),
        "machine": bench.machine(),
        "features": chosen.features,
        "rows": rows,
    }
    write_atomically(chosen.out, json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
