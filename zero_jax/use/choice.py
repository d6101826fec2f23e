"""Which of several programs predicts a table best, with which settings of its estimator and which initial values.

All are judged by a score, such as one of cross-validation. All programs are tried with the first settings, the better
half with others, and the initial values of the best are varied.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace
from zero_jax.search.operators.mutation import vary_initial_values

EPOCHS = (1, 4, 16, 64)
"""How many epochs are tried, from the second on up or down as long as the score gets better."""

FOLDS = 5
"""On how many folds of the rows a program is judged."""

VARIANTS, SPREADS = 8, (1.0, 0.4)
"""How many sets of initial values are tried in each round, and how far they spread: the standard deviation of the
logarithm of a factor."""

Settings = dict[str, Any]


class Choice(NamedTuple):
    """What was best for one program.

    Attributes:
      program: its number.
      settings: of the estimator.
      score: the mean over the folds.
    """

    program: int
    settings: Settings
    score: float


def best_settings(
    n: int, score: Callable[[int, Settings], float], others: dict[str, tuple[Any, Any]], deadline: float | None
) -> list[Choice]:
    """The best settings found for each of `n` programs, which are in order of promise.

    Args:
      n: how many programs.
      score: of a program, by its number, with some settings; the larger the better.
      others: settings besides `epochs`, and the two values of each; the first is tried first.
      deadline: on the clock of `time.monotonic`; where the next score would be later, what is known counts. None for no
        deadline. The first program is always scored.

    Example:
      >>> found = best_settings(2, lambda i, settings: i + settings["epochs"], {"bias": (True, False)}, None)
      >>> found[1]
      Choice(program=1, settings={'epochs': 64, 'bias': True}, score=65)
    """
    return _Search(score, deadline).run(n, others)


class _Search:
    def __init__(self, score: Callable[[int, Settings], float], deadline: float | None) -> None:
        self.score, self.deadline, self.longest = score, deadline, 0.0
        self.best: dict[int, Choice] = {}

    def run(self, n: int, others: dict[str, tuple[Any, Any]]) -> list[Choice]:
        start = {"epochs": EPOCHS[1]} | {name: first for name, (first, _) in others.items()}
        for i in range(n):
            self.improves(i, start)
        for i in self.better_half():
            self.try_epochs(i)
        for name, values in others.items():
            for i in self.better_half():
                now = self.best[i].settings
                self.improves(i, now | {name: values[now[name] == values[0]]})
        return [self.best[i] for i in sorted(self.best)]

    def better_half(self) -> list[int]:
        in_order = sorted(self.best.values(), key=lambda one: -one.score)
        return [one.program for one in in_order[: (len(in_order) + 1) // 2]]

    def try_epochs(self, i: int) -> None:
        at = 1
        for step in (1, -1):
            while 0 <= at + step < len(EPOCHS) and self.improves(
                i, self.best[i].settings | {"epochs": EPOCHS[at + step]}
            ):
                at += step
            if at != 1:
                return

    def improves(self, i: int, settings: Settings) -> bool:
        """Scores settings if there is time; whether they are the best of the program so far."""
        began = time.monotonic()
        if self.best and self.deadline is not None and began + self.longest > self.deadline:
            return False
        score = self.score(i, settings)
        self.longest = max(self.longest, time.monotonic() - began)
        if i in self.best and score <= self.best[i].score:
            return False
        self.best[i] = Choice(i, settings, score)
        return True


def best_initial_values(
    program: Programs,
    space: SearchSpace,
    score: Callable[[Programs], float],
    known: float,
    rng: np.random.Generator,
    deadline: float | None,
) -> tuple[Programs, float]:
    """The program with the initial values that score best among some near its own, and that score.

    Args:
      program: one program.
      space: its space, whose Setup holds initial values.
      score: of a program; the larger the better.
      known: the score of the program.
      rng: where randomness comes from; it is advanced.
      deadline: as of `best_settings`.
    """
    longest = 0.0
    for spread in SPREADS:
        many = program[np.zeros(VARIANTS + 1, np.int64)]
        vary_initial_values(many, space, spread, 0.0, len(many), rng)  # all but the first
        for i in range(1, len(many)):
            began = time.monotonic()
            if deadline is not None and began + longest > deadline:
                return program, known
            value = score(many[i])
            longest = max(longest, time.monotonic() - began)
            if value > known:
                program, known = many[i], value
    return program, known
