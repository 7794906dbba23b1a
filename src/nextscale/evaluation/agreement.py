"""Does a classifier see in an image the class that it was drawn as?"""

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
        overall: of the images that have a class.
        per_class: of each class that has images.
        real: the same for real images; None if that is not known. Drawn ones above it are typical rather than good.
        real_images: which ones.
    """

    overall: float
    per_class: Mapping[str, float]
    real: float | None = None
    real_images: str = ""


class AgreementCounts:
    """How often the most probable class is the image's own.

    Args:
        class_names: of the images.
        known: the classes of the probabilities, in their order.
    """

    def __init__(self, class_names: Sequence[str], known: Sequence[str]):
        self.class_names = class_names
        self.place = torch.tensor([known.index(name) for name in class_names])
        """(C,) of each class of the images among those of the probabilities."""
        self.counted = Confusion(len(known))

    @classmethod
    def of(cls, class_names: Sequence[str], extractor: FeatureExtractor) -> AgreementCounts | None:
        """None unless the extractor knows all these classes by their names."""
        known = list(getattr(extractor, "class_names", ()))
        if not class_names or not set(class_names) <= set(known):
            return None
        return cls(class_names, known)

    def add(self, labels: Tensor, probabilities: Tensor) -> None:
        """Count images with labels (B,), -1 for none, and probabilities (B, C)."""
        has = labels >= 0
        self.counted.add(self.place[labels[has]], probabilities[has])

    def result(self) -> Agreement | None:
        """None if no image had a class."""
        if not self.counted.images:
            return None
        shares = [self.counted.per_class[place] for place in self.place.tolist()]
        per_class = {name: share for name, share in zip(self.class_names, shares, strict=True) if share is not None}
        return Agreement(self.counted.accuracy, per_class)
