"""Build the critic of a recipe."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.critics.dino import DinoCritic, load_dino
from nextscale.training.critics.patchgan import PatchGAN


def make_critic(recipe: AdversarialRecipe, generator: torch.Generator) -> nn.Module:
    """Return the critic of a recipe with newly initialised weights.

    Raises:
        InputError: the file with DINO's weights is missing or damaged.
    """
    if recipe.critic == "dino":
        return DinoCritic(load_dino(Path(recipe.dino_weights))).init_weights(generator)
    return PatchGAN(recipe.channels, recipe.layers, recipe.norm).init_weights(generator)
