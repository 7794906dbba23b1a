"""Schedules of images and videos: clips, scales and repeated visits (InfinityStar, arXiv 2511.04675, section 3).

A video is a list of *clips*: the first frame, then up to 20 latent frames (5 seconds) each. Every clip is a residual
pyramid of its own with the same K sizes (h, w), and all scales of a clip have its full length in time. A scale may be
visited several times; each visit refines the canvas of the clip. Coarse scales have *semantic* tokens of 16 bits, fine
ones *detail* tokens of 64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from nextscale.errors import InputError, brief
from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.scales.video_shape import FPS, check_seconds

Size = tuple[int, int]

FRAMES_PER_LATENT = 4
"""Frames that a latent frame covers. The first latent frame covers one."""
CLIP_FRAMES = 20
"""Latent frames of a clip, except the first and the last."""
UNIT = 16
"""Pixels per side of a token of the last scale."""

SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 40, 60)
"""Side s of each scale: a template's scale has about s^2 tokens."""
_RATIOS = (1.0, 100 / 116, 3 / 4, 2 / 3, 9 / 16, 1 / 2, 2 / 5, 1 / 3)


@dataclass(frozen=True)
class Budget:
    """What a pixel budget decides."""

    num_scales: int
    detail_area: int
    """Scales with at least this many positions have detail tokens."""


BUDGETS = {
    "0.06M": Budget(11, 80),
    "0.25M": Budget(13, 200),
    "0.40M": Budget(14, 350),
    "0.90M": Budget(15, 750),
}
"""Pixel budgets. 0.40M is called 480p, 0.90M 720p; the others were not released."""


def _grids(ratio: float) -> tuple[Size, ...]:
    widths = [math.sqrt(side**2 / ratio) for side in SIDES]
    return tuple((round(width * ratio), round(width)) for width in widths)


def _templates() -> dict[float, tuple[Size, ...]]:
    templates = {}
    for ratio in _RATIOS:
        wide = _grids(ratio)
        for grids in (wide, tuple((w, h) for h, w in wide)):
            h, w = grids[-1]
            templates.setdefault(math.floor(1000 * h / w) / 1000, grids)
    return templates


TEMPLATES = _templates()
"""The 15 sizes (h, w) of each template, by its ratio height / width. The order decides ties."""


def nearest_template(ratio: float) -> float:
    """Return the template whose ratio is nearest to ``ratio`` = height / width; the first one on ties."""
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio < math.inf:
        raise InputError(f"an aspect ratio is height / width, a positive number, not {brief(ratio)}")
    return min(TEMPLATES, key=lambda template: abs(ratio - template))


def nearest_budget(height: int, width: int) -> tuple[float, str]:
    """Return the template and the budget whose frames are nearest to a size: first the ratio, then the number of
    pixels. The distance of two numbers of pixels is that of their logarithms.
    """
    template = nearest_template(height / width)

    def distance(budget: str) -> float:
        h, w = TEMPLATES[template][BUDGETS[budget].num_scales - 1]
        return abs(math.log(h * w * UNIT**2 / (height * width)))

    return template, min(BUDGETS, key=distance)


def frames_of(seconds: int) -> int:
    """Return N, the latent frames of a video of whole seconds."""
    return FPS // FRAMES_PER_LATENT * seconds + 1


def clips_of(latent_frames: int, clip_frames: int = CLIP_FRAMES) -> tuple[int, ...]:
    """Return the latent frames of each clip: 1 for the first, then ``clip_frames`` each, the last with the rest."""
    rest = latent_frames - 1
    return (1, *(min(clip_frames, rest - start) for start in range(0, rest, clip_frames)))


