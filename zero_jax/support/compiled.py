"""Loops over programs: compiled by Numba where it is installed, interpreted by Python, slowly, where it is not."""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WHY_INTERPRETED = ""
"""Why loops are not compiled, where they are not."""

try:
    import numba
except ModuleNotFoundError:  # a platform without Numba: the same loops run in Python, with the same results
    numba = None
    WHY_INTERPRETED = "Numba is not installed (pip install numba)"
except ImportError as error:  # for example because NumPy is too new for it
    numba = None
    WHY_INTERPRETED = f"Numba cannot be imported ({error})"
if numba is not None and numba.config.DISABLE_JIT:
    numba = None
    WHY_INTERPRETED = "Numba is switched off (by NUMBA_DISABLE_JIT)"

HAVE_NUMBA: bool = numba is not None
"""Whether Numba is installed, and not switched off."""

SPEAK_AFTER, GIVE_UP_AFTER = 10.0, 60.0
"""While another process compiles the same function, this one waits. After `SPEAK_AFTER` seconds it logs what it waits
for; after `GIVE_UP_AFTER` it compiles the function itself."""


index = np.uint64
"""An index that cannot be negative: Numba then does not ask whether it counts from the end, a third of a short loop."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles a helper, which other compiled functions call."""
    return _interpreted(function) if numba is None else linked.helper(function, into_caller=False)


def compiled_into_caller(function: Callable[..., Any]) -> Any:
    """Compiles a helper as part of each function that calls it: where in an inner loop arrays are handed over, each of
    which would travel as seven arguments.
    """
    return _interpreted(function) if numba is None else linked.helper(function, into_caller=True)


def entry_point(function: Callable[..., Any] | None = None, *, helpers: tuple[str, ...] = ()) -> Any:
    """Compiles a function that Python calls, and keeps the machine code on disk for the next process.

    To decide whether the code on disk is still valid, Numba looks only at the file that the function is in. So files of
    other helpers that it calls must be among `helpers`, or `source_version` be part of its arguments' types.

    One process compiles it at a time: the others wait, and load it.
    """
    if function is None:
        return functools.partial(entry_point, helpers=helpers)
    if numba is None:
        return _interpreted(function)
    dispatcher = numba.njit(error_model="numpy", nogil=True, _nrt=False)(function)
    cache = dispatcher._cache = _Cache(function, helpers)
    compile_or_load = dispatcher.compile

    @functools.wraps(compile_or_load)
    def compile_alone(signature: Any) -> Any:
        with _signals_reach_the_caller(), cache.alone():
            return compile_or_load(signature)

    dispatcher.compile = compile_alone
    return dispatcher


@contextlib.contextmanager
def on_compile(callback: Callable[[], object]) -> Iterator[None]:
    """Calls a function whenever a loop is about to be compiled, which takes seconds, rather than loaded from disk.

    Args:
      callback: called on the thread that compiles, once for each loop.

    Example:
      >>> with on_compile(lambda: print("compiling, about 30 s (cached for next time)...")):
      ...     pass
    """
    _on_compile.append(callback)
    try:
        yield
    finally:
        _on_compile.remove(callback)


_on_compile: list[Callable[[], object]] = []


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


# ---------------------------------------------------------------------------------------------- machine code on disk


