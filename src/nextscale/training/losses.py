"""Losses: cross-entropy of tokens, and reconstruction error of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule
from nextscale.transformer.token_loss import Guesses


@dataclass(frozen=True)
class TokenLoss:
    """Cross-entropy and accuracy of the transformer's guesses."""

    mean: Tensor
    """Over all L tokens and the batch: the training loss."""
    per_scale: Tensor
    """(K,) mean cross-entropy of each scale, without gradient."""
    accuracy: Tensor
    """(K,) share of tokens guessed right."""


def token_loss(guesses: Guesses, schedule: ScaleSchedule) -> TokenLoss:
    """Means of -log p(token | earlier scales, class), in nats, and of what was guessed right."""
    loss, right = guesses
    with torch.no_grad():
        per_scale = torch.stack([loss[:, where].mean() for where in schedule.slices])
        accuracy = torch.stack([right[:, where].float().mean() for where in schedule.slices])
    return TokenLoss(loss.mean(), per_scale, accuracy)


def reconstruction_loss(ours: Tensor, images: Tensor, l1: float, l2: float) -> Tensor:
    """l1 * mean |x^ - x| + l2 * mean (x^ - x)^2, images in [-1, 1]."""
    return l1 * F.l1_loss(ours, images) + l2 * F.mse_loss(ours, images)
