"""Sampling settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import Models, refused, same

import nextscale as ns
from nextscale.sampling.settings import FOR_IMAGES, SamplingSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cfg", math.nan),
        ("cfg", 1001),
        ("temperature", 0),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_k", True),
        ("top_p", 1.1),
        ("more_smooth", 1),
    ],
)
def test_values_out_of_range(name, value):
    with refused(name.replace("top_", "top-"), repr(value)):
        SamplingSettings(**{name: value})


def test_an_unknown_setting_names_a_near_miss():
    with refused("'tempratur'", "did you mean temperature"):
        SamplingSettings().changed(tempratur=2)
    with refused("'zzz'", "cfg, temperature, top_k, top_p, more_smooth"):
        SamplingSettings().changed(zzz=2)


def test_records_of_older_files_have_no_temperature():
    assert "temperature" not in FOR_IMAGES.record()
    for settings in (FOR_IMAGES, SamplingSettings(temperature=0.5, more_smooth=True)):
        assert SamplingSettings(**settings.record()) == settings


def test_temperature_divides_logits(square: Models):
    plain = ns.sample(*square, [0, 3], top_k=0, top_p=0)
    assert same(ns.sample(*square, [0, 3], top_k=0, top_p=0, temperature=1.0).tokens, plain.tokens)
    greedy = [step.tokens for step in ns.sample_scales(*square, [0, 3], top_k=0, top_p=0, temperature=1e-3)]
    best = [step.logits.argmax(-1) for step in ns.sample_scales(*square, [0, 3], top_k=0, top_p=0, temperature=1e-3)]
    agree = torch.cat(greedy, 1).eq(torch.cat(best, 1)).double().mean()
    assert agree > 0.95 and not same(greedy, plain.tokens)


def test_a_logits_processor_changes_what_is_sampled(square: Models):
    """It is given every visit in order, after guidance; -inf excludes a code."""
    seen = []

    def only_even(logits: torch.Tensor, visit) -> torch.Tensor:
        seen.append(visit.index)
        logits = logits.clone()
        logits[..., 1::2] = -torch.inf
        return logits

    result = ns.sample(*square, [0, 3], logits_processor=only_even)
    assert all((tokens % 2 == 0).all() for tokens in result.tokens)
    assert seen == list(range(len(result.tokens)))


def test_temperatures_of_clips():
    settings = SamplingSettings(temperature=0.9, clip_temperature=0.4)
    assert settings.temperatures(6, 3) == (0.9, 0.9, 0.4, 0.4, 0.4, 0.4)
    assert settings.temperatures(4) == (0.9,) * 4, "an image has one clip"
    assert SamplingSettings(temperature=0.9).temperatures(4, 2) == (0.9,) * 4
    listed = settings.changed(temperature=[1, 2, 3, 4])
    assert listed.temperatures(4, 2) == (1, 2, 3, 4), "a list has the values of all clips"
    wrong: Any
    for wrong in (0, -1, "1", [0.4]):
        with refused("clip_temperature must be a number between 0.001 and 1000"):
            SamplingSettings(clip_temperature=wrong)


def test_names_of_guidance(square: Models):
    with refused("guidance is cfg or apg, not 'both'"):
        SamplingSettings(guidance="both")  # type: ignore[arg-type]
    call = {"num_images": 2, "cfg": 6.0}
    by_name, by_setting = (
        ns.sample(*square, None, **call, **how).tokens
        for how in ({"guidance": "apg"}, {"settings": SamplingSettings(guidance="apg")})
    )
    assert same(by_name, by_setting)
    assert not same(by_name, ns.sample(*square, None, **call).tokens)
    assert FOR_IMAGES.record() == {"cfg": 4.0, "top_k": 900, "top_p": 0.95, "more_smooth": False}
