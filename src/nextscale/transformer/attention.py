"""Multi-head self-attention with L2-normalised queries and keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.transformer.cache import LayerCache

MAX_LOG_SCALE = math.log(100)


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
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.log_scale is not None:
            scale = self.log_scale.clamp_max(MAX_LOG_SCALE).exp()
            q = F.normalize(q.float(), dim=-1) * scale  # in float32: half precision gave NaN elsewhere
            k = F.normalize(k.float(), dim=-1)
        if past is not None:
            k, v = past.extend(k, v)
        q, k = q.to(v.dtype), k.to(v.dtype)
        x = attend(q, k, v, self.scale, mask)
        return self.proj(x.transpose(1, 2).flatten(2))
