"""Ids of requests, and the logs on standard error."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from nextscale.web import logs
from nextscale.web.logs import MOST_ALIKE, WINDOW_SECONDS, set_up
from nextscale.web.request_log import RequestLog, access_log
from nextscale.web.server import build_app

GENERATE = "/v1/images/generations"


@pytest.fixture
def log() -> Iterator[Callable[[str], io.StringIO]]:
    """``log("json")``: what the server writes to standard error."""
    root = logging.getLogger()
    before = root.handlers, root.level, access_log.handlers, access_log.level, access_log.propagate

    def start(access: str) -> io.StringIO:
        stream = io.StringIO()
        set_up(access, stream)  # type: ignore[arg-type]
        return stream

    yield start
    root.handlers, level, access_log.handlers, access_log.level, access_log.propagate = before
    root.setLevel(level)


# ---- ids -------------------------------------------------------------------------------------------------------------


def test_every_response_has_an_id(start, monkeypatch):
    client = TestClient(build_app(start(body_bytes=100), key="k", hosts={"testserver"}), raise_server_exceptions=False)
    key = {"Authorization": "Bearer k"}
    json_type = {**key, "Content-Type": "application/json"}
    responses = {
        200: client.get("/healthz"),
        400: client.post(GENERATE, json={"prompt": "zebra"}, headers=key),
        401: client.get("/v1/models"),
        403: client.get("/healthz", headers={"Origin": "https://a.example"}),
        404: client.get("/v1/nothing", headers=key),
        405: client.post("/healthz"),
        413: client.post(GENERATE, content=b"x" * 200, headers=json_type),
        421: client.get("/healthz", headers={"Host": "a.example"}),
    }
    monkeypatch.setattr("nextscale.web.api.wanted_of", lambda *_: 1 / 0)
    responses[500] = client.post(GENERATE, json={"prompt": "hat"}, headers=key)
    ids = {response.headers["X-Request-Id"] for response in responses.values()}
    assert len(ids) == len(responses) and "" not in ids
    for status, response in responses.items():
        assert response.status_code == status
        assert status == 200 or response.json()["error"]["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "wanted, kept", [("a-B_9.c", 1), ("x" * 64, 1), ("x" * 65, 0), ("a b", 0), ("a\tb", 0), ("", 0)]
)
def test_an_id_of_a_proxy_is_kept_if_it_is_one(client, wanted, kept):
    given = client.get("/healthz", headers={"X-Request-Id": wanted}).headers["X-Request-Id"]
    assert (given == wanted) == bool(kept) and given


def test_an_event_with_an_error_has_the_id(client, pipeline):
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable")
    response = client.post(GENERATE, json={"prompt": "hat", "stream": True}, headers={"X-Request-Id": "mine"})
    (data,) = (line for line in response.text.splitlines() if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["error"]["request_id"] == "mine"


def test_a_failed_batch_is_logged_with_its_requests(client, pipeline, log):
    stream = log("off")
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable")
    client.post(GENERATE, json={"prompt": "hat"}, headers={"X-Request-Id": "mine"})
    first = stream.getvalue().splitlines()[0]
    assert first.endswith("error nextscale.web.engine: a batch of 1 images failed [mine]")
    assert stream.getvalue().rstrip().endswith("RuntimeError: a loose cable")


# ---- the access log --------------------------------------------------------------------------------------------------


def test_the_access_log_is_off_unless_asked_for(client, log):
    stream = log("off")
    client.get("/healthz")
    assert stream.getvalue() == ""


def test_a_line_for_people(client, log):
    stream = log("plain")
    response = client.get("/v1/models/a%0Ab?key=secret", headers={"X-Request-Id": "mine"})
    (line,) = stream.getvalue().splitlines()
    assert f'info testclient "GET /v1/models/a%0Ab" 404, {len(response.content)} bytes in ' in line
    assert line.endswith(" s [mine]") and "secret" not in line


def test_a_line_for_programs(client, log):
    stream = log("json")
    response = client.post(GENERATE, json={"prompt": "hat"}, headers={"X-Request-Id": "mine"})
    record = json.loads(stream.getvalue())
    assert set(record) == ALWAYS | {"client", "method", "path", "status", "bytes", "seconds"}
    assert (record["message"], record["request_id"]) == (f"POST {GENERATE} 200", "mine")
    assert record["bytes"] == len(response.content) and 0 <= record["seconds"] < 60
    assert record["time"].endswith("+00:00")


ALWAYS = {"time", "level", "logger", "message", "request_id"}


def test_errors_are_json_too(client, log, pipeline):
    stream = log("json")
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable")
    client.post(GENERATE, json={"prompt": "hat"}, headers={"X-Request-Id": "mine"})
    error, access = map(json.loads, stream.getvalue().splitlines())
    assert (error["level"], error["request_id"], access["status"]) == ("error", "mine", 500)
    assert set(error) == ALWAYS | {"exception"}
    assert error["exception"].startswith("Traceback") and error["exception"].endswith("a loose cable")


# ---- floods ----------------------------------------------------------------------------------------------------------


def test_similar_messages_are_limited(log, monkeypatch):
    stream, now = log("off"), [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "time_ns", lambda: int(now[0] * 1e9))
    other, ours = logging.getLogger("other"), logging.getLogger("ours")
    for i in range(1000):
        other.warning("no room for %d", i)
        ours.warning("no room for %d", i)
    ours.error("something else")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 * MOST_ALIKE + 1 and "something else" in lines[-1]
    now[0] += WINDOW_SECONDS
    ours.warning("no room for %d", 7)
    assert (
        stream.getvalue()
        .splitlines()[-1]
        .endswith(f"no room for 7 ({1000 - MOST_ALIKE} similar messages were dropped)")
    )


def test_only_the_first_of_similar_errors_has_a_traceback(log):
    stream = log("off")
    for i in range(100):
        try:
            raise ValueError(f"bad {i}")
        except ValueError:
            logging.getLogger("ours").exception("failed")
    text = stream.getvalue()
    assert text.count("Traceback") == 1
    assert text.splitlines()[-1].endswith(f"error ours: failed: ValueError: bad {MOST_ALIKE - 1}")


def test_kinds_of_messages_do_not_fill_the_memory(log, monkeypatch):
    monkeypatch.setattr(logs, "MOST_KINDS", 10)
    log("off")
    for i in range(100):
        logging.getLogger("ours").warning(f"kind {i}")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logs.LimitedHandler) and len(handler._seen) <= 10


def streaming(error: Exception) -> TestClient:
    """A stream that fails after its first event."""
    app = FastAPI()

    async def events():
        yield "data: 1\n\n"
        raise error

    @app.get("/")
    def stream() -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    return TestClient(RequestLog(app))


def test_a_stream_that_ends_with_an_http_error_just_ends():
    response = streaming(HTTPException(404)).get("/")
    assert response.status_code == 200 and response.text == "data: 1\n\n"


def test_a_stream_that_breaks_is_an_error():
    with pytest.raises(ZeroDivisionError):
        streaming(ZeroDivisionError()).get("/")
