"""What one WebDataset shard holds: where its images lie, and their labels.

A sample is the files with one key: ``KEY.jpg`` beside its label in ``KEY.cls`` or ``KEY.json``. The key is a name up to
the first dot behind the last slash, as in the webdataset package.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nextscale.errors import InputError

IMAGES = ("jpg", "jpeg", "png", "webp")
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


def index_shard(shard: Path) -> list[Sample]:
    """Return the samples of a shard in order. Files without an ending, and hidden files, belong to no sample.

    Raises:
        InputError: no whole, uncompressed .tar file, a sample without an image or with two, or a broken label.
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
        return [Sample(key, find_image(shard, key, files), read_label(file, files)) for key, files in samples.items()]


def list_members(shard: Path) -> list[Member]:
    """Return the files in a shard, without links and folders.

    Raises:
        InputError: it cannot be read, is compressed, or ends too early.
    """
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [Member(shard, info.name, info.offset_data, info.size) for info in tar if info.isreg()]
            file.seek(tar.offset)  # where reading stopped: tarfile does not say why
            whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except OSError as error:
        raise InputError(f"cannot read {shard}: {error.strerror or error}") from error
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"{shard} is not a whole, uncompressed .tar file ({error})") from error
    if not whole:
        raise InputError(f"{shard} is not a whole .tar file: what follows the first {len(members)} files is damaged")
    return members


def split_name(name: str) -> tuple[str, str]:
    """``photos/a.seg.PNG`` -> (``photos/a``, ``seg.png``). The key is empty for a file without a sample."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return (folder + slash + stem if stem and dot else "", ending.lower())


def find_image(shard: Path, key: str, files: dict[str, Member]) -> Member:
    """Return the image of a sample, which must be the only one."""
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
        label = text if "cls" in files else label_in_json(json.loads(text))
    except ValueError as error:
        raise InputError(f"cannot read {member} ({error})") from error
    if not isinstance(label, str | int | None):
        raise InputError(f"the label in {member} is {label!r}: expected a number or a name")
    return None if label is None else str(label).strip() or None


def label_in_json(content: object) -> object:
    """Return the value of the first of `JSON_LABELS` that is present."""
    found = [content[name] for name in JSON_LABELS if name in content] if isinstance(content, dict) else []
    return found[0] if found else None
