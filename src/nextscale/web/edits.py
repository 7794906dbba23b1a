"""From an uploaded picture and mask to the plan of an edit."""

from __future__ import annotations

from nextscale.editing import Box, EditPlan, plan_edit
from nextscale.errors import InputError
from nextscale.provenance import EditProvenance
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.web.limits import Limits
from nextscale.web.schemas import EditRequest
from nextscale.web.uploads import read_upload, transparent_part


def read_edit(body: EditRequest, tokenizer: ImageTokenizer, limits: Limits) -> tuple[EditPlan, EditProvenance | None]:
    """(what to draw, how to repeat it). The command line has no word for a mask by transparency: None then.

    As OpenAI has it, what is transparent is drawn anew: of the mask, or without mask and box, of the picture. A mask
    without transparency is drawn anew where it is white.

    Raises:
        InputError: an upload that is no picture, or nothing that says what to draw, or says it twice.
    """
    image = read_upload(body.image, "image", limits)
    mask = read_upload(body.mask, "mask", limits) if body.mask else None
    box = parse_box(body.box) if body.box else None
    transparent = transparent_part(mask.picture) if mask else None if box else transparent_part(image.picture)
    if mask is None and box is None and transparent is None:
        raise InputError("nothing says what to draw: expected a mask, a box, or an image with transparent parts")
    drawn = transparent if transparent is not None else mask.picture if mask else None
    plan = plan_edit(
        tokenizer,
        image.picture,
        drawn,
        box=box,
        mode=body.mode,
        leak_free=body.leak_free,
        softness=body.softness,
    )
    if transparent is not None:
        return plan, None
    return plan, EditProvenance(
        picture=image.name,
        picture_sha256=image.sha256,
        mask=mask.name if mask else "",
        mask_sha256=mask.sha256 if mask else "",
        box=box,
        mode=body.mode,
        leak_free=body.leak_free,
        softness=body.softness,
        composite=body.composite,
    )


def parse_box(text: str) -> Box:
    """``y0,x0,y1,x1``.

    Raises:
        InputError: not four numbers.
    """
    try:
        y0, x0, y1, x1 = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"a box is y0,x0,y1,x1 as fractions of the sides, not {text!r}") from error
    return y0, x0, y1, x1
