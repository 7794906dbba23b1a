"""Edits of an image: which tokens are kept and which are drawn, and how the drawn image joins the given one.

Everything here needs the tokenizer alone; `nextscale.pipeline.Pipeline.edit` draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nextscale.conditioning.classes import Labels
from nextscale.editing.masks import Mask, feather, fill_hidden, fit, hidden_pixels, read_mask
from nextscale.errors import InputError
from nextscale.imaging.images import as_rgb, centre_crop, cover, to_pil, to_tensor
from nextscale.sampling.token_edit import ALWAYS_KEPT, TokenEdit, box_mask
from nextscale.tokenizer.tokenizer import ImageTokenizer

Mode = Literal["inpaint", "outpaint", "class"]
Box = tuple[float, float, float, float]
"""(y0, x0, y1, x1) as fractions of the sides."""


@dataclass(frozen=True)
class EditPlan:
    """What an edit keeps of an image."""

    edit: TokenEdit
    """For everything that samples."""
    image: Image.Image
    """The given image at the model's size."""
    base: Image.Image
    """What the tokens are of, and what drawn images are laid over: the image, its hidden part filled if nothing
    of it may leak."""
    weight: Tensor
    """(H, W) in [0, 1]: how much of a drawn image shows; 0 where the given one is kept."""

    @property
    def hidden(self) -> Tensor:
        """Bool (H, W): the pixels that are not kept."""
        return self.weight > 0

    def composite(self, images: Tensor) -> Tensor:
        """Drawn images laid over the given one, whose kept pixels stay as they are, to the bit.

        (B, 3, H, W) in [0, 1] -> the same.
        """
        base = to_tensor(self.base).add(1).mul(0.5).to(images)
        return torch.lerp(base, images, self.weight.to(images))


def plan_edit(
    tokenizer: ImageTokenizer,
    image: Image.Image | str | Path,
    mask: Mask | None = None,
    *,
    box: Box | None = None,
    mode: Mode = "inpaint",
    leak_free: bool = True,
    softness: float = 0,
) -> EditPlan:
    """Keep what a mask or a box leaves of an image, and draw the rest.

    The image is brought to the model's size, and cropped in the middle. A token is drawn if anything that its part of
    the image shows is hidden; on smaller scales, as `TokenEdit` says.

    Args:
        image: an image, or the path of one.
        mask: what is transparent is drawn anew; if nothing of it is, what is white. Of any size, but of the image's
            shape or of the model's.
        box: instead of a mask, (y0, x0, y1, x1) as fractions of the model's image, rounded to tokens of the last
            scale as the official code does.
        mode: "inpaint" and "class" draw the mask or box anew, "outpaint" all but it.
        leak_free: encode the image with its hidden part filled from the rest, so that the result does not depend on
            what is hidden. Without, tokens are the whole image's, as the official code has it.
        softness: pixels, inside of what is drawn, over which it fades in where it is laid over the image.

    Raises:
        InputError: no mask or box, both, a mask of another shape, or one that hides nothing.
    """
    if mode not in get_args(Mode):
        raise InputError(f"unknown mode {mode!r}: expected one of {', '.join(get_args(Mode))}")
    if (mask is None) == (box is None):
        raise InputError(f"expected a mask or a box, got {'both' if mask is not None else 'neither'}")
    if not 0 <= softness < math.inf:
        raise InputError(f"softness must be a number of pixels of at least 0, not {softness}")
    side = tokenizer.config.downsampling
    image = as_rgb(image)
    size = tokenizer.config.image_size
    if box is not None:
        drawn = box_mask(box, tokenizer.schedule) > 0
        drawn = ~drawn if mode == "outpaint" else drawn
        hidden = drawn.repeat_interleave(side, 0).repeat_interleave(side, 1)
    else:
        assert mask is not None
        white = read_mask(mask)
        hidden = hidden_pixels(~white if mode == "outpaint" else white, (image.height, image.width), size)
        drawn = F.max_pool2d(hidden.float()[None], side)[0] > 0
    if not hidden.any():
        if mask is None:
            raise InputError(f"the box leaves nothing to draw in mode {mode}")
        drawn_anew = "stays" if mode == "outpaint" else "is drawn anew"
        raise InputError(
            f"the mask leaves nothing to draw in mode {mode}: white (from middle grey on) or transparent {drawn_anew}, "
            "and only the middle of the image is seen"
        )
    image = fit(image, size)
    base = fill(image, hidden) if leak_free else image
    always_kept = 0 if leak_free and hidden.all() else ALWAYS_KEPT
    edit = TokenEdit(encode(tokenizer, base), (~drawn).float(), always_kept)
    return EditPlan(edit, image, base, feather(hidden, min(softness, max(size))))


