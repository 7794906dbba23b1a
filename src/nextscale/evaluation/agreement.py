"""Label agreement: how often a classifier assigns an image to the class that it was sampled for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextscale.evaluation.accuracy import Confusion
from nextscale.evaluation.features import FeatureExtractor


@dataclass(frozen=True)
class Agreement:
    """Shares in [0, 1].

    Attributes:
        overall: of all images with a class.
        per_class: of the images of each class that has images.
        real: of real images; None if it is not known. Sampled images with a higher share are more typical than real
            ones, which is not the same as better.
        real_images: which real images these are.
    """

    overall: float
    per_class: Mapping[str, float]
    real: float | None = None
    real_images: str = ""


class AgreementCounts:
    """Count how often the most probable class is the label.

    Args:
        class_names: of the images.
        known: names of the classifier's classes, in the order of its probabilities.
    """

    def __init__(self, class_names: Sequence[str], known: Sequence[str]):
        self.class_names = class_names
        self.place = torch.tensor([known.index(name) for name in class_names])
        """(C,), the index among the probabilities of each class of the images."""
        self.counted = Confusion(len(known))

    @classmethod
    def of(cls, class_names: Sequence[str], extractor: FeatureExtractor) -> AgreementCounts | None:
        """Return counts for an extractor, or None unless it knows all these classes by their names."""
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
