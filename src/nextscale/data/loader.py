"""Batches in an order that depends on (seed, step) only, so that training can resume at any step."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nextscale.data.batch_order import BatchOrder, buckets_of
from nextscale.data.content import Content, Pixels
from nextscale.data.dataset import Example, Examples
from nextscale.data.held_out import held_out_fraction
from nextscale.errors import InputError
from nextscale.runtime.distributed import rank, world_size
from nextscale.runtime.stop import SIGNALS


@dataclass(frozen=True)
class BatchSlice:
    """The position of a part in the whole batch of a step.

    A batch is divided among the processes, and each process may compute its share in several parts.
    """

    first: int
    """Index of the part's first image in the whole batch."""
    count: int
    """Number of images in the part."""
    whole: int
    """Number of images in the whole batch."""

    def random(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Return uniform numbers in [0, 1) for the images of the part: (count, *shape).

        The numbers are generated for the whole batch, so those of an image do not depend on the division of the batch.
        """
        return torch.rand(self.whole, *shape, generator=generator)[self.first : self.first + self.count]

    def generators(self, generator: torch.Generator) -> list[torch.Generator]:
        """Return a random generator for each image of the part, for many random numbers per image.

        Their seeds are generated for the whole batch.
        """
        seeds = torch.randint(2**62, (self.whole,), generator=generator)[self.first : self.first + self.count]
        return [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]


class Batch(NamedTuple):
    """Examples, stacked."""

    content: Content
    """``Pixels`` with (B, 3, H, W) or ``Tokens`` with (B, L)."""
    labels: Tensor
    """(B,) int64."""
    unreadable: tuple[str, ...]
    """Files that were skipped, with the reason."""
    batch_slice: BatchSlice
    captions: tuple[str, ...] = ()
    """B texts that describe the images; none if the data has no captions."""
    template: float | None = None
    """The template of aspect ratios that the images were cropped to, if they were. It decides the scales."""

    @property
    def images(self) -> Tensor:
        """Return the images (B, 3, H, W) in [-1, 1].

        Raises:
            InputError: the batch holds tokens.
        """
        if not isinstance(self.content, Pixels):
            raise InputError(f"expected a batch of Pixels, got {type(self.content).__name__}")
        return self.content.values

    def to(self, device: torch.device) -> Batch:
        """Return the batch with content and labels on a device."""
        content = self.content._replace(values=self.content.values.to(device, non_blocking=True))
        return self._replace(content=content, labels=self.labels.to(device, non_blocking=True))


class PartSampler(Sampler[list[tuple[int, int]]]):
    """Yield parts of batches as lists of (epoch, index), endlessly."""

    def __init__(self, order: BatchOrder, slices: Sequence[BatchSlice], start_step: int):
        self.order, self.slices, self.start_step = order, slices, start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, skipped = divmod(self.start_step, self.order.per_epoch)
        while True:
            for batch in self.order.batches(epoch)[skipped:]:
                for part in self.slices:
                    yield [(epoch, int(i)) for i in batch[part.first : part.first + part.count]]
            epoch, skipped = epoch + 1, 0


def divide(batch_size: int, turns: int) -> list[BatchSlice]:
    """Return the parts of every batch that this process computes, one after the other.

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
    """Check the data of a run before its folder is created.

    Raises:
        InputError: the batch is larger than the data or than every bucket, or a split has no readable image.
    """
    if batch_size > len(data):
        held_out = ""
        if val_data and held_out_fraction(data.source):
            held_out = f", besides {len(val_data)} held out (--val-fraction 0 holds out none)"
        raise InputError(
            f"a batch of {batch_size} images is larger than the data: {len(data)} in {data.source.root}{held_out}"
        )
    if batch_size > (largest := max(map(len, buckets_of(data)))):
        raise InputError(
            f"a batch has images of one aspect ratio, but {data.source.root} has at most {largest} of the same: "
            f"expected a batch of at most {largest}, not {batch_size}"
        )
    for split in (data, val_data):
        if split:
            split[0, 0]


class TrainingBatches:
    """Endless iterator over the parts of each batch that this process computes, starting at ``start_step``.

    Args:
        turns: number of parts per process and batch (gradient accumulation).
        workers: number of processes that load data; 0 loads in this process.
    """

    def __init__(self, dataset: Examples, batch_size: int, start_step: int, workers: int = 0, turns: int = 1):
        self.slices = divide(batch_size, turns)
        order = PartSampler(BatchOrder(buckets_of(dataset), batch_size, dataset.seed), self.slices, start_step)
        loader = DataLoader(
            cast(Dataset[Example], dataset),
            batch_sampler=order,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=ignore_signals,
        )
        self._parts = iter(loader)
        self.waited = 0.0
        """Seconds that the caller waited for the last batch."""

    def __iter__(self) -> TrainingBatches:
        return self

    def __next__(self) -> list[Batch]:
        start = time.monotonic()
        parts = [next(self._parts)._replace(batch_slice=batch_slice) for batch_slice in self.slices]
        self.waited = time.monotonic() - start
        return parts


def ignore_signals(_: int) -> None:
    """Ignore the signals that ask to stop in a loading process. Its parent process handles them, and ends it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def validation_batches(dataset: Examples, batch_size: int, limit: int = 0) -> Iterator[Batch]:
    """Yield every image once, divided among the processes. Unreadable images are skipped and named in their batch.
    A batch has images of one bucket only.

    Every process gets the same number of batches. If there are too few images, ``batch_slice.count`` is 0 for the last
    batches of some processes.

    Args:
        limit: number of images, evenly spaced in the data; 0 uses all.
    """
    count = min(limit or len(dataset), len(dataset))
    size = max(batch_size // world_size(), 1)
    chosen = [i * len(dataset) // count for i in range(count)]
    for ours in shares(buckets_of(dataset), chosen, size):
        examples = [dataset[0, i] for i in ours]
        names = tuple(name for example in examples for name in example.unreadable)
        readable = [example for example in examples if not example.unreadable]
        if readable or world_size() > 1:
            yield collate(readable or [dataset[0, 0]], len(readable))._replace(unreadable=names)


def shares(buckets: Sequence[range], chosen: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield the batches of this process, up to ``size`` of the chosen indices each. Some may be empty."""
    for bucket in buckets:
        members = [i for i in chosen if i in bucket]
        for start in range(rank() * size, rank() * size + len(members), size * world_size()):
            yield members[start : start + size]


def collate(examples: Sequence[Example], count: int | None = None) -> Batch:
    """Stack examples of one type into a batch. Metrics use only the first ``count`` examples."""
    return Batch(
        type(examples[0].content)(torch.stack([example.content.values for example in examples])),
        torch.tensor([example.label for example in examples]),
        tuple(name for example in examples for name in example.unreadable),
        BatchSlice(0, len(examples) if count is None else count, len(examples)),
        tuple(example.caption for example in examples) if any(example.caption for example in examples) else (),
        examples[0].template,
    )
