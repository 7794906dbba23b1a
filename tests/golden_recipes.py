"""Recipes of the reference's optimizer traces."""

from __future__ import annotations

from typing import Any

from nextscale.training.recipes import TransformerRecipe


def recipe_of(expected: dict, config: Any, batch_size: int, **more: Any) -> TransformerRecipe:
    """The recipe of a trace, for a model of the given sizes. ``more`` are further fields."""
    return TransformerRecipe(
        steps=expected["total_steps"],
        batch_size=batch_size,
        learning_rate=expected["peak_lr"],
        precision="float32",
        schedule=expected["schedule"],
        warmup=expected["warmup_steps"] / expected["total_steps"],
        warmup_start=expected["warmup_start"],
        final_ratio=expected["final_ratio"],
        betas=expected["betas"],
        eps=expected["eps"],
        weight_decay=expected["weight_decay"],
        weight_decay_end=expected["weight_decay_end"],
        clip=expected["grad_clip"],
        depth=config.depth,
        width=config.width,
        heads=config.heads,
        drop_path=0.0,
        **more,
    )
