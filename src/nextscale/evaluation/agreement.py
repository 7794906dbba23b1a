"""Label agreement: the fraction of images that a classifier assigns to the class that they were sampled for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.evaluation.accuracy import Confusion
from nextscale.evaluation.features import FeatureExtractor


@dataclass(frozen=True)
class Agreement:
    """Label agreement, as fractions in [0, 1].

    Attributes:
        overall: agreement of all images with a class.
        per_class: agreement of the images of each class that has images.
        real: agreement of real images; None if unknown. Sampled images with a higher agreement are more typical than
            real images, but not necessarily better.
        real_images: description of these real images.
    """

    overall: float
    per_class: Mapping[str, float]
    real: float | None = None
    real_images: str = ""


class AgreementCounts:
    """Count the images whose most probable class is the label.

    Args:
        class_names: class names of the images.
        known: class names of the classifier, in the order of its probabilities.
    """

    def __init__(self, class_names: Sequence[str], known: Sequence[str]):
        self.class_names = class_names
        self.place = torch.tensor([known.index(name) for name in class_names])
        """(C,), the index of each class of the images in the probabilities."""
        self.counted = Confusion(len(known))

    @classmethod
    def of(cls, class_names: Sequence[str], extractor: FeatureExtractor) -> AgreementCounts | None:
        """Return counts for an extractor, or None if it does not know the names of all classes."""
        known = list(getattr(extractor, "class_names", ()))
        if not class_names or not set(class_names) <= set(known):
            return None
        return cls(class_names, known)

    def add(self, labels: Tensor, probabilities: Tensor) -> None:
        """Count images with labels (B,), -1 for none, and probabilities (B, C)."""
        has = labels >= 0
        self.counted.add(self.place[labels[has]], probabilities[has])

    def result(self) -> Agreement | None:
        """Return the agreement, or None if no image had a class."""
        if not self.counted.images:
            return None
        shares = [self.counted.per_class[place] for place in self.place.tolist()]
        per_class = {name: share for name, share in zip(self.class_names, shares, strict=True) if share is not None}
        return Agreement(self.counted.accuracy, per_class)
