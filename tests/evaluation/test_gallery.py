"""Galleries of image files in a folder, and of the array in an .npz file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_runs import make_images

from nextscale.evaluation.gallery import Gallery, ImageFile, ImageFolder, open_images
from nextscale.evaluation.npz import write_images

PIXELS = np.random.RandomState(0).randint(0, 256, (7, 4, 6, 3)).astype(np.uint8)


def test_a_folder(tmp_path):
    make_images(tmp_path / "p", 3)
    gallery: Gallery = open_images(tmp_path / "p")
    assert len(gallery) == 3 and gallery.size == (11, 14) and not gallery.class_names
    read = gallery.read([2, 0])
    assert read.indices.tolist() == [2, 0] and read.labels.tolist() == [-1, -1]
    for i, pixels in zip((2, 0), read.pixels, strict=True):
        with Image.open(tmp_path / "p" / f"{i}.png") as image:
            assert np.array_equal(pixels.permute(1, 2, 0), np.array(image))


def test_folders_are_classes(tmp_path):
    for i, name in enumerate(("hat", "dress")):
        make_images(tmp_path / name / "deep", 2, seed=i)
    gallery = open_images(tmp_path)
    assert list(gallery.class_names) == ["dress", "hat"]
    assert gallery.read(range(4)).labels.tolist() == [0, 0, 1, 1]
    make_images(tmp_path / "new", 1)
    (tmp_path / "new" / "0.png").rename(tmp_path / "beside.png")
    assert not open_images(tmp_path).class_names


def test_what_is_skipped_in_a_folder(tmp_path):
    """Hidden files and folders are no classes, links are followed, and other files are named."""
    make_images(tmp_path / "p" / "hat", 2)
    make_images(tmp_path / "p" / "__MACOSX" / "hat", 1)
    make_images(tmp_path / "more", 1, seed=1)
    (tmp_path / "p" / "dress").symlink_to(tmp_path / "more")
    (tmp_path / "p" / "loop").symlink_to(tmp_path)
    (tmp_path / "p" / "hat" / "._0.png").write_bytes(b"no image")
    (tmp_path / "p" / "report.json").touch()
    gallery = open_images(tmp_path / "p")
    assert isinstance(gallery, ImageFolder) and list(gallery.class_names) == ["dress", "hat"] and len(gallery) == 3
    assert len(gallery.skipped) == 3
    for words in ("system files (2)", "loop", "(1: .json 1): report.json"):
        assert any(words in note for note in gallery.skipped)


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"p\xe9")
    for name in (b"caf\xe8", b"caf\xe9"):
        make_images(folder / os.fsdecode(name), 2)
    gallery = open_images(folder)
    assert list(gallery.class_names) == [r"caf\xe8", r"caf\xe9"]
    assert gallery.read(range(4)).labels.tolist() == [0, 0, 1, 1]
    assert json.loads(json.dumps(gallery.made_from)) == gallery.made_from


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file(tmp_path, compressed):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "p.npz", PIXELS, np.arange(7) // 3)
    gallery = open_images(tmp_path / "p.npz")
    assert len(gallery) == 7 and gallery.size == (4, 6) and list(gallery.class_names) == ["0", "1", "2"]
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    for indices in ([0, 1, 2], [3, 4, 5, 6], [5, 1], [2]):
        read = gallery.read(indices)
        assert torch.equal(read.pixels, expected[indices]) and read.labels.tolist() == [i // 3 for i in indices]


def test_a_file_that_names_its_classes(tmp_path):
    pixels = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    write_images(tmp_path / "p.npz", [pixels], (7, 4, 6), torch.arange(7) // 4, ("hat", "dress"))
    gallery = open_images(tmp_path / "p.npz")
    assert list(gallery.class_names) == ["hat", "dress"] and gallery.read([3, 4]).labels.tolist() == [0, 1]
    write_images(tmp_path / "p.npz", [pixels], (7, 4, 6), torch.arange(7), ("hat", "dress"))
    with refused("a class 6", "class_names 2"):
        open_images(tmp_path / "p.npz")


def test_other_files_are_told_from_the_same_ones(tmp_path):
    """By what they are, and not by where they lie."""
    make_images(tmp_path / "a" / "p", 2)
    np.savez(tmp_path / "a" / "p.npz", PIXELS)

    def stamps(folder: str) -> list[str]:
        return [open_images(tmp_path / folder / name).made_from["files"] for name in ("p", "p.npz")]

    before = stamps("a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert stamps("a") == stamps("b") == before
    pixels = np.ascontiguousarray(PIXELS[::-1])
    np.savez(tmp_path / "a" / "p.npz", pixels)
    Image.fromarray(pixels[0]).resize((14, 11)).save(tmp_path / "a" / "p" / "1.png")
    assert not set(stamps("a")) & set(before)
    (tmp_path / "b" / "p" / "1.png").rename(tmp_path / "b" / "p" / "2.png")
    assert stamps("b")[0] != before[0]


def test_a_file_without_classes(tmp_path):
    np.savez(tmp_path / "p.npz", PIXELS)
    gallery = open_images(tmp_path / "p.npz")
    assert not gallery.class_names and gallery.read([1]).labels.tolist() == [-1]


def break_nothing(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def break_size(folder: Path) -> None:
    Image.new("RGB", (5, 4)).save(folder / "9.png")


def break_file(folder: Path) -> None:
    (folder / "9.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_nothing, ("no images in", ".png")),
        (break_size, ("9.png", "4 x 5 pixels", "11 x 14 pixels", "one size")),
        (break_file, ("9.png", "cannot read")),
    ],
)
def test_folders_that_are_refused(tmp_path, spoil, words):
    spoil(make_images(tmp_path / "p", 2))
    with refused(*words):
        open_images(tmp_path / "p")


def test_a_image_that_changed_its_size(tmp_path):
    gallery = open_images(make_images(tmp_path / "p", 2))
    Image.new("RGB", (5, 4)).save(tmp_path / "p" / "1.png")
    with refused("1.png", "4 x 5", "11 x 14"):
        gallery.read([0, 1])


def test_what_is_not_there(tmp_path):
    with refused("no folder", "nowhere"):
        open_images(tmp_path / "nowhere")
    with refused("no file", "nowhere.npz"):
        open_images(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "mu.npz", mu=np.zeros(3))
    with refused("no arr_0", "mu"):
        open_images(tmp_path / "mu.npz")


@pytest.mark.parametrize("labels", [[0, 10**15], [0, -7], [0, 2**24]])
def test_labels_of_absurd_size(tmp_path, labels):
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((2, 4, 4, 3), dtype=np.uint8), arr_1=np.array(labels))
    with refused(tmp_path / "a.npz", "arr_1", "expected 0 to 16777215"):
        ImageFile(tmp_path / "a.npz")


@pytest.mark.parametrize("names", [np.array([1, 2]), np.array("ab"), np.array([["a", "b"]])])
def test_names_of_classes_that_are_no_list(tmp_path, names):
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", arr_0=images, arr_1=np.array([0, 1]), class_names=names)
    with refused(tmp_path / "a.npz", "class_names", "a list of texts"):
        ImageFile(tmp_path / "a.npz")
