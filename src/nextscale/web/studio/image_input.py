"""Images that a user gives: uploaded, or drawn on the spot."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr
from PIL import Image

from nextscale.analysis.inspection import fit
from nextscale.imaging.images import as_rgb
from nextscale.web.studio.controls import LOOKS, class_picker
from nextscale.web.studio.progress import pick_seed
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Work
from nextscale.web.uploads import decode


class GivenImage(NamedTuple):
    """Controls to give an image with."""

    upload: gr.UploadButton
    label: gr.Dropdown
    draw: gr.Button


def given_image(model: Model) -> GivenImage:
    """Lay out the controls."""
    upload = gr.UploadButton("Upload an image", file_types=["image"], type="binary")
    with gr.Row(equal_height=True, elem_classes="ns-beside"):
        label = class_picker(model, "or draw one of class", several=False)
        draw = gr.Button("Draw it", min_width=80, scale=0)
    return GivenImage(upload, label, draw)


def read_upload(content: bytes, model: Model) -> Image.Image:
    """An uploaded image in the model's size, from its file's bytes.

    Raises:
        InputError: not an image, or one that is too large or too narrow.
    """
    return fit(as_rgb(decode(content, "the upload", model.engine.limits)), model.pipeline.tokenizer)


def sample_one(model: Model, label: int) -> Image.Image:
    """A new image of a class."""
    work = Work((label,), (pick_seed(None, locked=False),), LOOKS)
    ticket = model.engine.submit(work)
    try:
        return ticket.result().pil_images[0]
    finally:
        ticket.cancel()
