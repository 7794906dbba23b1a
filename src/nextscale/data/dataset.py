"""Images -> training tensors, each a pure function of (seed, epoch, index)."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from nextscale.data.source import ClassSource, ImageSource
from nextscale.errors import InputError
from nextscale.imaging.images import centre_crop, cover, to_unit_range

MARGIN = 1.125
"""Images are resized to cover 1.125 times the crop (VAR's training code)."""
ZOOM = 2
"""With ``zoom``, that many times more, so that small parts of an image stay sharp."""
PART, STRETCH = (0.3, 1.0), 0.3
"""Share of the area that such a part has; how much wider or narrower than the crop it may be, as a logarithm."""
CACHE_BYTES = 2**30


class Example(NamedTuple):
    image: Tensor
    """(3, H, W) in [-1, 1]; or tokens (L,), int64, of a cache."""
    label: int
    unreadable: tuple[str, ...]
    """Images that were passed over on the way to this one, with the reason."""


class Examples(Protocol):
    """What a run learns from: images, or tokens of them."""

    @property
    def source(self) -> ClassSource: ...

    @property
    def seed(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """The example of (epoch, index), a pure function of these and the seed."""
        ...


class ImageDataset(Dataset[Example]):
    """Images resized and cropped to (H, W).

    Training takes a random crop and, with ``flip``, a random mirror image; otherwise the crop is the middle one. With
    ``zoom``, training crops are `random_part`s. An image that cannot be read is passed over for the next one, and
    named in the `Example`. Resized images stay in memory, up to 1 GiB for each process.
    """

    def __init__(
        self,
        source: ImageSource,
        size: tuple[int, int],
        seed: int = 0,
        augment: bool = True,
        flip: bool = True,
        zoom: bool = False,
    ):
        self.source, self.size, self.seed, self.augment, self.flip = source, size, seed, augment, flip
        self.zoom = zoom
        self._cache: dict[int, np.ndarray] = {}
        self._unreadable: dict[int, str] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """The image of (epoch, index)."""
        epoch, index = key
        passed_over = []
        for i in range(index, index + len(self)):
            i %= len(self)
            pixels = self._pixels(i)
            if pixels is not None:
                return Example(self._crop(pixels, epoch, index), self.source.labels[i], tuple(passed_over))
            passed_over.append(self._unreadable[i])
        raise InputError(f"none of the {len(self)} images in {self.source.root} can be read (first: {passed_over[0]})")

    def _pixels(self, i: int) -> np.ndarray | None:
        """The resized image, (h, w, 3) uint8; None if it cannot be read."""
        if i in self._cache:
            return self._cache[i]
        if i in self._unreadable:
            return None
        try:
            image = self.source.read(i)
            image = cover_with_margin(image, self.size, ZOOM if self.augment and self.zoom else 1)
        except InputError as error:
            name, reason = self.source.name(i), str(error)
            self._unreadable[i] = reason if name in reason else f"{name}: {reason}"
            return None
        pixels = np.array(image if self.augment else centre_crop(image, self.size))
        if self._cached_bytes + pixels.nbytes <= CACHE_BYTES:
            self._cache[i] = pixels
            self._cached_bytes += pixels.nbytes
        return pixels

    def _crop(self, pixels: np.ndarray, epoch: int, index: int) -> Tensor:
        if self.augment:
            draw = np.random.default_rng((self.seed, epoch, index))
            pixels = (random_part if self.zoom else random_crop)(pixels, self.size, draw)
            if self.flip and draw.random() < 0.5:
                pixels = pixels[:, ::-1]
        return to_unit_range(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def random_crop(pixels: np.ndarray, size: tuple[int, int], draw: np.random.Generator) -> np.ndarray:
    """(h, w, 3) -> some (H, W, 3) inside."""
    top, left = (draw.integers(have - want + 1) for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def random_part(pixels: np.ndarray, size: tuple[int, int], draw: np.random.Generator) -> np.ndarray:
    """Some rectangle inside, 30 to 100 % of the area and up to a third wider or narrower than (H, W), resized to that.

    (h, w, 3) -> (H, W, 3). Made for classifiers (arXiv 1409.4842): what is drawn from such crops looks cropped itself.
    """
    h, w = pixels.shape[:2]
    area, stretch = h * w * draw.uniform(*PART), math.exp(draw.uniform(-STRETCH, STRETCH))
    shape = stretch * size[1] / size[0]
    height, width = min(h, math.sqrt(area / shape)), min(w, math.sqrt(area * shape))
    top, left = draw.uniform(0, h - height), draw.uniform(0, w - width)
    box = (left, top, left + width, top + height)
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))


def cover_with_margin(image: Image.Image, size: tuple[int, int], zoom: int = 1) -> Image.Image:
    """The smallest image of the same shape that covers `MARGIN` times (H, W), or ``zoom`` times as much."""
    margin = MARGIN * zoom
    return cover(image, (round(margin * size[0]), round(margin * size[1])))


def validation_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The part (H, W) of an image that validation sees."""
    return centre_crop(cover_with_margin(image, size), size)
