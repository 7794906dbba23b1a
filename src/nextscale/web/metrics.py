"""Figures for Prometheus: requests, queue, batches, seconds."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web.engine import BatchReport, Engine

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Figures of one server. Its registry is its own: several servers in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"nextscale_{name}", what, registry=self.registry, buckets=buckets)

        self.requests = Counter(
            "nextscale_requests", "HTTP requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.queue = Gauge("nextscale_queue_images", "Images that wait", registry=self.registry)
        self.images = Counter("nextscale_images", "Images drawn", registry=self.registry)
        self.batches = histogram("batch_images", "Images drawn at once", IMAGES)
        self.waiting = histogram("waiting_seconds", "From a request's arrival to its batch", SECONDS)
        self.drawing = histogram("drawing_seconds", "Drawing a batch", SECONDS)

    def watch(self, engine: Engine) -> None:
        """Measure an engine."""
        self.queue.set_function(lambda: engine.waiting)
        engine.on_batch = self.add_batch

    def add_batch(self, report: BatchReport) -> None:
        self.images.inc(report.images)
        self.batches.observe(report.images)
        self.drawing.observe(report.seconds)
        for seconds in report.waited:
            self.waiting.observe(seconds)

    def router(self) -> APIRouter:
        router = APIRouter()

        @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
        def metrics() -> Response:
            """For Prometheus."""
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return router


class CountRequests:
    """Counts answers by route, method and status. Paths that are no route of the API count together."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]):
        self.app, self.metrics, self.routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        route = scope["path"] if scope["path"] in self.routes else "other"
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(route, method, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted)
