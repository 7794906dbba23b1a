"""How much the server takes on: all its bounds in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nextscale.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Bounds of the server. Beyond them it refuses with a clear word rather than slow down or run out of memory."""

    batch_images: int = 16
    """Images drawn at once."""
    queue_images: int = 256
    """Images that wait at most; beyond, requests are refused (429)."""
    request_images: int = 16
    """Images in one request."""
    seconds: float = 120.0
    """From a request's arrival to its images, waiting included (504)."""
    drain_seconds: float = 20.0
    """What is left to requests at work when the server is told to stop; then they are refused (503)."""
    upload_bytes: int = 10 * 2**20
    """Size of a request with images (413)."""
    upload_pixels: int = 25_000_000
    """Pixels of an uploaded image, read from its header before it is decoded."""
    folder_bytes: int = 2**30
    """Size of all that is uploaded to the studio and kept at a time (507)."""
    body_bytes: int = 64 * 2**10
    """Size of a request without images (413)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "drain_seconds" else 1 if isinstance(value, int) else 0.001
            if not least <= value < math.inf:
                raise InputError(f"{name.replace('_', '-')} must be at least {least}, not {value}")
