"""What happens behind the tab Compare."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import SCHEDULES, make_tokenizer, make_var, refused
from tiny_page import pictures_of, words_of
from tiny_web import SETTINGS, alone, pixels

import nextscale as ns
from nextscale.web.engine import Engine
from nextscale.web.studio.compare import compare
from nextscale.web.studio.model import Model

PLAIN = replace(SETTINGS, cfg=0.0)


def test_the_same_classes_and_seeds_on_both_sides(model):
    *steps, last = compare([(model, SETTINGS), (model, PLAIN)], [2, 0], 1, 7)
    expected = [
        alone(model.pipeline, label, seed, cfg=cfg).images[0]
        for label, seed in ((2, 7), (0, 8))
        for cfg in (SETTINGS.cfg, PLAIN.cfg)
    ]
    assert pixels(pictures_of(last[1])) == pixels(expected)
    said = [words_of(step[0]) for step in steps]
    assert "A: scale 2 of 4 (2 × 2)" in said and "B: scale 4 of 4 (4 × 4)" in said
    assert "A tiny, cfg 4, top-k 900" in words_of(last[1]) and "B tiny, cfg 0, top-k 900" in words_of(last[1])


def test_both_sides_can_be_repeated(model):
    *_, last = compare([(model, SETTINGS), (model, PLAIN)], [2], 1, 7)
    assert "--cfg 4.0" in last[4] and "--cfg 0.0" in last[7] and "--seeds 7" in last[4] and "--seeds 7" in last[7]


@pytest.fixture
def other():
    """An engine of a model with other classes."""
    schedule = SCHEDULES["square"]
    engine = Engine(ns.Pipeline(make_tokenizer(schedule), make_var(schedule, num_classes=3)), "other")
    yield Model(engine)
    engine.close(0)


def test_models_with_other_classes_do_not_compare(model, other):
    with refused("numbers of classes"):
        list(compare([(model, SETTINGS), (other, SETTINGS)], [2], 1, 7))


def test_two_models(start):
    one, two = Model(start()), Model(start())
    *_, last = compare([(one, SETTINGS), (two, SETTINGS)], [2], 1, 7)
    left, right = pictures_of(last[1])
    assert left.tobytes() == right.tobytes()
