"""The page: a self-contained `report.html`, made from the files in a run's folder."""

import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from zero_jax.report import figures, tables
from zero_jax.run import config_file, schemas
from zero_jax.run.config import GROUPS, OPTIONS, RunConfig, from_folder
from zero_jax.run.presets import PRESETS
from zero_jax.run.searchers import islands, method_of, settings
from zero_jax.support import files, foreign
from zero_jax.tasks.sets import TaskSet

OPEN = 5
"""How many steps of the lineage are unfolded: those with the largest gains."""


def write(run: str | Path, out: str | Path | None = None) -> Path:
    """Writes a report on a run as one HTML page that needs neither network nor scripts.

    Args:
      run: the folder of a run: finished, running, or killed.
      out: the file to write; by default report.html in the run's folder.

    Returns:
      The file that was written.

    Raises:
      ValueError: the folder is not a run's, or a file in it is damaged; the message names it.
      OSError: the file cannot be written.

    Example:
      >>> write("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      PosixPath('runs/linear-seed1-20261121-090130/report.html')
    """
    file = Path(run) / "report.html" if out is None else Path(out)
    files.write_atomically(file, html(Path(run)).encode())
    return file


class _Table(NamedTuple):
    """The cells of a table, as text."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class _Figure(NamedTuple):
    """A drawing and its caption."""

    svg: Markup
    caption: str


def html(run: Path) -> str:
    """The page of a run, as `write` writes it."""
    config = from_folder(run)
    stored = foreign.read_json(run / "config.json", schemas.Config, config_file.SCHEMA)
    outcome, records = foreign.read_json(run / "outcome.json", schemas.Outcome), tables.records(run)
    hall, lineage, best = tables.hall_of_fame(run), tables.lineage(run), tables.best(run) if outcome else None
    return _template().render(
        title=f"{config.name}, seed {config.seed}",
        what=_what(config),
        run=str(run),
        ended=_ended(config, outcome, records),
        fitness=outcome and _fitness(config, outcome),
        best=best and best[0].listing(0),
        graph=best and _Figure(figures.graph(*best), "Its flow of data: orange is learned, blue stays in memory."),
        progress=list(_progress(records, outcome)),
        hall=None if hall.empty else _hall(hall),
        lineage=None if lineage.empty else _lineage(lineage),
        work=None if records.empty else _work(records),
        settings=_settings(config, stored.versions if stored else {}),
    )


@functools.cache
def _template() -> jinja2.Template:
    """The template. Every value is escaped, invisible characters are shown, and a missing value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zero_jax.report"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else foreign.plain(value, lines=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


_FITNESS = {"search_fitness": "T_search", "select_fitness": "T_select", "unseen_fitness": "unseen"}
"""The fitness columns of a program, and the tasks each was measured on."""

# ---------------------------------------------------------------------------------------------- outcome


def _what(e: RunConfig) -> str:
    """The problem and the method in one sentence."""
    said = f"{PRESETS[e.name][0]}. " if e.name in PRESETS else ""
    method, count = method_of(e.searcher), islands(e.searcher)
    if hasattr(e.searcher, "population"):
        crowd = f"{method}, {count} island{'s' * (count != 1)} of {e.searcher.population:,}"
    else:
        crowd = f"{method} search"
    return f"{said[:1].upper()}{said[1:]}T_search: {_tasks(e.tasks.search)}. Programs: {crowd}."


def _ended(config: RunConfig, outcome: schemas.Outcome | None, records: pd.DataFrame) -> dict[str, str] | None:
    """How the run ended and what it cost; None without records."""
    if outcome is None and records.empty:
        return None
    if outcome is None:
        ended, last = "Running, or killed, in", records.iloc[-1]
    else:
        last = outcome.progress
        ended = "Solved in" if outcome.solved else "Not solved after"
        ended = "Interrupted in" if outcome.interrupted else ended
    number = outcome.trial if outcome and outcome.solved else last.trial
    margin = config.schedule.sufficient_margin
    goal = f"{config.schedule.sufficient_fitness:g}" if margin is None else f"the best affine fit plus {margin:g}"
    counts = (
        f"{last.evaluations:,} programs, {last.trained:,} of them trained, {last.train_steps:,} train steps, "
        f"{_time(last.seconds)} ({last.evaluations / max(last.seconds, 1e-9):,.0f} programs/s). Goal: fitness "
        f"above {goal} on T_select."
    )
    return {"how": f"{ended} trial {number}", "counts": counts}


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _fitness(config: RunConfig, outcome: schemas.Outcome) -> _Table:
    """The best program and the baselines."""
    rows = [
        ("best program", outcome),
        *((f"{b.name} (learning rate {b.learning_rate:g})", b) for b in outcome.baselines),
    ]
    heads = [f"{_FITNESS[f'{role}_fitness']} ({_count(getattr(config.tasks, role))})"
             for role in ("search", "select", "unseen")]  # fmt: skip
    cells = [[name, *(_cell(getattr(one, fitness)) for fitness in _FITNESS)] for name, one in rows]
    return _Table(["fitness", *heads], cells)


