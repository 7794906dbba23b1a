"""The functions of the Compare tab."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFile
from tiny import SCHEDULES, make_tokenizer, make_var, refused
from tiny_page import images_of, words_of
from tiny_web import SETTINGS, alone, pixels

import nextscale as ns
from nextscale.provenance import Provenance, read_provenance
from nextscale.web.engine import Engine
from nextscale.web.studio.compare import compare
from nextscale.web.studio.served_model import Model

PLAIN = replace(SETTINGS, cfg=0.0)


def test_the_same_classes_and_seeds_on_both_sides(model):
    *steps, last = compare([(model, SETTINGS), (model, PLAIN)], [2, 0], 1, 7)
    expected = [
        alone(model.pipeline, label, seed, cfg=cfg).images[0]
        for label, seed in ((2, 7), (0, 8))
        for cfg in (SETTINGS.cfg, PLAIN.cfg)
    ]
    assert pixels(images_of(last[1])) == pixels(expected)
    said = [words_of(step[0]) for step in steps]
    assert "A: scale 2 of 4 (2 × 2)" in said and "B: scale 4 of 4 (4 × 4)" in said
    assert "A tiny, cfg 4, temperature 1, top-k 900" in words_of(
        last[1]
    ) and "B tiny, cfg 0, temperature 1" in words_of(last[1])


def test_both_sides_can_be_repeated(model):
    *_, last = compare([(model, SETTINGS), (model, PLAIN)], [2], 1, 7)
    assert "--cfg 4.0" in last[4] and "--cfg 0.0" in last[7] and "--seeds 7" in last[4] and "--seeds 7" in last[7]
    assert "save('a.png')" in last[5] and "save('b.png')" in last[8]
    *_, last = compare([(model, SETTINGS), (model, PLAIN)], [2, 0], 1, 7)
    assert "save(f'a-{i:03d}.png')" in last[5] and "save(f'b-{i:03d}.png')" in last[8]


@contextmanager
def another(**config: Any) -> Iterator[Model]:
    """An engine of another model."""
    schedule = SCHEDULES["square"]
    engine = Engine(ns.Pipeline(make_tokenizer(schedule), make_var(schedule, **config)), "other")
    yield Model(engine)
    engine.close(0)


@pytest.fixture
def other():
    """One with other classes."""
    with another(num_classes=3) as model:
        yield model


def saved(image: ImageFile.ImageFile, path: Path) -> Provenance:
    """What an image of the page says of itself."""
    assert isinstance(image.fp, io.BytesIO)
    path.write_bytes(image.fp.getvalue())
    return read_provenance(path)


def test_images_are_saved_with_how_they_were_made(model, tmp_path):
    with another() as other:
        *steps, last = compare([(model, SETTINGS), (other, PLAIN)], [2, model.no_class], 1, 7)
        weights = [m.pipeline.fingerprint for m in (model, other)]
    assert re.findall('download="([^"]+)"', last[1]) == [
        "a-hat-7.png",
        "b-hat-7.png",
        "a-no-class-8.png",
        "b-no-class-8.png",
    ]
    assert not any("download" in str(step[1]) for step in steps)
    expected = [("tiny", "hat", 4.0, 7), ("other", "2", 0.0, 7), ("tiny", "none", 4.0, 8), ("other", "none", 0.0, 8)]
    for i, (image, (name, label, cfg, seed)) in enumerate(zip(images_of(last[1]), expected, strict=True)):
        made = saved(image, tmp_path / "a.png")
        assert (made.model, made.labels, made.settings.cfg, made.seed, made.num_images) == (
            name,
            (label,),
            cfg,
            (seed,),
            1,
        )
        assert made.weights == weights[i % 2]


def test_what_is_saved_is_drawn_again(model, tmp_path):
    *_, last = compare([(model, SETTINGS), (model, PLAIN)], [2, 0], 1, 7)
    for image in images_of(last[1]):
        made = saved(image, tmp_path / "a.png")
        assert isinstance(made.seed, tuple)
        again = alone(
            model.pipeline, model.pipeline.class_id(made.labels[0]), made.seed[0], cfg=made.settings.cfg
        ).images[0]
        assert again.tobytes() == image.tobytes()


def test_models_with_other_classes_do_not_compare(model, other):
    with refused("numbers of classes"):
        list(compare([(model, SETTINGS), (other, SETTINGS)], [2], 1, 7))


def test_two_models(start):
    one, two = Model(start()), Model(start())
    *_, last = compare([(one, SETTINGS), (two, SETTINGS)], [2], 1, 7)
    left, right = images_of(last[1])
    assert left.tobytes() == right.tobytes()
