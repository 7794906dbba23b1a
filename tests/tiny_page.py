"""Parse the HTML of the studio."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

from PIL import Image, ImageFile


def images_of(html: Any) -> list[ImageFile.ImageFile]:
    """The images in a piece of HTML, in order."""
    found = re.findall(r'<img[^>]* src="data:image/png;base64,([^"]+)"', str(html))
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def words_of(html: Any) -> str:
    """Its text, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", str(html))).strip()
