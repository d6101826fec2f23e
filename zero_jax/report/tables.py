"""The files of a run's folder as pandas tables."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from zero_jax.program import text as listing
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs, concatenate
from zero_jax.run import folder as runs
from zero_jax.run import schemas
from zero_jax.run.folder import QUANTILES, Progress
from zero_jax.support import foreign

SCHEMA = 2
"""The version of hall.json and lineage.json that this reads."""

_HALL = {
    "search_fitness": "float64",
    "select_fitness": "float64",
    "cost": "float64",
    "instructions": "int64",
    "experiment": "int64",
    "evaluations": "int64",
    "best": "bool",
    "pareto": "bool",
}
_STEPS = {"evaluations": "int64", "fitness": "float64", "births": "int64"}


def records(run: str | Path) -> pd.DataFrame:
    """The records of a run, one a row: how it went.

    Args:
      run: its folder. A run under way will do, and one that was killed: a last line that is not whole is left out.

    Returns:
      A table with the fields of `Progress` as columns, but for the quantiles: these are the columns least, quarter,
      median, three_quarters and greatest. `islands` holds tuples. Without records there are no rows.

    Raises:
      ValueError: no run's folder, or a damaged file, by name.

    Example:
      >>> table = records("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      >>> table.plot(x="evaluations", y=["best_fitness", "median"])    # doctest: +SKIP
    """
    runs.config_of(run)
    told = runs.records_of(run)
    kinds = {name: kind for name, kind in Progress.__annotations__.items() if name not in ("quantiles", "islands")}
    # Without islands that have told their fitness, as when a search was interrupted at once, there are no quantiles.
    spread = [p.quantiles or (float("nan"),) * len(QUANTILES) for p in told]
    table = pd.DataFrame([p._asdict() for p in told], columns=list(Progress._fields)).drop(columns="quantiles")
    table = table.astype({name: "int64" if kind is int else "float64" for name, kind in kinds.items()})
    table[list(QUANTILES)] = pd.DataFrame(spread, columns=list(QUANTILES), dtype="float64")
    table["islands"] = [p.islands for p in told]
    return table


def hall_of_fame(run: str | Path) -> pd.DataFrame:
    """The best programs of a run by fitness, and by fitness against cost: the Pareto front.

    Args:
      run: its folder.

    Returns:
      A table sorted by fitness on T_search, the cheaper first among equals: search_fitness, select_fitness (NaN for
      those that were not judged), cost (of the program without its dead code, in multiples of the library's 2-layer
      network), instructions (of the same), experiment, evaluations (programs asked for in that experiment until it was
      found), best (whether it is one of the best by fitness), pareto (whether it is on the front), and listing, without
      dead code. A row's label is its number in `programs`. Without hall.json there are no rows.

    Raises:
      ValueError: no run's folder, or a damaged file, by name.

    Example:
      >>> table = hall_of_fame("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      >>> front = table[table.pareto]    # doctest: +SKIP
      >>> print(front.listing.iloc[0])    # doctest: +SKIP
    """
    return _hall(run)[0]


def programs(run: str | Path) -> Programs:
    """The programs of `hall_of_fame`, in its order, as evolution left them: dead code included.

    Each can be had in every form (`listing`, `zero_jax.program.text.to_proto`, `to_json`), and evaluated.

    Raises:
      ValueError: no run's folder, no hall of fame in it, or a damaged file, by name.

    Example:
      >>> table = hall_of_fame("runs/linear-seed1-20261121-090130")    # doctest: +SKIP
      >>> front = programs("runs/linear-seed1-20261121-090130")[table.index[table.pareto]]    # doctest: +SKIP
      >>> evaluate(front, tasks).fitness.shape    # doctest: +SKIP
      (7, 10)
    """
    found = _hall(run)[1]
    if found is None:
        raise ValueError(f"{run} holds no hall of fame: there is no hall.json, or nothing in it yet")
    return found


def lineage(run: str | Path) -> pd.DataFrame:
    """How the best program came about: its ancestors that beat all theirs, from the first on.

    Args:
      run: its folder.

    Returns:
      A table: evaluations (programs asked for in that experiment until it was found), fitness on T_search, gain over
      the step before, births since then, listing without dead code, and change: that listing line by line, led by
      "+" if new, "-" if gone, else by a space. `attrs["experiment"]` is the number of the experiment. Without
      lineage.json there are no rows.

    Raises:
      ValueError: no run's folder, or a damaged file, by name.
    """
    runs.config_of(run)
    file = Path(run) / "lineage.json"
    found = foreign.read_json(file, schemas.Lineage, SCHEMA)
    steps = _table(found.steps if found else [], _STEPS)
    texts = _programs(file, found.steps, found.interface)[1] if found and found.steps else []
    changes = [_change(old, new) for old, new in zip(["", *texts], texts, strict=False)]
    table = steps.assign(gain=steps.fitness.diff(), listing=texts, change=changes)
    table.attrs["experiment"] = found.experiment if found else None
    return table


def best(run: str | Path) -> str | None:
    """The listing of a run's best program without dead code; None where there is no best.json.

    Raises:
      ValueError: a damaged file, by name.
    """
    file = Path(run) / "best.json"
    found = foreign.read_json(file, schemas.Program, listing.SCHEMA)
    if found is None:
        return None
    hall = foreign.read_json(Path(run) / "hall.json", schemas.Hall, SCHEMA)
    return _programs(file, [schemas.Holder(found)], hall.interface if hall else None)[1][0]


def _hall(run: str | Path) -> tuple[pd.DataFrame, Programs | None]:
    runs.config_of(run)
    file = Path(run) / "hall.json"
    found = foreign.read_json(file, schemas.Hall, SCHEMA)
    rows = _table(found.rows if found else [], _HALL)
    if not found or not found.rows:
        return rows.assign(listing=[]), None
    programs, texts = _programs(file, found.rows, found.interface)
    rows = rows.assign(listing=texts)
    rows = rows.sort_values(["search_fitness", "cost"], ascending=[False, True], kind="stable")
    return rows.reset_index(drop=True), programs[rows.index.to_numpy()]


def _table(listed: Sequence[Any], kinds: dict[str, str]) -> pd.DataFrame:
    """Fields of what a file lists, as columns of those kinds."""
    return pd.DataFrame([[getattr(one, name) for name in kinds] for one in listed], columns=list(kinds)).astype(kinds)


def _programs(file: Path, listed: Sequence[schemas.Holder], interface: Interface | None) -> tuple[Programs, list[str]]:
    """The programs of what a file lists, and their listings without dead code."""
    try:
        programs = concatenate([listing.from_json(msgspec.json.encode(one.program).decode()) for one in listed])
        short = pruned(programs, interface)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"{foreign.plain(file)} is damaged: {foreign.reason(error)}") from None
    return programs, [short.listing(i) for i in range(len(short))]


def _change(old: str, new: str) -> str:
    """All lines of `new`, and those of `old` that are gone, each led by what became of it."""
    before, after = old.splitlines(), new.splitlines()
    lines = list(difflib.unified_diff(before, after, n=len(before) + len(after), lineterm=""))[3:]
    return "\n".join(lines or (f" {line}" for line in after))
