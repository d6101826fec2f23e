"""`zero-jax fit`, `predict` and `search table`: from a table of data to a model and its predictions."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro

from zero_jax.cli import options
from zero_jax.cli.options import Program
from zero_jax.program import library
from zero_jax.program.canonical import pruned
from zero_jax.program.roles import described
from zero_jax.run.config import RunConfig
from zero_jax.run.progress import displayed
from zero_jax.support.bounds import check_number
from zero_jax.support.files import check_writable, write_atomically
from zero_jax.support.foreign import plain
from zero_jax.use import models, tables
from zero_jax.use.discovery import DiscoveryClassifier, DiscoveryRegressor
from zero_jax.use.estimators import ProgramClassifier, ProgramRegressor
from zero_jax.use.models import Model
from zero_jax.use.splits import Splits
from zero_jax.use.table_tasks import table_sets

ColumnName = Annotated[str | None, tyro.conf.arg(metavar="COLUMN", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True)
class ColumnOptions:
    """What columns mean.

    Attributes:
        goal: What the target is: classes or numbers (default: classes if it holds text or few whole numbers).
        ignore: Columns to leave out.
    """

    goal: tables.Goal = "auto"
    ignore: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a program is trained.

    Attributes:
        epochs: How often to go through the rows.
        bias: Give the program one more feature, which is always 1.
        multi_class: For more than two classes: a model for each against the rest (ovr), or one for each pair (ovo).
        n_estimators: How many models to train, each in an order of its own; predictions are their mean.
    """

    epochs: int = 20
    bias: bool = False
    multi_class: Literal["ovr", "ovo"] = "ovr"
    n_estimators: int = 1


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """Which rows are held out.

    Attributes:
        held_out: Share of the rows that the search never sees.
        groups: A column that says which rows belong together: they are never on both sides of a split. Models do not
            see it.
        time: A column that says when a row was: the last rows are held out. Models do not see it.
    """

    held_out: float = 0.2
    groups: ColumnName = None
    time: ColumnName = None


