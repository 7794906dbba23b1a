"""Routes, methods and limits of the API."""

from __future__ import annotations

import threading
import time

import pytest
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from tiny_client import EDIT, GENERATE, ask, events, refusal

from nextscale.web.engine import Engine
from nextscale.web.limits import Limits
from nextscale.web.server import build_app


@pytest.fixture(params=["alone", "beside a page"])
def either(request, start) -> TestClient:
    """The API, without and with a page that takes all other paths."""
    app = build_app(start())
    if request.param == "beside a page":
        app.mount("/", lambda scope, receive, send: PlainTextResponse("a page")(scope, receive, send))
    return TestClient(app)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/images", "/v1/images/generations/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_routes(either, path, method):
    assert refusal(either.request(method, path), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    "path, allowed",
    [
        (GENERATE, "POST"),
        (EDIT, "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/models/tiny", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ],
)
def test_unknown_methods(either, path, allowed):
    for method in {"GET", "POST", "PUT", "DELETE", "OPTIONS", "PAINT"} - set(allowed.split(", ")):
        response = either.request(method, path)
        assert refusal(response, 405)["code"] == "method_not_allowed"
        assert response.headers["Allow"] == allowed
    assert either.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/healthz", "/metrics", "/openapi.json", "/docs"])
def test_head_is_get_without_a_body(either, path):
    head, get = either.head(path), either.get(path)
    assert head.status_code == get.status_code == 200 and not head.content
    assert head.headers["Content-Type"] == get.headers["Content-Type"] and int(head.headers["Content-Length"]) > 0


def test_head_of_what_is_missing(either):
    assert either.head("/v1/nothing").status_code == 404 and either.head("/v1/models/other").status_code == 404
    assert either.head(GENERATE).status_code == 405


def test_a_page_has_the_other_paths(start):
    app = build_app(start())
    assert refusal(TestClient(app).get("/v2"), 404)
    app.mount("/", PlainTextResponse("a page"))
    for path in ("/", "/v2", "/v1x", "/assets/v1/a.js"):
        assert TestClient(app).get(path).text == "a page"


def test_the_description_tells_of_our_own_refusals(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert "ErrorBody" in schemas and not [name for name in schemas if "Validation" in name]


def test_models(client, pipeline):
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["size"]) == ("tiny", "model", "8x8")
    assert (model["takes"], model["sizes"]) == ("class", ["8x8"])
    assert model["classes"] == pipeline.class_names and model["scales"] == ["1x1", "2x2", "3x3", "4x4"]


def test_one_model(start, pipeline):
    client = TestClient(build_app(start()))
    assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]
    error = refusal(client.get("/v1/models/runs/var"), 404)
    assert error["message"] == "no model 'runs/var' is served here: expected 'tiny'" and error["param"] == "model"
    engine = Engine(pipeline, "FoundationVision/var:d16", Limits())
    named = TestClient(build_app(engine))
    assert named.get("/v1/models/FoundationVision/var:d16").json()["id"] == "FoundationVision/var:d16"
    engine.close(0)


def test_health_follows_the_engine(start):
    engine = start()
    client = TestClient(build_app(engine))
    assert client.get("/healthz").json() == {"status": "ready", "waiting": 0}
    engine.close()
    response = client.get("/healthz")
    assert response.status_code == 503 and response.json()["status"] == "shutting down"
    error = refusal(ask(client), 503)
    assert error["type"] == "server_error" and "shutting down" in error["message"]


def test_metrics(client):
    ask(client, n=3)
    ask(client, n=0)
    client.get("/v1/models/../../etc")
    text = client.get("/metrics").text
    for line in (
        f'nextscale_requests_total{{method="POST",route="{GENERATE}",status="200"}} 1.0',
        f'nextscale_requests_total{{method="POST",route="{GENERATE}",status="400"}} 1.0',
        'nextscale_requests_total{method="GET",route="other",status="404"} 1.0',
        "nextscale_images_total 3.0",
        'nextscale_batch_images_bucket{le="2.0"} 0.0',
        'nextscale_batch_images_bucket{le="4.0"} 1.0',
        "nextscale_queue_seconds_count 1.0",
        "nextscale_sampling_seconds_count 1.0",
        "nextscale_queue_images 0.0",
    ):
        assert line in text, line


def test_a_full_queue_says_when_to_try_again(start, pipeline, hold):
    client = TestClient(build_app(start(queue_images=2)))
    with hold():
        threads = [threading.Thread(target=ask, args=(client,), kwargs={"n": 2}) for _ in range(2)]
        threads[0].start()
        assert pipeline.begun.wait(10)
        threads[1].start()
        while client.get("/healthz").json()["waiting"] < 2:
            time.sleep(0.01)
        response = ask(client)
        assert refusal(response, 429)["type"] == "rate_limit_error"
        assert int(response.headers["Retry-After"]) >= 1
        assert client.get("/metrics").text.count("nextscale_queue_images 2.0") == 1
    for thread in threads:
        thread.join(10)
    assert ask(client).status_code == 200


def test_the_time_limit(start, hold):
    client = TestClient(build_app(start(seconds=0.2)))
    with hold():
        assert "time limit of 0.2 s" in refusal(ask(client), 504)["message"]
        (event,) = events(ask(client, stream=True).text)
        assert event["error"]["code"] == "time_limit"


def test_a_failure_is_not_a_traceback(client, pipeline, caplog):
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable")
    error = refusal(ask(client), 500)
    assert error["type"] == "server_error" and "cable" not in error["message"]
    pipeline.trouble = lambda seeds: None
    assert ask(client).status_code == 200


def test_a_mistake_of_ours_is_not_a_traceback_either(client, monkeypatch):
    monkeypatch.setattr("nextscale.web.api.wanted_of", lambda *_: 1 / 0)
    assert "ZeroDivision" not in refusal(ask(client), 500)["message"]


@pytest.mark.parametrize(
    "seed, n, status", [(2**53 - 1, 1, 200), (2**53 - 2, 2, 200), (2**53 - 1, 2, 400), (-1, 1, 400)]
)
def test_seeds_are_what_javascript_can_count_to(client, seed, n, status):
    response = client.post("/v1/images/generations", json={"prompt": "hat", "seed": seed, "n": n})
    assert response.status_code == status
    if status == 200:
        assert [image["seed"] for image in response.json()["data"]] == list(range(seed, seed + n))
