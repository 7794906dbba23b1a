"""Input images, uploaded or generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import gradio as gr
from PIL import Image

from nextscale.editing.placement import Placement
from nextscale.editing.spec import Fit
from nextscale.imaging.images import as_rgb, centre_crop, cover
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.schemas import wanted_of
from nextscale.web.studio.controls import FIRST_PROMPT, class_picker
from nextscale.web.studio.progress import pick_seed
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job
from nextscale.web.uploads import decode


@dataclass(frozen=True)
class InputImage:
    """An input image, resized to cover a size of the model. It is not yet cropped or padded."""

    image: Image.Image
    """RGB."""
    size: tuple[int, int]
    """(height, width) of the image as it was uploaded."""
    schedule: ScaleSchedule
    """The scales of its edits: those of the nearest aspect that the model has."""

    @classmethod
    def of(cls, image: Image.Image, model: Model) -> InputImage:
        """Resize an image.

        Raises:
            InputError: the image is too narrow.
        """
        schedule = model.schedule_for(image)
        return cls(cover(image, model.size_of(schedule)), (image.height, image.width), schedule)

    def shown(self, model: Model, fit: Fit) -> Image.Image:
        """Return the part that is used: the middle with the model's aspect ratio, or everything."""
        return centre_crop(self.image, model.size_of(self.schedule)) if fit == "crop" else self.image

    def describe(self, model: Model, fit: Fit = "crop") -> str:
        """Return the size, and that of the used part, as a sentence. Empty for an image of the model's size."""
        size = model.size_of(self.schedule)
        if self.size == size:
            return ""
        return f"The image has {Placement.of(self.size, size, fit).describe()}."


class GivenImage(NamedTuple):
    """Controls for an input image."""

    upload: gr.UploadButton
    wanted: gr.Dropdown | gr.Textbox
    """The class or the prompt of an image to generate."""
    generate: gr.Button


def given_image(model: Model) -> GivenImage:
    """Lay out the controls."""
    upload = gr.UploadButton("Upload an image", file_types=["image"], type="binary", elem_classes="ns-upload")
    gr.HTML('<p class="ns-note">or drop a file anywhere on this tab</p>')
    with gr.Row(equal_height=True, elem_classes="ns-beside"):
        wanted: gr.Dropdown | gr.Textbox
        if model.is_text:
            wanted = gr.Textbox(FIRST_PROMPT, label="Or from a prompt", min_width=120)
        else:
            wanted = class_picker(model, "Or generate an image of class", 0)
        generate = gr.Button("Generate", min_width=100, scale=0)
    return GivenImage(upload, wanted, generate)


def read_upload(content: bytes, model: Model) -> Image.Image:
    """Decode an uploaded file and fit the image to the model's size.

    Raises:
        InputError: the file is not an image, or the image is too large or too narrow.
    """
    return read_whole(content, model).shown(model, "crop")


def read_whole(content: bytes, model: Model) -> InputImage:
    """Decode an uploaded file. Raises the errors of `read_upload`."""
    return InputImage.of(as_rgb(decode(content, "the upload", model.engine.limits)), model)


def sample_one(model: Model, wanted: int | str) -> Image.Image:
    """Generate an image of a class or a prompt."""
    if isinstance(wanted, str):
        wanted = wanted_of(wanted, model.engine)
    job = Job((wanted,), (pick_seed(None, locked=False),), model.settings)
    ticket = model.engine.submit(job)
    try:
        return ticket.result().pil_images[0]
    finally:
        ticket.cancel()
