"""Build the critic of a recipe."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nextscale.errors import InputError
from nextscale.io.checkpoint import load_state
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.critics.dino import DinoCritic, load_dino
from nextscale.training.critics.patchgan import PatchGAN


def make_critic(recipe: AdversarialRecipe, generator: torch.Generator) -> nn.Module:
    """Return the critic of a recipe with newly initialised weights, or those of another run.

    Raises:
        InputError: the file with DINO's weights is missing or damaged, or the other run has no such critic.
    """
    if recipe.critic == "dino":
        critic: nn.Module = DinoCritic(load_dino(Path(recipe.dino_weights))).init_weights(generator)
    else:
        critic = PatchGAN(recipe.channels, recipe.layers, recipe.norm).init_weights(generator)
    if recipe.init_from:
        load_critic(critic, Path(recipe.init_from))
    return critic


def load_critic(critic: nn.Module, run: Path) -> None:
    """Copy the weights of the critic of a run.

    Raises:
        InputError: the folder has no checkpoint, or its critic is absent or of another kind.
    """
    checkpoint = newest_checkpoint(run)
    if checkpoint is None:
        raise InputError(f"adversarial.init_from: {run} has no checkpoint of a run")
    load_state(checkpoint, {f"critic/{name}": tensor for name, tensor in critic.state_dict().items()})
