"""Keys and values of the scales drawn so far: made once at full length, owned by whoever samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class KVCache:
    """Room for L tokens in every layer.

    Args:
        depth: number of layers.
        batch: number of sequences (twice the pictures under guidance).
        heads, length, head_dim: H, L, d.
    """

    def __init__(
        self, depth: int, batch: int, heads: int, length: int, head_dim: int, device: torch.device, dtype: torch.dtype
    ):
        self.keys = torch.empty(depth, batch, heads, length, head_dim, device=device, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.filled = 0
        """Tokens of the finished scales."""

    def layer(self, index: int) -> LayerCache:
        return LayerCache(self.keys[index], self.values[index], self.filled)

    def advance(self, tokens: int) -> None:
        """A scale of so many tokens has passed all layers."""
        self.filled += tokens


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values, (B, H, L, d)."""

    keys: Tensor
    values: Tensor
    filled: int

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the next scale's (B, H, n, d) behind the finished ones; return all so far, (B, H, filled + n, d)."""
        end = self.filled + keys.shape[2]
        self.keys[:, :, self.filled : end] = keys
        self.values[:, :, self.filled : end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]
