"""What the API says when it refuses, in the OpenAI form: ``{"error": {"message", "type", "code", "param"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from nextscale.errors import InputError
from nextscale.web.tickets import Busy, Refused

log = logging.getLogger(__name__)

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
    500: "drawing_failed",
    503: "shutting_down",
    504: "time_limit",
    507: "no_room",
}


class ErrorDetail(BaseModel):
    message: str
    """One sentence."""
    type: str
    """``invalid_request_error``, ``rate_limit_error`` or ``server_error``."""
    code: str
    param: str | None = None
    """The field that is wrong, where one is."""


class ErrorBody(BaseModel):
    """A refusal."""

    error: ErrorDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": what}
    for status, what in {
        400: "Bad input",
        401: "No key, or a wrong one",
        403: "Another web page asks, which --cors-origin does not name",
        413: "Too large",
        421: "The server does not go by the name in the Host header",
        429: "The queue is full; Retry-After says when to try again",
        500: "Drawing failed",
        503: "Shutting down",
        504: "The time limit has passed",
    }.items()
}
"""For the OpenAPI description."""


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    message = message.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair has no UTF-8
    detail = ErrorDetail(message=message, type=kind, code=CODES.get(status, "refused"), param=param)
    return ErrorBody(error=detail).model_dump()


def refuse(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(error_body(status, message, param), status, headers)


def refusal_of(error: Exception) -> JSONResponse:
    """The answer to a request that raised."""
    if isinstance(error, Busy):
        return refuse(error.status, str(error), headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, Refused):
        return refuse(error.status, str(error))
    if isinstance(error, InputError):
        return refuse(400, str(error))
    if isinstance(error, RequestValidationError):
        return refuse(400, *explain(error.errors()))
    if isinstance(error, StarletteHTTPException):
        return refuse(error.status_code, str(error.detail), headers=error.headers)
    return refuse(500, "the server failed to answer this request; its log says more")


def explain(errors: Sequence[Any]) -> tuple[str, str | None]:
    """(one sentence for what a request has wrong, the first field that is)."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "header")]
    what = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "json_invalid":
        return f"the body is not JSON ({first['ctx']['error']})", None
    if first["type"] == "model_attributes_type":
        return "the body is not a JSON object: expected one, and the header 'Content-Type: application/json'", None
    if first["type"] == "extra_forbidden":
        what = "no such field"
    elif "UploadFile" in what:
        what = "expected a file, not text"
    name = ".".join(where)[:100]
    return (f"{name}: {what}" if name else f"the body: {what}"), name or None


def install(app: FastAPI) -> None:
    """Let the app answer so."""

    def answer(request: Request, error: Exception) -> JSONResponse:
        return refusal_of(error)

    for kind in (Refused, InputError, RequestValidationError, StarletteHTTPException, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
