"""Recipes for InfinityStar."""

from __future__ import annotations

from dataclasses import replace

from nextscale.training.recipes import TextRecipe, TransformerRecipe, VideoRecipe, WordsRecipe

OFFICIAL = TransformerRecipe(
    steps=50_000,
    batch_size=2048,
    learning_rate=2e-4,
    warmup=0.0,
    final_ratio=1.0,
    betas=(0.9, 0.97),
    weight_decay=0.0,
    weight_decay_end=0.0,
    clip=5.0,
    ema_decay=0.0,
    flip=False,
    depth=36,
    width=4096,
    heads=32,
    text=TextRecipe(self_correction_scales=1000, chunks=6),
    video=VideoRecipe(kv_heads=8, budget="0.06M"),
)
"""The published recipe for 192p. The learning rates are those of the paper; the released script has 4e-5."""

CLIPS = TransformerRecipe(
    steps=12_000,
    batch_size=32,
    learning_rate=1e-3,
    final_ratio=0.05,
    betas=(0.9, 0.97),
    weight_decay=0.0,
    weight_decay_end=0.0,
    ema_decay=0.999,
    flip=False,
    depth=6,
    width=256,
    heads=8,
    text=TextRecipe(tokens=64, self_correction=0.2, self_correction_scales=1000, words=WordsRecipe()),
)


def later(steps: int, **video: str | int) -> TransformerRecipe:
    """Return the recipe of a later stage, which starts from the model of the one before."""
    changed = replace(VideoRecipe(kv_heads=8), **video)  # type: ignore[arg-type]
    return replace(OFFICIAL, steps=steps, batch_size=1024, learning_rate=1e-4, video=changed)


TRANSFORMERS = {
    "clips": CLIPS,
    "star-192p": OFFICIAL,
    "star-480p": later(8_000, budget="0.40M", subsets="480p"),
    "star-480p-10s": later(8_000, budget="0.40M", subsets="480p", seconds=10),
    "star-720p": later(3_000, budget="0.90M", subsets="720p"),
}
"""``star-*`` are the stages of the 8B model, ``clips`` is small and trains its text encoder, too."""
