"""Usage of codes and of bits at each scale over a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule

COLLAPSE = 0.1
"""A codebook has collapsed if fewer codes are used than this fraction of the number expected from uniform tokens."""
ALONE, SEEN = 1.5, 64
"""A scale has collapsed if its perplexity is below the first number after at least the second number of tokens."""
STUCK = 0.002
"""A bit is stuck if its rarer value has a smaller share than this of all tokens."""
PREDICTABLE = 0.1
"""The bits of a scale have collapsed if their mean entropy is below this many bits."""


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

    def figures(self) -> dict[str, list[float]]:
        """Return what a run logs."""
        return {"usage": self.used().tolist(), "perplexity": self.perplexity().tolist()}

    def unused_parts(self) -> dict[str, int]:
        """Return what a validation logs in addition."""
        return {"unused_codes": self.unused()}

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


class BitUsage:
    """Counts of the ones of each bit at each scale, over all images so far.

    Args:
        scales: K.
        dim: D, the number of bits of a token.
    """

    def __init__(self, scales: int, dim: int, device: torch.device | None = None):
        self.dim = dim
        self.counts = torch.zeros(scales, dim + 1, dtype=torch.long, device=device)
        """(K, D + 1), the ones of each bit, and the number of tokens."""

    def add(self, tokens: Sequence[Tensor], scales: Sequence[int] | None = None) -> None:
        """Count token maps (B, n_k, D) of bits.

        Args:
            scales: index of the scale of each map; None means 0, 1, 2, ...
        """
        for k, bits in zip(range(len(tokens)) if scales is None else scales, tokens, strict=True):
            self.counts[k, :-1] += bits.sum(dim=(0, 1))
            self.counts[k, -1] += bits.shape[0] * bits.shape[1]

    def ones(self) -> Tensor:
        """Return the share of ones of each bit at each scale, (K, D); 1/2 before any token is counted."""
        seen = self.counts[:, -1:].double()
        return torch.where(seen > 0, self.counts[:, :-1] / seen.clamp_min(1), 0.5)

    def entropy(self) -> Tensor:
        """Return the mean entropy of a bit at each scale, in bits, (K,): 1 if all have as many ones as zeros."""
        ones = self.ones()
        return (torch.special.entr(ones) + torch.special.entr(1 - ones)).mean(dim=1) / math.log(2)

    def stuck(self) -> int:
        """Return the number of bits that have nearly always the same value, at all scales together."""
        ones, seen = self.counts[:, :-1].sum(dim=0).double(), int(self.counts[:, -1].sum())
        if seen < SEEN:
            return 0
        return int((torch.minimum(ones, seen - ones) < STUCK * seen).sum())

    def figures(self) -> dict[str, list[float]]:
        """Return what a run logs: the mean share of ones and the mean entropy of a bit at each scale."""
        return {"ones": self.ones().mean(dim=1).tolist(), "bit_entropy": self.entropy().tolist()}

    def unused_parts(self) -> dict[str, int]:
        """Return what a validation logs in addition."""
        return {"stuck_bits": self.stuck()}

    def collapsed(self) -> str:
        """Return a warning if bits have collapsed, else an empty text.

        They have collapsed if one of them has nearly always the same value at all scales together, or if the bits of a
        scale have nearly no entropy.
        """
        if stuck := self.stuck():
            return f"collapse: {stuck} of {self.dim} bits are stuck"
        alone = [
            f"{value:.2f} at scale {k}"
            for k, (value, n) in enumerate(zip(self.entropy().tolist(), self.counts[:, -1].tolist(), strict=True))
            if n >= SEEN and value < PREDICTABLE
        ]
        return f"collapse: entropy of a bit {', '.join(alone)}" if alone else ""
