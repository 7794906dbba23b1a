"""Error responses in OpenAI's format: ``{"error": {"message", "type", "code", "param"}}``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from nextscale.errors import InputError
from nextscale.web import request_id
from nextscale.web.tickets import Busy, Refused

CODES = {
    400: "invalid_value",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
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


@contextmanager
def naming(param: str) -> Iterator[None]:
    """Turn an InputError inside into a FieldError of this field."""
    try:
        yield
    except InputError as error:
        raise FieldError(param, error) from error


class ErrorDetail(BaseModel):
    """Description of an error."""

    message: str
    type: str
    """Kind of error: ``invalid_request_error``, ``rate_limit_error`` or ``server_error``."""
    code: str
    param: str | None = None
    """Name of the invalid field, if there is one."""
    request_id: str
    """Id of the request, which the X-Request-Id header and the server's log contain too."""


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
        408: "The body of the request did not arrive within the time limit",
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


def error_body(status: int, message: str, param: str | None = None, code: str = "") -> dict[str, Any]:
    """Return the body of an error response.

    Args:
        code: the one of the status by default.
    """
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    message = message.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be encoded
    named = request_id.current().request_id
    code = code or CODES.get(status, "refused")
    detail = ErrorDetail(message=message, type=kind, code=code, param=param, request_id=named)
    return ErrorBody(error=detail).model_dump()


def refuse(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None, code: str = ""
) -> JSONResponse:
    """Return an error response. Arguments as for `error_body`."""
    body = error_body(status, message, param, code)
    return JSONResponse(body, status, {request_id.HEADER: body["error"]["request_id"], **(headers or {})})


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
    elif first["type"] == "value_error" and isinstance(error := first.get("ctx", {}).get("error"), InputError):
        what = str(error)
    elif "UploadFile" in what:
        what = "expected a file, not text"
    name = ".".join(where)[:100]
    return (f"{name}: {what}" if name else f"the body: {what}"), name or None


def install(app: FastAPI) -> None:
    """Install the error handlers in an application."""

    def answer(request: Request, error: Exception) -> JSONResponse:
        return refusal_of(error)

    for kind in (Refused, InputError, RequestValidationError, StarletteHTTPException, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
