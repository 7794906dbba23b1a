"""Multi-head self-attention with L2-normalized queries and keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.transformer.cache import LayerCache
from nextscale.transformer.rope import rotate
from nextscale.transformer.visibility import Span

MAX_LOG_SCALE = math.log(100)
MIN_NORM = 1e-12


class SelfAttention(nn.Module):
    """Self-attention with one QKV matrix, biases for q and v only, and cosine or plain scores.

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

    def forward(
        self,
        x: Tensor,
        spans: list[Span] | None = None,
        past: LayerCache | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Attend over a whole sequence, or over one scale and the scales that it sees. (B, n, C) -> (B, n, C).

        Args:
            spans: the keys that each query of a whole sequence sees; None means all keys.
            past: keys and values of earlier scales. Those of this scale are added to it.
            rotation: rotary positions of the n tokens, from `nextscale.transformer.rope.rotations`.
        """
        q, k, v = self.split(self.project(x), self.log_scale)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if past is not None:
            k, v = past.extend(k, v)
        if spans is None:
            x = self.attend(q, k, v)
        else:
            parts = [self.attend(q[:, :, s.queries], k[:, :, s.keys], v[:, :, s.keys], s.mask) for s in spans]
            x = torch.cat(parts, dim=2)
        return self.proj(x.transpose(1, 2).flatten(2))

    def project(self, x: Tensor) -> Tensor:
        """Return q, k and v side by side. (B, n, C) -> (B, n, 3C)."""
        return F.linear(x, self.qkv.weight, self.qkv_bias())

    def qkv_bias(self) -> Tensor:
        """Return the bias of q, k (zero) and v, (3C,)."""
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def split(self, qkv: Tensor, log_scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Split into q, k and v, each (B, H, n, d). (B, n, 3C) -> 3 x (B, H, n, d).

        For cosine scores q is exp(s) q / |q| and k is k / |k|, in float32, because half precision can give NaN.
        """
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.unbind(2)
        if log_scale is not None:
            scale = log_scale.clamp_max(MAX_LOG_SCALE).exp().view(self.heads, 1)
            qk = qkv[:, :, :2].float()
            norm = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).clamp_min(MIN_NORM)
            q, k = (qk * (torch.stack((scale, torch.ones_like(scale))) / norm)).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return softmax(scale * q k^T) v in the precision of v. (B, H, n, d) with (B, H, m, d) twice -> (B, H, n, d).

        Args:
            mask: (n, m) bool, True where a query sees a key; None means that every query sees every key.
        """
        return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask, scale=self.scale)
