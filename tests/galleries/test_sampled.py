"""A sampled image does not depend on its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var, refused

import nextscale as ns
from nextscale.evaluation.gallery import Gallery
from nextscale.galleries.sampled import SampledImages
from nextscale.sampling.settings import SamplingSettings

SETTINGS = SamplingSettings(cfg=2.0, top_k=10, top_p=0.9)


@pytest.fixture(scope="module")
def pipeline() -> ns.Pipeline:
    schedule = SCHEDULES["square"]
    return ns.Pipeline(make_tokenizer(schedule), make_var(schedule), [*"abcde"])


def drawn(pipeline: ns.Pipeline, count: int = 10, **more) -> SampledImages:
    return SampledImages(pipeline, "tiny", count, SETTINGS, **more)


def test_a_image_is_that_of_its_seed(pipeline):
    gallery: Gallery = drawn(pipeline, seed=7)
    read = gallery.read([3, 8])
    for i, pixels in zip((3, 8), read.pixels, strict=True):
        (expected,) = pipeline([i // 2], cfg=2.0, top_k=10, top_p=0.9, seed=[7 + i]).images
        assert np.array_equal(pixels.permute(1, 2, 0), np.asarray(expected))
    assert read.labels.tolist() == [1, 4] and read.indices.tolist() == [3, 8]
    assert gallery.size == (8, 8) and len(gallery) == 10


@pytest.mark.parametrize(
    ("count", "labels"),
    [(5, [0, 1, 2, 3, 4]), (10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), (3, [0, 1, 3]), (7, [0, 0, 1, 2, 2, 3, 4])],
)
def test_classes_come_in_order_and_evenly(pipeline, count, labels):
    assert drawn(pipeline, count).labels == labels


def test_a_batch_that_is_too_large_is_halved(pipeline, monkeypatch):
    expected = drawn(pipeline).read(range(7)).pixels
    scales, batches = pipeline.scales, []

    def small(labels, **arguments):
        batches.append(len(labels))
        if len(labels) > 2:
            raise torch.OutOfMemoryError
        return scales(labels, **arguments)

    monkeypatch.setattr(pipeline, "scales", small)
    assert torch.equal(drawn(pipeline).read(range(7)).pixels, expected)
    assert batches == [7, 3, 1, 2, 4, 2, 2]
    monkeypatch.setattr(pipeline, "scales", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        drawn(pipeline).read([0])


def test_what_images_depend_on(pipeline):
    one = drawn(pipeline)
    assert one.made_from == drawn(pipeline).made_from != drawn(pipeline, seed=1).made_from
    other = one.at(SamplingSettings(cfg=3.0))
    assert other.made_from == one.made_from | {"cfg": 3.0, "top_k": 900, "top_p": 0.96}
    assert not torch.equal(one.read([0]).pixels, other.read([0]).pixels)
    schedule = SCHEDULES["square"]
    weights = ns.Pipeline(make_tokenizer(schedule), make_var(schedule, shared_adaln=True))
    assert drawn(weights).made_from["weights"] != one.made_from["weights"]


def test_records_of_older_stores_still_match(pipeline):
    """Stores written before there was a temperature have none in their record."""
    keys = ["model", "weights", "count", "seed", "dtype", "cfg", "top_k", "top_p", "more_smooth"]
    assert [*drawn(pipeline).made_from] == keys
    warm = drawn(pipeline).at(SETTINGS.changed(temperature=0.5))
    assert warm.made_from == drawn(pipeline).made_from | {"temperature": 0.5}
    assert warm.at(SETTINGS).made_from == drawn(pipeline).made_from


def test_the_temperature_is_that_of_the_sampler(pipeline):
    warm = drawn(pipeline).at(SETTINGS.changed(temperature=3.0))
    (expected,) = pipeline([0], cfg=2.0, top_k=10, top_p=0.9, temperature=3.0, seed=[1]).images
    assert np.array_equal(warm.read([1]).pixels[0].permute(1, 2, 0), np.asarray(expected))


def test_numbers_out_of_range(pipeline):
    with refused("at least 1", 0):
        drawn(pipeline, 0)
    with refused("seed", 2**63):
        drawn(pipeline, seed=2**63)
    with refused("seed", -1):
        drawn(pipeline, seed=-1)
