"""Training losses: the cross-entropy of tokens, and the reconstruction error of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule
from nextscale.transformer.token_loss import TokenLosses


@dataclass(frozen=True)
class TokenLoss:
    """Cross-entropy and accuracy of the transformer's predictions."""

    mean: Tensor
    """Mean over all L tokens and the batch: the training loss."""
    per_scale: Tensor
    """(K,) mean cross-entropy of each scale, without gradient."""
    accuracy: Tensor
    """(K,) fraction of tokens predicted correctly."""


def token_loss(losses: TokenLosses, schedule: ScaleSchedule) -> TokenLoss:
    """Return the mean of -log p(token | earlier scales, class) in nats, and the accuracy."""
    loss, correct = losses
    with torch.no_grad():
        per_scale = torch.stack([loss[:, where].mean() for where in schedule.slices])
        accuracy = torch.stack([correct[:, where].float().mean() for where in schedule.slices])
    return TokenLoss(loss.mean(), per_scale, accuracy)


def reconstruction_loss(ours: Tensor, images: Tensor, l1: float, l2: float) -> Tensor:
    """Return l1 * mean |x^ - x| + l2 * mean (x^ - x)^2 for images in [-1, 1]."""
    return l1 * F.l1_loss(ours, images) + l2 * F.mse_loss(ours, images)
