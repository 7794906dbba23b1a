"""``nextscale tokenize``."""

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
from nextscale.cli.options import check_outside
from nextscale.data.cache import TOKENIZER, TRAIN, VAL, is_cache, shard_path, shards_of, start_cache, write_shard
from nextscale.data.dataset import ImageDataset
from nextscale.data.splits import absolute_name, open_splits
from nextscale.errors import InputError
from nextscale.families.sources import load_tokenizer
from nextscale.io.files import is_tensor_file, make_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import barrier, is_main, processes, rank, world_size
from nextscale.runtime.progress import say
from nextscale.tokenizer.tokenizer import ImageTokenizer


@dataclass(frozen=True, kw_only=True)
class Options:
    """Encode a data set once into a cache of tokens, for "train var" to read instead of images.

    The same command again finishes a cache that is not whole. Under torchrun, each process makes its share of files.

    Example: nextscale tokenize --data photos/ --tokenizer runs/tokenizer --crops 4 --flip --out cache
    """

    data: str
    """Images, as "train var" takes them."""
    tokenizer: str
    """A run of "train tokenizer", or any model ("starter", "d16", ...) for its tokenizer."""
    out: Path
    """Folder of the cache."""
    crops: int = 1
    """Random crops of each training image; 0 takes the middle. Images to validate on are cropped in the middle."""
    flip: bool = False
    """Each crop also mirrored."""
    seed: int = 0
    """Of the crops."""
    batch_size: int = 64
    """Images encoded at once."""
    workers: int = 0
    """Processes that load images; 0 loads in this one."""
    device: str = "auto"
    """auto, cpu, or cuda."""


def run(options: Options) -> None:
    for name, least in (("crops", 0), ("seed", 0), ("batch_size", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise InputError(f"{name} must be at least {least}, not {getattr(options, name)}")
    with processes(pick_device(options.device)) as device:
        tokenizer = load_tokenizer(options.tokenizer)
        train, val = open_splits(options.data, tokenizer.config.image_size, options.seed, flip=False)
        train.augment = options.crops > 0
        splits = {TRAIN: train} | ({VAL: val} if val else {})
        if not is_cache(options.out) and options.out.is_dir() and any(options.out.iterdir()):
            raise InputError(f"{options.out} is not empty, and no cache: choose another folder")
        check_outside(options.out, options.data)
        index = {
            "data": absolute_name(options.data),
            "class_names": list(train.source.class_names),
            "images": {split: len(images) for split, images in splits.items()},
            "tokenizer": tokenizer.fingerprint(),
            "tokens": tokenizer.schedule.num_tokens,
            "crops": options.crops,
            "flip": options.flip,
            "seed": options.seed,
        }
        barrier()
        if is_main():
            start_cache(make_folder(options.out), index)
            tokenizer.save_pretrained(options.out / TOKENIZER)
        tokenizer = ready_tokenizer(tokenizer.to(device), torch.float32)
        for split, images in splits.items():
            views = Views(images, max(options.crops, 1), options.flip) if split == TRAIN else Views(images, 1, False)
            make_shards(options, split, views, tokenizer)
        barrier()
    if is_main():
        print(options.out)


class Encodable(NamedTuple):
    images: Tensor
    """(views, 3, H, W) in [-1, 1]."""
    label: int
    unreadable: tuple[str, ...]


class Views(Dataset[Encodable]):
    """Each image in its crops, and each of these mirrored if ``flip``."""

    def __init__(self, dataset: ImageDataset, crops: int, flip: bool):
        self.dataset, self.crops, self.flip = dataset, crops, flip

    def __getitem__(self, index: int) -> Encodable:
        examples = [self.dataset[crop, index] for crop in range(self.crops)]
        images = torch.stack([example.image for example in examples])
        if self.flip:
            images = torch.stack((images, images.flip(-1)), dim=1).flatten(0, 1)
        return Encodable(images, examples[0].label, examples[0].unreadable)

    def __len__(self) -> int:
        return len(self.dataset)


def make_shards(options: Options, split: str, views: Views, tokenizer: ImageTokenizer) -> None:
    """Make those shards of a split that are missing, this process its share of them."""
    shards = shards_of(len(views))
    for i in range(rank(), len(shards), world_size()):
        path = shard_path(options.out, split, i)
        if is_tensor_file(path):
            continue
        start = time.monotonic()
        examples = list(encode(views, shards[i], options, tokenizer))
        shape = (0, views.crops * (1 + views.flip), tokenizer.schedule.num_tokens)
        tokens = torch.stack([tokens for tokens, _ in examples]) if examples else torch.zeros(shape, dtype=torch.int64)
        make_folder(path.parent)
        write_shard(path, tokens, torch.tensor([label for _, label in examples], dtype=torch.int64))
        rate = len(shards[i]) / (time.monotonic() - start)
        say(f"{split} {i + 1}/{len(shards)}  {len(examples)} images  {rate:.1f} a second")


def encode(views: Views, indices: range, options: Options, tokenizer: ImageTokenizer) -> Iterator[tuple[Tensor, int]]:
    """The tokens (views, L) and label of each readable image; the others are named."""
    device = tokenizer.quant_conv.weight.device
    loader = DataLoader(
        views, batch_size=options.batch_size, sampler=indices, num_workers=options.workers, collate_fn=list
    )
    for batch in loader:
        for example in batch:
            if example.unreadable:
                say(f"left out: {example.unreadable[0]}")
        readable: list[Encodable] = [example for example in batch if not example.unreadable]
        if not readable:
            continue
        images = torch.cat([example.images for example in readable])
        parts = [torch.cat(tokenizer.encode(part.to(device)), dim=1) for part in images.split(options.batch_size)]
        tokens = torch.cat(parts).cpu().unflatten(0, (len(readable), -1))
        yield from zip(tokens, (example.label for example in readable), strict=True)
