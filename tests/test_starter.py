"""The model in the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch

import nextscale as ns

FOLDER = Path(str(resources.files("nextscale"))) / "starter"


@pytest.fixture(scope="module")
def pipeline() -> ns.Pipeline:
    return ns.Pipeline.from_pretrained("starter", device="cpu")


def test_its_size():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 25e6


def test_its_classes(pipeline):
    assert len(pipeline.class_names) == 10 and {"dress", "hat", "t-shirt"} <= set(pipeline.class_names)


def test_it_draws(pipeline):
    result = pipeline(["dress", "shoes"], seed=[0, 1])
    assert [image.size for image in result.images] == [(64, 64), (64, 64)]
    alone = pipeline(["shoes"], seed=[1])
    assert all(torch.equal(a[1:], b) for a, b in zip(result.tokens, alone.tokens, strict=True))


def test_a_image_alone_and_in_a_batch_of_8(pipeline):
    together = ns.sample(pipeline.tokenizer, pipeline.model, list(range(8)), cfg=4.0, seed=list(range(8)))
    for i in (0, 7):
        alone = ns.sample(pipeline.tokenizer, pipeline.model, [i], cfg=4.0, seed=[i])
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together.tokens, alone.tokens, strict=True))
        torch.testing.assert_close(together.images[i : i + 1], alone.images, atol=1e-4, rtol=0)
