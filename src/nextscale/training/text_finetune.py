"""Fine-tune a model for captions with another tokenizer or another text encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.recipes import TransformerRecipe

OF_BITS = ("word_embedding.", "head.")
"""Parts of Infinity whose shapes depend on the bits of a token."""
OF_TEXT = ("unconditional_text", "text_norm.", "text_pool.", "text_up.", "text_down.")
"""Parts of Infinity that read the features of texts."""
OF_BITS_IN_VIDEO_MODELS = (*OF_BITS, "semantic_head.")
OF_TEXT_IN_VIDEO_MODELS = ("unconditional_text", "text_proj.")
"""The same parts of InfinityStar."""
BIT_FIELDS = ("bits", "semantic_bits")
"""Fields of the configuration with the numbers of bits."""
WORDS = "words."
"""The text encoder that is a part of the model."""


def adapted(
    model: Any, tokenizer: ImageTokenizer, sizes: dict[str, Any], recipe: TransformerRecipe
) -> tuple[Any, tuple[str, ...], str]:
    """Return a model for the bits of a tokenizer and the texts of an encoder, with the weights of another model.

    Parts whose shapes depend on what differs get new random weights, as in the official code.

    Args:
        sizes: fields of the configuration about the text.

    Returns:
        The model, the names of its parts that have new weights, and a sentence that lists them.

    Raises:
        InputError: the model cannot have the tokenizer's scales.
    """
    before, ours, is_video = model.config, fields_of(tokenizer), hasattr(model, "semantic_head")
    width = sizes["words"].width if sizes.get("words") else sizes["text_width"]
    pool = {"pool_heads": 0} if width != before.text_width and hasattr(before, "pool_heads") else {}
    config = replace(before, **{**ours, "text_width": width, **pool, **sizes})
    new_parts: list[str] = []
    why: list[str] = []
    if different := [name for name in BIT_FIELDS if getattr(config, name, 0) != getattr(before, name, 0)]:
        new_parts += OF_BITS_IN_VIDEO_MODELS if is_video else OF_BITS
        why.append(f"{getattr(config, different[0])} bits per token instead of {getattr(before, different[0])}")
    of_text = OF_TEXT_IN_VIDEO_MODELS if is_video else OF_TEXT
    if config.words and not before.words:
        new_parts += [WORDS, *of_text]
        why.append("a text encoder of its own")
    elif width != before.text_width:
        new_parts += of_text
        why.append(f"texts of width {width} instead of {before.text_width}")
    if config == before:
        return model, (), "all weights of the initial model"
    changed = initialized(type(model)(config), recipe)
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(tuple(new_parts) or "-")}
    changed.load_state_dict(changed.state_dict() | kept)
    if not new_parts:
        return changed, (), "all weights of the initial model"
    names = ", ".join(name.rstrip(".") for name in new_parts)
    return (
        changed,
        tuple(new_parts),
        f"weights of the initial model, but new random ones for {names} ({', '.join(why)})",
    )


def fields_of(tokenizer: Any) -> dict[str, Any]:
    """Return the fields of a transformer's configuration that depend on the tokenizer."""
    bits = {"bits": tokenizer.config.token_dim}
    semantic = getattr(tokenizer.config, "semantic_bits", 0)
    return bits | ({"semantic_bits": semantic} if semantic else {"schedule": tokenizer.schedule})


def initialized(model: Any, recipe: TransformerRecipe) -> Any:
    """Return a model with the random weights of a recipe."""
    options = [recipe.init_gamma] if hasattr(model, "adaln") else []
    return model.init_weights(torch.Generator().manual_seed(recipe.seed), *options)
