"""Recipes for VAR and its tokenizer."""

from __future__ import annotations

from dataclasses import replace

from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.recipes import TokenizerRecipe, TransformerRecipe

SMALL_TOKENIZER = TokenizerRecipe(
    steps=2000,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.0,
    weight_decay_end=0.0,
    schedule="cos",
    final_ratio=0.05,
    clip=1.0,
    ema_decay=0.998,
    scale_dropout=0.2,
    adversarial=AdversarialRecipe(channels=32, feature_matching=0.05),
    model=TokenizerConfig(
        schedule=ScaleSchedule.square((1, 2, 3, 4, 6, 8)),
        channels=32,
        multipliers=(1, 2, 2, 4),
        num_blocks=1,
        code_dim=16,
        codebook_size=1024,
    ),
)

TOKENIZERS = {
    "starter": SMALL_TOKENIZER,
    "cifar10": replace(
        SMALL_TOKENIZER,
        steps=1500,
        batch_size=64,
        adversarial=AdversarialRecipe(channels=32, layers=2, feature_matching=0.05),
        model=replace(SMALL_TOKENIZER.model, schedule=ScaleSchedule.square((1, 2, 4, 8)), multipliers=(1, 2, 4)),
    ),
    "tiny-imagenet": replace(
        SMALL_TOKENIZER,
        steps=100_000,
        batch_size=128,
        learning_rate=3e-4,
        ema_decay=0.9999,
        adversarial=AdversarialRecipe(feature_matching=0.05),
        model=replace(SMALL_TOKENIZER.model, channels=96, num_blocks=2, code_dim=32, codebook_size=4096),
    ),
    "256": TokenizerRecipe(
        steps=500_000,
        batch_size=256,
        learning_rate=3e-4,
        weight_decay=0.0,
        weight_decay_end=0.0,
        betas=(0.5, 0.9),
        clip=10.0,
        ema_decay=0.9999,
        adversarial=AdversarialRecipe(feature_matching=0.05),
        model=TokenizerConfig(),
    ),
}
"""``256`` has the official model and the published training values: learning rate, betas, clip, EMA, loss weights,
start of the losses. It uses feature matching instead of LPIPS, and PatchGAN instead of the DINO critic. To use LPIPS
and DINO, set lpips=0.5, vgg_weights, lpips_weights, adversarial.critic=dino and adversarial.dino_weights."""

IMAGENET = 1_281_167
"""Number of training images of ImageNet-1k, for the epochs of the official recipes."""


def official(
    depth: int,
    *,
    batch_size: int = 768,
    epochs: int,
    base_rate: float,
    init_gamma: float,
    final_ratio: float,
    weight_decay_end: float = 0.05,
    shared_adaln: bool = False,
) -> TransformerRecipe:
    """Return an official recipe: width 64 * depth, ``depth`` heads, peak rate base_rate * batch / 256, no EMA, no flip.

    Args:
        epochs: number of epochs of ImageNet. For other data use `RunSettings.epochs`.
        base_rate, init_gamma, final_ratio, weight_decay_end: tblr, alng, wpe and twde of the official code.
    """
    return TransformerRecipe(
        steps=epochs * -(-IMAGENET // batch_size),
        batch_size=batch_size,
        learning_rate=base_rate * batch_size / 256,
        gpu_precision="float16",
        final_ratio=final_ratio,
        weight_decay_end=weight_decay_end,
        ema_decay=0.0,
        flip=False,
        depth=depth,
        width=64 * depth,
        heads=depth,
        shared_adaln=shared_adaln,
        drop_path=0.1 * depth / 24,
        init_gamma=init_gamma,
    )


SMALL_TRANSFORMER = TransformerRecipe(
    steps=4500,
    batch_size=32,
    learning_rate=1e-3,
    ema_decay=0.998,
    depth=6,
    width=256,
    heads=8,
    drop_path=0.1,
    init_gamma=1e-1,
)

TRANSFORMERS = {
    "starter": SMALL_TRANSFORMER,
    "cifar10": replace(
        SMALL_TRANSFORMER,
        steps=8000,
        batch_size=64,
        learning_rate=2e-3,
        final_ratio=0.01,
        ema_decay=0.99,
        drop_path=0.0,
    ),
    "tiny-imagenet": replace(
        SMALL_TRANSFORMER, steps=100_000, batch_size=256, ema_decay=0.9999, depth=12, width=768, heads=12
    ),
    "d16": official(16, epochs=200, base_rate=1e-4, init_gamma=1e-3, final_ratio=0.1),
    "d20": official(20, epochs=250, base_rate=1e-4, init_gamma=1e-3, final_ratio=0.1),
    "d24": official(24, epochs=350, base_rate=8e-5, init_gamma=1e-4, final_ratio=0.01),
    "d30": official(
        30, batch_size=1024, epochs=350, base_rate=8e-5, init_gamma=1e-5, final_ratio=0.01, weight_decay_end=0.08
    ),
    "d36": official(
        36, epochs=350, base_rate=8e-5, init_gamma=5e-6, final_ratio=0.01, weight_decay_end=0.08, shared_adaln=True
    ),
}
