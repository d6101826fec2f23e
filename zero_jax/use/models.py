"""A trained model as a file: no pickle, and it loads on another machine and version."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import zero_jax
from zero_jax.program.programs import Programs
from zero_jax.support import files
from zero_jax.support.foreign import cut, reason, shown
from zero_jax.use.estimators import ProgramClassifier, ProgramRegressor
from zero_jax.use.tables import Column, Layout

SCHEMA = 1
"""The version of the file."""

SETTINGS = ("epochs", "shuffle", "standardize", "bias", "multi_class", "n_estimators")
"""Of an estimator: what a file keeps of them."""

Estimator = ProgramClassifier | ProgramRegressor


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained program and the table that it is for.

    Attributes:
      layout: what the columns of the table mean.
      estimator: what was trained on them.
    """

    layout: Layout
    estimator: Estimator

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The predictions for new rows, a column named as the target was; for classes the probability of each too.

        Raises:
          ValueError: as `Layout.encoded`.
        """
        x = self.layout.encoded(frame)
        out = pd.DataFrame({self.layout.target: self.estimator.predict(x)}, index=frame.index)
        if isinstance(self.estimator, ProgramClassifier):
            for name, column in zip(self.estimator.classes_, self.estimator.predict_proba(x).T, strict=True):
                out[f"probability_{name}"] = column
        return out

    def save(self, path: str | Path) -> None:
        """Writes the model, atomically."""
        tree = {
            "schema": SCHEMA,
            "zero_jax": zero_jax.__version__,
            "layout": dataclasses.asdict(self.layout),
            "program": self.estimator.program_.to_json(),
            "settings": {name: value for name, value in self.estimator.get_params().items() if name in SETTINGS},
            "state": self.estimator.stored(),
        }
        files.write_atomically(Path(path), files.packed(tree))


def load(path: str | Path) -> Model:
    """The inverse of `Model.save`.

    Raises:
      ValueError: a file that cannot be read, is damaged, is no model, or is of a later version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {cut(str(path))}: {reason(error)}") from None
    try:
        return _model(files.unpacked(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{cut(str(path))} is not a model of zero-jax, or damaged: {cut(str(error))}") from None


def _model(tree: Any) -> Model:
    if not isinstance(tree, dict) or "schema" not in tree:
        raise ValueError("it has no schema")
    if tree["schema"] != SCHEMA:
        raise ValueError(f"its schema is {shown(tree['schema'])}; this version reads {SCHEMA}")
    described = tree["layout"]
    columns = tuple(Column(one["name"], tuple(one["categories"]), float(one["fill"])) for one in described["columns"])
    layout = Layout(columns, described["target"], tuple(described["classes"]))
    kind = ProgramClassifier if layout.classes else ProgramRegressor
    estimator = kind(Programs.parse(tree["program"]), **tree["settings"])
    classes = np.array(layout.classes) if layout.classes else None
    estimator.restore(tree["state"], layout.features, classes)
    return Model(layout, estimator)
