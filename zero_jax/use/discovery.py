"""Estimators that search for a learning algorithm on the data they are given, then train it.

Axes: `N` examples, `F` features.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from zero_jax.evaluation import Evaluator, KnownForms
from zero_jax.program.canonical import pruned
from zero_jax.program.programs import Programs, concatenate
from zero_jax.run.presets import PRESETS
from zero_jax.search import NicheSearch
from zero_jax.support.bounds import check_number
from zero_jax.tasks import Tasks
from zero_jax.use.choice import FOLDS, Settings, best_initial_values, best_settings
from zero_jax.use.comparison import Data, compared, scored
from zero_jax.use.estimators import ProgramClassifier, ProgramRegressor
from zero_jax.use.splits import Splits
from zero_jax.use.table_tasks import class_tasks, moments, regression_tasks
from zero_jax.use.training import usable_weights

SEARCH = NicheSearch(
    PRESETS["teacher"][1].searcher.space,
    fidelity=((0.5, 0.5), (1.0, 1.0)),
    climb_after=100_000,
    tune_every=50_000,
)
"""Where programs come from: the space of the presets `teacher` and `digits`."""

SEARCH_SHARE, CHOICE_SHARE = 0.6, 0.6
"""Of the time limit, for the search; and of the rest, for the settings of what was found. Then initial values vary."""


Report = Callable[[int, float, float], None]


class _Found(NamedTuple):
    programs: Programs
    evaluator: Evaluator
    curve: pd.DataFrame


def _searcher(evaluations: int | None) -> NicheSearch:
    """The search; with few evaluations its first programs are no more than a quarter of them."""
    places = SEARCH.niches * SEARCH.niche_size
    if evaluations is None or evaluations >= 4 * places:
        return SEARCH
    niches = max(1, min(SEARCH.niches, evaluations // 40))
    return dataclasses.replace(SEARCH, niches=niches, niche_size=max(1, evaluations // (4 * niches)))


def _searched(
    tasks: Tasks,
    seed: int,
    limits: tuple[float, int | None],
    candidates: int,
    threads: int | None,
    report: Report | None,
) -> _Found:
    """The best programs of a search, the best first, and the course of it; `limits` are seconds and evaluations."""
    seconds, evaluations = limits
    search = _searcher(evaluations)
    evaluator = Evaluator(tasks, ops=search.ops, threads=threads, stages=(KnownForms(2**18),))
    state = search.init(seed)
    evaluator(search.ask(state)[1])  # compiles, before the clock starts
    began, known = time.monotonic(), -1.0
    curve: list[dict[str, float]] = []
    spent = 0.0
    while state.best is None or (
        state.evaluations < evaluations if evaluations is not None else spent < seconds and known < 1.0
    ):
        state, asked = search.ask(state)
        state = search.tell(state, asked, evaluator(asked))
        spent = time.monotonic() - began
        if report is not None:
            report(state.evaluations, spent, state.best_fitness)
        if state.best_fitness > known:
            known = state.best_fitness
            curve.append({"evaluations": state.evaluations, "seconds": spent, "fitness": known})
    assert state.best is not None
    best = np.argsort(-state.champion_fitness, kind="stable")[: 4 * candidates]
    best = best[state.champion_fitness[best] >= 0]
    programs = concatenate([state.best.program, state.champions[best]])
    order = np.argsort(-evaluator(programs).combined, kind="stable")
    forms = search.candidates(programs[order]).hashes
    different = np.sort(np.unique(forms, return_index=True)[1])[:candidates]
    return _Found(programs[order[different]], evaluator, pd.DataFrame(curve))


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
      report: called while the search goes on, with evaluations, seconds and the best fitness.
      say: called with a line of text for each part of the work after it.
    """

    kind: ClassVar[Any]
    rivals: ClassVar[dict[str, tuple[Any, dict[str, Any]]]]
    report: Report | None = None
    say: Callable[[str], None] | None = None

    def __init__(
        self,
        *,
        time_limit: float = 60.0,
        evaluations: int | None = None,
        tasks: int = 32,
        candidates: int = 8,
        n_estimators: int = 8,
        held_out: float = 0.2,
        in_time: bool = False,
        baselines: bool = True,
        standardize: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.time_limit = time_limit
        self.evaluations = evaluations
        self.tasks = tasks
        self.candidates = candidates
        self.n_estimators = n_estimators
        self.held_out = held_out
        self.in_time = in_time
        self.baselines = baselines
        self.standardize = standardize
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _check(self) -> None:
        check_number("tasks", self.tasks)
        check_number("candidates", self.candidates)
        check_number("n_estimators", self.n_estimators)
        if not self.time_limit > 0:
            raise ValueError(f"time_limit must be above 0 seconds, not {self.time_limit}")
        if self.evaluations is not None and self.evaluations < 1:
            raise ValueError(f"evaluations must be at least 1, not {self.evaluations}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share of the rows, above 0 and below 1, not {self.held_out}")

    def _discover(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, groups: Any) -> None:
        """Searches on training rows, chooses by cross-validation on them, reports on the others, and trains on all."""
        self._check()
        if weights is not None:  # those that do not count are not there
            counts = weights > 0
            x, y, weights = x[counts], y[counts], weights[counts]
            groups = None if groups is None else np.asarray(groups)[counts]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        classes = np.searchsorted(self.classes_, y) if isinstance(self, ClassifierMixin) else None
        splits = Splits(len(y), classes, None if groups is None else np.asarray(groups), self.in_time)
        rows, out = splits.held_out(self.held_out, seed)
        folds = splits.folds(rows, FOLDS, seed)
        learned = [rows, *(train for train, _ in folds)]
        if classes is not None and any(len(np.unique(classes[some])) < 2 for some in learned):
            raise ValueError(
                "there are too few rows, or groups that say too much: the rows to learn from are all of one class in a "
                "split; give more rows, or other groups"
            )
        center, spread = moments(x[rows])
        scaled = (x[rows] - center) / spread
        tasks = self._made_tasks(scaled, y[rows], np.random.default_rng(seed), splits.among(rows))
        limits = SEARCH_SHARE * self.time_limit, self.evaluations
        found = _searched(tasks, seed, limits, self.candidates, self.n_jobs, self.report)
        if self.say:
            self.say("training the best programs on the table")
        data = Data(x, y, weights)
        judged = self._judged(found, data, folds, seed)
        models = [self._model(one.program, one.settings, seed, len(x)) for one in judged]
        programs = concatenate([one.program for one in judged])
        bare, scores = pruned(programs), found.evaluator(programs)
        self.algorithms_ = pd.DataFrame(
            {
                "fitness": scores.combined,
                "cost": scores.cost,
                "pareto": _pareto(scores.combined, scores.cost),
                **pd.DataFrame([one.settings for one in judged]),
                "cross_validation": [one.score for one in judged],
                "held_out": [scored(model, data, rows, out) for model in models],
                "listing": [bare.listing(i) for i in range(len(judged))],
            }
        )
        winner = int(self.algorithms_["cross_validation"].argmax())
        self.program_, self.curve_ = programs[winner], found.curve
        self.model_ = models[winner].set_params(n_estimators=self.n_estimators)
        self.held_out_score_, self.n_held_out_ = scored(self.model_, data, rows, out), len(out)
        self.model_.fit(x, y, weights)
        if self.baselines and self.say:
            self.say("tuning and training other models, to compare with")
        if self.baselines:
            self.baselines_ = compared(self.rivals, data, (rows, out), folds, seed)

    def _judged(self, found: _Found, data: Data, folds: Any, seed: int) -> list["_Judged"]:
        """The programs that were found, each with its best settings; and the best, its initial values varied."""

        def score(program: Programs, settings: Settings) -> float:
            model = self._model(program, settings, seed, len(data.x))
            return float(np.mean([scored(model, data, *fold) for fold in folds]))

        began, limit = time.monotonic(), (1 - SEARCH_SHARE) * self.time_limit
        deadlines = (None, None) if self.evaluations else (began + CHOICE_SHARE * limit, began + limit)
        choices = best_settings(
            len(found.programs), lambda i, settings: score(found.programs[i], settings), self._choices(), deadlines[0]
        )
        judged = [_Judged(found.programs[one.program], one.settings, one.score) for one in choices]
        best = max(judged, key=lambda one: one.score)
        varied, value = best_initial_values(
            best.program,
            SEARCH.space,
            lambda program: score(program, best.settings),
            best.score,
            np.random.default_rng(seed),
            deadlines[1],
        )
        return judged + [_Judged(varied, best.settings, value)] * (value > best.score)

    def _choices(self) -> dict[str, tuple[Any, Any]]:
        """Settings of the estimator, besides the number of epochs, that are chosen by cross-validation."""
        return {"bias": (True, False)}

    def _model(self, program: Programs, settings: Settings, seed: int, rows: int) -> Any:
        model = self.kind(program, standardize=self.standardize, random_state=seed, **settings)
        model.room = rows  # one compilation for all parts of the rows
        return model

    def _made_tasks(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, splits: Splits) -> Tasks:
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """Predictions `[N]` for examples `[N, F]`."""
        check_is_fitted(self)
        return np.asarray(self.model_.predict(validate_data(self, X, dtype=np.float64, reset=False)))


class _Judged(NamedTuple):
    program: Programs
    settings: Settings
    score: float


_MLP: dict[str, Any] = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 1e-2]}
_BOOSTING: dict[str, Any] = {"learning_rate": [0.03, 0.1], "max_leaf_nodes": [7, 31]}


