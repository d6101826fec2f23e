"""How fast the SIMD executor is on this machine, and beside another program that prints the same network's speed.

    python experiments/throughput/cpu.py --beside ../shared/prototypes/simd_lanes.py

Without `--beside` it is `zero-jax bench --json`, kept in a file. With it, the other program (a script that prints lines
`F 4 1 thr ... progs/s 1664.4 ...` for one thread) runs before and after each round of ours, and the ratios are of the
fastest of each: machines are noisy, ratios within one run are less so.
"""

import dataclasses
import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

from zero_jax.cli.options import parsed
from zero_jax.use import bench

FEATURES = (4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    beside: Path | None = None  # the other program
    rounds: int = 2
    out: Path = Path(__file__).parent / "cpu.json"


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    result = {"date": date.today().isoformat(), "machine": bench.machine()}
    result["peak_gflops"] = {threads: bench.peak(threads) for threads in (1, result["machine"]["cores"])}
    if chosen.beside:
        result["beside"] = str(chosen.beside)
        result["ratios"] = ratios(chosen.beside, chosen.rounds)
    result["measurements"] = [one._asdict() for one in bench.run(FEATURES)]
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {chosen.out}")


def ratios(other: Path, rounds: int) -> list[dict]:
    theirs: dict[int, float] = {}
    ours: dict[tuple[int, bool], float] = {}
    for _ in range(rounds):
        measure_other(other, theirs)
        for features in FEATURES:
            for fused in (False, True):
                rate = bench.network(features, 10, 1, fused=fused, effort=bench.Effort(0.7)).programs_per_second
                ours[features, fused] = max(rate, ours.get((features, fused), 0.0))
    measure_other(other, theirs)
    rows = []
    for features in FEATURES:
        plain, fused = ours[features, False], ours[features, True]
        row = {"features": features, "theirs": theirs[features], "plain": plain, "fused": fused}
        row |= {"plain_ratio": plain / theirs[features], "fused_ratio": fused / theirs[features]}
        rows.append(row)
        print(
            f"F={features}: {plain / theirs[features]:.2f} without superinstructions, {fused / theirs[features]:.2f} with"
        )
    return rows


def measure_other(other: Path, best: dict[int, float]) -> None:
    text = subprocess.run([sys.executable, str(other)], capture_output=True, text=True, check=True).stdout
    for features, rate in re.findall(r"^F (\d+) 1 thr .*?progs/s ([\d.]+)", text, re.MULTILINE):
        best[int(features)] = max(float(rate), best.get(int(features), 0.0))


if __name__ == "__main__":
    main()
