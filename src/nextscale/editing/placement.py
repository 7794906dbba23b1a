"""The place of an image on a model's canvas, which may have another size and aspect ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextscale.editing.spec import Fit
from nextscale.imaging.images import contained_size, covering_size


class Rectangle(NamedTuple):
    """Pixels from (top, left) up to, but without, (bottom, right)."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Placement:
    """The place of an image on a canvas.

    The image is resized to ``scaled``. The canvas begins at the pixel (``top``, ``left``) of the resized image. If an
    offset is negative, the canvas has borders that the image does not cover.
    """

    image_size: tuple[int, int]
    """(h, w) of the image."""
    canvas_size: tuple[int, int]
    """(H, W) of the canvas."""
    scaled: tuple[int, int]
    top: int
    left: int

    @classmethod
    def of(cls, image_size: tuple[int, int], canvas_size: tuple[int, int], fit: Fit = "crop") -> Placement:
        """Place an image in the middle of a canvas.

        Args:
            fit: "crop" covers the canvas and cuts off the rest of the image. "pad" keeps the whole image, with borders.

        Raises:
            InputError: the image is too narrow to cover the canvas.
        """
        measure = covering_size if fit == "crop" else contained_size
        scaled = measure(image_size, canvas_size)
        top, left = (round((side - room) / 2) for side, room in zip(scaled, canvas_size, strict=True))
        return cls(image_size, canvas_size, scaled, top, left)

    @property
    def content(self) -> Rectangle:
        """The part of the canvas that the image covers."""
        height, width = self.canvas_size
        bottom, right = self.scaled[0] - self.top, self.scaled[1] - self.left
        return Rectangle(max(0, -self.top), max(0, -self.left), min(height, bottom), min(width, right))

    @property
    def content_size(self) -> tuple[int, int]:
        """(height, width) of `content`."""
        return self.content.bottom - self.content.top, self.content.right - self.content.left

    @property
    def used_size(self) -> tuple[int, int]:
        """(height, width) of the part of the image that lies on the canvas, in pixels of the image."""
        lengths = zip(self.content_size, self.image_size, self.scaled, strict=True)
        height, width = (max(1, round(part * side / scaled)) for part, side, scaled in lengths)
        return height, width

    @property
    def is_cropped(self) -> bool:
        """Whether a part of the image does not lie on the canvas."""
        return self.content_size != self.scaled

    @property
    def borders(self) -> Tensor:
        """Bool (H, W): the part of the canvas that the image does not cover."""
        borders = torch.ones(self.canvas_size, dtype=torch.bool)
        top, left, bottom, right = self.content
        borders[top:bottom, left:right] = False
        return borders

    def put(self, image: Image.Image, filter: Image.Resampling | None = None) -> Image.Image:
        """Resize an image and put it on the canvas. Borders are 0.

        Args:
            filter: None chooses the box filter when shrinking and the bilinear one when enlarging. Both reach no
                further than the neighbouring pixels, so that hidden pixels do not leak out of a mask.
        """
        image = self.scale(image, filter)
        height, width = self.canvas_size
        return image.crop((self.left, self.top, self.left + width, self.top + height))

    def scale(self, image: Image.Image, filter: Image.Resampling | None = None) -> Image.Image:
        """Resize an image as `put` does."""
        shrinks = math.prod(self.scaled) < math.prod(self.image_size)
        chosen = filter or (Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
        return image.resize((self.scaled[1], self.scaled[0]), chosen)

    def trim(self, images: Tensor) -> Tensor:
        """Cut off the borders of canvases. (..., H, W) -> (..., height, width) of `content`."""
        top, left, bottom, right = self.content
        return images[..., top:bottom, left:right]

    def trim_image(self, canvas: Image.Image) -> Image.Image:
        """Cut off the borders of a canvas."""
        top, left, bottom, right = self.content
        return canvas.crop((left, top, right, bottom))

    def paste_back(self, canvas: Image.Image, image: Image.Image, region: np.ndarray) -> Image.Image:
        """Return the image with a region from the canvas, resampled to the size of the image.

        Args:
            region: bool (h, w), the pixels of the image that are replaced. The others stay the same to the bit.
        """
        large = Image.fromarray(self._uncropped(np.asarray(canvas), mode="edge"))
        large = large.resize((self.image_size[1], self.image_size[0]), Image.Resampling.BICUBIC)
        return Image.fromarray(np.where(region[..., None], np.asarray(large), np.asarray(image)))

    def region(self, marked: Tensor) -> np.ndarray:
        """Return the pixels of the image whose centres lie on marked pixels of the canvas. Bool (H, W) -> (h, w)."""
        at_scale = self._uncropped(marked.cpu().numpy(), mode="constant")
        rows, columns = (
            (2 * np.arange(side) + 1) * scaled // (2 * side)
            for side, scaled in zip(self.image_size, self.scaled, strict=True)
        )
        return at_scale[rows[:, None], columns]

    def _uncropped(self, canvas: np.ndarray, mode: Literal["edge", "constant"]) -> np.ndarray:
        """Cut off the borders of a canvas, and extend it to the size of the resized image by its edge or by 0."""
        top, left, bottom, right = self.content
        before = self.top + top, self.left + left
        after = self.scaled[0] - self.top - bottom, self.scaled[1] - self.left - right
        sides = [*zip(before, after, strict=True), *[(0, 0)] * (canvas.ndim - 2)]
        return np.pad(canvas[top:bottom, left:right], sides, mode=mode)

    def describe(self) -> str:
        """Return sizes as text: of the image, of its used part if it is cropped, and of this part on the canvas."""
        whole = size_text(self.image_size)
        part = f", of which the middle {size_text(self.used_size)} are used" if self.is_cropped else ""
        at = "" if self.content_size == self.used_size else f", resized to {size_text(self.content_size)}"
        return f"{whole} pixels{part}{at}"


def size_text(size: tuple[int, int]) -> str:
    """Return a size (height, width) as text, ``WIDTH x HEIGHT``."""
    return f"{size[1]} x {size[0]}"
