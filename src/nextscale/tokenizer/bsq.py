"""Sign bits instead of a codebook: binary spherical quantization (arXiv 2406.07548), as Infinity uses it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SignBits(nn.Module):
    """Quantize vectors to the signs of their entries. It has no parameters.

    The code of d bits is the unit vector (2 bit - 1) / sqrt(d).

    Args:
        dim: d, the number of channels of the feature grid.
        patch: side of the square of grid positions that one token covers. A token has D = d * patch^2 bits.
    """

    choices = 2
    """Number of values of a bit."""
    token_dtype = torch.bool

    def __init__(self, dim: int, patch: int = 1):
        super().__init__()
        self.dim = dim * patch**2
        self.unit = 1 / math.sqrt(dim)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """(D,): one entry per bit."""
        return (self.dim,)

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Return the bits x > 0. (..., D) -> (..., D) bool."""
        return x > 0

    def codes(self, tokens: Tensor) -> Tensor:
        """Return the code vectors of bits. (..., D) -> (..., D) float32 with entries +-1 / sqrt(d)."""
        return torch.where(tokens.bool(), self.unit, -self.unit)

    def mix(self, weights: Tensor) -> Tensor:
        """Return mean code vectors. Weights over the two values of each bit (..., D, 2) -> (..., D)."""
        return (weights[..., 1] - weights[..., 0]) * self.unit
