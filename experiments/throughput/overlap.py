"""Does the device wait for the host? A trace of a search, its islands in one group and in two.

    python experiments/throughput/overlap.py

With a GPU, the device's spans come from JAX's profiler. Without one, the SIMD executor on a thread of its own plays the
device (one core), and Python with selection, mutation and pruning the host (the other). Writes overlap.json beside this
file, or to `--out`, and a trace for chrome://tracing or ui.perfetto.dev beside that, with `--trace`.
"""

import dataclasses
import glob
import gzip
import json
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import jax

from zero_jax.cli.options import parsed
from zero_jax.evaluation.evaluator import Evaluator
from zero_jax.run import build
from zero_jax.run.presets import PRESETS
from zero_jax.run.trial import Trial
from zero_jax.use import bench

ISLANDS, COHORTS = 40, 24


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    out: Path = Path(__file__).parent / "overlap.json"
    trace: Path | None = None


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    result = {"date": date.today().isoformat(), "machine": bench.machine(), "groups": []}
    for groups in (1, 2):
        measured, events = measure(groups)
        result["groups"].append(measured)
        print(measured, flush=True)
        if chosen.trace:
            name = chosen.trace.with_stem(f"{chosen.trace.stem}-{groups}")
            name.write_text(json.dumps({"traceEvents": events}))
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(groups: int, islands: int = ISLANDS, cohorts: int = COHORTS, executor: str = "auto") -> tuple[dict, list]:
    """How long the device idles in a search of `digits`, every program trained; and the trace's events."""
    trial = search(groups, islands, executor)
    for _ in range(2 * groups):  # first populations, and compilation
        trial.evaluate_cohort()
    on_gpu = jax.default_backend() != "cpu"
    trained = trial.counts.evaluated
    began = time.perf_counter()
    if on_gpu:
        run(trial, groups * cohorts)
        seconds = time.perf_counter() - began
        trained = trial.counts.evaluated - trained
        with tempfile.TemporaryDirectory() as folder:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # it would slow the host down
            with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
                run(trial, groups * cohorts)
            (name,) = glob.glob(f"{folder}/**/perfetto_trace.json.gz", recursive=True)
            events = json.loads(gzip.decompress(Path(name).read_bytes()))["traceEvents"]
        spans = kernels(events)
    else:
        events = watch(trial)
        run(trial, groups * cohorts)
        seconds = time.perf_counter() - began
        spans = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "device"]
        trained = trial.counts.evaluated - trained
    return {
        "groups": groups,
        "device_idle": idle_share(spans),
        "programs_per_second": trained / seconds,
        "seconds": seconds,
    }, events


def kernels(events: list[dict]) -> list[tuple[float, float]]:
    """When the device's streams ran something that is no copy."""
    named = [e for e in events if e.get("ph") == "M"]
    devices = {e["pid"] for e in named if e["name"] == "process_name" and "/device:" in e["args"]["name"]}
    streams = {
        (e["pid"], e["tid"])
        for e in named
        if e["name"] == "thread_name" and e["pid"] in devices and "stream" in e["args"]["name"].lower()
    }
    ran = [e for e in events if e.get("ph") == "X" and (e["pid"], e["tid"]) in streams]
    return [(e["ts"], e["ts"] + e["dur"]) for e in ran if "memcpy" not in e["name"].lower()]


def search(groups: int, islands: int, executor: str) -> Trial:
    experiment = PRESETS["empty"][1].replace(islands=islands, groups=groups)
    searcher = build.searcher(experiment)
    evaluator = Evaluator(
        build.tasks(experiment, "search"), ops=searcher.ops, threads=1, stages=(), background=True, executor=executor
    )
    return build.trial(experiment.replace(sufficient_fitness=2.0, train_steps=10**15), 1, 7, [evaluator])


def run(trial: Trial, cohorts: int) -> None:
    for _ in range(cohorts):
        trial.evaluate_cohort()


def watch(trial: Trial) -> list[dict]:
    """Notes when the SIMD executor works, and when the host selects, mutates and replaces."""
    events: list[dict] = []

    def noting(name, thread, function):
        def call(*args, **more):
            began = time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                took = time.perf_counter() - began
                events.append({"name": name, "ph": "X", "pid": 1, "tid": thread, "ts": began * 1e6, "dur": took * 1e6})

        return call

    from zero_jax.executors.simd import lanes as simd  # only where there is Numba

    plain = simd.evaluate
    simd.evaluate = noting("device", 2, getattr(plain, "__wrapped__", plain))
    simd.evaluate.__wrapped__ = plain
    searcher = trial.searcher
    for name in ("ask", "tell"):
        object.__setattr__(searcher, name, noting(name, 1, getattr(searcher, name)))
    return events


def idle_share(spans: list[tuple[float, float]]) -> float | None:
    """Of the time from the first span's begin to the last one's end, the part in no span; None of no spans."""
    if not spans:
        return None
    spans = sorted(spans)
    begin, end, busy = spans[0][0], spans[0][0], 0.0
    for first, last in spans:
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    return 1 - busy / (end - begin)


if __name__ == "__main__":
    main()
