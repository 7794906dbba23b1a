"""After the last guided scale, the unconditional half is dropped. The images stay the same, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var
from tiny_infinity import make_infinity, make_text
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import make_ready
from nextscale.sampling.guidance import WeightedGuidance


@dataclass(frozen=True)
class AlwaysTwo(WeightedGuidance):
    """Guidance that computes both halves at every scale."""

    def needs_unconditional(self, visits) -> bool:
        return True


def models(name: str):
    """A tokenizer and a transformer that are ready, and two conditions."""
    if name == "infinity":
        return *make_ready(make_bits_tokenizer(), make_infinity(), Precision()), make_text(3, 7)
    square = SCHEDULES["square"]
    return *make_ready(make_tokenizer(square), make_var(square), Precision()), [0, 1]


@pytest.mark.parametrize("name", ["infinity", "var"])
@pytest.mark.parametrize("guided", [1, 2])
def test_bits_are_those_of_the_full_computation(name, guided):
    tokenizer, model, conditions = models(name)
    count = tokenizer.schedule.num_scales
    weights = tuple([2.0] * guided + [0.0] * (count - guided))
    arguments = {"seed": [0, 1], "top_k": 0, "top_p": 0.9}
    short, full = (
        list(ns.sample_scales(tokenizer, model, conditions, guidance=guidance, **arguments))
        for guidance in (WeightedGuidance(weights), AlwaysTwo(weights))
    )
    for a, b in zip(short, full, strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.logits, b.logits)


def test_later_scales_have_half_as_many_sequences(monkeypatch):
    tokenizer, model, conditions = models("infinity")
    seen = []
    forward = type(model).forward_scale

    def spy(self, visit, inputs, condition, cache, *more, **hooks):
        x = forward(self, visit, inputs, condition, cache, *more, **hooks)
        seen.append((len(x), cache.keys.shape[1], len(condition.text_keys_values[0])))
        return x

    monkeypatch.setattr(type(model), "forward_scale", spy)
    ns.sample(tokenizer, model, conditions, cfg=[3.0, 3.0, 1.0])
    assert seen == [(4, 4, 4), (4, 4, 4), (2, 2, 2)]
    seen.clear()
    ns.sample(tokenizer, model, conditions, cfg=[1.0, 1.0, 3.0])  # the cache of the last scale needs both
    assert seen == [(4, 4, 4)] * 3


def test_guidance_inside_ends_as_well():
    tokenizer, model, conditions = models("infinity")
    result = ns.sample(tokenizer, model, conditions, cfg=[3.0, 1.0, 1.0], guidance_blocks=[-1], seed=[4, 5])
    assert torch.isfinite(result.images).all()
