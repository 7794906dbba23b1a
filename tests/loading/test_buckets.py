"""Images at several aspect ratios, and the order of their batches."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_data import CAPTIONED, make_files
from tiny_runs import make_images

from nextscale.data import loader
from nextscale.data.batch_order import BatchOrder, bucket_order
from nextscale.data.buckets import BucketedImages
from nextscale.data.loader import Batch, TrainingBatches, check_data, validation_batches
from nextscale.data.splits import open_buckets
from nextscale.scales.aspect import TEMPLATES
from nextscale.training.setup import summary

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "infinity" / "data.json").read_text())
SIZES = {template: (sizes[3][0] * 2, sizes[3][1] * 2) for template, sizes in TEMPLATES.items()}
SHAPES = {(20, 20): 9, (30, 20): 5, (20, 40): 7, (21, 20): 4}
"""Widths and heights of the images, and their numbers: 13 of the template 1, 5 of 0.666, 7 of 2."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i, (size, count) in enumerate(SHAPES.items()):
        for path in make_images(root / f"{i}", count, seed=i, size=size).glob("*.png"):
            path.with_suffix(".txt").write_text(f"{size[0]} by {size[1]}, number {path.stem}")
    return root


@pytest.fixture
def train(photos) -> BucketedImages:
    return open_buckets(photos, SIZES, seed=3)[0]


def batches(train: BucketedImages, count: int, start: int = 0, **options: int) -> list[Batch]:
    return [parts[0] for parts in islice(TrainingBatches(train, 2, start, **options), count)]


def test_images_have_the_size_of_their_template(train):
    assert train.templates == (0.666, 1.0, 2.0)
    assert [len(bucket) for bucket in train.buckets] == [5, 13, 7] and len(train) == 25
    for i in range(len(train)):
        example = train[0, i]
        assert example.template is not None and example.image.shape[1:] == SIZES[example.template]
        width, height = map(int, example.caption.split(",")[0].split(" by "))
        assert min(TEMPLATES, key=lambda template: abs(template - height / width)) == example.template
    assert sorted(train.captions()) == sorted(train[0, i].caption for i in range(25))
    ratios = "0.666 (5, fewer than a batch: not used), 1 (13), 2 (7)"
    assert summary(train, None, 6).endswith(f"\naspect ratios (height / width) and their images: {ratios}")


def test_ratios_mix_across_batches_and_not_within(train):
    found = batches(train, 2 * 11)
    for batch in found:
        assert batch.template is not None and batch.images.shape == (2, 3, *SIZES[batch.template])
    for epoch in (found[:11], found[11:]):
        assert Counter(batch.template for batch in epoch) == {0.666: 2, 1.0: 6, 2.0: 3}
        seen = [caption for batch in epoch for caption in batch.captions]
        assert len(set(seen)) == len(seen)
    assert [b.template for b in found[:11]] != [b.template for b in found[11:]]


@pytest.mark.parametrize("start", [1, 11, 17])
def test_starting_at_a_step_equals_running_to_it(train, start):
    for ours, theirs in zip(batches(train, 5, start), batches(train, start + 5)[start:], strict=True):
        assert torch.equal(ours.images, theirs.images) and ours[2:] == theirs[2:]


def test_workers_change_nothing(train):
    for ours, theirs in zip(batches(train, 6, workers=2), batches(train, 6), strict=True):
        assert torch.equal(ours.images, theirs.images) and ours.captions == theirs.captions


