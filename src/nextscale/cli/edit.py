"""``nextscale edit``."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from PIL import Image

from nextscale.cli.sampling import SamplingOptions, as_made, beside, draw, load, read_like, write, write_images
from nextscale.editing.plan import EditPlan, Mode, check_label, parse_box, plan_continuation, plan_edit
from nextscale.errors import InputError, brief
from nextscale.imaging.images import (
    caption,
    check_writable_image,
    grid,
    read_as_stored,
    to_pil,
    to_rgb,
    to_tensor,
)
from nextscale.io.fingerprint import content_fingerprint
from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance, Provenance

GREY = 0.5


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions):
    """Draw parts of an image anew, or its finer scales.

    The image is resized to the model's size and cropped in the middle; results have that size.

    Example: nextscale edit dress.jpg --box 0.25,0.25,0.75,0.75 --label dress --variants 4 --out edited.png
    """

    image: Annotated[Path | None, tyro.conf.Positional] = None
    """Image file."""
    mask: Path | None = None
    """Image file, transparent (else white) where to draw: of any size, but of the image's shape or the model's."""
    box: str = ""
    """Instead of a mask, y0,x0,y1,x1 as fractions of the sides, rounded to tokens."""
    mode: Mode = "inpaint"
    """inpaint and class draw the mask or box anew, class with a label; outpaint draws all but it."""
    label: str = ""
    """Class name, else number, of what is drawn; "none", "unconditional" or left out: no class."""
    variants: int | None = None
    """How many images. Left out: one for each of the seeds, else 1."""
    leak_free: bool = True
    """Hide the masked part from the model, too. Without it, as in the official code, coarse tokens know of it."""
    softness: float = 0.0
    """Pixels, inside of what is drawn, over which it fades in."""
    composite: bool = True
    """Lay what is drawn over the image, which stays as it is elsewhere. Without: as the tokenizer shows it."""
    scales_kept: int | None = None
    """Instead of a mask: keep the first K scales of the image, draw the others."""
    upscale: bool = False
    """Instead of a mask: keep the scales that an image smaller than the model's has, draw the others."""
    show: bool = False
    """Also write OUT-show.png: the image, what is kept of it, and the variants."""
    out: Path = Path("edited.png")
    """The grid of variants. A PNG keeps how it was made, for --like."""


def run(options: Options) -> None:
    for path in (options.out, beside(options.out, "show")):
        check_writable_image(path)
    like = read_like(options, "edit")
    if like:
        options = as_edited(options, like)
    check(options)
    count = len(options.seeds) or 1 if options.variants is None else options.variants
    check_spared(options, 1 if like and like.index is not None else count)
    image, mask, edit = read_inputs(options, like)
    pipeline = load(options, like)
    label = (options.label,) if options.label else ()
    ids = [pipeline.class_id(options.label)] * count if options.label else "unconditional"
    check_label(options.mode, ids, pipeline.model.config.num_classes)
    plan = plan_of(edit, pipeline, image, mask)
    made = options.provenance(pipeline, label, count, edit)
    sampling = {**options.sampling(), "num_images": count, "edit": plan.edit}
    images = draw(pipeline, ids, sampling, plan if options.composite else None)  # type: ignore[arg-type]
    if like and like.index is not None:
        images, made = [images[like.index]], like
    written = write_images(images, made, options, options.out)
    if options.show:
        shown = [caption(plan.image, "image"), caption(kept(plan, pipeline), "kept")]
        shown += [caption(image, f"variant {i}") for i, image in enumerate(images)]
        written.append(write(grid(shown), beside(options.out, "show")))
    print("\n".join(map(str, written)))


def check(options: Options) -> None:
    """Raises InputError unless the flags say one thing."""
    masked = options.mask is not None or bool(options.box)
    ways = (options.mask is not None, bool(options.box), options.scales_kept is not None, options.upscale)
    if sum(ways) != 1:
        raise InputError(f"expected one of --mask, --box, --scales-kept and --upscale, got {sum(ways) or 'none'}")
    changed = options.mode != "inpaint" or not options.leak_free or options.softness or not options.composite
    if changed and not masked:
        raise InputError("--mode, --no-leak-free, --softness and --no-composite are for a mask or a box")
    if options.softness and not options.composite:
        raise InputError("--softness is how the result joins the image: it does not go with --no-composite")
    if options.variants is not None and options.variants < 1:
        raise InputError(f"variants must be at least 1, not {options.variants}")


