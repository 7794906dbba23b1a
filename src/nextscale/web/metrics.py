"""Prometheus metrics: requests, queue, batches and times."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web.engine import BatchReport, Engine

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of one server, in their own registry, so that several servers can run in a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"nextscale_{name}", what, registry=self.registry, buckets=buckets)

        self.requests = Counter(
            "nextscale_requests",
            "HTTP requests by route, method and status",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.queue = Gauge("nextscale_queue_images", "Images waiting in the queue", registry=self.registry)
        self.images = Counter("nextscale_images", "Images generated", registry=self.registry)
        self.batches = histogram("batch_images", "Images per batch", IMAGES)
        self.waiting = histogram(
            "queue_seconds", "Time from the arrival of a request to the start of its batch", SECONDS
        )
        self.sampling = histogram("sampling_seconds", "Time to sample and decode a batch", SECONDS)

    def watch(self, engine: Engine) -> None:
        """Collect the metrics of an engine."""
        self.queue.set_function(lambda: engine.waiting)
        engine.on_batch = self.add_batch

    def add_batch(self, report: BatchReport) -> None:
        self.images.inc(report.images)
        self.batches.observe(report.images)
        self.sampling.observe(report.seconds)
        for seconds in report.waited:
            self.waiting.observe(seconds)

    def router(self) -> APIRouter:
        router = APIRouter()

        @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
        def metrics() -> Response:
            """Return the metrics in the Prometheus text format."""
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return router


class CountRequests:
    """Middleware that counts responses by route, method and status. Paths outside the API count as "other"."""

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
