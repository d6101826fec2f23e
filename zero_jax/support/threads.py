"""Threads for compiled loops, which release Python's lock."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = threading.Lock()
_under_way: set[Callable[[], None]] = set()
_local = threading.local()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def limited(count: int) -> Iterator[None]:
    """Within it, `split` uses at most this many threads when called on this thread; 0 for one per core."""
    before = getattr(_local, "limit", 0)
    _local.limit = count
    try:
        yield
    finally:
        _local.limit = before


def share(work: Callable[[], None], threads: int, *, brief: bool, stop: Callable[[], None] = lambda: None) -> None:
    """Calls `work` once on each of several threads, all of which take from the same pile.

    Args:
      work: takes from the pile until nothing is left.
      threads: how many.
      brief: whether it takes a fraction of a second: then the caller's thread takes part. Otherwise that thread stays
        free to notice Ctrl-C.
      stop: called after Ctrl-C or an error, to end the work early.
    """
    futures: list[Future[None]] = []
    stopped = threading.Event()

    def end() -> None:
        stopped.set()
        stop()

    _under_way.add(end)
    try:
        if threads > brief:
            futures = [_threads(threads).submit(work) for _ in range(threads - brief)]
        if brief:
            work()
        for future in futures:
            future.result()
    except BaseException:
        stop()
        for future in futures:
            future.exception()
        raise
    finally:
        _under_way.discard(end)
    if stopped.is_set():
        raise KeyboardInterrupt


def stop_all() -> None:
    """Ends all calls of `share` that are under way; each raises KeyboardInterrupt."""
    for end in list(_under_way):
        end()


def split(work: Callable[[int, int], None], n: int, least: int, threads: int | None = None) -> None:
    """Calls `work(first, last)` on equal parts of 0 to n, on as many threads as get at least `least` each.

    By default there are as many threads as `limited` allows.
    """
    parts = max(1, min(threads or getattr(_local, "limit", 0) or cores(), n // least))
    bounds = [n * i // parts for i in range(parts + 1)]
    futures = [_threads(parts).submit(work, *bounds[i : i + 2]) for i in range(1, parts)]
    try:
        work(*bounds[:2])
    finally:
        for future in futures:
            future.result()


def _threads(at_least: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < at_least:
            _pool_size = max(at_least, cores())
            _pool = ThreadPoolExecutor(_pool_size, thread_name_prefix="zero-jax")
        return _pool


def _forget_threads() -> None:
    """For a child process, which has no threads of its parent: no pool, and no thread to release its lock."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()
    _under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


class Worker:
    """A thread that works while its owner goes on. Copies in child processes and pickles have a thread of their own.

    Example:
      >>> waiting = Worker("adder").begin(lambda: 1 + 1)
      >>> waiting()
      2
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: ThreadPoolExecutor | None = None
        self._process = 0

    def __reduce__(self) -> tuple[type["Worker"], tuple[str]]:
        return Worker, (self._name,)

    def begin(self, work: Callable[[], T]) -> Callable[[], T]:
        """Begins to work; returns a function that waits for the result."""
        process = os.getpid()
        if self._thread is None or self._process != process:
            self._thread, self._process = ThreadPoolExecutor(1, thread_name_prefix=self._name), process
        future = self._thread.submit(work)

        def wait() -> T:
            if os.getpid() != process:  # the thread that had begun is the parent's
                return work()
            try:
                return future.result()
            except KeyboardInterrupt:
                stop_all()
                raise

        return wait
