"""The block of InfinityStar: RMS norms, grouped-query attention with normalized queries and keys, and a gated MLP.

It is that of Qwen3 (arXiv 2505.09388), without biases.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.transformer.cross_attention import RMSNorm
from nextscale.transformer.rope import rotate

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function (q (B, H, n, d), k (B, G, n, d), v (B, G, n, d)) of the same tokens -> attended values (B, H, n, d)."""


class GroupedQueryAttention(nn.Module):
    """Attention in which H / G consecutive heads of queries share a head of keys and values.

    Args:
        width: C.
        heads: H; the head dimension d is C / H.
        kv_heads: G.
    """

    def __init__(self, width: int, heads: int, kv_heads: int):
        super().__init__()
        d = width // heads
        self.head_dim = d
        self.query = nn.Linear(width, heads * d, bias=False)
        self.key = nn.Linear(width, kv_heads * d, bias=False)
        self.value = nn.Linear(width, kv_heads * d, bias=False)
        self.proj = nn.Linear(heads * d, width, bias=False)
        self.query_norm, self.key_norm = RMSNorm(d), RMSNorm(d)

    def forward(self, x: Tensor, rotation: Tensor, attend: Attend) -> Tensor:
        """(B, n, C) -> (B, n, C).

        Args:
            rotation: rotary positions of the tokens, (2, n, d / 2).
            attend: adds the keys and values that the tokens see besides their own, and computes the attention.
        """
        q, k, v = (
            matrix(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for matrix in (self.query, self.key, self.value)
        )
        q, k = (rotate(x, rotation).to(v.dtype) for x in (self.query_norm(q), self.key_norm(k)))
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class QwenBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        width, heads, kv_heads: see `GroupedQueryAttention`.
        hidden: width of the MLP.
    """

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention = GroupedQueryAttention(width, heads, kv_heads)
        self.mlp = GatedMLP(width, hidden)

    def forward(self, x: Tensor, rotation: Tensor, attend: Attend) -> Tensor:
        """(B, n, C) -> (B, n, C); see `GroupedQueryAttention.forward`."""
        x = x + self.attention(self.norm1(x), rotation, attend)
        return x + self.mlp(self.norm2(x))
