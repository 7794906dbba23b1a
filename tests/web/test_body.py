"""Bodies while they arrive: their time, their end, and what comes after a refusal."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import Message
from tiny_web import Served, job, png

from nextscale.web.body import Occurrences, boundary_of, linger
from nextscale.web.request_id import Arrival
from nextscale.web.server import build_app
from nextscale.web.tickets import Expired

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
FORM = "multipart/form-data; boundary=B"


def exchange(address: str, path: str, kind: str, announced: int, sent: bytes) -> tuple[bytes, dict]:
    """The status line and the body of the answer to a request that never ends."""
    host, port = address.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {announced}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + sent)
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))  # until the server closes the connection
    return answer.split(b"\r\n")[0], json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path, kind, sent", [(GENERATE, "application/json", b'{"prompt":'), (EDIT, FORM, b"--B\r\n")])
def test_a_slow_body_is_given_up_after_the_time_limit(served: Callable[..., Served], path, kind, sent):
    address = served(seconds=0.5).address
    begun = time.monotonic()
    status, body = exchange(address, path, kind, 100, sent)
    assert 0.4 < time.monotonic() - begun < 5
    assert status == b"HTTP/1.1 408 Request Timeout" and body["error"]["code"] == "request_timeout"
    expected = f"the time limit of 0.5 s has passed before the body arrived: got {len(sent)} bytes of it"
    assert body["error"]["message"] == expected


def test_the_time_limit_begins_with_the_request(start):
    engine = start(seconds=5)
    with pytest.raises(Expired):
        engine.submit(job(1), Arrival("late", time.monotonic() - 6)).result()
    assert len(engine.submit(job(1), Arrival("early")).result().images) == 1


def form(*parts: bytes) -> bytes:
    image = b'name="image"; filename="a.png"\r\n\r\n' + png(Image.new("RGB", (20, 20), "red"))
    fields = [image, b'name="box"\r\n\r\n0,0,1,0.5', *parts]
    return b"".join(b"--B\r\nContent-Disposition: form-data; " + field + b"\r\n" for field in fields)


def test_a_form_that_breaks_off_is_refused(start):
    client = TestClient(build_app(start()))
    whole = form(b'name="seed"\r\n\r\n3') + b"--B--\r\n"
    assert client.post(EDIT, content=whole, headers={"Content-Type": FORM}).json()["data"][0]["seed"] == 3
    assert client.post(EDIT, content=whole[:-2], headers={"Content-Type": FORM}).status_code == 200
    for end in (len(whole) - 3, len(whole) - 4, len(whole) - 7, len(whole) - 20, len(whole) // 2, 5):
        response = client.post(EDIT, content=whole[:end], headers={"Content-Type": FORM})
        assert response.status_code == 400, end
        assert response.json()["error"]["message"] == "the form breaks off: expected a closing boundary at its end"


def test_a_boundary_in_pieces_is_found(start):
    client = TestClient(build_app(start()))
    whole = form(b'name="seed"\r\n\r\n3') + b"--B--\r\n"
    for size in (1, 3, 7):
        parts = (whole[i : i + size] for i in range(0, len(whole), size))
        assert client.post(EDIT, content=parts, headers={"Content-Type": FORM}).status_code == 200


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_occurrences_in_pieces(size):
    data = b"--B\r\n--B\r\n-\r\n--\r\n--B--\r\n\r\n--C"
    found = Occurrences(b"\r\n--B")
    assert sum(found.count(data[i : i + size]) for i in range(0, len(data), size)) == 3


@pytest.mark.parametrize(
    "content_type, expected",
    [
        ("multipart/form-data; boundary=B", b"\r\n--B"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"\r\n--a b"),
        ("multipart/form-data", b""),
        ("multipart/mixed; boundary=B", b""),
        ("application/json", b""),
        ("", b""),
    ],
)
def test_boundaries_of_content_types(content_type, expected):
    assert boundary_of(content_type) == expected


def test_who_is_still_sending_what_nobody_wants_is_heard_out():
    """The answer would be lost with the connection."""
    come: list[int] = []

    async def receive() -> Message:
        come.append(1)
        return {"type": "http.request", "body": bytes(100), "more_body": len(come) < 5}

    asyncio.run(linger(receive))
    assert len(come) == 5


def test_but_not_for_ever(monkeypatch):
    monkeypatch.setattr("nextscale.web.body.LINGER_SECONDS", 0.05)
    come: list[int] = []

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        come.append(1)
        return {"type": "http.request", "body": bytes(100), "more_body": True}

    asyncio.run(asyncio.wait_for(linger(receive), 10))
    assert 1 <= len(come) <= 6  # each takes 0.01 s or more
