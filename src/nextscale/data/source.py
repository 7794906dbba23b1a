"""The interface of data sets, and data sets of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from nextscale.imaging.images import read_image
from nextscale.io.fingerprint import stamp


class ClassSource(Protocol):
    """A data set with class names."""

    @property
    def root(self) -> Path | str:
        """The name of the data set in messages."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]: ...


class ImageSource(ClassSource, Protocol):
    """Images with labels. Must be picklable, because each loading process gets a copy."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image, an index into ``class_names``."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the name of an image for messages."""
        ...

    def stamp(self) -> str:
        """Return digits that change when the files change; see `nextscale.io.fingerprint.stamp`."""
        ...

    def read(self, index: int) -> Image.Image:
        """Read an image as `read_image` does.

        Raises:
            InputError: the image cannot be read. The message names it.
        """
        ...


Splits = tuple[ImageSource, ImageSource | None]
"""Training images, and validation images or None."""


@dataclass(frozen=True)
class ImageFiles:
    """Images in separate files."""

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
