"""Images and classes in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from tiny import refused
from tiny_runs import make_images

from nextscale.data.folder import scan_folder
from nextscale.data.splits import open_image_splits

SIZE = (8, 8)


def test_a_folder_per_class_in_alphabetical_order(tmp_path):
    for name, count in (("hat", 2), ("boot", 3), ("dress", 1)):
        make_images(tmp_path / name, count)
    data, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot", "dress", "hat")
    assert data.source.labels == (0, 0, 0, 1, 2, 2)
    assert [Path(data.source.name(i)).parent.name for i in range(6)] == ["boot"] * 3 + ["dress"] + ["hat"] * 2
    assert val_data is None


@pytest.mark.parametrize("val", ["val", "validation", "test"])
def test_splits(tmp_path, val):
    make_images(tmp_path / "train" / "hat", 2)
    make_images(tmp_path / "train" / "boot", 1)
    make_images(tmp_path / val / "hat", 3)
    data, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot", "hat") and len(data) == 3
    assert val_data is not None and val_data.source.labels == (1, 1, 1)


def test_a_flat_folder_is_one_class(tmp_path):
    make_images(tmp_path / "photos", 3)
    folder = scan_folder(tmp_path / "photos")
    assert folder.class_names == ("photos",) and folder.labels == (0, 0, 0)


def test_flat_splits(tmp_path):
    make_images(tmp_path / "train", 3)
    make_images(tmp_path / "val", 2)
    data, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert len(data.source.class_names) == 1 and len(data) == 3
    assert val_data is not None and val_data.source.labels == (0, 0)


def test_without_train_everything_is_training_images(tmp_path):
    for name in ("boot", "test"):
        make_images(tmp_path / name, 2)
    data, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot", "test")
    assert val_data is None


def test_val_alone(tmp_path):
    make_images(tmp_path / "val" / "boot", 2)
    with refused("val/", "train/"):
        open_image_splits(tmp_path, SIZE, 0)


def test_an_unknown_class_in_val(tmp_path):
    make_images(tmp_path / "train" / "hat", 2)
    make_images(tmp_path / "val" / "boot", 2)
    with refused("boot", "hat"):
        open_image_splits(tmp_path, SIZE, 0)


def test_val_without_classes_when_training_has_some(tmp_path):
    for name in ("boot", "hat"):
        make_images(tmp_path / "train" / name, 2)
    make_images(tmp_path / "val", 2)
    with refused("val", "boot, hat"):
        open_image_splits(tmp_path, SIZE, 0)


def test_other_files_and_hidden_folders_are_left_out(tmp_path):
    make_images(tmp_path / "hat", 2)
    make_images(tmp_path / ".thumbnails", 2)
    (tmp_path / "hat" / "notes.txt").write_text("")
    (tmp_path / "README.md").write_text("")
    folder = scan_folder(tmp_path)
    assert folder.class_names == ("hat",) and len(folder) == 2


def test_images_in_folders_of_a_class(tmp_path):
    make_images(tmp_path / "hat" / "2024", 2)
    make_images(tmp_path / "hat" / "2023", 1)
    assert scan_folder(tmp_path).labels == (0, 0, 0)


def test_missing_and_empty_folders(tmp_path):
    with refused(tmp_path / "missing"):
        open_image_splits(tmp_path / "missing", SIZE, 0)
    with refused("no images", tmp_path):
        open_image_splits(tmp_path, SIZE, 0)
    (tmp_path / "hat").mkdir()
    with refused("no images", tmp_path):
        open_image_splits(tmp_path, SIZE, 0)
    (tmp_path / "file").touch()
    with refused(tmp_path / "file"):
        open_image_splits(tmp_path / "file", SIZE, 0)


def test_a_class_called_train(tmp_path):
    for name in ("boat", "car", "train"):
        make_images(tmp_path / name, 2)
    data, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boat", "car", "train") and val_data is None


def test_splits_in_capitals(tmp_path):
    for split in ("Train", "Val"):
        make_images(tmp_path / split / "boot", 2)
    data, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot",) and val_data is not None


def test_a_class_without_images_is_left_out_and_named(tmp_path):
    make_images(tmp_path / "boot", 2)
    (tmp_path / "hat").mkdir()
    (tmp_path / "dress").mkdir()
    (tmp_path / "dress" / "notes.txt").touch()
    folder = scan_folder(tmp_path)
    assert folder.class_names == ("boot",) and len(folder) == 2
    assert f"{tmp_path}: skipped classes without images (2): dress, hat" in folder.notes


def test_an_empty_class_of_validation_need_not_be_known(tmp_path):
    make_images(tmp_path / "train" / "boot", 2)
    make_images(tmp_path / "val" / "boot", 1)
    (tmp_path / "val" / "hat").mkdir()
    _, val_data = open_image_splits(tmp_path, SIZE, 0)
    assert val_data is not None and len(val_data) == 1
    assert any("classes without images (1): hat" in note for note in val_data.source.notes)


def test_images_beside_an_empty_folder_are_one_class(tmp_path):
    make_images(tmp_path / "photos", 3)
    (tmp_path / "photos" / "new").mkdir()
    assert scan_folder(tmp_path / "photos").labels == (0, 0, 0)


def test_images_beside_classes_and_folders_beside_splits_are_named(tmp_path):
    make_images(tmp_path / "train" / "boot", 2)
    make_images(tmp_path / "val" / "boot", 1)
    make_images(tmp_path / "extra" / "boot", 1)
    (tmp_path / "train" / "boot" / "1.png").rename(tmp_path / "train" / "beside.png")
    data, _ = open_image_splits(tmp_path, SIZE, 0)
    assert len(data) == 1
    assert data.source.notes == (
        f"{tmp_path}: skipped folders beside train (1): extra",
        f"{tmp_path / 'train'}: skipped images beside the folders of classes (1): beside.png",
    )


def test_a_folder_with_other_files_only_names_them(tmp_path):
    (tmp_path / "hat").mkdir()
    (tmp_path / "hat" / "0.heic").touch()
    with refused("no images", tmp_path, ".heic 1", "hat/0.heic"):
        scan_folder(tmp_path)


SYSTEM = ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "#recycle")


@pytest.mark.parametrize("name", SYSTEM)
@pytest.mark.parametrize("place", ["", "boot", "boot/deep"])
def test_what_systems_create_is_neither_class_nor_image(tmp_path, name, place):
    make_images(tmp_path / "boot" / "deep", 2)
    make_images(tmp_path / "dress", 1)
    make_images(tmp_path / place / name / "hat", 1)
    (tmp_path / place / "._0.png").write_bytes(b"\0\5\x16\7")
    folder = scan_folder(tmp_path)
    assert folder.class_names == ("boot", "dress") and folder.labels == (0, 0, 1)
    (note,) = folder.notes
    assert "hidden and system files (2): " in note and name in note and "._0.png" in note


@pytest.mark.parametrize("name", SYSTEM)
def test_what_systems_create_is_no_split(tmp_path, name):
    """A flat train/ stays a class beside other classes, and val/ alone is still refused."""
    for folder in ("train", "boot"):
        make_images(tmp_path / "classes" / folder, 1)
    make_images(tmp_path / "classes" / "train" / name, 1)
    assert scan_folder(tmp_path / "classes").class_names == ("boot", "train")
    assert open_image_splits(tmp_path / "classes", SIZE, 0)[0].source.class_names == ("boot", "train")
    make_images(tmp_path / "alone" / "val" / "boot", 1)
    make_images(tmp_path / "alone" / name, 1)
    with refused("val/", "train/"):
        open_image_splits(tmp_path / "alone", SIZE, 0)


def test_links_are_followed(tmp_path):
    """To classes, below classes, to splits and to single images."""
    make_images(tmp_path / "elsewhere" / "deep", 3)
    make_images(tmp_path / "data" / "train" / "boot", 2)
    make_images(tmp_path / "valid" / "boot", 1)
    for link, target in {
        "train/boot/more": "elsewhere",
        "train/hat": "elsewhere/deep",
        "train/boot/9.png": "elsewhere/deep/0.png",
        "train/boot/loop": "data",
        "val": "valid",
    }.items():
        (tmp_path / "data" / link).symlink_to(tmp_path / target)
    data, val_data = open_image_splits(tmp_path / "data", SIZE, 0)
    assert data.source.class_names == ("boot", "hat") and data.source.labels == (0,) * 6 + (1,) * 3
    assert val_data is not None and len(val_data) == 1
    (note,) = data.source.notes
    assert "boot/loop" in note


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPE"])
def test_other_endings_of_jpeg_files(tmp_path, ending):
    make_images(tmp_path / "boot", 2)
    with Image.open(tmp_path / "boot" / "0.png") as image:
        image.save(tmp_path / "boot" / f"0.{ending}", format="JPEG")
    folder = scan_folder(tmp_path)
    assert len(folder) == 3 and not folder.notes
    assert all(folder.read(i).size == (14, 11) for i in range(3))


def test_names_that_are_not_utf8(tmp_path):
    """They become text that any file or terminal can hold, and different names stay different."""
    for name in (b"caf\xe8", b"caf\xe9"):
        make_images(tmp_path / os.fsdecode(name), 2)
    os.rename(tmp_path / os.fsdecode(b"caf\xe9") / "0.png", os.fsencode(tmp_path) + b"/caf\xe9/\xff.png")
    folder = scan_folder(tmp_path)
    assert folder.class_names == (r"caf\xe8", r"caf\xe9") and folder.labels == (0, 0, 1, 1)
    assert all(folder.read(i).size == (14, 11) for i in range(4))
    assert folder.stamp() == scan_folder(tmp_path).stamp()


def test_one_level_too_high(tmp_path):
    make_images(tmp_path / "photos" / "train" / "boot", 2)
    with refused("photos"):
        open_image_splits(tmp_path, SIZE, 0)
