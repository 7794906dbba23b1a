"""The adversarial losses agree with their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import refused

from nextscale.training.adversarial import (
    AdversarialRecipe,
    adaptive_weight,
    critic_hinge,
    feature_distance,
    generator_hinge,
    lecam,
)

REAL = [torch.tensor([2.0, 0.5]), torch.tensor([[-1.0], [1.0]])]
FAKE = [torch.tensor([-3.0, 0.5]), torch.tensor([[0.0], [-0.5]])]


def test_the_critics_hinge_loss():
    """Heads count alike: real max(0, 1 - D) is 0, 0.5 and 2, 0; fake max(0, 1 + D) is 0, 1.5 and 1, 0.5."""
    assert critic_hinge(REAL, FAKE).item() == pytest.approx(((0.25 + 0.75) + (1 + 0.75)) / 2 / 2)


def test_the_tokenizers_hinge_loss():
    assert generator_hinge(FAKE).item() == pytest.approx(-(-1.25 - 0.25) / 2)


def test_lecam():
    """Anchors (real 0.5, fake -0.5): max(0, D(x) + 0.5)^2 and max(0, 0.5 - D(x^))^2."""
    of_real = ((2.5**2 + 1) / 2, 1.5**2 / 2)
    of_fake = ((3.5**2 + 0) / 2, (0.5**2 + 1) / 2)
    expected = (of_real[0] + of_fake[0] + of_real[1] + of_fake[1]) / 2
    assert lecam(REAL, FAKE, torch.tensor([0.5, -0.5])).item() == pytest.approx(expected)


def test_feature_distance_is_relative():
    real = [torch.ones(2, 3, 4, 4), 100 * torch.ones(2, 5, 2, 2)]
    assert feature_distance(real, real).item() == 0
    assert feature_distance([1.5 * real[0], 1.1 * real[1]], real).item() == pytest.approx((0.5 + 0.1) / 2)


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    reconstruction, adversarial = w.square().sum() / 2, 20 * w.sum()
    expected = 5 / (20 * math.sqrt(2))
    assert adaptive_weight(reconstruction, adversarial, w, 1.0).item() == pytest.approx(expected)
    assert adaptive_weight(reconstruction, adversarial / 1000, w, 1.0).item() == 1
    assert adaptive_weight(reconstruction, 0 * adversarial, w, 0.7).item() == pytest.approx(0.7)


def test_growth():
    game = AdversarialRecipe(start=0.2, warmup=0.1)
    growth = [game.growth(step, 100) for step in range(100)]
    assert growth[:20] == [0] * 20
    assert growth[20:30] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert growth[30:] == [1] * 70
    assert AdversarialRecipe(start=0.0, warmup=0.0).growth(0, 100) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"critic": "vgg"}, ("'vgg'", "patchgan or dino")),
        ({"critic": "dino"}, ("dino_weights",)),
        ({"start": 1.0}, ("start", "1.0")),
        ({"start": -0.1}, ("start", "-0.1")),
        ({"channels": 0}, ("channels", "at least 1", "0")),
        ({"weight": float("nan")}, ("weight", "nan")),
    ],
)
def test_recipes_that_make_no_sense(fields, words):
    with refused(*words):
        AdversarialRecipe(**fields)