@dataclass(frozen=True)
class SpacetimeSchedule:
    """The visits of an image or a video.

    Raises:
        InputError: a value is out of range, or the numbers of repeats differ from the number of scales.
    """

    sizes: tuple[Size, ...]
    """(h, w) of the K scales of every clip, coarse to fine."""
    latent_frames: int = 1
    """N, the latent frames of the video; 1 for an image."""
    image_repeats: tuple[int, ...] = ()
    """Number of visits of each scale of the first clip; empty means one each."""
    clip_repeats: tuple[int, ...] = ()
    """Number of visits of each scale of the other clips; empty means one each."""
    detail_area: int = 0
    """Scales with at least this many positions h w have detail tokens, the others semantic ones."""
    clip_frames: int = CLIP_FRAMES
    """Latent frames of a clip, except the first and the last."""
    most_repeats: int | None = None
    """Visit each scale at most this often. Skipped visits keep their numbers."""
    continues: bool = False
    """Continue another video, see `continuation`: one clip of ``clip_frames`` latent frames, none of which is an
    image."""

    def __post_init__(self) -> None:
        for name, least in (("latent_frames", 1), ("clip_frames", 1), ("detail_area", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be an integer of at least {least}, not {brief(value)}")
        if self.most_repeats is not None and self.most_repeats < 1:
            raise InputError(f"most_repeats must be at least 1, not {brief(self.most_repeats)}")
        if self.continues and self.latent_frames != self.clip_frames:
            raise InputError(f"a continuation has {self.clip_frames} latent frames, not {self.latent_frames}")
        if not self.sizes or any(min(size) < 1 for size in self.sizes):
            raise InputError(f"a schedule needs one or more pairs of positive integers, not {brief(self.sizes)}")
        object.__setattr__(self, "sizes", tuple((int(h), int(w)) for h, w in self.sizes))  # JSON hands over lists
        for name in ("image_repeats", "clip_repeats"):
            repeats = getattr(self, name) or (1,) * len(self.sizes)
            object.__setattr__(self, name, tuple(repeats))
            if len(repeats) != len(self.sizes) or min(repeats) < 1:
                expected = f"{len(self.sizes)} positive integers, one for each scale"
                raise InputError(f"{name} must be {expected}, not {brief(repeats)}")

    @classmethod
    def official(cls, budget: str = "0.40M", ratio: float = 9 / 16, seconds: int = 5) -> SpacetimeSchedule:
        """Return the released schedule of a pixel budget, at the template nearest to a ratio.

        Args:
            budget: 0.06M, 0.25M, 0.40M (480p) or 0.90M (720p).
            ratio: height / width.
            seconds: duration, 0 to 10 whole seconds of 16 frames; 0 means an image.

        Raises:
            InputError: there is no such budget or duration.
        """
        if budget not in tuple(BUDGETS):
            raise InputError(f"unknown pixel budget {brief(budget)}: expected one of {', '.join(BUDGETS)}")
        check_seconds(seconds)
        sizes = TEMPLATES[nearest_template(ratio)][: BUDGETS[budget].num_scales]
        three = min(12, len(sizes) - 2)
        return cls(
            sizes,
            frames_of(seconds),
            (3,) * len(sizes),
            (3,) * three + (2,) + (1,) * (len(sizes) - three - 1),
            BUDGETS[budget].detail_area,
        )

    def continuation(self) -> SpacetimeSchedule:
        """Return the schedule of one more clip of a video of this size; see `nextscale.sampling.continuation`."""
        return replace(self, latent_frames=self.clip_frames, continues=True)

    @cached_property
    def template(self) -> float | None:
        """The template that the sizes come from, if they do."""
        return next((ratio for ratio, sizes in TEMPLATES.items() if sizes[: len(self.sizes)] == self.sizes), None)

    @property
    def budget(self) -> str:
        """The pixel budget with this number of scales, or an empty text if there is none."""
        return next((name for name, budget in BUDGETS.items() if budget.num_scales == len(self.sizes)), "")

    @cached_property
    def follows_template(self) -> bool:
        """Whether this is a released schedule, of any duration."""
        if self.template is None or not self.budget:
            return False
        return self == replace(self.official(self.budget, self.template), latent_frames=self.latent_frames)

    @property
    def seconds(self) -> float:
        """Duration in seconds of the frames after the first one; 0 for an image."""
        return (self.latent_frames - 1) * FRAMES_PER_LATENT / FPS

    @property
    def num_tokens(self) -> int:
        """Tokens of the video, each scale counted once."""
        return self.latent_frames * sum(h * w for h, w in self.sizes)

    def first_clips(self, count: int) -> SpacetimeSchedule:
        """Return the schedule of the first clips. Its visits are the first ones of this schedule."""
        return replace(self, latent_frames=sum(self.clips[:count]))

    def __str__(self) -> str:
        return " ".join(str(h) if h == w else f"{h}x{w}" for h, w in self.sizes)

    @property
    def num_scales(self) -> int:
        """The number of scales, counted through all clips."""
        return len(self.sizes) * len(self.clips)

    @property
    def final_size(self) -> Size:
        """(h, w) of the last scale, the canvas."""
        return self.sizes[-1]

    @property
    def image_size(self) -> Size:
        """(H, W) of the frames in pixels."""
        h, w = self.final_size
        return UNIT * h, UNIT * w

    @property
    def frames(self) -> int:
        """T, the number of frames of the video, or of the clip that continues one."""
        if self.continues:
            return FRAMES_PER_LATENT * self.latent_frames
        return FRAMES_PER_LATENT * (self.latent_frames - 1) + 1

    @property
    def clips(self) -> tuple[int, ...]:
        """Latent frames of each clip."""
        return (self.clip_frames,) if self.continues else clips_of(self.latent_frames, self.clip_frames)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first latent frame of each clip."""
        return tuple(end - t for end, t in zip(accumulate(self.clips), self.clips, strict=True))

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """All visits. Each sees the last visit of the largest scale of the clip before it, and no other one."""
        visits: list[Visit] = []
        sees: tuple[int, ...] = ()
        number = 0
        for clip, (frames, start) in enumerate(zip(self.clips, self.starts, strict=True)):
            repeats = self.clip_repeats if clip or self.continues else self.image_repeats
            for scale, (h, w) in enumerate(self.sizes):
                for repeat in range(min(repeats[scale], self.most_repeats or repeats[scale])):
                    k = clip * len(self.sizes) + scale
                    where = {"frame": self.final_size, "scale": k, "number": number + repeat, "start": start}
                    quantizer = int(h * w >= self.detail_area)
                    visits.append(Visit(len(visits), (frames, h, w), sees, clip, quantizer, **where))
                number += repeats[scale]
            sees = (len(visits) - 1,)
        return tuple(visits)

    def position(self, k: int) -> float:
        """Relative position of visit k, from 0 to 1."""
        return k / (len(self.visits) - 1) if len(self.visits) > 1 else 1.0

    @cached_property
    def tokens_per_visit(self) -> tuple[int, ...]:
        """n = t h w of each visit."""
        return tuple(visit.num_tokens for visit in self.visits)


Schedule = ScaleSchedule | SpacetimeSchedule
"""The schedule of an image or a video."""
