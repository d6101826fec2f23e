"""Which rows of a table are learned from, and which are scored on: groups stay together, and time goes forward."""

import dataclasses

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.model_selection import train_test_split as parted

FEWEST = 8
"""With fewer rows none is set apart: what is learned from is all that there is."""

Rows = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """How the rows of one table may be split.

    Attributes:
      rows: N, how many.
      classes: `[N]`, the class of each row; splits keep the shares of classes where there are enough of each. None for
        numbers.
      groups: `[N]`, what each row belongs to: rows of a group are never on both sides. None without groups.
      in_time: whether rows are in the order of time: what is scored on follows what is learned from.

    Raises:
      ValueError: groups of another length, fewer than two, or groups and time at once.

    Example:
      >>> learned, held_out = Splits(10, in_time=True).held_out(0.2, seed=0)
      >>> held_out.tolist()
      [8, 9]
    """

    rows: int
    classes: np.ndarray | None = None
    groups: np.ndarray | None = None
    in_time: bool = False

    def __post_init__(self) -> None:
        if self.groups is None:
            return
        if len(self.groups) != self.rows:
            raise ValueError(f"groups has {len(self.groups)} values for {self.rows} rows")
        if self.in_time:
            raise ValueError("rows can be split by groups or in time, not both")
        if len(np.unique(self.groups)) < 2:
            raise ValueError("all rows are in one group: none can be held out")

    def held_out(self, share: float, seed: int) -> tuple[Rows, Rows]:
        """Rows to learn from, and a share to score on; all for both if they are too few."""
        rows = np.arange(self.rows)
        if self.rows < FEWEST:
            return rows, rows
        if self.in_time:
            first = min(self.rows - 1, max(1, self.rows - round(share * self.rows)))
            return rows[:first], rows[first:]
        if self.groups is not None:
            kept, out = next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(rows, groups=self.groups))
            return kept, out
        strata = self._strata(rows, 5)
        if strata is not None and len(np.unique(strata)) > min(share, 1 - share) * self.rows:
            strata = None  # one side has no room for all classes
        kept, out = parted(rows, test_size=share, random_state=seed, stratify=strata)
        return np.sort(kept), np.sort(out)

    def among(self, rows: Rows) -> "Splits":
        """The same for some rows alone, numbered anew."""
        classes, groups = (None if part is None else part[rows] for part in (self.classes, self.groups))
        return Splits(len(rows), classes, groups, self.in_time)

    def folds(self, rows: Rows, number: int, seed: int) -> list[tuple[Rows, Rows]]:
        """Rows to learn from and others to score on, in as many ways, all among some rows."""
        if len(rows) < FEWEST:
            return [(rows, rows)]
        groups = None if self.groups is None else self.groups[rows]
        strata = self._strata(rows, number)
        if self.in_time:
            split = TimeSeriesSplit(number)
        elif groups is not None:
            number = min(number, len(np.unique(groups)))
            if number < 2:
                return [(rows, rows)]
            split = GroupKFold(number)
        elif strata is not None:
            split = StratifiedKFold(number, shuffle=True, random_state=seed)
        else:
            split = KFold(number, shuffle=True, random_state=seed)
        return [(rows[train], rows[test]) for train, test in split.split(rows, strata, groups)]

    def drawn(self, rows: Rows, train: int, valid: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """`train` rows to learn from and `valid` rows to score on, drawn from some rows."""
        if self.in_time:
            start = rng.integers(len(rows) - train - valid + 1)
            window = np.sort(rows)[start : start + train + valid]
            return rng.permutation(window[:train]), window[train:]
        if self.groups is None or len(np.unique(self.groups[rows])) < 2:
            chosen = rng.permutation(rows)
            return chosen[:train], chosen[len(chosen) - valid :]
        names, members = np.unique(self.groups[rows], return_inverse=True)
        order = rng.permutation(len(names))
        sizes = np.cumsum(np.bincount(members)[order])
        first = order[: max(1, min(len(names) - 1, int(np.searchsorted(sizes, valid)) + 1))]
        apart = np.isin(members, first)
        return _some(rows[~apart], train, rng), _some(rows[apart], valid, rng)

    def _strata(self, rows: Rows, least: int) -> np.ndarray | None:
        """The classes of some rows, if each has at least `least` rows."""
        if self.classes is None or np.unique(self.classes[rows], return_counts=True)[1].min() < least:
            return None
        return self.classes[rows]


@dataclasses.dataclass(frozen=True, eq=False)
class Across:
    """As `Splits`, for tasks that learn from some rows and score on others.

    Attributes:
      learned: numbers of the rows to learn from.
      held_out: numbers of those to score on.
    """

    learned: Rows
    held_out: Rows

    def drawn(self, rows: Rows, train: int, valid: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """As `Splits.drawn`."""
        both = (rows[np.isin(rows, some)] for some in (self.learned, self.held_out))
        learned, held_out = (some if len(some) else rows for some in both)
        return _some(learned, train, rng), _some(held_out, valid, rng)


def _some(rows: Rows, number: int, rng: np.random.Generator) -> Rows:
    """`number` rows, each at most once if there are enough."""
    return rng.choice(rows, number, replace=len(rows) < number)