Table = Annotated[Path, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


def fit_command(
    program: Program,
    /,
    data: Table,
    target: str,
    out: Table,
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")] = ColumnOptions(),
    training: Annotated[TrainingOptions, tyro.conf.arg(name="")] = TrainingOptions(),
    seed: int = 0,
) -> int:
    """Trains a program on a table and writes the model.

    Args:
        program: As `Program` says.
        data: The table: a CSV, TSV or Parquet file.
        target: The column to predict.
        out: The file to write the model to.
        columns: What columns mean.
        training: How the program is trained.
        seed: Random seed, from 0 to 2**31 - 2.
    """
    _check(out, seed)
    loaded = library.load(program)
    frame, layout = _table(data, target, columns)
    settings: dict[str, Any] = {name: getattr(training, name) for name in ("epochs", "bias", "n_estimators")}
    settings["random_state"] = seed
    estimator = (
        ProgramClassifier(loaded, multi_class=training.multi_class, **settings)
        if layout.classes
        else ProgramRegressor(loaded, **settings)
    )
    estimator.fit(layout.encoded(frame), layout.labels(frame))
    Model(layout, estimator).save(out)
    score = estimator.score(layout.encoded(frame), layout.labels(frame))
    print(
        f"{len(frame):,} rows, {layout.features} features, {_goal(layout)}; "
        f"{_measure(layout)} on these rows {score:.4f}\nWritten to {plain(out)}"
    )
    return 0


def fit(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(fit_command, arguments, prog="zero-jax fit")


def predict_command(model: Annotated[Path, tyro.conf.arg(metavar="MODEL")], /, data: Table, out: Table) -> int:
    """Applies a model to the rows of a table, and writes the predictions beside the columns that are there.

    Args:
        model: A file written by zero-jax fit or zero-jax search table.
        data: The table: a CSV, TSV or Parquet file with the columns that the model was trained on.
        out: The CSV file to write to.
    """
    check_writable(out)
    loaded, frame = models.load(model), tables.read(data)
    predictions = loaded.predict(frame).add_prefix("predicted_")
    kept = frame.drop(columns=[name for name in predictions.columns if name in frame.columns])
    write_atomically(out, pd.concat([kept, predictions], axis=1).to_csv(index=False))
    print(f"{len(frame):,} predictions written to {plain(out)}")
    return 0


def predict(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    return options.parsed(predict_command, arguments, prog="zero-jax predict")


def search_table_command(
    data: Table,
    target: str,
    out: Table = Path("model.npz"),
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")] = ColumnOptions(),
    split: Annotated[SplitOptions, tyro.conf.arg(name="")] = SplitOptions(),
    time_limit: float = 60.0,
    seed: int = 0,
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Searches for a learning algorithm on a table, compares it with baselines on held-out rows, and writes a model.

    Args:
        data: The table: a CSV, TSV or Parquet file.
        target: The column to predict.
        out: The file to write the model to.
        columns: What columns mean.
        split: Which rows are held out.
        time_limit: How long to search and train, about, in seconds or as in 90s, 10m; baselines follow.
        seed: Random seed, from 0 to 2**31 - 2.
        quiet: Hide progress.
    """
    _check(out, seed)
    apart = [name for name in (split.groups, split.time) if name is not None]
    frame, layout = _table(data, target, columns, apart)
    in_time = split.time is not None
    if split.time is not None:
        frame = tables.sorted_by(frame, split.time)
    kind: Any = DiscoveryClassifier if layout.classes else DiscoveryRegressor
    found = kind(time_limit=time_limit, held_out=split.held_out, in_time=in_time, random_state=seed)
    groups = None if split.groups is None else tables.names(frame, split.groups)
    with displayed("table", quiet=quiet) as display:

        def report(evaluations: int, seconds: float, fitness: float) -> None:
            display.show(evaluations, seconds / time_limit, f"best fitness {max(fitness, 0.0):.5f}")

        found.report, found.say = report, display.note
        found.fit(layout.encoded(frame), layout.labels(frame), groups=groups)
    Model(layout, found.model_).save(out)
    rows = [("found program", found.held_out_score_)]
    rows += [(line["model"], line["held_out"]) for _, line in found.baselines_.iterrows()]
    last = found.curve_.iloc[-1]
    print(
        f"{len(frame):,} rows, {layout.features} features, {_goal(layout)}\n"
        f"best fitness {last['fitness']:.4f} on the search tasks, after {int(last['evaluations']):,} evaluations\n\n"
        f"{_measure(layout)} on {found.n_held_out_:,} rows that were held out:"
    )
    for name, score in sorted(rows, key=lambda row: -row[1]):
        print(f"  {name.ljust(20)} {score:.4f}")
    trained = f"trained on all rows, {_trained(found.model_)}"
    print(f"\n{described(pruned(found.program_))}\n\nWritten to {plain(out)}, {trained}")
    return 0


def _trained(model: Any) -> str:
    """How a model was trained, in words."""
    parts = [f"{model.epochs} epoch{'s' * (model.epochs > 1)}"]
    parts += ["with a bias"] * model.bias
    if len(getattr(model, "classes_", ())) > 2:
        parts.append(
            "one model for each pair of classes" if model.multi_class == "ovo" else "each class against the rest"
        )
    parts += [f"the mean of {model.n_estimators} models"] * (model.n_estimators > 1)
    return ", ".join(parts)


def search_table(arguments: list[str]) -> int:
    """Runs `zero-jax search table`; returns the exit code."""
    rest, timed = options.taken(arguments, valued=["--time-limit"])
    limit = [f"--time-limit={options.seconds(timed['--time-limit'])}"] if "--time-limit" in timed else []
    return options.parsed(search_table_command, [*rest, *limit], prog="zero-jax search table")


def with_table(config: RunConfig, data: str, target: str) -> RunConfig:
    """A config whose tasks are made of a table, as many as they were."""
    frame, layout = _table(Path(data), target, ColumnOptions())
    x, y = layout.encoded(frame), layout.labels(frame)
    numbers = np.searchsorted(layout.classes, y) if layout.classes else y
    counts = config.tasks.search.tasks, config.tasks.select.tasks, config.tasks.unseen.tasks
    splits = Splits(len(y), numbers if layout.classes else None)
    search, select, unseen = table_sets(x, numbers, bool(layout.classes), counts, splits)
    return config.replace(search_tasks=search, select_tasks=select, unseen_tasks=unseen)


def _check(out: Path, seed: int) -> None:
    check_writable(out)
    check_number("seed", seed)
    if seed > 2**31 - 2:
        raise ValueError(f"--seed must be at most 2**31 - 2 here, not {seed}")


def _table(
    data: Path, target: str, columns: ColumnOptions, apart: Sequence[str] = ()
) -> tuple[pd.DataFrame, tables.Layout]:
    frame = tables.with_target(tables.read(data), target)
    return frame, tables.layout(frame, target, columns.goal, (*columns.ignore, *apart))


def _goal(layout: tables.Layout) -> str:
    return f"{len(layout.classes)} classes" if layout.classes else "numbers to predict"


def _measure(layout: tables.Layout) -> str:
    return "accuracy" if layout.classes else "R^2"
