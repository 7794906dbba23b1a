"""The page that describes the API: Swagger UI, from this server alone."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient

from nextscale.web.server import build_app


def test_the_page_needs_no_other_server(client):
    page = client.get("/docs")
    assert page.status_code == 200 and "SwaggerUIBundle" in page.text and "/openapi.json" in page.text
    assert not re.findall(r"https?://", page.text)
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) >= 3
    for path in assets:
        assert client.get(path).status_code == 200, path


def test_the_page_asks_for_the_key(start):
    client = TestClient(build_app(start(), key="k"))
    for path in ("/docs", "/docs/assets/swagger-ui.css"):
        assert client.get(path).status_code == 401
        assert client.get(path, auth=("anyone", "k")).status_code == 200
