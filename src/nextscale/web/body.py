"""Check the body of a request while it arrives: its size, its time, and that a form is complete."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from fastapi import HTTPException
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web import request_id
from nextscale.web.engine import Engine
from nextscale.web.errors import refusal_of

PATIENCE = 0.25
"""Seconds between two checks for a stopping server or a time limit while a body arrives."""
LINGER_SECONDS = 1.0
LAST_EVENTS_SECONDS = 1.0
"""Seconds that the studio's streams stay open for the last events."""
OPEN_ENDS = "/gradio_api/"
"""Prefix of the studio's streams."""
CLOSE = {"Connection": "close"}


class BodyLimit:
    """Middleware that rejects a body that is too large or too slow, an incomplete form, and a body that is still
    arriving when the engine closes.

    The size is checked in the Content-Length header, and while the body arrives. The client gets the error response
    even if the app answers the incomplete body differently. The studio's streams, which are open as long as its page,
    end when the engines are drained.

    Args:
        drained: set when the engines are drained.
    """

    def __init__(self, app: ASGIApp, engine: Engine, drained: threading.Event):
        self.app, self.engine, self.drained = app, engine, drained

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        limits, headers = self.engine.limits, Headers(scope=scope)
        most = limits.body_bytes if scope["path"] == "/v1/images/generations" else limits.upload_bytes
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > most:
            await linger(receive)
            return await refusal_of(too_large(most))(scope, receive, send)
        is_open_end = scope["path"].startswith(OPEN_ENDS) and scope["method"] == "GET"
        body = Body(receive, self.engine, most, boundary_of(headers.get("content-type", "")))

        async def checked() -> Message:
            if body.complete:
                return await (self._until_drained(receive) if is_open_end else receive())
            return await body.next()

        await run_checked(self.app, scope, checked, send)

    async def _until_drained(self, receive: Receive) -> Message:
        message = await unless(receive, self.drained.is_set)
        if message is None:
            await asyncio.sleep(LAST_EVENTS_SECONDS)
        return message or {"type": "http.disconnect"}


class Body:
    """The body of a request that is arriving.

    Args:
        most: maximum size in bytes.
        boundary: see `boundary_of`.
    """

    def __init__(self, receive: Receive, engine: Engine, most: int, boundary: bytes):
        self.receive, self.engine, self.most = receive, engine, most
        self.arrival = request_id.current()
        self.size, self.complete = 0, False
        self.ends = Occurrences(boundary + b"--") if boundary else None
        self.has_end = not boundary

    async def next(self) -> Message:
        """Return the next message.

        Raises:
            HTTPException: the body is refused.
        """
        seconds = self.engine.limits.seconds
        message = await unless(self.receive, lambda: not self.engine.is_ready or not self.arrival.left(seconds))
        if message is None:
            if not self.engine.is_ready:
                raise HTTPException(503, "the server is shutting down", CLOSE)
            limit = f"the time limit of {seconds:g} s has passed before the body arrived"
            raise HTTPException(408, f"{limit}: got {self.size:,} bytes of it", CLOSE)
        self.complete = not message.get("more_body", False)  # or the client has disconnected
        data = message.get("body", b"")
        self.size += len(data)
        if self.size > self.most:
            raise too_large(self.most)
        self.has_end = self.has_end or (self.ends is not None and self.ends.count(data) > 0)
        if message["type"] == "http.request" and self.complete and not self.has_end:
            raise HTTPException(400, "the form breaks off: expected a closing boundary at its end")
        return message


class Occurrences:
    """Count occurrences of bytes in data that arrives in pieces."""

    def __init__(self, sought: bytes):
        self.sought = sought
        self._tail = b"\r\n"  # a boundary may be at the start

    def count(self, data: bytes) -> int:
        """Return how many occurrences end in the next piece."""
        seen = self._tail + data
        self._tail = seen[max(0, len(seen) - len(self.sought) + 1) :]
        return seen.count(self.sought)


async def run_checked(app: ASGIApp, scope: Scope, checked: Receive, send: Send) -> None:
    """Run an app whose ``receive`` may raise HTTPException. The client gets this error even if the app answers the
    incomplete body differently, unless the response has begun."""
    refusal: HTTPException | None = None
    answered = False

    async def receive() -> Message:
        nonlocal refusal
        if refusal is None:
            try:
                return await checked()
            except HTTPException as error:
                refusal = error
        raise refusal

    async def unless_refused(message: Message) -> None:
        nonlocal answered
        if answered or refusal is None:
            answered = True
            await send(message)

    try:
        await app(scope, receive, unless_refused)
    except Exception:
        if refusal is None or answered:
            raise
    if refusal is not None and not answered:
        await refusal_of(refusal)(scope, receive, send)


def too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the request is too large: expected at most {most:,} bytes", CLOSE)


def boundary_of(content_type: str) -> bytes:
    """Return the bytes before each part of a form of this type; empty if it is not a form in parts."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    return b"\r\n--" + boundary if kind == b"multipart/form-data" and boundary else b""


async def linger(receive: Receive) -> None:
    """Read and discard a body for a moment. A client that is still sending when the connection closes would not receive
    the response."""
    end = time.monotonic() + LINGER_SECONDS
    more = True
    while more and (message := await unless(receive, lambda: time.monotonic() > end)):
        more = message.get("more_body", False) and time.monotonic() < end


async def unless(receive: Receive, stopped: Callable[[], bool]) -> Message | None:
    """Return the next message, or None if ``stopped`` becomes true first."""
    part = asyncio.ensure_future(receive())
    try:
        while not part.done():
            await asyncio.wait([part], timeout=PATIENCE)
            if not part.done() and stopped():
                return None
        return part.result()
    finally:
        part.cancel()
