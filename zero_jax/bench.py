"""How fast this machine evaluates: what `zero-jax bench` measures."""

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import zero_jax
from zero_jax import library, parallel
from zero_jax.canonical import canonical
from zero_jax.compiled import HAVE_NUMBA
from zero_jax.executors.choice import choose
from zero_jax.executors.evaluate import evaluate
from zero_jax.presets import PRESETS
from zero_jax.programs import Programs, random_programs
from zero_jax.tasks import Tasks, synthetic

TRAIN, VALID = 8000, 1000
"""Examples per task of the network's benchmark."""

LEARNING_RATE = 0.001
"""Of the network: so small that no run stops early."""

REPEATS = 3
"""The fastest of so many runs counts: others share the machine."""


class Measurement(NamedTuple):
    """One line of the benchmark.

    Attributes:
      what: `network`, the library's 2-layer network; `demo`, random programs of the `linear` preset's space.
      features: F.
      tasks: T.
      threads: how many were used.
      executor: `simd` or `xla`.
      fused: whether superinstructions were used.
      programs_per_second: programs trained and validated on all tasks.
      train_steps_per_second: training examples, counted once for each task.
      gflops: 1e9 floating-point operations per second that the tasks need (padding not counted); 0 where unknown.
      share_of_peak: of the multiply-add rate that `peak` measured on as many threads; 0 where unknown.
      first_seconds: what the first call took, compilation or loading of compiled code included.
    """

    what: str
    features: int
    tasks: int
    threads: int
    executor: str
    fused: bool
    programs_per_second: float
    train_steps_per_second: float
    gflops: float
    share_of_peak: float
    first_seconds: float


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = {"zero_jax": zero_jax.__version__, "jax": jax.__version__, "numpy": np.__version__}
    if HAVE_NUMBA:
        import numba

        versions["numba"] = numba.__version__
    return {
        "cpu": model,
        "cores": parallel.cores(),
        "devices": [str(device) for device in jax.devices()],
        "system": platform.platform(),
        "versions": versions,
    }


def peak(threads: int, seconds: float = 0.3) -> float:
    """GFLOP/s of multiply-adds in vector registers, on some threads at a time.

    Raises:
      ValueError: without Numba.
    """
    if not HAVE_NUMBA:
        raise ValueError("measuring the peak multiply-add rate needs Numba: pip install numba")
    from zero_jax.executors import peak as loops

    loops.multiply_add(1)
    rounds = 100_000
    while True:
        began = time.perf_counter()
        parallel.share(lambda rounds=rounds: loops.multiply_add(rounds), threads, brief=True)  # type: ignore[misc]
        took = time.perf_counter() - began
        if took > seconds:
            return threads * rounds * loops.OPERATIONS / took / 1e9
        rounds = int(rounds * max(2.0, 1.3 * seconds / took))


def network_operations(features: int) -> tuple[int, int]:
    """Floating-point operations of the network's Predict, and of its Predict and Learn, on one example."""
    f = features
    predict = 2 * f * f + f + f + 2 * f
    learn = 3 + 2 * f + 3 * f + f + 2 * f * f
    return predict, predict + learn


def network(
    features: int,
    tasks: int = 10,
    threads: int = 1,
    *,
    executor: str = "auto",
    fused: bool = True,
    seconds: float = 1.0,
) -> Measurement:
    """Measures the library's network on linear tasks, 8,000 + 1,000 examples each.

    Args:
      features: F.
      tasks: T.
      threads: how many.
      executor: as in `evaluate`.
      fused: whether `simd` may make superinstructions.
      seconds: how long each of `REPEATS` runs should take.
    """
    program = library.program("network", learning_rate=LEARNING_RATE)
    on = synthetic.linear(tasks, features=features, train=TRAIN, valid=VALID)
    call = _caller(on, threads, executor, fused, program)
    first, rate, steps = _measure(call, program, seconds)
    predict, both = network_operations(features)
    gflops = rate * tasks * (TRAIN * both + VALID * predict) / 1e9
    chosen = choose(executor, program.memory, on)
    share = gflops / _peak(threads) if HAVE_NUMBA else 0.0
    return Measurement(
        "network", features, tasks, threads, chosen, fused and chosen == "simd", rate, steps, gflops, share, first
    )


def demo(threads: int = 1, *, executor: str = "auto", seconds: float = 1.0) -> Measurement:
    """Measures random programs of the `linear` preset's space on its tasks, each of them trained."""
    experiment = PRESETS["linear"][1]
    tasks = experiment.search_tasks.make(0)
    programs = random_programs(experiment.space, 2000, np.random.default_rng(0))
    call = _caller(tasks, threads, executor, True, programs)
    first, rate, steps = _measure(call, programs, seconds)
    chosen = choose(executor, programs.memory, tasks)
    return Measurement("demo", tasks.features, len(tasks), threads, chosen, False, rate, steps, 0.0, 0.0, first)


def run(
    features: tuple[int, ...] = (4, 8, 16, 32), *, executor: str = "auto", seconds: float = 1.0
) -> Iterator[Measurement]:
    """All measurements, one by one: on one thread and on all, with and without superinstructions, with 10 tasks and
    with 16.
    """
    for threads in dict.fromkeys((1, parallel.cores())):
        yield demo(threads, executor=executor, seconds=seconds)
        for f in features:
            found = network(f, 10, threads, executor=executor, seconds=seconds)
            yield found
            if found.executor == "simd":
                yield network(f, 16, threads, executor=executor, seconds=seconds)
                yield network(f, 10, threads, executor=executor, fused=False, seconds=seconds)


_peaks: dict[int, float] = {}


def _peak(threads: int) -> float:
    if threads not in _peaks:
        _peaks[threads] = peak(threads)
    return _peaks[threads]


def _caller(
    tasks: Tasks, threads: int, executor: str, fused: bool, example: Programs
) -> Callable[[Programs], np.ndarray]:
    """A function that trains programs and returns their train steps."""
    if choose(executor, example.memory, tasks) == "simd":
        from zero_jax.executors import simd

        lanes = simd.lay_out(tasks)

        def on_lanes(programs: Programs) -> np.ndarray:
            form = canonical(programs, threads).programs
            return simd.evaluate(form, lanes, 0, threads=threads, fuse=None if fused else False).train_steps

        return on_lanes
    return lambda programs: np.asarray(evaluate(programs, tasks, executor="xla", threads=threads).train_steps)


def _measure(call: Callable[[Programs], np.ndarray], programs: Programs, seconds: float) -> tuple[float, float, float]:
    """Seconds of the first call, then programs and train steps per second."""
    began = time.perf_counter()
    call(programs)
    first = time.perf_counter() - began
    batch, calls = programs, 1

    def timed() -> tuple[float, int]:
        began = time.perf_counter()
        steps = sum(int(call(batch).sum(dtype=np.int64)) for _ in range(calls))
        return time.perf_counter() - began, steps

    while (took := timed()[0]) < seconds / 4:
        if len(batch) < _BATCH:
            batch = batch[np.arange(2 * len(batch)) % len(batch)]
        else:
            calls *= 2
    calls = max(1, round(calls * seconds / took))
    best, steps = min(timed() for _ in range(REPEATS))
    return first, calls * len(batch) / best, steps / best


_BATCH = 16_000
"""Programs in one call, at most twice as many."""