class DiscoveryRegressor(RegressorMixin, _Discovery):
    """Discovers a learning algorithm for a regression problem, and trains it.

    Args:
      time_limit: in seconds: the search takes three fifths of it, training what it finds the rest; the first
        time on a machine compiling comes before, and baselines follow.
      evaluations: if given, the search ends after this number, not by time, and results are the same anywhere.
      tasks: how many search tasks are made of the training rows.
      candidates: how many of the best programs on these are trained on the rows themselves and compared. The initial
        values of the best one are then varied; what that gives is one more.
      n_estimators: how many models the best program trains in the end; what is predicted is their mean.
      held_out: the share of rows that neither search nor choice see.
      in_time: whether rows are in the order of time: then the last are held out, and validation follows training.
      baselines: whether other models are trained for comparison.
      standardize: as of `ProgramRegressor`.
      random_state: of everything.
      n_jobs: threads of the search; None for all cores.

    Attributes:
      algorithms_: a DataFrame of the best programs: `fitness` on the search tasks, `cost` in multiples of the library's
        2-layer network, whether no other is as good for less (`pareto`), its best settings of those tried (`epochs`,
        `bias`; `multi_class` of a classifier), the `cross_validation` score that they were chosen by, the score on the
        rows that were `held_out` of all this (both of one model), and its `listing`.
      program_: the one with the best cross-validation score.
      held_out_score_: its score on held-out rows, as the mean of `n_estimators` models.
      n_held_out_: how many these are.
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
        "MLP": (MLPRegressor(hidden_layer_sizes=(32,), max_iter=1000, early_stopping=True), _MLP),
        "gradient boosting": (HistGradientBoostingRegressor(), _BOOSTING),
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "DiscoveryRegressor":
        """Searches on examples `[N, F]` and targets `[N]`, and trains the best program on all of them.

        Rows of equal `groups` `[N]` are never on both sides of a split.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self._discover(X, np.asarray(y, np.float64), usable_weights(sample_weight, X), groups)
        return self

    def _made_tasks(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, splits: Splits) -> Tasks:
        mean, spread = moments(y[:, None])
        return regression_tasks(x, (y - mean[0]) / spread[0], self.tasks, rng, splits, bias=True)