def check_spared(options: Options, count: int) -> None:
    """Raises InputError if a file that is written would take the place of the image or the mask.

    Args:
        count: of images that are written.
    """
    names = [f"{i:03d}" for i in range(count)] if options.separate else []
    names += ["show"] if options.show else []
    written = {path.resolve() for path in (options.out, *(beside(options.out, name) for name in names))}
    for path, what in ((options.image, "image"), (options.mask, "mask")):
        if path is not None and path.resolve() in written:
            shown = brief(str(path)).strip("'")
            raise InputError(f"{shown} is the {what}, which would be overwritten: give --out another name")


def as_edited(options: Options, made: Provenance) -> Options:
    """The flags that an edited image was made with; where the image and the mask are may be said anew."""
    edit = made.edit
    assert edit is not None
    return replace(
        as_made(options, made),
        image=options.image or Path(edit.image),
        mask=options.mask or (Path(edit.mask) if edit.mask else None),
        box=",".join(map(repr, edit.box)) if edit.box else "",
        mode=edit.mode,
        label="".join(made.labels[:1]),
        variants=made.num_images,
        leak_free=edit.leak_free,
        softness=edit.softness,
        composite=edit.composite,
        scales_kept=edit.scales_kept,
        upscale=edit.upscale,
    )


def read_inputs(options: Options, like: Provenance | None) -> tuple[Image.Image, Image.Image | None, EditProvenance]:
    """(the image, the mask if there is one, what to note of both).

    Raises:
        InputError: a file that is missing, is no image, or is not what ``--like`` was made from.
    """
    if options.image is None:
        raise InputError("expected an image to edit, got none")
    stored, image_hash = read_input(options.image, "image", options, like and like.edit)
    mask, mask_hash = read_input(options.mask, "mask", options, like and like.edit) if options.mask else (None, "")
    edit = EditProvenance(
        image=str(options.image),
        image_sha256=image_hash,
        mask=str(options.mask or ""),
        mask_sha256=mask_hash,
        box=parse_box(options.box) if options.box else None,
        mode=options.mode,
        leak_free=options.leak_free,
        softness=options.softness,
        composite=options.composite,
        scales_kept=options.scales_kept,
        upscale=options.upscale,
    )
    return to_rgb(stored), mask, edit


def read_input(
    path: Path, what: Literal["image", "mask"], options: Options, made: EditProvenance | None
) -> tuple[Image.Image, str]:
    """(an image in the mode that it has, the SHA-256 of its file).

    Args:
        made: how the image of ``--like`` was made; a file with another hash is not decoded.
    """
    shown = brief(str(path)).strip("'")
    try:
        content = path.read_bytes() if path.is_file() or not made else None
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror}") from error
    if content is None:
        flag = "IMAGE" if what == "image" else "--mask MASK"
        raise InputError(f"{options.like} was made from {shown}, which is not there: add {flag} to say where it is")
    sha256 = content_fingerprint(content)
    if made and sha256 != (made.image_sha256 if what == "image" else made.mask_sha256):
        raise InputError(f"{shown} is not the {what} that {options.like} was made from, or has changed since")
    return read_as_stored(io.BytesIO(content), path), sha256


def plan_of(edit: EditProvenance, pipeline: Pipeline, image: Image.Image, mask: Image.Image | None) -> EditPlan:
    if edit.upscale or edit.scales_kept is not None:
        return plan_continuation(pipeline.tokenizer, image, edit.scales_kept)
    return plan_edit(
        pipeline.tokenizer,
        image,
        mask,
        box=edit.box,
        mode=edit.mode,
        leak_free=edit.leak_free,
        softness=edit.softness,
    )


@torch.no_grad()
def kept(plan: EditPlan, pipeline: Pipeline) -> Image.Image:
    """What an edit keeps of its image: the pixels, with the others grey; or the scales, decoded."""
    if plan.edit.scales_kept:
        canvases = [step.canvas for step in pipeline.tokenizer.pyramid.accumulate(plan.edit.tokens)]
        images = pipeline.tokenizer.decode_canvas(canvases[plan.edit.scales_kept - 1]).add(1).mul(0.5)
    else:
        images = to_tensor(plan.image).add(1).mul(0.5).masked_fill(plan.hidden, GREY)[None]
    return to_pil(images)[0]
