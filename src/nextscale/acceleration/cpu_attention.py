"""Attention on the CPU, computed for a few heads at a time so that the scores stay in the processor's cache.

Scores are computed in float32, the other products in the precision of v. In bfloat16 this is faster than PyTorch's
attention, especially in the backward pass. `attend` is for sampling, `recomputed_attention` for training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextscale.acceleration.recomputed_linear import Recomputation
from nextscale.transformer.visibility import Span

SCORES = 2**19
"""Number of scores that a core computes at a time: 2 MiB."""

WHOLE_HEAD = 2**21
"""If a head has more scores, PyTorch's attention is faster for sampling, because it divides heads into parts."""


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return softmax(scale * q k^T) v in the precision of v, without mask and without gradients.

    Args:
        q: (B, H, n, d).
        k, v: (B, H, m, d).

    Returns:
        (B, H, n, d).
    """
    large = q.shape[2] * k.shape[2] > WHOLE_HEAD
    if v.device.type != "cpu" or v.dtype == torch.float32 or large:
        return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, scale=scale)
    with torch.autocast("cpu", enabled=False):
        return attend_few(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), scale).view(q.shape)


def recomputed_attention(
    make: Callable[..., tuple[Tensor, Tensor, Tensor]], inputs: Sequence[Tensor], spans: list[Span], scale: float
) -> Tensor:
    """Return the attention of a whole sequence. Only ``inputs`` are saved for the backward pass.

    Args:
        make: function from the inputs to q, k and v, each (B, H, L, d). It must be differentiable and pure.

    Returns:
        (B, L, H, d).
    """
    return _SpanAttention.apply(make, spans, scale, *inputs)  # type: ignore[no-any-return]


class _SpanAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, make: Callable[..., tuple[Tensor, ...]], spans: list[Span], scale: float, *inputs: Tensor
    ) -> Tensor:
        ctx.make, ctx.spans, ctx.scale = make, spans, scale
        ctx.save_for_backward(*inputs)
        with torch.autocast("cpu", enabled=False):
            q, k, v = make(*inputs)
            batch, heads = v.shape[:2]
            q, k, v = (x.flatten(0, 1) for x in (q, k, v))
            result = torch.empty_like(v)
            for s in spans:
                result[:, s.queries] = attend_few(q[:, s.queries], k[:, s.keys], v[:, s.keys], scale, s.mask)
        return result.unflatten(0, (batch, heads)).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (gradient,) = gradients
        with Recomputation(ctx.make, ctx.saved_tensors, ctx.needs_input_grad[3:]) as again:
            q, k, v = (x.detach().flatten(0, 1) for x in again.made)
            small_q, small_k = q.to(v.dtype), k.to(v.dtype)
            rows = gradient.transpose(1, 2).flatten(0, 1)
            to_q, to_k, to_v = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
            for span in ctx.spans:
                mine, seen = span.queries, span.keys
                for some in few(len(v), mine.stop - mine.start, seen.stop - seen.start):
                    weights = probabilities(q[some, mine], k[some, seen], ctx.scale, span.mask)
                    to_v[some, seen] += weights.to(v.dtype).mT @ rows[some, mine]
                    to_weights = (rows[some, mine] @ v[some, seen].mT).float()
                    to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, torch.float32)
                    to_scores = to_scores.mul_(ctx.scale).to(v.dtype)
                    to_q[some, mine] = to_scores @ small_k[some, seen]
                    to_k[some, seen] += to_scores.mT @ small_q[some, mine]
            shape = again.made[0].shape
            again.pass_back([x.view(shape).to(m.dtype) for x, m in zip((to_q, to_k, to_v), again.made, strict=True)])
        return None, None, None, *again.gradients


def attend_few(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """Compute attention for a few heads at a time, with float32 scores. (N, n, d) with (N, m, d) twice -> (N, n, d)."""
    result = v.new_empty(q.shape)
    for some in few(len(v), q.shape[1], k.shape[1]):
        torch.bmm(probabilities(q[some], k[some], scale, mask).to(v.dtype), v[some], out=result[some])
    return result


def few(heads: int, queries: int, keys: int) -> list[slice]:
    """Divide the heads of all images into groups whose scores fit into the processor's cache."""
    step = max(1, SCORES * torch.get_num_threads() // (queries * keys))
    return [slice(start, start + step) for start in range(0, heads, step)]


def probabilities(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Return softmax(scale * q k^T) in float32 over the keys in the mask. (N, n, d), (N, m, d), (n, m) -> (N, n, m)."""
    scores = torch.bmm(q.float(), k.float().mT)
    if scale != 1:
        scores *= scale
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return torch.softmax(scores, dim=-1, out=scores)
