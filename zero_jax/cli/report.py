"""`zero-jax report`: the best programs of a run, and a page about it."""

from typing import Annotated

import tyro

from zero_jax.cli import options
from zero_jax.support.foreign import plain


def report_command(
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
) -> int:
    """Prints the best programs of a run, ranked by fitness and by the trade-off of fitness and cost.

    Also writes an HTML page with progress, the Pareto front, the best programs, and the lineage of the best. For a run
    of your own searcher, --import MODULE imports the module that registers it first.

    Args:
        run: The folder of a run: finished, running, or killed.
        out: File to write; by default report.html in the run's folder.
    """
    from zero_jax import report as reports  # pandas takes half a second to import

    table = reports.hall_of_fame(run)
    file = reports.write(run, out)
    if table.empty:
        print("There is no hall of fame yet: hall.json is missing or empty")
    else:
        front = ["*" if on else "" for on in table.pareto]
        columns = ["search_fitness", "select_fitness", "cost", "instructions", "trial"]
        forms = {"cost": "{:.4f}".format}
        renamed = table[columns].rename(columns={"search_fitness": "T_search", "select_fitness": "T_select"})
        print(renamed.assign(front=front).to_string(na_rep="-", float_format="{:.6f}".format, formatters=forms))
    print(f"Written to {plain(file)}")
    return 0


def report(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(report_command, options.imported(arguments), prog="zero-jax report")
