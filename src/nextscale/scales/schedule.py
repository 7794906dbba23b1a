"""The scale schedule: the layout of an image's tokens, coarse to fine (VAR, section 3.2).

A scale is a token map of size (h, w). A sequence of K scales holds ``L = sum(h * w)`` tokens, scale after scale,
row by row. All arithmetic that turns scales into offsets is in this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from nextscale.errors import InputError, brief
from nextscale.scales.aspect import TEMPLATES, nearest_template, template_sizes

if TYPE_CHECKING:
    from nextscale.scales.spacetime import SpacetimeSchedule

NAMED_SIDES: dict[str, tuple[int, ...]] = {
    "256": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    "512": (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
    "1024": (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64),
}

MOST_SCALES = 1000
"""Largest number of scales."""
LARGEST_SIDE = 4096
"""Most tokens on a side of a scale."""


@dataclass(frozen=True)
class Visit:
    """One prediction step: the transformer predicts all tokens of one token map.

    VAR visits each scale once. A video model visits the scales of one clip after another, and may repeat a scale.
    """

    index: int
    """Position in the sequence of visits, from 0."""
    size: tuple[int, int, int]
    """(t, h, w) of the token map; t is 1 for images."""
    sees: tuple[int, ...]
    """Indices of the earlier visits whose keys and values this one attends to. Every visit also sees itself."""
    clip: int = 0
    """The clip whose canvas the codes are added to; images have one."""
    quantizer: int = 0
    """The quantizer of the tokens; VAR and Infinity have one."""
    frame: tuple[int, int] = (1, 1)
    """(H, W) of the grid in whose coordinates rotary positions are given."""
    scale: int = 0
    """Which scale of the schedule it is, counted through all clips. A scale may be visited several times."""
    number: int = 0
    """Coordinate of the visit in rotary positions over visits (InfinityStar)."""
    start: int = 0
    """Position of the clip's first latent frame in the video."""

    @property
    def num_tokens(self) -> int:
        t, h, w = self.size
        return t * h * w


