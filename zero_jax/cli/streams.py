"""Standard streams that may fail: closed, on a full disk, or without a reader."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Forgiving:
    """A text stream that ignores write errors, because its messages only matter to someone watching."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_safe() -> None:
    """Replaces closed standard streams by the null device, so that no other file takes their descriptor, and makes
    write errors on stderr harmless.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    sys.stderr = _Forgiving(sys.stderr)


def say(message: str) -> None:
    """Prints a message to stderr and ignores write errors."""
    from zero_jax.support.foreign import plain  # a compiled module: see zero_jax.cli

    with contextlib.suppress(OSError, ValueError):
        print(plain(message, lines=True), file=sys.stderr, flush=True)


def flush() -> None:
    """Flushes both output streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """Captures what the block prints; SystemExit ends the block."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        yield printed
