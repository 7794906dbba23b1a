"""Requests of other web pages get a 403, and no permission to read."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from tiny_web import png

from nextscale.web.cors import OwnPages, is_own
from nextscale.web.server import build_app

HERE = "http://testserver"
FOREIGN = [
    "https://evil.example",
    "http://localhost:3000",
    "http://testserver:81",
    "https://testserver.evil.example",
    "null",
    "",
    "file://",
    "testserver",
    "http://testserver@evil.example",
]
IMAGE = png(Image.new("RGB", (8, 8)))
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def studio(start) -> TestClient:
    pytest.importorskip("gradio", reason="needs the serve extra")
    from nextscale.web.studio.studio import build_studio, mount_studio

    app = build_app(start())
    mount_studio(app, build_studio(start()), "/")
    return TestClient(app, raise_server_exceptions=False)


def forbidden(response: Any) -> bool:
    no_word = not any(name.startswith("access-control-") for name in response.headers)
    return response.status_code == 403 and response.json()["error"]["code"] == "forbidden" and no_word


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_origins(studio, origin):
    headers = {"Origin": origin}
    assert forbidden(studio.get("/", headers=headers)) and forbidden(studio.get("/v1/models", headers=headers))
    body = {"data": [], "fn_index": 0, "session_hash": "s"}
    assert forbidden(studio.post("/gradio_api/queue/join", json=body, headers=headers))
    assert forbidden(studio.post("/gradio_api/upload", files={"files": IMAGE}, headers=headers))
    files, box = {"image": IMAGE}, {"box": "0,0,1,1"}
    assert forbidden(studio.post("/v1/images/edits", files=files, data=box, headers=headers))
    for path in ("/v1/images/generations", "/gradio_api/queue/join", "/"):
        assert forbidden(studio.options(path, headers={**headers, "Access-Control-Request-Method": "POST"}))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_without_origin_that_another_page_makes(studio, site):
    headers = {"Sec-Fetch-Site": site}
    assert forbidden(
        studio.get("/metrics", headers={**headers, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"})
    )
    assert forbidden(studio.post("/v1/images/edits", headers={**headers, **NAVIGATION}))
    assert forbidden(studio.get("/", headers={**headers, **NAVIGATION, "Sec-Fetch-Dest": "iframe"}))
    assert forbidden(studio.get("/gradio_api/queue/data?session_hash=s", headers={**headers, **NAVIGATION}))
    assert studio.get("/", headers={**headers, **NAVIGATION}).status_code == 200  # a link


def test_its_own_page(studio):
    for headers in ({"Origin": HERE}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        response = studio.post("/v1/images/generations", json={"prompt": "hat"}, headers=headers)
        assert response.status_code == 200
    page = studio.get("/config", headers={"Origin": HERE})
    assert page.status_code == 200 and not any(name.startswith("access-control-") for name in page.headers)


def test_with_an_origin_that_may_gradio_allows_no_other(start):
    app = build_app(start(), key="k", cors_origins=["https://a.example"])
    client = TestClient(app)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-stainless-os"}
    allowed = client.options("/v1/images/generations", headers={"Origin": "https://a.example", **asked})
    assert allowed.status_code == 200 and "x-stainless-os" in allowed.headers["access-control-allow-headers"]
    assert forbidden(client.options("/v1/images/generations", headers={"Origin": "https://b.example", **asked}))


def test_all_may(start):
    client = TestClient(build_app(start(), cors_origins=["*"]))
    response = client.get("/v1/models", headers={"Origin": "https://b.example", "Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 200 and response.headers["access-control-allow-origin"] == "*"


def test_what_is_inside_allows_nothing():
    app = FastAPI()
    app.add_api_route("/", lambda: "hello")

    @app.middleware("http")
    async def allow(request: Any, go_on: Any) -> Any:
        response = await go_on(request)
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    assert "access-control-allow-origin" in TestClient(app).get("/").headers
    assert "access-control-allow-origin" not in TestClient(OwnPages(app, ())).get("/").headers


@pytest.mark.parametrize(
    "origin, host, expected",
    [
        ("http://a:80", "a", True),
        ("https://a", "a:443", True),
        ("HTTP://A:8000", "a:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://a:8000", "a", False),
        ("https://a:80", "a", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("http://", "", False),
    ],
)
def test_the_same_host_and_port(origin, host, expected):
    assert is_own(origin, host) == expected
