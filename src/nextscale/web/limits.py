"""Limits of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nextscale.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Limits of the server. It rejects requests that exceed them, instead of slowing down or running out of memory."""

    batch_images: int = 16
    """Maximum number of images per batch. If the images are larger than the model's default size, a batch has
    fewer images."""
    queue_images: int = 256
    """Maximum number of images in the queue. Additional requests are rejected with status 429."""
    request_images: int = 16
    """Maximum number of images per request."""
    seconds: float = 120.0
    """Time limit of a request in seconds, from its arrival, including its time in the queue. Slower requests fail with
    status 504, or 408 if their body has not arrived."""
    connections: int = 1000
    """Maximum number of open connections. When another one arrives, the server closes the one that has been idle
    longest. The system's limit of open files may lower this number."""
    idle_seconds: float = 15.0
    """Longest wait for the headers of a request, and longest pause of a client while it reads a response, in seconds.
    Slower connections are closed."""
    drain_seconds: float = 20.0
    """Time in seconds for accepted requests, waiting or running, to finish when the server stops. Slower requests
    fail with status 503."""
    upload_bytes: int = 10 * 2**20
    """Maximum size of a request with files, in bytes. Larger requests are rejected with status 413."""
    upload_pixels: int = 25_000_000
    """Maximum number of pixels of an uploaded image, checked before it is decoded."""
    folder_bytes: int = 2**30
    """Maximum size of all uploads that the studio keeps, in bytes on the disk. To make room for an upload, the server
    deletes uploads that are older than 10 minutes, oldest first. If there is still no room, it rejects the upload with
    status 507."""
    body_bytes: int = 64 * 2**10
    """Maximum size of a request without files, in bytes. Larger requests are rejected with status 413."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "drain_seconds" else 1 if isinstance(value, int) else 0.001
            if not least <= value < math.inf:
                raise InputError(f"{name.replace('_', '-')} must be at least {least}, not {value}")
