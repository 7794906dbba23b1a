"""The shape of videos as requests state it; see `nextscale.scales.image_shape.ImageShape`.

What most models do not need is in `nextscale.scales.spacetime`, which is imported only for a video model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nextscale.errors import InputError, brief
from nextscale.scales.aspect import parse_aspect, parse_size

if TYPE_CHECKING:
    from nextscale.scales.spacetime import SpacetimeSchedule

VIDEO_BUDGETS = ("0.06M", "0.25M", "0.40M", "0.90M")
"""Names of the pixel budgets of videos."""
FPS = 16
"""Frames of a second."""
LONGEST = 10
"""Longest duration in seconds."""


def check_seconds(seconds: object) -> None:
    """Raise InputError unless a duration is a whole number of seconds from 0 to `LONGEST`."""
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST:
        raise InputError(f"a video has 1 to {LONGEST} whole seconds, and an image 0, not {brief(seconds)}")


def video_schedule(
    own: SpacetimeSchedule, aspect: str, budget: str, size: str, seconds: int | None
) -> SpacetimeSchedule:
    """Return the schedule of a video.

    Args:
        own: the model's schedule.
        aspect, budget, size, seconds: see `nextscale.scales.image_shape.ImageShape`.

    Raises:
        InputError: the model has one size only, and another one is asked for; or there is no such budget.
    """
    from nextscale.scales.spacetime import BUDGETS, SpacetimeSchedule, frames_of, nearest_budget

    if budget and budget not in BUDGETS:
        raise InputError(f"unknown pixel budget {brief(budget)} of videos: expected one of {', '.join(BUDGETS)}")
    height, width = own.image_size
    if (aspect or budget or size) and size != f"{width}x{height}":
        if not own.follows_template:
            wanted = size or " ".join(filter(None, (aspect, budget)))
            raise InputError(f"the model generates videos of {width}x{height} pixels, not {wanted}")
        ratio = parse_aspect(aspect) if aspect else own.template
        if size:
            ratio, budget = nearest_budget(*parse_size(size))
        assert ratio is not None, "own follows a template"
        frames = own.latent_frames
        own = replace(SpacetimeSchedule.official(budget or own.budget, ratio), latent_frames=frames)
    return own if seconds is None else replace(own, latent_frames=frames_of(seconds))
