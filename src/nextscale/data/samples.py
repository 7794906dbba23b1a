"""The index of a WebDataset shard: positions of its images and captions, and labels.

A sample consists of the files with the same key: ``KEY.jpg`` with its label in ``KEY.cls`` or ``KEY.json``, and its
captions in ``KEY.txt`` or ``KEY.json``. The key is the file name up to the first dot after the last slash, as in the
webdataset package.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nextscale.errors import InputError
from nextscale.imaging.image_files import is_hidden_path
from nextscale.io.json_text import parse_json

IMAGES = ("jpg", "jpeg", "jpe", "jfif", "png", "webp")
JSON_LABELS = ("label", "cls")


class Member(NamedTuple):
    """A file in a shard."""

    shard: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.name} in {self.shard}"

    def read(self, file: BinaryIO) -> bytes:
        """Return the content of the file, read from the open shard."""
        file.seek(self.offset)
        return file.read(self.size)


class Sample(NamedTuple):
    key: str
    image: Member
    label: str | None
    caption: Member | None
    """The file with the captions of the image, if there is one: .txt, or else .json."""


def index_shard(shard: Path) -> list[Sample]:
    """Return the samples of a shard in order. Files without an ending and hidden files are ignored.

    Raises:
        InputError: the shard is not a complete, uncompressed .tar file, a sample does not have exactly one image, or a
            label is invalid.
    """
    samples: dict[str, dict[str, Member]] = {}
    for member in list_members(shard):
        key, ending = split_name(member.name)
        if not key:
            continue
        if ending in samples.setdefault(key, {}):
            raise InputError(f"sample {key} in {shard} has two files .{ending}: expected one")
        samples[key][ending] = member
    with shard.open("rb") as file:
        return [
            Sample(key, find_image(shard, key, files), read_label(file, files), files.get("txt") or files.get("json"))
            for key, files in samples.items()
        ]


def list_members(shard: Path) -> list[Member]:
    """Return the files in a shard, without links and folders.

    Raises:
        InputError: the shard cannot be read, is compressed or truncated.
    """
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [Member(shard, info.name, info.offset_data, info.size) for info in tar if info.isreg()]
            file.seek(tar.offset)  # the position where tarfile stopped
            whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except OSError as error:
        raise InputError(f"cannot read {shard}: {error.strerror or error}") from error
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"{shard} is not a complete, uncompressed .tar file ({error})") from error
    if not whole:
        raise InputError(f"{shard} is not a complete .tar file: it is damaged after the first {len(members)} files")
    return members


def split_name(name: str) -> tuple[str, str]:
    """Split a name into key and ending: ``photos/a.seg.PNG`` -> (``photos/a``, ``seg.png``).

    The key is empty for a file that belongs to no sample, such as a hidden one.
    """
    folder, slash, file = name.rpartition("/")
    if is_hidden_path(name):
        return "", ""
    stem, dot, ending = file.partition(".")
    return (folder + slash + stem if stem and dot else "", ending.lower())


def find_image(shard: Path, key: str, files: dict[str, Member]) -> Member:
    """Return the only image of a sample."""
    images = [ending for ending in IMAGES if ending in files]
    if len(images) != 1:
        found = f"{len(images)} images" if images else "no image"
        raise InputError(f"sample {key} in {shard} has {found} among {', '.join(files)}: expected one, such as jpg")
    return files[images[0]]


def read_label(file: BinaryIO, files: dict[str, Member]) -> str | None:
    """Return the label of a sample as text, or None if it has none."""
    member = files.get("cls") or files.get("json")
    if member is None:
        return None
    try:
        text = member.read(file).decode("utf-8")
        label = text if "cls" in files else label_in_json(parse_json(text))
    except ValueError as error:
        raise InputError(f"cannot read {member} ({error})") from error
    if not isinstance(label, str | int | None):
        raise InputError(f"the label in {member} is {label!r}: expected a number or a name")
    return None if label is None else str(label).strip() or None


def label_in_json(content: object) -> object:
    """Return the value of the first of `JSON_LABELS` that is present."""
    found = [content[name] for name in JSON_LABELS if name in content] if isinstance(content, dict) else []
    return found[0] if found else None
