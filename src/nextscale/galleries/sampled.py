"""Images sampled from a model as a gallery. Each image has its own seed, so it does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch

from nextscale.errors import InputError
from nextscale.evaluation.gallery import ImageBatch
from nextscale.imaging.images import to_pixels
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.pipeline import Pipeline, last_step
from nextscale.sampling.sampler import SamplingArguments, SamplingSettings

SEEDS = 2**63
"""Seeds are below this."""


class SampledImages:
    """Images of a model. Image i has the seed ``seed + i`` and the class ``i C // N``: classes come in order, evenly.

    A batch is halved if memory runs out.

    Args:
        name: of the model.
        count: N, number of images.
        settings: of sampling.
        seed: of image 0.

    Raises:
        InputError: no images, or a seed out of range.
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
            "weights": f"{pipeline.tokenizer.fingerprint()} {weights_fingerprint(pipeline.model)}",
            "count": count,
            "seed": seed,
            "dtype": pipeline.dtype,
            **as_record(settings),
        }

    def at(self, settings: SamplingSettings) -> SampledImages:
        """Return the same images with other settings."""
        other = copy(self)
        known = {name: value for name, value in self.made_from.items() if name not in as_record(self.settings)}
        other.settings, other.made_from = settings, known | as_record(settings)
        return other

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> ImageBatch:
        pixels = torch.cat(self._sample(list(indices)))
        return ImageBatch(pixels, torch.tensor(list(indices)), torch.tensor([self.labels[i] for i in indices]))

    def _sample(self, indices: list[int]) -> list[torch.Tensor]:
        """Sample images, uint8 (B, 3, H, W), in as many parts as memory requires."""
        try:
            arguments: SamplingArguments = {
                "cfg": self.settings.cfg,
                "top_k": self.settings.top_k,
                "top_p": self.settings.top_p,
                "more_smooth": self.settings.more_smooth,
                "seed": [self.seed + i for i in indices],
            }
            step, tokens = last_step(self.pipeline.scales([self.labels[i] for i in indices], **arguments))
            return [to_pixels(self.pipeline.finished_images(step, tokens, arguments)).cpu()]
        except torch.OutOfMemoryError:
            if len(indices) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(indices) // 2
        return self._sample(indices[:half]) + self._sample(indices[half:])


def as_record(settings: SamplingSettings) -> dict[str, Any]:
    """Return the settings in JSON values."""
    return {
        "cfg": float(settings.cfg),
        "top_k": int(settings.top_k),
        "top_p": float(settings.top_p),
        "more_smooth": settings.more_smooth,
    }
