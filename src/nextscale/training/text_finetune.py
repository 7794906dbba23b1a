"""Fine-tune a text-to-image model with another tokenizer or another text encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.recipes import TransformerRecipe

OF_BITS = ("word_embedding.", "head.")
"""Parts of the model whose shapes depend on the bits of a token."""
OF_TEXT = ("unconditional_text", "text_norm.", "text_pool.", "text_up.", "text_down.")
"""Parts of the model that read the features of texts."""
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
    before, bits = model.config, tokenizer.config.token_dim
    width = sizes["words"].width if sizes.get("words") else sizes["text_width"]
    pool = {} if width == before.text_width else {"pool_heads": 0, "text_width": width}
    config = replace(before, **{"schedule": tokenizer.schedule, "bits": bits, **pool, **sizes})
    new_parts: list[str] = []
    why: list[str] = []
    if bits != before.bits:
        new_parts += OF_BITS
        why.append(f"{bits} bits per token instead of {before.bits}")
    if config.words and not before.words:
        new_parts += [WORDS, *OF_TEXT]
        why.append("a text encoder of its own")
    elif width != before.text_width:
        new_parts += OF_TEXT
        why.append(f"texts of width {width} instead of {before.text_width}")
    if config == before:
        return model, (), "all weights of the initial model"
    changed = type(model)(config).init_weights(torch.Generator().manual_seed(recipe.seed), recipe.init_gamma)
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
