"""Encode a data set into a cache of tokens. `nextscale.data.cache` has the file format."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nextscale.acceleration.ready import ready_tokenizer
from nextscale.data.cache import (
    TOKENIZER,
    TRAIN,
    VAL,
    is_cache,
    read_index,
    shard_path,
    shards_of,
    start_cache,
    write_shard,
)
from nextscale.data.dataset import Examples, ImageDataset
from nextscale.data.held_out import VAL_FRACTION, ValidationSettings, held_out_fraction
from nextscale.data.loader import ignore_signals
from nextscale.data.splits import absolute_name, open_splits
from nextscale.errors import InputError
from nextscale.io.files import make_folder
from nextscale.io.lock import LOCK, locked_by_main
from nextscale.io.tensor_files import is_tensor_file
from nextscale.runtime.distributed import barrier, is_main, rank, world_size
from nextscale.runtime.progress import say
from nextscale.runtime.stop import resumable
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.setup import check_codebook, check_outside


@dataclass(frozen=True, kw_only=True)
class CacheSettings(ValidationSettings):
    """Settings of a token cache."""

    crops: int = 1
    """Random crops of each training image. 0 uses the centre crop, as for validation images."""
    flip: bool = False
    """Also encode each crop mirrored."""
    seed: int = 0
    """Seed of the random crops."""
    batch_size: int = 64
    """Number of images encoded at once."""
    workers: int = 0
    """Number of processes that load images. 0 loads them in this process."""

    def check(self) -> None:
        """Raise InputError for a number that is too small."""
        for name, least in (("crops", 0), ("seed", 0), ("batch_size", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")


class Encodable(NamedTuple):
    """All views of an image, to be encoded."""

    images: Tensor
    """(views, 3, H, W) in [-1, 1]."""
    label: int
    unreadable: tuple[str, ...]
    """Name of the image and the reason why it cannot be read, or empty."""


class Views(Dataset[Encodable]):
    """The crops of each image, and with ``flip`` also their mirror images."""

    def __init__(self, dataset: Examples, crops: int, flip: bool):
        self.dataset, self.crops, self.flip = dataset, crops, flip

    def __getitem__(self, index: int) -> Encodable:
        examples = [self.dataset[crop, index] for crop in range(self.crops)]
        images = torch.stack([example.image for example in examples])
        if self.flip:
            images = torch.stack((images, images.flip(-1)), dim=1).flatten(0, 1)
        return Encodable(images, examples[0].label, examples[0].unreadable)

    def __len__(self) -> int:
        return len(self.dataset)


def make_cache(data: str, out: Path, tokenizer: ImageTokenizer, settings: CacheSettings, device: torch.device) -> None:
    """Encode a data set into a cache, or finish an incomplete cache. Several processes divide the files.

    Raises:
        InputError: the data is unusable, or the folder holds something else, or a cache of other data or settings, or
            another command is writing to it.
    """
    settings.check()
    check_codebook(tokenizer)
    begun = begun_fraction(out)
    fraction = next(value for value in (settings.val_fraction, begun, VAL_FRACTION) if value is not None)
    train, val = open_splits(data, tokenizer.config.image_size, settings.seed, flip=False, val_fraction=fraction)
    if isinstance(train, ImageDataset):
        train.augment = settings.crops > 0
    splits = {TRAIN: train} | ({VAL: val} if val else {})
    if not is_cache(out) and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        raise InputError(f"{out} is not empty and not a token cache: choose another folder")
    check_outside(out, data)
    index = {
        "data": absolute_name(data),
        "class_names": list(train.source.class_names),
        "images": {split: len(images) for split, images in splits.items()},
        "tokenizer": tokenizer.fingerprint(),
        "tokens": tokenizer.schedule.num_tokens,
        "crops": settings.crops,
        "flip": settings.flip,
        "seed": settings.seed,
    }
    held_out = held_out_fraction(train.source)
    if begun not in (None, held_out):
        raise InputError(
            f"{out} holds a cache with val_fraction {begun:g}, not {held_out:g}: repeat its command to finish it, or "
            "choose another folder"
        )
    if held_out:  # 0 is not recorded, so that older runs accept the index of their cache
        index["val_fraction"] = held_out
    barrier()
    note = f"finished files are kept in {out}. Repeat the same command to encode the other images."
    with locked_by_main(out), resumable(note if is_main() else ""):
        if is_main():
            for note in (*train.source.notes, *(val.source.notes if val else ())):
                say(note)
            start_cache(out, index)
            tokenizer.save_pretrained(out / TOKENIZER)
        tokenizer = ready_tokenizer(tokenizer.to(device), torch.float32)
        for split, images in splits.items():
            views = Views(images, max(settings.crops, 1), settings.flip) if split == TRAIN else Views(images, 1, False)
            make_shards(out, split, views, tokenizer, settings)
        barrier()


def begun_fraction(out: Path) -> float | None:
    """Return the fraction of images that the cache in a folder holds out, or None if there is no cache."""
    return read_index(out).get("val_fraction", 0.0) if is_cache(out) else None


def make_shards(out: Path, split: str, views: Views, tokenizer: ImageTokenizer, settings: CacheSettings) -> None:
    """Encode the missing shards of a split that this process is responsible for."""
    shards = shards_of(len(views))
    for i in range(rank(), len(shards), world_size()):
        path = shard_path(out, split, i)
        if is_tensor_file(path):
            continue
        start = time.monotonic()
        examples = list(encode(views, shards[i], tokenizer, settings))
        shape = (0, views.crops * (1 + views.flip), tokenizer.schedule.num_tokens)
        tokens = torch.stack([tokens for tokens, _ in examples]) if examples else torch.zeros(shape, dtype=torch.int64)
        make_folder(path.parent)
        write_shard(path, tokens, torch.tensor([label for _, label in examples], dtype=torch.int64))
        rate = len(shards[i]) / (time.monotonic() - start)
        say(f"{split} shard {i + 1}/{len(shards)}: {len(examples)} images, {rate:.1f} images/s")


def encode(
    views: Views, indices: range, tokenizer: ImageTokenizer, settings: CacheSettings
) -> Iterator[tuple[Tensor, int]]:
    """Yield the tokens (views, L) and the label of each image. Unreadable images are skipped and reported."""
    device = tokenizer.device
    loader = DataLoader(
        views,
        batch_size=settings.batch_size,
        sampler=indices,
        num_workers=settings.workers,
        collate_fn=list,
        worker_init_fn=ignore_signals,
    )
    for batch in loader:
        for example in batch:
            if example.unreadable:
                say(f"skipped: {example.unreadable[0]}")
        readable: list[Encodable] = [example for example in batch if not example.unreadable]
        if not readable:
            continue
        images = torch.cat([example.images for example in readable])
        parts = [torch.cat(tokenizer.encode(part.to(device)), dim=1) for part in images.split(settings.batch_size)]
        tokens = torch.cat(parts).cpu().unflatten(0, (len(readable), -1))
        yield from zip(tokens, (example.label for example in readable), strict=True)
