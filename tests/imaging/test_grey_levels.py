"""Images of 16-bit, 32-bit and floating-point values."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tiny import refused

from nextscale.editing.masks import read_mask
from nextscale.imaging.images import as_rgb, read_image, to_rgb

RAMP = np.linspace(0, 1, 256).reshape(16, 16)
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def levels_of(values: np.ndarray) -> np.ndarray:
    pixels = np.asarray(to_rgb(Image.fromarray(values)))
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0]


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_floating_point_values_have_three_ranges(white):
    assert (levels_of((RAMP * white).astype(np.float32)) == LEVELS).all()


@pytest.mark.parametrize("white", [255, 65535])
def test_integers_have_two_ranges(white):
    assert np.abs(levels_of((RAMP * white).round().astype(np.int32)).astype(int) - LEVELS).max() <= 1
    assert levels_of(np.array([[0, white]], dtype=np.int32)).tolist() == [[0, 255]]


def test_sixteen_bits_are_always_of_65535():
    assert (levels_of((RAMP * 65535).round().astype(np.uint16)) == LEVELS).all()
    assert levels_of(np.array([[0, 200]], dtype=np.uint16)).tolist() == [[0, 1]]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 2**31 - 1), (-(2**31), 2**31 - 1), (-5, 90000), (-9, -2)])
def test_other_values_are_stretched(low, high):
    for kind in (np.float64, np.int64):
        values = (low + RAMP * (high - low)).astype(kind)
        stored = values.astype(np.float32 if kind is np.float64 else np.int32)
        levels = levels_of(stored)
        assert levels.min() == 0 and levels.max() == 255 and (np.diff(levels.ravel().astype(int)) >= 0).all()


def test_values_that_are_not_finite_are_black():
    values = np.array([[0, 0.5, 1, np.nan, np.inf, -np.inf]], dtype=np.float32)
    assert levels_of(values).tolist() == [[0, 128, 255, 0, 0, 0]]
    assert not levels_of(np.full((2, 2), np.nan, dtype=np.float32)).any()
    assert levels_of(np.array([[-np.inf, -4, 8]], dtype=np.float32)).tolist() == [[0, 0, 255]]


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint16])
def test_equal_values(kind):
    assert not levels_of(np.zeros((2, 2), dtype=kind)).any()
    assert levels_of(np.full((2, 2), 65535, dtype=kind)).min() == 255


@pytest.mark.parametrize(
    ("values", "format"),
    [
        (RAMP.astype(np.float32), "TIFF"),
        ((RAMP * 65535).astype(np.float32), "TIFF"),
        ((RAMP * 65535).round().astype(np.int32), "TIFF"),
        ((RAMP * 65535).round().astype(np.uint16), "TIFF"),
        ((RAMP * 65535).round().astype(np.uint16), "PNG"),
    ],
)
def test_files(tmp_path, values, format):
    file = io.BytesIO()
    Image.fromarray(values).save(file, format)
    (tmp_path / "a").write_bytes(file.getvalue())
    for image in (read_image(tmp_path / "a"), as_rgb(tmp_path / "a"), read_image(io.BytesIO(file.getvalue()), "a")):
        assert np.abs(np.asarray(image)[..., 0].astype(int) - LEVELS).max() <= 1


@pytest.mark.parametrize("kind", [np.float32, np.uint16, np.int32])
def test_masks(kind):
    white = {np.float32: 1, np.uint16: 65535, np.int32: 65535}[kind]
    values = np.array([[0, 1, 0], [1, 1, 0]])
    assert (read_mask(Image.fromarray((values * white).astype(kind))) == values.astype(bool)).all()


def test_a_mode_that_cannot_be_converted():
    with refused("mode La"):
        to_rgb(Image.new("La", (2, 2)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_other_modes_are_converted_by_pillow(mode):
    image = Image.new(mode, (2, 2), 1 if mode in ("1", "P") else None)
    expected = image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")
    if image.has_transparency_data:
        expected = Image.new("RGB", (2, 2), "white")
    assert to_rgb(image).tobytes() == expected.tobytes()
