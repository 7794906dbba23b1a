"""Training losses: the cross-entropy of tokens, and the reconstruction error of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.transformer.token_loss import TokenLosses


@dataclass(frozen=True)
class TokenLoss:
    """Cross-entropy and accuracy of the transformer's predictions."""

    mean: Tensor
    """Mean over all L tokens and the batch: the training loss. It is weighted if there are weights."""
    per_scale: Tensor
    """(K,) mean cross-entropy of each scale, without gradient and weights."""
    accuracy: Tensor
    """(K,) fraction of tokens, or of bits, predicted correctly."""


def token_loss(losses: TokenLosses, schedule: ScaleSchedule, weights: Tensor | None = None) -> TokenLoss:
    """Return the mean of -log p(token | earlier scales, class or text) in nats, and the accuracy.

    Args:
        weights: (L,) with the sum 1; None gives all tokens the same weight.
    """
    loss, correct = losses
    with torch.no_grad():
        per_scale = means_per_scale(loss, schedule)
        accuracy = means_per_scale(correct.float(), schedule)
    mean = loss.mean() if weights is None else (loss * weights.to(loss)).sum(dim=1).mean()
    return TokenLoss(mean, per_scale, accuracy)


def means_per_scale(values: Tensor, schedule: ScaleSchedule) -> Tensor:
    """Return the mean of each scale, (K,), of values of tokens, (B, L, ...)."""
    return torch.stack([values[:, where].mean() for where in schedule.slices])


def scale_weights(schedule: ScaleSchedule) -> Tensor:
    """Return Infinity's weights of tokens, (L,) with the sum 1: one over the root of the scale's number of tokens."""
    counts = torch.tensor([schedule.tokens_per_scale[k] for k in schedule.level_ids], dtype=torch.float64)
    weights = counts.rsqrt()
    return (weights / weights.sum()).float()


def visit_factors(visits: Sequence[Visit], largest: int) -> Tensor:
    """Return InfinityStar's factor on the weight of each token of some visits, float64.

    It is (largest / n)^(1/5) for a visit of n tokens, but at most 40.

    Args:
        largest: number of tokens of the last scale of the whole schedule.
    """
    counts = torch.tensor([visit.num_tokens for visit in visits], dtype=torch.float64)
    return (largest / counts).pow(1 / 5).clamp_max(40)


def reconstruction_loss(ours: Tensor, images: Tensor, l1: float, l2: float) -> Tensor:
    """Return l1 * mean |x^ - x| + l2 * mean (x^ - x)^2 for images in [-1, 1]."""
    return l1 * F.l1_loss(ours, images) + l2 * F.mse_loss(ours, images)