def _count(tasks: TaskSet) -> str:
    return "your tasks" if tasks.is_own else f"{tasks.tasks} tasks"


def _progress(records: pd.DataFrame, outcome: schemas.Outcome | None) -> Iterator[_Figure]:
    """The figures of fitness over time."""
    if records.empty:
        return
    number = int(records.trial[records.best_fitness.idxmax()])
    if outcome and (records.trial == outcome.trial).any():
        number = outcome.trial
    one, note = records[records.trial == number], "The scale counts nines, because the best is close to 1."
    if records.trial.nunique() > 1:
        close = note if figures.is_close(records.best_fitness.max()) else ""
        others = records.trial.nunique() - 1
        drawn = f" ({figures.MANY} of the {others} others are drawn)" if others > figures.MANY else ""
        caption = f"Best fitness of each trial{drawn}; numbers mark where trials start. {close}".strip()
        yield _Figure(figures.overview(records, number), caption)
    close = note if figures.is_close(one.best_fitness.max()) else ""
    caption = f"Trial {number}: fitness of the best program and of the population. {close}".strip()
    yield _Figure(figures.progress(one), caption)
    counts = one.islands.map(len)
    if counts.max() > 1:
        drawn = f", {figures.MANY} of them drawn" if counts.max() > figures.MANY else ""
        yield _Figure(
            figures.islands(one), f"Trial {number}: median fitness of each of the {counts.max()} islands{drawn}."
        )


# ---------------------------------------------------------------------------------------------- programs


def _hall(hall: pd.DataFrame) -> dict[str, Any]:
    """The Pareto front and the best programs."""
    figure = _Figure(
        figures.front(hall),
        "Fitness against cost. No other program is both better and cheaper than one on the front.",
    )
    rows = hall.sort_values("pareto", ascending=False, kind="stable")
    cells = rows[["search_fitness", "select_fitness", "cost", "instructions", "trial", "evaluations"]]
    cells = cells.assign(cost=cells.cost.map("{:.4f}".format))
    cells["kept as"] = [" and ".join(word for word, holds in (("front", front), ("best", best)) if holds)
                       for front, best in zip(rows.pareto, rows.best, strict=True)]  # fmt: skip
    cells["program"] = rows.listing
    table = _table(cells.rename(columns=_FITNESS).reset_index(names=""))
    return {"figure": figure, "table": table}


def _lineage(steps: pd.DataFrame) -> dict[str, Any]:
    """The steps that led to the best program."""
    close = figures.is_close(steps.fitness.max())
    gains = pd.Series(figures.nines(steps.fitness) if close else steps.fitness, steps.index).diff()
    opened = {0, *gains.nlargest(OPEN).index}
    summary = (
        f"{len(steps)} steps and {steps.births.sum():,} births, in trial {steps.attrs['trial']}. "
        "Each step shows the change in the program without its dead code. The first step and those that gained "
        f"the most {'nines' if close else 'fitness'} are unfolded."
    )
    return {
        "figure": _Figure(figures.lineage(steps), "Fitness of those ancestors that beat all of their own."),
        "summary": summary,
        "steps": [_step(i, step, i in opened) for i, step in enumerate(steps.itertuples())],
    }


def _step(number: int, step: Any, is_open: bool) -> dict[str, Any]:
    rose = f"first ancestor, fitness {step.fitness:.6f}"
    if number:
        births = f"{step.births:,} birth{'s' * (step.births != 1)}"
        rose = f"{step.fitness - step.gain:.6f} to {step.fitness:.6f} (+{step.gain:.2g}) by {births}"
    lines = step.change.splitlines() if number else [f" {line}" for line in step.listing.splitlines()]
    marked = [(line[:1], line) for line in lines]
    return {
        "summary": f"{rose}, after {step.evaluations:,} programs",
        "lines": marked,
        "is_open": is_open,
        "is_same": number > 0 and not any(mark in "+-" for mark, _ in marked),
    }


# ---------------------------------------------------------------------------------------------- work and settings


_FATES = {
    "trained": "trained: no equal program was known",
    "repeated": "equal to another program of the same cohort",
    "known": "known from an earlier cohort",
    "equivalent": "equivalent to an earlier program on the probe",
    "over_budget": "over the train budget",
}


def _work(records: pd.DataFrame) -> dict[str, Any]:
    """How much was trained and how much was saved."""
    last = records.iloc[-1]
    rows = [(words, last[name], last.evaluations) for name, words in _FATES.items()]
    rows += [
        ("programs asked for", last.evaluations, last.evaluations),
        ("of those trained: stopped at a hurdle", last.stopped, last.trained),
        ("of all: never write a prediction", last["empty"], last.evaluations),
        ("train steps seen", last.train_steps, last.train_steps + last.saved_steps),
        ("train steps saved", last.saved_steps, last.train_steps + last.saved_steps),
    ]
    table = pd.DataFrame(rows, columns=["fate of programs", "number", "share"])
    table["number"] = table.number.astype("int64")
    table["share"] = [f"{number / max(of, 1):.1%}" for number, of in zip(table.number, table.share, strict=True)]
    figure = _Figure(
        figures.work(records),
        "Fates of the programs between consecutive records. Diversity: the share of distinct programs in a population.",
    )
    return {"table": _table(table), "figure": figure}


