"""Top-k and top-p as pure functions of logits, over the last axis.

On a GPU these functions never read a value back, so that all scales can be recorded as one CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor


def top_k_top_p_filter(logits: Tensor, k: int, p: float) -> Tensor:
    """`top_k_filter`, then `top_p_filter`, sorting only the k largest.

    (..., V) -> (..., V), dropped entries -inf.
    """
    if p <= 0:
        return top_k_filter(logits, k)
    if not 0 < k < logits.shape[-1]:
        return top_p_filter(logits, p)
    return drop_least(logits, ascending_top_k(logits, k), p)


def top_k_filter(logits: Tensor, k: int) -> Tensor:
    """Drop logits smaller than the k-th largest of their token. Ties stay. 0, or k >= V, keeps all.

    (..., V) -> (..., V), dropped entries -inf.
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    threshold = logits.kthvalue(logits.shape[-1] - k + 1, dim=-1, keepdim=True).values
    return logits.masked_fill(logits < threshold, -torch.inf)


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable tokens whose probability reaches p (nucleus sampling, 1904.09751).

    In ascending order, the tokens whose cumulative probability is at most 1 - p are dropped, but never the largest.
    Among equal logits the first are dropped first, as in a stable sort. 0 keeps all.
    (..., V) -> (..., V), dropped entries -inf.
    """
    return drop_least(logits, logits.sort(dim=-1).values, p) if p > 0 else logits


def ascending_top_k(logits: Tensor, k: int) -> Tensor:
    """The result of `top_k_filter` in ascending order, for 0 < k < V. (..., V) -> (..., V)."""
    largest = logits.topk(k + 1, dim=-1).values
    kth, next_one = largest[..., k - 1 : k], largest[..., k:]
    ascending = torch.full_like(logits, -torch.inf)
    ascending[..., -k:] = largest[..., :k].flip(-1)
    if possible(kth == next_one):  # more than k stay
        stay = (logits >= kth).sum(dim=-1, keepdim=True)
        places = torch.arange(logits.shape[-1], 0, -1, device=logits.device)
        ascending = torch.where((places > k) & (places <= stay), kth, ascending)
    return ascending


def drop_least(logits: Tensor, ascending: Tensor, p: float) -> Tensor:
    """Keep the largest logits that together reach probability p. ``ascending`` are the candidates, sorted."""
    ascending = ascending.contiguous()  # as searchsorted wants it
    cumulative = ascending.softmax(dim=-1).cumsum(dim=-1)
    last = cumulative.new_full((*cumulative.shape[:-1], 1), 1 - p)
    count = torch.searchsorted(cumulative, last, right=True).clamp_max(logits.shape[-1] - 1)
    threshold = ascending.gather(-1, count)
    dropped = logits < threshold
    ties = count - torch.searchsorted(ascending, threshold)
    if possible(ties > 0):
        equal = logits == threshold
        dropped |= equal & (equal.cumsum(dim=-1) <= ties)
    return logits.masked_fill(dropped, -torch.inf)


def possible(condition: Tensor) -> bool:
    """Whether the condition may hold anywhere. On a GPU this is always True, so that nothing waits for its value."""
    return condition.device.type != "cpu" or bool(condition.any())
