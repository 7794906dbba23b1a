"""Where images come from: what every kind of data set offers, and the kind whose images are files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from nextscale.imaging.images import read_image
from nextscale.io.fingerprint import stamp


class ClassSource(Protocol):
    """What a run says of its data."""

    @property
    def root(self) -> Path | str:
        """What messages call the whole."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]: ...


class ImageSource(ClassSource, Protocol):
    """Which images there are, of what class, and how to read one; pickled for each process that loads."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image, a place in ``class_names``."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What messages call an image."""
        ...

    def stamp(self) -> str:
        """Other digits as soon as the files are others; see `nextscale.io.fingerprint.stamp`."""
        ...

    def read(self, index: int) -> Image.Image:
        """An image as `read_image` gives it.

        Raises:
            InputError: it cannot be read; the sentence names it.
        """
        ...


Splits = tuple[ImageSource, ImageSource | None]
"""(training images, validation images or None)."""


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files of their own."""

    root: Path | str
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def stamp(self) -> str:
        return stamp(self.paths)

    def read(self, index: int) -> Image.Image:
        return read_image(self.paths[index])
