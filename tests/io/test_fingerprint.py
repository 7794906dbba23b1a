"""Fingerprints of pieces."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nextscale.io.fingerprint import PIECE, PIECES, pieces, quick_fingerprint


def model(seed: int, width: int = 8) -> nn.Linear:
    module = nn.Linear(width, width)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return module


@pytest.mark.parametrize("width", [8, 300])
def test_weights_are_told_apart(width):
    assert (
        quick_fingerprint(model(0, width)) == quick_fingerprint(model(0, width)) != quick_fingerprint(model(1, width))
    )
    assert quick_fingerprint(model(0, width).bfloat16()) != quick_fingerprint(model(0, width))


def test_a_single_number_of_a_small_tensor_counts():
    changed = model(0)
    changed.weight.data[3, 3] += 1
    assert quick_fingerprint(changed) != quick_fingerprint(model(0))


@pytest.mark.parametrize("size", [0, 1, PIECES * PIECE, PIECES * PIECE + 1, 10**6 + 3])
def test_pieces_reach_from_the_first_number_to_the_last(size):
    found = pieces(torch.arange(size))
    assert len(found) == min(size, PIECES * PIECE)
    assert not size or (found[0] == 0 and found[-1] == size - 1)
