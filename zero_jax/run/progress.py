"""The progress of a search or a tuning: a bar in a terminal, or plain lines."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm.auto import tqdm as any_tqdm
from tqdm.std import tqdm as plain_tqdm

from zero_jax.run.config import RunConfig
from zero_jax.run.outcome import Progress
from zero_jax.support.compiled import on_compile

SECONDS_PER_LINE = 10.0
"""How often a line is printed where there is no bar."""

COMPILING = "compiling, about 30 s (cached for next time)..."


class Display:
    """Shows how far something has come. Output that fails, on a full disk or a closed terminal, is given up silently.

    Args:
      name: of what is in progress.
      quiet: show nothing.
      unit: what is counted.
    """

    def __init__(self, name: str, *, quiet: bool = False, unit: str = "evaluations") -> None:
        self.name, self.unit = name, unit
        self.works = not quiet and sys.stderr is not None
        self.began: float | None = None
        self._first_share = 0.0  # of a resumed search: what was done before
        self._line_at = -SECONDS_PER_LINE
        self._bar: Any = None

    def show(self, count: int, share: float | None, state: str) -> None:
        """Shows a count, the share of the work that is done, if that is known, and anything else worth saying."""
        if not self.works:
            return
        now = time.monotonic()
        if self.began is None:
            self.began, self._first_share = now, share or 0.0
        with self._giving_up():
            if _has_bar():
                self._show_bar(count, share, state)
            elif now - self._line_at >= SECONDS_PER_LINE:
                self._line_at = now
                self._write(f"{self._in_words(count, share, now - self.began)}, {state}")

    def note(self, text: str) -> None:
        """Says something by itself."""
        if self.works:
            with self._giving_up():
                self._write(text)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            with self._giving_up():
                self._bar.close()

    def _write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()

    def _show_bar(self, count: int, share: float | None, state: str) -> None:
        if self._bar is None:
            known = {
                "total": 1.0,
                "initial": share or 0.0,
                "bar_format": "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            }
            counted = {"unit": f" {self.unit}", "unit_scale": True}
            self._bar = any_tqdm(desc=self.name, dynamic_ncols=True, **(counted if share is None else known))
        elif share is not None:
            state = f"{count:,} {self.unit}, {state}"
        self._bar.set_postfix_str(state, refresh=False)
        self._bar.update((count if share is None else min(share, 1.0)) - self._bar.n)

    def _in_words(self, count: int, share: float | None, seconds: float) -> str:
        words = f"{count:,} {self.unit}, {plain_tqdm.format_interval(seconds)}"
        if share is None:
            return words
        done = share - self._first_share
        left = f", {plain_tqdm.format_interval(seconds * max(0.0, 1 - share) / done)} left" if done > 0.001 else ""
        return f"{min(share, 1.0):.0%}{left}, {words}"

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.works, self._bar = False, None


def _has_bar() -> bool:
    in_notebook = any(one.__module__ == "tqdm.notebook" for one in any_tqdm.__mro__)
    return in_notebook or sys.stderr.isatty()


@contextlib.contextmanager
def displayed(name: str, *, quiet: bool = False, unit: str = "evaluations") -> Iterator[Display]:
    """A display until the end of the block; it also says when loops are being compiled."""
    display = Display(name, quiet=quiet, unit=unit)
    with on_compile(_once(lambda: display.note(COMPILING))):
        try:
            yield display
        finally:
            display.close()


@contextlib.contextmanager
def progress_bar(
    name: str, config: RunConfig | None = None, *, quiet: bool = False
) -> Iterator[Callable[[Progress], None]]:
    """A bar for a search; gives the function to pass to `run` as `report`.

    It is drawn from the first progress on, so that none stands above the message of an early error.

    Args:
      name: what to call the search.
      config: what is searched for; without it, how far the search has come is not shown.
      quiet: show nothing.
    """
    with displayed(name, quiet=quiet) as display:

        def report(progress: Progress) -> None:
            state = f"trial {progress.trial}, best fitness {progress.best_fitness:.5f}"
            display.show(progress.evaluations, share(progress, config) if config else None, state)

        yield report


def share(progress: Progress, config: RunConfig) -> float | None:
    """How much of a search is done, by its budget of train steps or its time limit; None where it has neither.

    Example:
      >>> from zero_jax.run.presets import PRESETS
      >>> timed = PRESETS["demo"][1].replace(time_limit=60.0)
      >>> share(Progress(1, 0, 0, 0, seconds=15.0, best_fitness=0.0), timed)
      0.25
    """
    done = []
    if config.schedule.trials:
        done.append(progress.train_steps / (config.schedule.train_steps * config.schedule.trials))
    if config.schedule.time_limit:
        done.append(progress.seconds / config.schedule.time_limit)
    return max(done, default=None)


def _once(call: Callable[[], None]) -> Callable[[], None]:
    left = [call]
    return lambda: left.pop()() if left else None
