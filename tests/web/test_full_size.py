"""Edits of the API with ``fit`` and ``full_size``."""

from __future__ import annotations

import base64
import gc
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tiny_web import pixels, png

import nextscale as ns
from nextscale.provenance import read_provenance
from nextscale.web.full_size import REQUESTS, PixelRoom
from nextscale.web.server import build_app
from nextscale.web.tickets import Busy

PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 20, 3), dtype=np.uint8))
BOX = "0,0,0.5,1"


def edit(client: TestClient, photo: Image.Image = PHOTO, **fields: Any) -> Any:
    data = {"box": BOX, "seed": 3, **fields}
    upload = {"image": ("photo.png", png(photo), "image/png")}
    return client.post("/v1/images/edits", files=upload, data={name: str(value) for name, value in data.items()})


def opened(entry: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(entry["b64_json"])))


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"fit": "pad"}, "5x8"),
        ({"full_size": "true"}, "20x30"),
        ({"fit": "pad", "full_size": "true", "softness": "2"}, "20x30"),
        ({"fit": "pad", "composite": "false"}, "5x8"),
        ({"box": "", "scales_kept": "2", "fit": "pad"}, "5x8"),
    ],
)
def test_edits_are_those_of_the_pipeline(client, pipeline, tmp_path, fields, size):
    plain = ns.Pipeline(pipeline.tokenizer, pipeline.model, pipeline.class_names)
    given = {name: value for name, value in fields.items() if value}
    body = edit(client, n=2, **given) if "scales_kept" not in fields else keep_scales(client, **given)
    response = body.json()
    options: Any = {"fit": fields.get("fit", "crop"), "num_images": 2, "seed": [3, 4]}
    if "scales_kept" in fields:
        expected = plain.continue_from(PHOTO, 2, **options)
    else:
        changes = {"full_size": "full_size" in fields, "composite": fields.get("composite") != "false"}
        expected = plain.edit(
            PHOTO, box=(0, 0, 0.5, 1), softness=float(fields.get("softness", 0)), **options, **changes
        )
    assert response["size"] == size and pixels([opened(entry) for entry in response["data"]]) == pixels(expected.images)
    (tmp_path / "a.png").write_bytes(base64.b64decode(response["data"][0]["b64_json"]))
    made = read_provenance(tmp_path / "a.png")
    assert made.edit is not None and made.edit.spec.fit == fields.get("fit", "crop")


def keep_scales(client: TestClient, **fields: Any) -> Any:
    upload = {"image": ("photo.png", png(PHOTO), "image/png")}
    return client.post("/v1/images/edits", files=upload, data={"n": "2", "seed": "3", **fields})


def test_kept_pixels_are_those_of_the_photo(client):
    (entry,) = edit(client, full_size="true").json()["data"]
    before, after = np.asarray(PHOTO), np.asarray(opened(entry))
    changed = (before != after).any(-1)
    assert changed.any() and not changed[15:].any() and not changed[:5].any()


def test_partial_images_have_the_model_s_size(client):
    text = edit(client, full_size="true", stream="true", partial_images=2).text
    found = [json.loads(block.split("\ndata: ")[1]) for block in text.strip().split("\n\n")]
    assert [event["size"] for event in found] == ["8x8", "8x8", "20x30"]
    assert [opened(event).size for event in found] == [(8, 8), (8, 8), (20, 30)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fit": "stretch"}, "fit"),
        ({"full_size": "maybe"}, "full_size"),
        ({"full_size": "true", "composite": "false"}, "cannot be combined with composite=False"),
    ],
)
def test_bad_fields(client, fields, words):
    response = edit(client, **fields)
    assert response.status_code == 400 and words in response.json()["error"]["message"]


def test_results_are_bounded(start):
    client = TestClient(build_app(start(upload_pixels=1000)))
    assert edit(client, full_size="true", n=1).status_code == 200
    response = edit(client, full_size="true", n=2)
    assert response.status_code == 400 and response.json()["error"]["param"] == "full_size"
    assert "2 images of 20 x 30 pixels are too large: expected at most 1,000" in response.json()["error"]["message"]
    assert edit(client, n=2).status_code == 200


def test_photos_in_the_queue_are_bounded(start, hold, monkeypatch):
    """Each request holds its photo until its result is pasted in."""
    rooms: list[PixelRoom] = []
    monkeypatch.setattr("nextscale.web.api.PixelRoom", lambda most: rooms.append(PixelRoom(most)) or rooms[-1])
    app = build_app(start(upload_pixels=600))
    with TestClient(app) as client, ThreadPoolExecutor(REQUESTS) as threads, hold():
        waiting = [threads.submit(edit, client, full_size="true") for _ in range(REQUESTS)]
        end = time.monotonic() + 20
        while rooms[0].held < REQUESTS * 600 and time.monotonic() < end:
            time.sleep(0.01)
        response = edit(client, full_size="true")
        assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
        assert "2,400 pixels are edited at full size, and this one has 600" in response.json()["error"]["message"]
    assert [response.result().status_code for response in waiting] == [200] * REQUESTS
    gc.collect()
    assert rooms[0].held == 0


def test_room_is_given_back_with_the_owner():
    class Owner:
        pass

    room, owners = PixelRoom(10), [Owner(), Owner()]
    room.hold(owners[0], 4)
    room.hold(owners[1], 6)
    with pytest.raises(Busy, match="10 pixels are edited at full size, and this one has 1: expected at most 10 in all"):
        room.hold(Owner(), 1)
    assert room.held == 10
    del owners[0]
    gc.collect()
    assert room.held == 6
    room.hold(owners[0], 4)
