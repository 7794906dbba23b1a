"""WebDataset shards: images and labels in .tar files.

Shards are indexed once, and each image is read from its position in the file. Images can therefore be read in any
order, which batches need because they depend on (seed, step) only.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from nextscale.data.captions import CaptionedImages, captions_in, tidy
from nextscale.data.names import TRAIN_NAMES, VAL_NAMES, list_names, number_labels, pick_splits, sort_classes
from nextscale.data.samples import Member, index_shard, split_name
from nextscale.data.source import ImageSource, Splits
from nextscale.errors import InputError
from nextscale.imaging.image_files import is_hidden
from nextscale.imaging.images import read_image, read_ratio
from nextscale.io.fingerprint import stamp, stamp_of_some
from nextscale.io.json_text import parse_json

SHARDS = re.compile(r"\.(tar(\.\w+)?|tgz)$", re.IGNORECASE)
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class ShardedImages:
    """Images in .tar files."""

    root: str
    members: tuple[Member, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return str(self.members[index])

    def key(self, index: int) -> str:
        shard, name, *_ = self.members[index]
        return f"{shard.name}/{split_name(name)[0]}"

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        if chosen is None:
            return stamp(dict.fromkeys(member.shard for member in self.members))
        return stamp_of_some(stamp(dict.fromkeys(self.members[i].shard for i in chosen)), map(self.key, chosen))

    def read(self, index: int) -> Image.Image:
        return read_image(self._content(index), self.name(index))

    def ratio(self, index: int) -> float:
        return read_ratio(self._content(index), self.name(index))

    def _content(self, index: int) -> BytesIO:
        """Read a file. Opens the shard each time, because processes that share an open file share its position."""
        member = self.members[index]
        try:
            with member.shard.open("rb") as file:
                return BytesIO(member.read(file))
        except OSError as error:
            raise InputError(f"cannot read {member}: {error.strerror}") from error


@dataclass(frozen=True)
class ShardedTexts:
    """Captions in .tar files: a .txt is one caption, and a .json has them in its fields."""

    members: tuple[Member | None, ...]

    def captions(self, index: int) -> Sequence[str]:
        member = self.members[index]
        if member is None:
            return ()
        try:
            with member.shard.open("rb") as file:
                text = member.read(file).decode("utf-8-sig")
            if not member.name.lower().endswith(".json"):
                return tidy(text)
            content = parse_json(text)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the caption {member} ({error})") from error
        return captions_in(content, str(member)) if isinstance(content, dict) else ()


def is_shards(data: str) -> bool:
    """Return whether ``data`` names .tar files or a folder of them."""
    if Path(data).is_dir():
        return bool(find_shards(data)[0])
    return SHARDS.search(data) is not None


def shard_splits(data: str, captions: bool = False) -> Splits:
    """Open the images of ``train-{000..012}.tar``, ``*.tar`` or a folder of shards; see `find_shards`.

    Args:
        captions: open the captions, too.

    Raises:
        InputError: a shard is missing or damaged, there are no images or captions, or a class is not in training.
    """
    train, val = find_shards(data)
    source = open_shards(data, train, captions=captions)
    return source, open_shards(f"{data} (val)", val, source.class_names, captions) if val else None


def find_shards(data: str) -> tuple[list[Path], list[Path]]:
    """Return the training shards and the validation shards.

    In a folder, they are the shards in ``train/`` and ``val/``. Without these sub-folders, and for a pattern, shards
    are divided by the word train or val in their names, if both words occur.
    """
    root = Path(data)
    if not root.is_dir():
        return part(list(expand(data)))
    folders = {path.name: path for path in root.iterdir() if not is_hidden(path.name) and path.is_dir()}
    train, val = (folders[name] if name else None for name in pick_splits(folders))
    if not train or not shards_in(train):
        return part(shards_in(root))
    if val and not shards_in(val):
        raise InputError(f"{train} holds .tar files, but {val} does not: expected both, or no folder {val.name}")
    return shards_in(train), shards_in(val) if val else []


def shards_in(folder: Path) -> list[Path]:
    """Return the .tar files in a folder, or none if it has sub-folders, which then contain the images."""
    paths = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    return [] if any(path.is_dir() for path in paths) else [path for path in paths if path.suffix.lower() == ".tar"]


def part(shards: list[Path]) -> tuple[list[Path], list[Path]]:
    """Split shards by train and val in their names. All are training shards if one of the words is missing."""
    parts: dict[str, list[Path]] = {}
    for shard in shards:
        words = re.split(r"[-_.]", shard.stem.casefold())
        parts.setdefault(next((word for word in words if word in TRAIN_NAMES + VAL_NAMES), ""), []).append(shard)
    train, val = pick_splits(parts)
    return (parts[train], parts[val]) if train and val else (shards, [])


def expand(pattern: str) -> Iterator[Path]:
    """Return the shards that match a pattern.

    Raises:
        InputError: there are no shards, a shard of a range is missing, or a shard is compressed.
    """
    if not any(expand_ranges(pattern)):
        raise InputError(f"{pattern} matches no shard: expected the smaller number of the range first")
    for name in expand_ranges(pattern):
        paths = [Path(name)] if Path(name).exists() else sorted(map(Path, glob.glob(name)))
        if not paths:
            raise InputError(f"no shard {name}" if name == pattern else f"no shard {name}, which {pattern} names")
        for path in paths:
            if path.suffix.lower() != ".tar":
                raise InputError(f"{path} is compressed: expected a plain .tar, whose images can be read in any order")
            yield path


def expand_ranges(pattern: str) -> Iterator[str]:
    """Expand ranges of numbers: ``a-{08..10}`` -> ``a-08``, ``a-09``, ``a-10``."""
    if not (found := RANGE.search(pattern)):
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        for rest in expand_ranges(pattern[found.end() :]):
            yield f"{pattern[: found.start()]}{number:0{len(first)}d}{rest}"


def open_shards(
    root: str, shards: Sequence[Path], class_names: tuple[str, ...] | None = None, captions: bool = False
) -> ImageSource:
    """Open the images of some shards. Without labels they form one class, named after their folder.

    Args:
        class_names: classes of the training split; other classes are an error.
        captions: open the captions, too.

    Raises:
        InputError: a shard is damaged, there are no images or captions, only some images have a label, or a class is
            unknown.
    """
    samples = [sample for shard in shards for sample in index_shard(shard)]
    if not samples:
        raise InputError(f"no images in {root}: expected files such as KEY.jpg and KEY.cls in its shards")
    labels = [sample.label for sample in samples if sample.label is not None]
    if not labels:
        names = class_names or (shards[0].parent.resolve().name,)
        if len(names) > 1:
            raise InputError(f"{root} has no labels, but training has {list_names(names)}")
        labels = [*names] * len(samples)
    elif len(labels) < len(samples):
        key, image, *_ = next(sample for sample in samples if sample.label is None)
        raise InputError(f"sample {key} in {image.shard} has no label: expected {key}.cls, or a label in {key}.json")
    else:
        names = class_names or sort_classes(labels)
    members = tuple(sample.image for sample in samples)
    images = ShardedImages(root, members, number_labels(labels, names, root), names)
    if not captions:
        return images
    if not any(sample.caption for sample in samples):
        raise InputError(f"no captions in {root}: expected files such as {samples[0].key}.txt in its shards")
    return CaptionedImages(images, ShardedTexts(tuple(sample.caption for sample in samples)))
