"""The order of batches, which depends on (seed, epoch) only. Batches have examples of one bucket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class BatchOrder:
    """The batches of each epoch.

    Each epoch is a new permutation of every bucket. The incomplete last batch of a bucket is skipped. The bucket of a
    batch is random, with a probability proportional to the batches that it has left in this epoch.
    """

    def __init__(self, buckets: Sequence[range], batch_size: int, seed: int):
        self.buckets, self.batch_size, self.seed = buckets, batch_size, seed

    @property
    def counts(self) -> list[int]:
        """Number of batches of each bucket in an epoch."""
        return [len(bucket) // self.batch_size for bucket in self.buckets]

    @property
    def per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return sum(self.counts)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of the examples of each batch, in order."""
        rng, size = np.random.default_rng((self.seed, epoch)), self.batch_size
        parts = [
            iter((rng.permutation(len(bucket)) + bucket.start)[: count * size].reshape(-1, size))
            for bucket, count in zip(self.buckets, self.counts, strict=True)
        ]
        order = bucket_order(self.counts, np.random.default_rng((self.seed, epoch, 1)))
        return [next(parts[i]) for i in order]


def bucket_order(counts: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Return the bucket of each batch, where bucket i has ``counts[i]`` batches.

    It uses the random numbers in the same way as the official Infinity code.
    """
    left = np.array(counts)
    order = []
    while total := int(left.sum()):
        bucket = int(np.searchsorted(left.cumsum(), rng.integers(total), side="right"))
        left[bucket] -= 1
        order.append(bucket)
    return order


def buckets_of(dataset: Any) -> Sequence[range]:
    """Return the ranges of examples that may share a batch: those of the data set, or one of all examples."""
    return getattr(dataset, "buckets", None) or [range(len(dataset))]
