"""A network from random programs: how often, how fast, and which parts of the search it needs.

    python experiments/network.py --seeds 300 301 302
    python experiments/network.py --features 8
    python experiments/network.py --only "one set" --limit 120

Teacher tasks as in `zero-jax search teacher` (paper, Fig. 5). Success is a program that trains its hidden layer
(`zero_jax.program.roles`) and is more than 0.1 above the best affine fit on 50 unseen tasks. Each variant changes one
setting of the preset; the last two are other methods in the same space. The seeds 300 to 319 were not used during design. The result is
in `network.json`, or `network-8.json` for 8 features.
"""

import dataclasses
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from zero_jax.cli.options import parsed
from zero_jax.program.canonical import pruned
from zero_jax.program.roles import roles
from zero_jax.run import PRESETS, run
from zero_jax.search import Mutations
from zero_jax.use.bench import machine

MARGIN = 0.1

VARIANTS: dict[str, dict[str, Any]] = {
    "niche search": {},
    "one set": {"sets": 1},
    "no migration": {"migration": 0.0},
    "all examples": {"fidelity": ((1.0, 1.0),)},
    "one rung": {"fidelity": ((0.5, 0.1),)},
    "efficient": {"method": "efficient", "population": 100, "cohort": 10, "tournament": 10, "mutations": Mutations()},
    "evolution": {"method": "evolution", "population": 1000, "cohort": 100, "tournament": 10, "mutations": Mutations()},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script is asked for."""

    seeds: tuple[int, ...] = tuple(range(300, 320))
    features: int = 4
    limit: float = 600.0  # seconds of each run
    only: tuple[str, ...] = ("niche search",)
    out: Path | None = None


def main() -> None:
    chosen = parsed(Options, sys.argv[1:], description=__doc__)
    rows = {}
    for name in chosen.only:
        runs = []
        for seed in chosen.seeds:
            runs.append(one(name, seed, chosen.features, chosen.limit))
            print(name, json.dumps(runs[-1]), flush=True)
        found = sum(row["found"] for row in runs)
        low, high = stats.binomtest(found, len(runs)).proportion_ci(method="wilson")
        seconds = float(np.median([row["seconds"] if row["found"] else np.inf for row in runs]))
        rows[name] = {"found": found, "of": len(runs), "interval": [low, high], "median_seconds": seconds, "runs": runs}
        print(f"{name}: {found} of {len(runs)} (95%: {low:.2f} to {high:.2f}), median {seconds:.1f} s", flush=True)
    commit = ["git", "rev-parse", "--short", "HEAD"]
    stored = {
        "command": " ".join(["python experiments/network.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "commit": subprocess.run(commit, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip(),
        "machine": machine(),
        "features": chosen.features,
        "variants": rows,
    }
    name = "network" if chosen.features == 4 else f"network-{chosen.features}"
    out = chosen.out or Path(__file__).with_name(f"{name}.json")
    out.write_text(json.dumps(stored, indent=1) + "\n")


def one(name: str, seed: int, features: int, limit: float) -> dict[str, Any]:
    """What a run finds, judged on unseen tasks."""
    config = PRESETS["teacher"][1]
    sets = {f"{role}_tasks": dataclasses.replace(getattr(config.tasks, role), features=features)
            for role in ("search", "select", "unseen")}  # fmt: skip
    config = config.replace(seed=seed, time_limit=limit, out=None, **sets, **VARIANTS[name])
    outcome = run(config)
    affine, network = (outcome.references[name] for name in ("affine least squares", "network"))
    known = outcome.program is not None and roles(pruned(outcome.program))
    unseen = outcome.unseen_fitness or 0.0
    return {
        "seed": seed,
        "found": bool(known and known.trains_hidden_layer and unseen > affine + MARGIN),
        "trains_hidden_layer": bool(known and known.trains_hidden_layer),
        "trained": sorted(known.trained) if known else [],
        "unseen": round(unseen, 4),
        "affine": round(affine, 4),
        "network": round(network, 4),
        "trial": outcome.trial,
        "evaluations": outcome.progress.evaluations,
        "seconds": round(outcome.progress.seconds, 1),
        "program": outcome.program.listing(0) if outcome.program is not None else "",
    }


if __name__ == "__main__":
    main()
