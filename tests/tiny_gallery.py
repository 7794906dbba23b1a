"""Galleries whose images encode their number, and an extractor that looks up features by it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nextscale.evaluation.features import Features
from nextscale.evaluation.gallery import ImageBatch

SIZE = (2, 3)


class Numbered:
    """Image i shows i in its first pixel; class i C // N.

    Args:
        broken: images that cannot be read.
    """

    def __init__(self, count: int, class_names: Sequence[str] = ("a", "b"), broken: Sequence[int] = ()):
        self.name, self.count, self.broken = "numbered", count, broken
        self.size: tuple[int, int] = SIZE
        self.class_names = class_names
        self.made_from: dict[str, object] = {"numbered": count}
        self.was_read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> ImageBatch:
        self.was_read += indices
        index = torch.tensor([i for i in indices if i not in self.broken], dtype=torch.long)
        pixels = torch.zeros(len(index), 3, *SIZE, dtype=torch.uint8)
        for channel in range(3):
            pixels[:, channel, 0, 0] = index // 256**channel % 256
        labels = index * len(self.class_names) // self.count
        return ImageBatch(pixels, index, labels, {"twice": 2 * index})


class Table:
    """An extractor whose features of image i are the i-th rows of given tensors."""

    name, fingerprint = "table", "0123"

    def __init__(self, pool: Tensor, spatial: Tensor | None = None, probabilities: Tensor | None = None):
        self.tensors = Features(pool, spatial, probabilities)
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Features:
        self.batches.append(len(images))
        i = sum(images[:, channel, 0, 0].long() * 256**channel for channel in range(3))
        pool, *others = self.tensors
        return Features(pool[i], *(None if tensor is None else tensor[i] for tensor in others))


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
