"""The codebook: continuous vectors to code indices and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.runtime.device import tf32


class Codebook(nn.Module):
    """V code vectors of dimension D.

    Args:
        size: V.
        dim: D.
        cosine: look for the largest cosine similarity instead of the smallest Euclidean distance
            (the reference calls this ``znorm``).
    """

    def __init__(self, size: int, dim: int, cosine: bool = False):
        super().__init__()
        self.size, self.dim, self.cosine = size, dim, cosine
        self.weight = nn.Parameter(torch.empty(size, dim))

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """argmin_v |x - e_v|^2, or argmax_v cos(x, e_v). (..., D) -> (...) int64.

        Always in full float32, whatever autocast and TF32 say: with less, tokens flip.
        """
        with torch.autocast(x.device.type, enabled=False), tf32(False):
            flat = x.float().reshape(-1, self.dim)
            codes = self.weight.float()
            if self.cosine:
                similarity = F.normalize(flat, dim=-1) @ F.normalize(codes.T, dim=0)
                return similarity.argmax(dim=1).view(x.shape[:-1])
            # |x - e|^2 = |x|^2 + |e|^2 - 2 x.e
            distance = flat.square().sum(dim=1, keepdim=True) + codes.square().sum(dim=1)
            distance.addmm_(flat, codes.T, alpha=-2, beta=1)
            return distance.argmin(dim=1).view(x.shape[:-1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up code vectors. (...) int64 -> (..., D)."""
        return F.embedding(tokens, self.weight)
