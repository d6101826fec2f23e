"""`zero-jax search` and `resume`: begin a run, or resume one."""

import dataclasses
import functools
import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import tyro

from zero_jax.cli import forms, options
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.roles import described, roles
from zero_jax.run import api, build, cluster
from zero_jax.run import forecast as forecasts
from zero_jax.run.config import EvaluationConfig, RunConfig, from_folder
from zero_jax.run.config_file import check_unedited
from zero_jax.run.outcome import Outcome
from zero_jax.run.presets import PRESETS
from zero_jax.run.progress import progress_bar
from zero_jax.run.searchers import SEARCHERS
from zero_jax.support.foreign import expected, plain, shown
from zero_jax.support.stopping import handled

_EXTENSION: dict[str, Callable[[str], float]] = {
    "--train-steps": functools.partial(options.number, kind=int, name="--train-steps"),
    "--trials": functools.partial(options.number, kind=int, name="--trials"),
    "--time-limit": options.seconds,
}
"""What a run can get more of, and how each is read."""


def presets() -> Any:
    """The presets as a union of subcommands: options with their values as defaults."""
    return tyro.extras.subcommand_type_from_defaults(
        {name: forms.filled_in(config) for name, (_, config) in PRESETS.items()},
        {name: description for name, (description, _) in PRESETS.items()},
        prefix_names=False,
    )


