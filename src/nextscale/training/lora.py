"""LoRA: train a low-rank update of each weight matrix instead of the matrix itself (arXiv 2106.09685).

The update is a parametrization of the weight, because attention reads weights without calling the layers. Saved models
contain the merged matrices, and load like any other model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nextscale.errors import InputError

MATRICES = ("qkv", "proj", "up", "down")
"""Names of the layers that get a low-rank update: those of attention and MLP."""


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


def add_lora(model: nn.Module, rank: int, generator: torch.Generator | None = None) -> int:
    """Freeze a model and add trainable low-rank updates to its matrices. Return the number of these matrices.

    Raises:
        InputError: the model has none of the matrices, or the rank is too high.
    """
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.split(".")[-1] in MATRICES]
    if not layers:
        raise InputError(f"the model has none of the matrices {', '.join(MATRICES)}")
    smallest = min(min(layer.weight.shape) for layer in layers)
    if rank >= smallest:
        raise InputError(f"the rank must be below {smallest}, the smallest side of a matrix, not {rank}")
    model.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRankChange(layer.weight, rank, generator))
    return len(layers)


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
