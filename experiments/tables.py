"""Discovered learning algorithms on six tables, beside tuned models of scikit-learn.

    python experiments/tables.py
    python experiments/tables.py --markdown

Each of five outer folds is held out once. On the others `DiscoveryClassifier` or `DiscoveryRegressor` searches, within
`--seconds` on all cores, and the baselines are tuned by cross-validation. The results are the score on the fold held
out (accuracy, or R^2), and the seconds of each fit. Rows are written to `tables.json` one by one; a rerun skips those
that are there.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import results
from sklearn import datasets
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zero_jax import DiscoveryClassifier, DiscoveryRegressor

FOLDS = 5
DISCOVERED = "discovered"


def _houses() -> tuple[np.ndarray, np.ndarray]:
    """Like the houses of California, which need a download: 8 features, some skewed, and prices that saturate."""
    rng = np.random.default_rng(0)
    income, age = rng.lognormal(1.2, 0.45, 2000), rng.uniform(1, 52, 2000)
    rooms, bedrooms = rng.lognormal(1.6, 0.25, 2000), rng.lognormal(0.05, 0.15, 2000)
    people, occupancy = rng.lognormal(7.0, 0.7, 2000), rng.lognormal(1.05, 0.25, 2000)
    north, east = rng.uniform(32.5, 42.0, 2000), rng.uniform(-124.0, -114.0, 2000)
    coast = np.exp(-((east + 122 - 0.6 * (38 - north)) ** 2) / 4)
    price = 0.45 * income + 0.006 * age + 1.2 * coast - 0.25 * occupancy + 0.25 * coast * income
    x = np.stack([income, age, rooms, bedrooms, people, occupancy, north, east], 1)
    return x, np.minimum(price + rng.normal(0, 0.35, 2000), 5.0)


TABLES: dict[str, Any] = {
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
    "houses": None,
}
REGRESSION = ("diabetes", "houses")


@dataclasses.dataclass(frozen=True)
class Options(results.Options):
    """What the script is asked for.

    Attributes:
      tables: Which.
      seconds: The time limit of a discovery.
      markdown: Only print the table of the results file, for the docs.
    """

    tables: tuple[str, ...] = tuple(TABLES)
    seconds: float = 50.0
    markdown: bool = False

    def check(self) -> None:
        """As in `results.Options`."""
        super().check()
        unknown = [one for one in self.tables if one not in TABLES]
        if unknown:
            raise ValueError(f"--tables: unknown '{unknown[0]}'; expected among {', '.join(TABLES)}")
        if self.seconds <= 0:
            raise ValueError(f"--seconds must be above 0, not {self.seconds:g}")


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Examples and targets."""
    return _houses() if TABLES[name] is None else TABLES[name](return_X_y=True)


def folds(name: str, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows held out."""
    kind = KFold if name in REGRESSION else StratifiedKFold
    return list(kind(FOLDS, shuffle=True, random_state=0).split(y, y))


def fold(table: str, fold: int, limit: float) -> dict[str, Any]:
    """The scores and seconds of all models on one fold."""
    x, y = data(table)
    rows, out = folds(table, y)[fold]
    kind = DiscoveryRegressor if table in REGRESSION else DiscoveryClassifier
    began = time.monotonic()
    found = kind(time_limit=limit, baselines=False, random_state=fold).fit(x[rows], y[rows])
    scores = {DISCOVERED: float(found.score(x[out], y[out]))}
    spent = {DISCOVERED: time.monotonic() - began}
    for rival, (model, grid) in kind.rivals.items():
        began = time.monotonic()
        model = clone(model)
        if "random_state" in model.get_params():
            model.set_params(random_state=fold)
        step = type(model).__name__.lower()
        settings = {f"{step}__{key}": values for key, values in grid.items()}
        search = GridSearchCV(make_pipeline(StandardScaler(), model), settings, cv=3).fit(x[rows], y[rows])
        scores[rival], spent[rival] = float(search.score(x[out], y[out])), time.monotonic() - began
    evaluations = int(found.curve_["evaluations"].iloc[-1])
    return {
        "scores": scores,
        "seconds": {one: round(value, 2) for one, value in spent.items()},
        "evaluations_to_best": evaluations,
        "program": found.algorithms_["listing"][int(found.algorithms_["cross_validation"].idxmax())],
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table for the docs: means and standard errors over folds, and the longest fit of a discovery."""
    linear = "logistic or ridge"
    names = [DISCOVERED, linear, "MLP", "gradient boosting"]
    lines = ["| table | " + " | ".join(names) + " | seconds |", "|---" * (len(names) + 2) + "|"]
    for name in TABLES:
        here = [row for row in rows if row["table"] == name]
        if not here:
            continue
        cells = []
        for one in names:
            scores = [
                score
                for row in here
                for name_of, score in row["scores"].items()
                if name_of == one or (one == linear and name_of.endswith("regression"))
            ]
            error = np.std(scores, ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else np.nan
            cells.append(f"{np.mean(scores):.3f} ± {error:.3f}")
        longest = max(row["seconds"][DISCOVERED] for row in here)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {longest:.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = results.options(Options, __doc__, argv)
    out, limit = results.path(chosen, __file__), 3.0 if chosen.small else chosen.seconds
    keys = [{"table": name, "fold": number, "limit": limit} for name in chosen.tables for number in range(FOLDS)]
    rows = results.stored_rows(out) if chosen.markdown else results.finished(1, fold, keys, out, range(FOLDS))
    print(markdown(rows) if rows else f"{out} has no rows", file=sys.stdout)


if __name__ == "__main__":
    main()
