"""A tiny model, an engine whose sampling can be paused, and a client of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from tiny import SCHEDULES, make_tokenizer, make_var
from tiny_web import CLASSES, HeldPipeline

pytest.importorskip("fastapi", reason="needs the serve extra")

from fastapi.testclient import TestClient

from nextscale.web.engine import Engine
from nextscale.web.limits import Limits
from nextscale.web.server import build_app


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
