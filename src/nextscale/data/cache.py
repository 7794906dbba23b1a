"""The token cache: one or more views of each image of a data set, encoded as tokens.

``CACHE/cache.json`` records the data set and the settings, ``CACHE/tokenizer/`` contains the tokenizer. Each file
``CACHE/train/tokens-00000.safetensors`` (likewise in ``val/``) covers `IMAGES_IN_SHARD` images, or as many videos as
the index says, and contains the readable ones; see `nextscale.data.cache_shards`. With aspect ratios, there is a folder
for each template, such as ``CACHE/train/0.666/``. ``CACHE/text/`` contains the features of captions; see
`nextscale.conditioning.feature_shards`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from nextscale.data.cache_shards import Shard, TokenFormat, parse_captions, read_shard
from nextscale.data.captions import pick
from nextscale.data.dataset import Example
from nextscale.errors import InputError, brief
from nextscale.io.files import check_begun_with, read_json, write_json
from nextscale.io.renamed import with_current_names
from nextscale.scales.aspect import TEMPLATES

INDEX = "cache.json"
TOKENIZER = "tokenizer"
TEXT = "text"
TRAIN, VAL = "train", "val"
IMAGES_IN_SHARD = 2048


def is_cache(data: str | Path) -> bool:
    """Return whether ``data`` is a token cache."""
    return (Path(data) / INDEX).is_file()


def start_cache(folder: Path, index: dict[str, Any]) -> None:
    """Write the data set and settings of a cache to ``cache.json``.

    Raises:
        InputError: the cache was started with other data or settings.
    """
    if is_cache(folder):
        read_index(folder)
    check_begun_with(folder / INDEX, index, "a cache")
    write_json(folder / INDEX, index)


def read_index(folder: Path) -> dict[str, Any]:
    """Return the content of ``cache.json``.

    Raises:
        InputError: the file was not written by `start_cache`.
    """
    index = with_current_names(read_json(folder / INDEX))
    images = index.get("images") if isinstance(index, dict) else None
    if not isinstance(images, dict) or not all(type(count) is int and count >= 0 for count in images.values()):
        raise InputError(f"{folder / INDEX} is not the index of a token cache")
    return index


def shard_path(folder: Path, part: str, shard: int) -> Path:
    """Return the path of a shard; see `part_name`."""
    return folder / part / f"tokens-{shard:05d}.safetensors"


def shards_of(images: int, size: int = 0) -> list[range]:
    """Return the indices of the images of each shard.

    Args:
        size: number of images in a shard; 0 means `IMAGES_IN_SHARD`.
    """
    size = size or IMAGES_IN_SHARD
    return [range(i, min(i + size, images)) for i in range(0, images, size)]


@dataclass(frozen=True)
class CacheSource:
    """The location, classes and ``cache.json`` of a cache."""

    root: Path
    class_names: tuple[str, ...]
    index: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class TokenDataset(Dataset[Example]):
    """Tokens of images, read from disk on demand. (seed, epoch, index) selects the view and the caption of an image.

    Args:
        templates: the template of each shard, if the images have several aspect ratios. Shards of a template follow
            each other.
    """

    def __init__(self, source: CacheSource, shards: Sequence[Shard], seed: int = 0, templates: Sequence[float] = ()):
        self.source, self.seed, self._shards = source, seed, shards
        self._ends = list(accumulate(len(shard.labels) for shard in shards))
        self.buckets = [range(len(self))]
        """The range of indices of each template, or of all images."""
        self.templates: tuple[float, ...] = ()
        """The template of each bucket; none if all images have the shape of the tokenizer."""
        if templates:
            last = dict(zip(templates, self._ends, strict=True))
            ranges = [range(*pair) for pair in pairwise([0, *last.values()])]
            self.buckets = [bucket for bucket in ranges if bucket]
            self.templates = tuple(name for name, bucket in zip(last, ranges, strict=True) if bucket)

    @property
    def views(self) -> int:
        """Return the number of views (crops and mirrored crops) of each image."""
        return self._shards[0].views

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the tokens of the example (epoch, index).

        Raises:
            InputError: its captions are damaged.
        """
        epoch, index = key
        i = bisect_right(self._ends, index)
        shard, row = self._shards[i], index - (self._ends[i - 1] if i else 0)
        bucket = next(b for b, members in enumerate(self.buckets) if index in members)
        place = (self.seed, epoch, index - self.buckets[bucket].start)
        view = int(np.random.default_rng(place).integers(self.views)) if self.views > 1 else 0
        captions = shard.read_captions(row)
        return Example(
            shard.read(row, view),
            int(shard.labels[row]),
            (),
            pick(captions, place) if captions else "",
            self.templates[bucket] if self.templates else None,
        )

    def captions(self) -> list[str]:
        """Return the captions of all images, with repetitions.

        Raises:
            InputError: they are damaged.
        """
        return [text for shard in self._shards for line in shard.captions for text in parse_captions(line)]


