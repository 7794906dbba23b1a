"""The data of video transformers: clips of the tokenizer's duration and size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from nextscale.data.cache import TOKENIZER, is_cache
from nextscale.data.clips.name import is_clips
from nextscale.data.dataset import Examples
from nextscale.data.held_out import hold_out
from nextscale.data.videos import VideoDataset, find_videos
from nextscale.errors import InputError
from nextscale.families.sources import load_tokenizer
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.training.recipes import Recipe, TransformerRecipe, VideoRecipe
from nextscale.training.run import settled_fraction
from nextscale.training.setup import RunSettings, check_run


def at_video_budget(recipe: TransformerRecipe, tokenizer: VideoTokenizer, data: str) -> VideoTokenizer:
    """Return a tokenizer with the schedule of the recipe's pixel budget and duration, if it has one. It shares the
    weights.

    Raises:
        InputError: the recipe has a budget of images.
    """
    if recipe.text is not None and (recipe.text.budget or recipe.text.aspects):
        raise InputError("text.budget and text.aspects are for images: expected video.budget and video.seconds")
    video = recipe.video or VideoRecipe()
    if not video.budget:
        return tokenizer
    h, w = tokenizer.schedule.sizes[-1]
    changed = with_video_schedule(tokenizer, SpacetimeSchedule.official(video.budget, h / w, video.seconds))
    if is_cache(data) and changed.schedule != load_tokenizer(Path(data) / TOKENIZER).schedule:
        raise InputError(f"{data} is a cache of another schedule than video.budget {video.budget} has")
    return changed


def with_video_schedule(tokenizer: VideoTokenizer, schedule: SpacetimeSchedule) -> VideoTokenizer:
    """Return a video tokenizer with another schedule, which shares the weights: they do not depend on it."""
    if tokenizer.schedule == schedule:
        return tokenizer
    with torch.device("meta"):
        changed = VideoTokenizer(replace(tokenizer.config, schedule=schedule))
    changed.load_state_dict(tokenizer.state_dict(), assign=True)
    return changed


Clips = tuple[Examples, Examples | None]


def open_videos(data: str, out: Path, tokenizer: VideoTokenizer, recipe: Recipe, settings: RunSettings) -> Clips:
    """Open and check training and validation videos with captions.

    Raises:
        InputError: the data set does not exist; see also `check_run`.
    """
    fraction = settled_fraction(settings.val_fraction, out)
    train, val = open_clips(data, tokenizer.schedule, recipe.seed, recipe.flip, fraction)
    check_run(data, out, train, val, recipe, settings)
    return train, val


def open_clips(data: str, schedule: SpacetimeSchedule, seed: int, flip: bool = False, val_fraction: float = 0) -> Clips:
    """Open training and validation videos at the duration and size of a schedule.

    Args:
        data: a folder, see `find_videos`; or ``clips:PATH`` with emoji sprites, of which clips are composed.
    """
    shape = schedule.frames, schedule.image_size
    if is_clips(data):
        from nextscale.data.clips.dataset import clip_splits  # on demand: few runs need it

        return clip_splits(data, *shape, seed)
    train, val = hold_out(find_videos(Path(data)), val_fraction)
    return VideoDataset(train, *shape, seed, flip), VideoDataset(val, *shape) if val else None
