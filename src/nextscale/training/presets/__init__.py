"""Named recipes of all families."""

from __future__ import annotations

from nextscale.training.presets import infinity, var
from nextscale.training.recipes import TransformerRecipe

TRANSFORMERS: dict[str, TransformerRecipe] = {**var.TRANSFORMERS, **infinity.TRANSFORMERS}
