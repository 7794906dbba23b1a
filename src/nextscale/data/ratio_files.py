"""The folders of the official Infinity code: a file ``{ratio}_{count}.jsonl`` for each aspect ratio.

Each line describes an image: ``image_path`` (relative to the folder), ``h_div_w`` (its height / width),
``long_caption``, ``long_caption_type`` and ``text`` (a short caption). The images form one class, named after the
folder. Captions are read when they are needed; opening reads each line once.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from nextscale.data.long_caption import USER_PROMPT, LongAndShort
from nextscale.data.source import Splits
from nextscale.errors import InputError
from nextscale.imaging.image_files import LISTED, printable, readable_name
from nextscale.imaging.images import read_image
from nextscale.io.fingerprint import stamp
from nextscale.io.json_text import parse_json
from nextscale.scales.aspect import nearest_template

NAME = re.compile(r"(?P<ratio>\d+\.\d{3})_(?P<count>\d+)(_(?P<part>\d{4})_(?P<parts>\d{4})_(?P<lines>\d{9}))?\.jsonl")
"""Names of the files, and of the parts that the official code cuts them into, one for each process."""
PARTS = re.compile(r"\d{4}_parts")
"""Names of folders of parts."""
TOLERANCE = 0.01
"""Largest difference between the ratio of a file and the template of a line."""


class RatioFile(NamedTuple):
    """A file with the images of an aspect ratio."""

    path: Path
    ratio: float
    lines: int
    """Number of lines that the name promises."""


@dataclass
class Lines:
    """The place of each line that is used."""

    paths: list[Path] = field(default_factory=list)
    files: array[int] = field(default_factory=lambda: array("H"))
    """Index of the line's file in ``paths``."""
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    ratios: array[float] = field(default_factory=lambda: array("d"))
    names: bytearray = field(default_factory=bytearray)
    """The paths of all images one after another, in UTF-8."""
    ends: array[int] = field(default_factory=lambda: array("Q", [0]))

    def add(self, offset: int, name: str, ratio: float) -> None:
        """Add a line of the last file."""
        self.files.append(len(self.paths) - 1)
        self.offsets.append(offset)
        self.ratios.append(ratio)
        self.names += name.encode()
        self.ends.append(len(self.names))

    def name(self, index: int) -> str:
        """Return the path of an image, as the line has it."""
        return self.names[self.ends[index] : self.ends[index + 1]].decode()


@dataclass(frozen=True, eq=False)
class RatioFiles:
    """The images and captions of an official folder."""

    root: Path
    lines: Lines
    labels: Sequence[int]
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return (readable_name(self.root.resolve().name),)

    def __len__(self) -> int:
        return len(self.lines.offsets)

    def line(self, index: int) -> dict[str, Any]:
        """Read a line again.

        Raises:
            InputError: the file has changed.
        """
        path = self.lines.paths[self.lines.files[index]]
        try:
            with path.open("rb") as file:
                file.seek(self.lines.offsets[index])
                return parse_line(file.readline())
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path} again ({error})") from error

    def path(self, index: int) -> Path:
        """Return the path of an image. Names in a folder of parts are relative to the folder above it."""
        folder = self.root.parent if PARTS.fullmatch(self.root.name) else self.root
        return folder / self.lines.name(index)

    def name(self, index: int) -> str:
        return str(self.path(index))

    def key(self, index: int) -> str:
        return self.lines.name(index)

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        return stamp(self.path(i) for i in (range(len(self)) if chosen is None else chosen))

    def read(self, index: int) -> Image.Image:
        return read_image(self.path(index))

    def ratio(self, index: int) -> float:
        return self.lines.ratios[index]

    def captions(self, index: int) -> Sequence[str]:
        line = self.line(index)
        kind = line.get("long_caption_type") or USER_PROMPT
        return LongAndShort(line.get("long_caption") or "", line.get("text") or "", kind)


def is_ratio_folder(data: Path) -> bool:
    """Return whether ``data`` is a folder with a file for each aspect ratio."""
    return data.is_dir() and any(NAME.fullmatch(path.name) for path in data.iterdir())


def files_in(folder: Path) -> list[RatioFile]:
    """Return the files of a folder, by ascending ratio."""
    found = []
    for path in folder.iterdir():
        if match := NAME.fullmatch(path.name):
            found.append(RatioFile(path, float(match["ratio"]), int(match["lines"] or match["count"])))
    return sorted(found, key=lambda file: (file.ratio, file.path.name))


def ratio_splits(root: Path) -> Splits:
    """Open the images and captions of an official folder. All are training images.

    Lines that are damaged, or whose template differs from the ratio of their file, are skipped and named in the notes.

    Raises:
        InputError: a file cannot be read, or no line can be used.
    """
    lines, skipped, notes = Lines(), [], []
    for file in files_in(root):
        lines.paths.append(file.path)
        count = 0
        for number, offset, text in numbered(file.path):
            count += 1
            try:
                line = parse_line(text)
                ratio = check_ratio(line, file.ratio)
            except ValueError as error:
                skipped.append(f"{file.path.name} line {number} ({error})")
                continue
            lines.add(offset, line["image_path"], ratio)
        if count != file.lines:
            notes.append(f"{printable(file.path.name)} has {count} lines, but its name says {file.lines}")
    if skipped:
        more = ", ..." if len(skipped) > LISTED else ""
        notes.append(f"{printable(str(root))}: skipped lines ({len(skipped)}): {', '.join(skipped[:LISTED])}{more}")
    if not len(lines.offsets):
        raise InputError("; ".join([f"no images in the .jsonl files of {root}", *notes]))
    return RatioFiles(root, lines, bytes(len(lines.offsets)), tuple(notes)), None


def numbered(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, the position and the content of each line that is not empty."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, offset, text
                offset += len(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def parse_line(text: bytes) -> dict[str, Any]:
    """Return the fields of a line.

    Raises:
        ValueError: it is not JSON, or a field has another type.
    """
    content = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    for name in ("image_path", "long_caption", "text", "long_caption_type"):
        value = content.get(name)
        if not isinstance(value, str) and (value is not None or name == "image_path"):
            raise ValueError(f"{name} is not a text")
        if isinstance(value, str) and readable_name(value) != value:
            raise ValueError(f"{name} is not valid Unicode")
    return content


def check_ratio(line: dict[str, Any], ratio: float) -> float:
    """Return ``h_div_w`` of a line in a file of a ratio.

    Raises:
        ValueError: it is not a positive number, or its template differs from the ratio.
    """
    value = line.get("h_div_w")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"h_div_w is not a positive number: {str(value)[:20]}")
    template = nearest_template(value)
    if abs(template - ratio) > TOLERANCE:
        raise ValueError(f"h_div_w {value:g} belongs to {template:g}")
    return float(value)
