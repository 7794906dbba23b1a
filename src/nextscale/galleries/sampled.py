"""Many images of a model, as a gallery: each by its own seed, so that it is the same however it comes to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch

from nextscale.errors import InputError
from nextscale.evaluation.features import fingerprint
from nextscale.evaluation.gallery import ImageBatch
from nextscale.imaging.images import to_pixels
from nextscale.pipeline import Pipeline
from nextscale.runtime.out_of_memory import in_halves
from nextscale.sampling.settings import SamplingSettings

SEEDS = 2**63


class SampledImages:
    """Image i of a model has the seed ``seed + i`` and the class ``i C // N``: classes come in order, evenly.

    A batch that memory does not suffice for is halved.

    Args:
        name: of the model.
        count: N.
        settings: how tokens are drawn.
    """

    def __init__(self, pipeline: Pipeline, name: str, count: int, settings: SamplingSettings, seed: int = 0):
        if count < 1:
            raise InputError(f"the number of images must be at least 1, not {count}")
        if not 0 <= seed < SEEDS - count:
            raise InputError(f"a seed is an integer from 0 to {SEEDS - count - 1}, not {seed}")
        self.pipeline, self.name, self.count, self.settings, self.seed = pipeline, name, count, settings, seed
        self.size = pipeline.tokenizer.config.image_size
        self.class_names = pipeline.class_names
        self.labels = [i * len(self.class_names) // count for i in range(count)]
        self.made_from: dict[str, Any] = {
            "model": name,
            "weights": f"{pipeline.tokenizer.fingerprint()} {fingerprint(pipeline.model)}",
            "count": count,
            "seed": seed,
            "dtype": pipeline.dtype,
            **settings.record(),
        }

    def at(self, settings: SamplingSettings) -> SampledImages:
        """The same images at other settings."""
        other = copy(self)
        other.settings, other.made_from = settings, self.made_from | settings.record()
        return other

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> ImageBatch:
        chosen = list(indices)
        pixels = torch.cat(in_halves(self._sample, chosen, len(chosen), halve))
        return ImageBatch(pixels, torch.tensor(chosen), torch.tensor([self.labels[i] for i in chosen]))

    def _sample(self, indices: list[int]) -> torch.Tensor:
        """uint8 (B, 3, H, W)."""
        seeds = [self.seed + i for i in indices]
        run = self.pipeline.scales([self.labels[i] for i in indices], seed=seeds, settings=self.settings)
        return to_pixels(run.result().images).cpu()


def halve(indices: list[int]) -> tuple[list[int], list[int]]:
    middle = len(indices) // 2
    return indices[:middle], indices[middle:]
