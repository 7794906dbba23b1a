"""Pictures -> training tensors, each a pure function of (seed, epoch, index)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from nextscale.data.source import ClassSource, PictureSource
from nextscale.errors import InputError
from nextscale.pictures import centre_crop, cover, to_unit_range

MARGIN = 1.125
"""Pictures are resized to cover 1.125 times the crop (VAR's training code)."""
CACHE_BYTES = 2**30


class Example(NamedTuple):
    image: Tensor
    """(3, H, W) in [-1, 1]; or tokens (L,), int64, of a cache."""
    label: int
    unreadable: tuple[str, ...]
    """Pictures that were passed over on the way to this one, with the reason."""


class Examples(Protocol):
    """What a run learns from: pictures, or tokens of them."""

    @property
    def source(self) -> ClassSource: ...

    @property
    def seed(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """The example of (epoch, index), a pure function of these and the seed."""
        ...


class PictureDataset(Dataset[Example]):
    """Pictures resized and cropped to (H, W).

    Training takes a random crop and, with ``flip``, a random mirror image; otherwise the crop is the middle one. One
    that cannot be read is passed over for the next one, and named in the `Example`. Resized pictures stay in memory,
    up to 1 GiB for each process.
    """

    def __init__(
        self, source: PictureSource, size: tuple[int, int], seed: int = 0, augment: bool = True, flip: bool = True
    ):
        self.source, self.size, self.seed, self.augment, self.flip = source, size, seed, augment, flip
        self._cache: dict[int, np.ndarray] = {}
        self._unreadable: dict[int, str] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """The picture of (epoch, index)."""
        epoch, index = key
        passed_over = []
        for i in range(index, index + len(self)):
            i %= len(self)
            pixels = self._pixels(i)
            if pixels is not None:
                return Example(self._crop(pixels, epoch, index), self.source.labels[i], tuple(passed_over))
            passed_over.append(self._unreadable[i])
        raise InputError(
            f"none of the {len(self)} pictures in {self.source.root} can be read (first: {passed_over[0]})"
        )

    def _pixels(self, i: int) -> np.ndarray | None:
        """The resized picture, (h, w, 3) uint8; None if it cannot be read."""
        if i in self._cache:
            return self._cache[i]
        if i in self._unreadable:
            return None
        try:
            picture = self.source.read(i)
            picture = cover_with_margin(picture, self.size)
        except InputError as error:
            name, reason = self.source.name(i), str(error)
            self._unreadable[i] = reason if name in reason else f"{name}: {reason}"
            return None
        pixels = np.array(picture if self.augment else centre_crop(picture, self.size))
        if self._cached_bytes + pixels.nbytes <= CACHE_BYTES:
            self._cache[i] = pixels
            self._cached_bytes += pixels.nbytes
        return pixels

    def _crop(self, pixels: np.ndarray, epoch: int, index: int) -> Tensor:
        if self.augment:
            draw = np.random.default_rng((self.seed, epoch, index))
            top, left = (draw.integers(have - want + 1) for have, want in zip(pixels.shape, self.size, strict=False))
            pixels = pixels[top : top + self.size[0], left : left + self.size[1]]
            if self.flip and draw.random() < 0.5:
                pixels = pixels[:, ::-1]
        return to_unit_range(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def cover_with_margin(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The smallest picture of the same shape that covers `MARGIN` times (H, W)."""
    return cover(picture, (round(MARGIN * size[0]), round(MARGIN * size[1])))


def validation_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The part (H, W) of a picture that validation sees."""
    return centre_crop(cover_with_margin(picture, size), size)
