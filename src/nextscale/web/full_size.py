"""Room for edited images at their own size, which may be much larger than the model's images."""

from __future__ import annotations

import threading
import weakref

from nextscale.web.errors import FieldError
from nextscale.web.limits import Limits
from nextscale.web.tickets import Busy

REQUESTS = 4
"""Number of requests with the largest image that may be in the queue or in progress."""
RETRY_SECONDS = 5.0


class PixelRoom:
    """Counts the pixels of images that requests hold until their results are pasted in.

    Args:
        most: largest number of pixels.
    """

    def __init__(self, most: int):
        self.most, self._held, self._lock = most, 0, threading.Lock()

    @property
    def held(self) -> int:
        """Number of pixels held now."""
        return self._held

    def hold(self, owner: object, pixels: int) -> None:
        """Count the pixels of an image until its owner is deleted.

        Raises:
            Busy: there is no room.
        """
        with self._lock:
            if self._held + pixels > self.most:
                raise Busy(
                    f"images of {self._held:,} pixels are edited at full size, and this one has {pixels:,}: "
                    f"expected at most {self.most:,} in all",
                    retry_after=RETRY_SECONDS,
                )
            self._held += pixels
        weakref.finalize(owner, self._release, pixels)

    def _release(self, pixels: int) -> None:
        with self._lock:
            self._held -= pixels


def check_full_size(size: tuple[int, int], count: int, limits: Limits) -> None:
    """Raise FieldError if results of (width, height) pixels have too many pixels in all."""
    width, height = size
    if count * width * height > limits.upload_pixels:
        raise FieldError(
            "full_size",
            f"{count} images of {width} x {height} pixels are too large: expected at most {limits.upload_pixels:,} "
            "pixels in all; without full_size, results have the model's size",
        )
