"""How often a classifier gives images their own label."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.features import ClassifierExtractor


class Confusion:
    """What images of each class are taken for.

    Attributes:
        counts: (C, C) int64 on the CPU: rows are labels, columns answers.
    """

    def __init__(self, classes: int):
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, labels: Tensor, probabilities: Tensor) -> None:
        """Take in images with labels (B,) and probabilities (B, C), of which the largest is the answer.

        Raises:
            InputError: other shapes, or a label that is no class.
        """
        classes = len(self.counts)
        if labels.ndim != 1 or probabilities.shape != (len(labels), classes):
            raise InputError(
                f"labels (B,) and probabilities (B, {classes}) are expected, not {tuple(labels.shape)} and "
                f"{tuple(probabilities.shape)}"
            )
        labels = labels.cpu()
        if ((labels < 0) | (labels >= classes)).any():
            raise InputError(f"labels must lie in 0..{classes - 1}, not in {labels.min()}..{labels.max()}")
        flat = labels * classes + probabilities.argmax(1).cpu()
        self.counts += flat.bincount(minlength=classes**2).view(classes, classes)

    @property
    def images(self) -> int:
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """Share of all images that are given their own label.

        Raises:
            InputError: there are no images.
        """
        if not self.images:
            raise InputError("an accuracy needs at least 1 image, not 0")
        return self.counts.diag().sum().item() / self.images

    @property
    def per_class(self) -> list[float | None]:
        """The same for the images of each class; None where there are none."""
        rows = zip(self.counts.diag().tolist(), self.counts.sum(1).tolist(), strict=True)
        return [right / total if total else None for right, total in rows]


def confusion(extractor: ClassifierExtractor, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Confusion:
    """Of uint8 images (B, 3, H, W) with their labels (B,), in batches; the classifier knows so many classes."""
    counted = Confusion(classes)
    for images, labels in batches:
        probabilities = extractor(images).probabilities
        assert probabilities is not None
        counted.add(labels, probabilities)
    return counted
