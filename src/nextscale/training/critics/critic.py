"""The output of critics, networks that tell real images from reconstructions; and spectral norm."""

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
    """A tensor (B, ...) for each head: large for real images, small for reconstructions."""
    features: list[Tensor]
    """Intermediate maps (B, ...), for feature matching."""


def normed(layer: nn.Module) -> nn.Module:
    """Return the layer with its weight divided by its largest singular value (arXiv 1802.05957).

    The layer is in evaluation mode, where the estimate of that value is fixed; `refresh_norms` updates it.
    """
    return spectral_norm(layer).eval()


@torch.no_grad()
def start_norms(critic: nn.Module, generator: torch.Generator | None = None) -> None:
    """Estimate the singular values of fresh weights, from a start drawn by ``generator``."""
    for name, vector in critic.named_buffers():
        if name.endswith("weight.0._v"):  # the right vector, as torch names it, from which it computes the left one
            vector.copy_(F.normalize(torch.randn(vector.shape, generator=generator), dim=0))
    for _ in range(POWER_ITERATIONS):
        refresh_norms(critic)


@torch.no_grad()
def refresh_norms(critic: nn.Module) -> None:
    """Do one power iteration for every layer of `normed`. Call it once a step."""
    for module in critic.modules():
        if parametrize.is_parametrized(module, "weight"):
            module.train()
            _ = module.weight
            module.eval()
