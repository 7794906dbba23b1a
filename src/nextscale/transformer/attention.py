"""Multi-head self-attention with L2-normalised queries and keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nextscale.acceleration.recompute import Later, Linear, later, linear
from nextscale.transformer.cache import LayerCache
from nextscale.transformer.visibility import Span, attend, attend_spans

MAX_LOG_SCALE = math.log(100)
LEAST_NORM = 1e-12


def flat(x: Tensor) -> Tensor:
    """Heads side by side. (B, n, H, d) -> (B, n, C)."""
    return x.flatten(2)


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
        self.qkv = Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4))) if l2_norm else None
        self.scale = 1.0 if l2_norm else 0.25 / math.sqrt(width // heads)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor | Later, spans: list[Span] | None = None, past: LayerCache | None = None) -> Tensor:
        """(B, n, C) -> (B, n, C).

        Args:
            spans: what each token of a whole sequence may see.
            past: keys and values of the earlier scales; this scale's are added to it.
        """
        qkv = self.project(x)
        if spans is not None:
            scales = () if self.log_scale is None else (self.log_scale,)
            x = attend_spans(later(self.split, qkv, *scales), spans, self.scale)
            return self.proj(later(flat, x))
        q, k, v = self.split(qkv, self.log_scale)
        if past is not None:
            k, v = past.extend(k, v)
        return self.proj(flat(attend(q, k, v, self.scale).transpose(1, 2)))

    def project(self, x: Tensor | Later) -> Tensor:
        """(B, n, C) -> q, k and v side by side, (B, n, 3C)."""
        if self.qkv.bias is not None:  # made ready for drawing
            return self.qkv(x)
        return linear(x, self.qkv.weight, self.qkv_bias())

    def split(self, qkv: Tensor, log_scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n, 3C) -> q, k and v, each (B, H, n, d).

        For cosine scores q is exp(s) q / |q| and k is k / |k|, in float32: half precision gave NaN elsewhere.
        """
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.unbind(2)
        if log_scale is not None:
            scale = log_scale.clamp_max(MAX_LOG_SCALE).exp().view(self.heads, 1)
            qk = qkv[:, :, :2].float()
            norm = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).clamp_min(LEAST_NORM)
            q, k = (qk * (torch.stack((scale, torch.ones_like(scale))) / norm)).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def qkv_bias(self) -> Tensor:
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