def check_label(mode: Mode, labels: Labels, no_class: int) -> None:
    """Raises InputError if class editing is to go without a class, be it for one of the variants.

    Args:
        no_class: the label of images without one.
    """
    labels = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else labels
    without = labels is None or isinstance(labels, str) or (isinstance(labels, Sequence) and no_class in labels)
    if mode == "class" and without:
        raise InputError("mode class draws another class: expected its name or number, got none")


def parse_box(text: str) -> Box:
    """``y0,x0,y1,x1``."""
    try:
        y0, x0, y1, x1 = (float(side) for side in text.split(","))
    except ValueError as error:
        raise InputError(f"a box is y0,x0,y1,x1, such as 0.25,0.25,0.75,0.75, not {text!r}") from error
    return y0, x0, y1, x1


def plan_continuation(
    tokenizer: ImageTokenizer, image: Image.Image | str | Path, scales: int | None = None
) -> EditPlan:
    """Keep the first token maps of an image whole, and draw the others: variations of it, or details of a small one.

    Args:
        scales: how many to keep. None, for an image smaller than the model's: those that an image of its size has.

    Raises:
        InputError: no scale to keep, or none to draw.
    """
    size, count = tokenizer.config.image_size, tokenizer.schedule.num_scales
    if count == 1:
        raise InputError("the model has a single scale: there is no other to draw")
    image = as_rgb(image)
    if scales is None:
        scales = scales_of(tokenizer, image)
    elif not 1 <= scales < count:
        raise InputError(f"scales to keep of the model's {count} are 1 to {count - 1}, not {scales}")
    image = centre_crop(cover(image, size), size)
    keep = torch.zeros(tokenizer.schedule.final_size)
    edit = TokenEdit(encode(tokenizer, image), keep, always_kept=0, scales_kept=scales)
    return EditPlan(edit, image, image, torch.ones(size))


def scales_of(tokenizer: ImageTokenizer, image: Image.Image) -> int:
    """How many token maps a small image fills: those with no more tokens a side than it has to give."""
    side = tokenizer.config.downsampling
    height, width = tokenizer.config.image_size
    enlarged = max(height / image.height, width / image.width)
    if enlarged <= 1:
        raise InputError(
            f"an image of {image.width} x {image.height} pixels is no smaller than the model's {width} x "
            f"{height}: say how many scales to keep"
        )
    fits = [h * side * enlarged <= height and w * side * enlarged <= width for h, w in tokenizer.schedule.sizes]
    return max(1, fits.index(False))


def fill(image: Image.Image, hidden: Tensor) -> Image.Image:
    """The image with its hidden pixels filled from the others; grey if there are none."""
    filled = fill_hidden(to_tensor(image), hidden).add(1).mul(0.5)
    return to_pil(filled[None])[0]


def encode(tokenizer: ImageTokenizer, image: Image.Image) -> list[Tensor]:
    """The tokens of an image of the model's size, K LongTensors (1, n_k)."""
    return tokenizer.encode(to_tensor(image)[None].to(tokenizer.quant_conv.weight.device))
