"""A model that reproduces its training images is distinguished from one that has learnt the distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation.memorisation import LEAST, Labelled, Memorisation, memorisation


def vectors(n: int, seed: int, d: int = 8) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


TRAINING, HELD_OUT, CONTROL = vectors(400, 1), vectors(300, 2), vectors(20, 1) + 1e-3
WIDE, NARROW = 0, 1
"""Two classes: images of the second are ten times as alike."""
SPREAD, APART = torch.tensor([1.0, 0.1]), torch.tensor([0.0, 100.0])


def no_class(features: Tensor) -> Labelled:
    return Labelled(features, torch.full((len(features),), -1))


def check(drawn: Tensor, training: Any = TRAINING, held_out: Tensor = HELD_OUT, **more: Any) -> Memorisation:
    return memorisation(no_class(drawn), training, no_class(held_out), no_class(CONTROL), **more)


def two_classes(n: int, seed: int) -> Labelled:
    labels = torch.arange(n) % 2
    return Labelled(vectors(n, seed) * SPREAD[labels, None] + APART[labels, None], labels)


def reach(x: Tensor, pool: Tensor = TRAINING) -> np.ndarray:
    return np.linalg.norm(x.double().numpy()[:, None] - pool.double().numpy()[None], axis=-1).min(1)


@pytest.mark.parametrize("percentile", [1, 25.5, 50])
def test_as_in_numpy(percentile):
    drawn = 0.8 * vectors(200, 3)
    result = check(drawn, percentile=percentile)
    ours, others = (reach(x) / reach(HELD_OUT).mean() for x in (drawn, HELD_OUT))
    threshold = np.percentile(others, percentile)
    assert result.threshold == pytest.approx(threshold, rel=1e-10)
    assert result.share == pytest.approx((ours < threshold).mean(), rel=1e-10)
    assert result.sampled == pytest.approx(ours.mean(), rel=1e-10)
    assert not result.by_class and not result.per_class


def test_a_model_of_the_distribution():
    result = check(vectors(2000, 3), held_out=vectors(2000, 4), percentile=10)
    assert result.share == pytest.approx(0.1, abs=0.03)
    assert result.interval[0] < 0.1 < result.interval[1] and result.interval[1] - result.interval[0] < 0.08


@pytest.mark.long
def test_the_interval_is_that_of_other_images():
    """Of models that have learnt the distribution, about 95 % have an interval with the true share in it."""
    true, hits = 0.1, 0
    for i in range(40):
        drawn, held_out = vectors(200, 100 + i), vectors(200, 500 + i)
        low, high = check(drawn, held_out=held_out, percentile=100 * true, seed=i).interval
        hits += low <= true <= high
    assert hits >= 35


def test_a_model_that_plays_back():
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    result = check(TRAINING[order])
    assert result.share == 1 and result.sampled == 0
    assert all(pair.training == order[pair.sampled] and pair.distance == 0 for pair in result.pairs)


@pytest.mark.parametrize(("noise", "share"), [(1e-3, 1.0), (100.0, 0.0)])
def test_the_control_is_what_remembered_images_get(noise, share):
    control = no_class(TRAINING[:50] + noise)
    result = memorisation(no_class(vectors(9, 3)), TRAINING, no_class(HELD_OUT), control)
    assert result.control == share and result.control_images == 50
    assert ("misses most" in result.sentences()[1]) == (share == 0)


def test_one_image_played_back():
    drawn = vectors(100, 3)
    drawn[41] = TRAINING[7] + 1e-3
    result = check(drawn, pairs=3)
    assert result.pairs[0][:2] == (41, 7) and len(result.pairs) == 3
    assert [pair.distance for pair in result.pairs] == sorted(pair.distance for pair in result.pairs)


def test_each_class_has_its_own_measure():
    """By one measure for all, the threshold is that of the narrow class, and wide images can be no copies."""
    training, held_out, drawn = (two_classes(n, seed) for n, seed in ((400, 1), (400, 2), (400, 3)))
    wide = (drawn.labels == WIDE).nonzero().flatten()[:40]
    copies = training.features[training.labels == WIDE][:40] + 0.1
    drawn.features[wide] = copies
    names = ("wide", "narrow")
    one = memorisation(no_class(drawn.features), training.features, no_class(held_out.features), held_out)
    own = memorisation(drawn, training.features, held_out, held_out, names)
    assert own.by_class and not one.by_class
    assert own.per_class["wide"][0] >= 0.2 and one.share < 0.05 < 0.1 <= own.share
    assert own.per_class["narrow"][0] < 0.05 and max(share for _, share in own.per_class.values()) < 0.05
    assert {drawn.labels[pair.sampled].item() for pair in own.pairs} == {WIDE}
    assert own.control == pytest.approx(0.01)
    assert "the mean distance of the held-out images of its class. A sample" in own.sentences()[0]
    assert "The class with the highest share is wide: 2" in own.sentences()[0]


def test_classes_of_few_images_have_no_measure():
    training, drawn = two_classes(100, 1), two_classes(40, 3)
    for few, by_class in ((2 * LEAST, True), (2 * LEAST - 1, False)):
        held_out = two_classes(few, 2)
        assert memorisation(drawn, training.features, held_out, drawn, ("wide", "narrow")).by_class == by_class


@pytest.mark.parametrize("tile", [pytest.param(1, marks=pytest.mark.long), 77, 10_000])
def test_parts_and_tiles_make_no_difference(tile):
    drawn = vectors(60, 3)
    whole = check(drawn)
    parts = check(drawn, iter(TRAINING.split(150)), tile=tile)
    assert [pair[:2] for pair in parts.pairs] == [pair[:2] for pair in whole.pairs]
    assert parts.share == whole.share and parts.threshold == pytest.approx(whole.threshold, rel=1e-10)


def test_the_sentences():
    one, two = check(TRAINING, percentile=2.5).sentences()
    assert "100.0 %" in one and "2.5 %" in one and "95 % interval: 100.0 to 100.0" in one and "\n" not in one + two
    assert "this check finds 100.0 %" in two and "20 known copies" in two


@pytest.mark.parametrize("percentile", [0, 100, -1])
def test_what_is_no_percentile(percentile):
    with refused("percentile", percentile):
        check(HELD_OUT, percentile=percentile)


def test_nothing_to_compare():
    with refused("no sampled images"):
        check(HELD_OUT[:0])
    with refused("no held-out images"):
        check(HELD_OUT, held_out=HELD_OUT[:0])
    with refused("no control images"):
        memorisation(no_class(HELD_OUT), TRAINING, no_class(HELD_OUT), no_class(CONTROL[:0]))
    with refused("nothing to compare with"):
        check(HELD_OUT, TRAINING[:0])
    with refused("-1"):
        check(HELD_OUT, pairs=-1)
    with refused("held-out images are training images"):
        check(HELD_OUT, held_out=TRAINING[:9])


def test_bad_features():
    with refused((300, 7), "8"):
        check(HELD_OUT, held_out=HELD_OUT[:, :7])
    with refused((400, 7), "8"):
        check(HELD_OUT, TRAINING[:, :7])
    with refused("300 of 300", "not finite"):
        check(HELD_OUT * torch.nan)
