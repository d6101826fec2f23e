"""Models of scikit-learn beside a discovered one: tuned and trained on the same rows, scored on the same others.

Axes: `N` examples, `F` features.
"""

import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

Rows = np.ndarray


class Data(NamedTuple):
    """A table.

    Attributes:
      x: `[N, F]`.
      y: `[N]`, numbers or classes.
      weights: `[N]`, or None.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None


def score(model: Any, data: Data, rows: Rows) -> float:
    """Accuracy or R^2 on some rows, by their weights; 0 where there is none."""
    weights = None if data.weights is None else data.weights[rows]
    measure = accuracy_score if is_classifier(model) else r2_score
    found = float(measure(data.y[rows], model.predict(data.x[rows]), sample_weight=weights)) if len(rows) > 1 else 0.0
    return found if np.isfinite(found) else 0.0


def scored(model: Any, data: Data, rows: Rows, out: Rows) -> float:
    """The score on some rows of a model that is trained on others."""
    weights = None if data.weights is None else data.weights[rows]
    return score(model.fit(data.x[rows], data.y[rows], weights), data, out)


def compared(
    rivals: dict[str, tuple[Any, dict[str, Any]]],
    data: Data,
    parts: tuple[Rows, Rows],
    folds: list[tuple[Rows, Rows]],
    seed: int,
) -> pd.DataFrame:
    """What models reach.

    Args:
      rivals: by name, an estimator and the settings that are tried.
      data: the table.
      parts: the rows to train on, and those to score on.
      folds: of the rows to train on, for the choice of settings.
      seed: of models that draw random numbers.

    Returns:
      For each its score, the seconds, and the settings that were best. Weights count in training, where the model takes
      any, and in the score.
    """
    rows, out = parts
    folds = [(np.searchsorted(rows, train), np.searchsorted(rows, test)) for train, test in folds]
    lines = []
    for name, (model, grid) in rivals.items():
        model = clone(model)
        if "random_state" in model.get_params():
            model.set_params(random_state=seed)
        step, began = type(model).__name__.lower(), time.monotonic()
        settings = {f"{step}__{key}": values for key, values in grid.items()}
        search = GridSearchCV(make_pipeline(StandardScaler(), model), settings, cv=folds)
        weights = {}
        if data.weights is not None and has_fit_parameter(model, "sample_weight"):
            weights[f"{step}__sample_weight"] = data.weights[rows]
        search.fit(data.x[rows], data.y[rows], **weights)
        lines.append(
            {
                "model": name,
                "held_out": score(search.best_estimator_, data, out),
                "seconds": time.monotonic() - began,
                "settings": {key.split("__")[1]: value for key, value in search.best_params_.items()},
            }
        )
    return pd.DataFrame(lines)
