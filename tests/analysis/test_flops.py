"""Counted FLOPs match the measurements of the reference."""

from __future__ import annotations

import pytest
import torch
from tiny_infinity import make_infinity
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.analysis.flops import block_parameters, count_flops, training_flops
from nextscale.families.infinity import PUBLISHED
from nextscale.transformer import rope
from nextscale.transformer.infinity_config import InfinityConfig


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


@pytest.mark.long
def test_infinity_at_the_sizes_of_the_specification():
    """TFLOP with guidance: 2B 3.9 at 0.06M and 115 at 1M, as the specification estimates; 8B 382 at 1M."""
    for name, budget, expected in (("2b", "0.06M", 3.9), ("2b", "1M", 115), ("8b", "1M", 382)):
        published = PUBLISHED[name]
        work = count_flops(published.tokenizer, published.model, ns.ScaleSchedule.infinity(budget))
        assert 2 * work.sampling / 1000 == pytest.approx(expected, rel=0.05)
    assert work.transformer_parameters == pytest.approx(8375.79, abs=0.01)


def test_blocks_of_infinity_by_hand():
    """Cross-attention adds 4 n C^2 and 4 n l C to a block for l tokens of text, and 4 l C^2 once."""
    schedule, c, text = ns.ScaleSchedule(((1, 1), (2, 3)), 1.0), 48, 5
    config = InfinityConfig(schedule=schedule, depth=3, width=c, heads=3, bits=6, text_width=32, text_rows=8)
    work = count_flops(ns.TokenizerConfig.infinity(6, schedule=schedule, channels=32), config, prompt_tokens=text)
    hidden = config.hidden
    blocks = 3 * (7 * (8 * c**2 + 4 * c * hidden + 4 * c**2 + 4 * text * c) + 4 * (1 * 1 + 6 * 7) * c)
    assert work.transformer * 1e9 == pytest.approx(blocks + 7 * 2 * c * 12 + 6 * 2 * 6 * c)


def test_counting_leaves_rotary_positions_real():
    """They are computed once and kept. Counting runs on the meta device, whose tensors have no values."""
    rope._of_visit.cache_clear()
    model = make_infinity()
    count_flops(make_bits_tokenizer().config, model.config)
    assert model.rotation(model.schedule.visits).device.type == "cpu"


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