class DiscoveryClassifier(ClassifierMixin, _Discovery):
    """Discovers a learning algorithm for a classification problem, and trains it.

    Arguments and attributes are those of `DiscoveryRegressor`. Classes may be two or more, of any type.

    Example:
      >>> from sklearn.datasets import load_wine
      >>> x, y = load_wine(return_X_y=True)
      >>> model = DiscoveryClassifier(time_limit=60, random_state=0)
      >>> model.fit(x, y).algorithms_  # doctest: +SKIP
    """

    kind = ProgramClassifier
    rivals: ClassVar[dict[str, tuple[Any, dict[str, Any]]]] = {
        "logistic regression": (LogisticRegression(max_iter=2000), {"C": [0.01, 0.1, 1.0, 10.0, 100.0]}),
        "MLP": (MLPClassifier(hidden_layer_sizes=(32,), max_iter=1000, early_stopping=True), _MLP),
        "gradient boosting": (HistGradientBoostingClassifier(), _BOOSTING),
    }

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "DiscoveryClassifier":
        """Searches on examples `[N, F]` and classes `[N]`, and trains the best program on all of them.

        Rows of equal `groups` `[N]` are never on both sides of a split.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weights = usable_weights(sample_weight, X)
        self.classes_ = unique_labels(y if weights is None else np.asarray(y)[weights > 0])
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]}: a search needs at least two")
        self._discover(X, np.asarray(y), weights, groups)
        return self

    def _made_tasks(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, splits: Splits) -> Tasks:
        return class_tasks(x, np.searchsorted(self.classes_, y), self.tasks, rng, splits, bias=True)

    def _choices(self) -> dict[str, tuple[Any, Any]]:
        several = {"multi_class": ("ovo", "ovr")} if len(self.classes_) > 2 else {}
        return super()._choices() | several

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`."""
        check_is_fitted(self)
        return np.asarray(self.model_.predict_proba(validate_data(self, X, dtype=np.float64, reset=False)))

    def decision_function(self, X: Any) -> np.ndarray:
        """As of `ProgramClassifier`."""
        check_is_fitted(self)
        return np.asarray(self.model_.decision_function(validate_data(self, X, dtype=np.float64, reset=False)))
