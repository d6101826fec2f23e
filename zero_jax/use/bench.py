"""How fast this machine evaluates: what `zero-jax bench` measures."""

import functools
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import zero_jax
from zero_jax.executors import devices
from zero_jax.executors.base import Executor, Options, Request
from zero_jax.executors.registry import EXECUTORS, choose
from zero_jax.executors.simd.layout import WIDTH, Layout
from zero_jax.program import library
from zero_jax.program.canonical import canonical
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.space import random_programs
from zero_jax.run.presets import PRESETS
from zero_jax.support import threads as parallel
from zero_jax.support.compiled import HAVE_NUMBA, WHY_INTERPRETED
from zero_jax.tasks import Tasks, synthetic

TRAIN, VALID = 8000, 1000
"""Examples per task of the network's benchmark."""

LEARNING_RATE = 0.001
"""Of the network: so small that no run stops early."""

FEATURES = 4, 8, 16, 32, 64
"""The numbers of features that the network is measured with."""

REPEATS = 3
"""How many times to measure; the fastest counts, since others share the machine."""


class Measurement(NamedTuple):
    """One line of the benchmark.

    Attributes:
      what: `network`, the library's 2-layer network; `demo`, random programs of the `demo` preset's space.
      features: F.
      tasks: T.
      threads: how many of the host were used.
      executor: the name of the executor.
      fused: whether superinstructions were used.
      programs_per_second: programs trained and validated on all tasks.
      train_steps_per_second: training examples, counted once for each task.
      gflops: 1e9 floating-point operations per second that the tasks need (padding not counted); 0 where unknown.
      share_of_peak: of the multiply-add rate that `peak` measured on as many threads, or `device_rates` on the device;
        0 where unknown.
      first_seconds: what the first call took, compilation or loading of compiled code included.
      cycles: how many an example takes on all tasks together, in training and validation on average. A cycle is a
        multiply-add on sixteen numbers, at the rate that `peak` measured on as many threads. 0 where unknown.
      least_cycles: what it takes at least with tasks and with features as lanes (`Layout.least_cycles`).
      features_as_lanes: which of the two it was.
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
    cycles: float = 0.0
    least_cycles: tuple[float, float] = (0.0, 0.0)
    features_as_lanes: bool = False


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
        "vectors": vectors() if HAVE_NUMBA else "",
        "cores": parallel.cores(),
        "devices": [str(device) for device in jax.devices()],
        "system": platform.platform(),
        "versions": versions,
    }


def vectors() -> str:
    """The widest vector instructions that loops are compiled for.

    Raises:
      ModuleNotFoundError: without Numba.
    """
    from numba.core.registry import cpu_target

    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    always = {"x86_64": "SSE2", "AMD64": "SSE2", "aarch64": "NEON", "arm64": "NEON"}
    wide = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    known = always.get(platform.machine(), "LLVM's generic vectors")
    return next((name for flag, name in wide.items() if f"+{flag}" in features), known)


def peaks(threads: Iterable[int]) -> dict[str, Any]:
    """What the machine does at best: on a CPU by number of threads, else `device_rates`."""
    if devices.platform() != "cpu":
        return {"device": device_rates()._asdict()}
    return {"peak_gflops": {n: _peak(n) for n in sorted(threads)} if HAVE_NUMBA else {}}


def peak(threads: int, seconds: float = 0.3) -> float:
    """GFLOP/s of multiply-adds in vector registers, on some threads at a time.

    Raises:
      ValueError: without Numba.
    """
    if not HAVE_NUMBA:
        raise ValueError(f"{WHY_INTERPRETED}, and measuring the peak multiply-add rate needs it")
    from zero_jax.executors.simd import peak as loops

    loops.multiply_add(1)
    rounds = 100_000
    while True:
        began = time.perf_counter()
        parallel.share(lambda rounds=rounds: loops.multiply_add(rounds), threads, brief=True)  # type: ignore[misc]
        took = time.perf_counter() - began
        if took > seconds:
            return threads * rounds * loops.OPERATIONS / took / 1e9
        rounds = int(rounds * max(2.0, 1.3 * seconds / took))


class DeviceRates(NamedTuple):
    """What a device does at best: GB/s of copying (read and written bytes), GFLOP/s of float32 multiply-adds."""

    copy: float
    multiply_adds: float


@functools.cache
def device_rates(numbers: int = 2**27, chain: int = 256) -> DeviceRates:
    """Measures the default device of JAX.

    Args:
      numbers: how many float32 to work on.
      chain: how many multiply-adds on each, in one kernel.
    """

    def multiply_add(x: jax.Array) -> jax.Array:
        for _ in range(chain):
            x = x * np.float32(0.999) + np.float32(0.001)
        return x

    values = jax.numpy.ones(numbers, np.float32)
    copying = _fastest(jax.jit(lambda x: x + np.float32(1)), values)
    adding = _fastest(jax.jit(multiply_add), values)
    return DeviceRates(8 * numbers / copying / 1e9, 2 * chain * numbers / adding / 1e9)


def _fastest(function: Callable[[jax.Array], jax.Array], x: jax.Array, calls: int = 10) -> float:
    """Seconds a call, of the fastest of some rounds; the calls of a round wait in the device's queue for each other."""
    times = []
    for _ in range(REPEATS + 1):  # the first one compiles
        began, y = time.perf_counter(), x
        for _ in range(calls):
            y = function(y)
        y.block_until_ready()
        times.append((time.perf_counter() - began) / calls)
    return min(times)


