"""Input images, uploaded or generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import gradio as gr
from PIL import Image

from nextscale.editing.placement import Placement
from nextscale.editing.spec import Fit
from nextscale.imaging.images import as_rgb, centre_crop, cover
from nextscale.sampling.settings import FOR_IMAGES
from nextscale.web.studio.controls import class_picker
from nextscale.web.studio.progress import pick_seed
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job
from nextscale.web.uploads import decode


@dataclass(frozen=True)
class InputImage:
    """An input image, resized to cover the model's size. It is not yet cropped or padded."""

    image: Image.Image
    """RGB."""
    size: tuple[int, int]
    """(height, width) of the image as it was uploaded."""

    @classmethod
    def of(cls, image: Image.Image, model: Model) -> InputImage:
        """Resize an image.

        Raises:
            InputError: the image is too narrow.
        """
        return cls(cover(image, model.image_size), (image.height, image.width))

    def shown(self, model: Model, fit: Fit) -> Image.Image:
        """Return the part that is used: the middle with the model's aspect ratio, or everything."""
        return centre_crop(self.image, model.image_size) if fit == "crop" else self.image

    def describe(self, model: Model, fit: Fit = "crop") -> str:
        """Return the size, and that of the used part, as a sentence. Empty for an image of the model's size."""
        if self.size == model.image_size:
            return ""
        return f"The image has {Placement.of(self.size, model.image_size, fit).describe()}."


class GivenImage(NamedTuple):
    """Controls for an input image."""

    upload: gr.UploadButton
    label: gr.Dropdown
    generate: gr.Button


def given_image(model: Model) -> GivenImage:
    """Lay out the controls."""
    upload = gr.UploadButton("Upload an image", file_types=["image"], type="binary", elem_classes="ns-upload")
    gr.HTML('<p class="ns-note">or drop a file anywhere on this tab</p>')
    with gr.Row(equal_height=True, elem_classes="ns-beside"):
        label = class_picker(model, "Or generate an image of class", 0)
        generate = gr.Button("Generate", min_width=120, scale=0)
    return GivenImage(upload, label, generate)


def read_upload(content: bytes, model: Model) -> Image.Image:
    """Decode an uploaded file and fit the image to the model's size.

    Raises:
        InputError: the file is not an image, or the image is too large or too narrow.
    """
    return read_whole(content, model).shown(model, "crop")


def read_whole(content: bytes, model: Model) -> InputImage:
    """Decode an uploaded file. Raises the errors of `read_upload`."""
    return InputImage.of(as_rgb(decode(content, "the upload", model.engine.limits)), model)


def sample_one(model: Model, label: int) -> Image.Image:
    """Generate an image of a class."""
    job = Job((label,), (pick_seed(None, locked=False),), FOR_IMAGES)
    ticket = model.engine.submit(job)
    try:
        return ticket.result().pil_images[0]
    finally:
        ticket.cancel()
