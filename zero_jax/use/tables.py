"""Tables of data: reading them, what their columns mean, and the numbers that models see."""

import dataclasses
import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from zero_jax.support.foreign import cut, plain, reason, shown

Goal = Literal["auto", "classes", "numbers"]

FEWEST_ROWS, MOST_CATEGORIES, MOST_CLASSES = 20, 50, 20
"""The fewest rows of a table; the most values of a column of text; the most values of a target of whole numbers that is
taken for classes."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column that models see.

    Attributes:
      name: its name.
      categories: its values, each of which becomes a feature; empty for a column of numbers.
      fill: what a missing number is replaced by: the median.
    """

    name: str
    categories: tuple[str, ...] = ()
    fill: float = 0.0


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the columns of a table mean.

    Attributes:
      columns: those that models see.
      target: the name of the column to predict.
      classes: its values, as text; empty if it holds numbers.
    """

    columns: tuple[Column, ...]
    target: str
    classes: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """How many numbers models see."""
        return sum(len(column.categories) or 1 for column in self.columns)

    def encoded(self, frame: pd.DataFrame) -> np.ndarray:
        """`[N, F]` float64. A missing category, or one that was not there before, is no category.

        Raises:
          ValueError: a column is missing, or holds text, or infinite values, where numbers were.
        """
        if not len(frame):
            raise ValueError("the table has no rows")
        missing = [column.name for column in self.columns if column.name not in frame.columns]
        if missing:
            raise ValueError(
                f"the table has no column {shown(missing[0])}, which the model needs; it has {_names(frame.columns)}"
            )
        numbers = [column for column in self.columns if not column.categories]
        texts = [column for column in self.columns if column.categories]
        made = pd.DataFrame(index=frame.index)
        for column in numbers:
            made[column.name] = _numbers(frame[column.name])
        for column in texts:
            made[column.name] = _text(frame[column.name])
        steps = [
            (f"{i}", make_pipeline(SimpleImputer(strategy="constant", fill_value=column.fill)), [column.name])
            if not column.categories
            else (f"{i}", OneHotEncoder(categories=[list(column.categories)], handle_unknown="ignore"), [column.name])
            for i, column in enumerate(self.columns)
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping features without any observed values")
            return np.asarray(ColumnTransformer(steps, sparse_threshold=0.0).fit_transform(made), np.float64)

    def labels(self, frame: pd.DataFrame) -> np.ndarray:
        """`[N]`, the target: numbers, or classes as text.

        Raises:
          ValueError: there is no such column, or it does not hold what it should.
        """
        column = _target(frame, self.target)
        return _text(column).to_numpy(str) if self.classes else _numbers(column).to_numpy(np.float64)


def read(path: str | Path) -> pd.DataFrame:
    """A table from a CSV, TSV or Parquet file, by the end of its name.

    Raises:
      ValueError: another file, one that cannot be read, or one with two columns of one name.
    """
    path = Path(path)
    readers = {".csv": pd.read_csv, ".tsv": lambda p: pd.read_csv(p, sep="\t"), ".parquet": pd.read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{cut(str(path))} is not a table: expected a name that ends in {', '.join(readers)}")
    try:
        frame = readers[path.suffix.lower()](path)
    except (OSError, ValueError, ImportError, UnicodeDecodeError, pd.errors.ParserError) as error:
        text = reason(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        raise ValueError(f"cannot read {cut(str(path))}: {plain(text)}") from None
    frame.columns = [str(name) for name in frame.columns]
    return frame


def layout(frame: pd.DataFrame, target: str, goal: Goal = "auto", ignored: Sequence[str] = ()) -> Layout:
    """What the columns of a table mean.

    Args:
      frame: the table; rows without a target do not count.
      target: the column to predict.
      goal: whether that is of classes or numbers; by default numbers, unless it holds text, truth values, or at most 20
        different whole numbers.
      ignored: columns that models should not see.

    Raises:
      ValueError: a column that is not there; fewer than 20 rows; a target that is constant, or text where numbers
        were asked for; a column of text with more than 50 values; infinite numbers.
    """
    for name in ignored:
        _column(frame, name)
    if target in ignored:
        raise ValueError(f"the target {shown(target)} cannot be ignored: leave it out of --ignore")
    column = _target(frame, target)
    if len(frame) < FEWEST_ROWS:
        raise ValueError(f"the table has {len(frame)} rows with a target; at least {FEWEST_ROWS} are needed")
    if column.nunique() < 2:
        raise ValueError(
            f"the target {shown(target)} is {plain(str(column.iloc[0]))} in every row: nothing can be learned"
        )
    is_text = not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
    if is_text and goal == "numbers":
        raise ValueError(f"the target {shown(target)} holds text such as {shown(str(column.iloc[0]))}, not numbers")
    whole = not is_text and (column == column.round()).all() and column.nunique() <= MOST_CLASSES
    classes: tuple[str, ...] = ()
    if goal == "classes" or (goal == "auto" and (is_text or whole)):
        classes = tuple(sorted(_text(column).unique()))
        if len(classes) > len(frame) / 2:
            raise ValueError(f"the target {shown(target)} has {len(classes)} classes in {len(frame)} rows")
    else:
        _numbers(column)
    others = [name for name in frame.columns if name != target and name not in ignored]
    columns = [_described(frame[name]) for name in others if frame[name].notna().any()]
    if not columns:
        raise ValueError("the table has no column to predict from")
    return Layout(tuple(columns), target, classes)


def with_target(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """The rows that have a target."""
    return frame[_column(frame, target).notna()].reset_index(drop=True)


def sorted_by(frame: pd.DataFrame, time: str) -> pd.DataFrame:
    """The rows in the order of a column: of numbers, or of dates as text.

    Raises:
      ValueError: there is no such column, a value is missing, or some are neither numbers nor dates.
    """
    column = _complete(frame, time)
    if not pd.api.types.is_numeric_dtype(column):
        try:
            column = pd.to_datetime(column)
        except (ValueError, TypeError):
            raise ValueError(f"the column {shown(time)} holds neither numbers nor dates") from None
    return frame.iloc[np.argsort(column.to_numpy(), kind="stable")].reset_index(drop=True)


def names(frame: pd.DataFrame, column: str) -> np.ndarray:
    """`[N]`, the values of a column as text.

    Raises:
      ValueError: there is no such column, or a value is missing.
    """
    return _text(_complete(frame, column)).to_numpy(str)


def _complete(frame: pd.DataFrame, name: str) -> pd.Series:
    column = _column(frame, name)
    if column.isna().any():
        raise ValueError(f"the column {shown(name)} is missing in row {int(np.argmax(column.isna())) + 1}")
    return column


def _described(column: pd.Series) -> Column:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return Column(str(column.name), fill=float(_numbers(column).median()))
    categories = tuple(sorted(_text(column).dropna().unique()))
    if len(categories) > MOST_CATEGORIES:
        raise ValueError(
            f"the column {shown(column.name)} holds text with {len(categories):,} different values; at most "
            f"{MOST_CATEGORIES} can be categories: leave it out with --ignore {column.name}"
        )
    return Column(str(column.name), categories)


def _target(frame: pd.DataFrame, target: str) -> pd.Series:
    column = _column(frame, target)
    if column.isna().all():
        raise ValueError(f"the target {shown(target)} is missing in every row")
    return column


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        close = difflib.get_close_matches(name, frame.columns, 1)
        hint = f"; did you mean {shown(close[0])}?" if close else f"; it has {_names(frame.columns)}"
        raise ValueError(f"the table has no column {shown(name)}{hint}")
    return frame[name]


def _names(columns: Sequence[str]) -> str:
    some = ", ".join(map(str, list(columns)[:10]))
    return cut(plain(some)) + (f" and {len(columns) - 10} more" if len(columns) > 10 else "")


def _numbers(column: pd.Series) -> pd.Series:
    try:
        values = pd.to_numeric(column).astype(np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"the column {shown(column.name)} holds text where numbers are expected") from None
    infinite = np.isinf(values)
    if infinite.any():
        raise ValueError(f"the column {shown(column.name)} is infinite in row {int(np.argmax(infinite)) + 1}")
    return values


def _text(column: pd.Series) -> pd.Series:
    """Values as text; whole numbers without a point, and missing ones missing."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() == column.dropna().round()).all():
        column = column.astype("Int64")
    return column.map(str, na_action="ignore").astype(object)
