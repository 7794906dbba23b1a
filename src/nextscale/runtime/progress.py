"""Report the progress of long computations on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Progress:
    """Print the count, the rate and the remaining time every few seconds.

    Args:
        what: start of the line, such as ``sampled``.
        total: number of items of this process.
        every: seconds between lines. The last line is always printed.
        clock: function that returns a time in seconds.
    """

    def __init__(self, what: str, total: int, every: float = 10.0, clock: Callable[[], float] = time.monotonic):
        self.what, self.total, self.every, self.clock = what, total, every, clock
        self.done = 0
        self.start = self.printed = clock()

    def add(self, count: int) -> None:
        """Count finished items, and print a line if ``every`` seconds have passed."""
        self.done += count
        now = self.clock()
        if now - self.printed >= self.every or self.done >= self.total:
            self.printed = now
            say(self.line(now))

    def line(self, now: float) -> str:
        """Return a line such as ``sampled 250 of 1,000, 3.1 a second, 4 min left``."""
        rate = self.done / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0
        rest = f", {duration(left)} left" if self.done < self.total else ""
        return f"{self.what} {self.done:,} of {self.total:,}, {rate:.3g} a second{rest}"


def duration(seconds: float) -> str:
    """Return a duration as text: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def say_over(text: str, is_last: bool = False) -> None:
    """Replace the current line of standard error. In a file or a pipe, write only the last line.

    Args:
        is_last: the line stays; the next one goes below it.
    """
    if is_terminal():
        print(f"\r{text}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    elif is_last:
        say(text)


def is_terminal() -> bool:
    """Return whether standard error is a terminal, on which a line can be replaced."""
    return sys.stderr is not None and sys.stderr.isatty()


class SayOnce:
    """Print lines to standard error, each line once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            say(text)
