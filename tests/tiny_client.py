"""Requests of a client of the API, and what it reads from the answers."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image
from tiny_web import pixels, png

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
RED = png(Image.new("RGB", (20, 20), (200, 30, 30)))


def ask(client: TestClient, **body: Any) -> Any:
    return client.post(GENERATE, json={"prompt": "hat", **body})


def edit(client: TestClient, files: Any = None, **fields: Any) -> Any:
    uploads = {name: (f"{name}.png", data, "image/png") for name, data in (files or {"image": RED}).items()}
    return client.post(EDIT, files=uploads, data={name: str(value) for name, value in fields.items()})


def opened(entry: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(entry["b64_json"])))


def generated(response: Any) -> list[bytes]:
    assert response.status_code == 200, response.text
    return pixels([opened(entry) for entry in response.json()["data"]])


def refusal(response: Any, status: int) -> dict[str, Any]:
    """What a refusal says, which always has the same form."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"] and list(body["error"]) == ["message", "type", "code", "param", "request_id"]
    assert body["error"]["request_id"] == response.headers["X-Request-Id"] != ""
    assert "\n" not in body["error"]["message"] and "Traceback" not in response.text
    return body["error"]


def events(text: str) -> list[dict[str, Any]]:
    """The data of server-sent events, whose names agree with it."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found
