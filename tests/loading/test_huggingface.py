"""Images and classes in a Hugging Face data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from tiny import refused
from tiny_runs import make_images

from nextscale.data.huggingface import huggingface_splits

datasets.disable_progress_bars()
NAMES = ClassLabel(names=["shoe", "hat", "boot"])


@pytest.fixture
def paths(tmp_path) -> list[str]:
    """Files of four images."""
    folder = make_images(tmp_path / "images", 4)
    return [str(folder / f"{i}.png") for i in range(4)]


@pytest.fixture
def save(tmp_path):
    """Write a data set, or splits of them, and give its name."""

    def save(content: Dataset | dict[str, Dataset]) -> str:
        saved = content if isinstance(content, Dataset) else DatasetDict(**content)
        saved.save_to_disk(tmp_path / "saved")
        return f"hf:{tmp_path / 'saved'}"

    return save


def rows(
    paths: Sequence[str | None], labels: list[Any], feature: Any = NAMES, image: str = "image", label: str = "label"
) -> Dataset:
    columns = {image: paths[: len(labels)], label: labels}
    return Dataset.from_dict(columns, features=Features({image: Image(), label: feature}))


def test_a_data_set_without_splits(save, paths):
    train, val = huggingface_splits(save(rows(paths, [2, 0, 2, 1])))
    assert train.class_names == ("shoe", "hat", "boot") and tuple(train.labels) == (2, 0, 2, 1)
    assert len(train) == 4 and train.read(3).size == (14, 11) and val is None


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_splits(save, paths, name):
    splits = {"extra": rows(paths, [1]), name: rows(paths, [0, 2]), "train": rows(paths, [2, 0, 2])}
    train, val = huggingface_splits(save(splits))
    assert len(train) == 3 and val is not None and tuple(val.labels) == (0, 1)


def test_classes_without_images_are_left_out(save, paths):
    """Of the others, the order stays."""
    train, val = huggingface_splits(save({"train": rows(paths, [2, 0]), "test": rows(paths, [2])}))
    assert train.class_names == ("shoe", "boot") and tuple(train.labels) == (1, 0)
    assert val is not None and tuple(val.labels) == (1,)


@pytest.mark.parametrize(
    ("feature", "labels", "names", "numbers"),
    [
        (Value("int64"), [10, 9, 2, 9], ("2", "9", "10"), (2, 1, 0, 1)),
        (Value("string"), ["hat", "boot", "hat"], ("boot", "hat"), (1, 0, 1)),
    ],
)
def test_labels_that_are_numbers_or_names(save, paths, feature, labels, names, numbers):
    train, _ = huggingface_splits(save(rows(paths, labels, feature)))
    assert train.class_names == names and tuple(train.labels) == numbers


@pytest.mark.parametrize(
    ("image", "label", "feature"),
    [("photo", "kind", NAMES), ("img", "labels", Value("int64")), ("image", "fine_label", Value("int64"))],
)
def test_columns_are_found_by_type_or_by_name(save, paths, image, label, feature):
    data = rows(paths, [1, 2], feature, image, label).add_column("note", ["a", "b"])
    train, _ = huggingface_splits(save(data))
    assert len(train) == 2 and len(train.class_names) == 2 and train.read(0).size == (14, 11)


def test_of_several_columns_the_name_decides(save, paths):
    columns = {"mask": paths[:2], "img": paths[2:], "coarse_label": [0, 0], "fine_label": [1, 2]}
    types = {"mask": Image(), "img": Image(), "coarse_label": NAMES, "fine_label": NAMES}
    train, _ = huggingface_splits(save(Dataset.from_dict(columns, features=Features(types))))
    assert train.class_names == ("hat", "boot")
    assert train.read(0).tobytes() != train.read(1).tobytes()


def test_images_that_are_only_names_of_files(save, paths):
    Path(paths[1]).unlink()
    data = Dataset.from_dict({"image": paths, "label": ["a", "b", "a", "b"]})
    source, _ = huggingface_splits(save(data))
    assert source.read(0).size == (14, 11)
    with refused(paths[1]):
        source.read(1)


def test_a_image_that_is_missing(save, paths):
    source, _ = huggingface_splits(save(rows([paths[0], None, paths[2]], [0, 1, 1])))
    assert source.read(2).size == (14, 11)
    with refused("image 1 of hf:", "missing"):
        source.read(1)


def test_a_stored_format_does_not_matter(save, paths):
    data = rows(paths, [2, 0, 2, 1])
    data.set_format("numpy", columns=["label"])
    train, _ = huggingface_splits(save(data))
    assert tuple(train.labels) == (2, 0, 2, 1) and train.read(0).size == (14, 11)


def test_a_name_on_the_hub(paths, monkeypatch):
    asked = []

    def load_dataset(name: str) -> DatasetDict:
        asked.append(name)
        return DatasetDict({datasets.Split.TRAIN: rows(paths, [0, 1])})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    train, _ = huggingface_splits("hf:owner/name")
    assert asked == ["owner/name"] and train.name(1) == "image 1 of hf:owner/name (train)"


def test_no_images(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda _: rows([], []))
    with refused("no images in hf:owner/name"):
        huggingface_splits("hf:owner/name")


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with refused("hf:owner/name", "cannot load"):
        huggingface_splits("hf:owner/name")


def test_no_package(save, paths, monkeypatch):
    name = save(rows(paths, [0, 1]))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refused("datasets is not installed", "pip install -c constraints.txt -e '.[hf]'"):
        huggingface_splits(name)


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{")
    for place in ("missing", "empty", "broken"):
        with refused(f"cannot load hf:{tmp_path / place}"):
            huggingface_splits(f"hf:{tmp_path / place}")
    with refused("no name", "hf:owner/name"):
        huggingface_splits("hf:")


def test_a_data_set_without_train(save, paths):
    with refused("test, extra", "train"):
        huggingface_splits(save({"test": rows(paths, [0, 1]), "extra": rows(paths, [0])}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"text": ["a"], "label": ["b"]}, ["no column of images", "text, label", "image or img"]),
        ({"image": ["a"], "note": ["b"]}, ["no column of labels", "image, note", "label or labels"]),
        ({"image": ["a"], "label": [0.5]}, ["image 0", "0.5"]),
        ({"image": ["a", "b"], "label": ["c", None]}, ["image 1", "no label"]),
        ({"image": [1.5], "label": ["c"]}, ["'image'", "images"]),
    ],
)
def test_bad_data_sets(save, content, words):
    name = save(Dataset.from_dict(content))
    with refused(name, *words):
        huggingface_splits(name)


def test_labels_that_are_kept_secret(save, paths):
    """As those of tests on the hub: -1."""
    name = save({"train": rows(paths, [0, 1]), "test": rows(paths, [-1, -1])})
    with refused(f"image 0 of {name} (test) has no label"):
        huggingface_splits(name)


def test_a_class_of_validation_that_training_does_not_know(save, paths):
    name = save({"train": rows(paths, [0, 1]), "test": rows(paths, [0, 2])})
    with refused(f"{name} (test)", "'boot'", "shoe, hat"):
        huggingface_splits(name)
