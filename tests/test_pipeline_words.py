"""Pipelines of models with a text encoder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import refused, same
from tiny_infinity import WordEncoder, make_tokenizer
from tiny_words import make_word_model, word_pipeline

import nextscale as ns
from nextscale.pipeline import Pipeline

PROMPTS = ["a red fox in the snow", "two car", "snow"]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def pipe(said) -> ns.Pipeline:
    pipe = word_pipeline()
    pipe.tell = said.append
    return pipe


def test_prompts_need_no_other_encoder(pipe, said):
    result = pipe(PROMPTS, seed=7, cfg=2.0, negative_prompt="car")
    words = make_word_model().words
    assert words is not None
    ids = words.ids([*PROMPTS, "car"])
    options = {"seed": 7, "settings": pipe.settings, "cfg": 2.0, "negative": ids.select([3])}
    expected = ns.sample(make_tokenizer(), make_word_model(), ids.select([0, 1, 2]), **options)
    assert same(result.tokens, expected.tokens) and result.prompts == PROMPTS
    assert result.notes == said == [] and pipe.text_encoder == ""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_image_does_not_depend_on_its_batch(dtype):
    pipe = word_pipeline(dtype=dtype)
    together = pipe(PROMPTS, seed=[4, 5, 6], negative_prompt="the fox")
    for i, prompt in enumerate(PROMPTS):
        alone = pipe(prompt, seed=[4 + i], negative_prompt="the fox")
        assert same([t[i : i + 1] for t in together.tokens], alone.tokens)
        assert alone.images[0].tobytes() == together.images[i].tobytes()


def test_features_do_not_depend_on_the_number_of_cores(pipe):
    encoder = pipe.requests.encoder
    cores = torch.get_num_threads()
    one = encoder.encode(PROMPTS)
    try:
        torch.set_num_threads(2)
        two = encoder.encode(PROMPTS[::-1]).select([2, 1, 0])
    finally:
        torch.set_num_threads(cores)
    assert torch.equal(one.features, two.features) and not one.features.requires_grad
    torch.testing.assert_close(one.features, pipe.words(pipe.words.ids(PROMPTS)).features, atol=1e-5, rtol=0)


def test_unknown_words_are_told(pipe, said):
    result = pipe(["a Zebra, in the snow!", "a red zebra"], seed=1, negative_prompt="grey")
    assert result.notes == ["the model does not know 2 words: 'zebra', 'grey'"]
    assert said == [f"note: {result.notes[0]}"]
    assert pipe("a 🦓", seed=1).notes == ["the model does not know the word '🦓'"]
    many = pipe(" ".join(f"word{i}" for i in range(30)), seed=1).notes
    assert many[0].startswith("the model does not know 30 words: 'word0'") and many[0].endswith("'word9' and 20 more")


def test_long_prompts_are_cut_and_that_is_told(pipe, said):
    result = pipe("a fox in the snow a red car two fox", seed=[1])
    assert same(result.tokens, pipe("a fox in the snow a red", seed=[1]).tokens)
    assert result.notes == ["the prompt 'a fox in the snow a red car two fox' has 11 tokens: only 8 are used"]
    assert said == [f"note: {result.notes[0]}"]


def test_notes_are_printed_once(capsys):
    pipe = word_pipeline()
    for _ in range(2):
        pipe("a zebra", seed=1, stop_after=1)
    assert capsys.readouterr().err == "note: the model does not know the word 'zebra'\n"


def test_edits(pipe, said):
    photo = Image.new("RGB", (30, 30), (90, 120, 200))
    result = pipe.edit(photo, box=(0, 0, 0.5, 1), prompt="a zebra", num_images=2, seed=[1, 2])
    assert result.notes == ["the model does not know the word 'zebra'"] and result.prompts == ["a zebra"] * 2
    assert pipe.edit(photo, box=(0, 0, 0.5, 1), seed=[1]).notes == []


def test_no_other_encoder_is_accepted(pipe):
    for encoder in ("google/flan-t5-xl", WordEncoder(), Path("t5")):
        with refused("text encoder of its own"):
            pipe.set_text_encoder(encoder)
    with refused("text encoder of its own"):
        word_pipeline(text_encoder="google/flan-t5-xl")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_saved_model_brings_its_words(pipe, tmp_path, dtype):
    pipe.save_pretrained(tmp_path, dtype)
    assert not (tmp_path / "text_encoder").exists()
    loaded = Pipeline.from_pretrained(tmp_path, device="cpu", dtype="float32")
    assert loaded.model.config == pipe.model.config and loaded.words.unknown("a red zebra") == ["zebra"]
    result = loaded(PROMPTS, seed=[1, 2, 3])
    if dtype is None:
        assert same(result.tokens, pipe(PROMPTS, seed=[1, 2, 3]).tokens)
    assert len(result.images) == 3


def test_other_models_import_no_code_for_words():
    code = "import sys, nextscale as ns; ns.Pipeline.from_pretrained(device='cpu'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = ("words", "splitting", "vocabulary", "own_encoder")
    assert "nextscale.pipeline" in loaded and not {f"nextscale.conditioning.{name}" for name in ours} & set(loaded)


def test_no_official_format(pipe):
    with refused("no official format"):
        ns.to_official(pipe.tokenizer, pipe.model)
