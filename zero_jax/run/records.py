"""records.jsonl: a line for each record of a run."""

import json
import os
from pathlib import Path

import msgspec

from zero_jax.run import schemas
from zero_jax.run.outcome import Progress
from zero_jax.support import foreign

RECORDS = "records.jsonl"


def append(run: Path, progress: Progress) -> None:
    """Adds a record to those in a run's folder."""
    with open(run / RECORDS, "a", encoding="utf-8") as file:
        file.write(json.dumps(progress._asdict()) + "\n")


def size(run: Path) -> int:
    """How many bytes of records there are."""
    file = run / RECORDS
    return file.stat().st_size if file.exists() else 0


def cut(run: Path, length: int) -> None:
    """Cuts off what follows the first `length` bytes, which were written after the checkpoint in use.

    Raises:
      ValueError: fewer bytes, or something other than a regular file.
    """
    file = run / RECORDS
    if file.exists() and not file.is_file():  # a FIFO would wait for a reader
        raise ValueError(f"{file} is not a regular file")
    there = size(run)
    if there < length:
        raise ValueError(f"{file} has {there:,} bytes, and its checkpoint was written after {length:,}: it was cut")
    if there > length:
        os.truncate(file, length)


def records_of(path: str | Path) -> list[Progress]:
    """The records in a run's folder, but for a last line that is not whole: its process was killed, or is writing it.

    Raises:
      ValueError: a damaged file.
    """
    file = Path(path) / RECORDS
    lines = (foreign.read_bytes(file, foreign.LARGEST_RECORDS) or b"").split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = foreign.described_by(schemas.Record, foreign.parsed(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{foreign.plain(file)}, line {number}, is damaged: {foreign.reason(error)}") from None
        records.append(Progress(**msgspec.structs.asdict(record)))
    return records
