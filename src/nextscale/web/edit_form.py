"""From an uploaded image and mask to the plan of an edit."""

from __future__ import annotations

from collections import Counter

from starlette.datastructures import FormData

from nextscale.editing.masks import transparent_part
from nextscale.editing.plan import Box, EditPlan, parse_box, plan_edit
from nextscale.errors import InputError
from nextscale.provenance import EditProvenance
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.web.errors import FieldError
from nextscale.web.limits import Limits
from nextscale.web.schemas import EditRequest
from nextscale.web.uploads import read_upload


def check_once(form: FormData) -> None:
    """Raises InputError if a field of a form is given twice: only one of them would be heeded."""
    for name, count in Counter(name for name, _ in form.multi_items()).items():
        if count > 1:
            raise FieldError(name, f"{name} is given {count} times: expected once")


def read_edit(body: EditRequest, tokenizer: ImageTokenizer, limits: Limits) -> tuple[EditPlan, EditProvenance]:
    """(what to draw, how to repeat it).

    As OpenAI has it, an image with transparent parts is its own mask, unless there is a mask or a box.

    Raises:
        InputError: an upload that is no image, or nothing that says what to draw, or says it twice.
    """
    upload = read_upload(body.image, "image", limits)
    mask = read_upload(body.mask, "mask", limits) if body.mask else None
    box = read_box(body.box) if body.box else None
    if mask is None and box is None:
        if transparent_part(upload.image) is None:
            raise FieldError(
                "mask", "nothing says what to draw: expected a mask, a box, or an image with transparent parts"
            )
        mask = upload
    plan = plan_edit(
        tokenizer,
        upload.image,
        mask.image if mask else None,
        box=box,
        mode=body.mode,
        leak_free=body.leak_free,
        softness=body.softness,
    )
    return plan, EditProvenance(
        image=upload.name,
        image_sha256=upload.sha256,
        mask=mask.name if mask else "",
        mask_sha256=mask.sha256 if mask else "",
        box=box,
        mode=body.mode,
        leak_free=body.leak_free,
        softness=body.softness,
        composite=body.composite,
    )


def read_box(text: str) -> Box:
    """As `parse_box`, but whose complaint names the field."""
    try:
        return parse_box(text)
    except InputError as error:
        raise FieldError("box", str(error)) from error
