"""Recipes for bitwise tokenizers, Infinity's."""

from __future__ import annotations

from dataclasses import replace

from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.presets.var import SMALL_TOKENIZER
from nextscale.training.recipes import TokenizerRecipe

SCENES = replace(
    SMALL_TOKENIZER,
    steps=9000,
    batch_size=8,
    learning_rate=7.5e-4,
    scale_dropout=0.1,
    entropy=1e-3,
    adversarial=AdversarialRecipe(channels=32, feature_matching=0.05, start=0.6),
    model=TokenizerConfig(
        schedule=ScaleSchedule.square((1, 2, 3, 4, 6, 8)),
        channels=32,
        multipliers=(1, 1, 2, 4),
        num_blocks=1,
        code_dim=32,
        quantizer="bits",
        attention=False,
    ),
)


def first_stage(code_dim: int) -> TokenizerRecipe:
    """Return the published recipe for 256 pixels and stride 16."""
    return TokenizerRecipe(
        steps=500_000,
        batch_size=256,
        learning_rate=1e-4,
        schedule="drop0.9",
        warmup=0.0,
        final_ratio=0.1,
        weight_decay=0.01,
        weight_decay_end=0.01,
        clip=1.0,
        ema_decay=0.0,
        precision="float32",
        l1=1.0,
        l2=0.0,
        quantizer_weight=4.0,
        entropy=1e-3,
        drop_scales=0.5,
        dense_scales=True,
        adversarial=AdversarialRecipe(
            channels=128,
            norm="batch",
            weight=0.3,
            adaptive=False,
            feature_matching=0.05,
            start=0.1,
            warmup=0.0,
            learning_rate=2.0,
            betas=(0.9, 0.95),
            augment=False,
            score_penalty=0.05,
        ),
        model=TokenizerConfig.infinity(code_dim, schedule=ScaleSchedule.infinity("0.06M")),
    )


def second_stage(first: TokenizerRecipe) -> TokenizerRecipe:
    """Return the published recipe for crops of 1024 pixels, each step with 256, 512 or 1024 of them.

    Start it from the run of the first stage: ``--init-from RUN --set adversarial.init_from=RUN``.
    """
    assert first.adversarial
    return replace(
        first,
        steps=200_000,
        schedule="drop0.75",
        shrink=(4, 2, 1),
        one_of=(1, 2, 4),
        adversarial=replace(first.adversarial, start=0.0),
        model=replace(first.model, schedule=ScaleSchedule.infinity("1M")),
    )


TOKENIZERS = {
    "scenes": SCENES,
    "infinity-d16": first_stage(16),
    "infinity-d32": first_stage(32),
    "infinity-d16-1024": second_stage(first_stage(16)),
    "infinity-d32-1024": second_stage(first_stage(32)),
}
"""``scenes``: images of 64 x 64 pixels as 130 tokens of 32 bits, stride 8.

``infinity-*`` have the official models and the published training values, with three exceptions. They use feature
matching instead of LPIPS; to use LPIPS, set lpips=1, vgg_weights, lpips_weights and adversarial.feature_matching=0.
Biases and norms have no weight decay. Images are resized as for VAR, to 1.125 times the crop."""
