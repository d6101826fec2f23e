"""The page: `report.html`, whole in itself, made of what a run's folder holds."""

import dataclasses
import json
import shlex
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from zero_jax import files, library, runs
from zero_jax.canonical import pruned
from zero_jax.presets import PRESETS
from zero_jax.report import figures, tables
from zero_jax.settings import Experiment, from_config
from zero_jax.tasks.sets import TaskSet

OPEN = 5
"""How many steps of the lineage, those that gained most, stand open."""


def write(run: str | Path, out: str | Path | None = None) -> Path:
    """Writes what there is to see of a run as one HTML page, which needs no network and no scripts.

    Args:
      run: the folder of a run: ended, under way, or killed.
      out: the file to write; by default report.html in the run's folder.

    Returns:
      The file.

    Raises:
      ValueError: no run's folder, or a damaged file, by name.
      OSError: where the file cannot be written.

    Example:
      >>> write("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      PosixPath('runs/linear-seed1-20261121-090130/report.html')
    """
    page = _page(Path(run))
    file = Path(run) / "report.html" if out is None else Path(out)
    files.write_atomically(file, page)
    return file


def _page(run: Path) -> str:
    experiment = from_config(runs.config_of(run))
    versions = json.loads((run / "config.json").read_text(encoding="utf-8")).get("versions", {})
    outcome, records = _outcome(run), tables.records(run)
    hall, lineage = tables.hall_of_fame(run), tables.lineage(run)
    title = f"{experiment.name}, seed {experiment.seed}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_what(experiment))}</p>",
        _headline(run, experiment, outcome, records),
        *_outcome_section(run, experiment, outcome),
        *_progress(records, outcome),
        *_hall_section(hall),
        *_lineage_section(lineage),
        *_work_section(records),
        *_settings(experiment, versions),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - zero-jax</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _outcome(run: Path) -> dict[str, Any] | None:
    """What outcome.json tells, if the run has ended."""
    file = run / "outcome.json"
    if not file.exists():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        told["baselines"] = pd.DataFrame(told["baselines"], columns=list(runs.Baseline._fields))
        told["progress"] = runs.Progress(**told["progress"])
        return {
            name: told[name] for name in (*_FITNESS, "experiment", "solved", "interrupted", "progress", "baselines")
        }
    except KeyError as error:
        raise ValueError(f"{file} is damaged: there is no {error}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None


_FITNESS = {"search_fitness": "T_search", "select_fitness": "T_select", "unseen_fitness": "unseen"}
"""The fitnesses that are told of a program, and on which tasks they were reached."""

# ---------------------------------------------------------------------------------------------- what came of it


def _what(e: Experiment) -> str:
    """What was searched for, and how, in one sentence."""
    said = f"{PRESETS[e.name][0]}. " if e.name in PRESETS else ""
    islands = f"{e.islands} island{'s' * (e.islands != 1)} of {e.population:,}"
    crowd = {"random": "random search", "efficient": f"{islands}, efficient"}.get(e.method, islands)
    return f"{said[:1].upper()}{said[1:]}T_search: {_tasks(e.search_tasks)}. Programs: {crowd}."


def _headline(run: Path, experiment: Experiment, outcome: dict[str, Any] | None, records: pd.DataFrame) -> str:
    """How it ended, in one sentence."""
    if outcome is None and records.empty:
        return f"<p>{escape(str(run))}: begun; there are no records yet.</p>"
    if outcome is None:
        ended, last = "Under way, or killed, in", records.iloc[-1]
    else:
        last = outcome["progress"]
        ended = "Solved in" if outcome["solved"] else "Not solved after"
        ended = "Interrupted in" if outcome["interrupted"] else ended
    number = outcome["experiment"] if outcome and outcome["solved"] else last.experiment
    return (
        f"<p><strong>{ended} experiment {number}</strong>: {last.evaluations:,} programs, {last.trained:,} of them "
        f"trained, {last.train_steps:,} train steps, {_time(last.seconds)} "
        f"({last.evaluations / max(last.seconds, 1e-9):,.0f} programs/s). Asked for: fitness above "
        f"{experiment.sufficient_fitness:g} on T_select. <code>{escape(str(run))}</code></p>"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _outcome_section(run: Path, experiment: Experiment, outcome: dict[str, Any] | None) -> Iterator[str]:
    """The best program beside the baselines."""
    if outcome is None:
        return
    found = pd.DataFrame([{"name": "found program"} | {name: outcome[name] for name in _FITNESS}])
    rates = outcome["baselines"].learning_rate
    names = [f"{n} (learning rate {r:g})" for n, r in zip(outcome["baselines"].name, rates, strict=True)]
    rows = pd.concat([found, outcome["baselines"].assign(name=names)[list(found)]]) if names else found
    heads = {f"{role}_fitness": f"{_FITNESS[f'{role}_fitness']} ({_count(getattr(experiment, f'{role}_tasks'))})"
             for role in ("search", "select", "unseen")}  # fmt: skip
    yield "<h2>The best program</h2>"
    yield _table(rows.astype(dict.fromkeys(_FITNESS, "float64")).rename(columns=heads | {"name": "fitness"}))
    if (run / "best.json").exists():
        best = pruned(library.load(str(run / "best.json")), tables.vector_labels(run))
        yield f"<pre>{escape(best.listing(0))}</pre>"
        yield "<p>Without its dead code. best.txt and best.json hold all of it.</p>"


def _count(tasks: TaskSet) -> str:
    return "your tasks" if tasks.source.endswith(".npz") else f"{tasks.tasks} tasks"


def _progress(records: pd.DataFrame, outcome: dict[str, Any] | None) -> Iterator[str]:
    """How fitness rose."""
    yield "<h2>Progress</h2>"
    if records.empty:
        yield "<p>There are no records yet.</p>"
        return
    number = int(records.experiment[records.best_fitness.idxmax()])
    if outcome and (records.experiment == outcome["experiment"]).any():
        number = outcome["experiment"]
    one, note = records[records.experiment == number], "The scale counts nines, since the best comes close to 1."
    if records.experiment.nunique() > 1:
        close = note if figures.is_close(records.best_fitness.max()) else ""
        others = records.experiment.nunique() - 1
        drawn = f" ({figures.MANY} of the {others} others drawn)" if others > figures.MANY else ""
        caption = f"Best fitness of each experiment{drawn}; a number stands where one begins. {close}"
        yield _figure(figures.overview(records, number), caption)
    close = note if figures.is_close(one.best_fitness.max()) else ""
    yield _figure(figures.progress(one), f"Experiment {number}: fitness of the best and of the population. {close}")
    counts = one.islands.map(len)
    if counts.max() > 1:
        drawn = f", {figures.MANY} of them drawn" if counts.max() > figures.MANY else ""
        yield _figure(
            figures.islands(one), f"Experiment {number}: median fitness of each of the {counts.max()} islands{drawn}."
        )


# ---------------------------------------------------------------------------------------------- programs


def _hall_section(hall: pd.DataFrame) -> Iterator[str]:
    """The front, and the best programs."""
    yield "<h2>Hall of fame</h2>"
    if hall.empty:
        yield "<p>There is no hall of fame: no hall.json, or nothing in it yet.</p>"
        return
    yield _figure(
        figures.front(hall),
        "Fitness against cost. Nothing found is both better and cheaper than a program on the front.",
    )
    rows = hall.sort_values("pareto", ascending=False, kind="stable")
    marks = [" and ".join(word for word, holds in (("front", front), ("best", best)) if holds)
             for front, best in zip(rows.pareto, rows.best, strict=True)]  # fmt: skip
    # &#32; is a space: of two in a row pandas would make others, which cannot be pasted into a file.
    texts = [escape(text).replace("  ", " &#32;") for text in rows.listing]
    folded = [f"<details><summary>show</summary><pre>{text}</pre></details>" for text in texts]
    told = rows[["search_fitness", "select_fitness", "cost", "instructions", "experiment", "evaluations"]]
    told = told.rename(columns=_FITNESS).assign(**{"kept as": marks}, program=folded)
    told["cost"] = told.cost.map("{:.4f}".format)
    yield _table(told, index=True, escape=False, classes="hall")
    yield (
        "<p>Programs on the front first, each group by fitness on T_search. Cost and instructions are those of the "
        "program without its dead code; evaluations, programs asked for in its experiment until it was found. The "
        "first column is its number in <code>zero_jax.report.programs(run)</code>.</p>"
    )


def _lineage_section(steps: pd.DataFrame) -> Iterator[str]:
    """How the best came about, step by step."""
    yield "<h2>Lineage of the best</h2>"
    if steps.empty:
        yield "<p>There is no lineage: no lineage.json, or nothing in it (random search has none).</p>"
        return
    yield _figure(figures.lineage(steps), "Fitness of the ancestors that beat all of theirs.")
    close = figures.is_close(steps.fitness.max())
    gains = pd.Series(figures.nines(steps.fitness) if close else steps.fitness, steps.index).diff()
    opened = {0, *gains.nlargest(OPEN).index}
    what = "nines" if close else "fitness"
    yield (
        f"<p>{len(steps)} steps and {steps.births.sum():,} births, in experiment {steps.attrs['experiment']}. "
        "Each step shows what changed in the program without its dead code; the first and those that gained most "
        f"{what} stand open.</p>"
    )
    for i, step in enumerate(steps.itertuples()):
        yield _step(i, step, i in opened)


def _step(number: int, step: Any, is_open: bool) -> str:
    rose = f"first ancestor, fitness {step.fitness:.6f}"
    if number:
        births = f"{step.births:,} birth{'s' * (step.births != 1)}"
        rose = f"{step.fitness - step.gain:.6f} to {step.fitness:.6f} (+{step.gain:.2g}) by {births}"
    lines = step.change.splitlines() if number else [f" {line}" for line in step.listing.splitlines()]
    tags = {"+": "ins", "-": "del"}
    marked = "\n".join(
        f"<{tag}>{escape(line)}</{tag}>" if (tag := tags.get(line[:1])) else escape(line) for line in lines
    )
    same = "" if not number or any(line[:1] in tags for line in lines) else "<p>Only dead code changed.</p>"
    return (
        f"<details{' open' * is_open}><summary>{number}. {rose}, after {step.evaluations:,} programs</summary>"
        f"{same}<pre>{marked}</pre></details>"
    )


# ---------------------------------------------------------------------------------------------- work and settings


_FATES = {
    "trained": "trained: no equal one was known",
    "repeated": "equal to another of their batch",
    "known": "remembered from an earlier batch",
    "alike": "did what an earlier one does, as a probe found",
    "too_dear": "over the train budget",
}


def _work_section(records: pd.DataFrame) -> Iterator[str]:
    """What was trained and what was not."""
    if records.empty:
        return
    last = records.iloc[-1]
    rows = [(words, last[name], last.evaluations) for name, words in _FATES.items()]
    rows += [
        ("programs asked for", last.evaluations, last.evaluations),
        ("of those trained: stopped at a hurdle", last.stopped, last.trained),
        ("of all: never write a prediction", last["empty"], last.evaluations),
        ("train steps seen", last.train_steps, last.train_steps + last.saved_steps),
        ("train steps saved", last.saved_steps, last.train_steps + last.saved_steps),
    ]
    table = pd.DataFrame(rows, columns=["what became of programs", "number", "share"])
    table["number"] = table.number.astype("int64")
    table["share"] = [f"{number / max(of, 1):.1%}" for number, of in zip(table.number, table.share, strict=True)]
    yield "<h2>Work</h2>"
    yield _table(table)
    yield _figure(
        figures.work(records),
        "What became of the programs from one record to the next. Diversity: the share of a population's programs that "
        "differ.",
    )


def _settings(experiment: Experiment, versions: dict[str, str]) -> Iterator[str]:
    """What was run, and how to run it again."""
    e, space = experiment, experiment.space
    savers = ("remember", "probe", "hurdle_tasks", "hurdle_examples", "budget")
    rows = {
        "method": f"{e.method}, {e.combine} of the tasks",
        "population": f"{e.islands} x {e.population:,}, cohorts of {e.cohort:,}, tournaments of {e.tournament}",
        "islands": _islands(e),
        "memory": f"{space.memory.scalars} scalars, {space.memory.vectors} vectors, {space.memory.matrices} matrices",
        "ops": " + ".join(str(len(ops)) for ops in space.ops) + " (Setup, Predict, Learn)",
        "instructions": " + ".join(map(str, space.max_size)) + " at most",
        "train steps": f"{e.train_steps:,} an experiment",
        "experiments": f"{e.experiments or 'no limit'}, {e.side_by_side} side by side",
        "saves work": ", ".join(f"{name} {getattr(e, name):g}" for name in savers if getattr(e, name)) or "nothing",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    rows |= {f"{role} tasks": _tasks(getattr(e, f"{role}_tasks")) for role in ("search", "select", "unseen")}
    yield "<h2>Settings</h2>"
    yield _table(pd.DataFrame(rows.items(), columns=["setting", "value"]))
    if e.name in PRESETS:
        yield f"<p>To run it again:</p><pre>{escape(command(e))}</pre>"
    whole = json.dumps(dataclasses.asdict(e), indent=1)
    yield f"<details><summary>all settings</summary><pre>{escape(whole)}</pre></details>"


def _islands(e: Experiment) -> str:
    """How they are parted, and what they exchange."""
    parts = [f"{e.groups} group{'s' * (e.groups != 1)}"]
    parts += [f"with tasks of their own: {'; '.join(e.workers)}"] * bool(e.workers)
    parts += [f"{e.actors} actors"] * bool(e.actors)
    return ", ".join(
        [*parts, f"migration every {e.migrate_every:,} evaluations" if e.migrate_every else "no migration"]
    )


def _tasks(tasks: TaskSet) -> str:
    if tasks.source.endswith(".npz"):
        return tasks.source
    examples = f"{tasks.train:,} + {tasks.valid:,} examples of {tasks.features or 'all'} features"
    return f"{tasks.source}, {tasks.tasks} tasks of {examples}, {tasks.epochs} epoch{'s' * (tasks.epochs != 1)}"


def command(experiment: Experiment) -> str:
    """The command that runs an experiment whose name is that of a preset.

    Example:
      >>> command(dataclasses.replace(PRESETS["linear"][1], seed=3))
      'zero-jax search linear --seed 3'
    """
    usual, chosen = (_flat(dataclasses.asdict(e)) for e in (PRESETS[experiment.name][1], experiment))
    changed = [[f"--{name}", *words] for name, words in chosen.items() if words != usual[name]]
    ray = ["--ray"] * bool(experiment.actors)
    return shlex.join(["zero-jax", "search", experiment.name, *ray, *(word for words in changed for word in words)])


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, list[str]]:
    """Settings as options say them."""
    found: dict[str, list[str]] = {}
    for name, value in settings.items():
        option = prefix + name.replace("_", "-")
        if isinstance(value, dict):
            found |= _flat(value, f"{option}.")
        else:
            # True is told by the option alone; no preset has one to be taken back.
            found[option] = [
                str(part) for part in (value if isinstance(value, tuple) else (value,)) if part is not True
            ]
    return found


# ---------------------------------------------------------------------------------------------- HTML


def _table(table: pd.DataFrame, **how: Any) -> str:
    """As HTML; `how` as pandas takes it."""
    whole, texts = table.select_dtypes("integer"), table.select_dtypes(exclude="number")
    forms: dict[Any, Any] = dict.fromkeys(whole, "{:,}".format) | dict.fromkeys(texts, str)
    six = "{:.6f}".format
    html = table.to_html(**{"index": False} | how, border=0, na_rep="-", float_format=six, formatters=forms)
    return f'<div class="wide">{html}</div>'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption.strip())}</figcaption></figure>"


_CSS = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
figure { margin: 1rem 0; } figcaption, details > p { font-size: .875rem; opacity: .75; }
svg { width: 100%; max-width: 60rem; height: auto; } svg text { font-family: inherit !important; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; vertical-align: top; padding: .2rem .6rem; border-bottom: 1px solid #8885; }
th:first-child, td:first-child, .hall :is(th, td):last-child { text-align: left; } .hall td { white-space: nowrap; }
pre { font: .8125rem/1.4 ui-monospace, monospace; background: #8881; padding: .6rem .8rem; overflow-x: auto;
  margin: .4rem 0; }
summary { cursor: pointer; }
ins, del { text-decoration: none; display: inline-block; min-width: 100%; }
ins { background: #2ea04333; } del { background: #f8514933; }
@media print { body { max-width: none; } figure, pre { break-inside: avoid; } pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; display: block; } }
"""
