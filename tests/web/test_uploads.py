"""Hostile uploads: each gets images or one sentence, and the server keeps running."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tiny_web import png

from nextscale.web.server import build_app

EDIT = "/v1/images/edits"
IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8))
PNG = png(IMAGE)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *more: bytes, pixels: bytes = b"") -> bytes:
    """A PNG that claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def frames(kind: str) -> bytes:
    colours = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    return png(colours[0], kind, save_all=True, append_images=colours[1:], duration=50)


def exif() -> bytes:
    data = Image.Exif()
    data[0x0112] = 6
    return data.tobytes()


GIF_OF_65535 = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + bytes(9) + b"\x02\x01\x00\x00;"
BMP_OF_2_31 = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)

ACCEPTED = {
    "PNG": PNG,
    "JPEG": png(IMAGE, "JPEG"),
    "WebP": png(IMAGE, "WEBP"),
    "BMP": png(IMAGE, "BMP"),
    "GIF": png(IMAGE, "GIF"),
    "CMYK": png(IMAGE.convert("CMYK"), "JPEG"),
    "16 bit": png(Image.fromarray(np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16))),
    "grey": png(IMAGE.convert("L")),
    "black and white": png(IMAGE.convert("1")),
    "palette": png(IMAGE.convert("P")),
    "palette with transparency": png(IMAGE.convert("P"), transparency=3),
    "grey and alpha": png(IMAGE.convert("LA")),
    "animated GIF": frames("GIF"),
    "animated PNG": frames("PNG"),
    "animated WebP": frames("WEBP"),
    "turned": png(IMAGE, "JPEG", exif=exif()),
    "one pixel": png(Image.new("RGB", (1, 1), "red")),
    "PNG and ZIP": PNG + b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + bytes(18),
    "PNG and page": PNG + b"<script>alert(1)</script>",
    "GIF and script": png(IMAGE, "GIF") + b"/*<?php system($_GET['c']); ?>*/",
}

