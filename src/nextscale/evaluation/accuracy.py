"""The accuracy of a classifier."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.features import ClassifierExtractor


class Confusion:
    """The confusion matrix of a classifier.

    Attributes:
        counts: (C, C) int64 on the CPU: rows are labels, columns predictions.
    """

    def __init__(self, classes: int):
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, labels: Tensor, probabilities: Tensor) -> None:
        """Count images with labels (B,) and probabilities (B, C). The largest probability is the prediction.

        Raises:
            InputError: a shape is wrong, or a label lies outside 0 .. C - 1.
        """
        classes = len(self.counts)
        if labels.ndim != 1 or probabilities.shape != (len(labels), classes):
            raise InputError(
                f"expected labels (B,) and probabilities (B, {classes}), not {tuple(labels.shape)} and "
                f"{tuple(probabilities.shape)}"
            )
        labels = labels.cpu()
        if ((labels < 0) | (labels >= classes)).any():
            raise InputError(f"labels must lie in 0..{classes - 1}, not in {labels.min()}..{labels.max()}")
        flat = labels * classes + probabilities.argmax(1).cpu()
        self.counts += flat.bincount(minlength=classes**2).view(classes, classes)

    @property
    def images(self) -> int:
        """The number of counted images."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """The fraction of images whose prediction is correct.

        Raises:
            InputError: there are no images.
        """
        if not self.images:
            raise InputError("an accuracy needs at least 1 image, not 0")
        return self.counts.diag().sum().item() / self.images

    @property
    def per_class(self) -> list[float | None]:
        """Return the accuracy of each class; None for a class without images."""
        rows = zip(self.counts.diag().tolist(), self.counts.sum(1).tolist(), strict=True)
        return [right / total if total else None for right, total in rows]


def confusion(extractor: ClassifierExtractor, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Confusion:
    """Return the confusion matrix of batches of uint8 images (B, 3, H, W) with labels (B,), for C ``classes``."""
    counted = Confusion(classes)
    for images, labels in batches:
        probabilities = extractor(images).probabilities
        assert probabilities is not None
        counted.add(labels, probabilities)
    return counted