@dataclass(frozen=True)
class ScaleSchedule:
    """Token-map sizes ``((h_0, w_0), ..., (h_{K-1}, w_{K-1}))``, coarse to fine. The last is the feature grid's.

    Raises:
        InputError: There is no scale, a size is not a pair of positive integers, or a size exceeds the last one; or
            there are more than `MOST_SCALES` scales or `LARGEST_SIDE` tokens on a side.
    """

    sizes: tuple[tuple[int, int], ...]
    template: float | None = field(default=None, metadata={"later": True})
    """The ratio height / width that names the template of Infinity which the sizes come from, if they do."""

    def __post_init__(self) -> None:
        try:
            sizes = tuple((int(h), int(w)) for h, w in self.sizes)
            whole = all(int(side) == side for size in self.sizes for side in size)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"a scale schedule is a sequence of (height, width) pairs, not {brief(self.sizes)}"
            ) from error
        object.__setattr__(self, "sizes", sizes)  # JSON and YAML hand over lists
        if not sizes or not whole or min(min(size) for size in sizes) < 1:
            raise InputError(f"a scale schedule needs one or more pairs of positive integers, not {brief(self.sizes)}")
        if len(sizes) > MOST_SCALES:
            raise InputError(f"a scale schedule may have at most {MOST_SCALES:,} scales, not {len(sizes):,}")
        if (largest := max(max(size) for size in sizes)) > LARGEST_SIDE:
            raise InputError(f"a scale may have at most {LARGEST_SIDE:,} tokens on a side, not {brief(largest)}")
        if self.template is not None and self.template not in TEMPLATES:
            known = ", ".join(f"{template:g}" for template in TEMPLATES)
            raise InputError(f"unknown template {brief(self.template)}: expected one of {known}")
        for h, w in sizes:
            if h > self.final_size[0] or w > self.final_size[1]:
                raise InputError(
                    f"scale {h}x{w} is larger than the last scale {self.final_size[0]}x{self.final_size[1]}"
                )

    @classmethod
    def square(cls, sides: Iterable[int]) -> ScaleSchedule:
        """Square scales from their sides, e.g. ``(1, 2, 3, 4)``."""
        return cls(tuple((side, side) for side in sides))

    @classmethod
    def named(cls, name: str | int) -> ScaleSchedule:
        """VAR's official schedule for square images of ``name`` pixels and a tokenizer that downsamples 16 times."""
        if str(name) not in NAMED_SIDES:
            raise InputError(f"unknown schedule {name!r}: expected one of {', '.join(NAMED_SIDES)}")
        return cls.square(NAMED_SIDES[str(name)])

    @classmethod
    def infinity(cls, budget: str = "1M", ratio: float = 1.0) -> ScaleSchedule:
        """Infinity's schedule for a pixel budget (0.06M, 0.25M, 0.60M or 1M) and the template nearest to a ratio.

        Args:
            ratio: height / width.
        """
        template = nearest_template(ratio)
        return cls(template_sizes(template, budget), template)

    @staticmethod
    def spacetime(budget: str = "0.40M", ratio: float = 9 / 16, seconds: int = 5) -> SpacetimeSchedule:
        """InfinityStar's schedule for an image or a video; see `SpacetimeSchedule.official`."""
        from nextscale.scales.spacetime import SpacetimeSchedule

        return SpacetimeSchedule.official(budget, ratio, seconds)

    @classmethod
    def parse(cls, text: str) -> ScaleSchedule:
        """Parse ``1,2,3`` (square scales) or ``1x1,2x3`` (height x width)."""
        try:
            sizes = [tuple(int(side) for side in size.split("x")) for size in text.replace(",", " ").split()]
        except ValueError as error:
            raise InputError(f"scales are written 1,2,3,4 or 1x1,2x3, not {text!r}") from error
        return cls(tuple(size * 2 if len(size) == 1 else size for size in sizes))  # type: ignore[arg-type]

    @property
    def num_scales(self) -> int:
        """K."""
        return len(self.sizes)

    @property
    def clips(self) -> tuple[int, ...]:
        """Latent frames of each clip: an image is a video of one frame."""
        return (1,)

    @property
    def frames(self) -> int:
        """The number of frames."""
        return 1

    @property
    def tokens_per_visit(self) -> tuple[int, ...]:
        """n of each visit, of which there is one per scale."""
        return self.tokens_per_scale

    @property
    def final_size(self) -> tuple[int, int]:
        """(h, w) of the last scale, the feature grid and the canvas."""
        return self.sizes[-1]

    @cached_property
    def tokens_per_scale(self) -> tuple[int, ...]:
        """n_k = h_k * w_k."""
        return tuple(h * w for h, w in self.sizes)

    @property
    def num_tokens(self) -> int:
        """L, the length of the whole sequence."""
        return sum(self.tokens_per_scale)

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """One visit per scale; each sees all earlier ones."""
        frame = self.frame
        return tuple(Visit(k, (1, h, w), tuple(range(k)), frame=frame, scale=k) for k, (h, w) in enumerate(self.sizes))

    @property
    def frame(self) -> tuple[int, int]:
        """The grid of rotary positions: the largest one of the template, whatever the budget; else the last scale."""
        return self.final_size if self.template is None else TEMPLATES[self.template][-1]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The range of each scale in the sequence of L tokens."""
        ends = accumulate(self.tokens_per_scale)
        return tuple(slice(end - n, end) for end, n in zip(ends, self.tokens_per_scale, strict=True))

    @cached_property
    def level_ids(self) -> tuple[int, ...]:
        """The scale k of each of the L tokens."""
        return tuple(k for k, n in enumerate(self.tokens_per_scale) for _ in range(n))

    def position(self, k: int) -> float:
        """Relative position of scale k, k / (K - 1): 0 is the coarsest, 1 the finest. A single scale has position 1."""
        return k / (self.num_scales - 1) if self.num_scales > 1 else 1.0

    def __str__(self) -> str:
        return " ".join(str(h) if h == w else f"{h}x{w}" for h, w in self.sizes)


OFFICIAL_256 = ScaleSchedule.named("256")
