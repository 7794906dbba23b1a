"""Requests to text-to-image models: the text encoder of an image, notes, lists with commas, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_infinity import TEXT_WIDTH
from tiny_prompts import save_model
from tiny_t5 import write_t5

import nextscale as ns
from nextscale.provenance import read_provenance


@pytest.fixture(scope="module")
def text_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_model(folder)
    write_t5(folder / "other", seed=1, d_model=TEXT_WIDTH)
    return folder / "model"


def test_like_refuses_another_text_encoder(call, place, text_model):
    assert call("sample", "a fox", "--model", text_model, "--seeds", 1, "--out", "a.png").code == 0
    other = text_model.parent / "other"
    outcome = call("sample", "--like", "a.png", "--model", text_model, "--text-encoder", other, "--out", "b.png")
    assert outcome.code == 2 and "made with another text encoder" in outcome.err and outcome.err.count("\n") == 1
    same = ("--text-encoder", text_model / "text_encoder")
    assert call("sample", "--like", "a.png", "--model", text_model, *same, "--out", "b.png").code == 0


def test_like_keeps_the_precision_of_the_text_encoder(call, place, text_model):
    flags = ("--model", text_model, "--text-dtype", "float32")
    assert call("sample", "a fox", *flags, "--seeds", 1, "--out", "a.png").code == 0
    made = read_provenance("a.png")
    assert made.text_dtype == "float32" and "--text-dtype float32" in made.command()
    assert call("sample", "--like", "a.png", "--model", text_model, "--out", "b.png").code == 0
    assert read_provenance("b.png") == made
    contrary = call("sample", "--like", "a.png", "--model", text_model, "--text-dtype", "bfloat16", "--out", "c.png")
    assert contrary.code == 2 and "--text-dtype cannot be combined with --like" in contrary.err
    prompt = call("sample", "a bee", "--like", "a.png", "--model", text_model)
    assert prompt.code == 2 and "PROMPT cannot be combined" in prompt.err


def test_a_cut_prompt_is_in_the_notes(text_model, capsys):
    result = ns.Pipeline.from_pretrained(text_model, device="cpu")("a fox", negative_prompt="bee " * 99, seed=1)
    assert len(result.notes) == 1 and result.notes[0].startswith("the negative prompt has")
    assert capsys.readouterr().err.count("is cut to") == 1


def test_lists_take_commas(call, place, text_model):
    flags = ("sample", "a fox", "--model", text_model, "--seeds", "1,2")
    assert call(*flags, "--cfg", "3,3,3,2,2,1,1", "--guidance-blocks", "0,-2", "--out", "a.png").code == 0
    settings = read_provenance("a.png").settings
    assert settings.cfg == (3, 3, 3, 2, 2, 1, 1) and settings.guidance_blocks == (0, -2)
    outcome = call(*flags, "--cfg", "3,x")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and "not '3,x'" in outcome.err


def test_edits_refuse_what_the_model_does_not_take(call, place, model, text_model):
    Image.new("RGB", (40, 40)).save("photo.png")
    edit = ("edit", "photo.png", "--box", "0,0,1,0.5")
    outcome = call(*edit, "--model", model, "--negative-prompt", "grey")
    assert outcome.code == 2 and "negative_prompt is for text-to-image models" in outcome.err
    outcome = call(*edit, "--model", text_model, "--mode", "class")
    assert outcome.code == 2 and "mode class needs a prompt" in outcome.err
    pipe = ns.Pipeline.from_pretrained(text_model, device="cpu")
    with pytest.raises(ns.InputError, match="mode class needs a prompt"):
        pipe.edit("photo.png", box=(0, 0, 1, 0.5), mode="class")


@pytest.mark.parametrize(
    "argument", [{"num_images": "2"}, {"aspect": 0}, {"edit": 3}, {"settings": {}}, {"seed": b"x"}]
)
def test_arguments_of_the_wrong_type(text_model, argument):
    with pytest.raises(ns.InputError):
        ns.Pipeline.from_pretrained(text_model, device="cpu")("a fox", **argument)


def test_convert_overwrites_no_model(call, place, model):
    assert call("convert", "--model", model, "--out", "copy").code == 0
    before = Path("copy/transformer/model.safetensors").read_bytes()
    for source, words in ((model, "holds a model"), ("copy", "holds the model to convert")):
        outcome = call("convert", "--model", source, "--dtype", "bfloat16", "--out", "copy")
        assert outcome.code == 2 and words in outcome.err
    assert Path("copy/transformer/model.safetensors").read_bytes() == before


def test_an_error_of_info_prints_nothing_before(call):
    outcome = call("info", "d16", "--budget", "1M")
    assert outcome.code == 2 and not outcome.out
