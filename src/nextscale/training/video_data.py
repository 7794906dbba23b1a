"""The data of video transformers: clips of the tokenizer's duration and size."""

from __future__ import annotations

from pathlib import Path

from nextscale.data.dataset import Examples
from nextscale.data.held_out import hold_out
from nextscale.data.videos import VideoDataset, find_videos
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.training.recipes import Recipe
from nextscale.training.run import settled_fraction
from nextscale.training.setup import RunSettings, check_run

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
    """Open the training and validation videos of a folder at the duration and size of a schedule; see `find_videos`."""
    train, val = hold_out(find_videos(Path(data)), val_fraction)
    shape = schedule.frames, schedule.image_size
    return VideoDataset(train, *shape, seed, flip), VideoDataset(val, *shape) if val else None