class _Cache:
    """Where Numba looks for machine code before it compiles a function, and puts it afterwards.

    Attributes:
      files: Numba's own cache; None without a folder for it.
    """

    def __init__(self, function: Callable[..., Any], helpers: tuple[str, ...]) -> None:
        self.files: Any = None
        self.cache_path = None
        try:
            files = caching.FunctionCache(function)
            stamp = files._impl.locator.get_source_stamp(), source_version(__file__, linked.__file__, *helpers)
        except (RuntimeError, OSError):
            return
        self.files, self.cache_path = files, files.cache_path
        files._cache_file = _CheckedFiles(self.cache_path, files._impl.filename_base, stamp)
        owner = os.getuid() if hasattr(os, "getuid") else "all"
        folder = _digest(os.fsencode(self.cache_path)).hex()[:8]
        self._lock_name = f"zero-jax-{owner}-{function.__module__}.{function.__qualname__}-{folder}.lock"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds these files against other processes; if one keeps them too long, goes without them from now on."""
        lock = self._locked() if self.files is not None else None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _locked(self) -> Any:
        from filelock import FileLock, Timeout  # only where something is compiled

        patience = 0.0 if _gave_up.is_set() else SPEAK_AFTER
        try:
            lock = FileLock(Path(tempfile.gettempdir()) / self._lock_name)
            try:
                lock.acquire(timeout=patience)
            except Timeout:
                if patience:
                    _logger.warning("waiting for another process, which compiles the same and holds %s", lock.lock_file)
                lock.acquire(timeout=patience and GIVE_UP_AFTER - SPEAK_AFTER)
            return lock
        except Timeout:  # the process that holds it may hang, as may those that hold others
            _gave_up.set()
            self.files = None
        except (OSError, NotImplementedError):  # no locks here: several processes may compile the same
            pass
        return None

    def load_overload(self, signature: Any, context: Any) -> Any:
        overload = None
        if self.files is not None:
            with _signals_reach_the_caller(held=True), contextlib.suppress(Exception):  # what is damaged is compiled
                overload = self.files.load_overload(signature, context)
        if overload is None:
            for callback in tuple(_on_compile):
                callback()
        return overload

    def save_overload(self, signature: Any, result: Any) -> None:
        if self.files is None:
            if self.cache_path is None:
                _say_uncached("there is no folder to keep it in that can be written to")
            return
        try:
            self.files.save_overload(signature, result)
        except OSError as error:
            _say_uncached(f"it cannot be written: {error}")

    def flush(self) -> None:
        if self.files is not None:
            self.files.flush()


_logger = logging.getLogger("zero_jax")
_gave_up = threading.Event()
_said_uncached = threading.Event()


def _say_uncached(why: str) -> None:
    if not _said_uncached.is_set():
        _said_uncached.set()
        warnings.warn(
            f"compiled code is not kept, so that each process compiles anew, which takes some 30 s: {why}. Set "
            "NUMBA_CACHE_DIR to a folder that can be written to.",
            stacklevel=2,
        )


if numba is not None:
    from numba.core import caching
    from numba.core.compiler_lock import global_compiler_lock

    from zero_jax.support import linked

    class _CheckedFiles(caching.IndexDataCacheFile):
        """Numba's files, plus a check that each is whole and holds the function and types that the index says.

        Numba runs whatever it reads. And it writes the index before the code: a process that ends in between, or two
        processes that write at once, leave an index that names the code of other types.
        """

        def save(self, key: Any, data: Any) -> None:
            super().save(key, (self._source_stamp, key, data))

        def load(self, key: Any) -> Any:
            stored = super().load(key)
            if stored is None or stored[:2] != (self._source_stamp, key):
                return None
            return stored[2]

        def _dump(self, tree: Any) -> bytes:
            data = super()._dump(tree)
            return data + _digest(data)

        def _load_index(self) -> Any:
            try:
                return dict(super()._load_index())
            except Exception:  # damaged, or not ours to read
                return {}

        def _load_data(self, name: str) -> Any:
            data = Path(self._data_path(name)).read_bytes()
            size = len(_digest(b""))
            if _digest(data[:-size]) != data[-size:]:
                raise OSError("damaged")
            return pickle.loads(data[:-size])

    # A child process must not begin with the lock of a thread that it does not have.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=global_compiler_lock.acquire,
            after_in_parent=global_compiler_lock.release,
            after_in_child=global_compiler_lock.release,
        )


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@contextlib.contextmanager
def _signals_reach_the_caller(held: bool = False) -> Iterator[None]:
    """Raises in the end what a signal handler raised, as for Ctrl-C, even if LLVM dropped it.

    LLVM drops exceptions where it calls Python; Numba then goes on, and fails later or not at all.

    Args:
      held: whether signals wait for the end, because what LLVM asks of Python must not fail.
    """
    if threading.current_thread() is not threading.main_thread():  # signals reach only that
        yield
        return
    handlers: dict[int, Any] = {n: h for n in signal.valid_signals() if callable(h := signal.getsignal(n))}
    waiting: list[tuple[int, Any]] = []
    raised: list[BaseException] = []
    report = sys.unraisablehook

    def handle(number: int, frame: Any) -> None:
        if held:
            waiting.append((number, frame))
            return
        try:
            handlers[number](number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    def report_others(dropped: Any) -> None:
        if dropped.exc_value not in raised:
            report(dropped)

    for number in handlers:
        signal.signal(number, handle)
    sys.unraisablehook = report_others
    try:
        yield
    except BaseException as error:
        if raised and error not in raised:
            raise raised[0] from None
        raise
    finally:
        sys.unraisablehook = report
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in waiting:
        handlers[number](number, frame)
    if raised:
        raise raised[0]


# ---------------------------------------------------------------------------------------------- random generators


def address_of(rng: np.random.Generator) -> Any:
    """The address of a generator's bit generator: entry points take it and call `generator_at`.

    Passed as such, Numba would keep a reference to the generator for ever, since this code does not count references.
    The caller keeps the generator alive.
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