def _settings(config: RunConfig, versions: dict[str, str]) -> dict[str, Any]:
    """The settings of the run, and the command that repeats it."""
    e, space = config, config.searcher.space
    savers = ("cache_size", "probe", "hurdle_tasks", "hurdle_examples", "train_budget")
    rows = {
        "method": f"{method_of(e.searcher)}, {e.evaluation.combine} of the tasks",
        "searcher": _searcher(e.searcher),
        "islands": _islands(e),
        "memory": f"{space.memory.scalars} scalars, {space.memory.vectors} vectors, {space.memory.matrices} matrices",
        "ops": " + ".join(str(len(ops)) for ops in space.ops) + " (Setup, Predict, Learn)",
        "instructions": " + ".join(map(str, space.max_size)) + " at most",
        "train steps": f"{e.schedule.train_steps:,} per trial",
        "trials": f"{e.schedule.trials or 'no limit'}, {e.schedule.parallel_trials} in parallel",
        "saves work": ", ".join(f"{name} {value:g}" for name in savers if (value := getattr(e.evaluation, name)))
        or "nothing",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    rows |= {f"{role} tasks": _tasks(getattr(e.tasks, role)) for role in ("search", "select", "unseen")}
    return {
        "table": _Table(["setting", "value"], list(rows.items())),
        "command": command(e) if e.name in PRESETS else "",
        "whole": json.dumps(e.tree(), indent=1),
    }


def _searcher(searcher: Any) -> str:
    """Its own settings that are numbers."""
    values = ((name, getattr(searcher, name)) for name in settings(searcher))
    return ", ".join(f"{name} {value:,}" for name, value in values if type(value) in (int, float))


def _islands(e: RunConfig) -> str:
    """How islands are grouped, and how often they exchange programs."""
    parts = [f"{e.schedule.groups} group{'s' * (e.schedule.groups != 1)}"]
    parts += [f"each with its own tasks: {'; '.join(e.tasks.variants)}"] * bool(e.tasks.variants)
    parts += [f"{e.schedule.workers} workers"] * bool(e.schedule.workers)
    return ", ".join(
        [*parts, f"migration every {every:,} evaluations" if (every := e.schedule.migrate_every) else "no migration"]
    )


def _tasks(tasks: TaskSet) -> str:
    if tasks.is_own:
        return tasks.source
    examples = f"{tasks.train:,} + {tasks.valid:,} examples of {tasks.features or 'all'} features"
    return f"{tasks.source}, {tasks.tasks} tasks of {examples}, {tasks.epochs} epoch{'s' * (tasks.epochs != 1)}"


def command(config: RunConfig) -> str:
    """The command that repeats a run that started from a preset.

    Example:
      >>> command(PRESETS["demo"][1].replace(seed=3))
      'zero-jax search demo --seed 3'
    """
    method = method_of(config.searcher)
    usual, chosen = (_options(e) for e in (PRESETS[config.name][1].replace(method=method), config))
    if method != method_of(PRESETS[config.name][1].searcher):
        usual["method"] = []
    changed = [[f"--{name}", *words] for name, words in chosen.items() if words != usual[name]]
    ray = ["--ray"] * bool(config.schedule.workers)
    return shlex.join(["zero-jax", "search", config.name, *ray, *(word for words in changed for word in words)])


def _options(config: RunConfig) -> dict[str, list[str]]:
    """All options of a config, by name."""
    tree, names = config.tree(), {place: name for name, place in OPTIONS.items()}
    options: dict[str, Any] = {}
    for group in GROUPS:
        options |= {names.get((group, name), name): value for name, value in tree.pop(group).items()}
    return _flat(options | tree)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, list[str]]:
    """Settings as options say them."""
    options: dict[str, list[str]] = {}
    for name, value in tree.items():
        option = prefix + name.replace("_", "-")
        if isinstance(value, dict):
            options |= _flat(value, f"{option}.")
        else:
            # The bare option means True. No preset sets a flag, so none has to be unset.
            options[option] = [
                str(part) for part in (value if isinstance(value, tuple) else (value,)) if part is not True
            ]
    return options


# ---------------------------------------------------------------------------------------------- tables


def _table(table: pd.DataFrame) -> _Table:
    rows = zip(*(table[column] for column in table), strict=True)
    return _Table(list(table), [[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if value is None or isinstance(value, float):
        return "-" if value is None or np.isnan(value) else f"{value:.6f}"
    return str(value)
