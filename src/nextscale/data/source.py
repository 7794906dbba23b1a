"""The interface of data sets, and data sets of image files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from nextscale.imaging.images import read_image, read_ratio
from nextscale.io.fingerprint import stamp


class ClassSource(Protocol):
    """A data set with class names."""

    @property
    def root(self) -> Path | str:
        """The name of the data set in messages."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the log: files that are skipped, images that are held out."""
        ...


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

    def key(self, index: int) -> str:
        """Return a name of an image that does not depend on the other images, nor on the place of the data set."""
        ...

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        """Return digits that change when the files change; see `nextscale.io.fingerprint.stamp`.

        Args:
            chosen: numbers of some images. Other choices give other digits. None stands for all images.
        """
        ...

    def read(self, index: int) -> Image.Image:
        """Read an image as `read_image` does.

        Raises:
            InputError: the image cannot be read. The message names it.
        """
        ...

    def ratio(self, index: int) -> float:
        """Return height / width of an image, without decoding it; see `read_ratio`.

        Raises:
            InputError: as for `read`.
        """
        ...


Splits = tuple[ImageSource, ImageSource | None]
"""Training images, and validation images or None."""


@dataclass(frozen=True)
class ImageFiles:
    """Images in separate files. ``folder`` is the folder that the data set consists of, or that names its files."""

    root: Path | str
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def key(self, index: int) -> str:
        return str(self.paths[index]).removeprefix(f"{self.folder}{os.sep}").replace(os.sep, "/")

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        return stamp(self.paths if chosen is None else [self.paths[i] for i in chosen])

    def read(self, index: int) -> Image.Image:
        return read_image(self.paths[index])

    def ratio(self, index: int) -> float:
        return read_ratio(self.paths[index])
