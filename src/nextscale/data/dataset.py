"""Images as training examples. Each example depends on (seed, epoch, index) only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from nextscale.data.captions import all_captions, caption_of, captioned
from nextscale.data.content import Content, Pixels
from nextscale.data.source import ClassSource, ImageSource
from nextscale.errors import InputError
from nextscale.imaging.images import centre_crop, cover, infinity_crop, to_unit_range

MARGIN = 1.125
"""Images are resized to cover 1.125 times the size of the crop, as in the official VAR training code."""
ZOOM = 2
"""With ``zoom``, images are resized to this many times the size, so that small crops stay sharp."""
PART, STRETCH = (0.3, 1.0), 0.3
"""Limits of `random_part`: its fraction of the area, and the absolute logarithm of its relative aspect ratio."""
CACHE_BYTES = 2**30
"""Memory for resized images in each process, by default."""


class Example(NamedTuple):
    """One training example."""

    content: Content
    """``Pixels`` with (3, H, W) or ``Tokens`` with (L,)."""
    label: int
    """Class of the image, an index into ``class_names``."""
    unreadable: tuple[str, ...]
    """Unreadable images that were skipped before this one, with the reason."""
    caption: str = ""
    """A text that describes the image; empty if the data has no captions."""
    template: float | None = None
    """The template of aspect ratios that the image was cropped to (see `nextscale.data.buckets`), if it was."""

    @property
    def image(self) -> Tensor:
        """Return the image (3, H, W) in [-1, 1].

        Raises:
            InputError: the example holds tokens.
        """
        if not isinstance(self.content, Pixels):
            raise InputError(f"expected an example of Pixels, got {type(self.content).__name__}")
        return self.content.values


class Examples(Protocol):
    """A data set to train on: images, or tokens of images.

    Optional members: ``buckets``, ranges of indices that may share a batch (default: all), with ``templates``, the
    aspect ratio of each; ``captions()``, a list of all captions.
    """

    @property
    def source(self) -> ClassSource: ...

    @property
    def seed(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the example of (epoch, index). It depends on these numbers and the seed only."""
        ...


class ImageDataset(Dataset[Example]):
    """Images resized and cropped to (H, W).

    With ``augment``, an example is a random crop, or a `random_part` with ``zoom``. With ``flip`` it is mirrored with
    probability 1/2. Without ``augment``, it is the centre crop. With ``captions``, it has one of the captions of the
    image. With ``whole``, the crop is `infinity_crop`, also with ``augment``. If an image cannot be read or has no
    caption, the next image is used instead, and the `Example` names the skipped image. Each process keeps up to
    ``memory`` bytes of resized images in memory (default: 1 GiB).
    """

    def __init__(
        self,
        source: ImageSource,
        size: tuple[int, int],
        seed: int = 0,
        augment: bool = True,
        flip: bool = True,
        zoom: bool = False,
        captions: bool = False,
        whole: bool = False,
        memory: int | None = None,
    ):
        self.source, self.size, self.seed, self.augment, self.flip = source, size, seed, augment, flip
        self.zoom, self.has_captions, self.whole = zoom, captions, whole
        self._memory = CACHE_BYTES if memory is None else memory
        self._cache: dict[int, np.ndarray] = {}
        self._unreadable: dict[int, str] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the image of (epoch, index).

        Raises:
            InputError: no image can be read.
        """
        epoch, index = key
        skipped = []
        for i in range(index, index + len(self)):
            i %= len(self)
            caption = self._caption(i, epoch, index) if self.has_captions else ""
            pixels = None if caption is None else self._pixels(i)
            if caption is not None and pixels is not None:
                image = Pixels(self._crop(pixels, epoch, index))
                return Example(image, self.source.labels[i], tuple(skipped), caption)
            skipped.append(self._unreadable[i])
        can = "used" if self.has_captions else "read"
        raise InputError(f"none of the {len(self)} images in {self.source.root} can be {can} (first: {skipped[0]})")

    def captions(self) -> list[str]:
        """Return the captions of all images, with repetitions."""
        return all_captions(self.source)

    def captions_of(self, i: int) -> Sequence[str]:
        """Return all captions of image i.

        Raises:
            InputError: they cannot be read.
        """
        return captioned(self.source).captions(i)

    def _caption(self, i: int, epoch: int, index: int) -> str | None:
        """Return the caption of image i for the example (epoch, index), or None if it has none."""
        if i in self._unreadable:
            return None
        try:
            return caption_of(captioned(self.source), i, (self.seed, epoch, index))
        except InputError as error:
            self._unreadable[i] = str(error)
            return None

    def _pixels(self, i: int) -> np.ndarray | None:
        """Return the resized image, (h, w, 3) uint8, or None if it cannot be read."""
        if i in self._cache:
            return self._cache[i]
        if i in self._unreadable:
            return None
        try:
            pixels = self._read(i)
        except InputError as error:
            name, reason = self.source.name(i), str(error)
            self._unreadable[i] = reason if name in reason else f"{name}: {reason}"
            return None
        if self._cached_bytes + pixels.nbytes <= self._memory:
            self._cache[i] = pixels
            self._cached_bytes += pixels.nbytes
        return pixels

    def _read(self, i: int) -> np.ndarray:
        """Read and resize an image; crop it if it has no random crops.

        Raises:
            InputError: it cannot be read.
        """
        image = self.source.read(i)
        if self.whole:
            image = infinity_crop(image, self.size)
        else:
            image = cover_with_margin(image, self.size, ZOOM if self.augment and self.zoom else 1)
        return np.array(image if self.augment else centre_crop(image, self.size))

    def _crop(self, pixels: np.ndarray, epoch: int, index: int) -> Tensor:
        if self.augment:
            rng = np.random.default_rng((self.seed, epoch, index))
            pixels = (random_part if self.zoom else random_crop)(pixels, self.size, rng)
            if self.flip and rng.random() < 0.5:
                pixels = pixels[:, ::-1]
        return to_unit_range(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def random_crop(pixels: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a random crop of size (H, W): (h, w, 3) -> (H, W, 3)."""
    top, left = (rng.integers(have - want + 1) for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def random_part(pixels: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a random rectangle of the image, resized to (H, W): (h, w, 3) -> (H, W, 3).

    The rectangle has 30 to 100 % of the area, and its aspect ratio differs from that of (H, W) by up to a third
    (arXiv 1409.4842). Use it for classifiers only: a generative model trained on such crops generates cropped images.
    """
    h, w = pixels.shape[:2]
    area, stretch = h * w * rng.uniform(*PART), math.exp(rng.uniform(-STRETCH, STRETCH))
    shape = stretch * size[1] / size[0]
    height, width = min(h, math.sqrt(area / shape)), min(w, math.sqrt(area * shape))
    top, left = rng.uniform(0, h - height), rng.uniform(0, w - width)
    box = (left, top, left + width, top + height)
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))


def cover_with_margin(image: Image.Image, size: tuple[int, int], zoom: int = 1) -> Image.Image:
    """Resize an image, keeping its aspect ratio, to just cover ``zoom`` * `MARGIN` times (H, W)."""
    margin = MARGIN * zoom
    return cover(image, (round(margin * size[0]), round(margin * size[1])))


def validation_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the centre crop (H, W) for validation."""
    return centre_crop(cover_with_margin(image, size), size)
