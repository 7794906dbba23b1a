"""Uploaded images and masks. Their headers are checked before they are decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePath

from fastapi import UploadFile
from PIL import Image, ImageOps, UnidentifiedImageError

from nextscale.errors import InputError
from nextscale.io.fingerprint import content_fingerprint
from nextscale.web.errors import FieldError
from nextscale.web.limits import Limits
from nextscale.web.schemas import LONGEST_NAME

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that uploads may have."""


@dataclass(frozen=True)
class Upload:
    """An uploaded image, or the first frame of an animation, rotated by its EXIF data, in its original mode."""

    image: Image.Image
    name: str
    """File name, printable characters only."""
    sha256: str


def read_upload(file: UploadFile, field: str, limits: Limits) -> Upload:
    """Decode an upload.

    Args:
        field: name of the field, for error messages.

    Raises:
        InputError: the upload is not a complete image of `FORMATS`, or has too many pixels.
    """
    file.file.seek(0)
    data = file.file.read(limits.upload_bytes)
    image = decode(data, field, limits)
    name = "".join(letter for letter in PurePath(file.filename or "").name if letter.isprintable())[-LONGEST_NAME:]
    return Upload(image, name or f"{field}.png", content_fingerprint(data))


def decode(data: bytes, field: str, limits: Limits) -> Image.Image:
    """Decode an image from the bytes of its file; see `Upload`.

    Args:
        field: name of the field, for error messages.

    Raises:
        InputError: the upload is not a complete image of `FORMATS`, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > limits.upload_pixels:
                raise FieldError(
                    field, f"{field} has {width} x {height} pixels: expected at most {limits.upload_pixels:,}"
                )
            return ImageOps.exif_transpose(opened)
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # raised from the header, before decoding
        raise FieldError(
            field, f"{field} has hundreds of millions of pixels: expected at most {limits.upload_pixels:,}"
        ) from error
    except UnidentifiedImageError as error:
        raise FieldError(field, f"{field} is not an image: expected one of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's plugins raise many kinds of errors for damaged files
        raise FieldError(field, f"{field} is not a complete image: the file is damaged or truncated") from error
