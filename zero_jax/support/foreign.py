"""What comes from outside: values in messages, names on a terminal, and JSON files that anybody may have edited."""

import json
import os
import reprlib
import stat
from pathlib import Path
from typing import Any, TypeVar

import msgspec

ECHOED = 80
"""A message repeats no more characters of a value than these."""

LARGEST = 2**28
"""A file of more bytes than these is no JSON of ours."""

LARGEST_RECORDS = 2**31
"""The same of records.jsonl, which grows with a run."""

LARGEST_CHECKPOINT = 2**33
"""The same of checkpoints, which grow with the population."""

_REASON = 300
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, ECHOED, ECHOED
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = ECHOED

Kind = TypeVar("Kind")


def plain(text: Any, lines: bool = False) -> str:
    r"""A text as it may stand on a terminal or in a page: what cannot be seen is escaped.

    So control characters, escape sequences, marks that turn the direction of text, and lone surrogates do no harm.

    Args:
      text: the text, or a path.
      lines: whether it may have several lines.

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
    r"""A value from a file or a command line as a message repeats it: as `repr` does, but safe to print, and short.

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
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        text = f"{type(value).__name__} too long to print"
    return text if len(text) <= ECHOED else f"{text[:ECHOED]}..."


def cut(text: Any) -> str:
    """A text from outside as a message repeats it without quotes, such as a list of names: one short line.

    Example:
      >>> cut("a, " * 1000)[80:]
      '... (3,000 characters)'
    """
    text = plain(text)
    return text if len(text) <= ECHOED else f"{text[:ECHOED]}... ({len(text):,} characters)"


def reason(error: BaseException) -> str:
    """What an error says, in one short line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = plain(str(error).replace("\n", " ")) or type(error).__name__
    return text if len(text) <= _REASON else f"{text[:_REASON]}..."


# ---------------------------------------------------------------------------------------------- files


def read_bytes(file: Path, largest: int = LARGEST) -> bytes | None:
    """What a file holds; None where there is none.

    Raises:
      ValueError: no regular file, a link to nothing, one that is too large or cannot be read; naming it.
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
    """The JSON in a file as an object of a class that describes its fields; None where there is no file.

    Args:
      file: where.
      kind: a msgspec struct or a dataclass; numbers, texts and truth values are not made of each other.
      schema: what the file must have in its field of that name, if it has one.

    Raises:
      ValueError: a file that cannot be read, is not JSON, does not fit, or has another schema; naming it.
    """
    data = read_bytes(file)
    if data is None:
        return None
    try:
        tree = parsed(data)
        found = tree.get("schema") if schema is not None and isinstance(tree, dict) else schema
        if type(found) is not type(schema):
            raise ValueError(f"its schema is {shown(found)}, not {schema}")
        if found == schema:
            return described_by(kind, tree)
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{plain(file)} is damaged: {reason(error)}") from None
    raise ValueError(f"{plain(file)} has schema {shown(found)}, and this version of zero-jax reads {schema}")


def parsed(data: bytes) -> Any:
    """JSON that says each thing once; NaN is refused, infinities are not.

    Raises:
      ValueError: anything else.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{shown(next(name for name in names if names.count(name) > 1))} stands twice")
        return tree

    def constant(name: str) -> float:
        if name == "NaN":
            raise ValueError("NaN stands where a number should")
        return float(name)

    return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=constant)


def described_by(kind: type[Kind], tree: Any) -> Kind:
    """A tree as an object of a class that describes its fields.

    Raises:
      ValueError: saying which field does not fit.
    """
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ValueError(reason(error)) from None
