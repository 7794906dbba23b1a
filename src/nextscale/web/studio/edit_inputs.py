"""The values of the Edit tab, and the resulting edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from nextscale.conditioning.prompts import PLAIN, TextOptions
from nextscale.editing.plan import EditPlan, check_label, check_prompt, plan_edit
from nextscale.editing.spec import EditSpec
from nextscale.errors import InputError
from nextscale.io.fingerprint import content_fingerprint
from nextscale.provenance import EditProvenance
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.schemas import wanted_of
from nextscale.web.studio import figures
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job

CONTINUE = "continue"
"""The mode of the tab that keeps whole scales instead of a region."""
IMAGE_FILE, MASK_FILE = "image.png", "mask.png"
"""Names of the files that the shown command reads. The page offers them for download."""


@dataclass(frozen=True)
class EditInputs:
    """An edit, its images and its sampling settings."""

    spec: EditSpec
    image: Image.Image | None
    """At the model's size. Smaller on one side if the edit pads it."""
    mask: Image.Image | None
    """White marks the region. None without a painted region."""
    wanted: int | str
    """The class or the prompt of the generated part."""
    variants: int
    settings: SamplingSettings
    seed: int
    schedule: ScaleSchedule | None = None
    """The scales of the edit. None means those that fit the image."""
    text: TextOptions = PLAIN
    """For text-to-image models."""

    def plan(self, model: Model) -> EditPlan:
        """Plan the edit.

        Raises:
            InputError: there is no image, no region, or no class or prompt for mode "class", or the box is invalid.
        """
        if self.image is None:
            raise InputError("there is no image yet: upload or generate one")
        if self.mask is None and self.spec.box is None and not self.spec.is_continuation:
            raise InputError("no region is selected: paint over a part of the image, or use a box")
        if isinstance(self.wanted, int):
            check_label(self.spec.mode, [self.wanted], model.no_class)
        else:
            wanted_of(self.wanted, model.engine, may_be_empty=True)
            check_prompt(self.spec.mode, self.wanted)
        schedule = self.schedule or model.schedule_for(self.image)
        return plan_edit(self.spec, model.pipeline.tokenizer, self.image, self.mask, schedule)

    def provenance(self, image: Image.Image) -> EditProvenance:
        """Return the provenance of the edit.

        Args:
            image: the image to edit.
        """
        files: dict[str, Any] = {"image": IMAGE_FILE, "image_sha256": sha256(image)}
        if self.mask is not None:
            files |= {"mask": MASK_FILE, "mask_sha256": sha256(self.mask)}
        return EditProvenance(spec=self.spec, **files)

    def files(self, image: Image.Image) -> list[figures.Figure]:
        """Return the files that the shown command reads, for download."""
        files = [figures.Figure(image, IMAGE_FILE, file=IMAGE_FILE)]
        if self.mask is not None:
            files.append(figures.Figure(self.mask, MASK_FILE, file=MASK_FILE))
        return files

    def job(self, plan: EditPlan, model: Model) -> Job:
        """Return the job. It names the size, if the model has several, because the shown image may have another
        aspect than the upload."""
        seeds = tuple(range(self.seed, self.seed + self.variants))
        h, w = model.size_of(plan.schedule)
        return Job(
            (self.wanted,) * self.variants,
            seeds,
            self.settings,
            plan.edit,
            watch=True,
            text=self.text,
            shape=ImageShape(size=f"{w}x{h}") if model.has_aspects else ANY_SHAPE,
            schedule=plan.schedule,
        )


def sha256(image: Image.Image) -> str:
    """Return the hash of the PNG file that the page offers."""
    return content_fingerprint(figures.png(image))
