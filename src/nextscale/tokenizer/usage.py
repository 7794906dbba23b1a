"""Codebook usage of each scale over a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule

COLLAPSE = 0.1
"""A codebook has collapsed if fewer codes are used than this fraction of the number expected from uniform tokens."""
ALONE, SEEN = 1.5, 64
"""A scale has collapsed if its perplexity is below the first number after at least the second number of tokens."""


class CodeUsage:
    """Counts of each code at each scale.

    The counts are over all images so far, not per batch, so that a scale with one token per image can use all codes.
    """

    def __init__(self, schedule: ScaleSchedule, codebook_size: int, device: torch.device | None = None):
        self.sizes = schedule.sizes
        self.counts = torch.zeros(schedule.num_scales, codebook_size, dtype=torch.long, device=device)

    def add(self, tokens: Sequence[Tensor]) -> None:
        """Count K token maps (B, n_k)."""
        for k, scale in enumerate(tokens):
            self.counts[k] += scale.flatten().bincount(minlength=self.counts.shape[1])

    def used(self) -> Tensor:
        """Return the fraction of the codes that occur at each scale, (K,)."""
        return (self.counts > 0).double().mean(dim=1)

    def perplexity(self) -> Tensor:
        """Return exp(entropy) of the code frequencies of each scale, (K,): V if all are equal, 1 if only one occurs."""
        share = self.counts.double() / self.counts.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.special.entr(share).sum(dim=1).exp()

    def unused(self) -> int:
        """Return the number of codes that occur at no scale."""
        return int((self.counts.sum(dim=0) == 0).sum())

    def collapsed(self) -> str:
        """Return a warning if the codebook has collapsed, else an empty text.

        It has collapsed if all scales together use fewer than a tenth of the codes that the same number of uniformly
        random tokens would use, or if nearly all tokens of a scale are the same code.
        """
        size, total = self.counts.shape[1], int(self.counts.sum())
        expected = size * (1 - (1 - 1 / size) ** total)
        used = size - self.unused()
        if used < COLLAPSE * expected:
            return f"collapse: {used} of {size} codes used"
        perplexity, seen = self.perplexity().tolist(), self.counts.sum(dim=1).tolist()
        alone = [
            f"{p:.2f} at {h}x{w}"
            for (h, w), p, n in zip(self.sizes, perplexity, seen, strict=True)
            if n >= SEEN and p < ALONE
        ]
        return f"collapse: perplexity {', '.join(alone)}" if alone else ""
