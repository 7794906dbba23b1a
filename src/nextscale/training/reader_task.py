"""The training task of the reader of scenes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.data.loader import Batch
from nextscale.data.scenes.targets import GRID, OBJECTS, unpack
from nextscale.errors import InputError
from nextscale.evaluation.scene_reader import ReaderConfig, SceneReader, readings
from nextscale.io.config import as_config
from nextscale.training.recipes import Recipe
from nextscale.training.task import MODEL, Losses, Metrics

NOISE, BLUR = 0.15, 0.7
"""Largest amplitude of the noise, and largest share of a blurred image, in half of the training images.
Generated images are a little less clean than rendered ones."""


@dataclass(frozen=True, kw_only=True)
class ReaderRecipe(Recipe):
    """Train a `SceneReader`."""

    model: ReaderConfig
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 3e-3
    schedule: str = "cos"
    warmup: float = 0.05
    warmup_start: float = 0.1
    final_ratio: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 10.0
    ema_decay: float = 0.995
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", as_config(ReaderConfig, self.model))
        if self.model.grid % GRID:
            raise InputError(f"size must be a multiple of {8 * GRID}, not {self.model.size}")
        if self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2 for batch norm, not {self.batch_size}")


class ReaderTask:
    """Minimise the cross-entropies of the cells (summed over an image) and of the background.

    The neighbours of an object's cell do not count: an object near the edge of a cell may well be found beside it.
    """

    def __init__(self, model: SceneReader, recipe: ReaderRecipe):
        self.model, self.recipe, self.config = model.train(), recipe, model.config
        self.networks: dict[str, nn.Module] = {MODEL: model}
        self.units = self.shards = [f"blocks.{i}" for i in range(len(model.blocks))]

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        numbers = batch.batch_slice.random(3, generator=generator).to(batch.images.device)
        noise = 2 * batch.batch_slice.random(*batch.images.shape[1:], generator=generator).to(batch.images.device) - 1
        output = self.networks[MODEL](spoil(batch.images, numbers, noise))
        items = unpack(batch.labels)
        cells = F.cross_entropy(output.cells.float(), cell_targets(items, self.config), reduction="sum")
        parts = {
            "cells": cells / len(items),
            "background": F.cross_entropy(output.background.float(), items[:, 1]),
        }
        return {MODEL: torch.stack([*parts.values()]).sum()}, parts

    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        assert isinstance(model, SceneReader)
        return accuracies(model.eval(), batches)


@torch.no_grad()
def accuracies(model: SceneReader, batches: Iterable[Batch]) -> dict[str, float]:
    """Return the fractions of images whose style, background, and objects with their numbers are read correctly."""
    right = {"style": 0, "background": 0, "objects": 0}
    images = 0
    for batch in batches:
        items = unpack(batch.labels)
        for reading, row in zip(readings(model.config, model(batch.images)), items.tolist(), strict=True):
            right["style"] += reading.style == model.config.styles[row[0]]
            right["background"] += reading.background == model.config.backgrounds[row[1]]
            wanted = sorted(model.config.objects[(item - 1) // GRID**2] for item in row[2:] if item)
            right["objects"] += sorted(one.name for one in reading.objects) == wanted
        images += len(items)
    return {name: count / max(images, 1) for name, count in right.items()}


def cell_targets(items: Tensor, config: ReaderConfig) -> Tensor:
    """Return the class of each cell: (B, 2 + OBJECTS) -> (B, grid, grid); -100 is ignored."""
    grid = config.grid
    targets = torch.zeros(len(items), grid, grid, dtype=torch.int64, device=items.device)
    near = torch.zeros(len(items), 1, grid, grid, device=items.device)
    finer = grid // GRID
    for item in items[:, 2 : 2 + OBJECTS].T:
        image = item.nonzero()[:, 0]
        number, cell = (item[image] - 1) // GRID**2, (item[image] - 1) % GRID**2
        row, column = cell // GRID * finer + finer // 2, cell % GRID * finer + finer // 2
        targets[image, row, column] = 1 + number * len(config.styles) + items[image, 0]
        near[image, 0, row, column] = 1
    around = F.max_pool2d(near, 3, stride=1, padding=1)[:, 0].bool()
    return torch.where(around & (targets == 0), -100, targets)


def spoil(images: Tensor, numbers: Tensor, noise: Tensor) -> Tensor:
    """Blur half of the images and add noise to them.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        numbers: (B, 3), uniform in [0, 1): whether, how much noise, how much blur.
        noise: uniform in [-1, 1), of the shape of the images.
    """
    chosen = (numbers[:, 0] < 0.5).to(images.dtype)
    strength, share = ((chosen * numbers[:, i])[:, None, None, None] for i in (1, 2))
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return torch.lerp(images, blurred, BLUR * share) + NOISE * strength * noise
