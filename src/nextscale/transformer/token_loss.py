"""Cross-entropy and accuracy of each token, computed for one part of the sequence after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ROWS = 1024
"""Number of tokens, over all images, whose logits exist at the same time."""


class TokenLosses(NamedTuple):
    """Loss and accuracy of each token."""

    loss: Tensor
    """(B, L) float32: -log p(token) in nats, averaged over ``token_shape`` (bits) if the token has one."""
    correct: Tensor
    """(B, L, *token_shape) bool: True if no other choice is more probable."""


def token_losses(logits: Tensor, targets: Tensor) -> TokenLosses:
    """Return the cross-entropy and accuracy of each token.

    Args:
        logits: (B, L, *token_shape, choices).
        targets: (B, L, *token_shape) int64 in 0..choices - 1.
    """
    loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view_as(targets)
    if loss.ndim > 2:
        loss = loss.flatten(2).mean(2)
    return TokenLosses(loss, logits.detach().argmax(dim=-1) == targets)


def token_loss_in_parts(readout: Callable[[Tensor], Tensor], features: Tensor, targets: Tensor) -> TokenLosses:
    """Return the losses of ``readout(features)`` while only a part of the logits exists at any time.

    All logits with their gradient would take 12 V bytes per token, more than all else of a large batch. The backward
    pass recomputes each part, which adds about 1 % to the matrix products.

    Args:
        readout: features (B, n, C) -> logits (B, n, *token_shape, choices).
        features: (B, L, C).
        targets: (B, L, *token_shape) int64.
    """

    def part(features: Tensor, targets: Tensor) -> TokenLosses:
        return token_losses(readout(features), targets)

    tokens = max(1, ROWS // len(features))
    parts = zip(features.split(tokens, dim=1), targets.split(tokens, dim=1), strict=True)
    found = [checkpoint(part, *each, use_reentrant=False, preserve_rng_state=False) for each in parts]
    loss, correct = (torch.cat(column, dim=1) for column in zip(*found, strict=True))
    return TokenLosses(loss, correct)
