"""Which tokens may be drawn: top-k and top-p, as pure functions of the logits."""

from __future__ import annotations

import torch
from torch import Tensor


def top_k_filter(logits: Tensor, k: int) -> Tensor:
    """Drop what is smaller than the k-th largest logit of its token (ties stay). 0, or k >= V, keeps all.

    (..., V) -> (..., V), dropped entries -inf.
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    threshold = logits.kthvalue(logits.shape[-1] - k + 1, dim=-1, keepdim=True).values
    return logits.masked_fill(logits < threshold, -torch.inf)


def top_k_top_p_filter(logits: Tensor, k: int, p: float) -> Tensor:
    """`top_k_filter`, then `top_p_filter`: bit for bit the same, but only the k largest are sorted.

    Where equal logits meet one of the two borders, the plain way decides between them.
    """
    size = logits.shape[-1]
    if not 0 < k < size or p <= 0:
        return top_p_filter(top_k_filter(logits, k), p)
    largest = logits.topk(k + 1, dim=-1).values
    ascending = torch.full_like(logits, -torch.inf)
    ascending[..., -k:] = largest[..., :k].flip(-1)
    first = (ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p).sum(dim=-1, keepdim=True).clamp_max(size - 1)
    threshold = ascending.gather(-1, first)
    below = ascending.gather(-1, (first - 1).clamp_min(0))
    if ((largest[..., k - 1] == largest[..., k]).any() | ((below == threshold) & (first > 0)).any()).item():
        return top_p_filter(top_k_filter(logits, k), p)
    return logits.masked_fill(logits < threshold, -torch.inf)


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable tokens whose probability reaches p (nucleus sampling, 1904.09751).

    In ascending order, those whose cumulative probability is at most 1 - p are dropped, never the largest. 0 keeps all.
    (..., V) -> (..., V), dropped entries -inf.
    """
    if p <= 0:
        return logits
    ascending, order = logits.sort(dim=-1)
    dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    dropped[..., -1] = False
    return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
