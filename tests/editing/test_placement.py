"""The place of an image on the canvas, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import refused

from nextscale.editing.masks import fit, place_mask
from nextscale.editing.placement import Placement
from nextscale.imaging.images import centre_crop, cover

few = settings(deadline=None, max_examples=40)
sides = st.integers(1, 40)
fits = st.sampled_from(["crop", "pad"])


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@few
@given(sides, sides, st.integers(1, 16), st.integers(1, 16))
def test_cropping_is_covering_and_cutting(h, w, height, width):
    photo, size = noise(h, w), (height, width)
    try:
        placement = Placement.of((h, w), size)
    except ValueError:
        return
    lanczos = Image.Resampling.LANCZOS
    assert placement.put(photo, lanczos).tobytes() == centre_crop(cover(photo, size), size).tobytes()
    assert placement.put(photo).tobytes() == fit(photo, size).tobytes()
    assert placement.content == (0, 0, height, width) and not placement.borders.any()


@few
@given(sides, sides, st.integers(1, 16), st.integers(1, 16))
def test_padding_keeps_the_whole_image(h, w, height, width):
    placement = Placement.of((h, w), (height, width), "pad")
    top, left, bottom, right = placement.content
    assert (bottom - top, right - left) == placement.scaled == placement.content_size
    assert height - bottom - top in (-1, 0, 1) and width - right - left in (-1, 0, 1)
    assert bottom - top == height or right - left == width
    assert placement.used_size == (h, w) and not placement.is_cropped
    canvas = np.asarray(placement.put(Image.new("L", (w, h), 255)))
    assert ((canvas == 0) == placement.borders.numpy()).all()


@few
@given(sides, sides, fits, st.integers(0, 2**32 - 1))
def test_only_the_region_changes(h, w, fit, seed):
    placement = Placement.of((h, w), (8, 12), fit)
    photo, generated = noise(h, w, seed), noise(8, 12, seed + 1)
    region = np.random.default_rng(seed).random((h, w)) < 0.4
    result = np.asarray(placement.paste_back(generated, photo, region))
    assert result.shape == (h, w, 3)
    assert (result[~region] == np.asarray(photo)[~region]).all()
    nothing = placement.paste_back(generated, photo, np.zeros((h, w), dtype=bool))
    assert nothing.tobytes() == photo.tobytes()


def test_an_image_of_the_canvas_s_size_is_pasted_to_the_bit():
    placement = Placement.of((8, 12), (8, 12))
    photo, generated = noise(8, 12), noise(8, 12, 1)
    region = np.random.default_rng(2).random((8, 12)) < 0.5
    assert placement.region(torch.from_numpy(region)).tolist() == region.tolist()
    expected = np.where(region[..., None], np.asarray(generated), np.asarray(photo))
    assert (np.asarray(placement.paste_back(generated, photo, region)) == expected).all()


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_region_goes_back_to_its_place(fit):
    """A photo of 28 x 14 on a canvas of 8 x 8: cropped to the middle 14 rows, or padded to 8 x 4."""
    placement = Placement.of((28, 14), (8, 8), fit)
    hidden = torch.zeros(8, 8, dtype=torch.bool)
    hidden[:4, 2:6] = True
    rows, columns = np.nonzero(placement.region(hidden))
    expected = (7, 13, 3, 9) if fit == "crop" else (0, 13, 0, 13)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == expected


@few
@given(sides, sides, fits, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_mask_of_the_image_s_shape_is_exact(h, w, fit, zoom, seed):
    placement = Placement.of((h, w), (8, 12), fit)
    masked = np.random.default_rng(seed).random((h, w)) < 0.3
    on_canvas, region = place_mask(masked.repeat(zoom, 0).repeat(zoom, 1), placement)
    seen = placement.region(torch.ones(8, 12, dtype=torch.bool))
    assert (region == (masked & seen)).all()
    if fit == "pad":
        assert seen.all() and not (on_canvas & placement.borders).any() and on_canvas.any() == masked.any()


def test_a_mask_of_the_canvas_s_shape_marks_the_canvas():
    placement = Placement.of((40, 20), (8, 8), "pad")
    masked = np.zeros((16, 16), dtype=bool)
    masked[:, 6:] = True
    on_canvas, region = place_mask(masked, placement)
    assert on_canvas.int().sum(1).tolist() == [5] * 8
    assert region[:, :5].sum() == 0 and region[:, 5:].all()


def test_a_narrow_image_can_be_padded_but_does_not_cover():
    with refused("too narrow", "4000 x 2"):
        Placement.of((2, 4000), (8, 8))
    assert Placement.of((2, 4000), (8, 8), "pad").content_size == (1, 8)


@pytest.mark.parametrize(
    ("image", "fit", "words"),
    [
        ((256, 144), "crop", "144 x 256 pixels, of which the middle 144 x 144 are used, resized to 64 x 64"),
        ((256, 144), "pad", "144 x 256 pixels, resized to 36 x 64"),
        ((128, 128), "crop", "128 x 128 pixels, resized to 64 x 64"),
        ((64, 64), "crop", "64 x 64 pixels"),
        ((64, 80), "crop", "80 x 64 pixels, of which the middle 64 x 64 are used"),
    ],
)
def test_descriptions(image, fit, words):
    assert Placement.of(image, (64, 64), fit).describe() == words
