"""Standard streams that may fail: closed, on a full disk, or with nobody there to read them."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Forgiving:
    """A text stream whose failures to write are no errors: what it says is of use only to whoever watches."""

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
    """Puts the null device in place of standard streams that are closed, lest a file of ours take their number, and
    lets stderr fail without harm.
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
    """Prints a message to stderr; where that fails, nothing is lost."""
    from zero_jax.support.foreign import plain  # compiled code: see the package

    with contextlib.suppress(OSError, ValueError):
        print(plain(message, lines=True), file=sys.stderr, flush=True)


def flush() -> None:
    """Hands over what is still to be written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """What is printed, until the end of the block; a request to exit ends the block."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        yield printed
