"""The output type of critics, and spectral normalisation of their layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

POWER_ITERATIONS = 15


class CriticOutput(NamedTuple):
    """The output of a critic for images (B, 3, H, W) in [-1, 1]."""

    logits: list[Tensor]
    """Scores (B, ...) of each head: high for real images, low for reconstructions."""
    features: list[Tensor]
    """Intermediate feature maps (B, ...), for feature matching."""


def normed(layer: nn.Module) -> nn.Module:
    """Apply spectral normalisation: divide the layer's weight by its largest singular value (arXiv 1802.05957).

    The layer stays in evaluation mode, in which the estimate of that value is fixed. `refresh_norms` updates it.
    """
    return spectral_norm(layer).eval()


@torch.no_grad()
def start_norms(critic: nn.Module, generator: torch.Generator | None = None) -> None:
    """Estimate the largest singular values of new weights, starting from random vectors."""
    for name, vector in critic.named_buffers():
        if name.endswith("weight.0._v"):  # PyTorch's name of the right singular vector; the left one follows from it
            vector.copy_(F.normalize(torch.randn(vector.shape, generator=generator), dim=0))
    for _ in range(POWER_ITERATIONS):
        refresh_norms(critic)


@torch.no_grad()
def refresh_norms(critic: nn.Module) -> None:
    """Run one power iteration for every layer made by `normed`. Call this once per step."""
    for module in critic.modules():
        if parametrize.is_parametrized(module, "weight"):
            module.train()
            _ = module.weight
            module.eval()
