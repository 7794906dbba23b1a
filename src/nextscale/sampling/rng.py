"""Random numbers of the sampler: one generator for the call, or one per image."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from nextscale.errors import InputError, brief


class RandomStreams:
    """Random numbers for a batch of B images.

    Args:
        seed: An int seeds one generator for the whole batch, as in the official code. B ints seed one generator per
            image; an image then does not depend on the others in its batch.
        batch: B.

    Raises:
        InputError: The number of seeds is not B, or a seed is not an integer of at most 64 bits.
    """

    def __init__(self, seed: int | Sequence[int], batch: int, device: torch.device):
        are_several = isinstance(seed, Sequence) and not isinstance(seed, str | bytes)
        seeds: list[Any] = list(seed) if are_several else [seed]  # type: ignore[arg-type]
        if are_several and len(seeds) != batch:
            raise InputError(f"expected one seed for each of the {batch} images, got {len(seeds)}")
        for s in seeds:
            if not isinstance(s, Integral) or isinstance(s, bool) or not -(2**63) <= s < 2**64:
                raise InputError(f"a seed is an integer of at most 64 bits, not {brief(s)}")
        self.generators = [torch.Generator(device).manual_seed(int(s)) for s in seeds]
        self.device = device
        self.batch = batch

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Sample an index per row of probabilities p, argmax p / Exponential(1). (B, n, ..., V) -> (B, n, ...).

        The result equals that of `torch.multinomial`, bit for bit.
        """
        return (probabilities / self._exponential(probabilities)).argmax(dim=-1)

    def gumbel(self, like: Tensor) -> Tensor:
        """Gumbel noise -log(Exponential(1)) in the shape of a (B, ...) tensor."""
        return self._exponential(like).log_().neg_()

    def labels(self, num_classes: int) -> Tensor:
        """A class per image, uniformly distributed. -> (B,)."""
        uniform = torch.full((1, num_classes), 1 / num_classes, device=self.device)
        count = self.batch // len(self.generators)
        return torch.cat([torch.multinomial(uniform, count, True, generator=g) for g in self.generators], dim=1)[0]

    def _exponential(self, like: Tensor) -> Tensor:
        """Exponential(1) noise in the shape of a (B, ...) tensor. Equals `Tensor.exponential_`, bit for bit.

        On the CPU it is computed as -log(1 - u), which takes a third of the time: only u is generated serially.
        """
        parts = torch.empty_like(like, dtype=torch.float64 if self.device.type == "cpu" else None)
        for part, generator in zip(parts.chunk(len(self.generators)), self.generators, strict=True):
            if self.device.type == "cpu":
                part.uniform_(generator=generator).neg_().log1p_().neg_()
            else:
                part.exponential_(generator=generator)
        return parts.to(like.dtype)
