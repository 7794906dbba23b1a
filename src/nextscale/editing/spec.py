"""The description of an edit: which part of an image is generated, and how the result is merged with the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Literal, get_args

from nextscale.errors import InputError, brief

Mode = Literal["inpaint", "outpaint", "class"]
Fit = Literal["crop", "pad"]
Extend = Literal["", "image", "video"]
Box = tuple[float, float, float, float]
"""(y0, x0, y1, x1) as fractions of the image's height and width."""

REGION_FIELDS = ("mode", "leak_free", "softness", "composite", "full_size")
"""Fields that apply only to an edit with a mask or a box."""


@dataclass(frozen=True, kw_only=True)
class EditSpec:
    """Settings of an edit: which part of an image to generate, and which part to keep.

    An edit needs exactly one of a mask, ``box``, ``scales_kept`` and ``upscale``. The mask is an image and is therefore
    passed separately.

    Raises:
        InputError: a field has the wrong type or is out of range, or fields exclude each other.
    """

    mode: Mode = "inpaint"
    """inpaint generates the masked region. outpaint keeps it and generates everything else. class is like
    inpaint, but needs a label or a prompt."""
    box: Box | None = None
    """Region as a box y0,x0,y1,x1 instead of a mask, in fractions of the height and width of the cropped image. It is
    rounded to whole tokens."""
    leak_free: bool = True
    """The encoder does not see the pixels that will be replaced. If disabled, it sees the whole image, as in the
    official code, and the replaced pixels influence the result."""
    softness: float = field(default=0.0, metadata={"least": 0.0})
    """Width in pixels of the soft transition between kept and generated pixels, inside the generated region."""
    composite: bool = True
    """Paste only the generated region into the resized image, so that all pixels outside it stay unchanged. If
    disabled, all pixels are decoded from tokens."""
    scales_kept: int | None = field(default=None, metadata={"least": 1})
    """Instead of editing a region, keep the first K scales of the image and generate the others."""
    upscale: bool = False
    """Instead of editing a region, upscale an image that is smaller than the model's images. The scales up to the
    size of the small image are taken from it, and the finer ones are generated."""

    extend: Extend = field(default="", metadata={"later": True})
    """For video models, instead of editing a region: generate a video that begins with the given image, or that
    continues the given video. Default: what the file contains."""

    fit: Fit = "crop"
    """How to fit an image whose aspect ratio differs from the model's. crop edits the middle of the image and cuts off
    the rest. pad adds borders, so that the whole image can be edited, and removes them from the result. With pad, a
    box refers to the whole image and is rounded to pixels, not tokens."""
    full_size: bool = False
    """Paste the generated region back into the original image, which keeps its size and all other pixels. If disabled,
    the result has the model's size."""

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise InputError(f"unknown fit {brief(self.fit)}: expected one of {', '.join(get_args(Fit))}")
        if self.mode not in get_args(Mode):
            raise InputError(f"unknown mode {brief(self.mode)}: expected one of {', '.join(get_args(Mode))}")
        if self.extend not in get_args(Extend):
            raise InputError(f"extend is image or video, not {brief(self.extend)}")
        for name in ("leak_free", "composite", "upscale", "full_size"):
            if not isinstance(value := getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, not {brief(value)}")
        if not is_number(self.softness) or not 0 <= self.softness < math.inf:
            raise InputError(f"softness must be a number of pixels of at least 0, not {brief(self.softness)}")
        if self.full_size and not self.composite:
            raise InputError("full_size pastes the region into the image: it cannot be combined with composite=False")
        if self.scales_kept is not None and not (
            is_number(self.scales_kept) and isinstance(self.scales_kept, Integral)
        ):
            raise InputError(f"scales_kept must be an integer, not {brief(self.scales_kept)}")
        if self.box is not None:
            numbers = isinstance(self.box, list | tuple) and len(self.box) == 4
            if not numbers or not all(map(is_number, self.box)):
                raise InputError(f"box must be four numbers, not {brief(self.box)}")
            object.__setattr__(self, "box", tuple(float(side) for side in self.box))
        if self.is_continuation:
            defaults = {f.name: f.default for f in fields(EditSpec)}
            if changed := [name for name in REGION_FIELDS if getattr(self, name) != defaults[name]]:
                raise InputError(f"{', '.join(changed)}: only for an edit with a mask or a box")
        if self.extend and self.fit != "crop":
            raise InputError(f"fit {self.fit} is for editing images: the frames of a video are cropped")
        object.__setattr__(self, "softness", float(self.softness) if self.composite else 0.0)  # a blend needs both

    @property
    def is_continuation(self) -> bool:
        """Whether the edit keeps whole scales instead of a region."""
        return self.scales_kept is not None or self.upscale or bool(self.extend)

    def has_region(self, has_mask: bool) -> bool:
        """Whether it is stated what to generate."""
        return has_mask or self.box is not None or self.is_continuation

    def check_region(self, has_mask: bool) -> None:
        """Raise InputError unless exactly one of a mask, box, scales_kept and upscale is given."""
        given = {
            "mask": has_mask,
            "box": self.box is not None,
            "scales_kept": self.scales_kept is not None,
            "upscale": self.upscale,
            **({"extend": True} if self.extend else {}),
        }
        if sum(given.values()) != 1:
            names = ", ".join(name for name, is_given in given.items() if is_given)
            raise InputError(f"an edit needs one of mask, box, scales_kept and upscale, got {names or 'none'}")


def is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and isinstance(float(value), float)
    except OverflowError:  # an integer beyond the floating-point numbers
        return False


def parse_box(text: str) -> Box:
    """Parse ``y0,x0,y1,x1``."""
    try:
        y0, x0, y1, x1 = (float(side) for side in text.split(","))
    except ValueError as error:
        raise InputError(f"a box is y0,x0,y1,x1, such as 0.25,0.25,0.75,0.75, not {text!r}") from error
    return y0, x0, y1, x1
