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
        body, answered = Body(receive, self.engine, most, delimiter_of(headers.get("content-type", ""))), False

        async def checked() -> Message:
            if body.complete:
                return await (self._until_drained(receive) if is_open_end else receive())
            return await body.next()

        async def unless_refused(message: Message) -> None:
            nonlocal answered
            if answered or body.refusal is None:
                answered = True
                await send(message)

        try:
            await self.app(scope, checked, unless_refused)
        except Exception:
            if body.refusal is None or answered:
                raise
        if body.refusal is not None and not answered:
            await refusal_of(body.refusal)(scope, receive, send)

    async def _until_drained(self, receive: Receive) -> Message:
        message = await unless(receive, self.drained.is_set)
        if message is None:
            await asyncio.sleep(LAST_EVENTS_SECONDS)
        return message or {"type": "http.disconnect"}


class Body:
    """The body of a request that is arriving.

    Args:
        most: maximum size in bytes.
        delimiter: bytes that end a form; empty if the body is not a form.
    """

    def __init__(self, receive: Receive, engine: Engine, most: int, delimiter: bytes):
        self.receive, self.engine, self.most, self.delimiter = receive, engine, most, delimiter
        self.arrival = request_id.current()
        self.size, self.complete, self.ended = 0, False, not delimiter
        self.refusal: HTTPException | None = None
        self._tail = b"\r\n"  # the delimiter may be at the start

    async def next(self) -> Message:
        """Return the next message.

        Raises:
            HTTPException: the body is refused, now or before.
        """
        message = await unless(self.receive, lambda: not self.engine.is_ready or not self._left())
        if message is None:
            self._refuse(self._too_slow() if self.engine.is_ready else stopping())
        elif message["type"] == "http.request":
            data = message.get("body", b"")
            self.complete = not message.get("more_body", False)
            self.size += len(data)
            if not self.ended:
                self.ended = self.delimiter in (seen := self._tail + data)
                self._tail = seen[-len(self.delimiter) :]
            if self.size > self.most:
                self._refuse(too_large(self.most))
            elif self.complete and not self.ended:
                self._refuse(HTTPException(400, "the form breaks off: expected a closing boundary at its end"))
        else:  # the client has disconnected
            self.complete = True
        if self.refusal is not None:
            raise self.refusal
        assert message is not None
        return message

    def _refuse(self, refusal: HTTPException) -> None:
        self.refusal = self.refusal or refusal

    def _left(self) -> float:
        return self.arrival.left(self.engine.limits.seconds)

    def _too_slow(self) -> HTTPException:
        limit = f"the time limit of {self.engine.limits.seconds:g} s has passed before the body arrived"
        return HTTPException(408, f"{limit}: got {self.size:,} bytes of it", CLOSE)


def too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the request is too large: expected at most {most:,} bytes", CLOSE)


def stopping() -> HTTPException:
    return HTTPException(503, "the server is shutting down", CLOSE)


def delimiter_of(content_type: str) -> bytes:
    """Return the bytes that end a form of this type; empty if it is not a form in parts."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    return b"\r\n--" + boundary + b"--" if kind == b"multipart/form-data" and boundary else b""


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
