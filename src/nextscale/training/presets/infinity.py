"""Recipes for Infinity."""

from __future__ import annotations

from nextscale.training.recipes import TextRecipe, TransformerRecipe, WordsRecipe

OFFICIAL_BATCH, OFFICIAL_RATE = 4096, 6e-5
"""Batch size and learning rate of the published training at 256 and 512 pixels."""


def official(depth: int, width: int, heads: int, chunks: int = 4) -> TransformerRecipe:
    """Return the published recipe for 256 pixels. The sizes are those of `nextscale.InfinityConfig.named`."""
    return TransformerRecipe(
        steps=150_000,
        batch_size=OFFICIAL_BATCH,
        learning_rate=OFFICIAL_RATE,
        warmup=0.0,
        final_ratio=1.0,
        betas=(0.9, 0.97),
        weight_decay=0.005,
        weight_decay_end=0.005,
        clip=5.0,
        ema_decay=0.0,
        flip=False,
        depth=depth,
        width=width,
        heads=heads,
        shared_adaln=True,
        drop_path=0.1,
        init_gamma=5e-6,
        text=TextRecipe(chunks=chunks),
    )


SCENES = TransformerRecipe(
    steps=12_000,
    batch_size=32,
    learning_rate=1e-3,
    final_ratio=0.05,
    betas=(0.9, 0.97),
    ema_decay=0.999,
    flip=False,
    depth=7,
    width=256,
    heads=8,
    shared_adaln=True,
    init_gamma=1e-1,
    text=TextRecipe(tokens=64, self_correction=0.2, words=WordsRecipe()),
)

TRANSFORMERS = {
    "scenes": SCENES,
    "layer12": official(12, 768, 8),
    "layer16": official(16, 1152, 12),
    "layer24": official(24, 1536, 16),
    "layer32": official(32, 2080, 20),
    "layer40": official(40, 2688, 24),
    "layer48": official(48, 3360, 28),
    "2b": official(32, 2048, 16, chunks=8),
    "8b": official(40, 3584, 28, chunks=8),
}
