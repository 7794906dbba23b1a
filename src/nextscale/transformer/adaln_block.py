"""The transformer block with adaptive layer norm (AdaLN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.transformer.attention import SelfAttention
from nextscale.transformer.cache import LayerCache
from nextscale.transformer.cross_attention import CrossAttention, PaddedText, TextKeysValues
from nextscale.transformer.visibility import Span

NORM_EPS = 1e-6


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return LN(x) * (1 + scale) + shift. (B, n, C) with (B, C) twice -> (B, n, C).

    LN has no learned weights. The weights are passed as ones, because PyTorch's layer norm without weights is three
    times slower on the CPU.
    """
    ones = x.new_ones(x.shape[-1])
    x = F.layer_norm(x, ones.shape, ones, torch.zeros_like(ones), NORM_EPS)
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class MLP(nn.Module):
    """Compute down(gelu(up(x))) with the tanh form of GELU. (B, n, C) -> (B, n, C)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.gelu = nn.GELU(approximate="tanh")
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        return self.down(self.gelu(self.up(x)))


class Block(nn.Module):
    """Compute x += gamma1 * attention(modulate(x)); x += cross(norm(x)); x += gamma2 * mlp(modulate(x)).

    The six vectors gamma1, gamma2, scale1, scale2, shift1, shift2 are arguments. They depend only on the class or the
    text, and ``condition`` of the model computes them once per image. Only Infinity has the second step.

    Args:
        hidden: width of the MLP.
        cross: add attention to a text.
    """

    forward_methods = ("text_keys_values",)
    """Names of the methods besides ``forward`` that use weights, for FSDP."""

    def __init__(self, width: int, heads: int, hidden: int, l2_norm: bool, cross: bool = False):
        super().__init__()
        self.attention = SelfAttention(width, heads, l2_norm)
        self.cross_norm = nn.LayerNorm(width, eps=NORM_EPS) if cross else None
        self.cross_attention = CrossAttention(width, heads) if cross else None
        self.mlp = MLP(width, hidden)

    def forward(
        self,
        x: Tensor,
        vectors: Tensor,
        spans: list[Span] | None = None,
        past: LayerCache | None = None,
        path_scale: Tensor | None = None,
        rotation: Tensor | None = None,
        text: TextKeysValues | PaddedText | None = None,
    ) -> Tensor:
        """(B, n, C) -> (B, n, C).

        Args:
            vectors: (B, 6, C).
            spans, past, rotation: see `SelfAttention`.
            text: see `CrossAttention`.
            path_scale: (2, B), drop-path factor of each of the two branches: 0 or 1 / (1 - rate).
        """
        gamma1, gamma2, scale1, scale2, shift1, shift2 = vectors.unbind(1)
        if path_scale is not None:
            gamma1, gamma2 = gamma1 * path_scale[0, :, None], gamma2 * path_scale[1, :, None]
        attended = self.attention(modulate(x, scale1, shift1), spans, past, rotation)
        x = torch.addcmul(x, gamma1.unsqueeze(1), attended)
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.cross_attention(self.cross_norm(x), text)
        return torch.addcmul(x, gamma2.unsqueeze(1), self.mlp(modulate(x, scale2, shift2)))

    def text_keys_values(self, text: Tensor, lengths: Sequence[int]) -> TextKeysValues:
        """Return the keys and values of packed texts for sampling, see `CrossAttention.keys_values`."""
        assert self.cross_attention is not None
        return self.cross_attention.keys_values(text, lengths)
