"""Classifier-free guidance."""

from __future__ import annotations

import pytest
import torch

import nextscale as ns
from nextscale.sampling.guidance import guidance_weight, guide


def test_the_weight_grows_from_none_to_cfg():
    schedule = ns.ScaleSchedule.square((1, 2, 3, 4, 5))
    assert [guidance_weight(4, schedule, k) for k in range(5)] == [0, 1, 2, 3, 4]


def test_the_only_scale_is_guided_in_full():
    assert guidance_weight(1.5, ns.ScaleSchedule(((2, 2),)), 0) == 1.5


@pytest.mark.parametrize("weight", [0.0, 1.5, 4.0])
def test_away_from_the_unconditional(weight):
    conditional, unconditional = torch.randn(2, 3, 4, 5)
    guided = guide(torch.cat((conditional, unconditional)), weight)
    torch.testing.assert_close(guided, conditional + weight * (conditional - unconditional))
