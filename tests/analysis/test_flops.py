"""Counted FLOPs match the measurements of the reference."""

from __future__ import annotations

import pytest
import torch

import nextscale as ns
from nextscale.analysis.flops import block_parameters, count_flops, training_flops


def test_d16_at_256_pixels():
    work = count_flops(ns.TokenizerConfig(), ns.VARConfig())
    assert work.tokenizer_parameters == pytest.approx(108.95, abs=0.005)
    assert work.transformer_parameters == pytest.approx(310.28, abs=0.005)
    assert work.encoder == pytest.approx(215.1, rel=0.01)
    assert work.decoder == pytest.approx(393.7, rel=0.01)
    linear, attention, head = 548, 38, 11  # with guidance: twice
    assert 2 * work.transformer == pytest.approx(linear + attention + head, rel=0.01)
    assert 2 * work.condition == pytest.approx(4 / 10, rel=0.1)  # the reference does it again at all ten scales


def test_linear_layers_by_hand():
    """Blocks cost 24 n C^2 and 4 n m C for m tokens seen, the head 2 n C V, words 2 n D C, AdaLN 12 C^2 and 4 C^2."""
    schedule = ns.ScaleSchedule(((1, 1), (2, 3)))
    config = ns.VARConfig(schedule, depth=3, width=64, heads=2, codebook_size=50, code_dim=8)
    work = count_flops(ns.TokenizerConfig(schedule, channels=32, codebook_size=50, code_dim=8), config)
    blocks = 3 * (24 * 7 * 64**2 + 4 * (1 * 1 + 6 * 7) * 64)
    assert work.transformer * 1e9 == pytest.approx(blocks + 2 * 7 * 64 * 50 + 2 * 6 * 8 * 64)
    assert work.condition * 1e9 == pytest.approx(3 * 12 * 64**2 + 4 * 64**2)


@pytest.mark.parametrize("fields", [{}, {"shared_adaln": True}, {"mlp_ratio": 2.5}], ids=str)
def test_parameters_of_scaling_laws_are_the_matrices_of_the_blocks(fields):
    with torch.device("meta"):
        model = ns.VAR(ns.VARConfig(ns.ScaleSchedule.square((1, 2)), depth=3, width=96, heads=3, **fields))
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith(("blocks.", "adaln."))]
    assert block_parameters(model.config) == sum(p.numel() for p in matrices)


@pytest.mark.parametrize("depth", [6, 16, 30])
def test_parameters_of_official_proportions(depth):
    assert block_parameters(ns.VARConfig.of_depth(depth)) == 73_728 * depth**3


def test_training_flops():
    """Of d16 the specification says 901 GFLOP, without the pairs of tokens that may not see each other."""
    assert training_flops(ns.VARConfig()) == pytest.approx(901, rel=0.01)
    small = ns.VARConfig(ns.ScaleSchedule(((1, 1), (2, 3))), depth=3, width=64, heads=2, codebook_size=50, code_dim=8)
    forward = 3 * (24 * 7 * 64**2 + 4 * 7 * 7 * 64) + 2 * 7 * 64 * 50 + 2 * 6 * 8 * 64 + 3 * 12 * 64**2 + 4 * 64**2
    assert training_flops(small) * 1e9 == pytest.approx(3 * forward)