REFUSED = {
    "empty": (b"", "not an image"),
    "text": (b"a dress, please", "not an image"),
    "page": (b"<html><body>404</body></html>", "not an image"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "not an image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "not an image"),
    "PDF": (b"%PDF-1.4\n", "not an image"),
    "TIFF": (png(IMAGE, "TIFF"), "not an image"),
    "ICO": (png(IMAGE, "ICO"), "not an image"),
    "ZIP": (b"PK\x03\x04" + bytes(50), "not an image"),
    "program": (b"\x7fELF" + bytes(100), "not an image"),
    "zeros": (bytes(5000), "not an image"),
    "signature alone": (b"\x89PNG\r\n\x1a\n", ""),
    "truncated PNG": (PNG[: len(PNG) // 2], "not a complete image"),
    "truncated JPEG": (png(IMAGE, "JPEG")[:-200], "not a complete image"),
    "truncated GIF": (png(IMAGE, "GIF")[:900], "not a complete image"),
    "truncated WebP": (png(IMAGE, "WEBP")[:100], ""),
    "damaged PNG": (PNG[:60] + b"\x00\xff\x00\xff" + PNG[64:], "not a complete image"),
    "30,000 pixels square": (png_of(30_000, 30_000), "at most 25,000,000"),
    "5,001 pixels square": (png_of(5_001, 5_001), "at most 25,000,000"),
    "2^31 pixels square": (png_of(2**31 - 1, 2**31 - 1), ""),
    "no pixels": (png_of(0, 0), "not"),
    "GIF of 65,535 pixels square": (GIF_OF_65535, ""),
    "BMP of 2^31 pixels square": (BMP_OF_2_31, ""),
    "a bomb of pixels": (png_of(20_000, 20_000, pixels=bytes(2_000_000)), ""),
    "a bomb of text": (
        png_of(8, 8, *[chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(60 * 2**20)))] * 3),
        "not a complete image",
    ),
    "a bomb of colours": (png_of(8, 8, chunk(b"iCCP", b"a\x00\x00" + zlib.compress(bytes(90 * 2**20)))), ""),
    "too narrow": (png(Image.new("RGB", (3000, 2))), ""),
}


def send(client: TestClient, image: bytes, mask: bytes | None = None, name: str = "image.png", **fields: str) -> Any:
    files = {"image": (name, image, "image/png"), **({"mask": ("mask.png", mask)} if mask is not None else {})}
    return client.post(EDIT, files=files, data=fields if mask is not None else {"box": "0,0,1,0.5", **fields})


def test_what_is_refused_gets_one_sentence(client):
    for what, (data, words) in REFUSED.items():
        for response in (send(client, data), send(client, PNG, mask=data)):
            assert response.status_code == 400, f"{what}: {response.text}"
            message = response.json()["error"]["message"]
            assert words in message, f"{what}: {message}"
            assert "\n" not in message and "0x" not in message and "Traceback" not in message
    assert send(client, PNG).status_code == 200


def test_what_is_a_image_is_taken(client):
    for what, data in ACCEPTED.items():
        response = send(client, data)
        assert response.status_code == 200, f"{what}: {response.text}"


def test_of_an_animated_image_the_first_frame_is_edited(client):
    still, moving = (
        Image.open(io.BytesIO(base64.b64decode(send(client, data, seed="1").json()["data"][0]["b64_json"])))
        for data in (png(Image.new("RGB", (20, 20), "red")), frames("PNG"))
    )
    assert still.tobytes() == moving.tobytes() and still.getpixel((7, 7)) == (255, 0, 0)


def test_nothing_of_a_file_but_its_image_comes_back(client):
    entry = send(client, ACCEPTED["PNG and page"], seed="1").json()["data"][0]
    assert b"script" not in base64.b64decode(entry["b64_json"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00b.png", "ünï.png", "x" * 3000, "\r\nX-Evil: 1", '";', ""])
def test_names_of_files_are_only_names(client, name):
    response = send(client, PNG, name=name)
    assert response.status_code == (200 if name else 400), response.text
    assert len(response.content) < 5000


def test_pixels_are_counted_before_they_are_decoded(start, monkeypatch):
    client = TestClient(build_app(start(upload_pixels=399)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    message = send(client, PNG).json()["error"]["message"]
    assert message == "image has 20 x 20 pixels: expected at most 399"


def test_a_field_that_comes_twice_is_refused(client):
    files = [("image", ("a.png", PNG, "image/png")), ("image", ("b.png", PNG, "image/png"))]
    response = client.post(EDIT, files=files, data={"box": "0,0,1,0.5"})
    assert response.status_code == 400 and response.json()["error"]["param"] == "image"
    assert response.json()["error"]["message"] == "image is given 2 times: expected once"


def test_an_upload_has_a_size(start):
    client = TestClient(build_app(start(upload_bytes=10_000)))
    assert send(client, PNG).status_code == 200
    response = send(client, PNG + bytes(10_000))
    assert response.status_code == 413 and "10,000 bytes" in response.json()["error"]["message"]
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + bytes(20_000)
    parts = (form[i : i + 1000] for i in range(0, len(form), 1000))  # its size is not announced
    response = client.post(EDIT, content=parts, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status_code == 413


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"),
        ("multipart/form-data; boundary=b", b"no boundary at all"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n\xff\xfe'),
        ("multipart/form-data; boundary=" + "b" * 300, b"--" + b"b" * 300),
        ("application/json", b'{"image": "x"}'),
        ("application/x-www-form-urlencoded", b"image=x&box=0,0,1,1"),
        ("application/x-www-form-urlencoded", b"%ff%fe=%00" * 50),
        ("image/png", PNG),
    ],
)
def test_bodies_that_are_no_form(client, content_type, body):
    response = client.post(EDIT, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400 and response.json()["error"]["message"]


def test_a_form_of_a_thousand_fields(client):
    response = client.post(EDIT, files={"image": ("a.png", PNG)}, data={f"field{i}": "1" for i in range(1500)})
    assert response.status_code == 400
