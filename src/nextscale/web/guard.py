"""Who may speak to the server, and how much they may say: key, host name, and size of the body."""

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
"""Needs no key: says only whether the server is up."""
CHALLENGE = {"WWW-Authenticate": 'Basic realm="nextscale", charset="UTF-8"'}
PATIENCE = 0.25
"""Seconds between two looks whether the server is to stop, while a body comes in."""

LINGER_SECONDS = 1.0
LAST_EVENTS_SECONDS = 1.0
"""Left to the studio's streams for what was drawn last."""
OPEN_ENDS = "/gradio_api/"
"""Where they are."""


class Guard:
    """Asks for the key on every route but ``/healthz``, and for a host name that the server goes by.

    The key comes as ``Authorization: Bearer KEY``, or as the password of HTTP's basic authentication, which browsers
    ask their users for: so it protects the studio as well. The host name protects a server on the own machine from web
    pages whose name is made to point to it (DNS rebinding).

    Args:
        key: None asks for none.
        hosts: None takes any.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Collection[str] | None):
        self.app, self.key, self.hosts = app, key.encode() if key else None, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            name = host_name(headers.get("host", ""))
            if self.hosts is not None and name not in self.hosts:
                refusal = refuse(421, f"this server does not go by the name {name!r}: see --hosts")
                return await refusal(scope, receive, send)
            if self.key is not None and scope["path"] not in OPEN_TO_ALL:
                given = given_key(headers.get("authorization", ""))
                if not hmac.compare_digest(given, self.key):
                    what = "a wrong key" if given else "no key"
                    refusal = refuse(401, f"{what}: expected the header 'Authorization: Bearer KEY'", None, CHALLENGE)
                    return await refusal(scope, receive, send)
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a body that is too large, and one that is still coming in when the engine closes.

    A body is too large by its announced size at once, else as soon as too much has come. Whatever the app makes of a
    body that breaks off so, the client gets the refusal. The studio's streams, which are open as long as its page is,
    end when the engines are drained.

    Args:
        drained: set when they are.
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
    """Let a body that nobody wants come in for a moment: who is still sending when the connection closes loses the
    answer with it."""
    end = time.monotonic() + LINGER_SECONDS
    more = True
    while more and (message := await unless(receive, lambda: time.monotonic() > end)):
        more = message.get("more_body", False) and time.monotonic() < end


async def unless(receive: Receive, stopped: Callable[[], bool]) -> Message | None:
    """The next message, or None if it is stopped before that comes."""
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
    """A Host header without its port: ``[::1]:8000`` -> ``::1``."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def given_key(authorization: str) -> bytes:
    """The key in an Authorization header, empty if there is none."""
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value.encode("latin-1")  # as it came
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
