"""Bounds on every number a user may set, in one table, and the functions that check them. Imports nothing heavy."""

import numbers
from typing import Any

from zero_jax.support.foreign import shown

_MANY = 10**18

BOUNDS: dict[str, tuple[int, int]] = {
    # programs
    "instructions": (0, 10_000),
    "scalars": (2, 10_000),
    "vectors": (1, 10_000),
    "matrices": (0, 10_000),
    # searches
    "islands": (1, 1_000_000),
    "population": (1, 100_000_000),
    "cohort": (1, 100_000_000),
    "tournament": (1, 1_000_000),
    "niches": (1, 100_000),
    "niche_size": (1, 1_000_000),
    "children": (1, 10_000_000),
    "sets": (1, 10_000),
    "climb_after": (1, _MANY),
    "tune_every": (1, _MANY),
    "patience": (1, _MANY),
    "explore_every": (0, _MANY),
    # tasks
    "tasks": (1, 1_000_000),
    "features": (1, 20_000),
    "train": (1, 10_000_000),
    "valid": (1, 10_000_000),
    "epochs": (1, 1_000_000),
    "classes": (2, 20_000),
    "classes_per_side": (1, 1_000),
    # runs
    "train_steps": (1, _MANY),
    "trials": (0, 1_000_000_000),
    "parallel_trials": (1, 1_024),
    "candidates": (1, 1_000_000),
    "proposals": (1, 1_000_000),
    "startup": (1, 1_000_000),
    "hidden": (1, 10_000),
    "updates": (1, 1_000),
    "n_estimators": (1, 10_000),
    "groups": (1, 1_000_000),
    "workers": (0, 100_000),
    "migrate_every": (0, _MANY),
    # evaluation
    "probe": (0, 1_000_000_000),
    "remember": (0, 100_000_000),
    "cache_size": (0, 100_000_000),
    "forget_every": (0, _MANY),
    "threads": (0, 1_024),
    "devices": (0, 65_536),
    "max_bytes": (1, _MANY),
    "evaluations": (1, 10_000_000),
    "seed": (0, 2**64 - 1),
    "draws_seed": (0, 2**32 - 1),
    "port": (0, 65_535),
}
"""The smallest and largest value of each setting. Products that take memory, such as islands times population, are also
bounded by `check_bytes`."""

MAX_BYTES = 2**33
"""The most memory one object may take, such as a population or the examples of tasks."""

MAX_TEXT = 2**24
"""The most characters in the text of programs."""


def check_number(name: str, value: Any, least: int | None = None, most_only: bool = False) -> int:
    """Returns a user's number if it is an integer within the bounds for its name.

    Args:
      name: the name of the setting, a key of `BOUNDS`.
      value: the number to check.
      least: overrides the lower bound of the table.
      most_only: whether to ignore the lower bound.

    Raises:
      ValueError: the number is out of bounds or not an integer.

    Example:
      >>> check_number("tournament", 2147483648)
      Traceback (most recent call last):
      ValueError: tournament must be from 1 to 1,000,000, not 2147483648
    """
    low, high = BOUNDS[name]
    low = low if least is None else least
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {shown(value)}")
    number = int(value)
    if number < low and not most_only:
        raise ValueError(f"{name} must be at least {low:,}, not {shown(number)}")
    if number > high:
        raise ValueError(f"{name} must be from {low:,} to {high:,}, not {shown(number)}")
    return number


def check_fields(settings: Any) -> None:
    """Checks those fields of a dataclass that are in the table.

    Raises:
      ValueError: as `check_number`.
    """
    for name, value in vars(settings).items():
        if name in BOUNDS:
            check_number(name, value)


def check_bytes(what: str, count: int, remedy: str) -> None:
    """Refuses an allocation that would take too much memory, before it is made.

    Raises:
      ValueError: it would take more than `MAX_BYTES`.

    Example:
      >>> check_bytes("10 programs", 2**40, "take fewer")
      Traceback (most recent call last):
      ValueError: 10 programs would take 1,024.0 GiB of memory; 8 GiB are allowed: take fewer
    """
    if count > MAX_BYTES:
        size = f"{count / 2**30:,.1f}" if count < 2**60 else f"{count >> 30:.1e}"
        raise ValueError(f"{what} would take {size} GiB of memory; {MAX_BYTES >> 30} GiB are allowed: {remedy}")
