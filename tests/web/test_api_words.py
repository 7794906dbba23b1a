"""The API with a model that has its own text encoder."""

from __future__ import annotations

import pytest
from PIL import Image
from tiny_client import ask, edit, events, generated
from tiny_infinity import make_tokenizer
from tiny_web import HeldPipeline, pixels, png
from tiny_words import make_word_model, word_pipeline

ZEBRA = ["the model does not know the word 'zebra'"]


@pytest.fixture
def pipeline() -> HeldPipeline:
    return HeldPipeline(make_tokenizer(), make_word_model(), device="cpu", dtype="float32")


def test_images_are_those_of_the_pipeline(client):
    response = ask(client, prompt="a red fox", seed=5, n=2)
    assert generated(response) == pixels(word_pipeline()("a red fox", num_images=2, seed=[5, 6]).images)
    assert response.json()["notes"] == []


def test_unknown_words_are_told(client, capsys):
    assert ask(client, prompt="a zebra!", seed=5).json()["notes"] == ZEBRA
    assert ask(client, prompt="a fox", negative_prompt="zebra", seed=5).json()["notes"] == ZEBRA
    assert "19 tokens: only 8 are used" in ask(client, prompt="a fox " * 9, seed=5).json()["notes"][0]
    parts = events(ask(client, prompt="a zebra", seed=5, stream=True).text)
    assert len(parts) == 3 and all(part["notes"] == ZEBRA for part in parts)
    photo = {"image": png(Image.new("RGB", (30, 30)))}
    assert edit(client, photo, box="0,0,0.5,1", prompt="a zebra", seed=1).json()["notes"] == ZEBRA
    assert edit(client, photo, box="0,0,0.5,1", seed=1).json()["notes"] == []
    assert capsys.readouterr().err == ""  # prompts do not belong in the server's log


@pytest.mark.parametrize("prompt", ["🦊" * 10_000, "z" * 60_000, "word " * 10_000, "<b>"])
def test_notes_are_short(client, prompt):
    response = ask(client, prompt=prompt, seed=1)
    assert response.status_code == 200 and sum(map(len, response.json()["notes"])) < 1000
