"""The token cache: one or more views of each image of a data set, encoded as tokens.

``CACHE/cache.json`` records the data set and the settings, ``CACHE/tokenizer/`` contains the tokenizer. Each file
``CACHE/train/tokens-00000.safetensors`` (likewise in ``val/``) covers `IMAGES_IN_SHARD` images and contains ``tokens``
(n, views, L) and ``labels`` (n,) of the readable images.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nextscale.data.content import Tokens
from nextscale.data.dataset import Example
from nextscale.errors import InputError, brief
from nextscale.io.files import check_begun_with, read_json, write_json
from nextscale.io.renamed import with_current_names
from nextscale.io.tensor_files import read_tensors, write_tensors

INDEX = "cache.json"
TOKENIZER = "tokenizer"
TRAIN, VAL = "train", "val"
IMAGES_IN_SHARD = 2048
SMALL = torch.iinfo(torch.int16).max


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


def shard_path(folder: Path, split: str, shard: int) -> Path:
    """Return the path of a shard."""
    return folder / split / f"tokens-{shard:05d}.safetensors"


def shards_of(images: int) -> list[range]:
    """Return the indices of the images of each shard."""
    return [range(i, min(i + IMAGES_IN_SHARD, images)) for i in range(0, images, IMAGES_IN_SHARD)]


def write_shard(path: Path, tokens: Tensor, labels: Tensor) -> None:
    """Write tokens (n, views, L) and labels (n,). Tokens are stored as int16 if they fit, else as int32."""
    kind = torch.int16 if tokens.numel() == 0 or tokens.max() <= SMALL else torch.int32
    write_tensors(path, {"tokens": tokens.to(kind), "labels": labels.long()})


@dataclass(frozen=True)
class CacheSource:
    """The location, classes and ``cache.json`` of a cache."""

    root: Path
    class_names: tuple[str, ...]
    index: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class TokenDataset(Dataset[Example]):
    """Tokens of images, read from disk on demand. (seed, epoch, index) selects the view of an image."""

    def __init__(self, source: CacheSource, shards: Sequence[Mapping[str, Tensor]], seed: int = 0):
        self.source, self.seed, self._shards = source, seed, shards
        self._ends = list(accumulate(len(shard["labels"]) for shard in shards))

    @property
    def views(self) -> int:
        """Return the number of views (crops and mirrored crops) of each image."""
        return self._shards[0]["tokens"].shape[1]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the tokens (L,) of the example (epoch, index)."""
        epoch, index = key
        i = bisect_right(self._ends, index)
        shard, row = self._shards[i], index - (self._ends[i - 1] if i else 0)
        view = np.random.default_rng((self.seed, epoch, index)).integers(self.views) if self.views > 1 else 0
        return Example(Tokens(shard["tokens"][row, view].long()), int(shard["labels"][row]), ())


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
    count = -(-source.index["images"].get(split, 0) // IMAGES_IN_SHARD)
    numbers = (path.stem.removeprefix("tokens-") for path in (source.root / split).glob("tokens-*.safetensors"))
    there = sorted({int(number) for number in numbers if number.isdecimal() and int(number) < count})
    if len(there) < count:
        raise InputError(
            f"{source.root} has {len(there)} of {count} shards of {split}: repeat the tokenize command to finish it"
        )
    paths = [shard_path(source.root, split, i) for i in there]
    shards = [_read_shard(path, source.index) for path in paths]
    return TokenDataset(source, shards, seed) if any(len(shard["labels"]) for shard in shards) else None


def _read_shard(path: Path, index: Mapping[str, Any]) -> dict[str, Tensor]:
    shard = read_tensors(path)
    tokens, labels = shard.get("tokens"), shard.get("labels")
    expected = f"tokens (n, views, {index.get('tokens')}) and labels (n,)"
    if tokens is None or labels is None or tokens.ndim != 3 or labels.shape != tokens.shape[:1]:
        raise InputError(f"{path} does not hold {expected}")
    if any(tensor.is_floating_point() or tensor.is_complex() for tensor in (tokens, labels)):
        raise InputError(f"{path} holds {tokens.dtype} and {labels.dtype}, expected integers")
    if tokens.shape[2] != index.get("tokens"):
        raise InputError(f"{path} holds tokens of shape {tuple(tokens.shape)}, expected {expected}")
    return shard
