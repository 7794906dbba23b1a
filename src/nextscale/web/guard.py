"""Check the API key, the host name and the body size of requests before they reach the app."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import threading
import time
from collections.abc import Callable, Collection

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web.engine import Engine
from nextscale.web.errors import refusal_of, refuse

OPEN_TO_ALL = ("/healthz",)
"""Paths that need no key."""
CHALLENGE = {"WWW-Authenticate": 'Basic realm="nextscale", charset="UTF-8"'}
PATIENCE = 0.25
"""Seconds between two checks for a stopping server while a body arrives."""

LINGER_SECONDS = 1.0
LAST_EVENTS_SECONDS = 1.0
"""Seconds that the studio's streams stay open for the last events."""
OPEN_ENDS = "/gradio_api/"
"""Prefix of the studio's streams."""


class Guard:
    """Middleware that requires the API key on every route except ``/healthz``, and a known host name.

    Clients send the key as ``Authorization: Bearer KEY``, or as the password of HTTP basic authentication. Browsers ask
    their users for this password, so the key also protects the studio. The check of the host name protects a local
    server from web pages whose domain resolves to it (DNS rebinding).

    Args:
        key: None requires no key.
        hosts: accepted host names; None accepts all.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Collection[str] | None):
        self.app, self.key, self.hosts = app, key.encode() if key else None, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            name = host_name(headers.get("host", ""))
            if self.hosts is not None and name not in self.hosts:
                refusal = refuse(421, f"unknown host name {name!r}: see --hosts")
                return await refusal(scope, receive, send)
            if self.key is not None and scope["path"] not in OPEN_TO_ALL:
                given = given_key(headers.get("authorization", ""))
                if not hmac.compare_digest(given, self.key):
                    what = "wrong API key" if given else "no API key"
                    refusal = refuse(401, f"{what}: expected the header 'Authorization: Bearer KEY'", None, CHALLENGE)
                    return await refusal(scope, receive, send)
        await self.app(scope, receive, send)


class BodyLimit:
    """Middleware that rejects a body that is too large, or that is still arriving when the engine closes.

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
        limits = self.engine.limits
        most = limits.body_bytes if scope["path"] == "/v1/images/generations" else limits.upload_bytes
        close = {"Connection": "close"}
        too_large = HTTPException(413, f"the request is too large: expected at most {most:,} bytes", close)
        too_late = HTTPException(503, "the server is shutting down", close)
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > most:
            await linger(receive)
            return await refusal_of(too_large)(scope, receive, send)
        is_open_end = scope["path"].startswith(OPEN_ENDS) and scope["method"] == "GET"
        come, complete, answered, refused = 0, False, False, None

        async def checked() -> Message:
            nonlocal come, complete, refused
            if complete:
                return await (self._until_drained(receive) if is_open_end else receive())
            message = await unless(receive, lambda: not self.engine.is_ready)
            complete = complete or (message is not None and not message.get("more_body", False))
            come += len(message.get("body", b"")) if message else 0
            refused = refused or (too_late if message is None else too_large if come > most else None)
            if message is None or refused:
                raise refused or too_late
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal answered
            if answered or refused is None:
                answered = True
                await send(message)

        try:
            await self.app(scope, checked, unless_refused)
        except Exception:
            if refused is None or answered:
                raise
        if refused is not None and not answered:
            await refusal_of(refused)(scope, receive, send)

    async def _until_drained(self, receive: Receive) -> Message:
        message = await unless(receive, self.drained.is_set)
        if message is None:
            await asyncio.sleep(LAST_EVENTS_SECONDS)
        return message or {"type": "http.disconnect"}


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


def host_name(header: str) -> str:
    """Return a Host header without its port: ``[::1]:8000`` -> ``::1``."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def given_key(authorization: str) -> bytes:
    """Return the key in an Authorization header; empty if there is none."""
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value.encode("latin-1")  # unchanged
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