def network_operations(features: int) -> tuple[int, int]:
    """Floating-point operations of the network's Predict, and of its Predict and Learn, on one example."""
    f = features
    predict = 2 * f * f + f + f + 2 * f
    learn = 3 + 2 * f + 3 * f + f + 2 * f * f
    return predict, predict + learn


class Effort(NamedTuple):
    """How long to measure, and on what.

    Attributes:
      seconds: how long each of `REPEATS` runs should take.
      examples: N and K of the network's tasks.
      batch: how many programs in a call; 0 for as many as it takes.
      interpret: as in `evaluate`.
    """

    seconds: float = 1.0
    examples: tuple[int, int] = (TRAIN, VALID)
    batch: int = 0
    interpret: bool = False


def network(
    features: int,
    tasks: int = 10,
    threads: int = 1,
    *,
    executor: str = "auto",
    fused: bool = True,
    effort: Effort = Effort(),
) -> Measurement:
    """Measures the library's network on linear tasks.

    Args:
      features: F.
      tasks: T.
      threads: how many.
      executor: as in `evaluate`.
      fused: whether an executor that can may make superinstructions.
      effort: how long to measure, and on what.
    """
    program = library.program("network", learning_rate=LEARNING_RATE)
    train, valid = effort.examples
    on = synthetic.linear(tasks, features=features, train=train, valid=valid)
    options = Options(threads=threads, interpret=effort.interpret, canonical_form=True, fuse=None if fused else False)
    chosen = choose(executor, Request(program.memory, on, options))
    batch = effort.batch or chosen.programs_to_fill(features)
    first, rate, steps = _measure(_caller(chosen, on, options), program, effort.seconds, batch)
    predict, both = network_operations(features)
    gflops = rate * tasks * (train * both + valid * predict) / 1e9
    best = 0.0 if effort.interpret and chosen.interprets else _peak_of(chosen, threads)
    share = gflops / best if best else 0.0
    measured = Measurement(
        "network", features, tasks, threads, chosen.name, fused and chosen.fuses, rate, steps, gflops, share, first
    )
    return _with_cycles(measured, best, effort.examples) if chosen.fuses and best else measured


def _with_cycles(measured: Measurement, best: float, examples: tuple[int, int]) -> Measurement:
    """Adds cycles, given the GFLOP/s that the threads reach at best."""
    layouts = Layout(measured.features, 0), Layout.with_features(measured.features)
    tasks, least = (float(np.dot(one.least_cycles(measured.tasks), examples) / sum(examples)) for one in layouts)
    cycles = best * 1e9 / (2 * WIDTH) / (measured.programs_per_second * sum(examples))
    as_lanes = Layout.of(measured.features, measured.tasks).registers > 0
    return measured._replace(cycles=cycles, least_cycles=(tasks, least), features_as_lanes=as_lanes)


def demo(threads: int = 1, *, executor: str = "auto", effort: Effort = Effort()) -> Measurement:
    """Measures random programs of the `demo` preset's space on its tasks, each of them trained."""
    config = PRESETS["demo"][1]
    tasks, space = config.tasks.search.make(0), config.searcher.space
    options = Options(ops=space.ops, threads=threads, interpret=effort.interpret, canonical_form=True)
    chosen = choose(executor, Request(space.memory, tasks, options))
    batch = effort.batch or 6 * chosen.programs_to_fill(tasks.features)  # most of them stop early
    programs = random_programs(space, batch or 2000, np.random.default_rng(0))
    first, rate, steps = _measure(_caller(chosen, tasks, options), programs, effort.seconds, batch)
    return Measurement("demo", tasks.features, len(tasks), threads, chosen.name, False, rate, steps, 0.0, 0.0, first)


