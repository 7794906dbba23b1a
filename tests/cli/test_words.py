"""``sample``, ``edit``, ``info`` and ``convert`` with a model that has its own text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_prompts import save_word_model

import nextscale as ns
from nextscale.provenance import read_provenance


@pytest.fixture(scope="module")
def word_model(tmp_path_factory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("words") / "model")


@pytest.fixture
def sample(call, place, word_model):
    return lambda *flags: call("sample", *flags, "--model", word_model)


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_no_t5_is_needed_and_an_image_is_repeated(sample, call, word_model):
    outcome = sample("a red fox", "two car", "--seeds", 1, 2, "--separate", "--out", "a.png")
    assert outcome.code == 0 and "note" not in outcome.err
    images = ns.Pipeline.from_pretrained(word_model, device="cpu")(["a red fox", "two car"], seed=[1, 2]).images
    assert [pixels(f"a-00{i}.png") for i in range(2)] == [image.tobytes() for image in images]
    made = read_provenance("a-001.png")
    assert made.prompts == ("two car",) and made.text_encoder == ""
    assert call("sample", "--like", "a-001.png", "--model", word_model, "--out", "b.png").code == 0
    assert pixels("b.png") == pixels("a-001.png")


def test_unknown_words_are_told(sample, call, word_model, place):
    outcome = sample("a zebra", "a yak in the snow", "a fox " * 9, "--seeds", 1, 2, 3, "--out", "a.png")
    notes = [line for line in outcome.err.splitlines() if line.startswith("note: ")]
    assert outcome.code == 0 and len(notes) == 2
    assert notes[0] == "note: the model does not know 2 words: 'zebra', 'yak'" and "19 tokens: only 8" in notes[1]
    Image.new("RGB", (40, 40)).save("photo.png")
    edit = call("edit", "photo.png", "--box", "0,0,1,0.5", "--prompt", "a zebra", "--model", word_model)
    assert edit.code == 0 and "note: the model does not know the word 'zebra'" in edit.err


@pytest.mark.parametrize("flag", [("--text-encoder", "google/flan-t5-xl"), ("--text-cache", "c"), ("--unload-text",)])
def test_flags_about_another_encoder(sample, flag):
    outcome = sample("a fox", *flag)
    assert outcome.code == 2 and "has a text encoder of its own" in outcome.err


def test_info_and_convert(call, place, word_model):
    outcome = call("info", word_model)
    assert outcome.code == 0
    line = "features of width 32, at most 8 tokens, from the model's own encoder: 8 words, 2 blocks, 2 heads"
    assert line in outcome.out
    assert call("convert", "--model", word_model, "--out", "copy").code == 0
    assert ns.Pipeline.from_pretrained("copy", device="cpu").words.unknown("red zebra") == ["zebra"]
    outcome = call("convert", "--model", word_model, "--to", "official", "--out", "official")
    assert outcome.code == 2 and "no official format" in outcome.err
