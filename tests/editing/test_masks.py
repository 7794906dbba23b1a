"""Masks: hidden pixels, their replacement, and soft edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import refused

from nextscale.editing.masks import box_pixels, feather, fill_hidden, fit, hidden_pixels, read_mask

few = settings(deadline=None, max_examples=25)


def random_hidden(h: int, w: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((h, w)) < rng.random()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16"])
def test_masks_of_every_kind(mode):
    white = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    image = Image.fromarray(white.astype(np.uint8) * 255)
    if mode == "I;16":
        image = Image.fromarray(white.astype(np.uint16) * 65535)
    assert (read_mask(image.convert(mode) if mode != "I;16" else image) == white).all()


@pytest.mark.parametrize("grey", [0, 127, 128, 255])
def test_half_of_white_is_white(grey):
    """128 of 255 is meant, 127 is not."""
    assert read_mask(Image.new("L", (1, 1), grey)).tolist() == [[grey >= 128]]


@pytest.mark.parametrize("alphas, meant", [((0, 255), [True, False]), ((127, 128), [True, False]), ((128, 255), None)])
def test_what_is_transparent_goes_before_what_is_white(tmp_path, alphas, meant):
    image = Image.new("RGBA", (2, 1))
    for x, alpha in enumerate(alphas):
        image.putpixel((x, 0), (255 * x, 255 * x, 255 * x, alpha))
    expected = [meant or [False, True]]
    assert read_mask(image).tolist() == expected
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == expected
    with Image.open(tmp_path / "mask.png") as opened:
        assert read_mask(opened).tolist() == expected


def test_a_palette_has_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1), 1)
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.putpixel((1, 0), 0)
    image.save(tmp_path / "mask.png", transparency=1)
    assert read_mask(tmp_path / "mask.png").tolist() == [[True, False]]


@pytest.mark.parametrize("mask", [[[False, True]], [[0, 1]], [[0, 255]], [[0.4, 0.6]], torch.tensor([[0.0, 1.0]])])
def test_masks_as_arrays(mask):
    assert read_mask(mask if isinstance(mask, torch.Tensor) else np.array(mask)).tolist() == [[False, True]]


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (0, 3)])
def test_arrays_that_are_no_masks(shape):
    with refused("(H, W)", shape):
        read_mask(np.zeros(shape))


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_no_kept_pixel_shows_anything_hidden(h, w, seed):
    rng = np.random.default_rng(seed)
    hidden = random_hidden(h, w, seed)
    pixels = rng.integers(0, 256, (2, h, w, 3), dtype=np.uint8)
    pixels[1] = np.where(hidden[..., None], pixels[1], pixels[0])
    size = (12, 8)
    seen = hidden_pixels(hidden, (h, w), size).numpy()
    a, b = (np.asarray(fit(Image.fromarray(p), size))[~seen] for p in pixels)
    assert (a == b).all()


def test_a_mask_of_the_image_s_size_is_taken_to_the_pixel():
    hidden = random_hidden(8, 12, 0)
    assert (hidden_pixels(hidden, (8, 12), (8, 12)).numpy() == hidden).all()


def test_one_pixel_of_a_large_mask_hides_one_of_a_small_image():
    hidden = np.zeros((64, 96), dtype=bool)
    hidden[63, 8] = True
    seen = hidden_pixels(hidden, (8, 12), (8, 12))
    assert seen.nonzero().tolist() == [[7, 1]]


def test_a_mask_may_have_the_image_s_shape_or_the_crop_s():
    wide = np.zeros((10, 20), dtype=bool)
    wide[:, 10:] = True
    assert hidden_pixels(wide, (40, 80), (4, 4)).int().tolist() == [[0, 0, 1, 1]] * 4
    crop = np.eye(2, dtype=bool)
    assert hidden_pixels(crop, (40, 80), (4, 4)).int().tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    with refused("30 x 10", "80 x 40", "4 x 4"):
        hidden_pixels(np.zeros((10, 30), dtype=bool), (40, 80), (4, 4))


@few
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_the_fill_is_of_the_rest_alone(h, w, seed):
    hidden = torch.from_numpy(random_hidden(h, w, seed))
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(2, 3, h, w, generator=generator)
    pixels[1] = torch.where(hidden, pixels[1], pixels[0])
    a, b = (fill_hidden(p, hidden) for p in pixels)
    assert torch.equal(a, b)
    assert torch.equal(a[:, ~hidden], pixels[0][:, ~hidden])
    if not hidden.all():
        low, high = (reduce(pixels[0][:, ~hidden], dim=1) for reduce in (torch.amin, torch.amax))
        assert (a >= low[:, None, None] - 1e-5).all() and (a <= high[:, None, None] + 1e-5).all()


def test_the_fill_continues_a_slope():
    slope = torch.linspace(0, 1, 32).expand(3, 32, 32)
    hidden = torch.zeros(32, 32, dtype=torch.bool)
    hidden[8:24, 8:24] = True
    torch.testing.assert_close(fill_hidden(slope, hidden), slope, atol=0.02, rtol=0)


@few
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 6), st.integers(0, 2**32 - 1))
def test_the_edge_fades_with_the_distance(h, w, softness, seed):
    hidden = torch.from_numpy(random_hidden(h, w, seed))
    kept = (~hidden).nonzero().float()
    everywhere = torch.ones(h, w).nonzero().float()
    distance = torch.cdist(everywhere, kept).amin(1) if len(kept) else torch.full((h * w,), torch.inf)
    expected = (distance / (softness + 1)).clamp(max=1).view(h, w)
    torch.testing.assert_close(feather(hidden, softness), expected)


def test_a_sharp_edge():
    hidden = torch.from_numpy(random_hidden(9, 7, 3))
    assert torch.equal(feather(hidden, 0), hidden.float())


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0, 0, 1, 1), (0, 100), (0, 20)),
        ((0.255, 0.5, 0.505, 1), (25, 51), (10, 20)),
        ((0.411, 0.41, 0.412, 0.42), (41, 42), (8, 9)),
        ((0.07, 0, 0.57, 0.05), (7, 57), (0, 1)),
    ],
)
def test_the_pixels_that_a_box_touches(box, rows, columns):
    expected = np.zeros((100, 20), dtype=bool)
    expected[slice(*rows), slice(*columns)] = True
    assert (box_pixels(box, (100, 20)) == expected).all()
