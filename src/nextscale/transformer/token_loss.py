"""What a loss needs of logits: cross-entropy and whether the largest is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ROWS = 1024
"""Tokens, of all images, whose logits are there at the same time."""


class Guesses(NamedTuple):
    """Of each token."""

    loss: Tensor
    """(B, L) float32: -log of the probability of what it is, in nats."""
    right: Tensor
    """(B, L) bool: whether nothing else is more probable."""


def guess(logits: Tensor, targets: Tensor) -> Guesses:
    """Logits (B, L, V) and what the tokens are, (B, L)."""
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    return Guesses(loss, logits.detach().argmax(dim=-1) == targets)


def guess_in_parts(head: Callable[[Tensor], Tensor], x: Tensor, targets: Tensor) -> Guesses:
    """The guesses of a head, (B, n, C) -> logits (B, n, V), of which only a part is there at any time.

    All logits with their gradient would need 12 V bytes a token, most of the memory of a large batch. The backward
    pass has the head compute each part again, which is one product in a hundred.

    Args:
        x: (B, L, C).
        targets: (B, L) int64.
    """

    def part(x: Tensor, targets: Tensor) -> Guesses:
        return guess(head(x), targets)

    tokens = max(1, ROWS // len(x))
    parts = zip(x.split(tokens, dim=1), targets.split(tokens, dim=1), strict=True)
    found = [checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False) for given in parts]
    loss, right = (torch.cat(column, dim=1) for column in zip(*found, strict=True))
    return Guesses(loss, right)
