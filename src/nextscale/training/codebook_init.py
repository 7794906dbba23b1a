"""Initialise the codebook from data, and restart unused codes."""

from __future__ import annotations

import torch
from torch import Tensor

from nextscale.tokenizer.codebook import Codebook

FEATURES_PER_CODE = 64
"""k-means uses at most this many features for each code."""


@torch.no_grad()
def kmeans(features: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Cluster features with Lloyd's algorithm: (N, D) -> centres (count, D).

    Centres start from random features. In each round a centre moves to the mean of the features nearest to it. A centre
    without such features does not move.
    """
    order = torch.randperm(len(features), generator=generator)[: FEATURES_PER_CODE * count]
    features = features[order.to(features.device)]
    picked = torch.arange(count, device=features.device) % len(features)
    centres = Codebook(count, features.shape[1]).to(features.device)
    centres.weight.copy_(features[picked])
    for _ in range(rounds):
        nearest = torch.cat([centres.nearest(chunk) for chunk in features.split(2**14)])
        sums = torch.zeros_like(centres.weight).index_add_(0, nearest, features)
        sizes = nearest.bincount(minlength=count).unsqueeze(1)
        centres.weight.copy_(torch.where(sizes > 0, sums / sizes.clamp_min(1), centres.weight))
    return centres.weight.detach()


@torch.no_grad()
def restart_codes(codes: Tensor, dead: Tensor, features: Tensor, generator: torch.Generator) -> None:
    """Set the codes (V, D) marked by ``dead`` (V,) to random rows of ``features`` (N, D)."""
    count = int(dead.sum())
    if count:
        rows = torch.randint(len(features), (count,), generator=generator)
        codes[dead] = features[rows.to(features.device)]