def open_cache(folder: Path, seed: int) -> tuple[TokenDataset, TokenDataset | None]:
    """Open the training tokens of a cache, and its validation tokens if there are any.

    Raises:
        InputError: the cache is unfinished or damaged, or has no training tokens.
    """
    index = read_index(folder)
    names = index.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / INDEX} must name the classes in class_names, a list of texts, not {brief(names)}")
    source = CacheSource(folder, tuple(names), index)
    train, val = (_open_split(source, split, seed) for split in (TRAIN, VAL))
    if not train:
        raise InputError(f"{folder} holds no tokens to train on")
    return train, val


def _open_split(source: CacheSource, split: str, seed: int) -> TokenDataset | None:
    parts = [part for part in source.index["images"] if part.partition("/")[0] == split]
    shards: list[Shard] = []
    templates: list[float] = []
    for part in parts:
        template = template_of(part)
        found = [read_shard(path, format_of(source, part)) for path in shard_paths(source, part)]
        shards += found
        templates += [template] * len(found) if template else []
    return TokenDataset(source, shards, seed, templates) if any(len(shard.labels) for shard in shards) else None


def part_name(split: str, template: float | None) -> str:
    """Return the folder of a split, or of its images of a template: ``train`` or ``train/0.666``."""
    return split if template is None else f"{split}/{template:.3f}"


def template_of(part: str) -> float | None:
    """Return the template in a `part_name`.

    Raises:
        InputError: there is no such template.
    """
    name = part.partition("/")[2]
    found = next((template for template in TEMPLATES if part_name("", template) == f"/{name}"), None)
    if name and found is None:
        raise InputError(f"a token cache has no aspect ratio {brief(name)}")
    return found


def format_of(source: CacheSource, part: str) -> TokenFormat:
    """Return the format of the shards in a folder of a cache.

    Raises:
        InputError: the index does not tell.
    """
    length, bits = source.index.get("tokens"), source.index.get("bits", 0)
    if isinstance(length, dict):
        length = length.get(part.partition("/")[2])
    latents = source.index.get("latents", ())
    if latents:
        if not (isinstance(latents, list) and len(latents) == 4 and all(type(side) is int for side in latents)):
            raise InputError(f"{source.root / INDEX} does not tell the shape of latents, but {brief(latents)}")
        return TokenFormat(length, bits, True, tuple(latents))
    if bits and not all(type(number) is int and number > 0 for number in (length, bits)):
        raise InputError(f"{source.root / INDEX} does not tell the number of tokens and bits of {part}")
    return TokenFormat(length, bits, bool(source.index.get("captions")))


def shard_paths(source: CacheSource, part: str) -> list[Path]:
    """Return the shards in a folder of a cache.

    Raises:
        InputError: some are missing.
    """
    size = source.index.get("images_in_shard", 0)
    if type(size) is not int or size < 0:
        raise InputError(f"{source.root / INDEX} has images_in_shard {brief(size)}: expected a positive integer")
    count = -(-source.index["images"].get(part, 0) // (size or IMAGES_IN_SHARD))
    numbers = (path.stem.removeprefix("tokens-") for path in (source.root / part).glob("tokens-*.safetensors"))
    there = sorted({int(number) for number in numbers if number.isdecimal() and int(number) < count})
    if len(there) < count:
        raise InputError(
            f"{source.root} has {len(there)} of {count} shards of {part}: repeat the tokenize command to finish it"
        )
    return [shard_path(source.root, part, i) for i in there]
