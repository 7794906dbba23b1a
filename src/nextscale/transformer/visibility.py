"""Attention of all scales at once, as teacher forcing has it: each scale sees itself and all earlier ones.

A mask over all L x L pairs would have all of them computed, of which 38 % are then thrown away at 256 pixels. Here the
queries of a scale meet the keys up to its end, and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextscale.acceleration.recompute import Again, Later
from nextscale.scales.schedule import ScaleSchedule

LEAST = 128
"""Tokens. Small scales that follow one another are taken together, behind a mask, up to so many."""

SCORES = 2**19
"""That a core computes at a time: 2 MiB."""

WHOLE_HEAD = 2**21
"""Scores. Above, PyTorch's own attention, which does a head in parts, is faster when drawing."""


@dataclass(frozen=True)
class Span:
    """The queries ``start`` to ``end`` see the keys 0 to ``end``: all, or those of the mask (end - start, end)."""

    start: int
    end: int
    mask: Tensor | None


def make_spans(schedule: ScaleSchedule, device: torch.device) -> list[Span]:
    """Scales, or several small ones."""
    groups: list[list[slice]] = []
    for where in schedule.slices:
        if groups and where.stop - groups[-1][0].start <= LEAST:
            groups[-1].append(where)
        else:
            groups.append([where])
    levels = torch.tensor(schedule.level_ids, device=device)
    spans = []
    for group in groups:
        start, end = group[0].start, group[-1].stop
        mask = levels[start:end, None] >= levels[None, :end] if len(group) > 1 else None
        spans.append(Span(start, end, mask))
    return spans


def attend_spans(qkv: tuple[Tensor, Tensor, Tensor] | Later, spans: list[Span], scale: float) -> Tensor:
    """softmax(scale * q k^T) v over what each query sees.

    Args:
        qkv: each (B, H, L, d), or what makes them.

    Returns:
        (B, L, H, d).
    """
    if isinstance(qkv, Later):
        return SpanAttention.apply(qkv.make, spans, scale, *qkv.inputs)  # type: ignore[no-any-return]
    q, k, v = qkv
    q, k = q.to(v.dtype), k.to(v.dtype)
    parts = [
        F.scaled_dot_product_attention(
            q[:, :, s.start : s.end], k[:, :, : s.end], v[:, :, : s.end], attn_mask=s.mask, scale=scale
        )
        for s in spans
    ]
    return torch.cat(parts, dim=2).transpose(1, 2)


class SpanAttention(torch.autograd.Function):
    """Keeps what q, k and v are made of, and nothing else.

    Scores are float32 products of float32 factors; the other products are in v's precision. On the CPU this is faster
    than PyTorch's own attention in bfloat16, by far in the backward pass.
    """

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
            for span in spans:
                mine, seen = slice(span.start, span.end), slice(0, span.end)
                result[:, mine] = attend_few(q[:, mine], k[:, seen], v[:, seen], scale, span.mask)
        return result.unflatten(0, (batch, heads)).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (gradient,) = gradients
        with Again(ctx.make, ctx.saved_tensors, ctx.needs_input_grad[3:]) as again:
            q, k, v = (x.detach().flatten(0, 1) for x in again.made)
            small_q, small_k = q.to(v.dtype), k.to(v.dtype)
            rows = gradient.transpose(1, 2).flatten(0, 1)
            to_q, to_k, to_v = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
            for span in ctx.spans:
                mine, seen = slice(span.start, span.end), slice(0, span.end)
                for some in few(len(v), span.end - span.start, span.end):
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


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(scale * q k^T) v in v's precision, where every query sees every key.

    Args:
        q: (B, H, n, d).
        k, v: (B, H, m, d).

    Returns:
        (B, H, n, d).
    """
    large = q.shape[2] * k.shape[2] > WHOLE_HEAD
    if v.device.type != "cpu" or v.dtype == torch.float32 or torch.is_grad_enabled() or large:
        return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, scale=scale)
    with torch.autocast("cpu", enabled=False):
        return attend_few(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), scale).view(q.shape)


def attend_few(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """Attention of a few heads at a time, with float32 scores. (N, n, d) with (N, m, d) twice -> (N, n, d)."""
    result = v.new_empty(q.shape)
    for some in few(len(v), q.shape[1], k.shape[1]):
        torch.bmm(probabilities(q[some], k[some], scale, mask).to(v.dtype), v[some], out=result[some])
    return result


def few(heads: int, queries: int, keys: int) -> list[slice]:
    """All heads of all images, so many at a time that their scores stay in the processor's cache."""
    step = max(1, SCORES * torch.get_num_threads() // (queries * keys))
    return [slice(start, start + step) for start in range(0, heads, step)]


def probabilities(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """softmax(scale * q k^T + mask) of queries (N, n, d) over keys (N, m, d), in float32; the mask is (n, m)."""
    scores = torch.bmm(q.float(), k.float().mT)
    if scale != 1:
        scores *= scale
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return torch.softmax(scores, dim=-1, out=scores)
