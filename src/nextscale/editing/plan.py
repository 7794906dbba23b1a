"""The plan of an edit: which tokens are kept, and how the generated image joins the given one.

Planning needs the tokenizer alone. `nextscale.pipeline.Pipeline.edit` plans and generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nextscale.conditioning.classes import Labels
from nextscale.editing.masks import Mask, box_pixels, feather, fill_hidden, place_mask, read_mask
from nextscale.editing.placement import Placement
from nextscale.editing.spec import EditSpec, Mode
from nextscale.errors import InputError
from nextscale.families.family import Family
from nextscale.imaging.images import as_rgb, to_pil, to_tensor
from nextscale.sampling.token_edit import ALWAYS_KEPT, TokenEdit, box_mask
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer


@dataclass(frozen=True)
class EditPlan:
    """What an edit keeps of an image."""

    edit: TokenEdit
    """The tokens to keep, for the sampler."""
    image: Image.Image
    """The given image at the model's size, with borders if it is padded."""
    base: Image.Image
    """The image that was encoded, and that results are pasted into. With ``leak_free``, its hidden part is filled from
    the rest."""
    weight: Tensor
    """(H, W) in [0, 1]: the weight of the generated image at each pixel; 0 keeps the given pixel."""
    spec: EditSpec
    placement: Placement
    """The place of the given image at the model's size."""
    schedule: ScaleSchedule
    """The scales of the edited image."""
    original: Image.Image | None = None
    """With ``full_size``, the given image at its own size, in RGB."""
    region: np.ndarray | None = None
    """With ``full_size``, the pixels of the original that are replaced, bool (h, w)."""

    @property
    def hidden(self) -> Tensor:
        """Bool (H, W): the pixels that are generated."""
        return self.weight > 0

    @property
    def result_size(self) -> tuple[int, int]:
        """(height, width) of the results in pixels."""
        return self.placement.content_size if self.original is None else self.placement.image_size

    def composite(self, images: Tensor) -> Tensor:
        """Paste generated images into the given one. Kept pixels stay the same to the bit.

        (B, 3, H, W) in [0, 1] -> the same.
        """
        base = to_tensor(self.base).add(1).mul(0.5).to(images)
        return torch.lerp(base, images, self.weight.to(images))

    def preview(self, images: Tensor) -> list[Image.Image]:
        """Return generated images (B, 3, H, W) in [0, 1] as the edit's results at the model's size, without borders."""
        return to_pil(self.placement.trim(self.composite(images) if self.spec.composite else images))

    def finish(self, images: Tensor) -> list[Image.Image]:
        """Return generated images (B, 3, H, W) in [0, 1] as the edit's results: pasted in, of the requested size."""
        if self.original is None or self.region is None:
            return self.preview(images)
        canvases = to_pil(self.composite(images))
        return [self.placement.paste_back(canvas, self.original, self.region) for canvas in canvases]


def plan_edit(
    spec: EditSpec,
    tokenizer: ImageTokenizer,
    image: Image.Image | str | Path,
    mask: Mask | None = None,
    schedule: ScaleSchedule | None = None,
) -> EditPlan:
    """Plan an edit. The image is resized to the model's size, and cropped in the middle or padded.

    With a mask or a box, a token is generated if any pixel that it covers is hidden; on smaller scales, see
    `TokenEdit`. A box is rounded to tokens of the last scale, as in the official code.

    Args:
        image: an image, or the path of one.
        mask: an image, the path of one, or an array (H, W). The region is where it is transparent; if it has no
            transparent pixel, where it is white. Any size, with the aspect ratio of the image or of the model's images.
        schedule: the scales of the result, which decide its size. None means the tokenizer's.

    Raises:
        InputError: not exactly one of mask, box, scales_kept and upscale; a mask of another aspect ratio; a region
            without pixels; or a number of scales that the model cannot keep.
    """
    spec.check_region(mask is not None)
    image, schedule = as_rgb(image), tokenizer.schedule_or_own(schedule)
    placement = Placement.of((image.height, image.width), tokenizer.config.image_size_of(schedule), spec.fit)
    if spec.is_continuation:
        return _plan_continuation(spec, tokenizer, image, placement, schedule)
    return _plan_region(spec, tokenizer, image, mask, placement, schedule)


def _plan_region(
    spec: EditSpec,
    tokenizer: ImageTokenizer,
    original: Image.Image,
    mask: Mask | None,
    placement: Placement,
    schedule: ScaleSchedule,
) -> EditPlan:
    """Keep the pixels outside of the mask or box; for mode "outpaint" those inside."""
    side, size = tokenizer.config.downsampling, placement.canvas_size
    tokens = None if spec.box is None else box_mask(spec.box, schedule) > 0
    if tokens is not None and spec.fit == "crop":
        hidden = (~tokens if spec.mode == "outpaint" else tokens).repeat_interleave(side, 0).repeat_interleave(side, 1)
        region = placement.region(hidden)
    else:
        if spec.box is not None:
            masked = box_pixels(spec.box, placement.image_size)
        else:
            assert mask is not None
            masked = read_mask(mask)
        hidden, region = place_mask(~masked if spec.mode == "outpaint" else masked, placement)
        if spec.mode == "outpaint":
            hidden = hidden | placement.borders
    if not hidden.any() or (spec.full_size and not region.any()):
        raise InputError(nothing_to_generate(spec))
    borders = placement.borders
    if spec.leak_free and bool((hidden | borders).all()):  # nothing is left to fill the borders from
        hidden = torch.ones_like(hidden)
    generated = F.max_pool2d(hidden.float()[None], side)[0] > 0
    canvas = placement.put(original)
    image = fill(canvas, borders) if borders.any() else canvas
    base = fill(canvas, hidden | borders) if spec.leak_free else image
    always_kept = 0 if spec.leak_free and hidden.all() else ALWAYS_KEPT
    edit = TokenEdit(encode(tokenizer, base, schedule), (~generated).float(), always_kept)
    weight = feather(hidden, min(spec.softness, max(size)))
    plan = EditPlan(edit, image, base, weight, spec, placement, schedule)
    return replace(plan, original=original, region=region) if spec.full_size else plan


