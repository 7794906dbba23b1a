"""Painting over an image, on a canvas in the page, which hands the paint over when it is asked for."""

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
"""Pixels of the longer side of what is painted on."""
PREFIX = "data:image/png;base64,"
LARGEST = 2**22
"""Letters of a mask: far more than a canvas can hold."""
EMPTY = figures.hint("Upload an image, or draw one, to paint over a part of it.")


def painting_block() -> gr.HTML:
    """Lay it out, without an image yet; `paint_over` fills it."""
    return gr.HTML(EMPTY, js_on_load=beside("painting.js"), elem_id="painting")


def paint_over(image: Image.Image) -> str:
    """An image to paint over, nothing painted yet."""
    scale = CANVAS / max(image.size)
    w, h = round(image.width * scale), round(image.height * scale)
    return (
        f'<div class="ns-painting">{figures.image(image, "The image, to paint over")}'
        f'<canvas width="{w}" height="{h}"></canvas></div>'
        '<div class="ns-tools"><label>Brush <input class="ns-brush" type="range" min="2" max="40" value="14"></label>'
        '<label><input class="ns-erase" type="checkbox"> Erase</label>'
        '<button class="ns-clear" type="button">Clear</button></div>'
    )


def hand_over(index: int) -> str:
    """JavaScript that puts the paint among the values of an event's inputs.

    Args:
        index: of the input that takes it.
    """
    return (
        "(...values) => { const canvas = document.querySelector('#painting canvas'); "
        f"values[{index}] = canvas ? canvas.toDataURL() : ''; return values; }}"
    )


def read_paint(text: str | None, limits: Limits) -> Image.Image | None:
    """What was painted: white where there is paint, else black; None if nothing was.

    Raises:
        InputError: not a PNG as a canvas gives it, or too many pixels.
    """
    if not text:
        return None
    try:
        if not text.startswith(PREFIX) or len(text) > LARGEST:
            raise InputError("the mask is not a PNG in base 64")
        content = base64.b64decode(text[len(PREFIX) :], validate=True)
    except binascii.Error as error:
        raise InputError("the mask is not a PNG in base 64") from error
    painted = read_mask(as_rgb(decode(content, "the mask", limits), BLACK))
    return Image.fromarray(painted.astype(np.uint8) * 255) if painted.any() else None