@pytest.mark.parametrize(("processes", "turns"), [(1, 2), (2, 1), (2, 2)])
def test_all_parts_of_a_batch_have_one_ratio(train, monkeypatch, processes, turns):
    whole = [batch for (batch,) in islice(TrainingBatches(train, 4, 1), 4)]
    parts: list[list[list[Batch]]] = []
    for rank in range(processes):
        monkeypatch.setattr(loader, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(loader, "world_size", lambda: processes)
        parts.append(list(islice(TrainingBatches(train, 4, 1, turns=turns), 4)))
    for step, batch in enumerate(whole):
        ours = [part for steps in parts for part in steps[step]]
        assert {part.template for part in ours} == {batch.template}
        assert torch.equal(torch.cat([part.images for part in ours]), batch.images)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("limit", [0, 9])
def test_validation_sees_every_image_once_and_mixes_no_ratios(photos, monkeypatch, processes, limit):
    data = BucketedImages(open_buckets(photos, SIZES, 0)[0].source, SIZES, augment=False, captions=True)
    seen, lengths = [], []
    monkeypatch.setattr(loader, "world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(loader, "rank", lambda rank=rank: rank)
        found = list(validation_batches(data, 6, limit))
        seen += [caption for batch in found for caption in batch.captions[: batch.batch_slice.count]]
        lengths.append(len(found))
    assert len(seen) == len(set(seen)) == (limit or 25) and len(set(lengths)) == 1
    assert len({caption.split(",")[0] for caption in seen}) == 4


def test_a_broken_image_is_replaced_by_one_of_its_bucket(tmp_path):
    for name, size in (("wide", (30, 20)), ("tall", (20, 30))):
        for path in make_images(tmp_path / name, 3, size=size).glob("*.png"):
            path.with_suffix(".txt").write_text(name)
    path = tmp_path / "wide" / "2.png"
    path.write_bytes(path.read_bytes()[:100])  # its header is whole
    (tmp_path / "tall" / "1.png").write_bytes(b"no image")
    train, _ = open_buckets(tmp_path, SIZES, 0)
    examples = [train[0, i] for i in range(6)]
    named = [sentence for example in examples for sentence in example.unreadable]
    assert len(named) == 2 and any(str(path) in sentence for sentence in named)
    assert all((example.caption == "wide") == (example.template == 0.666) for example in examples)


def test_a_ratio_without_a_whole_image_joins_the_largest(tmp_path):
    for name, size, count in (("wide", (30, 20), 3), ("tall", (20, 30), 2)):
        for path in make_images(tmp_path / name, count, size=size).glob("*.png"):
            path.with_suffix(".txt").write_text(name)
    broken = sorted((tmp_path / "tall").glob("*.png"))
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])  # its header is whole
    train, _ = open_buckets(tmp_path, SIZES, 0)
    assert train.templates == (0.666,) and len(train) == 5
    examples = [train[0, i] for i in range(5)]
    assert all(example.caption == "wide" for example in examples)
    named = {sentence for example in examples for sentence in example.unreadable}
    assert len(named) == 2 and all(any(str(path) in sentence for sentence in named) for path in broken)


def test_images_that_lie_on_their_side(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{i}.jpg", exif=exif)
        (tmp_path / f"{i}.txt").write_text("a portrait")
    assert open_buckets(tmp_path, SIZES, 0)[0].templates == (1.5,)


@pytest.mark.parametrize("kind", CAPTIONED)
def test_every_kind_of_data_has_ratios(kind, tmp_path):
    images = make_files(tmp_path / "files")
    captions = {f"{path.parent.name}/{path.stem}": ["a"] for paths in images.values() for path in paths}
    train, val = open_buckets(CAPTIONED[kind](images, captions, tmp_path / "place"), SIZES, 0, val_fraction=0.3)
    assert val is not None
    assert train.templates == val.templates == (0.8,) and train[0, 1].image.shape[1:] == SIZES[0.8]  # 14 by 11


def test_a_batch_larger_than_every_bucket(train):
    check_data(train, None, 13)
    with refused("images of one aspect ratio", "at most 13", "not 14"):
        check_data(train, None, 14)


@pytest.mark.parametrize("case", GOLDEN["ratio_order"], ids=lambda case: str(case["seed"]))
def test_the_order_of_the_reference(case):
    names = list(case["batches_per_file"])
    order = bucket_order([case["batches_per_file"][name] for name in names], np.random.default_rng(case["seed"]))
    assert [names[i] for i in order] == case["order"]


def test_one_bucket_keeps_the_order_of_former_versions():
    """A permutation of (seed, epoch), cut into batches."""
    order = BatchOrder([range(11)], 3, seed=5)
    expected = np.random.default_rng((5, 2)).permutation(11)[:9].reshape(3, 3)
    assert order.per_epoch == 3 and np.array_equal(np.stack(order.batches(2)), expected)
