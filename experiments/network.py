"""A network from random programs: how often, how fast, and which parts of the search it needs.

    python experiments/network.py
    python experiments/network.py --features 8
    python experiments/network.py --jobs 2 --limit 120 --only "niche search" "no niches" "four sets"
    python experiments/network.py --figure 300
    python experiments/network.py --lineage 300

Teacher tasks as in `zero-jax search teacher` (paper, Fig. 5). Success is a program that trains its hidden layer
(`zero_jax.program.roles`) and is more than 0.1 above the best affine fit on 50 unseen tasks. Each variant changes or leaves out
one part of the preset (`network_variants.py`); the last two are other methods in the same space. The seeds 300 to 319 were
not used during design. Rows are written to `network.json`, or `network-8.json` for 8 features, one by one; a rerun
skips those that are there.

With `--jobs 1` a run has both cores, as the preset does: two searches on different tasks, of which the first to succeed counts. With more,
each run is one search on one thread.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import network_story
import numpy as np
import results
from network_variants import VARIANTS
from scipy import stats

from zero_jax.program.canonical import pruned
from zero_jax.program.roles import roles
from zero_jax.run import PRESETS, RunConfig, run

MARGIN = 0.1


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What the script is asked for.

    Attributes:
      seeds: Each once.
      features: F.
      limit: After how many seconds a run stops.
      only: Which variants; empty for all.
      jobs: Runs side by side.
      figure: Of the run with this seed: the niches' fitness over time, NAME.svg.
      lineage: Of the run with this seed: how its program came about, NAME_lineage.md and .json.
    """

    seeds: tuple[int, ...] = tuple(range(300, 320))
    features: int = 4
    limit: float = 600.0
    only: tuple[str, ...] = ("niche search",)
    jobs: int = 1
    figure: int | None = None
    lineage: int | None = None

    def check(self) -> None:
        """As in `results.Options`."""
        super().check()
        unknown = [name for name in self.only if name not in VARIANTS]
        if unknown:
            raise ValueError(f"--only: unknown '{unknown[0]}'; expected among {', '.join(VARIANTS)}")
        results.check_whole(self.jobs, 1)


def config(seed: int, features: int, limit: float, strands: int) -> RunConfig:
    """The preset with that number of features, on that number of threads."""
    preset = PRESETS["teacher"][1]
    sets = {f"{role}_tasks": dataclasses.replace(getattr(preset.tasks, role), features=features)
            for role in ("search", "select", "unseen")}  # fmt: skip
    return preset.replace(seed=seed, time_limit=limit, out=None, parallel_trials=strands, threads=strands, **sets)


def one(variant: str, seed: int, features: int, limit: float, strands: int) -> dict[str, Any]:
    """What a run finds, judged on unseen tasks."""
    how = VARIANTS[variant]
    with how.applied():
        outcome = run(config(seed, features, limit, strands).replace(**how.settings))
    affine, network = (outcome.references[name] for name in ("affine least squares", "network"))
    known = outcome.program is not None and roles(pruned(outcome.program))
    unseen = outcome.unseen_fitness or 0.0
    return {
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


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each variant, as Markdown: how often it finds a network, and how fast; and how likely as large a
    difference to the whole search would be by chance (Fisher's exact test, two-sided).
    """
    lines = ["| variant | network found (95%) | p | median s | median evaluations | mean margin |", "|---" * 6 + "|"]
    whole = [row["found"] for row in rows if row["variant"] == "niche search"]
    for name in dict.fromkeys(row["variant"] for row in rows):
        some = [row for row in rows if row["variant"] == name]
        found = [row["found"] for row in some]
        medians = [float(np.median([row[what] if row["found"] else np.inf for row in some]))
                   for what in ("seconds", "evaluations")]  # fmt: skip
        p = ""
        if whole and name != "niche search":
            counts = [[sum(these), len(these) - sum(these)] for these in (whole, found)]
            p = f"{stats.fisher_exact(counts).pvalue:.2g}"
        seconds, evaluations = ("none" if np.isinf(value) else f"{value:,.0f}" for value in medians)
        margin = np.mean([row["unseen"] - row["affine"] for row in some])
        share = results.share(sum(found), len(found))
        lines.append(f"| {name} | {share} | {p} | {seconds} | {evaluations} | {margin:+.3f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    limit = min(chosen.limit, 20.0) if chosen.small else chosen.limit
    name = "network" if chosen.features == 4 else f"network-{chosen.features}"
    out = chosen.out or Path(__file__).with_name(f"{name}.json")
    if chosen.figure is not None:
        network_story.figure(config(chosen.figure, chosen.features, limit, 1), out.with_suffix(".svg"))
    if chosen.lineage is not None:
        to = out.with_name(f"{out.stem}_lineage.md")
        network_story.lineage(config(chosen.lineage, chosen.features, limit, 1), to)
    if chosen.figure is not None or chosen.lineage is not None:
        return
    strands = PRESETS["teacher"][1].schedule.parallel_trials if chosen.jobs == 1 else 1
    keys = [
        {"variant": variant, "seed": seed, "features": chosen.features, "limit": limit, "strands": strands}
        for variant in chosen.only or VARIANTS
        for seed in chosen.seeds
    ]
    print(table(results.finished(chosen.jobs, one, keys, out, chosen.seeds)))


if __name__ == "__main__":
    main()
