"""Batches in an order that depends on (seed, step) alone, so that training resumes where it stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nextscale.data.dataset import Example, Examples
from nextscale.errors import InputError
from nextscale.runtime.distributed import rank, world_size


@dataclass(frozen=True)
class BatchSlice:
    """Where a part lies in the whole batch of a step, of which each process, and each turn of it, gets one."""

    first: int
    count: int
    whole: int

    def random(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Uniform numbers in [0, 1) for each image of the part, (count, ...): those it gets in any division."""
        return torch.rand(self.whole, *shape, generator=generator)[self.first : self.first + self.count]


class Batch(NamedTuple):
    images: Tensor
    """(B, 3, H, W) in [-1, 1]; or tokens (B, L) of a cache."""
    labels: Tensor
    """(B,) int64."""
    unreadable: tuple[str, ...]
    """Files passed over, with the reason."""
    batch_slice: BatchSlice

    def to(self, device: torch.device) -> Batch:
        return self._replace(
            images=self.images.to(device, non_blocking=True), labels=self.labels.to(device, non_blocking=True)
        )


class PartSampler(Sampler[list[tuple[int, int]]]):
    """Endless parts of batches, as (epoch, index): each epoch a permutation, its incomplete last batch left out."""

    def __init__(self, length: int, slices: Sequence[BatchSlice], seed: int, start_step: int):
        self.length, self.slices, self.seed, self.start_step = length, slices, seed, start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch_size = self.slices[0].whole
        per_epoch = self.length // batch_size
        epoch, skipped = divmod(self.start_step, per_epoch)
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
            for batch in range(skipped, per_epoch):
                for batch_slice in self.slices:
                    first = batch * batch_size + batch_slice.first
                    yield [(epoch, int(i)) for i in order[first : first + batch_slice.count]]
            epoch, skipped = epoch + 1, 0


def divide(batch_size: int, turns: int) -> list[BatchSlice]:
    """This process's parts of every batch, which it computes one after the other.

    Raises:
        InputError: the batch cannot be divided evenly.
    """
    parts = turns * world_size()
    if batch_size % parts:
        raise InputError(
            f"a batch of {batch_size} cannot be divided evenly into {parts} parts "
            f"({world_size()} processes, {turns} turns each)"
        )
    count = batch_size // parts
    return [BatchSlice((rank() * turns + turn) * count, count, batch_size) for turn in range(turns)]


def check_data(data: Examples, val_data: Examples | None, batch_size: int) -> None:
    """What would stop a run later stops it here, before it has a folder.

    Raises:
        InputError: a batch larger than the data, or a split without a readable image.
    """
    if batch_size > len(data):
        raise InputError(f"a batch of {batch_size} images is larger than the data: {len(data)} in {data.source.root}")
    for split in (data, val_data):
        if split:
            split[0, 0]


class TrainingBatches:
    """Endless training batches from ``start_step`` on: for each step, this process's parts of it.

    Args:
        turns: into how many parts a process divides its share (gradient accumulation).
        workers: processes that load; 0 loads in this one.
    """

    def __init__(self, dataset: Examples, batch_size: int, start_step: int, workers: int = 0, turns: int = 1):
        self.slices = divide(batch_size, turns)
        order = PartSampler(len(dataset), self.slices, dataset.seed, start_step)
        loader = DataLoader(
            cast(Dataset[Example], dataset),
            batch_sampler=order,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=ignore_sigterm,
        )
        self._parts = iter(loader)
        self.waited = 0.0
        """Seconds that the last batch kept the caller waiting."""

    def __iter__(self) -> TrainingBatches:
        return self

    def __next__(self) -> list[Batch]:
        start = time.monotonic()
        parts = [next(self._parts)._replace(batch_slice=batch_slice) for batch_slice in self.slices]
        self.waited = time.monotonic() - start
        return parts


def ignore_sigterm(_: int) -> None:
    """In a process that loads: SIGTERM reaches all processes, but the training one decides what follows."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def validation_batches(dataset: Examples, batch_size: int, limit: int = 0) -> Iterator[Batch]:
    """Every image once, divided among the processes. What cannot be read is left out, and named in its batch.

    Every process gets the same number of batches, the last ones empty (``batch_slice.count`` 0) where images are short.

    Args:
        limit: how many images, evenly spread; 0 is all.
    """
    count = min(limit or len(dataset), len(dataset))
    size = max(batch_size // world_size(), 1)
    for start in range(0, count, size * world_size()):
        ours = range(start + rank() * size, min(start + (rank() + 1) * size, count))
        examples = [dataset[0, i * len(dataset) // count] for i in ours]
        names = tuple(name for example in examples for name in example.unreadable)
        readable = [example for example in examples if not example.unreadable]
        if readable or world_size() > 1:
            yield collate(readable or [dataset[0, 0]], len(readable))._replace(unreadable=names)


def collate(examples: Sequence[Example], count: int | None = None) -> Batch:
    """A batch of examples, of which the first ``count`` count."""
    return Batch(
        torch.stack([example.image for example in examples]),
        torch.tensor([example.label for example in examples]),
        tuple(name for example in examples for name in example.unreadable),
        BatchSlice(0, len(examples) if count is None else count, len(examples)),
    )
