"""Recipes for Infinity and its tokenizers of bits."""

from __future__ import annotations

from dataclasses import replace

from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.training.presets.var import SMALL_TOKENIZER

SCENES = replace(
    SMALL_TOKENIZER,
    steps=6000,
    scale_dropout=0.1,
    entropy=1e-3,
    model=TokenizerConfig(
        schedule=ScaleSchedule.square((1, 2, 4, 8, 16)),
        channels=32,
        multipliers=(1, 2, 3),
        num_blocks=1,
        code_dim=24,
        quantizer="bits",
        attention=False,
    ),
)

TOKENIZERS = {
    "scenes": SCENES,
    "scenes-130": replace(
        SCENES,
        model=replace(SCENES.model, schedule=ScaleSchedule.square((1, 2, 3, 4, 6, 8)), multipliers=(1, 2, 2, 4)),
    ),
}
"""``scenes``: images of 64 x 64 pixels as 341 tokens of 24 bits, stride 4. ``scenes-130``: 130 tokens, stride 8."""
