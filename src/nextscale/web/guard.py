"""Check the API key and the host name of requests before they reach the app."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nextscale.web.errors import refuse

OPEN_TO_ALL = ("/healthz",)
"""Paths that need no key."""
CHALLENGE = {"WWW-Authenticate": 'Basic realm="nextscale", charset="UTF-8"'}


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