def _plan_continuation(
    spec: EditSpec, tokenizer: ImageTokenizer, original: Image.Image, placement: Placement, schedule: ScaleSchedule
) -> EditPlan:
    """Keep the first token maps of an image, for variations of it or for super-resolution."""
    count = schedule.num_scales
    if count == 1:
        raise InputError("the model has a single scale: no other is left to generate")
    side = tokenizer.config.downsampling
    scales = scales_of(schedule, side, placement) if spec.scales_kept is None else spec.scales_kept
    if not 1 <= scales < count:
        raise InputError(f"scales_kept must be from 1 to {count - 1} of the model's {count} scales, not {scales}")
    image, borders = placement.put(original, Image.Resampling.LANCZOS), placement.borders
    image = fill(image, borders) if borders.any() else image
    keep = torch.zeros(schedule.final_size)
    edit = TokenEdit(encode(tokenizer, image, schedule), keep, always_kept=0, scales_kept=scales)
    return EditPlan(edit, image, image, torch.ones(placement.canvas_size), spec, placement, schedule)


def nothing_to_generate(spec: EditSpec) -> str:
    """Return the message for an edit whose region is empty."""
    if spec.box is not None:
        return f"the box leaves no token to generate in mode {spec.mode}"
    fate = "kept" if spec.mode == "outpaint" else "generated"
    used = "the whole image" if spec.fit == "pad" else "only the middle of the image"
    return (
        f"the mask leaves no pixel to generate in mode {spec.mode}: transparent or white pixels are {fate}, "
        f"and {used} is used"
    )


def check_edits_images(family: Family) -> None:
    """Raise InputError for a video model, which cannot regenerate a part of an image."""
    if family.media == "video":
        raise InputError(
            f"{family.title} extends images and videos: expected no mask, box, scales to keep, or image to upscale"
        )


def check_label(mode: Mode, labels: Labels, no_class: int) -> None:
    """Raise InputError if mode "class" lacks a class label for any variant.

    Args:
        no_class: the label that means "no class".
    """
    labels = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else labels
    without = labels is None or isinstance(labels, str) or (isinstance(labels, Sequence) and no_class in labels)
    if mode == "class" and without:
        raise InputError("mode class needs a class label: expected a class name or number, got none")


def check_prompt(mode: Mode, prompts: object) -> None:
    """Raise InputError if mode "class" lacks a prompt for any variant.

    Args:
        prompts: one for all variants, or one for each; or something else that is not text, such as features.
    """
    texts = [prompts] if isinstance(prompts, str) else prompts
    if mode == "class" and isinstance(texts, Sequence) and any(isinstance(t, str) and not t.strip() for t in texts):
        raise InputError("mode class needs a prompt: expected a text that describes the generated part, got none")


def check_wanted(mode: Mode, wanted: Any, takes: Literal["class", "prompt"], no_class: int) -> None:
    """Raise InputError if mode "class" lacks what the model takes; see `check_label` and `check_prompt`."""
    if takes == "prompt":
        check_prompt(mode, wanted)
    else:
        check_label(mode, wanted, no_class)


def scales_of(schedule: ScaleSchedule, side: int, placement: Placement) -> int:
    """Return how many scales a small image can fill: those with at most one token per ``side`` pixels."""
    height, width = placement.canvas_size
    h, w = placement.image_size
    ratios = placement.canvas_size[0] / h, placement.canvas_size[1] / w
    enlarged = min(ratios) if placement.borders.any() else max(ratios)
    if enlarged <= 1:
        raise InputError(
            f"an image of {w} x {h} pixels is not smaller than the model's {width} x {height}: give scales_kept instead"
        )
    fits = [h * side * enlarged <= height and w * side * enlarged <= width for h, w in schedule.sizes]
    return max(1, fits.index(False))


def fill(image: Image.Image, hidden: Tensor) -> Image.Image:
    """Fill the hidden pixels of an image from the others; with grey if all are hidden."""
    filled = fill_hidden(to_tensor(image), hidden).add(1).mul(0.5)
    return to_pil(filled[None])[0]


def encode(tokenizer: ImageTokenizer, image: Image.Image, schedule: ScaleSchedule) -> list[Tensor]:
    """Encode an image of the schedule's size. Returns K token maps (1, n_k, ...)."""
    return tokenizer.encode(to_tensor(image)[None].to(tokenizer.device), schedule)
