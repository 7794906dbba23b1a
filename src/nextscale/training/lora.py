"""LoRA: train a low-rank update of each weight matrix instead of the matrix itself (arXiv 2106.09685).

The update is a parametrization of the weight, because attention reads weights without calling the layers. Saved models
contain the merged matrices, and load like any other model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nextscale.data.names import list_names
from nextscale.errors import InputError
from nextscale.training.parallel import Strategy
from nextscale.training.recipes import MATRICES, TransformerRecipe


class LowRankChange(nn.Module):
    """Compute W + B A. Initially A (rank, in) is random and B (out, rank) is zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator | None):
        super().__init__()
        out_features, in_features = weight.shape
        start = torch.randn(rank, in_features, generator=generator) / math.sqrt(in_features)
        self.a = nn.Parameter(start.to(weight))
        self.b = nn.Parameter(weight.new_zeros(out_features, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def add_lora(
    model: nn.Module, rank: int, generator: torch.Generator | None = None, names: Sequence[str] = MATRICES
) -> int:
    """Freeze a model and add trainable low-rank updates to its matrices. Return the number of these matrices.

    Args:
        names: see `TransformerRecipe.lora_matrices`.

    Raises:
        InputError: a name matches no matrix, or the rank is too high.
    """
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    chosen = {pattern: [name for name in linear if matches(name, pattern)] for pattern in names}
    if lacking := [pattern for pattern, found in chosen.items() if not found]:
        known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear if not name[-1].isdigit()))
        raise InputError(f"the model has none of the matrices {', '.join(lacking)}: it has {known}")
    layers = [layer for name, layer in linear.items() if any(name in found for found in chosen.values())]
    smallest = min((min(layer.weight.shape) for layer in layers), default=0)
    if rank >= smallest:
        raise InputError(f"the rank must be below {smallest}, the smallest side of a matrix, not {rank}")
    model.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRankChange(layer.weight, rank, generator))
    return len(layers)


def matches(name: str, pattern: str) -> bool:
    """Return whether the name of a layer ends with a name such as ``qkv``, or matches a pattern."""
    return name.rpartition(".")[2] == pattern or fnmatch(name, pattern)


def train_low_rank(
    model: nn.Module, recipe: TransformerRecipe, is_trained: bool, strategy: Strategy, new_parts: Sequence[str] = ()
) -> str:
    """Add the updates of a recipe, if it has LoRA. Return the end of a description of the initial weights.

    Args:
        is_trained: whether the model has trained weights.
        new_parts: names of parts of the model that are not trained yet. They are trained in full.

    Raises:
        InputError: the model is not trained, the strategy is FSDP, or see `add_lora`.
    """
    if not recipe.lora:
        return ""
    if not is_trained:
        raise InputError(f"lora={recipe.lora} needs a trained model: expected --init-from")
    if strategy == "fsdp":
        raise InputError(f"lora={recipe.lora} does not support --strategy fsdp: expected --strategy ddp")
    count = add_lora(model, recipe.lora, torch.Generator().manual_seed(recipe.seed), recipe.lora_matrices)
    description = f"; LoRA of rank {recipe.lora} on {count} matrices, all else frozen"
    if not new_parts:
        return description
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(new_parts)):
            parameter.requires_grad_(True)
    return f"{description} except the {list_names([name.rstrip('.').replace('_', ' ') for name in new_parts])}"


def has_changes(model: nn.Module) -> bool:
    """Return whether `add_lora` was applied to the model."""
    return any(isinstance(module, LowRankChange) for module in model.modules())


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dictionary of the model with the low-rank updates merged into the matrices."""
    state = {}
    for name, tensor in model.state_dict().items():
        layer, _, part = name.partition(".parametrizations.weight.")
        if not part:
            state[name] = tensor
        elif part == "original":
            state[f"{layer}.weight"] = model.get_submodule(layer).weight
    return state
