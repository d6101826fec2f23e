"""The files in a run's folder as pandas tables."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from zero_jax.program import text
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate
from zero_jax.run import schemas
from zero_jax.run.config_file import config_of
from zero_jax.run.outcome import QUANTILES, Progress
from zero_jax.run.records import records_of
from zero_jax.support import foreign

SCHEMA = 3
"""The version of hall.json and lineage.json that this reads."""

_HALL = {
    "search_fitness": "float64",
    "select_fitness": "float64",
    "cost": "float64",
    "instructions": "int64",
    "trial": "int64",
    "evaluations": "int64",
    "best": "bool",
    "pareto": "bool",
}
_STEPS = {"evaluations": "int64", "fitness": "float64", "births": "int64"}


def records(run: str | Path) -> pd.DataFrame:
    """The records of a run, one per row.

    Args:
      run: its folder. The run may be running or killed: an incomplete last line is skipped.

    Returns:
      A table with the fields of `Progress` as columns. The quantiles become the columns least, quarter, median,
      three_quarters and greatest; `islands` holds tuples. Without records the table has no rows.

    Raises:
      ValueError: the folder is not a run's, or a file in it is damaged; the message names it.

    Example:
      >>> table = records("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      >>> table.plot(x="evaluations", y=["best_fitness", "median"])    # doctest: +SKIP
    """
    config_of(run)
    lines = records_of(run)
    kinds = {name: kind for name, kind in Progress.__annotations__.items() if name not in ("quantiles", "islands")}
    # A search that was interrupted at once has no fitness of islands yet, hence no quantiles.
    spread = [p.quantiles or (float("nan"),) * len(QUANTILES) for p in lines]
    table = pd.DataFrame([p._asdict() for p in lines], columns=list(Progress._fields)).drop(columns="quantiles")
    table = table.astype({name: "int64" if kind is int else "float64" for name, kind in kinds.items()})
    table[list(QUANTILES)] = pd.DataFrame(spread, columns=list(QUANTILES), dtype="float64")
    table["islands"] = [p.islands for p in lines]
    return table


def hall_of_fame(run: str | Path) -> pd.DataFrame:
    """The best programs of a run: by fitness, and the Pareto front of fitness against cost.

    Args:
      run: its folder.

    Returns:
      A table sorted by fitness on T_search, ties by cost: search_fitness, select_fitness (NaN if not evaluated on
      T_select), cost (without dead code, in multiples of the library's 2-layer network), instructions (without dead
      code), trial, evaluations (programs asked for in that trial, this one included), best (whether it is among the
      best by fitness), pareto (whether it is on the front), and listing (without dead code). A row's label is its
      index in `programs`. Without hall.json the table has no rows.

    Raises:
      ValueError: the folder is not a run's, or a file in it is damaged; the message names it.

    Example:
      >>> table = hall_of_fame("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      >>> front = table[table.pareto]    # doctest: +SKIP
      >>> print(front.listing.iloc[0])    # doctest: +SKIP
    """
    return _hall(run)[0]


def programs(run: str | Path) -> Programs:
    """The programs of `hall_of_fame`, in its order, with their dead code.

    Evaluate them, or export them with `listing`, `to_proto` or `to_json`.

    Raises:
      ValueError: the folder is not a run's, has no hall of fame, or holds a damaged file; the message names it.

    Example:
      >>> table = hall_of_fame("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      >>> front = programs("runs/linear-seed1-20261121-090130")[table.index[table.pareto]]    # doctest: +SKIP
      >>> evaluate(front, tasks).fitness.shape    # doctest: +SKIP
      (7, 10)
    """
    programs = _hall(run)[1]
    if programs is None:
        raise ValueError(f"{run} has no hall of fame yet: hall.json is missing or empty")
    return programs


def lineage(run: str | Path) -> pd.DataFrame:
    """How the best program evolved: those of its ancestors that beat all of their own, oldest first.

    Args:
      run: its folder.

    Returns:
      A table: evaluations (programs asked for in that trial, this one included), fitness on T_search, gain over the
      previous step, births since then, listing (without dead code), and change: the listing line by line, prefixed by
      "+" if new, "-" if gone, else by a space. `attrs["trial"]` is the number of the trial. Without lineage.json the
      table has no rows.

    Raises:
      ValueError: the folder is not a run's, or a file in it is damaged; the message names it.
    """
    config_of(run)
    file = Path(run) / "lineage.json"
    stored = foreign.read_json(file, schemas.Lineage, SCHEMA)
    steps = _table(stored.steps if stored else [], _STEPS)
    texts = _listings(_programs(file, stored.steps, stored.interface)[1]) if stored and stored.steps else []
    changes = [_change(old, new) for old, new in zip(["", *texts], texts, strict=False)]
    table = steps.assign(gain=steps.fitness.diff(), listing=texts, change=changes)
    table.attrs["trial"] = stored.trial if stored else None
    return table


def best(run: str | Path) -> tuple[Programs, Interface | None] | None:
    """A run's best program without dead code, and where its label, features and prediction are, if that is known.

    Raises:
      ValueError: a file is damaged; the message names it.
    """
    file = Path(run) / "best.json"
    stored = foreign.read_json(file, schemas.Program, text.SCHEMA)
    if stored is None:
        return None
    hall = foreign.read_json(Path(run) / "hall.json", schemas.Hall, SCHEMA)
    interface = hall.interface if hall else None
    return _programs(file, [schemas.Holder(stored)], interface)[1], interface


def _hall(run: str | Path) -> tuple[pd.DataFrame, Programs | None]:
    config_of(run)
    file = Path(run) / "hall.json"
    stored = foreign.read_json(file, schemas.Hall, SCHEMA)
    rows = _table(stored.rows if stored else [], _HALL)
    if not stored or not stored.rows:
        return rows.assign(listing=[]), None
    programs, short = _programs(file, stored.rows, stored.interface)
    rows = rows.assign(listing=_listings(short))
    rows = rows.sort_values(["search_fitness", "cost"], ascending=[False, True], kind="stable")
    return rows.reset_index(drop=True), programs[rows.index.to_numpy()]


def _table(listed: Sequence[Any], kinds: dict[str, str]) -> pd.DataFrame:
    """The fields of a file's entries as typed columns."""
    return pd.DataFrame([[getattr(one, name) for name in kinds] for one in listed], columns=list(kinds)).astype(kinds)


def _listings(programs: Programs) -> list[str]:
    return [programs.listing(i) for i in range(len(programs))]


def _programs(file: Path, listed: Sequence[schemas.Holder], interface: Interface | None) -> tuple[Programs, Programs]:
    """The programs of a file's entries, and the same without dead code."""
    try:
        programs = concatenate([Programs.from_json(msgspec.json.encode(one.program).decode()) for one in listed])
        short = pruned(programs, interface)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"{foreign.plain(file)} is damaged: {foreign.reason(error)}") from None
    return programs, short


def _change(old: str, new: str) -> str:
    """All lines of `new` and those removed from `old`, each with its mark in front."""
    before, after = old.splitlines(), new.splitlines()
    lines = list(difflib.unified_diff(before, after, n=len(before) + len(after), lineterm=""))[3:]
    return "\n".join(lines or (f" {line}" for line in after))
