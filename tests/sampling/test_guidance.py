"""Classifier-free guidance."""

from __future__ import annotations

import pytest
import torch
from tiny import CLASSES, Models, refused, same

import nextscale as ns
from nextscale.sampling.guidance import WeightedGuidance, make_guidance
from nextscale.transformer.var import guidance_ramp


def test_the_weight_grows_from_none_to_cfg():
    schedule = ns.ScaleSchedule.square((1, 2, 3, 4, 5))
    assert guidance_ramp(4, schedule) == (0, 1, 2, 3, 4)


def test_the_only_scale_is_guided_in_full():
    assert guidance_ramp(1.5, ns.ScaleSchedule(((2, 2),))) == (1.5,)


@pytest.mark.parametrize("weight", [0.0, 1.5, 4.0])
def test_away_from_the_unconditional(weight):
    conditional, unconditional = torch.randn(2, 3, 4, 5)
    visit = ns.ScaleSchedule.square((1,)).visits[0]
    guided = WeightedGuidance((weight,)).combine(conditional, unconditional, visit)
    torch.testing.assert_close(guided, conditional + weight * (conditional - unconditional))


def test_a_function_gives_the_weight_of_each_visit(square: Models):
    schedule = square[0].schedule
    ramp = ns.sample(*square, [0, 3], cfg=3.0)
    by_hand = ns.sample(*square, [0, 3], cfg=0, guidance=lambda visit: 3.0 * schedule.position(visit.index))
    assert same(ramp.tokens, by_hand.tokens)
    assert not same(ramp.tokens, ns.sample(*square, [0, 3], guidance=lambda visit: -3.0).tokens)


def test_own_guidance_combines_logits(square: Models):
    """A guidance that is not linear sees logits, and decides alone."""

    class OnlyConditional:
        is_linear = False
        seen: tuple = ()

        def needs_unconditional(self, visits):
            return True

        def combine(self, conditional, unconditional, visit):
            self.seen = (*self.seen, conditional.shape[-1])
            assert not torch.equal(conditional, unconditional)
            return conditional

    guidance = OnlyConditional()
    found = ns.sample(*square, [0, 3], guidance=guidance)
    assert same(found.tokens, ns.sample(*square, [0, 3], cfg=0).tokens)
    assert set(guidance.seen) == {square[0].config.codebook_size}


def test_guidance_that_no_visit_needs_costs_nothing(square: Models, monkeypatch):
    batches, condition = [], ns.VAR.condition
    monkeypatch.setattr(
        ns.VAR, "condition", lambda self, labels: (batches.append(len(labels)), condition(self, labels))[1]
    )
    ns.sample(*square, [0, CLASSES], guidance=lambda visit: 0.0)
    ns.sample(*square, [0, CLASSES], guidance=lambda visit: float(visit.index == 2))
    assert batches == [2, 4]


def test_what_is_no_guidance_is_refused(square):
    with refused("guidance", "int"):
        make_guidance(3, 1.5, ns.ScaleSchedule.square((1, 2)), square[1])  # type: ignore[arg-type]
