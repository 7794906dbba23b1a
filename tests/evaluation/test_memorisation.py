"""A model that plays back its training pictures is told from one that has learnt them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation.memorisation import memorisation


def vectors(n: int, seed: int, d: int = 8) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


TRAINING, HELD_OUT = vectors(400, 1), vectors(300, 2)


def reach(x: Tensor) -> np.ndarray:
    return np.linalg.norm(x.double().numpy()[:, None] - TRAINING.double().numpy()[None], axis=-1).min(1)


@pytest.mark.parametrize("percentile", [1, 25.5, 50])
def test_as_in_numpy(percentile):
    drawn = 0.8 * vectors(200, 3)
    result = memorisation(drawn, TRAINING, HELD_OUT, percentile)
    threshold = np.percentile(reach(HELD_OUT), percentile)
    assert result.threshold == pytest.approx(threshold, rel=1e-10)
    assert result.share == pytest.approx((reach(drawn) < threshold).mean(), rel=1e-10)
    assert result.drawn == pytest.approx(reach(drawn).mean(), rel=1e-10)
    assert result.held_out == pytest.approx(reach(HELD_OUT).mean(), rel=1e-10)


def test_a_model_of_the_distribution():
    result = memorisation(vectors(2000, 3), TRAINING, vectors(2000, 4), percentile=10)
    assert result.share == pytest.approx(0.1, abs=0.03)


def test_a_model_that_plays_back():
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    result = memorisation(TRAINING[order], TRAINING, HELD_OUT)
    assert result.share == 1 and result.drawn == 0 < result.held_out
    assert all(pair.training == order[pair.drawn] and pair.distance == 0 for pair in result.pairs)


def test_one_picture_played_back():
    drawn = vectors(100, 3)
    drawn[41] = TRAINING[7] + 1e-3
    result = memorisation(drawn, TRAINING, HELD_OUT, pairs=3)
    assert result.pairs[0][:2] == (41, 7) and len(result.pairs) == 3
    assert list(result.pairs) == sorted(result.pairs, key=lambda pair: pair.distance)


@pytest.mark.parametrize("tile", [9, 1000])
def test_training_in_parts(tile):
    drawn = vectors(50, 3)
    whole = memorisation(drawn, TRAINING, HELD_OUT)
    parts = memorisation(drawn, iter(TRAINING.split(150)), HELD_OUT, tile=tile)
    assert [pair[:2] for pair in parts.pairs] == [pair[:2] for pair in whole.pairs]
    assert parts.share == whole.share and parts.threshold == pytest.approx(whole.threshold, rel=1e-10)


def test_the_sentence():
    sentence = memorisation(TRAINING, TRAINING, HELD_OUT, percentile=2.5).sentence()
    assert "100.00 %" in sentence and "2.5 %" in sentence and "\n" not in sentence


@pytest.mark.parametrize("percentile", [0, 100, -1])
def test_what_is_no_percentile(percentile):
    with refused("percentile", percentile):
        memorisation(HELD_OUT, TRAINING, HELD_OUT, percentile)


def test_nothing_to_compare():
    with refused("no drawn pictures"):
        memorisation(HELD_OUT[:0], TRAINING, HELD_OUT)
    with refused("no held-out pictures"):
        memorisation(HELD_OUT, TRAINING, HELD_OUT[:0])
    with refused("nothing to compare with"):
        memorisation(HELD_OUT, TRAINING[:0], HELD_OUT)
    with refused("-1"):
        memorisation(HELD_OUT, TRAINING, HELD_OUT, pairs=-1)


def test_bad_features():
    with refused((300, 7), "8"):
        memorisation(HELD_OUT, TRAINING, HELD_OUT[:, :7])
    with refused((400, 7), "8"):
        memorisation(HELD_OUT, TRAINING[:, :7], HELD_OUT)
    with refused("300 of 300", "not finite"):
        memorisation(HELD_OUT * torch.nan, TRAINING, HELD_OUT)
