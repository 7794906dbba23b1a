"""How far long work is, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Progress:
    """Says every few seconds how much is done, how fast, and how long the rest will take.

    Args:
        what: is being done, such as ``drawn``.
        total: how much there is to do, this process's share.
        every: seconds between lines; the last one always comes.
        clock: seconds since some moment.
    """

    def __init__(self, what: str, total: int, every: float = 10.0, clock: Callable[[], float] = time.monotonic):
        self.what, self.total, self.every, self.clock = what, total, every, clock
        self.done = 0
        self.start = self.said = clock()

    def add(self, count: int) -> None:
        """So much more is done."""
        self.done += count
        now = self.clock()
        if now - self.said >= self.every or self.done >= self.total:
            self.said = now
            say(self.line(now))

    def line(self, now: float) -> str:
        """``drawn 250 of 1,000, 3.1 a second, 4 min left``."""
        rate = self.done / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate else 0
        rest = f", {duration(left)} left" if self.done < self.total else ""
        return f"{self.what} {self.done:,} of {self.total:,}, {rate:.3g} a second{rest}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, file=sys.stderr, flush=True)
