"""Captions of the official Infinity data: the draws of the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nextscale.data.captions import pick
from nextscale.data.long_caption import LongAndShort, cut

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "infinity" / "data.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["captions"], ids=lambda case: str(case["seed"]))
def test_draws_of_the_reference(case):
    assert case["short_prob"] == 0.5
    captions = LongAndShort(case["long"], case["short"], case["type"])
    rng = np.random.default_rng(case["seed"])
    assert [captions.pick(rng) for _ in case["drawn"]] == case["drawn"]
    assert {captions.pick(rng) for _ in range(300)} == set(captions)


@pytest.mark.parametrize(("text", "expected"), GOLDEN["cut_at_two_dashes"])
def test_captions_end_before_two_dashes(text, expected):
    assert cut(text) == expected


@pytest.mark.parametrize("kind", ["user_prompt", "InternVL 2.0"])
@pytest.mark.parametrize(
    ("long", "short"), [("", "a barn"), ("...", "a barn"), ("A barn. A cow. A dog.", ""), ("", "")]
)
def test_captions_that_are_empty(kind, long, short):
    captions = LongAndShort(long, short, kind)
    assert "" not in captions and bool(captions) == bool(long or short)
    if captions:
        assert {captions.pick(np.random.default_rng(seed)) for seed in range(50)} == set(captions)


def test_the_choice_depends_on_seed_epoch_and_index():
    captions = LongAndShort("One. Two. Three. Four.", "A list.", "x")
    keys = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (3, 4, 5)]
    assert [pick(captions, key) for key in keys] == [pick(captions, key) for key in keys]
    assert {pick(captions, (0, epoch, 0)) for epoch in range(50)} == set(captions)
