"""The training task of the classifier that evaluates generated images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.data.loader import Batch, BatchSlice
from nextscale.errors import InputError
from nextscale.evaluation.accuracy import Confusion, confusion
from nextscale.evaluation.classifier import ClassifierConfig, ResidualClassifier, as_extractor
from nextscale.imaging.psnr_ssim import to_levels
from nextscale.io.config import as_config
from nextscale.training.critics.augment import cut, recolour
from nextscale.training.recipes import Recipe
from nextscale.training.task import MODEL, Losses, Metrics

DULLEST, STRONGEST = (0.2, 0.0, 0.1), (0.8, 0.8, 0.9)
"""Ranges of brightness, saturation and contrast, as arguments of `recolour`. They mean -0.3 to 0.3, factors 0 to 1.6,
and factors 0.6 to 1.4."""
TINT = 0.15
"""Largest change of red, green and blue, each drawn independently."""
HOLE = 1 / 3
"""Side of the hole, as a fraction of the image's side."""


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(Recipe):
    """Train a `ResidualClassifier`. The defaults suit a few thousand images and short runs."""

    model: ClassifierConfig
    steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "cos"
    warmup: float = 0.15
    warmup_start: float = 0.1
    final_ratio: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 10.0
    ema_decay: float = 0.995
    label_smoothing: float = 0.1
    """Probability mass of a label that is spread over all classes."""
    mixup: float = 0.3
    """a of the distribution Beta(a, a) of the mixup weight lambda (arXiv 1710.09412); 0 disables mixup."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", as_config(ClassifierConfig, self.model))
        if self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2 for batch norm, not {self.batch_size}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")
        if self.mixup < 0:
            raise InputError(f"mixup must be at least 0, not {self.mixup}")


class ClassifierTask:
    """Minimise lambda H(y) + (1 - lambda) H(y'), where H is the cross-entropy with smoothed labels.

    The network sees mixed images lambda x + (1 - lambda) x' (mixup). `jitter` changes x and x' before they are mixed.
    """

    def __init__(self, model: ResidualClassifier, recipe: ClassifierRecipe):
        self.model, self.recipe, self.config = model.train(), recipe, model.config
        self.networks: dict[str, nn.Module] = {MODEL: model}
        self.units = [f"blocks.{i}" for i in range(len(model.blocks))]
        self.shards = self.units

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        images, labels = jitter(batch.images, batch.batch_slice, generator), batch.labels
        share = random_share(self.recipe.mixup, generator)
        other = torch.randperm(len(images), generator=generator).to(images.device)
        logits = self.networks[MODEL](torch.lerp(images[other], images, share)).float()
        ours, theirs = (
            F.cross_entropy(logits, target, label_smoothing=self.recipe.label_smoothing)
            for target in (labels, labels[other])
        )
        return {MODEL: share * ours + (1 - share) * theirs}, {}

    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        assert isinstance(model, ResidualClassifier)
        return {"accuracy": measure(model, batches).accuracy}


def measure(model: ResidualClassifier, batches: Iterable[Batch]) -> Confusion:
    """Return the confusion matrix of a model, computed as in evaluation. Puts the model into evaluation mode."""
    return confusion(as_extractor(model, ()), as_pixels(batches), model.config.classes)


def as_pixels(batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the uint8 images and the labels of each batch."""
    for batch in batches:
        yield to_levels(batch.images).to(torch.uint8), batch.labels


def jitter(images: Tensor, batch_slice: BatchSlice, generator: torch.Generator) -> Tensor:
    """Randomly change brightness, saturation, contrast and tint of each image, and cut a hole.

    Args:
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 3, H, W) in [-1, 1].
    """
    colour, tint, hole = (batch_slice.random(n, generator=generator).to(images.device) for n in (3, 3, 2))
    low, high = (torch.tensor(values, device=images.device) for values in (DULLEST, STRONGEST))
    images = recolour(images, low + (high - low) * colour)
    images = images + TINT * (2 * tint - 1)[:, :, None, None]
    return cut(images.clamp(-1, 1), hole, HOLE)


def random_share(mixup: float, generator: torch.Generator) -> float:
    """Return lambda of a step, drawn from Beta(mixup, mixup), or 1 if ``mixup`` is 0."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(mixup, mixup)) if mixup else 1.0
