"""What a token cache encodes: the views of images, in parts with one schedule each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nextscale.data.cache import TRAIN, VAL, part_name
from nextscale.data.dataset import Examples, ImageDataset
from nextscale.data.held_out import ValidationSettings
from nextscale.data.source import ClassSource
from nextscale.data.splits import open_buckets, open_splits
from nextscale.data.videos import VideoDataset
from nextscale.errors import InputError
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.training.aspects import aspect_schedules, aspect_sizes
from nextscale.training.video_data import open_clips


@dataclass(frozen=True, kw_only=True)
class CacheSettings(ValidationSettings):
    """Settings of a token cache."""

    crops: int = 1
    """Random crops of each training image. 0 uses the centre crop, as for validation images. For images that are made
    on the fly (scenes, clips), the number of epochs to store."""
    flip: bool = False
    """Also encode each crop, or each video, mirrored."""
    seed: int = 0
    """Seed of the random crops."""
    batch_size: int = 64
    """Number of images encoded at once."""
    workers: int = 0
    """Number of processes that load images. 0 loads them in this process."""
    aspects: bool = False
    """Crop each image to the aspect ratio nearest to its own, instead of to the size of the tokenizer. For tokenizers
    of bits with one of Infinity's schedules. There are no random crops then."""
    budget: str = ""
    """Pixel budget of the images: 0.06M, 0.25M, 0.60M or 1M, with Infinity's scales instead of those of the tokenizer.
    For bitwise tokenizers."""

    def check(self) -> None:
        """Raise InputError for a number that is too small, or for several crops with ``aspects``."""
        for name, least in (("crops", 0), ("seed", 0), ("batch_size", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.aspects and self.crops > 1:
            raise InputError(f"aspects takes one crop of each image: expected crops 0 or 1, not {self.crops}")


class Encodable(NamedTuple):
    """All views of an image, to be encoded."""

    images: Tensor
    """(views, 3, H, W) in [-1, 1], or (views, 3, T, H, W) for videos."""
    label: int
    unreadable: tuple[str, ...]
    """Name of the image and the reason why it cannot be used, or empty."""
    captions: Sequence[str] = ()
    """All captions of the image."""


class Views(Dataset[Encodable]):
    """The crops of each image, and with ``flip`` also their mirror images."""

    def __init__(self, dataset: ImageDataset, crops: int, flip: bool):
        self.dataset, self.crops, self.flip = dataset, crops, flip
        self.views, self.has_captions = crops * (1 + flip), dataset.has_captions

    def __getitem__(self, index: int) -> Encodable:
        try:
            examples = [self.dataset[crop, index] for crop in range(self.crops)]
        except InputError as error:  # none of the images can be read
            if not self.dataset.whole:
                raise
            return Encodable(torch.empty(0), 0, (str(error),))  # one of several aspect ratios
        images = torch.stack([example.image for example in examples])
        if self.flip:
            images = torch.stack((images, images.flip(-1)), dim=1).flatten(0, 1)
        label, unreadable = examples[0].label, examples[0].unreadable
        if not self.has_captions or unreadable:
            return Encodable(images, label, unreadable)
        return Encodable(images, label, unreadable, self.dataset.captions_of(index))

    def __len__(self) -> int:
        return len(self.dataset)


class Made(Dataset[Encodable]):
    """Images that are made on the fly, such as scenes, from several epochs. Each has one view and its own caption."""

    views = 1

    def __init__(self, dataset: Examples, epochs: int, has_captions: bool):
        self.dataset, self.epochs, self.has_captions = dataset, epochs, has_captions

    def __getitem__(self, index: int) -> Encodable:
        example = self.dataset[divmod(index, len(self.dataset))]
        return Encodable(example.image[None], example.label, example.unreadable, (example.caption,))

    def __len__(self) -> int:
        return self.epochs * len(self.dataset)


@dataclass(frozen=True)
class Part:
    """Images that are encoded with one schedule: a split, or its images of one aspect ratio."""

    name: str
    """See `part_name`."""
    views: Views | Made
    schedule: Any


def open_parts(
    data: str, tokenizer: Any, settings: CacheSettings, fraction: float
) -> tuple[list[ClassSource], list[Part]]:
    """Return the training source, the validation source if there is one, and all images in parts.

    Raises:
        InputError: the data is unusable, or the tokenizer has no aspect ratios.
    """
    schedule, seed = tokenizer.schedule, settings.seed
    if isinstance(tokenizer, VideoTokenizer):
        if settings.aspects or settings.budget:
            raise InputError("aspects and budget are for tokenizers of images: this one has its own size and duration")
        opened = open_clips(data, schedule, seed, val_fraction=fraction)
        return parts_of(opened, settings, data, schedule, True)
    if settings.aspects:
        schedules = aspect_schedules(tokenizer)
        opened = open_buckets(data, aspect_sizes(tokenizer), seed, val_fraction=fraction)
        splits = {name: split for name, split in zip((TRAIN, VAL), opened, strict=True) if split}
        return [split.source for split in splits.values()], [
            Part(part_name(name, template), Views(part, 1, settings.flip and name == TRAIN), schedules[template])
            for name, split in splits.items()
            for template, part in zip(split.templates, split.parts, strict=True)
        ]
    has_captions = tokenizer.config.quantizer == "bits"
    size = tokenizer.config.image_size
    opened = open_splits(data, size, seed, flip=False, val_fraction=fraction, captions=has_captions)
    return parts_of(opened, settings, data, schedule, has_captions)


def parts_of(
    opened: tuple[Examples, Examples | None], settings: CacheSettings, data: str, schedule: Any, has_captions: bool
) -> tuple[list[ClassSource], list[Part]]:
    """Return the sources, and the images of a training and a validation split in parts; see `open_parts`."""
    train, val = opened
    views = max(settings.crops, 1)
    if isinstance(train, VideoDataset):
        if settings.crops > 1:
            raise InputError(f"videos have one crop: expected crops 0 or 1, not {settings.crops}")
    elif isinstance(train, ImageDataset):
        train.augment = settings.crops > 0
    elif settings.flip:
        raise InputError(f"images of {data} are not mirrored: expected no flip")
    splits = {TRAIN: train} | ({VAL: val} if val else {})
    return [split.source for split in splits.values()], [
        Part(
            name,
            Views(split, views if name == TRAIN else 1, settings.flip and name == TRAIN)
            if isinstance(split, ImageDataset)
            else Made(split, views if name == TRAIN else 1, has_captions),
            schedule,
        )
        for name, split in splits.items()
    ]
