"""Where the sampler's randomness comes from: one generator for the call, or one for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from nextscale.errors import InputError, brief


class RandomStreams:
    """Random draws for a batch of B pictures.

    Args:
        seed: an int seeds one generator for the whole batch, which is what the reference does; B ints seed one
            generator for each picture, so that a picture does not depend on the others in its batch.
        batch: B.
    """

    def __init__(self, seed: int | Sequence[int], batch: int, device: torch.device):
        seeds = list(seed) if isinstance(seed, Sequence) else [seed]
        if isinstance(seed, Sequence) and len(seeds) != batch:
            raise InputError(f"expected one seed for each of the {batch} pictures, got {len(seeds)}")
        for s in seeds:
            if not isinstance(s, Integral) or not -(2**63) <= s < 2**64:
                raise InputError(f"a seed is an integer of at most 64 bits, not {brief(s)}")
        self.generators = [torch.Generator(device).manual_seed(int(s)) for s in seeds]
        self.device = device
        self.batch = batch

    def categorical(self, probabilities: Tensor) -> Tensor:
        """One index per row of probabilities. (B, n, V) -> (B, n).

        Raises:
            InputError: probabilities that are none, because weights or guidance went out of range.
        """
        try:
            draws = [
                torch.multinomial(part.flatten(0, 1), 1, replacement=True, generator=generator)
                for part, generator in zip(self._split(probabilities), self.generators, strict=True)
            ]
        except RuntimeError as error:
            if torch.isfinite(probabilities).all():
                raise
            raise InputError("the model's logits are not finite: damaged weights, or too strong a guidance") from error
        return torch.cat(draws).view(probabilities.shape[:2])

    def gumbel(self, like: Tensor) -> Tensor:
        """Gumbel noise -log(Exponential(1)) in the shape of a (B, ...) tensor."""
        noise = torch.empty_like(like)
        for part, generator in zip(self._split(noise), self.generators, strict=True):
            part.exponential_(generator=generator)
        return noise.log().neg()

    def labels(self, num_classes: int) -> Tensor:
        """A class for every picture, all equally likely. -> (B,)."""
        uniform = torch.full((1, num_classes), 1 / num_classes, device=self.device)
        count = self.batch // len(self.generators)
        return torch.cat([torch.multinomial(uniform, count, True, generator=g) for g in self.generators], dim=1)[0]

    def _split(self, tensor: Tensor) -> Sequence[Tensor]:
        return tensor.chunk(len(self.generators))
