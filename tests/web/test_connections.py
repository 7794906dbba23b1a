"""How many connections a server keeps open, and for how long clients may be silent."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from tiny_web import Served

import nextscale as ns
from nextscale.web import connections
from nextscale.web.connections import LEAST, SPARE_FILES, affordable

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
Serve = Callable[..., Served]


def connect(served: Served) -> socket.socket:
    return socket.create_connection(served.place, timeout=20)


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def answer(connection: socket.socket) -> bytes:
    """The answer to a request, which is a JSON object."""
    come = b""
    while not come.endswith(b"}"):
        part = connection.recv(2**16)
        assert part, come
        come += part
    return come


def status(served: Served) -> bytes:
    with connect(served) as connection:
        connection.sendall(HEALTH)
        return answer(connection).split(b"\r\n")[0]


def known(served: Served) -> Any:
    """The server's connections."""
    return served.server.server_state.connections


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("first", [b"", b"GET /heal", HEALTH[:-2], HEALTH])
def test_a_silent_connection_is_closed(served: Serve, first):
    server = served(idle_seconds=0.5)
    with connect(server) as connection:
        connection.sendall(first)
        if first == HEALTH:
            assert answer(connection).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        assert is_closed(connection)
        assert 0.4 < time.monotonic() - begun < 4  # less than uvicorn's keep-alive time of 5 s


@pytest.mark.parametrize("first", [b"", HEALTH])
def test_a_head_that_trickles_in_is_given_up(served: Serve, first):
    with connect(served(idle_seconds=0.5)) as connection:
        connection.sendall(first)
        begun = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - begun < 5


def test_a_connection_that_is_used_stays(served: Serve):
    with connect(served(idle_seconds=2.5)) as connection:
        for _ in range(4):
            time.sleep(0.8)
            connection.sendall(HEALTH)
            assert answer(connection).startswith(b"HTTP/1.1 200")


def test_a_request_at_work_is_not_silent(served: Serve, hold):
    server = served(idle_seconds=0.3)
    with connect(server) as connection:
        with hold():
            connection.sendall(post(b'{"prompt": "hat"}'))
            time.sleep(2)
        assert answer(connection).startswith(b"HTTP/1.1 200")


def post(body: bytes, length: int | None = None) -> bytes:
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: a\r\nContent-Length: {length or len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


def test_beyond_the_limit_the_longest_waiting_connection_goes(served: Serve):
    server = served(connections=4)
    with ExitStack() as stack:
        body = stack.enter_context(connect(server))
        body.sendall(post(b"{", length=10))  # is kept before those without a request
        assert until(lambda: any(c.has_request for c in known(server)))
        idle = []
        for _ in range(8):
            idle.append(stack.enter_context(connect(server)))
            assert until(lambda: len(known(server)) <= 4)
        assert all(is_closed(connection) for connection in idle[:5])
        for connection in idle[-2:]:
            connection.sendall(HEALTH)
            assert answer(connection).startswith(b"HTTP/1.1 200")
        body.sendall(b'"prompt":1')
        assert answer(body).startswith(b"HTTP/1.1 400")


def test_many_idle_connections_shut_nobody_out(served: Serve):
    server = served(connections=8)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(server))
        assert {status(server) for _ in range(5)} == {b"HTTP/1.1 200 OK"}
        assert len(known(server)) <= 9


def test_bodies_that_do_not_come_shut_nobody_out(served: Serve):
    server = served(connections=8)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(server)).sendall(post(b"{", length=10))
        assert {status(server) for _ in range(5)} == {b"HTTP/1.1 200 OK"}


def test_when_all_connections_are_at_work_another_gets_a_503(served: Serve, hold):
    server = served(connections=2)
    with ExitStack() as stack:
        with hold():
            busy = [stack.enter_context(connect(server)) for _ in range(2)]
            for connection in busy:
                connection.sendall(post(b'{"prompt": "hat"}'))
            assert until(lambda: [c.awaits_client for c in known(server)] == [False, False])
            with connect(server) as third:
                third.sendall(HEALTH)
                head, _, body = answer(third).partition(b"\r\n\r\n")
                assert is_closed(third)
        assert head.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in head.lower()
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        for connection in busy:
            assert answer(connection).startswith(b"HTTP/1.1 200")
    assert status(server) == b"HTTP/1.1 200 OK"


def test_without_files_for_a_connection_another_is_closed(served: Serve, caplog):
    server = served(connections=50)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server))
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        assert until(lambda: len(known(server)) == 4)
        with socket.socket() as connection:
            resource.setrlimit(resource.RLIMIT_NOFILE, (connection.fileno() + 1, before[1]))
            connection.settimeout(20)
            connection.connect(server.place)
            connection.sendall(HEALTH)
            assert answer(connection).startswith(b"HTTP/1.1 200")
    assert "no file is left for a new connection" in caplog.text


def test_a_client_that_reads_nothing_is_given_up(served: Serve):
    server = served(idle_seconds=0.5)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.place)
        asset = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
        connection.sendall(asset * 20)
        assert until(lambda: bool(known(server))) and until(lambda: not known(server))


def test_a_slow_reader_gets_all(served: Serve):
    server = served(idle_seconds=0.5)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.place)
        connection.sendall(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        size = 0
        for i in range(1_000_000):
            if not (data := connection.recv(2**15)):
                break
            size += len(data)
            time.sleep(0.1 if i % 16 == 0 else 0)
    assert size > 1_000_000


@pytest.fixture
def files(monkeypatch) -> Callable[..., list[tuple[int, int]]]:
    """``files(soft, hard)``: limits of open files, of which 20 are used; what the process sets them to."""

    def set_limits(soft: int, hard: int) -> list[tuple[int, int]]:
        changes: list[tuple[int, int]] = []
        monkeypatch.setattr(connections.os, "listdir", lambda path: ["0"] * 20)
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: changes.append(limits))
        return changes

    return set_limits


def test_the_limit_of_open_files_is_raised(files):
    changes = files(256, 4096)
    assert affordable(1000) == 1000 and changes == [(1020 + SPARE_FILES, 4096)]
    assert not files(resource.RLIM_INFINITY, resource.RLIM_INFINITY) and affordable(1000) == 1000


def test_connections_leave_room_for_files(files):
    files(128, 128)
    assert affordable(1000) == 128 - 20 - SPARE_FILES
    assert affordable(10) == 10
    files(20 + SPARE_FILES + LEAST, 20 + SPARE_FILES + LEAST)
    assert affordable(1000) == LEAST


def test_a_limit_of_open_files_that_is_too_low(files):
    files(64, 64)
    with pytest.raises(ns.InputError) as caught:
        affordable(1000)
    assert (
        str(caught.value)
        == f"this process may open 64 files: expected at least {20 + SPARE_FILES + LEAST}, see ulimit -n"
    )
