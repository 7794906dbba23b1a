"""Logs of the server on standard error: lines of text or JSON, with the id of the request, and without floods."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

from nextscale.web import request_id
from nextscale.web.request_log import access_log

AccessLog = Literal["off", "plain", "json"]
"""Values of ``--access-log``."""

MOST_ALIKE = 10
"""Maximum number of similar records in a window. A traceback is written only for the first of them."""
WINDOW_SECONDS = 60.0
MOST_KINDS = 1000
"""Maximum number of kinds of records to count."""


def set_up(access: AccessLog, stream: TextIO) -> None:
    """Write warnings and errors of all packages, and the access log unless it is off, to a stream.

    Args:
        access: "json" writes warnings and errors as JSON too.
    """
    errors, requests = LimitedHandler(stream), logging.StreamHandler(stream)
    for handler in (errors, requests):
        handler.setFormatter(JsonLines() if access == "json" else Lines())
    root = logging.getLogger()
    root.handlers = [errors]
    root.setLevel(logging.WARNING)
    access_log.handlers = [] if access == "off" else [requests]
    access_log.setLevel(logging.CRITICAL if access == "off" else logging.INFO)
    access_log.propagate = False


class LimitedHandler(logging.StreamHandler):
    """Handler that drops similar records beyond `MOST_ALIKE` per `WINDOW_SECONDS`, and counts them.

    Records are similar if their logger, level, message template and type of exception are equal.
    """

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.levelno, str(record.msg)[:200], error)
        begun, count = self._seen.get(kind, (record.created, 0))
        dropped = 0
        if record.created - begun >= WINDOW_SECONDS:
            begun, count, dropped = record.created, 0, max(0, count - MOST_ALIKE)
        if len(self._seen) >= MOST_KINDS:
            self._seen.clear()
        self._seen[kind] = begun, count + 1
        if count < MOST_ALIKE:
            super().emit(shortened(record, is_first=count == 0, dropped=dropped))


def shortened(record: logging.LogRecord, is_first: bool, dropped: int) -> logging.LogRecord:
    """Return a copy of a record that mentions dropped records, and has a traceback only if it is the first."""
    text = record.getMessage().rstrip()
    if record.exc_info and not is_first:
        text += ": " + " ".join(traceback.format_exception_only(*record.exc_info[:2])[-1].split())[:300]
    if dropped:
        text += f" ({dropped} similar messages were dropped)"
    copy = logging.makeLogRecord(vars(record))
    copy.msg, copy.args = text, None
    if not is_first:
        copy.exc_info = copy.exc_text = None
    return copy


class Lines(logging.Formatter):
    """Lines for people: time, level, what happened, and the id of the request."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        named = f" [{fields['request_id']}]" if fields["request_id"] else ""
        access: dict[str, Any] | None = getattr(record, "access", None)
        if access:
            what = (
                f'{access["client"]} "{access["method"]} {access["path"]}" {access["status"]}, '
                f"{access['bytes']} bytes in {access['seconds']:.3f} s"
            )
        else:
            what = f"{fields['logger']}: {fields['message']}"
        more = f"\n{fields['exception']}" if "exception" in fields else ""
        return f"{fields['time']} {fields['level']} {what}{named}{more}"


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record: time (UTC), level, logger, message, request_id, exception, and those of access
    records."""
    access: dict[str, Any] = getattr(record, "access", {})
    message = f"{access['method']} {access['path']} {access['status']}" if access else record.getMessage()
    named = getattr(record, "request_id", None) or request_id.current().request_id
    time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
    fields = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": message}
    fields |= {"request_id": named, **access}
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields
