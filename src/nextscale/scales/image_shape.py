"""The shape of images as requests state it: an aspect and a pixel budget, or a size in pixels. Videos also have a
duration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.scales.aspect import BUDGETS, TEMPLATES, UNIT, Size, nearest_budget, parse_aspect, parse_size
from nextscale.scales.schedule import ScaleSchedule


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The shape of images as a request states it. Empty fields mean the shape that the model has by default.

    Raises:
        InputError: a field is not valid, or a size is given together with an aspect or a budget.
    """

    aspect: str = ""
    """Aspect ratio of the images: WIDTH:HEIGHT, such as 16:9, or one number, the height divided by the width (0.5625
    for 16:9). The nearest of 15 aspect ratios from 3:1 to 1:3 is used. Default: that of the model, or of the image
    that is edited or reconstructed."""
    budget: str = ""
    """Number of pixels: 0.06M, 0.25M, 0.60M or 1M, which are 256, 512, 768 and 1024 pixels per side of a square. Video
    models have 0.06M, 0.25M, 0.40M (480p) and 0.90M (720p). Default: that of the model."""
    size: str = ""
    """Size as WIDTHxHEIGHT in pixels, such as 1024x768, instead of aspect and budget. The nearest size that the model
    can generate is used."""
    seconds: int | None = field(default=None, metadata={"later": True, "least": 0})
    """Duration of videos, 1 to 10 whole seconds; 0 generates images. Only video models have this option. Default: that
    of the model."""

    def __post_init__(self) -> None:
        if isinstance(self.aspect, int | float) and not isinstance(self.aspect, bool):
            object.__setattr__(self, "aspect", str(self.aspect))
        for name, value in vars(self).items():
            if name != "seconds" and not isinstance(value, str):
                raise InputError(f"{name} of images is a text, not {brief(value)}")
        if self.size and (self.aspect or self.budget):
            raise InputError("expected a size, or an aspect and a budget, got both")
        if self.size:
            parse_size(self.size)
        if self.aspect:
            parse_aspect(self.aspect)
        if self.budget not in ("", *BUDGETS) or self.seconds is not None:
            from nextscale.scales.video_shape import VIDEO_BUDGETS, check_seconds  # most requests are for images

            if self.budget not in ("", *VIDEO_BUDGETS):
                ScaleSchedule.infinity(self.budget)  # names those that there are
            if self.seconds is not None:
                check_seconds(self.seconds)

    @property
    def given(self) -> dict[str, str | int]:
        """The fields that are not empty."""
        return {name: value for name, value in vars(self).items() if value is not None and value != ""}

    def schedule(self, own: Any, image_size: Size) -> Any:
        """Return the schedule of the images.

        Args:
            own: the model's schedule, a `ScaleSchedule`, or a `SpacetimeSchedule` of a video model.
            image_size: (height, width) in pixels of the images of ``own``.

        Raises:
            InputError: the model has one size only, and another one is asked for; or it generates no videos.
        """
        height, width = image_size
        if not isinstance(own, ScaleSchedule):
            from nextscale.scales.video_shape import video_schedule

            return video_schedule(own, self.aspect, self.budget, self.size, self.seconds)
        if self.seconds:
            raise InputError(f"the model generates images, not videos of {self.seconds} s: seconds is for video models")
        if replace(self, seconds=None) == ANY_SHAPE or (self.size and parse_size(self.size) == tuple(image_size)):
            return own
        if not follows_template(own):
            wanted = self.size or " ".join(filter(None, (self.aspect, self.budget)))
            raise InputError(f"the model generates images of {width}x{height} pixels, not {wanted}")
        if self.size:
            unit = height / own.final_size[0]
            h, w = parse_size(self.size)
            template, budget = nearest_budget(round(h * UNIT / unit), round(w * UNIT / unit))
            return ScaleSchedule.infinity(budget, template)
        ratio = parse_aspect(self.aspect) if self.aspect else own.template or 1.0
        return ScaleSchedule.infinity(self.budget or budget_of(own), ratio)

    def schedule_for(self, given: Size, own: Any, image_size: Size) -> Any:
        """Return the schedule for a given image. Its aspect decides if this shape has none and the model allows it.

        Args:
            given: (height, width) of the given image.
            own, image_size: as in `schedule`.

        Raises:
            InputError: see `schedule`.
        """
        if has_aspects(own) and not (self.aspect or self.size):
            return replace(self, aspect=f"{given[1]}:{given[0]}").schedule(own, image_size)
        return self.schedule(own, image_size)


ANY_SHAPE = ImageShape()
"""The shape that the model has by default."""


def has_aspects(schedule: Any) -> bool:
    """Whether a model with this schedule has several aspect ratios."""
    return follows_template(schedule) if isinstance(schedule, ScaleSchedule) else schedule.follows_template


def follows_template(schedule: ScaleSchedule) -> bool:
    """Whether the scales are those of a template and a budget."""
    template, budget = schedule.template, budget_of(schedule)
    return template is not None and bool(budget) and schedule == ScaleSchedule.infinity(budget, template)


def templates_of(schedule: ScaleSchedule) -> list[ScaleSchedule]:
    """Return the scales of all templates at the budget of a schedule; none if it does not follow a template."""
    if not follows_template(schedule):
        return []
    return [ScaleSchedule.infinity(budget_of(schedule), template) for template in TEMPLATES]


def budget_of(schedule: ScaleSchedule) -> str:
    """Return the pixel budget with this number of scales, or an empty text if there is none."""
    return next((budget for budget, scales in BUDGETS.items() if scales == schedule.num_scales), "")
