"""The file format of generated images: PNG, JPEG or WebP, with their provenance in the metadata."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from nextscale.provenance import Provenance

MOST_EXIF = 65_533
"""Most bytes of EXIF data in a JPEG."""
FormatName = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True)
class ImageFormat:
    """A file format with its quality."""

    name: FormatName = "png"
    quality: int = 100
    """0 to 100, for JPEG and WebP. PNG is lossless."""

    def encode(self, image: Image.Image, made: Provenance | None = None) -> str:
        """Return the file of an image in base64.

        Args:
            made: provenance for the metadata. A JPEG with more than `MOST_EXIF` bytes of it has none.
        """
        file = io.BytesIO()
        if self.name == "png":
            image.save(file, "PNG", pnginfo=made.to_png_info() if made else None)
        else:
            exif = made.to_exif() if made else Image.Exif()
            if self.name == "jpeg" and len(exif.tobytes()) > MOST_EXIF:  # a prompt of many pages
                exif = Image.Exif()
            colours = {"subsampling": 0} if self.name == "jpeg" else {}  # full resolution for colours
            image.save(file, self.name, quality=self.quality, exif=exif, **colours)
        return base64.b64encode(file.getvalue()).decode()
