"""The C library's heap: arrays come and go in a long search, and what is free between them stays with the process."""

import ctypes
import functools
from collections.abc import Callable


def trim() -> None:
    """Gives free memory back to the system, in a few milliseconds, where the C library can (glibc does)."""
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or none to be loaded like this
        return lambda pad: None
