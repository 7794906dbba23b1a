"""Batches in an order that depends on (seed, step) alone, so that training resumes where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from nextscale.data.dataset import Example, PictureDataset
from nextscale.errors import InputError


class Batch(NamedTuple):
    images: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    labels: Tensor
    """(B,) int64."""
    unreadable: tuple[str, ...]
    """Files passed over, with the reason."""

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True), self.unreadable
        )


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index): each epoch its own permutation, the incomplete last batch left out."""

    def __init__(self, length: int, batch_size: int, seed: int, start_step: int):
        self.length, self.batch_size, self.seed, self.start_step = length, batch_size, seed, start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.length // self.batch_size
        epoch, skipped = divmod(self.start_step, per_epoch)
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
            for batch in range(skipped, per_epoch):
                indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                yield [(epoch, int(i)) for i in indices]
            epoch, skipped = epoch + 1, 0


def check_data(data: PictureDataset, val_data: PictureDataset | None, batch_size: int) -> None:
    """What would stop a run later stops it here, before it has a folder.

    Raises:
        InputError: a batch larger than the data, or a split without a readable picture.
    """
    if batch_size > len(data):
        raise InputError(f"a batch of {batch_size} pictures is larger than the data: {len(data)} in {data.folder.root}")
    for split in (data, val_data):
        if split:
            split[0, 0]


def training_batches(dataset: PictureDataset, batch_size: int, start_step: int, workers: int) -> Iterator[Batch]:
    """Endless training batches from ``start_step`` on."""
    order = EpochSampler(len(dataset), batch_size, dataset.seed, start_step)
    yield from DataLoader(dataset, batch_sampler=order, num_workers=workers, collate_fn=collate)


def validation_batches(dataset: PictureDataset, batch_size: int) -> Iterator[Batch]:
    """Every picture once, in order. What cannot be read is left out, and named in its batch."""
    for start in range(0, len(dataset), batch_size):
        examples = [dataset[0, i] for i in range(start, min(start + batch_size, len(dataset)))]
        names = tuple(name for example in examples for name in example.unreadable)
        if readable := [example for example in examples if not example.unreadable]:
            yield collate(readable)._replace(unreadable=names)


def collate(examples: Sequence[Example]) -> Batch:
    return Batch(
        torch.stack([example.image for example in examples]),
        torch.tensor([example.label for example in examples]),
        tuple(name for example in examples for name in example.unreadable),
    )
