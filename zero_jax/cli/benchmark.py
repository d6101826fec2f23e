"""`zero-jax benchmark`: compares searchers on a table of a small space, in seconds."""

from json import dumps
from typing import Annotated

import tyro

from zero_jax import benchmark as tables
from zero_jax.cli import options
from zero_jax.support.bounds import check_number

SLOW = ("tpe",)
"""Methods that take minutes for a seed: they have to be named."""


def benchmark_command(
    table: Annotated[str, tyro.conf.Positional],
    methods: tuple[str, ...] = (),
    seeds: int = 10,
    evaluations: int = 10_000,
    build: str = "",
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Compares searchers on a table that has the fitness of every program of a small space: nothing is trained.

    A seed is solved once a program is within 0.001 of the best of the space.

    Args:
        table: linear (regression, 4 features) or digits (pairs of scikit-learn's digits, 8 features).
        methods: Which searchers; by default all that a table serves and that are fast.
        seeds: How many seeds, from 0 on.
        evaluations: After how many evaluations a search of one seed ends.
        build: Instead, make the table anew, which takes minutes, and write it to this file.
        json: Print JSON instead of a table.
    """
    if build:
        made = tables.build(table)
        tables.write(made, build)
        print(f"{len(made.keys):,} programs, the best at {made.best:.4f}: {build}")
        return 0
    check_number("trials", seeds, least=1)
    check_number("evaluations", evaluations)
    ground = tables.load(table)
    searchers = [tables.searcher(one) for one in methods or [m for m in tables.methods() if m not in SLOW]]
    if not json:
        print(f"{len(ground.keys):,} programs, the best at {ground.best:.4f}")
        print(f"{seeds} seeds of {evaluations:,} evaluations")
        head = f"{'method':<12}{'solved':>8}{'median':>9}{'mean regret after 100':>23}"
        print(f"{head}{'1,000':>8}{'10,000':>8}{'a second':>11}")
    races = []
    for one in searchers:
        result = tables.race(ground, one, range(seeds), evaluations)
        races.append(result)
        if not json:
            print(_line(result), flush=True)
    if json:
        print(dumps([vars(one) | {"solved": list(one.solved)} for one in races], indent=1))
    return 0


def _line(one: tables.Race) -> str:
    found = sum(evaluations is not None for evaluations in one.solved)
    median = f"{one.median:,.0f}" if one.median < float("inf") else "-"
    regret = [f"{one.regret[at]:.3f}" if at in one.regret else "" for at in tables.CHECKPOINTS]
    speed = f"{one.evaluations / one.seconds:,.0f}"
    solved = f"{found}/{len(one.solved)}"
    return f"{one.method:<12}{solved:>8}{median:>9}{regret[0]:>23}{regret[1]:>8}{regret[2]:>8}{speed:>11}"


def benchmark(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(benchmark_command, arguments, prog="zero-jax benchmark")
