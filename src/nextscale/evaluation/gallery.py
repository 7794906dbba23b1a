"""Galleries: images of one size, read by number, from a folder, an .npz file or a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.features import check_images, sides
from nextscale.evaluation.npz import CLASS_NAMES, LABELS, ImageArray, read_array, read_headers
from nextscale.imaging.image_files import ENDINGS, Skipped, images_below, readable_name
from nextscale.imaging.images import read_image
from nextscale.io.config import LARGEST_TABLE
from nextscale.io.fingerprint import stamp, tensors_fingerprint

FILES = "files"
PLACES = ("data", "images", "model")
"""Names of locations in ``made_from``, which may change. Files are identified by their stamp, models by weights."""


class ImageBatch(NamedTuple):
    """Some images of a gallery.

    Attributes:
        pixels: uint8 (B, 3, H, W).
        indices: (B,) int64, their numbers in the gallery.
        labels: (B,) int64, indices into the gallery's class names; -1 for no class.
        notes: other measurements of each image, (B, ...), which are stored with its features.
    """

    pixels: Tensor
    indices: Tensor
    labels: Tensor
    notes: Mapping[str, Tensor] = {}


class Gallery(Protocol):
    """Images of one size, read by number.

    ``made_from`` records everything that the images depend on, as JSON values, so that features of different galleries
    are never mixed. Files are recorded by their `stamp` under `FILES`. Their locations under `PLACES` are only for
    information.
    """

    @property
    def name(self) -> str:
        """The name of the gallery in messages."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes; empty if unknown."""
        ...

    @property
    def made_from(self) -> Mapping[str, Any]: ...

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> ImageBatch:
        """Read the images with these numbers. Images that cannot be read are skipped."""
        ...


class ImageFolder:
    """All image files below a folder. If all of them are in sub-folders, the sub-folders are the classes.

    ``skipped`` names the files and folders that are not used; see `nextscale.imaging.image_files`.

    Raises:
        InputError: the folder does not exist, has no images, or has images of different sizes or unreadable images.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: expected a folder of images, or an .npz file")
        self.name = str(folder)
        skipped = Skipped(folder)
        self.paths = images_below(folder, skipped, folder.resolve().parents)
        self.skipped = skipped.notes()
        if not self.paths:
            expected = f"no images in {folder}: expected files ending with {', '.join(sorted(ENDINGS))}"
            raise InputError("; ".join([expected, *self.skipped]))
        self.size = read_size(self.paths[0])
        for path in self.paths:
            self._check(path, read_size(path))
        parts = [path.relative_to(folder).parts for path in self.paths]
        grouped = all(len(part) > 1 for part in parts)
        names = [readable_name(part[0]) for part in parts] if grouped else []
        self.class_names = sorted(set(names))
        numbers = {name: i for i, name in enumerate(self.class_names)}
        self.labels = [numbers[name] for name in names] if grouped else [-1] * len(self.paths)
        self.made_from = {
            "images": str(folder.resolve()),
            FILES: stamp(self.paths),
            "count": len(self.paths),
            "size": list(self.size),
        }

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> ImageBatch:
        pixels = []
        for i in indices:
            image = read_image(self.paths[i])
            self._check(self.paths[i], (image.height, image.width))
            pixels.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        labels = torch.tensor([self.labels[i] for i in indices])
        return ImageBatch(torch.stack(pixels), torch.tensor(list(indices)), labels)

    def _check(self, path: Path, size: tuple[int, int]) -> None:
        if size != self.size:
            raise InputError(
                f"{path} has {sides(size)}, but {self.paths[0]} has {sides(self.size)}: expected images of one size"
            )


class ImageFile:
    """The images of an .npz file: images in ``arr_0``, optional labels in ``arr_1``, and their ``class_names``.

    Raises:
        InputError: the file does not exist, is damaged, or has no images.
    """

    class_names = ()

    def __init__(self, path: Path):
        self.name = str(path)
        self._array = ImageArray(path)
        self.size = (self._array.shape[1], self._array.shape[2])
        self._labels = np.full(len(self), -1)
        headers = read_headers(path)
        header = headers.get(LABELS)
        if header and header.dtype.kind in "iu" and header.shape == (len(self),):
            self._labels = read_array(path, LABELS).astype(np.int64)
            low, high = int(self._labels.min()), int(self._labels.max())
            if low < -1 or high >= LARGEST_TABLE:
                raise InputError(f"{LABELS} in {path} has classes {low} to {high}, expected 0 to {LARGEST_TABLE - 1}")
            names = read_names(path) if CLASS_NAMES in headers else []
            self.class_names = tuple(names) or tuple(str(i) for i in range(int(self._labels.max()) + 1))
            if self._labels.max() >= len(self.class_names):
                raise InputError(f"{LABELS} in {path} has a class {self._labels.max()}, but {CLASS_NAMES} {len(names)}")
        self.made_from = {"images": str(path.resolve()), FILES: stamp([path]), "count": len(self)}

    def __len__(self) -> int:
        return self._array.shape[0]

    def read(self, indices: Sequence[int]) -> ImageBatch:
        index = torch.tensor(list(indices))
        if len(index) and bool((index.diff() == 1).all()):
            pixels = self._array.read(int(index[0]), len(index))
        else:
            pixels = torch.cat([self._array.read(i, 1) for i in indices])
        return ImageBatch(pixels, index, torch.from_numpy(self._labels)[index])


def read_names(path: Path) -> list[str]:
    """Read the names of the classes in an .npz file."""
    names = read_array(path, CLASS_NAMES)
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(f"{CLASS_NAMES} in {path} is {names.dtype} of shape {names.shape}, expected a list of texts")
    return names.tolist()


class ImageTensor:
    """Images in memory.

    Args:
        pixels: uint8 (N, 3, H, W), a tensor or a NumPy array.
        name: name in messages.

    Raises:
        InputError: the images have another type or shape.
    """

    class_names = ()

    def __init__(self, pixels: Tensor | np.ndarray, name: str = "the images"):
        self.pixels = torch.as_tensor(pixels)
        check_images(self.pixels)
        self.name = name
        self.size = (self.pixels.shape[2], self.pixels.shape[3])
        self.made_from = {"content": tensors_fingerprint([self.pixels]), "count": len(self.pixels)}

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: Sequence[int]) -> ImageBatch:
        index = torch.tensor(list(indices))
        return ImageBatch(self.pixels[index.to(self.pixels.device)], index, torch.full((len(index),), -1))


def open_images(place: Path) -> Gallery:
    """Open a folder of images, or an .npz file with images."""
    return ImageFile(place) if place.suffix.lower() == ".npz" else ImageFolder(place)


def read_size(path: Path) -> tuple[int, int]:
    """Return (H, W) of an image file without decoding it."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # Pillow raises errors of many types for broken files
        raise InputError(f"cannot read {path} as an image ({error or type(error).__name__})") from error
