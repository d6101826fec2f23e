"""Your own arrays: tasks in an NPZ file."""

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from zero_jax.support.bounds import MAX_BYTES
from zero_jax.support.files import write_atomically
from zero_jax.support.foreign import cut, shown
from zero_jax.tasks.tasks import Loss, Tasks


def save(tasks: Tasks, path: str | Path) -> None:
    """Writes tasks as NPZ, for `load`: ids and the order of examples included.

    Example:
      >>> save(synthetic.linear(10), "mine.npz")    # doctest: +SKIP
    """
    arrays = {name: np.asarray(getattr(tasks, name)) for name in (*_NEEDED, "order", "ids")}
    numbers = {"loss": tasks.loss, "epochs": tasks.epochs, "classes": tasks.classes or 2}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **{name: np.array(value) for name, value in numbers.items()})
    write_atomically(Path(path), buffer.getvalue())


def load(path: str | Path) -> Tasks:
    """Your own arrays: an NPZ file with train_x, train_y, valid_x, valid_y and, if wanted, loss, epochs and classes;
    and ids and order, as `save` writes them.

    The arrays are as for `Tasks`. The loss is rmse (regression) by default, whatever the labels are; with accuracy
    there are two classes unless `classes` is given. Labels that look like classes without accuracy give a warning.

    Raises:
      ValueError: a file that cannot be read, lacks an array or has one that means nothing; all that `Tasks` objects to.
    """
    stored = _stored(path)
    train_x, train_y, valid_x, valid_y = (stored[name] for name in _NEEDED)
    numbers: dict[str, Any]
    loss, numbers = str(stored.get("loss", "rmse")), {"epochs": 1, "classes": 2}
    try:
        for name in numbers:
            given = stored.get(name, np.array(numbers[name]))
            if given.shape or not np.issubdtype(given.dtype, np.number):
                raise ValueError(f"{name} must be one whole number, not {shown(given.tolist())}")
            numbers[name] = given.item()
        tasks = Tasks(train_x, train_y, valid_x, valid_y, cast(Loss, loss), ids=stored.get("ids"), **numbers)
        if "order" in stored:
            tasks = tasks.with_order(stored["order"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if "loss" not in stored and np.isin(tasks.train_y, (0, 1)).all() and np.isin(tasks.valid_y, (0, 1)).all():
        warnings.warn(
            f'{path} has no loss, so its labels, all 0 or 1, are taken for numbers: add loss="accuracy" to the file '
            'if they are classes, or loss="rmse" if not',
            stacklevel=2,
        )
    return tasks


_NEEDED, _OPTIONAL = ("train_x", "train_y", "valid_x", "valid_y"), ("loss", "epochs", "classes", "ids", "order")


def _stored(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file; each is read only after its header has been checked."""
    if Path(path).exists() and not Path(path).is_file():  # a FIFO would wait for a writer
        raise ValueError(f"{path} is not a regular file")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as members:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in members.infolist()}
            _check_entries(path, entries, len(members.infolist()))
            return {name: _member(members, entry, f"{path}: {name}") for name, entry in entries.items()}
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception:
        raise ValueError(f"{path} is not an NPZ file of arrays of numbers: it cannot be read") from None


class _Refused(Exception):
    """A file that can be read, but that tasks cannot be made of."""


def _check_entries(path: str | Path, entries: dict[str, zipfile.ZipInfo], count: int) -> None:
    missing = [name for name in _NEEDED if name not in entries]
    names = cut(", ".join(entries)) or "none"
    if missing:
        raise _Refused(f"{path} has no array {', '.join(missing)}; it has {names}")
    unknown = [name for name in entries if name not in (*_NEEDED, *_OPTIONAL)]
    if unknown:
        allowed = ", ".join((*_NEEDED, *_OPTIONAL))
        raise _Refused(f"{path} has {cut(', '.join(unknown))}; all that it may have is {allowed}")
    if count > len(entries):
        raise _Refused(f"{path} has an array twice")
    size = sum(entry.file_size for entry in entries.values())
    if size > MAX_BYTES:
        raise _Refused(f"{path} has arrays of {size / 2**30:,.1f} GiB; {MAX_BYTES >> 30} GiB are allowed")


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _member(members: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str) -> np.ndarray:
    with members.open(entry) as file:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
    if dtype.kind not in "biufU":
        kind = "Python objects" if dtype.hasobject else cut(dtype)
        raise _Refused(f"{what} is an array of {kind}, not of numbers")
    if claimed != there or min(shape, default=0) < 0:
        raise _Refused(f"{what} is damaged: {shown(shape)} {dtype} would take {claimed:,} bytes, not {there:,}")
    with members.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # to the last byte, so that its checksum is checked
