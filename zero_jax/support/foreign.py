"""External input: values quoted in messages, names on a terminal, and JSON files that anyone may have edited."""

import difflib
import json
import os
import reprlib
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

ECHOED = 80
"""The most characters of a value that a message quotes."""

LARGEST = 2**28
"""The largest JSON file that is read, in bytes."""

LARGEST_RECORDS = 2**31
"""The largest records.jsonl that is read; it grows with the run."""

LARGEST_CHECKPOINT = 2**33
"""The largest checkpoint that is read; it grows with the population."""

_REASON = 300
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, ECHOED, ECHOED
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = ECHOED

Kind = TypeVar("Kind")


def plain(text: Any, lines: bool = False) -> str:
    r"""Escapes invisible characters, so that text is safe on a terminal or in a page.

    These include control characters, escape sequences, bidirectional marks and lone surrogates.

    Args:
      text: the text, or a path.
      lines: whether to keep line breaks.

    Example:
      >>> print(plain("red\x1b[31m, \u202eturned"))
      red\x1b[31m, \u202eturned
    """
    text = str(text)
    if text.isprintable():
        return text
    kept = "\n" if lines else ""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    r"""Quotes a value from a file or command line in a message: like `repr`, but short and safe to print.

    Example:
      >>> print(shown("\x1b[31m"), shown(3))
      '\x1b[31m' 3
      >>> shown("x" * 1000).removeprefix("'" + "x" * 80)
      "'... (1,000 characters)"
    """
    if isinstance(value, str):
        part = value[:ECHOED]
        while len(repr(part)) > ECHOED + 2:
            part = part[:-1]
        return repr(part) + (f"... ({len(value):,} characters)" if len(part) < len(value) else "")
    try:
        text = plain(_REPR.repr(value))
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        text = f"{type(value).__name__} too long to print"
    return text if len(text) <= ECHOED else f"{text[:ECHOED]}..."


def cut(text: Any) -> str:
    """Quotes external text in a message without quotation marks, for example a list of names: one short line.

    Example:
      >>> cut("a, " * 1000)[80:]
      '... (3,000 characters)'
    """
    text = plain(text)
    return text if len(text) <= ECHOED else f"{text[:ECHOED]}... ({len(text):,} characters)"


def expected(name: str, known: Iterable[str]) -> str:
    """What a message says about an unknown name: the closest of the known ones, or else all of them.

    Example:
      >>> print(expected("linera", ["linear", "affine"]), expected("x", ["linear", "affine"]), sep="; ")
      did you mean 'linear'?; expected one of linear, affine
    """
    names = list(known)
    close = difflib.get_close_matches(name[:ECHOED], names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(names)}"


def reason(error: BaseException) -> str:
    """The message of an error in one short line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = plain(str(error).replace("\n", " ")) or type(error).__name__
    return text if len(text) <= _REASON else f"{text[:_REASON]}..."


# ---------------------------------------------------------------------------------------------- files


def read_bytes(file: Path, largest: int = LARGEST) -> bytes | None:
    """The content of a file; None if it does not exist.

    Raises:
      ValueError: it is not a regular file, a broken link, too large or unreadable; the message names it.
    """
    name = plain(file)
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a FIFO would wait for a writer
    except FileNotFoundError:
        if os.path.lexists(file):
            raise ValueError(f"{name} is a link to a file that does not exist") from None
        return None
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
        if status.st_size > largest:
            raise ValueError(f"{name} has {status.st_size:,} bytes; at most {largest:,} are read")
        with os.fdopen(os.dup(handle), "rb") as stream:
            return stream.read(largest)
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}") from None
    finally:
        os.close(handle)


def read_json(file: Path, kind: type[Kind], schema: int | None = None) -> Kind | None:
    """The JSON in a file as an instance of a class; None if there is no file.

    Args:
      file: the file to read.
      kind: a msgspec struct or a dataclass; numbers, strings and booleans are not converted into each other.
      schema: the value that the file's field `schema` must have; None for files without one.

    Raises:
      ValueError: the file is unreadable, not JSON, does not fit the class, or has another schema; the message names it.
    """
    data = read_bytes(file)
    if data is None:
        return None
    try:
        tree = parsed(data)
        stored = tree.get("schema") if schema is not None and isinstance(tree, dict) else schema
        if type(stored) is not type(schema):
            raise ValueError(f"its schema is {shown(stored)}, not {schema}")
        if stored == schema:
            return described_by(kind, tree)
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{plain(file)} is damaged: {reason(error)}") from None
    raise ValueError(f"{plain(file)} has schema {shown(stored)}; this version of zero-jax reads schema {schema}")


def parsed(data: bytes) -> Any:
    """Parses JSON strictly: duplicate keys and NaN are refused, infinities are allowed.

    Raises:
      ValueError: the text is not such JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{shown(next(name for name in names if names.count(name) > 1))} occurs twice")
        return tree

    def constant(name: str) -> float:
        if name == "NaN":
            raise ValueError("NaN where a number is expected")
        return float(name)

    return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=constant)


def described_by(kind: type[Kind], tree: Any) -> Kind:
    """Converts a tree to an instance of a class.

    Raises:
      ValueError: a field does not fit; the message names it.
    """
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ValueError(reason(error)) from None
