"""Handle SIGTERM, which batch systems send before they stop a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """A flag that is set when the process receives SIGTERM."""

    asked = False


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Context manager in which SIGTERM sets a flag instead of ending the process. No effect outside the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(*_: object) -> None:
        request.asked = True

    earlier = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, earlier)
