"""The confusion matrix and accuracy of a classifier."""

from __future__ import annotations

import pytest
import torch
from tiny import refused
from torch import Tensor, nn

from nextscale.evaluation.accuracy import Confusion, confusion
from nextscale.evaluation.features import ClassifierExtractor


def certain(*answers: int, classes: int = 3) -> Tensor:
    return torch.eye(classes)[list(answers)]


def test_rows_are_labels_and_columns_answers():
    counted = Confusion(3)
    counted.add(torch.tensor([0, 0, 1]), certain(0, 2, 1))
    counted.add(torch.tensor([1, 0]), certain(0, 2))
    assert counted.counts.tolist() == [[1, 0, 2], [1, 1, 0], [0, 0, 0]]
    assert counted.images == 5 and counted.accuracy == pytest.approx(2 / 5)
    assert counted.per_class == [pytest.approx(1 / 3), pytest.approx(1 / 2), None]


def test_in_one_batch_or_in_several():
    generator = torch.Generator().manual_seed(0)
    labels, probabilities = torch.randint(4, (50,), generator=generator), torch.rand(50, 4, generator=generator)
    whole, parts = Confusion(4), Confusion(4)
    whole.add(labels, probabilities)
    for a, b in zip(labels.split(7), probabilities.split(7), strict=True):
        parts.add(a, b)
    assert torch.equal(whole.counts, parts.counts) and whole.images == 50


class Brightest(nn.Module):
    """Red, green or blue."""

    def features(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        return features


def test_of_images():
    images = (255 * certain(0, 1, 2, 2)).byte().view(4, 3, 1, 1).expand(4, 3, 2, 2)
    labels = torch.tensor([0, 1, 2, 1])
    batches = [(images[:3], labels[:3]), (images[3:], labels[3:])]
    counted = confusion(ClassifierExtractor("brightest", Brightest()), batches, classes=3)
    assert counted.counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_what_does_not_fit():
    with refused("(B, 3)", "(2, 2)"):
        Confusion(3).add(torch.tensor([0, 1]), certain(0, 1, classes=2))
    with refused("0..2", "3"):
        Confusion(3).add(torch.tensor([0, 3]), certain(0, 1))
    with refused("at least 1 image"):
        _ = Confusion(3).accuracy
