"""Allow only the server's own web pages and those of ``--cors-origin`` to call the server."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web.errors import refuse

DEFAULT_PORTS = {"http": ":80", "https": ":443"}
NOT_PAGES = ("/v1/", "/gradio_api/")
"""Paths that are not pages. Links from other sites to them are rejected."""


class OwnPages:
    """Middleware that rejects requests of web pages of other origins (403), with or without a preflight.

    Such pages may only link to the server. Requests with neither ``Origin`` nor ``Sec-Fetch-Site`` do not come from a
    web page and are accepted. CORS headers of the inner app are removed for origins that are not allowed.

    Args:
        origins: allowed origins, such as ``https://example.com``; ``*`` allows all.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]):
        self.app, self.origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if "*" in self.origins or origin in self.origins:
            return await self.app(scope, receive, send)
        if origin is not None and not is_own(origin, headers.get("host", "")):
            what = f"pages of origin {origin[:200]!r} may not call this server: see --cors-origin"
            return await refuse(403, what)(scope, receive, send)
        site = headers.get("sec-fetch-site", "none")
        if origin is None and site not in ("same-origin", "none") and not is_link(scope, headers):
            what = "pages of other origins may not call this server, only link to it: see --cors-origin"
            return await refuse(403, what)(scope, receive, send)

        async def without_permission(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [h for h in message.get("headers", []) if not h[0].lower().startswith(b"access-control-")]
                message = {**message, "headers": kept}
            await send(message)

        await self.app(scope, receive, without_permission)


def is_own(origin: str, host: str) -> bool:
    """Return whether an Origin header names the same host and port as a Host header."""
    scheme, found, place = origin.lower().partition("://")
    default = DEFAULT_PORTS.get(scheme)
    if not found or default is None:
        return False
    return bool(place) and place.removesuffix(default) == host.lower().removesuffix(default)


def is_link(scope: Scope, headers: Headers) -> bool:
    """Return whether the request follows a link to a page."""
    return (
        scope.get("method") in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and not scope["path"].startswith(NOT_PAGES)
    )
