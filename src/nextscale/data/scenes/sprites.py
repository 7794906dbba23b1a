"""The emoji sprites that scenes are composed of, read from a folder or from a .tar archive of it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nextscale.data.scenes.objects import OBJECTS, STYLES, THINGS
from nextscale.data.scenes.scene import Inventory
from nextscale.errors import InputError
from nextscale.imaging.images import read_as_stored

INDEX = "sprites.jsonl"
"""A line for each sprite: ``file``, ``name`` (CLDR) and ``style``."""

FAINT = 24
"""Opacity, of 255, up to which the edge of a sprite is cut off."""


@dataclass(frozen=True, eq=False)
class Sprites:
    """The sprites of all things that scenes can show.

    Attributes:
        root: the folder or archive.
        files: encoded images by name of the thing and style.
    """

    root: str
    files: Mapping[tuple[str, str], bytes]
    _images: dict[tuple[str, str], Image.Image] = field(default_factory=dict)
    _sized: dict[tuple[str, str, int], np.ndarray] = field(default_factory=dict)

    def inventory(self, reserved: bool = False) -> Inventory:
        """Return the things that have a sprite, with their styles; see `Inventory.of`."""
        return Inventory.of(lambda name, style: (name, style) in self.files, reserved)

    def sized(self, name: str, style: str, size: int) -> np.ndarray:
        """Return a sprite whose longer side has ``size`` pixels: (h, w, 4) int32, colours premultiplied with alpha.

        It is cut to its visible part first. Results are kept in memory.

        Raises:
            InputError: there is no such sprite, or its file is damaged.
        """
        key = (name, style, size)
        if key not in self._sized:
            self._sized[key] = resize(self.image(name, style), size)
        return self._sized[key]

    def image(self, name: str, style: str) -> Image.Image:
        """Return the visible part of a sprite, RGBA."""
        if (name, style) not in self.files:
            raise InputError(f"{self.root} has no sprite of {name!r} in the style {style!r}")
        if (name, style) not in self._images:
            image = read_as_stored(BytesIO(self.files[name, style]), f"{name} in {self.root}").convert("RGBA")
            visible = image.getchannel("A").point([255 * (alpha > FAINT) for alpha in range(256)])
            self._images[name, style] = image.crop(visible.getbbox())
        return self._images[name, style]


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Resize an image so that its longer side has ``size`` pixels: (h, w, 4) int32, premultiplied with alpha."""
    scale = size / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    pixels = np.asarray(image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS), dtype=np.int32)
    return np.minimum(pixels, pixels[..., 3:])


def open_sprites(path: str | Path) -> Sprites:
    """Open the sprites in a folder or an archive (.tar, .tar.xz, .tar.gz).

    Raises:
        InputError: there is no `INDEX`, it is invalid, or it names none of the objects.
    """
    root = Path(path)
    read = dict(read_folder(root) if root.is_dir() else read_archive(root))
    rows = [parse(line, number, root) for number, line in enumerate(read.pop(INDEX, b"").splitlines(), 1)]
    things = {thing.sprite: name for name, thing in THINGS.items()}
    files = {
        (things[row["name"]], row["style"]): read[row["file"]]
        for row in rows
        if row["name"] in things and row["style"] in STYLES and row["file"] in read
    }
    if not any(name in OBJECTS for name, _ in files):
        raise InputError(f"{root} has no sprites: expected {INDEX}, and files that it names, such as 3d/1f436.webp")
    return Sprites(str(path), files)


def parse(line: bytes, number: int, root: Path) -> dict[str, Any]:
    """Return a line of the index as a dict."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"line {number} of {INDEX} in {root} is not JSON ({error})") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("file", "name", "style")):
        raise InputError(f"line {number} of {INDEX} in {root} must have file, name and style")
    return row


def read_folder(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files of a folder, or of the sub-folder that holds the index."""
    index = next(iter([*root.glob(INDEX), *sorted(root.glob(f"*/{INDEX}"))]), None)
    for path in sorted(index.parent.rglob("*") if index else ()):
        if path.is_file():
            yield path.relative_to(index.parent).as_posix() if index else "", path.read_bytes()


def read_archive(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files of an archive, relative to the folder that holds the index."""
    try:
        with tarfile.open(root) as archive:
            files = {member.name: file.read() for member in archive if (file := archive.extractfile(member))}
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(f"cannot read {root} as a folder or .tar archive of sprites ({error})") from error
    index = next((name for name in files if name.rpartition("/")[2] == INDEX), INDEX)
    folder = index.removesuffix(INDEX)
    return ((name.removeprefix(folder), content) for name, content in files.items() if name.startswith(folder))
