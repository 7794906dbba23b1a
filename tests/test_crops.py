"""A data set in one crop is what training validates on, or what the ADM's code makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_data import KINDS, make_files
from tiny_runs import make_pictures, make_splits

from nextscale.crops import open_crops
from nextscale.data.splits import open_splits
from nextscale.evaluation.gallery import Gallery
from nextscale.pictures import adm_crop, to_unit_range

SIZE = (6, 8)


def nothing(_: str) -> None:
    raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_crop_is_that_of_validation(tmp_path, kind):
    data = KINDS[kind](make_files(tmp_path / "data"), tmp_path / "place")
    gallery: Gallery = open_crops(data, "val", SIZE, "training", nothing)
    _, expected = open_splits(data, SIZE, 0)
    assert expected and len(gallery) == len(expected) == 3
    read = gallery.read(range(3))
    for i in range(3):
        assert torch.equal(to_unit_range(read.pixels[i]), expected[0, i].image)
        assert read.labels[i] == expected[0, i].label
    assert list(gallery.class_names) == ["boot", "dress"]


def adm(picture: Image.Image, side: int) -> np.ndarray:
    """The largest middle square, as described for ImageNet: halve, resize, cut."""
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = side / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    pixels = np.array(picture)
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("size", [(500, 333), (64, 131), (30, 30), (16, 40), (129, 67)])
def test_the_centre_crop_is_that_of_the_adm(size):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    assert np.array_equal(np.array(adm_crop(picture, (32, 32))), adm(picture, 32))


def test_a_centre_crop_that_is_not_square():
    assert adm_crop(Image.new("RGB", (100, 90)), (6, 20)).size == (20, 6)


def test_which_split(tmp_path):
    data = str(make_splits(tmp_path / "data"))
    assert [len(open_crops(data, split, SIZE, "centre", nothing)) for split in ("train", "val")] == [10, 4]
    assert len(open_crops(data, None, SIZE, "centre", nothing, prefer="train")) == 10
    with refused(data, "--split train or --split val"):
        open_crops(data, None, SIZE, "centre", nothing)
    plain = str(tmp_path / "data" / "train")
    assert len(open_crops(plain, None, SIZE, "centre", nothing, prefer="val")) == 10
    with refused(plain, "no val", 10):
        open_crops(plain, "val", SIZE, "centre", nothing)


def test_what_cannot_be_read_is_left_out_and_named(tmp_path):
    folder = make_pictures(tmp_path / "photos", 3)
    (folder / "1.png").write_bytes(b"no picture")
    said: list[str] = []
    read = open_crops(str(folder), None, SIZE, "centre", said.append).read(range(3))
    assert read.indices.tolist() == [0, 2] and read.pixels.shape == (2, 3, *SIZE) and read.labels.tolist() == [0, 0]
    assert len(said) == 1 and "1.png" in said[0]
    empty = open_crops(str(folder), None, SIZE, "centre", said.append).read([1])
    assert len(empty.pixels) == len(empty.indices) == 0


def test_what_it_depends_on(tmp_path, monkeypatch):
    make_pictures(tmp_path / "photos", 3)
    one = open_crops(str(tmp_path / "photos"), None, SIZE, "centre", nothing).made_from
    monkeypatch.chdir(tmp_path)
    assert open_crops("photos", None, SIZE, "centre", nothing).made_from == one
    assert open_crops("photos", None, SIZE, "training", nothing).made_from != one
