"""The web application, and the server process."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from nextscale import __version__
from nextscale.errors import InputError
from nextscale.web import errors
from nextscale.web.api import make_router
from nextscale.web.body import BodyLimit
from nextscale.web.connections import ACCEPTED_AT_ONCE, Connections, affordable
from nextscale.web.cors import OwnPages
from nextscale.web.engine import Engine
from nextscale.web.guard import Guard
from nextscale.web.known_routes import KnownRoutes
from nextscale.web.metrics import CountRequests, Metrics
from nextscale.web.request_id import HEADER
from nextscale.web.request_log import RequestLog
from nextscale.web.upload_quota import UploadQuota

log = logging.getLogger(__name__)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BACKLOG = 2048
"""Connections that the system holds until the server accepts them."""
LAST_WRITES_SECONDS = 5
"""Seconds for responses to reach their clients after the engine is closed."""
TICKS_PER_SECOND = 10
"""How often uvicorn calls `Server.on_tick`."""


def build_app(
    engine: Engine,
    key: str | None = None,
    hosts: Collection[str] | None = None,
    cors_origins: Sequence[str] = (),
    scales: str = "",
    folder: Path | None = None,
) -> FastAPI:
    """Build the HTTP API of an engine.

    Args:
        key: API key that every route except ``/healthz`` requires; None requires no key.
        hosts: accepted host names; None accepts all.
        cors_origins: other origins whose pages may call the API, such as ``https://example.com``.
        scales: value of ``--scales``, for .pth files with an unofficial schedule.
        folder: folder of the studio's uploads, if there is a studio.
    """
    app = FastAPIOffline(
        docs_url="/docs", redoc_url=None, static_url="/docs/assets", title="nextscale", version=__version__
    )
    errors.install(app)
    app.add_middleware(KnownRoutes, api=app)
    metrics = Metrics()
    metrics.watch(engine)
    routers = (make_router(engine, scales), metrics.router())
    for router in routers:
        app.include_router(router)
    routes = [route.path_format for router in routers for route in router.routes if isinstance(route, APIRoute)]
    if folder is not None:
        app.add_middleware(UploadQuota, folder=folder, limits=engine.limits)
    app.state.drained = threading.Event()
    app.add_middleware(BodyLimit, engine=engine, drained=app.state.drained)
    app.add_middleware(Guard, key=key, hosts=hosts)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[HEADER, "Retry-After"],
        )
    app.add_middleware(OwnPages, origins=frozenset(cors_origins))
    app.add_middleware(CountRequests, metrics=metrics, routes=frozenset(routes))
    app.add_middleware(RequestLog)
    return app


class Server(uvicorn.Server):
    """Server that, on SIGTERM or SIGINT, finishes running requests within the drain time and answers new ones with 503.

    The process then exits with code 0. After a second signal, running requests are also answered with 503. A third
    signal stops the server at once. ``on_ready`` is called when the server accepts requests and handles signals.

    Raises:
        InputError: the system's limit of open files is too low.
    """

    def __init__(self, app: FastAPI, engines: Sequence[Engine], on_ready: Callable[[], None]):
        limits = engines[0].limits
        self.connections = Connections(affordable(limits.connections), limits.idle_seconds)
        super().__init__(
            uvicorn.Config(
                app,
                http=self.connections.open,  # type: ignore[arg-type]  # uvicorn only calls it
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                backlog=ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=LAST_WRITES_SECONDS,
            )
        )
        self.engines, self.on_ready, self.drained = engines, on_ready, app.state.drained
        self.signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            asyncio.get_running_loop().set_exception_handler(self.report)
            for listener in sockets or ():
                listener.listen(BACKLOG)  # uvicorn's backlog is also the number of connections to accept at once
            self.on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_SECOND == 0:
            self.connections.sweep(self.server_state.connections)
        return await super().on_tick(counter)

    def report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of the event loop. If no file is left for a new connection, close one that waits."""
        if "accept()" in context.get("message", ""):
            self.connections.close_one(self.server_state.connections)
            log.error("no file is left for a new connection, which waits: see --connections and ulimit -n")
        else:
            loop.default_exception_handler(context)

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
    """Open a listening socket. Port 0 chooses a free port.

    Raises:
        InputError: the port is in use or not allowed, or the address does not exist.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"port must be a number from 0 to 65535, not {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise InputError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    listener.set_inheritable(True)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a socket, such as ``http://127.0.0.1:8000``."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to the host."""
    try:
        return host in LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    app: FastAPI, engines: Sequence[Engine], listener: socket.socket, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until a signal arrives, then close the engines.

    Args:
        on_ready: called when the server accepts requests and handles signals.
    """
    try:
        Server(app, engines, on_ready).run(sockets=[listener])
    finally:
        close(engines)


def close(engines: Sequence[Engine], drain_seconds: float | None = None) -> None:
    """Close several engines at the same time, each within its own drain time or a given one."""
    threads = [threading.Thread(target=engine.close, args=[drain_seconds]) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
