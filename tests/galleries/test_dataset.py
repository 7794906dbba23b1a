"""Crops of a data set are those of validation, or those of the ADM evaluator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_data import KINDS, make_files
from tiny_runs import make_images, make_splits

from nextscale.data.dataset import cover_with_margin
from nextscale.data.splits import open_image_splits
from nextscale.evaluation.gallery import Gallery
from nextscale.galleries.dataset import EVERY_WAY, CroppedImages, Split, check_apart, open_crops
from nextscale.imaging.images import adm_crop, to_unit_range

SIZE = (6, 8)


def nothing(_: str) -> None:
    raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_crop_is_that_of_validation(tmp_path, kind):
    data = KINDS[kind](make_files(tmp_path / "data"), tmp_path / "place")
    gallery: Gallery = open_crops(data, "val", SIZE, "training", nothing)
    _, expected = open_image_splits(data, SIZE, 0)
    assert expected and len(gallery) == len(expected) == 3
    read = gallery.read(range(3))
    for i in range(3):
        assert torch.equal(to_unit_range(read.pixels[i]), expected[0, i].image)
        assert read.labels[i] == expected[0, i].label
    assert list(gallery.class_names) == ["boot", "dress"]


def adm(image: Image.Image, side: int) -> np.ndarray:
    """The largest middle square, as described for ImageNet: halve, resize, cut."""
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize("size", [(500, 333), (64, 131), (30, 30), (16, 40), (129, 67)])
def test_the_centre_crop_is_that_of_the_adm(size):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    assert np.array_equal(np.array(adm_crop(image, (32, 32))), adm(image, 32))


def test_a_centre_crop_that_is_not_square():
    assert adm_crop(Image.new("RGB", (100, 90)), (6, 20)).size == (20, 6)


def test_every_way_to_look_at_a_image(tmp_path):
    """In both crops, and mirrored, one after the other."""
    folder = str(make_images(tmp_path / "photos", 3, size=(30, 20)))
    every = open_crops(folder, None, SIZE, EVERY_WAY, nothing)
    read = every.read(range(12))
    assert len(every) == 12 and [every.number(i) for i in range(12)] == [i // 4 for i in range(12)]
    for i, crop in enumerate(("centre", "training")):
        seen = open_crops(folder, None, SIZE, crop, nothing).read(range(3)).pixels
        assert torch.equal(read.pixels[2 * i :: 4], seen) and torch.equal(read.pixels[2 * i + 1 :: 4], seen.flip(-1))
    assert torch.equal(every.read([5, 1]).pixels, read.pixels[[5, 1]])


def test_images_as_training_may_see_them(tmp_path):
    """Mirrored, at random places, always the same ones."""
    folder = str(make_images(tmp_path / "photos", 9, size=(30, 20)))
    every = open_crops(folder, None, SIZE, EVERY_WAY, nothing)
    some = every.at_random(5, seed=3)
    read = some.read(range(5))
    assert torch.equal(read.pixels, every.at_random(5, seed=3).read(range(5)).pixels)
    numbers = [some.number(i) for i in range(5)]
    assert len(set(numbers)) == 5 and numbers != [every.at_random(5, seed=4).number(i) for i in range(5)]
    for number, pixels in zip(numbers, read.pixels.flip(-1), strict=True):
        whole = np.array(cover_with_margin(every.source.read(number), SIZE))
        places = [whole[y : y + 6, x : x + 8] for y in range(whole.shape[0] - 5) for x in range(whole.shape[1] - 7)]
        assert any(np.array_equal(pixels.permute(1, 2, 0), place) for place in places)
    seen = every.read(range(36)).pixels
    assert not any((seen == pixels).all() for pixels in read.pixels)
    assert len(every.at_random(50, seed=3)) == 9 and some.made_from != every.made_from


def test_images_held_out_are_other_files(tmp_path):
    data = str(make_splits(tmp_path / "data"))
    train = open_crops(data, "train", SIZE, EVERY_WAY, nothing)
    check_apart(train, open_crops(data, "val", SIZE, "centre", nothing))
    with refused("both training and held out", f"{data}/train"):
        check_apart(train, open_crops(f"{data}/train", None, SIZE, "centre", nothing))


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_told_from_the_same_ones(tmp_path, kind):
    images = make_files(tmp_path / "data")
    data = KINDS[kind](images, tmp_path / "place")

    def stamp(split: Literal["train", "val"] = "val") -> str:
        return open_crops(data, split, SIZE, "centre", nothing).made_from["files"]

    before = stamp()
    assert stamp() == before != stamp("train")
    place = Path(data.removeprefix("hf:"))
    written = images["val"] if kind in ("folder", "table", "tables") else [p for p in place.rglob("*") if p.is_file()]
    for path in written:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(0, 1))
    assert stamp() != before


def test_which_split(tmp_path):
    data = str(make_splits(tmp_path / "data"))
    assert [len(open_crops(data, split, SIZE, "centre", nothing)) for split in ("train", "val")] == [10, 4]
    assert len(open_crops(data, None, SIZE, "centre", nothing, prefer="train")) == 10
    with refused(data, "--split train or --split val"):
        open_crops(data, None, SIZE, "centre", nothing)
    plain = str(tmp_path / "data" / "train")
    assert len(open_crops(plain, None, SIZE, "centre", nothing, prefer="val")) == 10
    with refused(plain, "no split val", 10):
        open_crops(plain, "val", SIZE, "centre", nothing)


def open_parts(data: str, said: list[str], fraction: float = 0.3) -> dict[str | None, CroppedImages]:
    splits: tuple[Split, Split] = ("train", "val")
    return {split: open_crops(data, split, SIZE, "centre", said.append, None, fraction) for split in splits}


@pytest.mark.parametrize("kind", KINDS)
def test_data_without_splits_is_divided_as_in_training(tmp_path, kind):
    files = make_files(tmp_path / "data")
    data = KINDS[kind]({"train": files["train"]}, tmp_path / "place")
    if kind == "folder":
        data += "/train"
    said: list[str] = []
    galleries = open_parts(data, said)
    assert len(galleries["train"]) + len(galleries["val"]) == 7 and len(galleries["val"])
    train, val = open_image_splits(data, SIZE, 0, val_fraction=0.3)
    assert val is not None
    for split, source in (("train", train.source), ("val", val.source)):
        ours = galleries[split].source
        assert [ours.key(i) for i in range(len(ours))] == [source.key(i) for i in range(len(source))]
        assert galleries[split].made_from["val_fraction"] == 0.3
    check_apart(galleries["train"], galleries["val"])
    assert len(said) == 2 and len({*said}) == 1 and data in said[0]
    assert open_parts(data, said, 0.4)["val"].made_from != galleries["val"].made_from
    with refused(data, "--split train or --split val"):
        open_crops(data, None, SIZE, "centre", said.append, None, 0.3)
    assert len(open_crops(data, None, SIZE, "centre", said.append, "val", 0.3)) == len(galleries["val"])
    assert "val_fraction" not in open_crops(data, None, SIZE, "centre", nothing).made_from


def test_data_with_splits_is_not_divided_again(tmp_path):
    data = str(make_splits(tmp_path / "data"))
    for fraction in (0, 0.5):
        gallery = open_crops(data, "val", SIZE, "centre", nothing, None, fraction)
        assert len(gallery) == 4 and "val_fraction" not in gallery.made_from


def test_what_cannot_be_read_is_left_out_and_named(tmp_path):
    folder = make_images(tmp_path / "photos", 3)
    (folder / "1.png").write_bytes(b"no image")
    said: list[str] = []
    read = open_crops(str(folder), None, SIZE, "centre", said.append).read(range(3))
    assert read.indices.tolist() == [0, 2] and read.pixels.shape == (2, 3, *SIZE) and read.labels.tolist() == [0, 0]
    assert len(said) == 1 and "1.png" in said[0]
    empty = open_crops(str(folder), None, SIZE, "centre", said.append).read([1])
    assert len(empty.pixels) == len(empty.indices) == 0


def test_what_it_depends_on(tmp_path, monkeypatch):
    make_images(tmp_path / "photos", 3)
    one = open_crops(str(tmp_path / "photos"), None, SIZE, "centre", nothing).made_from
    monkeypatch.chdir(tmp_path)
    assert open_crops("photos", None, SIZE, "centre", nothing).made_from == one
    assert open_crops("photos", None, SIZE, "training", nothing).made_from != one
