"""Training examples: crops, mirrored images, and unreadable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_runs import make_images

from nextscale.data.dataset import ImageDataset
from nextscale.data.folder import scan_folder
from nextscale.imaging.images import to_tensor

SIZE = (16, 16)
RESIZED = 18  # 1.125 * 16


@pytest.fixture
def coordinates(tmp_path) -> Path:
    """A folder with one image, of the size that it is resized to, whose colours tell their place."""
    pixels = np.zeros((RESIZED, RESIZED, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(RESIZED)[:, None], np.arange(RESIZED)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


def places(image: torch.Tensor) -> np.ndarray:
    """(row, column) in the resized image of each pixel, (H, W, 2)."""
    return image.add(1).mul(127.5).round().int().permute(1, 2, 0).numpy()[..., :2]


def test_random_crops_reach_every_place(coordinates):
    data = ImageDataset(scan_folder(coordinates), SIZE, flip=False)
    corners = set()
    for epoch in range(100):
        crop = places(data[epoch, 0].image)
        top, left = crop[0, 0]
        assert np.array_equal(crop[..., 0], np.tile(np.arange(top, top + 16)[:, None], 16))
        assert np.array_equal(crop[..., 1], np.tile(np.arange(left, left + 16), (16, 1)))
        corners.add((int(top), int(left)))
    assert corners == {(top, left) for top in range(3) for left in range(3)}


def test_half_of_the_images_are_mirrored(coordinates):
    data = ImageDataset(scan_folder(coordinates), SIZE)
    crops = [places(data[epoch, 0].image)[0, :, 1] for epoch in range(300)]
    mirrored = [crop[0] > crop[-1] for crop in crops]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.1)
    assert {int(min(crop)) for crop, m in zip(crops, mirrored, strict=True) if m} == {0, 1, 2}


def test_parts_are_of_every_size_shape_and_place(tmp_path):
    """Told by where their corners come from, in an image whose colours rise from 0 to 250."""
    rise = np.linspace(0, 250, 72)
    pixels = np.stack([np.broadcast_to(axis, (72, 72)) for axis in (rise[:, None], rise, 0 * rise)], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    data = ImageDataset(scan_folder(tmp_path), (32, 16), flip=False, zoom=True)
    assert torch.equal(data[3, 0].image, data[3, 0].image) and data[3, 0].image.shape == (3, 32, 16)
    parts = np.stack([places(data[epoch, 0].image) for epoch in range(400)]).astype(float)
    height = (parts[:, -1, 0, 0] - parts[:, 0, 0, 0]) / 250 * 32 / 31
    width = (parts[:, 0, -1, 1] - parts[:, 0, 0, 1]) / 250 * 16 / 15
    whole = height < 0.99  # the others are as high as the image, and narrower for that
    area, shape = (height * width)[whole], (height / width)[whole]
    assert 0.27 < area.min() < 0.35
    assert 1.4 < shape.min() < 1.6 and 2.5 < shape.max() < 2.8  # 2 times exp(-0.3) to exp(0.3)
    assert parts[:, 0, 0].min() < 8 and parts[:, -1, -1].max() > 240


def test_small_parts_are_sharp(tmp_path):
    """They show stripes that are lost where the whole image is first made about as small as the crop."""
    stripes = np.broadcast_to((np.arange(72) % 3 == 0)[:, None, None], (72, 72, 3))
    Image.fromarray((255 * stripes).astype(np.uint8)).save(tmp_path / "a.png")
    source = scan_folder(tmp_path)
    zoomed, plain = (ImageDataset(source, (32, 32), zoom=zoom) for zoom in (True, False))
    assert max(zoomed[epoch, 0].image.std() for epoch in range(20)) > 0.4
    assert max(plain[epoch, 0].image.std() for epoch in range(20)) < 0.1


def test_validation_is_the_centre_crop(coordinates):
    data = ImageDataset(scan_folder(coordinates), SIZE, augment=False)
    assert places(data[0, 0].image)[0, 0].tolist() == [1, 1]
    assert torch.equal(data[0, 0].image, data[7, 0].image)


def test_the_shorter_side_becomes_1_125_times_the_size(tmp_path):
    make_images(tmp_path / "a", 1, size=(40, 80))
    data = ImageDataset(scan_folder(tmp_path), SIZE, augment=False)
    with Image.open(tmp_path / "a" / "0.png") as image:
        resized = image.resize((18, 36), Image.Resampling.LANCZOS)
    assert torch.equal(data[0, 0].image, to_tensor(resized.crop((1, 10, 17, 26))))


def test_images_of_any_shape_and_mode_have_the_size(tmp_path):
    for i, (mode, size) in enumerate(
        [("RGB", (3, 90)), ("RGBA", (90, 3)), ("P", (16, 16)), ("L", (1, 1)), ("I;16", (9, 20))]
    ):
        Image.new(mode, size).save(tmp_path / f"{i}.png")
    for augment in (True, False):
        data = ImageDataset(scan_folder(tmp_path), SIZE, augment=augment)
        for i in range(len(data)):
            content, label, unreadable, *_ = data[0, i]
            image = content.values
            assert image.shape == (3, 16, 16) and -1 <= image.min() <= image.max() <= 1
            assert label == 0 and not unreadable


def test_the_next_image_stands_in_for_an_unreadable_one(tmp_path):
    make_images(tmp_path / "a", 3)
    make_images(tmp_path / "b", 2, seed=1)
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    data = ImageDataset(scan_folder(tmp_path), SIZE, augment=False)
    assert [data[0, i].label for i in range(5)] == [0, 0, 1, 1, 0]
    assert torch.equal(data[0, 2].image, data[0, 3].image)
    assert torch.equal(data[0, 4].image, data[0, 0].image)
    for _ in range(2):  # the second time from memory
        (name,) = data[0, 2].unreadable
        assert str(tmp_path / "a" / "2.png") in name
    assert not data[0, 0].unreadable


def test_all_unreadable(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with refused("none of the 3", tmp_path, "0.png"):
        ImageDataset(scan_folder(tmp_path), SIZE)[0, 0]


def test_a_image_that_has_been_read_stays_in_memory(tmp_path):
    make_images(tmp_path / "a", 1)
    data = ImageDataset(scan_folder(tmp_path), SIZE)
    first = data[0, 0].image
    (tmp_path / "a" / "0.png").unlink()
    assert torch.equal(data[0, 0].image, first)
