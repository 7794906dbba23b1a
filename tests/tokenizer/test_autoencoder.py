"""The autoencoder."""

from __future__ import annotations

import pytest
import torch

from nextscale.tokenizer.autoencoder import Decoder, Encoder, Level


def levels_of(part: Encoder | Decoder) -> list[Level]:
    return [level for level in part.levels if isinstance(level, Level)]


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 1, 2)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3)])
def test_each_level_after_the_first_halves_the_side(multipliers, grid):
    factor = 2 ** (len(multipliers) - 1)
    images = torch.zeros(2, 3, grid[0] * factor, grid[1] * factor)
    features = Encoder(32, multipliers, 1, 8)(images)
    assert features.shape == (2, 8, *grid)
    assert Decoder(32, multipliers, 1, 8)(features).shape == images.shape


def test_attention_only_at_the_lowest_resolution():
    for part in (Encoder(32, (1, 1, 2), 2, 8), Decoder(32, (1, 1, 2), 2, 8)):
        counts = [len(level.attentions) for level in levels_of(part)]
        assert counts == [0, 0, len(levels_of(part)[-1].blocks)]


def test_the_decoder_has_one_block_more_per_level():
    assert {len(level.blocks) for level in levels_of(Encoder(32, (1, 2), 2, 8))} == {2}
    assert {len(level.blocks) for level in levels_of(Decoder(32, (1, 2), 2, 8))} == {3}
