"""`zero-jax report` and `watch`: the best programs of a run, and a page about it."""

import webbrowser
from typing import Annotated

import tyro

from zero_jax.cli import options
from zero_jax.support.bounds import check_number
from zero_jax.support.foreign import plain
from zero_jax.support.stopping import handled


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


def watch_command(
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    port: int = 0,
    browser: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Shows the page of a run under way in a browser on this machine, and keeps it up to date. Ctrl-C ends it.

    Args:
        run: The folder of a run: running, finished, or killed.
        port: The port to serve at; 0 for any that is free.
        browser: Open the page in a browser.
    """
    from zero_jax.report import Live  # pandas takes half a second to import

    check_number("port", port)
    with Live(run, port) as live, handled() as stop:
        print(f"{plain(run)} is shown at {live.url} (Ctrl-C ends this, not the run)", flush=True)
        if browser:
            webbrowser.open(live.url)
        try:
            live.serve_forever()
        except KeyboardInterrupt:
            print()
            return 0 if stop.exit_code == 130 else stop.exit_code
    return 0


def watch(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(watch_command, options.imported(arguments), prog="zero-jax watch")
