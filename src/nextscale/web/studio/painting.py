"""Paint a mask over an image, on a canvas in the page."""

from __future__ import annotations

import base64
import binascii

import gradio as gr
import numpy as np
from PIL import Image

from nextscale.editing.masks import read_mask
from nextscale.errors import InputError
from nextscale.imaging.images import BLACK, as_rgb
from nextscale.web.limits import Limits
from nextscale.web.studio import figures
from nextscale.web.studio.theme import beside
from nextscale.web.uploads import decode

CANVAS = 512
"""Length of the canvas's longer side in pixels."""
PREFIX = "data:image/png;base64,"
LARGEST = 2**22
"""Maximum number of characters of an encoded mask, far more than a canvas needs."""
EMPTY = figures.hint("Upload or generate an image, then paint over a part of it.")


def painting_block() -> gr.HTML:
    """Add the painting area, without an image yet; see `paint_over`."""
    return gr.HTML(EMPTY, js_on_load=beside("painting.js"), elem_id="painting")


def paint_over(image: Image.Image) -> str:
    """Return the HTML of an image under an empty canvas."""
    scale = CANVAS / max(image.size)
    w, h = round(image.width * scale), round(image.height * scale)
    return (
        f'<div class="ns-painting">{figures.image(image, "The image to paint over")}'
        f'<canvas width="{w}" height="{h}"></canvas></div>'
        '<div class="ns-tools"><label>Brush <input class="ns-brush" type="range" min="2" max="40" value="14"></label>'
        '<label><input class="ns-erase" type="checkbox"> Erase</label>'
        '<button class="ns-clear" type="button">Clear</button></div>'
    )


def mask_to_input(index: int) -> str:
    """Return JavaScript that puts the painted mask into the input values of an event.

    Args:
        index: index of the input for the mask.
    """
    return (
        "(...values) => { const canvas = document.querySelector('#painting canvas'); "
        f"values[{index}] = canvas ? canvas.toDataURL() : ''; return values; }}"
    )


def read_paint(text: str | None, limits: Limits) -> Image.Image | None:
    """Decode the painted mask: painted pixels are white, others black. Return None if nothing was painted.

    Raises:
        InputError: the text is not a PNG of a canvas, or the image has too many pixels.
    """
    if not text:
        return None
    try:
        if not text.startswith(PREFIX) or len(text) > LARGEST:
            raise InputError("the mask is not a PNG in base64")
        content = base64.b64decode(text[len(PREFIX) :], validate=True)
    except binascii.Error as error:
        raise InputError("the mask is not a PNG in base64") from error
    painted = read_mask(as_rgb(decode(content, "the mask", limits), BLACK))
    return Image.fromarray(painted.astype(np.uint8) * 255) if painted.any() else None
