"""Estimators that search for a learning algorithm on the data they are given, then train it.

Axes: `N` examples, `F` features.
"""

import time
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from zero_jax.evaluation import Evaluator, KnownForms
from zero_jax.evaluation.cost import cost
from zero_jax.program.canonical import pruned
from zero_jax.program.programs import Programs, concatenate
from zero_jax.run.presets import PRESETS
from zero_jax.search import NicheSearch
from zero_jax.support.bounds import check_number
from zero_jax.tasks import Tasks
from zero_jax.use.estimators import (
    ProgramClassifier,
    ProgramRegressor,
    moments,
    usable_weights,
)
from zero_jax.use.table_tasks import class_tasks, regression_tasks

SEARCH = NicheSearch(
    PRESETS["teacher"][1].searcher.space,
    fidelity=((0.5, 0.5), (1.0, 1.0)),
    climb_after=100_000,
    tune_every=50_000,
)
"""Where programs come from: the space of the presets `teacher` and `digits`."""

EPOCHS = (1, 4, 16)
"""How many epochs each candidate is trained for; the best number counts."""

CANDIDATES, FOLDS = 8, 3
"""How many of the best programs on search tasks are trained on the data, and on how many folds of it."""

FEWEST = 8
"""With fewer examples nothing is held out: what is learned from is all that there is."""

SEARCH_SHARE = 0.75
"""Of the time limit; the rest is for training what was found."""


class _Found(NamedTuple):
    programs: Programs
    fitness: np.ndarray
    curve: pd.DataFrame


def _searched(tasks: Tasks, seed: int, seconds: float, evaluations: int | None, threads: int | None) -> _Found:
    """The best programs of a search, the best first, and the course of it."""
    evaluator = Evaluator(tasks, ops=SEARCH.ops, threads=threads, stages=(KnownForms(2**18),))
    state, began, known = SEARCH.init(seed), time.monotonic(), -1.0
    curve: list[dict[str, float]] = []
    spent = 0.0
    while state.best is None or (
        state.evaluations < evaluations if evaluations is not None else spent < seconds and known < 1.0
    ):
        state, candidates = SEARCH.ask(state)
        state = SEARCH.tell(state, candidates, evaluator(candidates))
        spent = time.monotonic() - began
        if state.best_fitness > known:
            known = state.best_fitness
            curve.append({"evaluations": state.evaluations, "seconds": spent, "fitness": known})
    assert state.best is not None
    best = np.argsort(-state.champion_fitness, kind="stable")[: 4 * CANDIDATES]
    best = best[state.champion_fitness[best] >= 0]
    programs = concatenate([state.best.program, state.champions[best]])
    fitness = np.array(evaluator(programs).combined)
    order = np.argsort(-fitness, kind="stable")[:CANDIDATES]
    return _Found(programs[order], fitness[order], pd.DataFrame(curve))


