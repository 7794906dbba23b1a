"""The transformer block with adaptive layer norm (AdaLN)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.transformer.attention import SelfAttention
from nextscale.transformer.cache import LayerCache
from nextscale.transformer.later import Later, Linear, later
from nextscale.transformer.spans import Span

NORM_EPS = 1e-6


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LN(x) * (1 + scale) + shift. (B, n, C) with (B, C) twice.

    LN has no weights of its own. It gets ones: without, PyTorch's takes three times as long on the CPU.
    """
    ones = x.new_ones(x.shape[-1])
    x = F.layer_norm(x, ones.shape, ones, torch.zeros_like(ones), NORM_EPS)
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class MLP(nn.Module):
    """down(gelu(up(x))), GELU in its tanh form."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up = Linear(width, hidden)
        self.gelu = nn.GELU(approximate="tanh")
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor | Later) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        return self.down(later(self.gelu, self.up(x)))


class Block(nn.Module):
    """x += gamma1 * attention(modulate(x)); x += gamma2 * mlp(modulate(x)).

    The six vectors gamma1, gamma2, scale1, scale2, shift1, shift2 come from outside: they depend on the class alone,
    so they are computed once per picture (`VAR.condition`).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, l2_norm: bool):
        super().__init__()
        self.attention = SelfAttention(width, heads, l2_norm)
        self.mlp = MLP(width, round(width * mlp_ratio))

    def forward(
        self,
        x: Tensor,
        vectors: Tensor,
        spans: list[Span] | None = None,
        past: LayerCache | None = None,
        path_scale: Tensor | None = None,
    ) -> Tensor:
        """(B, n, C) -> (B, n, C).

        Args:
            vectors: (B, 6, C).
            spans, past: see `SelfAttention`.
            path_scale: (2, B), what drop-path multiplies the two branches with: 0 or 1 / (1 - rate).
        """
        gamma1, gamma2, scale1, scale2, shift1, shift2 = vectors.unbind(1)
        path1, path2 = (None, None) if path_scale is None else path_scale
        x = add_branch(partial(self.attention, spans=spans, past=past), x, gamma1, scale1, shift1, path1)
        return add_branch(self.mlp, x, gamma2, scale2, shift2, path2)


def add_branch(
    branch: Callable[[Tensor | Later], Tensor],
    x: Tensor,
    gamma: Tensor,
    scale: Tensor,
    shift: Tensor,
    path_scale: Tensor | None,
) -> Tensor:
    """x + path_scale * gamma * branch(modulate(x)). (B, n, C) with (B, C) thrice and (B,) -> (B, n, C).

    On the CPU nothing is computed for the pictures that drop-path leaves out, unless it leaves out all: then the
    branch's weights still need their gradients, which are 0.
    """
    if path_scale is not None:
        gamma = gamma * path_scale[:, None]
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            stays = path_scale.nonzero().squeeze(1)
            if 0 < len(stays) < len(x):
                given, gamma, scale, shift = (tensor[stays] for tensor in (x, gamma, scale, shift))
                return x.index_add(0, stays, gamma.unsqueeze(1) * branch(later(modulate, given, scale, shift)))
    return torch.addcmul(x, gamma.unsqueeze(1), branch(later(modulate, x, scale, shift)))
