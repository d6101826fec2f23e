"""Which instructions hand their result to which, in programs that evolution made: what superinstructions are chosen by.

    python experiments/throughput/pairs.py

Evolves the presets for a while and counts, over the live code of the last populations, the pairs of instructions in
Predict and Learn of which the second alone reads what the first writes.
"""

import collections
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from zero_jax.cli.options import parsed
from zero_jax.evaluation import KnownForms, Probe
from zero_jax.evaluation.evaluator import Evaluator
from zero_jax.executors.fusion import FUSIONS
from zero_jax.program.canonical import canonical, table
from zero_jax.program.ops import OPS
from zero_jax.program.programs import Programs
from zero_jax.run import build
from zero_jax.run.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    cohorts: int = 300
    out: Path = Path(__file__).parent / "pairs.json"


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    joined = {(giver, taker) for giver, taker, *_ in FUSIONS}
    result = {}
    for preset in ("demo", "teacher", "empty"):
        counts: collections.Counter[tuple[int, int]] = collections.Counter()
        for seed in range(3):
            counts.update(pairs(canonical(evolved(preset, seed, chosen.cohorts)).programs))
        total = sum(counts.values())
        rows = [
            {"first": OPS[a].name, "then": OPS[b].name, "share": round(n / total, 4), "joined": (a, b) in joined}
            for (a, b), n in counts.most_common(12)
        ]
        share = sum(n for pair, n in counts.items() if pair in joined) / total
        result[preset] = {"pairs": total, "share_joined": round(share, 4), "most_common": rows}
        print(preset, total, "pairs, of which a superinstruction joins", f"{share:.0%}")
        for row in rows[:6]:
            print("  ", row)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def evolved(preset: str, seed: int, cohorts: int) -> Programs:
    config = PRESETS[preset][1].replace(seed=seed)
    search = build.searcher(config)
    evaluator = Evaluator(build.tasks(config, "search"), stages=(KnownForms(), Probe()))
    state = search.init(seed)
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    return state.programs


def pairs(programs: Programs) -> collections.Counter[tuple[int, int]]:
    """Givers and takers within Predict and within Learn, of values that only the taker reads before they are replaced."""
    counts: collections.Counter[tuple[int, int]] = collections.Counter()
    known = table(programs.memory)
    for code, length in zip(np.asarray(programs.code), np.asarray(programs.length), strict=True):
        for c in (1, 2):
            rows = [code[k] for k in range(programs.starts[c], programs.starts[c] + length[c])]
            cells = [known[row[0], :3] + row[1:] for row in rows]
            for i, (row, cell) in enumerate(zip(rows, cells, strict=True)):
                later = [(j, cells[j]) for j in range(i + 1, len(rows))]
                replaced = next((j for j, other in later if other[2] == cell[2]), None)
                readers = [j for j, other in later if cell[2] in other[:2] and (replaced is None or j <= replaced)]
                if len(readers) == 1 and (replaced is not None or row[3] > 1):
                    counts[int(row[0]), int(rows[readers[0]][0])] += 1
    return counts


if __name__ == "__main__":
    main()
