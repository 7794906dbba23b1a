"""Named recipes of all families."""

from __future__ import annotations

from nextscale.training.presets import infinity, infinity_star, infinity_tokenizers, var
from nextscale.training.recipes import TokenizerRecipe, TransformerRecipe

TRANSFORMERS: dict[str, TransformerRecipe] = {**var.TRANSFORMERS, **infinity.TRANSFORMERS, **infinity_star.TRANSFORMERS}
TOKENIZERS: dict[str, TokenizerRecipe] = {**var.TOKENIZERS, **infinity_tokenizers.TOKENIZERS}
