"""How much of the codebook the tokens use, scale by scale, over a whole data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule

COLLAPSE = 0.1
"""Share of the codes that chance would hit."""
ALONE, SEEN = 1.5, 64
"""Perplexity below which a scale has but one code to speak of, once so many of its tokens were seen."""


class CodeUsage:
    """Counts of every code at every scale.

    Counted over all images seen, not per batch: a scale with one token per image can still use all codes.
    """

    def __init__(self, schedule: ScaleSchedule, codebook_size: int, device: torch.device | None = None):
        self.sizes = schedule.sizes
        self.counts = torch.zeros(schedule.num_scales, codebook_size, dtype=torch.long, device=device)

    def add(self, tokens: Sequence[Tensor]) -> None:
        """Count K token maps (B, n_k)."""
        for k, scale in enumerate(tokens):
            self.counts[k] += scale.flatten().bincount(minlength=self.counts.shape[1])

    def used(self) -> Tensor:
        """(K,) share of the codes that occur at a scale."""
        return (self.counts > 0).double().mean(dim=1)

    def perplexity(self) -> Tensor:
        """(K,) exp(entropy) of the codes' frequencies: V if all are equally frequent, 1 if only one occurs."""
        share = self.counts.double() / self.counts.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.special.entr(share).sum(dim=1).exp()

    def unused(self) -> int:
        """How many codes occur at no scale."""
        return int((self.counts.sum(dim=0) == 0).sum())

    def collapsed(self) -> str:
        """What to say if few codes do the work of many. Empty if all is well.

        That is: over all scales, fewer than a tenth of the codes that as many draws would hit, were all equally likely;
        or scales at which nearly every token is the same code.
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
