"""``nextscale serve`` as a process: its address, its signals, its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nextscale.runtime.extras import not_installed

pytest.importorskip("fastapi", reason="needs the serve extra")


class Server:
    """A process of ``nextscale serve`` on a free port."""

    def __init__(self, *arguments: object, environment: dict[str, str] | None = None, files: int | None = None):
        command = [sys.executable, "-m", "nextscale", "serve", "--port", "0", *map(str, arguments)]
        if files is not None:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.address = self.line.split()[-1] if self.line else ""

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.address.removeprefix("http://").split(":")
        return host, int(port)

    def ask(self, path: str, body: dict[str, Any] | None = None, key: str = "") -> tuple[int, bytes]:
        """(status, body) of a GET, or of a POST."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = json.dumps(body).encode() if body is not None else None
        try:
            request = urllib.request.Request(self.address + path, data, headers)
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def wait(self) -> tuple[int, str]:
        """(exit code, what it said on standard error)."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


Start = Callable[..., Server]


@pytest.fixture
def start(model: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def run(*arguments: object, files: int | None = None, **environment: str) -> Server:
        servers.append(Server("--model", model, *arguments, environment=environment, files=files))
        return servers[-1]

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def images_of(server: Server, count: int, signals: int = 1) -> dict[int, tuple[int, bytes]]:
    """What came of requests for images that were sent at once, and are being drawn."""
    outcomes: dict[int, tuple[int, bytes]] = {}

    def one(i: int) -> None:
        outcomes[i] = server.ask("/v1/images/generations", {"prompt": "hat", "n": 16, "seed": i})

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    while json.loads(server.ask("/healthz")[1])["waiting"] == 0 and all(t.is_alive() for t in threads):
        time.sleep(0.005)
    for _ in range(signals):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    for thread in threads:
        thread.join(60)
    return outcomes


def test_what_is_at_work_is_finished_on_sigterm(start):
    server = start("--no-studio", "--queue-images", 1000)
    outcomes = images_of(server, 12)
    assert len(outcomes) == 12
    assert {status for status, _ in outcomes.values()} <= {200, 503}
    finished = [json.loads(body) for status, body in outcomes.values() if status == 200]
    assert finished and all(len(answer["data"]) == 16 for answer in finished)
    assert server.wait() == (0, "")


@pytest.mark.slow
def test_what_the_drain_time_does_not_suffice_for_gets_a_503(start):
    server = start("--no-studio", "--queue-images", 1000, "--drain-seconds", 0)
    outcomes = images_of(server, 12)
    refused = [json.loads(body) for status, body in outcomes.values() if status == 503]
    assert refused and {status for status, _ in outcomes.values()} <= {200, 503}
    assert all(answer["error"]["code"] == "shutting_down" for answer in refused)
    assert server.wait() == (0, "")


def test_a_second_signal_does_not_wait_for_what_is_at_work(start):
    server = start("--no-studio", "--queue-images", 1000, "--drain-seconds", 60, "--batch-images", 1)
    begun = time.monotonic()
    outcomes = images_of(server, 12, signals=2)
    assert 503 in {status for status, _ in outcomes.values()} <= {200, 503}
    assert server.wait() == (0, "")
    assert time.monotonic() - begun < 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_leaves_at_once(start, number):
    server = start("--no-studio")
    host, port = server.address.removeprefix("http://").split(":")
    assert host == "127.0.0.1" and server.line.startswith("serving ")
    assert server.ask("/healthz")[0] == 200
    assert server.ask("/")[0] == 404  # no studio
    begun = time.monotonic()
    server.process.send_signal(number)
    assert server.wait() == (0, "")
    assert time.monotonic() - begun < 10
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port))):
        pass


@pytest.mark.slow
def test_a_client_that_leaves_a_stream_has_its_work_stopped(start):
    server = start("--no-studio")
    body = json.dumps({"prompt": "hat", "n": 16, "stream": True}).encode()
    request = urllib.request.Request(
        server.address + "/v1/images/generations", body, {"Content-Type": "application/json"}
    )
    streams = [urllib.request.urlopen(request, timeout=60) for _ in range(8)]
    for stream in streams:
        stream.close()
    for _ in range(200):
        if json.loads(server.ask("/healthz")[1])["waiting"] == 0:
            break
        time.sleep(0.05)
    assert server.ask("/v1/images/generations", {"prompt": "hat"})[0] == 200
    drawn = next(
        float(line.split()[1])
        for line in server.ask("/metrics")[1].decode().splitlines()
        if line.startswith("nextscale_images_total ")
    )
    assert drawn < 8 * 16


@pytest.mark.slow
def test_a_public_address_without_a_key_is_warned_of(start):
    server = start("--no-studio", "--host", "0.0.0.0")
    server.process.send_signal(signal.SIGTERM)
    code, said = server.wait()
    assert code == 0 and said.count("\n") == 1 and "NEXTSCALE_API_KEY" in said


@pytest.mark.slow
def test_a_key_of_the_environment(start):
    server = start("--no-studio", "--host", "0.0.0.0", NEXTSCALE_API_KEY="sesame")
    server.address = server.address.replace("0.0.0.0", "127.0.0.1")
    assert server.ask("/v1/models")[0] == 401
    assert server.ask("/v1/models", key="sesame")[0] == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == (0, "")  # and no warning


def test_a_port_that_is_taken(call, model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = call("serve", "--model", model, "--port", port)
    assert code == 2 and not out
    assert err.count("\n") == 1 and str(port) in err and "in use" in err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--port", 70000), "70000"),
        (("--port", -1), "-1"),
        (("--host", "no.such.host.invalid"), "no.such.host.invalid"),
        (("--model", "nowhere"), "nowhere"),
        (("--compare", "nowhere"), "--compare"),
        (("--cors-origin", "example.com"), "'example.com'"),
        (("--cors-origin", "https://example.com/"), "'https://example.com/'"),
        (("--hosts", "http://a"), "'http://a'"),
        (("--hosts", "a b"), "'a b'"),
    ],
)
def test_bad_input(call, arguments, words):
    code, out, err = call("serve", "--no-studio", "--port", 0, *arguments)
    assert code == 2 and not out
    assert err.count("\n") == 1 and words in err


def test_a_text_encoder_that_is_missing(call, model, tmp_path):
    """It is loaded before the server starts, not when the first prompt comes."""
    pytest.importorskip("transformers", reason="needs the text extra")
    from tiny_prompts import save_model

    save_model(tmp_path)
    flags = ("serve", "--no-studio", "--port", 0, "--text-encoder", tmp_path / "nowhere", "--model")
    code, out, err = call(*flags, tmp_path / "model")
    assert code == 2 and not out and err.count("\n") == 1 and "nowhere" in err
    code, out, err = call(*flags, model)
    assert code == 2 and not out and err.count("\n") == 1 and "takes class labels" in err
    (tmp_path / "model" / "text_encoder" / "model.safetensors").unlink()
    code, out, err = call("serve", "--no-studio", "--port", 0, "--model", tmp_path / "model")
    assert code == 2 and not out and err.count("\n") == 1 and "text_encoder" in err


@pytest.mark.parametrize("key", [" ", "sesame "])
def test_a_key_that_no_client_can_send(call, key, monkeypatch):
    monkeypatch.setenv("NEXTSCALE_API_KEY", key)
    code, _, err = call("serve", "--no-studio", "--port", 0)
    assert code == 2 and err.count("\n") == 1 and "NEXTSCALE_API_KEY" in err


@pytest.mark.parametrize("flag, value", [("batch-images", 0), ("seconds", "nan"), ("drain-seconds", -1)])
def test_bad_limits(call, flag, value):
    code, _, err = call("serve", "--no-studio", "--port", 0, f"--{flag}={value}")
    assert code == 2 and f"{flag} must be at least" in err and str(value) in err


def test_a_missing_package_is_named(call, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = call("serve", "--model", model, "--port", 0)
    assert code == 2 and err == f"nextscale: {not_installed('gradio', 'serve')}\n"


@pytest.mark.parametrize("path", ["/v1/images/edits", pytest.param("/gradio_api/upload", marks=pytest.mark.long)])
def test_an_upload_that_is_still_coming_in_gets_a_503(start, path, tmp_path):
    server = start(*(() if path.startswith("/gradio") else ("--no-studio",)), TMPDIR=str(tmp_path))
    host, port = server.address.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as half:
        half.sendall(f"{head}Content-Length: 100000\r\n\r\n--x".encode())
        time.sleep(0.5)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: half.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 503") and b'"shutting_down"' in answer
    assert server.wait() == (0, "")
    assert time.monotonic() - begun < 10
    assert not list(tmp_path.glob("nextscale-*"))  # the folder of uploads


def test_more_idle_connections_than_files_shut_nobody_out(start):
    server = start("--no-studio", files=128)
    idle = [socket.create_connection(server.place) for _ in range(300)]
    for _ in range(5):
        assert server.ask("/healthz")[0] == 200
    assert server.ask("/v1/images/generations", {"prompt": "hat"})[0] == 200
    server.process.send_signal(signal.SIGTERM)
    code, said = server.wait()
    for connection in idle:
        connection.close()
    assert code == 0 and len(said) < 2000


@pytest.mark.slow
def test_a_limit_of_open_files_that_is_too_low_for_a_server(start):
    server = start("--no-studio", files=48)
    code, said = server.wait()
    assert code == 2 and said.count("\n") == 1 and "48 files" in said and "ulimit -n" in said


def test_the_access_log(start):
    server = start("--no-studio", "--access-log", "json")
    assert server.ask("/v1/models?secret")[0] == 200
    assert server.ask("/nothing")[0] == 404
    server.process.send_signal(signal.SIGTERM)
    code, said = server.wait()
    records = [json.loads(line) for line in said.splitlines()]
    assert code == 0 and [(r["path"], r["status"]) for r in records] == [("/v1/models", 200), ("/nothing", 404)]


@pytest.mark.long
def test_a_page_from_before_a_restart_logs_nothing(start):
    server = start()
    for path in (
        "queue/data?session_hash=gone",
        "heartbeat/gone",
        "upload_progress?upload_id=gone",
        "file=/tmp/gone.png",
    ):
        with socket.create_connection(server.place, timeout=20) as page:
            page.sendall(f"GET /gradio_api/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            page.recv(2**16)
    for path in ("queue/join", "api/gone", "call/gone", "component_server"):
        status, _ = server.ask(f"/gradio_api/{path}", {"data": [], "fn_index": 10**6, "session_hash": "gone"})
        assert 400 <= status < 500, path
    server.process.send_signal(signal.SIGTERM)
    code, said = server.wait()
    assert code == 0 and "Traceback" not in said and said.count("\n") <= 10, said


@pytest.mark.long
def test_an_open_page_does_not_hold_up_the_end(start):
    server = start()
    with urllib.request.urlopen(server.address + "/gradio_api/heartbeat/someone", timeout=30) as beat:
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == (0, "")
        assert time.monotonic() - begun < 8 and beat.status == 200
