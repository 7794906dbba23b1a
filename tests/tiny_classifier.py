"""A classifier small enough to build in a test, as ``nextscale evaluate`` finds one in a folder.

As a script: the command line, to which any folder of features is this classifier.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.evaluation.features import ClassifierExtractor

CLASSES = ("Ankle boot", "dress", "hat", "shirt", "shoes")
DIMENSIONS = 6
ACCURACY = 0.75


class Pools(nn.Module):
    """Random projections of an image of 4 x 4 pixels."""

    def __init__(self, classes: int, dimensions: int = DIMENSIONS):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.look = nn.Parameter(torch.randn(48, dimensions, generator=generator))
        self.choose = nn.Parameter(torch.randn(dimensions, classes, generator=generator))

    def features(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 4).flatten(1) @ self.look

    def logits(self, features: Tensor) -> Tensor:
        return 4 * features @ self.choose


class TinyClassifier(ClassifierExtractor):
    """With the names of its classes, and what it is worth."""

    def __init__(self, class_names: tuple[str, ...] = CLASSES):
        super().__init__("tiny classifier", Pools(len(class_names)), class_names=class_names, accuracy=ACCURACY)


def load_classifier(folder: Path) -> TinyClassifier:
    """Stands in for that of `nextscale.evaluation.extractors`: ``class_names.txt`` of a folder names its classes."""
    names = folder / "class_names.txt"
    return TinyClassifier(tuple(names.read_text().split()) if names.is_file() else CLASSES)


if __name__ == "__main__":
    from nextscale.cli.main import main
    from nextscale.evaluation import extractors

    extractors.load_classifier = load_classifier
    main()
