"""Images and classes in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import refused
from tiny_runs import make_images

from nextscale.data.folder import scan_folder
from nextscale.data.splits import open_splits

SIZE = (8, 8)


def test_a_folder_per_class_in_alphabetical_order(tmp_path):
    for name, count in (("hat", 2), ("boot", 3), ("dress", 1)):
        make_images(tmp_path / name, count)
    data, val_data = open_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot", "dress", "hat")
    assert data.source.labels == (0, 0, 0, 1, 2, 2)
    assert [Path(data.source.name(i)).parent.name for i in range(6)] == ["boot"] * 3 + ["dress"] + ["hat"] * 2
    assert val_data is None


@pytest.mark.parametrize("val", ["val", "validation", "test"])
def test_splits(tmp_path, val):
    make_images(tmp_path / "train" / "hat", 2)
    make_images(tmp_path / "train" / "boot", 1)
    make_images(tmp_path / val / "hat", 3)
    data, val_data = open_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot", "hat") and len(data) == 3
    assert val_data is not None and val_data.source.labels == (1, 1, 1)


def test_a_flat_folder_is_one_class(tmp_path):
    make_images(tmp_path / "photos", 3)
    folder = scan_folder(tmp_path / "photos")
    assert folder.class_names == ("photos",) and folder.labels == (0, 0, 0)


def test_flat_splits(tmp_path):
    make_images(tmp_path / "train", 3)
    make_images(tmp_path / "val", 2)
    data, val_data = open_splits(tmp_path, SIZE, 0)
    assert len(data.source.class_names) == 1 and len(data) == 3
    assert val_data is not None and val_data.source.labels == (0, 0)


def test_without_train_everything_is_training_images(tmp_path):
    for name in ("boot", "test"):
        make_images(tmp_path / name, 2)
    data, val_data = open_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot", "test")
    assert val_data is None


def test_val_alone(tmp_path):
    make_images(tmp_path / "val" / "boot", 2)
    with refused("val/", "train/"):
        open_splits(tmp_path, SIZE, 0)


def test_an_unknown_class_in_val(tmp_path):
    make_images(tmp_path / "train" / "hat", 2)
    make_images(tmp_path / "val" / "boot", 2)
    with refused("boot", "hat"):
        open_splits(tmp_path, SIZE, 0)


def test_val_without_classes_when_training_has_some(tmp_path):
    for name in ("boot", "hat"):
        make_images(tmp_path / "train" / name, 2)
    make_images(tmp_path / "val", 2)
    with refused("val", "boot, hat"):
        open_splits(tmp_path, SIZE, 0)


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
        open_splits(tmp_path / "missing", SIZE, 0)
    with refused("no images", tmp_path):
        open_splits(tmp_path, SIZE, 0)
    (tmp_path / "hat").mkdir()
    with refused("no images", tmp_path):
        open_splits(tmp_path, SIZE, 0)
    (tmp_path / "file").touch()
    with refused(tmp_path / "file"):
        open_splits(tmp_path / "file", SIZE, 0)


def test_a_class_called_train(tmp_path):
    for name in ("boat", "car", "train"):
        make_images(tmp_path / name, 2)
    data, val_data = open_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boat", "car", "train") and val_data is None


def test_splits_in_capitals(tmp_path):
    for split in ("Train", "Val"):
        make_images(tmp_path / split / "boot", 2)
    data, val_data = open_splits(tmp_path, SIZE, 0)
    assert data.source.class_names == ("boot",) and val_data is not None


def test_a_class_without_images(tmp_path):
    make_images(tmp_path / "boot", 2)
    (tmp_path / "hat").mkdir()
    with refused("'hat'", "no images"):
        open_splits(tmp_path, SIZE, 0)


def test_one_level_too_high(tmp_path):
    make_images(tmp_path / "photos" / "train" / "boot", 2)
    with refused("photos"):
        open_splits(tmp_path, SIZE, 0)
