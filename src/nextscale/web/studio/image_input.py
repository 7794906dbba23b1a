"""Input images, uploaded or generated."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr
from PIL import Image

from nextscale.analysis.inspection import fit
from nextscale.editing.placement import Placement
from nextscale.editing.spec import Fit
from nextscale.imaging.images import as_rgb
from nextscale.sampling.settings import FOR_IMAGES
from nextscale.web.studio.controls import class_picker
from nextscale.web.studio.progress import pick_seed
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job
from nextscale.web.uploads import decode

LONGEST = 1024
"""Most pixels on a side of a photo that the page keeps."""


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
    return fit(as_rgb(decode(content, "the upload", model.engine.limits)), model.pipeline.tokenizer)


def read_photo(content: bytes, model: Model) -> Image.Image:
    """Decode an uploaded file in its own shape, with at most `LONGEST` pixels on a side.

    Raises:
        InputError: the file is not an image, or the image is too large.
    """
    photo = as_rgb(decode(content, "the upload", model.engine.limits))
    photo.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return photo


def used_part(photo: Image.Image, fit: Fit, model: Model) -> Image.Image:
    """Return the part of a photo that an edit uses, at the model's size: the middle, or with "pad" the whole photo.

    Raises:
        InputError: the photo is too narrow to be cropped.
    """
    size, lanczos = model.pipeline.tokenizer.config.image_size, Image.Resampling.LANCZOS
    placement = Placement.of((photo.height, photo.width), size, fit)
    return placement.put(photo, lanczos) if fit == "crop" else placement.scale(photo, lanczos)


def sample_one(model: Model, label: int) -> Image.Image:
    """Generate an image of a class."""
    job = Job((label,), (pick_seed(None, locked=False),), FOR_IMAGES)
    ticket = model.engine.submit(job)
    try:
        return ticket.result().pil_images[0]
    finally:
        ticket.cancel()
