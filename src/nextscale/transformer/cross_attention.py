"""Attention from image tokens to text tokens, and attention pooling of a text (Infinity)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TextKeysValues = list[tuple[Tensor, Tensor]]
"""Keys and values of each sample's text, both (H, l, d). Texts have different lengths."""
FEW_QUERIES = 4
"""See `attend`."""


class PaddedText(NamedTuple):
    """The texts of a batch, padded to one length for training; see `nextscale.conditioning.padding.Padding`."""

    features: Tensor
    """(B, l, C)."""
    mask: Tensor
    """(B, 1, 1, l) bool, False for padding."""


class CrossAttention(nn.Module):
    """Plain attention to the text of the same sample, without positions. The score is q.k / sqrt(d).

    The texts of a batch have different lengths. In sampling, each sample is computed alone, so that it does not depend
    on the others, bit for bit. In training, the texts are padded, and the padding is masked.

    Args:
        width: C, of the image tokens and of the text.
        heads: H.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def keys_values(self, text: Tensor, lengths: Sequence[int]) -> TextKeysValues:
        """Return the keys and values of packed texts. (sum of lengths, C) -> one pair per sample."""
        return split_heads(self.key_value(text), self.v_bias, self.heads, lengths)

    def forward(self, x: Tensor, text: TextKeysValues | PaddedText) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        return self.proj(self.attend(self.query(x), text))

    def attend(self, query: Tensor, text: TextKeysValues | PaddedText) -> Tensor:
        """Return the attended values, heads side by side. (B, n, C) -> (B, n, C)."""
        q = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if isinstance(text, PaddedText):
            k, v = self.key_value(text.features).unflatten(-1, (2, self.heads, -1)).transpose(1, 3).unbind(2)
            v = v + self.v_bias.unflatten(0, (self.heads, 1, -1))
            attended = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=text.mask)
        else:
            attended = torch.stack([attend(q[i], k.to(q.dtype), v.to(q.dtype)) for i, (k, v) in enumerate(text)])
        return attended.transpose(1, 2).flatten(2)


class AttentionPool(nn.Module):
    """Pool a text into one vector by attention with a learned query, which is the same for all texts.

    Args:
        text_width: T.
        width: C.
        heads: number of heads.
    """

    def __init__(self, text_width: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.empty(1, heads, width // heads))
        self.key_value = nn.Linear(text_width, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, text: Tensor, lengths: Sequence[int]) -> Tensor:
        """Pool packed texts. (sum of lengths, T) -> (B, C)."""
        q = self.query[0][:, None]  # unlike a transposed view, it has gradients in the layout of the parameter
        text_keys_values = split_heads(self.key_value(text), self.v_bias, self.heads, lengths)
        pooled = [attend(q.to(k.dtype), k, v) for k, v in text_keys_values]
        return self.proj(torch.stack(pooled).flatten(1))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight in float32."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight.float()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v of one sample. (H, n, d), (H, l, d) twice -> (H, n, d).

    PyTorch's attention of few queries on a CPU rounds differently on different numbers of cores. Two products do not.
    """
    if q.shape[1] >= FEW_QUERIES:
        return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
    scores = torch.bmm(q.float(), k.float().mT) * q.shape[-1] ** -0.5
    return torch.bmm(scores.softmax(dim=-1).to(v.dtype), v)


def split_heads(key_value: Tensor, v_bias: Tensor, heads: int, lengths: Sequence[int]) -> TextKeysValues:
    """Split packed keys and values, side by side in (sum of lengths, 2C), into samples and heads."""
    k, v = key_value.unflatten(-1, (2, -1)).unbind(-2)
    k, v = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (k, v + v_bias))
    return list(zip(k.split(list(lengths), dim=1), v.split(list(lengths), dim=1), strict=True))


def pool_heads(text_width: int, width: int) -> int:
    """Return the number of heads of the official pool: T / 128, or T / 64 for models wider than 4096."""
    return max(1, text_width // (128 if width <= 4096 else 64))
