"""Training at the aspect ratios of the images, for bitwise tokenizers; see `nextscale.data.buckets`."""

from __future__ import annotations

from pathlib import Path

from nextscale.data.buckets import BucketedImages
from nextscale.data.splits import open_buckets
from nextscale.errors import InputError
from nextscale.scales.image_shape import templates_of
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.finetune import with_schedule
from nextscale.training.recipes import Recipe
from nextscale.training.run import settled_fraction
from nextscale.training.setup import RunSettings, check_run


def aspect_schedules(tokenizer: ImageTokenizer) -> dict[float, ScaleSchedule]:
    """Return the schedule of each template at the pixel budget of a tokenizer.

    Raises:
        InputError: the tokenizer has a codebook, or its schedule is none of Infinity's.
    """
    if tokenizer.config.quantizer != "bits":
        raise InputError("images of several aspect ratios need a bitwise tokenizer: this one has a codebook")
    found = {each.template: each for each in templates_of(tokenizer.schedule) if each.template is not None}
    if not found:
        raise InputError(f"aspect ratios need one of Infinity's schedules, not the scales {tokenizer.schedule}")
    return found


def aspect_sizes(tokenizer: ImageTokenizer) -> dict[float, tuple[int, int]]:
    """Return (H, W) in pixels of the images of each template. Raises as `aspect_schedules`."""
    return {template: tokenizer.config.image_size_of(each) for template, each in aspect_schedules(tokenizer).items()}


def at_budget(tokenizer: ImageTokenizer, budget: str) -> ImageTokenizer:
    """Return a bitwise tokenizer for images of a pixel budget, with the same weights."""
    return with_schedule(tokenizer, ScaleSchedule.infinity(budget, tokenizer.schedule.template or 1.0))


def open_aspects(
    data: str, out: Path, tokenizer: ImageTokenizer, recipe: Recipe, settings: RunSettings
) -> tuple[BucketedImages, BucketedImages | None]:
    """Open and check images with captions at their own aspect ratios.

    Raises:
        InputError: see `aspect_schedules` and `nextscale.training.setup.open_images`.
    """
    sizes, fraction = aspect_sizes(tokenizer), settled_fraction(settings.val_fraction, out)
    train, val = open_buckets(data, sizes, recipe.seed, recipe.flip, fraction)
    check_run(data, out, train, val, recipe, settings)
    return train, val
