"""Error responses in OpenAI's format: ``{"error": {"message", "type", "code", "param"}}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from nextscale.errors import InputError
from nextscale.web.tickets import Busy, Refused

log = logging.getLogger(__name__)
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")

CODES = {
    400: "invalid_value",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    421: "unknown_host",
    429: "queue_full",
    499: "cancelled",
    500: "sampling_failed",
    503: "shutting_down",
    504: "time_limit",
    507: "insufficient_storage",
}


class FieldError(InputError):
    """Invalid input in one field of a request."""

    def __init__(self, param: str, sentence: object):
        super().__init__(str(sentence))
        self.param = param


class ErrorDetail(BaseModel):
    """Description of an error."""

    message: str
    type: str
    """Kind of error: ``invalid_request_error``, ``rate_limit_error`` or ``server_error``."""
    code: str
    param: str | None = None
    """Name of the invalid field, if there is one."""


class ErrorBody(BaseModel):
    """An error response."""

    error: ErrorDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": what}
    for status, what in {
        400: "Invalid input",
        401: "The API key is missing or wrong",
        403: "A page of another origin sent the request, which --cors-origin does not allow",
        404: "No such model",
        413: "The request is too large",
        421: "The Host header names an unknown host",
        429: "The queue is full. The Retry-After header gives the seconds to wait",
        500: "An error occurred during sampling",
        503: "The server is shutting down",
        504: "The time limit has passed",
    }.items()
}
"""Error responses for the OpenAPI schema."""
ANY_REFUSAL: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorBody, "description": "Another error"}}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    message = message.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be encoded
    detail = ErrorDetail(message=message, type=kind, code=CODES.get(status, "refused"), param=param)
    return ErrorBody(error=detail).model_dump()


def refuse(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(error_body(status, message, param), status, headers)


def refusal_of(error: Exception) -> JSONResponse:
    """Return the response for an exception."""
    if isinstance(error, Busy):
        return refuse(error.status, str(error), headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, Refused):
        return refuse(error.status, str(error))
    if isinstance(error, InputError):
        return refuse(400, str(error), error.param if isinstance(error, FieldError) else None)
    if isinstance(error, RequestValidationError):
        return refuse(400, *explain(error.errors()))
    if isinstance(error, StarletteHTTPException):
        unread = unreadable(error.__cause__) if error.status_code == 400 else None
        return refuse(error.status_code, unread or str(error.detail), headers=error.headers)
    return refuse(500, "internal server error; see the server's log")


def unreadable(cause: BaseException | None) -> str | None:
    """Return the reason why a body is not valid JSON, or None for other causes."""
    if isinstance(cause, UnicodeDecodeError):
        return f"the body is not JSON: it is not UTF-8 (byte {cause.start})"
    if isinstance(cause, RecursionError):
        return "the body is nested too deeply"
    if isinstance(cause, ValueError) and "digits" in str(cause):
        return "the body contains a number with too many digits"
    return None


def explain(errors: Sequence[Any]) -> tuple[str, str | None]:
    """Return a message for the first validation error, and the name of its field."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "header")]
    what = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}", None
    if first["type"] == "missing" and not where:
        return "the body is empty: expected a JSON object", None
    if first["type"] == "model_attributes_type":
        return "the body is not a JSON object: expected one, with the header 'Content-Type: application/json'", None
    if first["type"] == "extra_forbidden":
        what = "no such field"
    elif "UploadFile" in what:
        what = "expected a file, not text"
    name = ".".join(where)[:100]
    return (f"{name}: {what}" if name else f"the body: {what}"), name or None


class KnownRoutes:
    """Middleware that answers unknown paths below ``/v1`` with 404 and unknown methods with 405, in OpenAI's format.

    Without it, the studio, which is mounted on all other paths, would answer them in another format.

    Args:
        api: the application whose routes are known.
    """

    def __init__(self, app: ASGIApp, api: FastAPI):
        self.app, self.api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, method = scope["path"], scope["method"]
        allowed = methods_of(path, self.api)
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
        await self.app(scope, receive, send)


def methods_of(path: str, api: FastAPI) -> list[str]:
    """Return the methods of the route of a path; an empty list if there is no such route."""
    if path == api.openapi_url:
        return ["GET", "HEAD"]
    for template, operations in api.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(template)), path):
            return sorted(name.upper() for name in operations if name in METHODS)
    return []


def install(app: FastAPI) -> None:
    """Install the error handlers in an application."""
    app.add_middleware(KnownRoutes, api=app)

    def answer(request: Request, error: Exception) -> JSONResponse:
        return refusal_of(error)

    for kind in (Refused, InputError, RequestValidationError, StarletteHTTPException, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
