"""Recipes for Infinity."""

from __future__ import annotations

from dataclasses import replace

from nextscale.training.recipes import TextRecipe, TransformerRecipe, WordsRecipe


def official(depth: int, width: int, heads: int, chunks: int = 4, steps: int = 150_000) -> TransformerRecipe:
    """Return the published recipe for 256 pixels, with a text encoder that is not trained.

    The learning rate is the one that the authors give for a batch of 4096, not that of their script.

    Args:
        depth, width, heads, chunks: as in `nextscale.InfinityConfig.named`.
    """
    return TransformerRecipe(
        steps=steps,
        batch_size=4096,
        learning_rate=6e-5,
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
        text=TextRecipe(budget="0.06M", aspects=True, chunks=chunks),
    )


def stages(name: str, first: TransformerRecipe) -> dict[str, TransformerRecipe]:
    """Return the three published stages: 256, 512 and 1024 pixels. Each starts from the model of the one before."""
    assert first.text is not None
    second = replace(first, steps=110_000, text=replace(first.text, budget="0.25M"))
    last = {"steps": 60_000, "batch_size": 2048, "learning_rate": 2e-5}
    third = replace(first, **last, text=replace(first.text, budget="1M"))
    return {name: first, f"{name}-512": second, f"{name}-1024": third}


SCENES = TransformerRecipe(
    steps=12_000,
    batch_size=32,
    learning_rate=1e-3,
    final_ratio=0.05,
    betas=(0.9, 0.97),
    ema_decay=0.999,
    flip=False,
    depth=6,
    width=256,
    heads=8,
    shared_adaln=True,
    init_gamma=1e-1,
    text=TextRecipe(tokens=64, self_correction=0.2, words=WordsRecipe()),
)

TRANSFORMERS = {
    "scenes": SCENES,
    **{
        f"layer{depth}": official(depth, width, heads, steps=90_000)
        for depth, width, heads in ((12, 768, 8), (16, 1152, 12), (24, 1536, 16), (32, 2080, 20), (40, 2688, 24))
    },
    "layer48": official(48, 3360, 28, steps=90_000),
    **stages("2b", official(32, 2048, 16, chunks=8)),
    **stages("8b", official(40, 3584, 28, chunks=8)),
}
"""``layer12`` to ``layer48`` are the models of the scaling study, ``2b`` and ``8b`` the released ones."""
