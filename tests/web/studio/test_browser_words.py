"""The studio in a headless Chromium, with a model that has its own text encoder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import CHROMIUM, serving, violations

pytest.importorskip("playwright", reason="needs playwright, of the dev extra")

from playwright.sync_api import expect
from tiny_prompts import save_word_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the path"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("words")
    with serving("--model", str(save_word_model(folder / "model")), log=folder / "log.txt") as address:
        yield address


@pytest.fixture(scope="module")
def greeting() -> str:
    return "1 image"


@pytest.mark.long
def test_unknown_words_are_told_below_the_prompt(page):
    notes = page.locator(".block.ns-notes").locator("visible=true")
    prompt = page.get_by_label("Prompt", exact=True).locator("visible=true")
    expect(notes).to_have_count(0)
    prompt.fill("a red zebra, <i>")
    prompt.blur()
    expect(notes).to_have_text("the model does not know 4 words: 'zebra', '<', 'i', '>'")
    below = prompt.bounding_box(), notes.bounding_box()
    assert 0 <= below[1]["y"] - below[0]["y"] - below[0]["height"] < 40
    assert not violations(page)
    prompt.fill("a red fox")
    page.locator("#generate-button").click()  # which leaves the field
    expect(notes).to_have_count(0)
    expect(page.locator("#generate-status")).to_have_text("1 image")
