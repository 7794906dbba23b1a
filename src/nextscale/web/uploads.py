"""Uploaded pictures and masks: checked by their header before they are decoded."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nextscale.errors import InputError
from nextscale.masks import HALF, read_mask
from nextscale.web.limits import Limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What decoders strangers may feed."""


def read_upload(file: BinaryIO, name: str, limits: Limits) -> Image.Image:
    """A picture, decoded, upright, in whatever mode it came; of an animated one the first frame.

    Args:
        name: of the field, for messages.

    Raises:
        InputError: not a whole picture of `FORMATS`, or too many pixels.
    """
    file.seek(0)
    data = io.BytesIO(file.read(limits.upload_bytes))
    try:
        with Image.open(data, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > limits.upload_pixels:
                raise InputError(f"{name} has {width} x {height} pixels: expected at most {limits.upload_pixels:,}")
            return ImageOps.exif_transpose(opened)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a picture: expected one of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        raise InputError(f"{name} is not a whole picture ({type(error).__name__})") from error


def mask_of(picture: Image.Image) -> np.ndarray:
    """What an uploaded mask marks to be drawn anew, bool (h, w).

    As OpenAI has it, where it is transparent; if nothing of it is, where it is white.
    """
    transparent = transparent_part(picture)
    return read_mask(picture) if transparent is None else transparent


def transparent_part(picture: Image.Image) -> np.ndarray | None:
    """Bool (h, w), True where a picture is more transparent than not; None if it is nowhere."""
    if not picture.has_transparency_data:
        return None
    transparent = np.asarray(picture.convert("RGBA").getchannel("A")) < HALF
    return transparent if transparent.any() else None


def parse_box(text: str) -> tuple[float, float, float, float]:
    """``y0,x0,y1,x1``.

    Raises:
        InputError: not four numbers.
    """
    try:
        y0, x0, y1, x1 = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"a box is y0,x0,y1,x1 as fractions of the sides, not {text!r}") from error
    return y0, x0, y1, x1
