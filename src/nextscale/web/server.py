"""The application, and the process that serves it."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from nextscale import __version__
from nextscale.errors import InputError
from nextscale.web import errors
from nextscale.web.api import make_router
from nextscale.web.cors import OwnPages
from nextscale.web.engine import Engine
from nextscale.web.guard import BodyLimit, Guard
from nextscale.web.metrics import CountRequests, Metrics
from nextscale.web.upload_quota import Space

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LAST_WRITES_SECONDS = 5
"""After the engine is closed, how long answers may take to reach their clients."""


def build_app(
    engine: Engine,
    key: str | None = None,
    hosts: Collection[str] | None = None,
    cors_origins: Sequence[str] = (),
    scales: str = "",
    folder: Path | None = None,
) -> FastAPI:
    """The API over an engine.

    Args:
        key: what every route but ``/healthz`` asks for; None for none.
        hosts: names that the server goes by; None for any.
        cors_origins: web pages elsewhere that may use the API, such as ``https://example.com``.
        scales: the schedule that the model was loaded with, if it does not know its own.
        folder: where the studio's uploads lie, if there is one.
    """
    app = FastAPI(title="nextscale", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)
    metrics = Metrics()
    metrics.watch(engine)
    for router in (make_router(engine, scales), metrics.router()):
        app.include_router(router)
    if folder is not None:
        app.add_middleware(Space, folder=folder, limits=engine.limits)
    app.state.drained = threading.Event()
    app.add_middleware(BodyLimit, engine=engine, drained=app.state.drained)
    app.add_middleware(Guard, key=key, hosts=hosts)
    if cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=cors_origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(OwnPages, origins=frozenset(cors_origins))
    app.add_middleware(CountRequests, metrics=metrics, routes=frozenset(app.openapi()["paths"]))
    return app


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT, what is at work is finished, within the engines' drain time, while newcomers get a 503.

    Then the process leaves with exit code 0. At a second signal, what is at work gets a 503, too; a third one does not
    even wait for that. ``on_ready`` is called when all this holds.
    """

    def __init__(self, app: FastAPI, engines: Sequence[Engine], on_ready: Callable[[], None]):
        super().__init__(
            uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=LAST_WRITES_SECONDS, lifespan="on"
            )
        )
        self.engines, self.on_ready, self.drained = engines, on_ready, app.state.drained
        self.signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.signals += 1
        if self.signals > 2:
            self.should_exit = self.force_exit = True
            return
        drain_seconds = None if self.signals == 1 else 0.0
        threading.Thread(target=self._drain, args=[drain_seconds], name="nextscale-drain", daemon=True).start()

    def _drain(self, seconds: float | None) -> None:
        close(self.engines, seconds)
        self.drained.set()
        self.should_exit = True


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is a free one.

    Raises:
        InputError: the port is taken or not allowed, or there is no such address.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"a port is a number from 0 to 65535, not {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise InputError(f"cannot serve at {host}, port {port}: {error.strerror or error}") from error
    listener.set_inheritable(True)
    return listener


def address_of(listener: socket.socket) -> str:
    """``http://127.0.0.1:8000``."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return host in LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    app: FastAPI, engines: Sequence[Engine], listener: socket.socket, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Until a signal comes. The engines are closed then.

    Args:
        on_ready: called when requests are answered and signals heeded.
    """
    try:
        Server(app, engines, on_ready).run(sockets=[listener])
    finally:
        close(engines)


def close(engines: Sequence[Engine], drain_seconds: float | None = None) -> None:
    """Several engines at once, each within its own drain time or a given one."""
    threads = [threading.Thread(target=engine.close, args=[drain_seconds]) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
