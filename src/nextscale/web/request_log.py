"""Give each request an id, and log it when it ends."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web import request_id
from nextscale.web.tickets import Cancelled

access_log = logging.getLogger("nextscale.access")
LONGEST_PATH = 200


class RequestLog:
    """Outermost middleware: sets the X-Request-Id header and writes one record per request to the access log.

    The record contains the path without its query, which may contain secrets. A stream that ends early with an HTTP
    error, such as that of a page which was open while the server restarted, ends without a traceback.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        arrival = request_id.begin(Headers(scope=scope).get(request_id.HEADER, ""))
        status, size, complete = 0, 0, False

        async def watched(message: Message) -> None:
            nonlocal status, size, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[request_id.HEADER] = arrival.request_id
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if not status or complete or not is_refusal(error):
                status = status or 500
                raise
            await watched({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            access_log.info("", extra={"access": record_of(scope, status or Cancelled.status, size, arrival)})


def is_refusal(error: BaseException | None) -> bool:
    """Return whether an HTTP error is the only cause of an error, possibly inside exception groups."""
    while error is not None and not isinstance(error, HTTPException):
        inside = getattr(error, "exceptions", ())
        error = inside[0] if len(inside) == 1 else error.__cause__
    return error is not None


def record_of(scope: Scope, status: int, size: int, arrival: request_id.Arrival) -> dict[str, str | int | float]:
    """Return the fields of an access record."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    return {
        "client": (scope.get("client") or ("", 0))[0],
        "method": scope["method"][:20],
        "path": path.decode("ascii", "replace")[:LONGEST_PATH],
        "status": status,
        "bytes": size,
        "seconds": round(time.monotonic() - arrival.at, 3),
        "request_id": arrival.request_id,
    }
