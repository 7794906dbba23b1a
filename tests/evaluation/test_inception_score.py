"""The Inception Score, from two sums per split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation.inception_score import InceptionScore, Scores

CLASSES = 10


def probabilities(n: int = 103, seed: int = 0, classes: int = CLASSES) -> Tensor:
    return (3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))).softmax(1)


def measure(p: Tensor, split_size: int = 20, seed: int = 0, batch: int = 16, order: Tensor | None = None) -> Scores:
    score = InceptionScore(len(p), split_size, seed)
    for indices in (torch.arange(len(p)) if order is None else order).split(batch):
        score.add(indices, p[indices])
    return score.scores()


def plain(p: Tensor, split_size: int) -> list[float]:
    """As the ADM evaluator defines it, in double precision."""
    scores = []
    for start in range(0, len(p), split_size):
        part = p[start : start + split_size].double().numpy()
        kl = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
        scores.append(float(np.exp(kl.sum(1).mean())))
    return scores


def close(a: Scores, b: Scores) -> bool:
    return all(getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-10) for name in Scores.__annotations__)


@pytest.mark.parametrize("n", [100, 103, 20, 7, 101])
def test_as_in_numpy(n):
    p = probabilities(n)
    scores = measure(p)
    ordered = plain(p, 20)
    assert scores.ordered == pytest.approx(np.mean(ordered), rel=1e-10)
    assert scores.ordered_std == pytest.approx(np.std(ordered), rel=1e-8, abs=1e-12)
    assert scores.whole == pytest.approx(plain(p, n)[0], rel=1e-10)
    assert scores.splits == len(ordered)


def test_shuffled_is_in_order_of_a_permutation():
    p = probabilities()
    place = torch.randperm(len(p), generator=torch.Generator().manual_seed(4))
    shuffled = plain(p[place.argsort()], 20)
    scores = measure(p, seed=4)
    assert scores.shuffled == pytest.approx(np.mean(shuffled), rel=1e-10)
    assert scores.shuffled_std == pytest.approx(np.std(shuffled), rel=1e-10)
    assert scores.seed == 4 and scores.shuffled != measure(p, seed=5).shuffled


def test_batches_and_their_order_make_no_difference():
    p = probabilities()
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(1))
    assert close(measure(p), measure(p, batch=1)) and close(measure(p), measure(p, order=order))


def test_images_that_come_class_by_class():
    """One sure class each: in order, a split sees few classes; shuffled, as many as the whole."""
    p = torch.eye(CLASSES).repeat_interleave(200, 0)
    scores = measure(p, split_size=200)
    assert scores.ordered == pytest.approx(1)
    assert scores.whole == pytest.approx(CLASSES)
    assert 0.95 * CLASSES < scores.shuffled <= CLASSES


def test_between_one_and_the_number_of_classes():
    scores = measure(probabilities())
    assert all(1 <= value <= CLASSES for value in (scores.shuffled, scores.ordered, scores.whole))
    assert measure(probabilities(1).expand(50, CLASSES)).whole == pytest.approx(1)


def test_memory_does_not_grow_with_classes_times_images():
    score = InceptionScore(1000, 500)
    score.add(torch.arange(1000), probabilities(1000))
    held = [value for value in vars(score).values() if isinstance(value, Tensor)]
    assert sum(tensor.numel() for tensor in held) == (2 + 1) * 1000 + 2 * 2 * (CLASSES + 1)


@pytest.mark.parametrize(
    ("rows", "word"), [([[0.5, 0.6]], "1 of 1"), ([[1.5, -0.5]], "1 of 1"), ([[0.5, 0.5], [float("nan"), 1]], "1 of 2")]
)
def test_what_is_no_probability(rows, word):
    p = torch.tensor(rows)
    with refused(word, "sum of 1"):
        InceptionScore(10).add(torch.arange(len(p)), p)


@pytest.mark.parametrize("indices", [[-1, 0], [9, 10]])
def test_images_that_do_not_exist(indices):
    with refused("0..9", f"{indices[0]}..{indices[1]}"):
        InceptionScore(10).add(torch.tensor(indices), probabilities(2))


@pytest.mark.parametrize(
    ("came", "missing", "repeated"), [([0, 1], 2, 0), ([0, 1, 2, 2], 1, 1), ([], 4, 0), ([0, 1, 2, 3, 0], 0, 1)]
)
def test_not_each_image_once(came, missing, repeated):
    score = InceptionScore(4).add(torch.tensor(came, dtype=torch.long), probabilities(len(came)))
    with refused("of 4 images", f"{missing} are missing", f"{repeated} were added more than once"):
        score.scores()
    with refused("4 are missing"):
        InceptionScore(4).scores()


def test_shapes_that_do_not_fit():
    with refused((3,), (2, CLASSES)):
        InceptionScore(10).add(torch.arange(3), probabilities(2))
    with refused(f"(B, {CLASSES})", (2, 4)):
        InceptionScore(10).add(torch.arange(2), probabilities(2)).add(torch.arange(2), probabilities(2, classes=4))


@pytest.mark.parametrize("sizes", [(0, 5000), (10, 0)])
def test_nothing_to_measure(sizes):
    with refused(*sizes):
        InceptionScore(*sizes)
