"""The id and the time of arrival of the request in progress."""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

HEADER = "X-Request-Id"
"""Header of every response, and of requests that choose their own id, as proxies do."""


@dataclass(frozen=True)
class Arrival:
    """When a request arrived, and the id that names it in responses and logs."""

    request_id: str = ""
    at: float = field(default_factory=time.monotonic)
    """Seconds of the monotonic clock."""

    def left(self, seconds: float) -> float:
        """Return the seconds until a time limit, counted from the arrival; at least 0."""
        return max(0.0, self.at + seconds - time.monotonic())


_current: ContextVar[Arrival | None] = ContextVar("nextscale_arrival", default=None)


def begin(wanted: str) -> Arrival:
    """Record that a request has arrived, in the context of its task.

    Args:
        wanted: id that the client chose. It is used if it has 1 to 64 letters, digits, dots, dashes and underscores.
    """
    chosen = wanted if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", wanted) else uuid.uuid4().hex
    arrival = Arrival(chosen)
    _current.set(arrival)
    return arrival


def current() -> Arrival:
    """Return the arrival of the request in progress. Outside a request: now, with an empty id."""
    return _current.get() or Arrival()
