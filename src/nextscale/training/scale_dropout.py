"""Random numbers of scales: from which scales an image is decoded, and which scales a step uses."""

from __future__ import annotations

import torch
from torch import Tensor

from nextscale.data.loader import BatchSlice


def random_depths(batch_slice: BatchSlice, rate: float, scales: int, generator: torch.Generator) -> Tensor | None:
    """Return the number of scales to decode each image from (scale dropout, arXiv 2107.03312).

    With probability ``rate`` the number is uniform in 1..K; otherwise it is K. This trains the first scales to carry
    the most important content.

    Returns:
        (count,) int64, or None if ``rate`` is 0.
    """
    if rate == 0:
        return None
    chance, depth = batch_slice.random(2, generator=generator).unbind(1)
    return torch.where(chance < rate, (depth * scales).long() + 1, scales)


def random_scales(rate: float, scales: int, generator: torch.Generator) -> list[int]:
    """Return the scales that a step uses (stochastic depth, arXiv 1603.09382).

    Each of 0..K-1 is dropped with probability ``rate``, but the last one never is.
    """
    if rate == 0:
        return list(range(scales))
    kept = (torch.rand(scales, generator=generator) >= rate).tolist()
    return [k for k, keep in enumerate(kept) if keep or k == scales - 1]
