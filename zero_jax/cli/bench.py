"""`zero-jax bench`: measures the speed of this machine."""

from json import dumps
from typing import Annotated

import tyro

from zero_jax.cli import options
from zero_jax.executors.registry import check_executor
from zero_jax.support.bounds import check_number
from zero_jax.use import bench as benchmark


def bench_command(
    features: tuple[int, ...] = benchmark.FEATURES,
    executor: str = "auto",
    seconds: float = 1.0,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Measures how fast this machine trains programs, on one thread and on all: the library's 2-layer network on linear
    tasks of 8,000 + 1,000 examples, and random programs from the space of the demo preset. A cycle is what a core
    takes for a multiply-add on sixteen numbers; how many an example takes stands beside the least that its matrix would
    take with sixteen tasks, and with features, as lanes of a register.

    Args:
        features: Numbers of features for which the network is measured.
        executor: auto, or an executor by its name: xla runs anywhere. An unknown name lists all.
        seconds: Target duration of each of the three repetitions of a measurement.
        json: Print JSON instead of a table.
    """
    if not features:
        raise ValueError("--features needs at least one number")
    for number in features:
        check_number("features", number)
    if not 0 < seconds < 1e6:
        raise ValueError(f"seconds must be above 0, not {seconds}")
    check_executor(executor)
    measured: list[benchmark.Measurement] = []
    for one in benchmark.run(tuple(features), executor=executor, seconds=seconds):
        if not json and not measured:  # only once the first measurement has succeeded
            print(benchmark.HEAD)
        measured.append(one)
        if not json:
            print(benchmark.line(one), flush=True)
    about = benchmark.machine() | benchmark.peaks({m.threads for m in measured})
    if json:
        print(dumps({"machine": about, "measurements": [one._asdict() for one in measured]}, indent=1))
    else:
        print(benchmark.machine_line(about))
    return 0


def bench(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(bench_command, arguments, prog="zero-jax bench")
