"""The codebook, which maps continuous vectors to code indices and back (VAR, section 3.2)."""

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
        cosine: choose the code with the largest cosine similarity instead of the smallest Euclidean distance
            (``znorm`` in the official code).
    """

    token_shape: tuple[int, ...] = ()
    """Each token is a single index."""
    token_dtype = torch.int64

    def __init__(self, size: int, dim: int, cosine: bool = False):
        super().__init__()
        self.size, self.dim, self.cosine = size, dim, cosine
        self.weight = nn.Parameter(torch.empty(size, dim))

    @property
    def choices(self) -> int:
        """V, the number of values of a token."""
        return self.size

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Return argmin_v |x - e_v|^2, or argmax_v cos(x, e_v). (..., D) -> (...) int64.

        Distances are computed in float32 without autocast and TF32, because lower precision changes tokens.
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

    def codes(self, tokens: Tensor) -> Tensor:
        """Look up code vectors. (...) int64 -> (..., D)."""
        return F.embedding(tokens, self.weight)

    def mix(self, weights: Tensor) -> Tensor:
        """Return weighted means of the code vectors. Weights over the V codes (..., V) -> (..., D)."""
        return weights @ self.weight
