"""Grids, captions, and paths for images."""

from __future__ import annotations

import pytest
from PIL import Image
from tiny import refused

from nextscale.imaging.images import CAPTION_HEIGHT, WHITE, caption, check_writable_image, grid, image_format

COLOURS = [(10 * i, 0, 0) for i in range(1, 8)]


def squares(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 3), colour) for colour in COLOURS[:count]]


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, None, (1, 1)), (4, None, (2, 2)), (5, None, (3, 2)), (7, None, (3, 3)), (6, 2, (2, 3)), (3, 9, (3, 1))],
)
def test_a_grid_in_reading_order(count, columns, shape):
    sheet = grid(squares(count), columns, gap=2)
    assert sheet.size == (shape[0] * 6 - 2, shape[1] * 5 - 2)
    for i in range(count):
        assert sheet.getpixel((i % shape[0] * 6 + 3, i // shape[0] * 5 + 2)) == COLOURS[i]
    if shape[0] > 1:
        assert sheet.getpixel((4, 0)) == WHITE


def test_a_caption_leaves_the_image_alone():
    photo = Image.new("RGB", (40, 20), COLOURS[0])
    sheet = caption(photo, "3x3")
    assert sheet.size == (40, 20 + CAPTION_HEIGHT)
    assert sheet.crop((0, 0, 40, 20)).tobytes() == photo.tobytes()
    text = sheet.crop((0, 20, *sheet.size))
    assert text.tobytes() != Image.new("RGB", text.size, WHITE).tobytes()


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.b.webp", "WEBP")])
def test_formats(tmp_path, name, kind):
    assert image_format(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["a", "a.doc", ".png"])
def test_endings_of_no_image(tmp_path, name):
    with refused(tmp_path / name, ".png"):
        check_writable_image(tmp_path / name)


def test_a_folder_is_no_image(tmp_path):
    (tmp_path / "a.png").mkdir()
    with refused(tmp_path / "a.png", "folder"):
        check_writable_image(tmp_path / "a.png")


def test_a_place_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file"):
        check_writable_image(tmp_path / "file" / "a.png")


def test_checking_writes_nothing(tmp_path):
    check_writable_image(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
