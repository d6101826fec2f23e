"""Stopping: a signal becomes a request that a search obeys between steps, or else raises KeyboardInterrupt.

Ctrl-C sends SIGINT; Slurm, docker and `kill` send SIGTERM; closing a terminal sends SIGHUP.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

GRACE_SECONDS = 2.0
"""How long a search may take to finish its step; after that, or on a second signal, it is interrupted."""

SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

EXIT_CODES: dict[int, int] = {signal.SIGINT: 130}
"""Exit codes by signal; all other signals give `TERMINATED`."""

TERMINATED = 143


class Stop:
    """A request to stop.

    Attributes:
      signal: the first signal received; 0 if there was none.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._grace: list[float | None] = []  # one entry per active `deferred` block
        self._alarm: object = None

    @property
    def exit_code(self) -> int:
        """The exit code of the process: 130 after Ctrl-C, 143 after another signal."""
        return EXIT_CODES.get(self.signal or signal.SIGINT, TERMINATED)

    @contextlib.contextmanager
    def deferred(self, grace: float | None = GRACE_SECONDS) -> Iterator[None]:
        """Within the block, a first signal only sets `signal`; KeyboardInterrupt follows after `grace` seconds or with
        the next signal. None defers all signals to the end of the block, where KeyboardInterrupt is raised.
        """
        before = self.signal
        self._grace.append(grace)
        try:
            yield
        finally:
            self._grace.pop()
            self._disarm()
        if grace is None and self.signal != before:
            raise KeyboardInterrupt

    def _received(self, number: int, frame: FrameType | None) -> None:
        first, self.signal = not self.signal, self.signal or number
        if not self._grace or (self._grace[-1] is not None and not first):
            _interrupt(frame)
        elif self._grace[-1] is not None:
            self._arm(self._grace[-1], frame)

    def _arm(self, seconds: float, frame: FrameType | None) -> None:
        if hasattr(signal, "setitimer"):
            self._alarm = signal.signal(signal.SIGALRM, lambda number, frame: _interrupt(frame))
            signal.setitimer(signal.ITIMER_REAL, seconds)
        else:
            _interrupt(frame)

    def _disarm(self) -> None:
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)  # type: ignore[arg-type]
            self._alarm = None


_current: Stop | None = None


@contextlib.contextmanager
def handled() -> Iterator[Stop]:
    """Handles signals within the block; nested blocks share the outermost one's `Stop`.

    Only the main thread can handle signals: elsewhere nothing changes. Signals that have another handler, or that are
    ignored (as under nohup), are left alone; Python's own handler of Ctrl-C is replaced. After SIGTERM or SIGHUP the
    outermost block ends by sending the signal again, to its previous handler.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current or Stop()
        return
    stop = _current = Stop()
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if handler in defaults]
    for number in ours:
        signal.signal(number, stop._received)
    try:
        yield stop
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _current = None
        if stop.signal not in (0, signal.SIGINT):
            os.kill(os.getpid(), stop.signal)


def _interrupt(frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, but a little later if JAX's garbage-collection callback is running: an exception in
    there is printed and lost.
    """
    collecting = frame is not None and frame.f_code.co_name == "_xla_gc_callback"
    if collecting and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda number, frame: _interrupt(frame))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        raise KeyboardInterrupt
