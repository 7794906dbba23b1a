"""Counted work, against what the reference was measured at."""

from __future__ import annotations

import pytest

import nextscale as ns
from nextscale.work import count_work


def test_d16_at_256_pixels():
    work = count_work(ns.TokenizerConfig(), ns.VARConfig())
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
    work = count_work(ns.TokenizerConfig(schedule, channels=32, codebook_size=50, code_dim=8), config)
    blocks = 3 * (24 * 7 * 64**2 + 4 * (1 * 1 + 6 * 7) * 64)
    assert work.transformer * 1e9 == pytest.approx(blocks + 2 * 7 * 64 * 50 + 2 * 6 * 8 * 64)
    assert work.condition * 1e9 == pytest.approx(3 * 12 * 64**2 + 4 * 64**2)
