"""Being asked to stop: SIGTERM, as batch systems send it before they take the machine away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Whether this process was asked to stop."""

    asked = False


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Within, SIGTERM does not end the process but is noted."""
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
