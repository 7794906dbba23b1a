"""Text in the user comment of EXIF data, in which JPEG and WebP files keep it."""

from __future__ import annotations

from PIL import ExifTags, Image

ASCII = b"ASCII\0\0\0"
"""Beginning of a user comment."""


def with_comment(text: str) -> Image.Exif:
    """Return EXIF data for Pillow's ``image.save(..., exif=...)``. The text is ASCII."""
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: ASCII + text.encode("ascii")}
    return exif


def comment_of(image: Image.Image) -> str | None:
    """Return the user comment of an image; None if there is none.

    Raises:
        UnicodeDecodeError: it is not ASCII.
    """
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if not isinstance(comment, bytes) or not comment.startswith(ASCII):
        return None
    return comment[len(ASCII) :].decode("ascii")
