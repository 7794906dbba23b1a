"""Convert the form of an edit request, with its uploaded files, to the plan of an edit."""

from __future__ import annotations

from nextscale.editing.masks import transparent_part
from nextscale.editing.plan import EditPlan, plan_edit
from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance
from nextscale.web.errors import FieldError
from nextscale.web.full_size import check_full_size
from nextscale.web.limits import Limits
from nextscale.web.schemas import EditRequest
from nextscale.web.uploads import read_upload


def read_edit(body: EditRequest, pipeline: Pipeline, limits: Limits) -> tuple[EditPlan, EditProvenance]:
    """Decode the uploads and plan the edit.

    As in OpenAI's API, an image with transparent pixels is its own mask, unless the request selects a region.

    Raises:
        InputError: an upload is not an image, or not exactly one of mask, box, scales_kept and upscale is given.
    """
    spec = body.spec()
    upload = read_upload(body.image, "image", limits)
    mask = read_upload(body.mask, "mask", limits) if body.mask else None
    if mask is None and spec.box is None and not spec.is_continuation:
        if transparent_part(upload.image) is None:
            raise FieldError(
                "mask", "no region is selected: expected a mask, a box, or an image with transparent pixels"
            )
        mask = upload
    if spec.full_size:
        check_full_size(upload.image.size, body.n, limits)
    schedule = pipeline.schedule_for(upload.image, body.shape())
    plan = plan_edit(spec, pipeline.tokenizer, upload.image, mask.image if mask else None, schedule)
    made = EditProvenance(
        spec=spec,
        image=upload.name,
        image_sha256=upload.sha256,
        mask=mask.name if mask else "",
        mask_sha256=mask.sha256 if mask else "",
    )
    return plan, made