def _pareto(fitness: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Which are not beaten in fitness by one that costs no more."""
    above = (fitness > fitness[:, None]) & (costs <= costs[:, None])
    cheaper = (fitness >= fitness[:, None]) & (costs < costs[:, None])
    return np.asarray(~(above | cheaper).any(1))


class _Discovery(BaseEstimator):
    """What the estimators that search share.

    Attributes:
      kind: the estimator that trains what is found.
      rivals: by name, an estimator and the settings that are tried.
    """

    kind: ClassVar[Any]
    rivals: ClassVar[dict[str, tuple[Any, dict[str, Any]]]]

    def __init__(
        self,
        *,
        time_limit: float = 60.0,
        evaluations: int | None = None,
        tasks: int = 32,
        held_out: float = 0.2,
        baselines: bool = True,
        standardize: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.time_limit = time_limit
        self.evaluations = evaluations
        self.tasks = tasks
        self.held_out = held_out
        self.baselines = baselines
        self.standardize = standardize
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _check(self) -> None:
        check_number("tasks", self.tasks)
        if not self.time_limit > 0:
            raise ValueError(f"time_limit must be above 0 seconds, not {self.time_limit}")
        if self.evaluations is not None and self.evaluations < 1:
            raise ValueError(f"evaluations must be at least 1, not {self.evaluations}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share of the rows, above 0 and below 1, not {self.held_out}")

    def _discover(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Searches on training rows, chooses by cross-validation on them, reports on the others, and trains on all."""
        self._check()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows, out = self._split(y, seed)
        center, spread = moments(x[rows], None)
        tasks = self._made_tasks((x[rows] - center) / spread, y[rows], np.random.default_rng(seed))
        found = _searched(tasks, seed, SEARCH_SHARE * self.time_limit, self.evaluations, self.n_jobs)
        folds = self._folds(y, rows, seed)
        chosen = [self._chosen(found.programs[i], x, y, weights, folds, seed) for i in range(len(found.programs))]
        held = [_scored(self._model(found.programs[i], epochs, seed), x, y, weights, rows, out)
                for i, (_, epochs) in enumerate(chosen)]  # fmt: skip
        bare = pruned(found.programs)
        costs = cost(bare, tasks.train_x.shape[1])
        self.algorithms_ = pd.DataFrame(
            {
                "fitness": found.fitness,
                "cost": costs,
                "pareto": _pareto(found.fitness, costs),
                "epochs": [epochs for _, epochs in chosen],
                "cross_validation": [score for score, _ in chosen],
                "held_out": held,
                "listing": [bare.listing(i) for i in range(len(bare))],
            }
        )
        winner = int(np.argmax([score for score, _ in chosen]))
        self.program_, self.curve_, self.held_out_score_ = found.programs[winner], found.curve, held[winner]
        self.model_ = self._model(self.program_, chosen[winner][1], seed).fit(x, y, weights)
        if self.baselines:
            self.baselines_ = self._compared(x, y, rows, out, seed)

    def _split(self, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to learn from and rows held out, stratified by class where there are enough of each; all, if too few."""
        rows = np.arange(len(y))
        if len(rows) < FEWEST:
            return rows, rows
        labels = y if isinstance(self, ClassifierMixin) and np.unique(y, return_counts=True)[1].min() > 4 else None
        kept, out = train_test_split(rows, test_size=self.held_out, random_state=seed, stratify=labels)
        return np.sort(kept), np.sort(out)

    def _folds(self, y: np.ndarray, rows: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of the training rows, those to learn from and those to score on."""
        if len(rows) < FEWEST:
            return [(rows, rows)]
        split = KFold(FOLDS, shuffle=True, random_state=seed)
        if isinstance(self, ClassifierMixin) and np.unique(y[rows], return_counts=True)[1].min() >= FOLDS:
            split = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        return [(rows[train], rows[test]) for train, test in split.split(rows, y[rows])]

    def _chosen(
        self, program: Programs, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, folds: Any, seed: int
    ) -> tuple[float, int]:
        """The best mean score of a program over folds, and the number of epochs that gives it."""
        means = [
            np.mean([_scored(self._model(program, epochs, seed), x, y, weights, *fold) for fold in folds])
            for epochs in EPOCHS
        ]
        return float(max(means)), EPOCHS[int(np.argmax(means))]

    def _model(self, program: Programs, epochs: int, seed: int) -> Any:
        return self.kind(program, epochs=epochs, standardize=self.standardize, random_state=seed)

    def _compared(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, out: np.ndarray, seed: int) -> pd.DataFrame:
        """Baselines tuned and trained on the same rows, and scored on the same others."""
        folds = [
            (np.searchsorted(rows, train), np.searchsorted(rows, test)) for train, test in self._folds(y, rows, seed)
        ]
        lines = []
        for name, (model, grid) in self.rivals.items():
            model = clone(model)
            if "random_state" in model.get_params():
                model.set_params(random_state=seed)
            step, began = type(model).__name__.lower(), time.monotonic()
            settings = {f"{step}__{key}": values for key, values in grid.items()}
            search = GridSearchCV(make_pipeline(StandardScaler(), model), settings, cv=folds).fit(x[rows], y[rows])
            lines.append(
                {
                    "model": name,
                    "held_out": search.score(x[out], y[out]),
                    "seconds": time.monotonic() - began,
                    "settings": {key.split("__")[1]: value for key, value in search.best_params_.items()},
                }
            )
        return pd.DataFrame(lines)

    def _made_tasks(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Tasks:
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """Predictions `[N]` for examples `[N, F]`."""
        check_is_fitted(self)
        return np.asarray(self.model_.predict(validate_data(self, X, dtype=np.float64, reset=False)))


def _scored(
    model: Any, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, rows: np.ndarray, out: np.ndarray
) -> float:
    fitted = model.fit(x[rows], y[rows], None if weights is None else weights[rows])
    score = float(fitted.score(x[out], y[out])) if len(out) > 1 else 0.0
    return score if np.isfinite(score) else 0.0


_MLP: dict[str, Any] = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 1e-2]}
_BOOSTING: dict[str, Any] = {"learning_rate": [0.03, 0.1], "max_leaf_nodes": [7, 31]}


class DiscoveryRegressor(RegressorMixin, _Discovery):
    """Discovers a learning algorithm for a regression problem, and trains it.

    Args:
      time_limit: in seconds: the search takes three quarters of it; training what it finds, and baselines, follow.
      evaluations: if given, the search ends after this number, not by time, and results are the same anywhere.
      tasks: how many search tasks are made of the training rows.
      held_out: the share of rows that neither search nor choice see.
      baselines: whether other models are trained for comparison.
      standardize: as of `ProgramRegressor`.
      random_state: of everything.
      n_jobs: threads of the search; None for all cores.

    Attributes:
      algorithms_: a DataFrame of the best programs: `fitness` on the search tasks, `cost`, whether no other is as good
        for less (`pareto`), the number of `epochs` and the `cross_validation` score that it was chosen by, its score on
        the rows that were `held_out` of all this, and its `listing`.
      program_: the one with the best cross-validation score.
      held_out_score_: its score on held-out rows.
      model_: it, trained on all rows.
      baselines_: a DataFrame of other models, tuned and trained on the same rows, scored on the same held-out ones.
      curve_: a DataFrame of the search: evaluations, seconds, best fitness.

    Example:
      >>> from sklearn.datasets import load_diabetes
      >>> x, y = load_diabetes(return_X_y=True)
      >>> model = DiscoveryRegressor(time_limit=60, random_state=0)
      >>> model.fit(x, y).algorithms_  # doctest: +SKIP
    """

    kind = ProgramRegressor
    rivals: ClassVar[dict[str, tuple[Any, dict[str, Any]]]] = {
        "ridge regression": (Ridge(), {"alpha": [0.01, 0.1, 1.0, 10.0, 100.0]}),
        "MLP": (MLPRegressor((32,), max_iter=1000, early_stopping=True), _MLP),
        "gradient boosting": (HistGradientBoostingRegressor(), _BOOSTING),
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "DiscoveryRegressor":
        """Searches on examples `[N, F]` and targets `[N]`, and trains the best program on all of them."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self._discover(X, np.asarray(y, np.float64), usable_weights(sample_weight, X))
        return self

    def _made_tasks(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Tasks:
        mean, spread = moments(y[:, None], None)
        return regression_tasks(x, (y - mean[0]) / spread[0], self.tasks, rng)


class DiscoveryClassifier(ClassifierMixin, _Discovery):
    """Discovers a learning algorithm for a classification problem, and trains it.

    Args:
      time_limit: in seconds: the search takes three quarters of it; training what it finds, and baselines, follow.
      evaluations: if given, the search ends after this number, not by time, and results are the same anywhere.
      tasks: how many search tasks are made of the training rows.
      held_out: the share of rows that neither search nor choice see.
      baselines: whether other models are trained for comparison.
      standardize: as of `ProgramClassifier`.
      random_state: of everything.
      n_jobs: threads of the search; None for all cores.

    Attributes:
      algorithms_: a DataFrame of the best programs: `fitness` on the search tasks, `cost`, whether no other is as good
        for less (`pareto`), the number of `epochs` and the `cross_validation` score that it was chosen by, its score on
        the rows that were `held_out` of all this, and its `listing`.
      program_: the one with the best cross-validation score.
      held_out_score_: its score on held-out rows.
      model_: it, trained on all rows.
      baselines_: a DataFrame of other models, tuned and trained on the same rows, scored on the same held-out ones.
      curve_: a DataFrame of the search: evaluations, seconds, best fitness.

    Example:
      >>> from sklearn.datasets import load_wine
      >>> x, y = load_wine(return_X_y=True)
      >>> model = DiscoveryClassifier(time_limit=60, random_state=0)
      >>> model.fit(x, y).algorithms_  # doctest: +SKIP
    """

    kind = ProgramClassifier
    rivals: ClassVar[dict[str, tuple[Any, dict[str, Any]]]] = {
        "logistic regression": (LogisticRegression(max_iter=2000), {"C": [0.01, 0.1, 1.0, 10.0, 100.0]}),
        "MLP": (MLPClassifier((32,), max_iter=1000, early_stopping=True), _MLP),
        "gradient boosting": (HistGradientBoostingClassifier(), _BOOSTING),
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "DiscoveryClassifier":
        """Searches on examples `[N, F]` and classes `[N]`, and trains the best program on all of them."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_ = unique_labels(y)
        self._discover(X, np.asarray(y), usable_weights(sample_weight, X))
        return self

    def _made_tasks(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Tasks:
        return class_tasks(x, np.searchsorted(self.classes_, y), self.tasks, rng)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`."""
        check_is_fitted(self)
        return np.asarray(self.model_.predict_proba(validate_data(self, X, dtype=np.float64, reset=False)))

    def decision_function(self, X: Any) -> np.ndarray:
        """As of `ProgramClassifier`."""
        check_is_fitted(self)
        return np.asarray(self.model_.decision_function(validate_data(self, X, dtype=np.float64, reset=False)))
