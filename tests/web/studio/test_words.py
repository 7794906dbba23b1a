"""The studio with a model that has its own text encoder."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from tiny_infinity import make_tokenizer
from tiny_page import words_of
from tiny_web import HeldPipeline
from tiny_words import make_word_model

from nextscale.web.studio.controls import notes_html
from nextscale.web.studio.studio import build_studio


@pytest.fixture
def pipeline() -> HeldPipeline:
    return HeldPipeline(make_tokenizer(), make_word_model(), device="cpu", dtype="float32")


def test_unknown_words_are_told_under_the_prompt(model):
    assert unescape(words_of(notes_html(model, "a <b>"))) == "the model does not know 3 words: '<', 'b', '>'"
    assert notes_html(model, "a red fox") == notes_html(model, "") == notes_html(model, "\ud800") == ""
    assert "&#x27;zebra&#x27;" in notes_html(model, "zebra")


def test_the_page_has_a_line_for_notes(model):
    studio = build_studio(model.engine)
    config: Any = studio.config
    told = [c["props"]["value"] for c in config["components"] if "ns-told" in str(c["props"].get("value", ""))]
    assert told == []  # the first prompt has known words only
    events = [target[1] for each in config["dependencies"] for target in each["targets"]]
    assert events.count("blur") >= 2  # Generate and Edit
    assert {f.queue for f in studio.fns.values() if "blur" in {name for _, name in f.targets}} == {False}
