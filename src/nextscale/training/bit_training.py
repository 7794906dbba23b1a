"""What training sign bits adds to the training of a tokenizer: the scales of each step, and the usage of bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextscale.data.loader import Batch
from nextscale.errors import InputError
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.bit_quantization import BitQuantization
from nextscale.tokenizer.tokenizer import ImageTokenizer, Reconstruction
from nextscale.tokenizer.usage import BitUsage
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.scale_dropout import random_depths, random_scales
from nextscale.training.task import Metrics


class BitTraining:
    """The scales of a step are drawn for the whole batch, so that all its parts use the same ones."""

    def __init__(self, model: ImageTokenizer, recipe: TokenizerRecipe):
        self.model, self.recipe = model, recipe
        self.schedule = model.pyramid.flat_schedule()
        self.usage = BitUsage(self.schedule.num_scales, model.config.code_dim, model.device)
        self._kept: list[int] = []
        """Indices of the scales of the current step."""

    def new_usage(self) -> BitUsage:
        """Return usage counts of 0."""
        return BitUsage(self.model.schedule.num_scales, self.model.config.token_dim, self.model.device)

    def prepare(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, dict[str, Any]]:
        """Return the batch to train on, and the arguments of the tokenizer's ``forward``."""
        recipe = self.recipe
        self._kept = random_scales(recipe.drop_scales, self.schedule.num_scales, generator)
        schedule = ScaleSchedule(tuple(self.schedule.sizes[k] for k in self._kept))
        depths = random_depths(batch.batch_slice, recipe.scale_dropout, schedule.num_scales, generator)
        groups = batch.batch_slice.count // recipe.diversity_images if recipe.entropy else 1
        how = BitQuantization(schedule, recipe.entropy, recipe.diversity, groups)
        return batch, {"depths": None if depths is None else depths.to(batch.images.device), "bits": how}

    def count(self, result: Reconstruction) -> None:
        """Count the bits of a part of a batch."""
        self.usage.add(result.tokens, self._kept)

    def after_step(self, step: int, generator: torch.Generator) -> Metrics:
        """Do nothing: there is no codebook to update."""
        return {}

    def validation_figures(self, usage: BitUsage) -> dict[str, Any]:
        """Return what a validation logs about the usage of bits."""
        return usage.figures() | {"stuck_bits": usage.stuck()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state to save in checkpoints: none."""
        return {}


def check_groups(recipe: TokenizerRecipe, part: int) -> None:
    """Check that a part of a batch consists of whole groups of images.

    Args:
        part: number of images that a process computes at once.

    Raises:
        InputError: it does not.
    """
    if recipe.entropy and part % recipe.diversity_images:
        raise InputError(
            f"{part} images at a time cannot be divided into groups of {recipe.diversity_images}, the diversity_images "
            "of the recipe: change it, the batch size, or the number of processes or of accumulated parts"
        )
