"""Read the text that image and video files carry in their metadata.

PNG files have it in a text chunk, JPEG and WebP files in the user comment of their EXIF data, GIF, MP4 and WebM files
in a comment. Except in a PNG, which names its chunks, it is a JSON object with one key.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from nextscale.errors import InputError
from nextscale.io.exif import comment_of

VIDEOS = (".mp4", ".webm")
"""Suffixes of files that Pillow does not read."""


def read_metadata(path: str | Path, key: str) -> str | None:
    """Return the value of ``key``, as JSON; None if the file has none.

    Raises:
        InputError: no such file, an unknown format, or a damaged file.
    """
    try:
        if Path(path).suffix.lower() in VIDEOS:
            from nextscale.io.videos import read_comment  # most files are images

            return value_of(read_comment(path), key)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
                if image.format == "PNG":
                    return image.info.get(key)
                if image.format == "GIF":
                    return value_of(image.info.get("comment", b"").decode("ascii"), key)
                return value_of(comment_of(image), key)
    except InputError:
        raise
    except Exception as error:  # Pillow raises whatever it likes on broken files
        raise InputError(f"cannot read the provenance of {path}: {problem_of(error)}") from error


def value_of(comment: str | None, key: str) -> str | None:
    """Return the value of the only key of a JSON object, as JSON; None for another text."""
    before = f'{{"{key}": '
    if comment is None or not comment.startswith(before) or not comment.endswith("}"):
        return None
    return comment[len(before) : -1]


def problem_of(error: Exception) -> str:
    """Explain in a few words why Pillow could not open a file."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "expected a PNG, JPEG, WebP, GIF, MP4 or WebM"
    if isinstance(error, ValueError) and "text" in str(error).casefold():  # more than PngImagePlugin.MAX_TEXT_...
        return "too much metadata"
    return "the file is incomplete or damaged"
