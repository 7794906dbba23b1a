"""Images sampled from a model as a gallery. Each image has its own seed, so it does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, TypeVar

import torch

from nextscale.errors import InputError
from nextscale.evaluation.gallery import ImageBatch
from nextscale.imaging.images import to_pixels
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.pipeline import Pipeline
from nextscale.runtime.out_of_memory import in_halves
from nextscale.sampling.settings import SETTINGS, SamplingSettings

Item = TypeVar("Item")
SEEDS = 2**63
"""Exclusive upper bound of the seeds."""


class SampledImages:
    """Sampled images. Image i has the seed ``seed + i`` and the class ``i C // N``, so classes are evenly distributed.

    A batch is halved if memory runs out.

    Args:
        name: name of the model.
        count: N, number of images.
        settings: sampling settings.
        seed: seed of image 0.

    Raises:
        InputError: ``count`` is below 1, or a seed is out of range.
    """

    def __init__(self, pipeline: Pipeline, name: str, count: int, settings: SamplingSettings, seed: int = 0):
        if pipeline.family.takes == "prompt":
            raise InputError(
                f"{name} is a text-to-image model, but evaluation samples classes: give its images by --images"
            )
        if count < 1:
            raise InputError(f"the number of images must be at least 1, not {count}")
        if not 0 <= seed < SEEDS - count:
            raise InputError(f"seed must be an integer from 0 to {SEEDS - count - 1}, not {seed}")
        self.pipeline, self.name, self.count, self.settings, self.seed = pipeline, name, count, settings, seed
        self.size = pipeline.tokenizer.config.image_size
        self.class_names = pipeline.class_names
        self.labels = [i * len(self.class_names) // count for i in range(count)]
        self.made_from: dict[str, Any] = {
            "model": name,
            "weights": f"{pipeline.tokenizer.fingerprint()} {weights_fingerprint(pipeline.model)}",
            "count": count,
            "seed": seed,
            "dtype": pipeline.dtype,
            **settings.record(),
        }

    def at(self, settings: SamplingSettings) -> SampledImages:
        """Return the same images with other settings."""
        other = copy(self)
        others = {name: value for name, value in self.made_from.items() if name not in SETTINGS}
        other.settings, other.made_from = settings, others | settings.record()
        return other

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> ImageBatch:
        chosen = list(indices)
        pixels = torch.cat(in_halves(self._sample, chosen, len(chosen), halve))
        return ImageBatch(pixels, torch.tensor(chosen), torch.tensor([self.labels[i] for i in chosen]))

    def _sample(self, indices: list[int]) -> torch.Tensor:
        """Return sampled images, uint8 (B, 3, H, W)."""
        seeds = [self.seed + i for i in indices]
        run = self.pipeline.scales([self.labels[i] for i in indices], seed=seeds, settings=self.settings)
        return to_pixels(run.result().images).cpu()


def halve(indices: list[Item]) -> tuple[list[Item], list[Item]]:
    """Split a list in the middle."""
    middle = len(indices) // 2
    return indices[:middle], indices[middle:]
