"""Multi-head self-attention with L2-normalised queries and keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.transformer.cache import LayerCache

MAX_LOG_SCALE = math.log(100)
LEAST_NORM = 1e-12


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(scale * q k^T + mask) v.

    Args:
        q: (B, H, n, d).
        k, v: (B, H, m, d).
        mask: (n, m), true where a query may look.

    Returns:
        (B, H, n, d).
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def unit(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """scale * x / |x| in float32: half precision gave NaN elsewhere. (..., d) -> (..., d)."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).clamp_min(LEAST_NORM)
    return x * (norm.reciprocal() if scale is None else scale / norm)


class SelfAttention(nn.Module):
    """One QKV matrix with bias for q and v only; cosine or plain scores.

    With ``l2_norm`` the score is exp(min(s, ln 100)) * cos(q, k), with one learned s per head. Without it the score is
    q.k / (4 sqrt(d)).

    Args:
        width: C.
        heads: H; the head dimension d is C / H.
    """

    def __init__(self, width: int, heads: int, l2_norm: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4))) if l2_norm else None
        self.scale = 1.0 if l2_norm else 0.25 / math.sqrt(width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, past: LayerCache | None = None) -> Tensor:
        """(B, n, C) -> (B, n, C).

        Args:
            mask: (n, n), true where a token may look; for a whole sequence at once.
            past: keys and values of the earlier scales; this scale's are added to it.
        """
        q, k, v = self.project(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.log_scale is not None:
            scale = self.log_scale.clamp_max(MAX_LOG_SCALE).exp()
            q, k = unit(q, scale), unit(k)
        if past is not None:
            k, v = past.extend(k, v)
        q, k = q.to(v.dtype), k.to(v.dtype)
        x = attend(q, k, v, self.scale, mask)
        return self.proj(x.transpose(1, 2).flatten(2))

    def project(self, x: Tensor) -> Tensor:
        """(B, n, C) -> q, k and v side by side, (B, n, 3C)."""
        if self.qkv.bias is not None:  # made ready for drawing
            return self.qkv(x)
        return F.linear(x, self.qkv.weight, self.qkv_bias())

    def qkv_bias(self) -> Tensor:
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
