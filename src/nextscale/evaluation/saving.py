"""Save sampled images as PNG files, or as one array for the ADM evaluator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nextscale.evaluation.npz import write_images
from nextscale.imaging.images import save_image, to_pil
from nextscale.io.tensor_files import read_tensors, write_tensors

LONGEST_NAME = 255
"""Most bytes of a file name on common file systems."""


class Saver(Protocol):
    """Saves images shard by shard, in any order. A shard may be saved more than once."""

    def has(self, indices: Sequence[int]) -> bool:
        """Return whether these images are already saved."""
        ...

    def save(self, indices: Sequence[int], pixels: Tensor) -> None:
        """Save uint8 images (n, 3, H, W)."""
        ...

    def finish(self) -> None:
        """Finish the output. Called after all images are saved."""
        ...


class PngSaver:
    """Save images as ``FOLDER/CLASS/000123.png``, or ``FOLDER/000123.png`` without classes.

    Args:
        labels: the class of each image.
    """

    def __init__(self, folder: Path, labels: Sequence[int], class_names: Sequence[str]):
        self.folder, self.labels = folder, labels
        self.names = [folder_name(name, i) for i, name in enumerate(class_names)]

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.folder.joinpath(*self.names[slice((k := self.labels[index]), k + 1)], f"{index:06d}.png")

    def has(self, indices: Sequence[int]) -> bool:
        return all(self.path(i).is_file() for i in indices)

    def save(self, indices: Sequence[int], pixels: Tensor) -> None:
        for i, image in zip(indices, to_pil(pixels), strict=True):
            save_image(image, self.path(i))

    def finish(self) -> None:
        """Do nothing: every image already has its file."""


def folder_name(name: str, number: int) -> str:
    """Return the name of the folder of a class: its name, if it can be one, else its number."""
    name = name.replace("/", "_")
    unusable = name in ("", ".", "..") or "\0" in name or len(os.fsencode(name)) > LONGEST_NAME
    return f"class-{number}" if unusable else name


class NpzSaver:
    """Save images to an .npz file: images in ``arr_0``, labels in ``arr_1``, names of the classes in ``class_names``.

    The images are kept in a temporary folder next to the file until all of them are saved.

    Args:
        shape: (N, H, W).
        labels: the class of each image.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], labels: Sequence[int], class_names: Sequence[str] = ()):
        self.path, self.shape, self.labels, self.class_names = path, shape, labels, class_names
        self.parts = path.with_suffix("")

    def _part(self, first: int) -> Path:
        return self.parts / f"images-{first:08d}.safetensors"

    def has(self, indices: Sequence[int]) -> bool:
        return self.path.is_file() or self._part(indices[0]).is_file()

    def save(self, indices: Sequence[int], pixels: Tensor) -> None:
        write_tensors(self._part(indices[0]), {"pixels": pixels})

    def finish(self) -> None:
        """Write the array, and delete the temporary folder."""
        if self.path.is_file():
            return
        parts = sorted(self.parts.glob("images-*.safetensors"))
        pixels = (read_tensors(path)["pixels"] for path in parts)
        write_images(self.path, pixels, self.shape, torch.tensor(list(self.labels)), self.class_names)
        for path in parts:
            path.unlink()
        self.parts.rmdir()
