"""All kinds of data sets with the same images give the same examples."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from tiny import refused
from tiny_data import KINDS, Images, make_files
from torch.utils.data import DataLoader

from nextscale.data.dataset import Example, ImageDataset
from nextscale.data.splits import absolute_name, open_image_splits, open_splits

SIZE = (8, 8)


@pytest.fixture
def images(tmp_path) -> Images:
    return make_files(tmp_path / "files")


@pytest.fixture(params=KINDS)
def data(request, images, tmp_path) -> str:
    """The name of a data set of each kind."""
    return KINDS[request.param](images, tmp_path / "place")


def same(a: Example, b: Example) -> bool:
    return torch.equal(a.image, b.image) and a.label == b.label and a.unreadable == b.unreadable


def test_every_kind_gives_the_examples_of_a_folder(data, images):
    for ours, theirs in zip(
        open_splits(data, SIZE, seed=3), open_splits(KINDS["folder"](images, Path()), SIZE, seed=3), strict=True
    ):
        assert ours is not None and theirs is not None
        assert ours.source.class_names == theirs.source.class_names == ("boot", "dress")
        assert len(ours) == len(theirs)
        assert all(same(ours[epoch, i], theirs[epoch, i]) for epoch in (0, 5) for i in range(len(ours)))


def load(data: ImageDataset, workers: int) -> list[Example]:
    keys = [[(1, i), (0, i)] for i in range(len(data))]
    return [
        example
        for batch in DataLoader(data, batch_sampler=keys, num_workers=workers, collate_fn=list)
        for example in batch
    ]


def test_workers_change_nothing(data):
    """Not even when this process has read images before."""
    train, _ = open_image_splits(data, SIZE, seed=0)
    assert train[0, 2].image.shape == (3, *SIZE)
    alone, shared = load(train, 0), load(train, 2)
    assert len(alone) == 14 and all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_every_kind_can_be_pickled(data):
    train, _ = open_splits(data, SIZE, seed=0)
    again = pickle.loads(pickle.dumps(train))
    assert all(same(train[0, i], again[0, i]) for i in range(len(train)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupt_image_is_passed_over_and_named(kind, images, tmp_path):
    broken = images["train"][1]
    broken.write_bytes(broken.read_bytes()[:40])
    train, _ = open_image_splits(KINDS[kind](images, tmp_path / "place"), SIZE, seed=0)
    (sentence,) = train[0, 1].unreadable
    assert train.source.name(1) in sentence and "\n" not in sentence
    assert not train[0, 2].unreadable and train[0, 1].label == train[0, 2].label
    with refused(train.source.name(1)):
        train.source.read(1)


def test_a_image_that_is_too_narrow_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setattr("nextscale.imaging.images.LARGEST_ASPECT", 0.5)
    train, _ = open_splits(KINDS["shards"](images, tmp_path / "place"), SIZE, seed=0)
    with refused("none of the 7", "boot/0.png in", "too narrow"):
        train[0, 0]


@pytest.mark.parametrize("data", ["", " "])
def test_no_name(data):
    with refused("no data", ".csv", ".tar", "hf:"):
        open_splits(data, SIZE, seed=0)


def test_names_that_hold_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "saved").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_name("photos") == str(tmp_path / "photos")
    assert absolute_name("shards/train-{000..012}.tar") == str(tmp_path / "shards" / "train-{000..012}.tar")
    assert absolute_name("hf:saved") == f"hf:{tmp_path / 'saved'}"
    assert absolute_name("hf:owner/name") == "hf:owner/name"
