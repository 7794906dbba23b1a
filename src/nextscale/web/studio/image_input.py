"""Input images, uploaded or generated."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr
from PIL import Image

from nextscale.analysis.inspection import fit
from nextscale.imaging.images import as_rgb
from nextscale.sampling.settings import FOR_IMAGES
from nextscale.web.studio.controls import class_picker
from nextscale.web.studio.progress import pick_seed
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job
from nextscale.web.uploads import decode


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


def sample_one(model: Model, label: int) -> Image.Image:
    """Generate an image of a class."""
    job = Job((label,), (pick_seed(None, locked=False),), FOR_IMAGES)
    ticket = model.engine.submit(job)
    try:
        return ticket.result().pil_images[0]
    finally:
        ticket.cancel()
