"""A tiny model, an engine whose sampling can be paused, and a client of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Event, Thread
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")

from fastapi.testclient import TestClient
from tiny import SCHEDULES, make_tokenizer, make_var
from tiny_web import CLASSES, HeldPipeline, Served

from nextscale.web.engine import Engine
from nextscale.web.limits import Limits
from nextscale.web.server import Server, address_of, build_app, open_socket


@pytest.fixture
def pipeline() -> HeldPipeline:
    """Images of 8 x 8 pixels in 4 scales."""
    schedule = SCHEDULES["square"]
    return HeldPipeline(make_tokenizer(schedule), make_var(schedule), CLASSES)


@pytest.fixture
def start(pipeline) -> Iterator[Callable[..., Engine]]:
    """``start(queue_images=3)``: an engine with other limits than the default ones; closed after the test.

    One worker, unless told otherwise, so that what waits goes into one batch on machines with many cores, too.
    """
    engines: list[Engine] = []

    def make(workers: int = 1, seed: int | None = None, **limits: Any) -> Engine:
        engines.append(Engine(pipeline, "tiny", Limits(**limits), workers=workers, seed=seed))
        return engines[-1]

    yield make
    pipeline.go.set()
    for engine in engines:
        engine.close(0)


@pytest.fixture
def hold(pipeline) -> Callable[[], AbstractContextManager[None]]:
    """``with hold():`` nothing is drawn inside, so that requests wait."""

    @contextmanager
    def held() -> Iterator[None]:
        pipeline.go.clear()
        try:
            yield
        finally:
            pipeline.go.set()

    return held


@pytest.fixture
def client(start) -> TestClient:
    return TestClient(build_app(start()), raise_server_exceptions=False)


@pytest.fixture
def served(start) -> Iterator[Callable[..., Served]]:
    """``served(seconds=3, key="s")``: a server on a free port, in a thread; stopped after the test."""
    with ExitStack() as stack:

        def run(key: str | None = None, **limits: Any) -> Served:
            engine, ready = start(**limits), Event()
            listener = stack.enter_context(open_socket("127.0.0.1", 0))
            server = Server(build_app(engine, key), [engine], on_ready=ready.set)
            thread = Thread(target=server.run, args=([listener],))
            address = address_of(listener)
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(20)

            stack.callback(stop)
            assert ready.wait(20)
            return Served(address, server)

        yield run
