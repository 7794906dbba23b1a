"""Limit the open connections of a server, and the time that clients take to send requests and to read responses.

Without limits, idle connections use up all files that the process may open, and nobody else can connect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from nextscale.errors import InputError
from nextscale.web.errors import refuse
from nextscale.web.request_log import RequestLog

ACCEPTED_AT_ONCE = 8
"""Connections that the event loop accepts before it handles them. Accepted ones use files before they are counted."""
SPARE_FILES = 48
"""Files that are left for accepted connections, uploads and the studio."""
USED_FILES = 32
"""Files that a server has open, where this cannot be counted."""
LEAST = 8
"""Fewest connections that are worth a server."""


class Connections:
    """The limits of a server's connections.

    Args:
        most: maximum number. When another one arrives, the connection that has waited longest for its client is closed.
        patience: seconds for the head of a request to arrive, and for a client to read more of a response.
    """

    def __init__(self, most: int, patience: float):
        self.most, self.patience = most, patience

    def open(self, **uvicorns: Any) -> Connection:
        """Make the protocol of a new connection, from the arguments that uvicorn passes."""
        return Connection(self, **uvicorns)

    def has_room(self, new: Connection, known: Collection[Any]) -> bool:
        """Close a connection if there are too many. Return False if all others are being served.

        Args:
            known: all connections, the new one included.
        """
        if len(known) <= self.most:
            return True
        others = [one for one in known if one is not new and not one.transport.is_closing()]
        return len(others) < self.most or self.close_one(others)

    def close_one(self, known: Collection[Any]) -> bool:
        """Close the connection that has waited longest for its client. Return False if all are being served."""
        waiting = [one for one in known if one.awaits_client and not one.transport.is_closing()]
        if waiting:
            min(waiting, key=lambda one: (one.has_request, one.since)).transport.abort()
        return bool(waiting)

    def sweep(self, known: Collection[Any]) -> None:
        """Close connections whose clients are too slow."""
        now = time.monotonic()
        for one in list(known):
            one.check(now, self.patience)


class Connection(H11Protocol):
    """A connection that knows since when it waits for its client."""

    def __init__(self, limits: Connections, **uvicorns: Any):
        super().__init__(**uvicorns)
        self.limits = limits
        self.since = time.monotonic()
        """When the connection was opened, or its last response was complete."""
        self._unsent, self._moved = 0, self.since

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if not self.limits.has_room(self, self.connections):
            self.app = RequestLog(refuse_connection)

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()

    @property
    def has_request(self) -> bool:
        """Whether the head of a request has arrived whose response is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def awaits_client(self) -> bool:
        """Whether a request or its body has not arrived yet."""
        return not self.has_request or self.cycle.more_body

    def check(self, now: float, patience: float) -> None:
        """Close the connection if its client has neither sent a request nor read a response in time."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        if now - self._moved > patience:
            self.transport.abort()
        elif not self.has_request and now - self.since > patience:
            self.transport.close()  # after what is left to send


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """Application that answers the requests of a connection beyond the limit."""
    headers = {"Connection": "close", "Retry-After": "1"}
    sentence = "the server has too many open connections: try again later"
    await refuse(503, sentence, None, headers, code="too_many_connections")(scope, receive, send)


def affordable(wanted: int) -> int:
    """Return how many connections may be open: ``wanted``, or fewer if the system's limit of open files is too low even
    after this process has raised it.

    Raises:
        InputError: the limit is too low for a server.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit
        return wanted
    try:
        used = len(os.listdir("/dev/fd")) + SPARE_FILES
    except OSError:  # a container without /proc
        used = USED_FILES + SPARE_FILES
    most, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < used + wanted:
        raised = used + wanted if highest == resource.RLIM_INFINITY else min(used + wanted, highest)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, highest))
            most = raised
    if most != resource.RLIM_INFINITY and most - used < LEAST:
        raise InputError(f"this process may open {most} files: expected at least {used + LEAST}, see ulimit -n")
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most - used)
