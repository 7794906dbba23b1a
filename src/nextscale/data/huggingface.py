"""Hugging Face data sets, from the hub or from a folder that ``save_to_disk`` wrote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from nextscale.data.captions import NAMES, CaptionedImages, caption_columns, captions_in
from nextscale.data.names import list_names, number_labels, pick_splits, sort_classes
from nextscale.data.source import ImageSource, Splits
from nextscale.errors import InputError
from nextscale.imaging.images import read_image, read_ratio
from nextscale.io.fingerprint import stamp, stamp_of_some
from nextscale.runtime.extras import needed
from nextscale.runtime.progress import is_terminal

PREFIX = "hf:"
IMAGE, LABEL = ("image", "img"), ("label", "labels", "fine_label")
"""Accepted column names, used if the column types are ambiguous."""
ONLY_CLASS = "images"
"""Class of the images of a data set with captions and without labels."""
SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True, eq=False)
class HuggingFaceImages:
    """Images in a ``datasets.Dataset`` with decoding disabled."""

    root: str
    rows: Any
    column: str
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"image {index} of {self.root}"

    def key(self, index: int) -> str:
        return str(index)

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        whole = stamp(file["filename"] for file in self.rows.cache_files)
        return whole if chosen is None else stamp_of_some(whole, map(self.key, chosen))

    def read(self, index: int) -> Image.Image:
        return read_image(*self._file(index))

    def ratio(self, index: int) -> float:
        return read_ratio(*self._file(index))

    def _file(self, index: int) -> tuple[BytesIO | str, str]:
        """Return the content or the path of a file, and its name for messages."""
        content = self.rows[index][self.column] or {}
        if content.get("bytes") is not None:
            return BytesIO(content["bytes"]), self.name(index)
        if content.get("path"):
            return content["path"], content["path"]
        raise InputError(f"{self.name(index)} is missing")


@dataclass(frozen=True, eq=False)
class HuggingFaceTexts:
    """Captions in the columns of a ``datasets.Dataset``: texts, or lists of texts."""

    root: str
    rows: Any

    def captions(self, index: int) -> Sequence[str]:
        return captions_in(self.rows[index], f"image {index} of {self.root}")


def huggingface_splits(data: str, captions: bool = False) -> Splits:
    """Open the images of ``hf:owner/name`` or ``hf:folder``.

    Args:
        captions: open the captions, too.

    Raises:
        InputError: the package ``datasets`` cannot be imported, or the data set is missing, or it lacks a split, images
            or labels, or the captions that are wanted.
    """
    splits = load(data)
    train, val = pick_splits(splits)
    if not train:
        raise InputError(f"{data} has splits {list_names(list(splits))}: expected one called train")
    source = open_split(f"{data} ({train})", splits[train], None, captions)
    return source, open_split(f"{data} ({val})", splits[val], source.class_names, captions) if val else None


def load(data: str) -> dict[str, Any]:
    """Return the splits of a data set. A data set without splits becomes the training split."""
    with needed("datasets", "hf"):
        from datasets import load_dataset, load_from_disk
        from datasets.utils import disable_progress_bars
    if not is_terminal() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ:
        disable_progress_bars()
    place = data.removeprefix(PREFIX)
    if not place:
        raise InputError(f"no name after {PREFIX}: expected {PREFIX}owner/name or {PREFIX}folder")
    try:
        saved = any((Path(place) / name).is_file() for name in SAVED)
        content = load_from_disk(place) if saved else load_dataset(place)
    except Exception as error:  # no network, no such data set, a damaged file, several configurations
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"cannot load {data} ({type(error).__name__}: {reason})") from error
    return {str(name): rows for name, rows in content.items()} if isinstance(content, dict) else {"train": content}


def open_split(root: str, rows: Any, class_names: tuple[str, ...] | None, captions: bool) -> ImageSource:
    """Open the images of one split. With captions and without labels they form one class, named ``images``.

    Args:
        class_names: classes of the training split; other classes are an error.
        captions: open the captions, too.

    Raises:
        InputError: there are no images, a column is missing (images, labels if there are no captions, captions if they
            are wanted), an image has no label, or a class is unknown.
    """
    import datasets

    if not len(rows):
        raise InputError(f"no images in {root}")
    rows = rows.with_format(None)
    image = find_column(root, rows.features, datasets.Image, IMAGE, "images")
    described = caption_columns(name for name in rows.features if name != image)
    if captions and not described:
        raise InputError(f"{root} has no column of captions ({NAMES}) among {list_names(list(rows.features))}")
    if described and not find_columns(rows.features, datasets.ClassLabel, LABEL):
        labels, known = [ONLY_CLASS] * len(rows), (ONLY_CLASS,)
    else:
        label = find_column(root, rows.features, datasets.ClassLabel, LABEL, "labels")
        labels, known = read_labels(root, rows, label)
    names = class_names or known
    texts = HuggingFaceTexts(root, rows.select_columns(described)) if captions else None
    try:
        rows = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    except Exception as error:
        raise InputError(f"column {image!r} of {root} does not hold images ({type(error).__name__})") from error
    images = HuggingFaceImages(root, rows, image, number_labels(labels, names, root), names)
    return CaptionedImages(images, texts) if texts else images


def find_column(root: str, features: dict[str, Any], kind: type, names: Sequence[str], what: str) -> str:
    """Return the only column of a type, or else the first column with one of these names.

    Raises:
        InputError: there is no such column.
    """
    found = find_columns(features, kind, names)
    if not found:
        raise InputError(
            f"{root} has no column of {what} among {list_names(list(features))}: "
            f"expected one of type {kind.__name__}, or called {' or '.join(names)}"
        )
    return found[0]


def find_columns(features: dict[str, Any], kind: type, names: Sequence[str]) -> list[str]:
    """Return the only column of a type, or else the columns with these names; see `find_column`."""
    typed = [name for name, feature in features.items() if isinstance(feature, kind)]
    return typed if len(typed) == 1 else [name for name in names if name in (typed or features)]


def read_labels(root: str, rows: Any, column: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the label of each image as text, and the class names in the order of ``ClassLabel``, or else sorted.

    Raises:
        InputError: an image has no label, or its label is neither a number nor a name.
    """
    names = getattr(rows.features[column], "names", None)
    labels = []
    for i, value in enumerate(rows[column][:]):
        if value is None or (names and value == -1):
            raise InputError(f"image {i} of {root} has no label")
        if not isinstance(value, int | str):
            raise InputError(f"the label of image {i} of {root} is {value!r}: expected a number or a name")
        labels.append(names[value] if names else str(value))
    present = set(labels)
    return labels, tuple(name for name in names if name in present) if names else sort_classes(labels)
