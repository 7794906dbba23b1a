"""Nearest codes."""

from __future__ import annotations

import pytest
import torch

from nextscale.tokenizer.codebook import Codebook


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.randn(3, 50, 8, generator=torch.Generator().manual_seed(0))


def codebook(cosine: bool) -> Codebook:
    codes = Codebook(20, 8, cosine)
    lengths = torch.linspace(0.1, 3, 20)[:, None]  # so that distance and angle disagree
    codes.weight.data = torch.randn(20, 8, generator=torch.Generator().manual_seed(1)) * lengths
    return codes


def test_nearest_by_distance(vectors):
    codes = codebook(cosine=False)
    assert torch.equal(codes.nearest(vectors), torch.cdist(vectors, codes.weight).argmin(dim=-1))


def test_nearest_by_angle(vectors):
    codes = codebook(cosine=True)
    cosine = torch.cosine_similarity(vectors[..., None, :], codes.weight, dim=-1)
    assert torch.equal(codes.nearest(vectors), cosine.argmax(dim=-1))


@pytest.mark.parametrize("cosine", [True, False])
def test_length_matters_to_distance_alone(vectors, cosine):
    codes = codebook(cosine)
    assert torch.equal(codes.nearest(vectors), codes.nearest(vectors * 10)) == cosine


@pytest.mark.parametrize("cosine", [True, False])
def test_a_code_is_nearest_to_itself(cosine):
    codes = codebook(cosine)
    tokens = torch.arange(20).view(4, 5)
    assert torch.equal(codes.nearest(codes.codes(tokens)), tokens)


@pytest.mark.parametrize("cosine", [True, False])
def test_autocast_flips_no_token(vectors, cosine):
    codes = codebook(cosine)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = codes.nearest(vectors)
    assert torch.equal(tokens, codes.nearest(vectors))
