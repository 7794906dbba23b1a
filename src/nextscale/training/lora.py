"""LoRA: learn a low-rank change of each matrix instead of the matrix (arXiv 2106.09685).

A parametrization of the weights, so that a model computes what it always does, attention included, which takes its
weight without calling the layer; what is saved has the changes added in, and loads like any model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nextscale.errors import InputError

MATRICES = ("qkv", "proj", "up", "down")
"""Names of the layers that learn: those of attention and MLP."""


class LowRankChange(nn.Module):
    """W -> W + B A, with A (rank, in) random and B (out, rank) zero at first."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator | None):
        super().__init__()
        out_features, in_features = weight.shape
        start = torch.randn(rank, in_features, generator=generator) / math.sqrt(in_features)
        self.a = nn.Parameter(start.to(weight))
        self.b = nn.Parameter(weight.new_zeros(out_features, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def add_lora(model: nn.Module, rank: int, generator: torch.Generator | None = None) -> int:
    """Freeze a model and let low-rank changes of its matrices learn; returns how many there are.

    Raises:
        InputError: no such matrices, or a rank that is not low.
    """
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.split(".")[-1] in MATRICES]
    if not layers:
        raise InputError(f"the model has no matrices called {', '.join(MATRICES)}")
    smallest = min(min(layer.weight.shape) for layer in layers)
    if rank >= smallest:
        raise InputError(f"the rank must be below {smallest}, the smallest side of a matrix, not {rank}")
    model.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRankChange(layer.weight, rank, generator))
    return len(layers)


def has_changes(model: nn.Module) -> bool:
    """Whether the model has weights of `add_lora`."""
    return any(isinstance(module, LowRankChange) for module in model.modules())


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dictionary of the model as if it had no changes: they are added in."""
    state = {}
    for name, tensor in model.state_dict().items():
        layer, _, part = name.partition(".parametrizations.weight.")
        if not part:
            state[name] = tensor
        elif part == "original":
            state[f"{layer}.weight"] = model.get_submodule(layer).weight
    return state
