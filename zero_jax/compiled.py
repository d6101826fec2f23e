"""Loops over programs, compiled by Numba where it is installed, and interpreted by Python, slowly, where it is not."""

import ctypes
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # a platform without Numba: the same loops run in Python, with the same results
    numba = None

HAVE_NUMBA: bool = numba is not None
"""Whether Numba is installed."""


index = np.uint64
"""An index that cannot be negative: Numba then does not ask whether it counts from the end, a third of a short loop."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles a helper, which other compiled functions call."""
    if numba is None:
        return _interpreted(function)
    return numba.njit(error_model="numpy", nogil=True, _nrt=False)(function)


def compiled_into_caller(function: Callable[..., Any]) -> Any:
    """Compiles a helper as part of each function that calls it: where in an inner loop arrays are handed over, each of
    which would travel as seven arguments.
    """
    if numba is None:
        return _interpreted(function)
    return numba.njit(error_model="numpy", nogil=True, _nrt=False, inline="always")(function)


def entry_point(function: Callable[..., Any]) -> Any:
    """Compiles a function that Python calls, and keeps the machine code on disk for the next process.

    Numba looks only at the file that such a function is in when it decides whether what is on disk still holds, so the
    helpers it calls are in the same file, or `source_version` is part of its arguments' types.

    One process compiles it at a time: two that compiled for different types at once might both call their code number 1
    on disk, and a third would run the code of other types, since Numba does not lock its index.
    """
    if numba is None:
        return _interpreted(function)
    dispatcher = numba.njit(error_model="numpy", nogil=True, cache=True, _nrt=False)(function)
    compile_or_load = dispatcher.compile

    @functools.wraps(compile_or_load)
    def compile_alone(signature: Any) -> Any:
        from filelock import FileLock  # only where something is compiled

        owner = os.getuid() if hasattr(os, "getuid") else "all"
        name = f"zero-jax-{owner}-{function.__module__}.{function.__qualname__}.lock"
        with FileLock(Path(tempfile.gettempdir()) / name):
            return compile_or_load(signature)

    dispatcher.compile = compile_alone
    return dispatcher


def source_version(*paths: str) -> str:
    """A hash of source files."""
    return hashlib.blake2b(b"".join(Path(path).read_bytes() for path in paths), digest_size=8).hexdigest()


def _interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with NumPy's scalars behaving as machine numbers do: silent on overflow."""

    @functools.wraps(function)
    def silent(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return silent


# ---------------------------------------------------------------------------------------------- random generators


def address_of(rng: np.random.Generator) -> Any:
    """What an entry point is handed for a generator, and makes one of with `generator_at`: where its bit generator is.

    Numba's own way to take a generator keeps a reference to it for ever where code does not count references. Whoever
    calls keeps the generator alive.
    """
    return rng if numba is None else _capsule_pointer(rng.bit_generator.capsule, b"BitGenerator")


_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_size_t, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

if numba is None:

    def generator_at(address: Any) -> Any:
        """In a loop, the generator that `address_of` gave."""
        return address

else:
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    @intrinsic
    def generator_at(typing_context: Any, address: Any) -> Any:
        """In a loop, the generator that `address_of` gave; NumPy's C API says what lies at the address (`bitgen_t`)."""
        made = types.NumPyRandomGeneratorType("generator_at")

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = context.get_value_type(types.uintp)
            fields = builder.inttoptr(args[0], word.as_pointer())
            bits = cgutils.create_struct_proxy(types.NumPyRandomBitGeneratorType("bit_generator"))(context, builder)
            for i, name in enumerate(("state", "fnptr_next_uint64", "fnptr_next_uint32", "fnptr_next_double")):
                setattr(bits, name, builder.load(cgutils.gep_inbounds(builder, fields, i)))
            generator = cgutils.create_struct_proxy(made)(context, builder)
            generator.bit_generator = bits._getvalue()
            return generator._getvalue()

        return made(types.uintp), generate