def search(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    if arguments[:1] == ["table"]:
        return importlib.import_module("zero_jax.cli.tables").search_table(arguments[1:])
    arguments = options.imported(arguments)
    arguments, flags = options.taken(arguments, flags=["--quiet"])
    arguments, address = _without_ray(arguments)
    quiet = "--quiet" in flags
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        if {"-h", "--help"} & set(arguments):
            print(_RESUME)
            return 0
        return _resume(arguments, address, quiet)
    chosen = _chosen(arguments, address)
    if forecasts.is_long(chosen) and not quiet:
        _print_forecast(forecasts.forecast(chosen), chosen)
    with progress_bar(chosen.name, chosen, quiet=quiet) as report:
        outcome = api.run(chosen, report) if address is None else cluster.run(chosen, report, address)
    return _ended(outcome, chosen, address)


def resume(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    if not {"-h", "--help"} & set(arguments) and (not arguments or arguments[0].startswith("-")):
        raise ValueError("resume needs the folder of a run: zero-jax resume RUN")
    return search(["--resume", *arguments])


_RESUME = """usage: zero-jax resume RUN [options]

Resumes a run, given its folder, from its last checkpoint, with its original settings.

options:
  --train-steps N   a larger budget of train steps for each trial
  --trials N        more trials; 0 for no limit
  --time-limit T    limit on the total time of the run: 90, 90s, 10m or 1h30m; 0 for no limit
  --ray [ADDRESS]   for a run that shares its islands among Ray workers
  --import MODULE   import a module first, e.g. one that registers a searcher
  --quiet           hide progress"""


_OTHERS = (
    "Other options: --resume RUN resumes a run; --ray [HOST:PORT] shares the islands among Ray workers; "
    "--import MODULE imports a module first, e.g. one that registers a searcher; --quiet hides progress; "
    "--time-limit may be given as 90s, 10m or 1h30m; --data FILE --target COLUMN makes the tasks from a table. "
    "The searcher options depend on --method."
)


def _chosen(arguments: list[str], address: str | None) -> RunConfig:
    """The config that the arguments describe."""
    rest, timed = options.taken(arguments, valued=["--time-limit"])
    if not rest or rest[0] not in PRESETS:
        _refuse_preset(rest)
    preset, *words = rest
    description, config = PRESETS[preset]
    if address is not None:
        config = config.replace(parallel_trials=1)  # workers keep all cores busy
    words += [word for value in timed.values() for word in ("--time-limit", str(options.seconds(value)))]
    _, method = options.taken(words, valued=["--method"])
    if method.get("--method") in SEARCHERS:
        config = config.replace(method=method["--method"])
    words, table = options.taken(words, valued=["--data", "--target"])
    filled = forms.filled_in(config)
    how: dict[str, Any] = {"prog": f"zero-jax search {preset}", "description": f"{description}\n\n{_OTHERS}"}
    chosen = forms.config_of(options.parsed(type(filled), words, default=filled, **how))
    _check_sources(chosen, PRESETS[preset][1], words)
    chosen = _with_table(chosen, table) if table else chosen
    build.searcher(chosen)
    build.check_tasks(chosen)  # mistakes show before a forecast
    return chosen


def _with_table(config: RunConfig, table: dict[str, str]) -> RunConfig:
    """The config with tasks made of a table in place of its own."""
    missing = [name for name in ("--data", "--target") if name not in table]
    if missing:
        raise ValueError(f"tasks from a table need --data FILE and --target COLUMN; {missing[0]} is missing")
    tables = importlib.import_module("zero_jax.cli.tables")  # pandas and scikit-learn take a second to import
    return tables.with_table(config, table["--data"], table["--target"])


def _refuse_preset(arguments: list[str]) -> NoReturn:
    """Says what is wrong where no preset comes first, or prints the help."""
    if arguments and not arguments[0].startswith("-"):
        raise ValueError(f"unknown preset {shown(arguments[0])}; {expected(arguments[0], PRESETS)}")
    if {"-h", "--help"} & set(arguments):
        options.parsed(presets(), ["--help"], prog="zero-jax search", description=_OTHERS)
    raise ValueError(f"search needs a preset before its options: one of {', '.join(PRESETS)}")


def _check_sources(chosen: RunConfig, preset: RunConfig, arguments: list[str]) -> None:
    """Refuses to search on some data and to select and report on a preset's, unless these are named."""
    source = chosen.tasks.search.source
    chosen.tasks.search.check()
    if source == preset.tasks.search.source:
        return
    named = {word.partition("=")[0].replace("_", "-") for word in arguments}
    missing = [role for role in ("select", "unseen") if f"--{role}-tasks.source" not in named]
    if missing:
        left = " and ".join(missing)
        fix = " ".join(f"--{role}-tasks.source {shlex.quote(source)}" for role in missing)
        raise ValueError(
            f"search tasks are {shown(source)}, but the {left} tasks would still be {preset.tasks.select.source}: set "
            f"them too, ideally to held-out data. To try it on the same data: {fix}"
        )


def _without_ray(arguments: list[str]) -> tuple[list[str], str | None]:
    """All but `--ray [ADDRESS]` or `--ray=ADDRESS`, and the address: empty for a local cluster, None without it."""
    rest, address = [], None
    given = list(arguments)
    while given:
        one = given.pop(0)
        if one.startswith("--ray="):
            address = one.removeprefix("--ray=")
        elif one == "--ray":
            address = given.pop(0) if given and given[0] not in PRESETS and not given[0].startswith("-") else ""
        else:
            rest.append(one)
    return rest, address


def _resume(arguments: list[str], address: str | None, quiet: bool) -> int:
    rest, given = options.taken(arguments, valued=["--resume", *_EXTENSION])
    if rest:
        raise ValueError(
            "a run is resumed with its original settings; only --train-steps, --trials and --time-limit can be raised. "
            f"Leave out: {shown(' '.join(rest))}"
        )
    run = given.pop("--resume")
    more: dict[str, Any] = {name[2:].replace("-", "_"): _EXTENSION[name](text) for name, text in given.items()}
    check_unedited(run)
    extended = build.self_contained(api.Extension(**more).applied(from_folder(run)), run)
    with progress_bar(Path(run).name, extended, quiet=quiet) as report:
        one = run, report
        outcome = api.resume(*one, **more) if address is None else cluster.resume(*one, address, **more)
    return _ended(outcome, extended, address)


def _ended(outcome: Outcome, config: RunConfig, address: str | None) -> int:
    """Prints the outcome; returns the exit code."""
    if outcome.had_ended:
        print(f"{plain(outcome.folder)} has already finished{_how_to_extend(outcome)}")
    _print_outcome(outcome, config)
    if (outcome.interrupted or outcome.timed_out) and outcome.folder:
        ray = "" if address is None else f" --ray {address}".rstrip()
        more = f" --time-limit {2 * config.schedule.time_limit:g}" if outcome.timed_out else ""
        print(f"To resume from the last checkpoint: zero-jax resume {shlex.quote(str(outcome.folder))}{ray}{more}")
    with handled() as stop:
        return stop.exit_code if outcome.interrupted else 0


def _how_to_extend(outcome: Outcome) -> str:
    if outcome.solved:
        return " and solved its tasks; there is nothing to resume."
    name = "--time-limit" if outcome.timed_out else "--train-steps or --trials"
    return f"; there is nothing to resume. A larger {name} extends it."


def _print_forecast(forecast: forecasts.Forecast, chosen: RunConfig) -> None:
    minutes = f"{forecast.seconds / 60:.1f} min" if forecast.seconds < 7200 else f"{forecast.seconds / 3600:.1f} h"
    generations = chosen.schedule.train_steps / forecast.examples
    print(
        f"A generation of {forecast.programs:,} programs sees {forecast.examples:,} training examples: about {minutes} "
        f"on {forecast.executor} if each took as long as the 2-layer network, and {forecast.bytes / 2**30:.2f} GiB of "
        f"memory. --train-steps is worth {generations:.3g} such generations; shorter programs, early stops and known "
        "programs make more of it.",
        flush=True,
    )


def _print_outcome(outcome: Outcome, config: RunConfig) -> None:
    progress = outcome.progress
    ended = "Interrupted in" if outcome.interrupted else "Out of time in" if outcome.timed_out else "Solved in"
    if not (outcome.interrupted or outcome.timed_out or outcome.solved):
        ended = "Stopped after"
    number = outcome.trial if outcome.solved else progress.trial
    below = f", below the target fitness of {outcome.sufficient_fitness:g}" if ended == "Stopped after" else ""
    print(
        f"{ended} trial {number}{below}: {progress.evaluations:,} programs, "
        f"{progress.trained:,} of them trained, {progress.train_steps:,} train steps, {progress.seconds:.1f} s"
    )
    if progress.exhausted:
        print(f"Trials that ended because they stalled or had no new program left to train: {progress.exhausted}")
    if progress.lost:
        print(f"Ray workers were lost and restarted {progress.lost} times")
    if outcome.program is not None:
        _print_table(outcome)
        _print_program(outcome.program, Interface.of(outcome.program.memory, config.tasks.search))
    if outcome.folder:
        names = sorted(p.name for p in outcome.folder.iterdir() if not p.name.startswith("."))
        print(plain(f"Written to {outcome.folder}: {', '.join(names)}"))
        if outcome.unseen_fitness is not None:
            print(plain(f"To reproduce the unseen fitness: {_again(outcome, config)}"))


def _print_program(program: Programs, interface: Interface) -> None:
    """The listing without dead code, with the roles of instructions, and whether the program is a network."""
    print(f"\n{described(program, interface)}\n")
    known = roles(pruned(program, interface), interface)
    if known.trains_hidden_layer:
        layers = ", ".join(sorted(known.hidden & known.trained))
        print(f"It is a network: it trains its hidden layer, whose weights are {layers}.\n")


def _again(outcome: Outcome, config: RunConfig) -> str:
    """The command that evaluates the program on unseen tasks as the run did."""
    seeds, unseen = outcome.seeds["unseen"], config.tasks.unseen
    if unseen.is_own and Path(unseen.source).name == unseen.source and outcome.folder:  # it came without a file
        unseen = dataclasses.replace(unseen, source=str(outcome.folder / unseen.source))
    words = ["zero-jax", "evaluate", f"{outcome.folder}/best.json", *options.options_of(unseen)]
    words += ["--seed", str(seeds["tasks"]), "--draws-seed", str(seeds["draws"])]
    if config.evaluation.max_abs_error != EvaluationConfig.max_abs_error:
        words += ["--max-abs-error", f"{config.evaluation.max_abs_error:g}"]
    return shlex.join(words)


def _print_table(outcome: Outcome) -> None:
    names = ("T_search", "T_select", "unseen")
    heads = [f"{name} ({n} tasks)" for name, n in zip(names, outcome.tasks, strict=True)]
    measure = options.measure(outcome.loss)
    rows: list[tuple[str, float | None, float | None, float | None]]
    rows = [("best program", outcome.search_fitness, outcome.select_fitness, outcome.unseen_fitness)]
    rows += [(f"{b.name} (learning rate {b.learning_rate:g})", *b[2:]) for b in outcome.baselines]
    known = {b.name for b in outcome.baselines}
    rows += [(name, None, None, x) for name, x in outcome.references.items() if name not in known]
    first = max(len(measure), *(len(row[0]) for row in rows))
    print("  ".join([measure.ljust(first), *heads]))
    for name, *numbers in rows:
        cells = ["-" if x is None else f"{x:.6f}" for x in numbers]
        print("  ".join([name.ljust(first), *(c.rjust(len(h)) for c, h in zip(cells, heads, strict=True))]))
