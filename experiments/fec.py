"""How to round the errors that the functional equivalence cache hashes (Real et al. 2020, supplement S4).

    python experiments/fec.py

Programs that a search asks for, each canonical form once, are probed on 10 + 10 examples by two executors whose last bits
differ: SIMD, and the Pallas kernel interpreted. For each number of significant bits: how often the two agree on whether
a program does what an earlier one does (bar: 99.9%), how many do, and how many of those are false: an honest training
gives another mean fitness (by more than 1e-4). Results: `fec.json`.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.cli.options import parsed
from zero_jax.executors import blocks, dispatch
from zero_jax.executors.pallas import gpu as pallas
from zero_jax.executors.simd import arrays
from zero_jax.executors.simd import lanes as simd
from zero_jax.program.programs import concatenate
from zero_jax.run import build
from zero_jax.run.presets import PRESETS

PROBE = 10
BITS = (24, 22, 20, 18, 16, 14, 12, 10, 8)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    presets: tuple[str, ...] = ("demo", "teacher", "empty")
    programs: int = 10_000
    out: Path = Path(__file__).with_suffix(".json")


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    rows = []
    print("preset    bits  agreement   hits  false hits")
    for name in chosen.presets:
        for row in measure(name, chosen.programs):
            rows.append(row)
            print(
                "{preset:8}  {bits:4}  {agreement:9.3%}  {alike:5.1%}  {false:6} ({false_share:.3%})".format(**row),
                flush=True,
            )
    chosen.out.write_text(json.dumps(rows, indent=1) + "\n")


def measure(name: str, count: int) -> list[dict]:
    experiment = PRESETS[name][1].replace(probe=0)
    programs, tasks = asked(experiment, count)
    seed = build.derived_seed(experiment, "search draws", 0)
    fitness = simd.evaluate(programs, arrays.lay_out(tasks), seed).fitness.mean(1)
    probe = tasks.shortened(PROBE, PROBE)
    one = simd.evaluate(programs, arrays.lay_out(probe), seed, fuse=False, want="errors").errors
    other = interpreted(programs, probe, seed, experiment.searcher.space.ops)
    return [row(name, bits, fitness, one, other) for bits in BITS]


def asked(experiment, count: int):
    """Programs that a search asks for, each canonical form once, and its tasks."""
    searcher, tasks = build.searcher(experiment), build.tasks(experiment, "search")
    evaluator = build.evaluator(experiment, tasks, "search", searcher.ops)
    state, kept, seen = searcher.init(1), [], set()
    while len(seen) < count:
        state, candidates = searcher.ask(state)
        form = candidates.forms
        fresh = [i for i, h in enumerate(map(bytes, form.hashes)) if h not in seen and not seen.add(h)]
        kept.append(form.programs[np.array(fresh, int)])
        state = searcher.tell(state, candidates, evaluator(candidates))
    return concatenate(kept)[np.arange(count)], tasks


def interpreted(programs, tasks, seed: int, ops) -> np.ndarray:
    sets = dispatch.op_sets(ops, programs.memory)
    run = jax.jit(lambda p: pallas.evaluate_programs(
        blocks.prepared(p, sets, prune=True), tasks, jnp.uint32(seed), jnp.float32(100), sets, interpret=True, errors=True
    )[2])  # fmt: skip
    return np.concatenate([np.asarray(run(programs[np.arange(i, i + 500)])) for i in range(0, len(programs), 500)])


def row(name: str, bits: int, fitness, one, other) -> dict:
    first, second = (firsts(rounded(errors, bits)) for errors in (one, other))
    number = np.arange(len(fitness))
    hit, also = first != number, second != number
    false = int((np.abs(fitness[first] - fitness)[hit] > 1e-4).sum())
    return {
        "preset": name,
        "bits": bits,
        "agreement": float((hit == also).mean()),
        "alike": float(hit.mean()),
        "false": false,
        "false_share": false / max(1, int(hit.sum())),
    }


def rounded(errors: np.ndarray, bits: int) -> np.ndarray:
    """To `bits` significant bits; every NaN the same, -0 as 0."""
    exact = np.where(np.isnan(errors), np.float32(np.nan), errors + np.float32(0)).astype(np.float32)
    drop = 24 - bits
    words = exact.view(np.uint32).astype(np.uint64)
    return (((words + (1 << drop >> 1)) >> drop) << drop).astype(np.uint32)


def firsts(words: np.ndarray) -> np.ndarray:
    """`[P]` the first program with the same errors."""
    rows = np.ascontiguousarray(words.reshape(len(words), -1))
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first[group.reshape(-1)]


if __name__ == "__main__":
    main()
