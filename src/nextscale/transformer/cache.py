"""Keys and values of the scales drawn so far: made once at full length, owned by whoever samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class KVCache:
    """Room for the tokens of all scales but the last, which none looks back at, in every layer.

    Args:
        depth: number of layers.
        batch: number of sequences (twice the images under guidance).
        heads, length, head_dim: H, tokens of the scales to keep, d.
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
    """One layer's keys and values, (B, H, length, d)."""

    keys: Tensor
    values: Tensor
    filled: int

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the next scale's (B, H, n, d) behind the finished ones; return all so far, (B, H, filled + n, d).

        A scale that there is no room to keep, the last, is put behind a copy.
        """
        end = self.filled + keys.shape[2]
        if end > self.keys.shape[2]:
            past_keys, past_values = self.keys[:, :, : self.filled], self.values[:, :, : self.filled]
            return torch.cat((past_keys, keys.to(past_keys.dtype)), 2), torch.cat((past_values, values), 2)
        self.keys[:, :, self.filled : end] = keys
        self.values[:, :, self.filled : end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]
