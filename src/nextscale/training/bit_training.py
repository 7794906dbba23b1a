"""What training sign bits adds to the training of a tokenizer: sizes and scales of each step, and the usage of bits."""

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
from nextscale.training.step_sizes import pick_images, schedules_of, shrink_images
from nextscale.training.task import Metrics


class BitTraining:
    """The image size and the scales of a step are chosen for the whole batch, so that all its parts use the same."""

    def __init__(self, model: ImageTokenizer, recipe: TokenizerRecipe):
        self.model, self.recipe = model, recipe
        self.schedules = schedules_of(model.pyramid.flat_schedule(), recipe.shrink, recipe.dense_scales)
        self.sizes = sorted({size for schedule in self.schedules for size in schedule.sizes})
        """All scales of all schedules; their usage is counted."""
        self.usage = BitUsage(len(self.sizes), model.config.code_dim, model.device)
        self._used: list[int] = []
        """Indices in ``sizes`` of the scales of the current step."""

    def new_usage(self) -> BitUsage:
        """Return usage counts of 0, for the tokens of the model's own scales."""
        return BitUsage(self.model.schedule.num_scales, self.model.config.token_dim, self.model.device)

    def prepare(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, dict[str, Any]]:
        """Return the batch to train on, and the arguments of the tokenizer's ``forward``."""
        recipe = self.recipe
        groups = batch.batch_slice.count // recipe.diversity_images if recipe.entropy else 1
        which = int(torch.randint(len(recipe.shrink), (), generator=generator)) if len(recipe.shrink) > 1 else 0
        batch = pick_images(batch, recipe.one_of[which], generator)
        batch = shrink_images(batch, recipe.shrink[which])
        sizes = self.schedules[which].sizes
        kept = ScaleSchedule(tuple(sizes[k] for k in random_scales(recipe.drop_scales, len(sizes), generator)))
        self._used = [self.sizes.index(size) for size in kept.sizes]
        depths = random_depths(batch.batch_slice, recipe.scale_dropout, kept.num_scales, generator)
        how = BitQuantization(kept, recipe.entropy, recipe.diversity, groups)
        return batch, {"depths": None if depths is None else depths.to(batch.images.device), "bits": how}

    def count(self, result: Reconstruction) -> None:
        """Count the bits of a part of a batch."""
        self.usage.add(result.tokens, self._used)

    def after_step(self, step: int, generator: torch.Generator) -> Metrics:
        """Do nothing: there is no codebook to update."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state to save in checkpoints: none."""
        return {}


def check_parts(recipe: TokenizerRecipe, part: int) -> None:
    """Check that a part of a batch consists of whole groups of images.

    Args:
        part: number of images that a process computes at once.

    Raises:
        InputError: it does not.
    """
    groups = [("one_of", number) for number in recipe.one_of]
    groups += [("diversity_images", recipe.diversity_images)] if recipe.entropy else []
    for name, number in groups:
        if part % number:
            raise InputError(
                f"{part} images at a time cannot be divided into groups of {number}, as {name} of the recipe wants: "
                "change it, the batch size, or the number of processes or of accumulated parts"
            )
