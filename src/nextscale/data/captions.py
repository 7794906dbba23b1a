"""Captions: texts that describe the images of a data set.

A data set has captions if its reader finds them beside the images: see `nextscale.data.splits.find_sources`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from PIL import Image

from nextscale.data.long_caption import LongAndShort
from nextscale.data.source import ImageSource
from nextscale.errors import InputError, brief
from nextscale.imaging.image_files import readable_name

COLUMN = re.compile(r"(caption|text|prompt|description)s?([ _-]?\d+)?", re.IGNORECASE)
"""Names of columns and JSON fields that hold captions, such as ``caption``, ``texts`` and ``caption_2``."""
NAMES = "caption, text, prompt or description"
"""The names of `COLUMN` in messages. An ``s`` or a number may follow."""


class CaptionedSource(ImageSource, Protocol):
    """Images with captions."""

    def captions(self, index: int) -> Sequence[str]:
        """Return all captions of an image, none if it has none.

        Raises:
            InputError: they cannot be read.
        """
        ...


class Texts(Protocol):
    """The captions of the images of a data set. Must be picklable."""

    def captions(self, index: int, /) -> Sequence[str]:
        """See `CaptionedSource`."""
        ...


@dataclass(frozen=True)
class StoredTexts:
    """Captions in memory."""

    texts: tuple[tuple[str, ...], ...]

    def captions(self, index: int) -> Sequence[str]:
        return self.texts[index]


@dataclass(frozen=True)
class TextFiles:
    """Captions in files: the whole file is one caption. A missing or empty file has none."""

    paths: tuple[Path, ...]

    def captions(self, index: int) -> Sequence[str]:
        path = self.paths[index]
        try:
            return tidy(path.read_bytes().decode("utf-8-sig"))
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the caption {path} ({error})") from error


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """The images of a data set with their captions."""

    source: ImageSource
    texts: Texts

    @property
    def root(self) -> Path | str:
        return self.source.root

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    @property
    def labels(self) -> Sequence[int]:
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def key(self, index: int) -> str:
        return self.source.key(index)

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        return self.source.stamp(chosen)

    def read(self, index: int) -> Image.Image:
        return self.source.read(index)

    def ratio(self, index: int) -> float:
        return self.source.ratio(index)

    def captions(self, index: int) -> Sequence[str]:
        return self.texts.captions(index)


def captioned(source: ImageSource) -> CaptionedSource:
    """Return a source that has captions.

    Raises:
        InputError: it has none.
    """
    if not hasattr(source, "captions"):
        raise InputError(f"{source.root} has no captions")
    return cast(CaptionedSource, source)


def caption_of(source: CaptionedSource, index: int, key: tuple[int, int, int]) -> str:
    """Return the caption of an image for the example of (seed, epoch, index), on which alone the choice depends.

    Raises:
        InputError: the image has no caption, or it cannot be read.
    """
    captions = source.captions(index)
    if not captions:
        raise InputError(f"{source.name(index)} has no caption")
    return pick(captions, key)


def all_captions(source: ImageSource) -> list[str]:
    """Return the captions of all images, without those that cannot be read; see `captioned`."""
    found: list[str] = []
    for i in range(len(source)):
        with suppress(InputError):  # named when training comes to the image
            found += captioned(source).captions(i)
    return found


def pick(captions: Sequence[str], key: tuple[int, int, int]) -> str:
    """Return one of the captions of an image. All are equally likely, except for `LongAndShort`."""
    rng = np.random.default_rng((*key, 1))  # the crop uses the generator without the 1
    return captions.pick(rng) if isinstance(captions, LongAndShort) else captions[int(rng.integers(len(captions)))]


def caption_columns(names: Iterable[str]) -> list[str]:
    """Return the names of columns or fields that hold captions, in their order."""
    return [name for name in names if COLUMN.fullmatch(name)]


def captions_in(record: Mapping[str, object], what: str) -> tuple[str, ...]:
    """Return the captions in the fields of a record: texts, or lists of texts. Other fields are ignored.

    Args:
        what: name of the record in messages.

    Raises:
        InputError: a field holds something else.
    """
    found: list[str] = []
    for name in caption_columns(record):
        value = record[name]
        texts = [] if value is None else value if isinstance(value, list | tuple) else [value]
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{name} of {what} is {brief(value)}: expected a text or a list of texts")
            if readable_name(text) != text:
                raise InputError(f"{name} of {what} is not UTF-8: {readable_name(text)!r}")
            found += tidy(text)
    return tuple(found)


def tidy(text: str) -> tuple[str, ...]:
    """Return a caption with single spaces instead of line breaks and other white space. An empty text is no caption."""
    words = text.split()
    return (" ".join(words),) if words else ()