def run(features: tuple[int, ...] = FEATURES, *, executor: str = "auto", seconds: float = 1.0) -> Iterator[Measurement]:
    """All measurements, one by one: on a CPU on one thread and on all with 10 tasks; on one also with 4, 16 and 45
    tasks, and without superinstructions. On a GPU or TPU those of the device.
    """
    effort = Effort(seconds)
    host = devices.platform() == "cpu"
    for threads in dict.fromkeys((1, parallel.cores())) if host else (1,):
        yield demo(threads, executor=executor, effort=effort)
        for f in features:
            measured = network(f, 10, threads, executor=executor, effort=effort)
            yield measured
            if EXECUTORS[measured.executor].fuses and threads == 1:
                for tasks in (4, 16, 45):
                    yield network(f, tasks, executor=executor, effort=effort)
                yield network(f, 10, executor=executor, fused=False, effort=effort)


_peaks: dict[int, float] = {}


def _peak(threads: int) -> float:
    if threads not in _peaks:
        _peaks[threads] = peak(threads)
    return _peaks[threads]


def _peak_of(executor: Executor, threads: int) -> float:
    """GFLOP/s of what an executor runs on; 0 where unknown."""
    if executor.on_host or devices.platform() == "cpu":
        return _peak(threads) if HAVE_NUMBA else 0.0
    return device_rates().multiply_adds


Call = Callable[[Programs], Callable[[], np.ndarray]]
"""Begins to train programs, and returns a function that waits for their train steps."""


def _caller(executor: Executor, tasks: Tasks, options: Options) -> Call:
    prepared = executor.prepare(tasks, options)

    def call(programs: Programs) -> Callable[[], np.ndarray]:
        form = canonical(programs, options.threads, Interface.of(programs.memory, tasks)).programs
        wait = executor.launch(form, prepared, 0)
        return lambda: wait()[1]

    return call


def _measure(call: Call, programs: Programs, seconds: float, size: int) -> tuple[float, float, float]:
    """Seconds of the first call, then programs and train steps per second; of `size` programs a call, if given."""
    batch, calls = programs, 1
    if size:
        batch = batch[np.arange(size) % len(batch)]
    began = time.perf_counter()
    call(batch)()
    first = time.perf_counter() - began

    def timed() -> tuple[float, int]:
        """As a search does it: the host prepares a batch while the device has another."""
        began, steps = time.perf_counter(), 0
        waiting = call(batch)
        for _ in range(calls - 1):
            following = call(batch)
            steps += int(waiting().sum(dtype=np.int64))
            waiting = following
        steps += int(waiting().sum(dtype=np.int64))
        return time.perf_counter() - began, steps

    while (took := timed()[0]) < seconds / 4:
        if len(batch) < _BATCH and not size:
            batch = batch[np.arange(2 * len(batch)) % len(batch)]
        else:
            calls *= 2
    calls = max(1, round(calls * seconds / took))
    best, steps = min(timed() for _ in range(REPEATS))
    return first, calls * len(batch) / best, steps / best


_BATCH = 16_000
"""Programs in one call, at most twice as many."""


HEAD = """\
                                                                                cycles an example, and at least with
what      F  tasks  threads  executor    lanes     programs/s  GFLOP/s  of peak    taken    tasks  features  first call\
"""


def machine_line(about: dict[str, Any]) -> str:
    """What `machine` and `peaks` return, as text."""
    if "device" in about:
        rates = about["device"]
        speed = f"copies {rates['copy']:,.0f} GB/s, multiply-adds {rates['multiply_adds']:,.0f} GFLOP/s"
        return f"{', '.join(about['devices'])}: {speed}; host {about['cpu']}, {about['cores']} cores"
    cores = f"{about['cores']} cores{', ' * bool(about['vectors'])}{about['vectors']}"
    rates = ", ".join(f"{rate:.0f} GFLOP/s on {n} thread{'s' * (n > 1)}" for n, rate in about["peak_gflops"].items())
    return f"{about['cpu']}, {cores}; multiply-adds: {rates}"


def line(m: Measurement) -> str:
    """A row of the table below `HEAD`."""
    name = f"{m.executor}{' fused' * m.fused}"
    lanes = ("tasks", "features")[m.features_as_lanes] if m.cycles else ""
    speed = f"{m.gflops:7.1f}  {m.share_of_peak:6.1%}" if m.gflops else " " * 15
    tasks, features = m.least_cycles
    cycles = f"{m.cycles:7,.0f}  {tasks:7,.0f} {features:9,.0f}" if m.cycles else " " * 26
    return (
        f"{m.what:8} {m.features:2}  {m.tasks:5}  {m.threads:7}  {name:10}  {lanes:8} {m.programs_per_second:11,.0f}  "
        f"{speed}  {cycles}  {m.first_seconds:8.2f} s"
    )
