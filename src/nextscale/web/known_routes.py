"""Answer unknown paths and methods of the API in OpenAI's format, and HEAD requests."""

from __future__ import annotations

import re

from fastapi import FastAPI
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web.errors import refuse

METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")


class KnownRoutes:
    """Middleware that answers unknown paths below ``/v1`` with 404 and unknown methods with 405, in OpenAI's format.

    Without it, the studio, which is mounted on all other paths, would answer them in another format. HEAD is answered
    like GET, without the body.

    Args:
        api: the application whose routes are known.
    """

    def __init__(self, app: ASGIApp, api: FastAPI):
        self.app, self.api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, method = scope["path"], scope["method"]
        allowed = methods_of(scope, self.api)
        if allowed and method not in allowed:
            refusal = refuse(
                405,
                f"{path[:100]} supports {', '.join(allowed)}, not {method[:100]}",
                headers={"Allow": ", ".join(allowed)},
            )
            return await refusal(scope, receive, send)
        if not allowed and (path == "/v1" or path.startswith("/v1/")):
            refusal = refuse(404, f"no route {path[:100]}: GET /openapi.json lists all routes")
            return await refusal(scope, receive, send)
        if method == "HEAD" and "GET" in allowed:
            return await self.app({**scope, "method": "GET"}, receive, without_body(send))
        await self.app(scope, receive, send)


def without_body(send: Send) -> Send:
    """Return a version of ``send`` that sends empty bodies."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def methods_of(scope: Scope, api: FastAPI) -> list[str]:
    """Return the methods of the route of a path; an empty list if there is no such route. Mounted apps do not count."""
    methods: set[str] = set()
    for template, operations in api.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(template)), scope["path"]):
            methods |= {name.upper() for name in operations if name in METHODS}
    for route in api.router.routes:  # those that the description does not contain
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            methods |= set(route.methods or ())
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
