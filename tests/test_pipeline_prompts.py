"""Pipelines of text-to-image models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused, same
from tiny_infinity import LENGTHS, TEXT_WIDTH, WordEncoder, make_infinity, make_text, make_tokenizer
from tiny_t5 import write_t5

import nextscale as ns
from nextscale.conditioning.prompts import POSITIVE_PHRASE
from nextscale.imaging.images import to_tensor
from nextscale.scales.schedule import ScaleSchedule

SMALL = ScaleSchedule.infinity("0.06M")
PROMPTS = ["a fox in the snow", "two red cars", "a bee", "blue mountains and a boat"]


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def pipe(encoder) -> ns.Pipeline:
    return ns.Pipeline(make_tokenizer(), make_infinity(), device="cpu", dtype="float32", text_encoder=encoder)


@pytest.fixture
def any_shape(encoder) -> ns.Pipeline:
    """A model whose schedule is that of a template, at its smallest budget."""
    parts = make_tokenizer(schedule=SMALL, channels=32, multipliers=(1, 1)), make_infinity(schedule=SMALL)
    return ns.Pipeline(*parts, device="cpu", dtype="float32", text_encoder=encoder)


def test_a_prompt_is_encoded_and_sampled(pipe, encoder):
    result = pipe(PROMPTS, seed=7, cfg=2.0)
    expected = ns.sample(
        make_tokenizer(), make_infinity(), encoder.encode(PROMPTS), seed=7, settings=pipe.settings, cfg=2.0
    )
    assert same(result.tokens, expected.tokens) and result.prompts == PROMPTS and result.labels == []
    assert len(result.images) == 4 and result.images[0].size == (12, 12)


def test_one_prompt_for_several_images(pipe, encoder):
    result = pipe("a bee", num_images=3, seed=[1, 2, 3])
    assert result.prompts == ["a bee"] * 3 and encoder.encoded == ["a bee"]
    assert same(result.tokens, pipe(["a bee"] * 3, seed=[1, 2, 3]).tokens)
    assert same(pipe(prompt="a bee", seed=[2]).tokens, [t[1:2] for t in result.tokens])


def test_an_image_does_not_depend_on_its_batch(pipe):
    """Prompts of other lengths beside it, and other seeds: bits and pixels are equal."""
    together = pipe(PROMPTS, seed=[4, 5, 6, 7], negative_prompt="grey")
    for i, prompt in enumerate(PROMPTS):
        alone = pipe(prompt, seed=[4 + i], negative_prompt="grey")
        assert same([t[i : i + 1] for t in together.tokens], alone.tokens)
        assert alone.images[0].tobytes() == together.images[i].tobytes()


def test_features_instead_of_prompts(pipe):
    text = make_text(*LENGTHS)
    result = pipe(text, seed=1)
    assert same(
        result.tokens, ns.sample(make_tokenizer(), make_infinity(), text, seed=1, settings=pipe.settings).tokens
    )
    assert result.prompts == []


def test_a_negative_prompt_and_the_positive_phrase(pipe, encoder):
    plain, negative = pipe("a man", seed=1), pipe("a man", seed=1, negative_prompt="a bee")
    assert not same(plain.tokens, negative.tokens)
    encoder.encoded.clear()
    phrase = pipe(["a man", "a bee"], seed=1, positive_phrase=True)
    assert encoder.encoded == [f"a man. {POSITIVE_PHRASE}", "a bee"] and phrase.prompts == ["a man", "a bee"]


@pytest.mark.parametrize(
    "shape, size",
    [
        ({}, (32, 32)),
        ({"aspect": "16:9"}, (42, 24)),
        ({"aspect": 16 / 9}, (24, 42)),
        ({"aspect": "1:3", "budget": "0.06M"}, (18, 54)),
        ({"size": "32x32"}, (32, 32)),
        ({"size": "30x15"}, (44, 22)),
        ({"budget": "0.25M"}, (64, 64)),
        ({"size": "60x70"}, (56, 70)),
    ],
)
def test_the_shape_of_images(any_shape, shape, size):
    """Two pixels per side of a token; 0.06M is 16 x 16 tokens."""
    assert any_shape("a bee", seed=0, stop_after=2, **shape).images[0].size == size


def test_one_size_only(pipe):
    assert pipe("a bee", size="12x12").images[0].size == (12, 12)
    for shape in ({"size": "24x12"}, {"aspect": "16:9"}, {"budget": "1M"}):
        with refused("12x12 pixels, not", next(iter(shape.values()))):
            pipe("a bee", **shape)
    classes = ns.Pipeline.from_pretrained(device="cpu")
    with refused("64x64 pixels, not 32x32"):
        classes(["hat"], size="32x32")
    for option in ({"negative_prompt": "grey"}, {"positive_phrase": True}):
        with refused(next(iter(option)), "takes class labels"):
            classes(["hat"], **option)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"labels": ""}, ["prompt 0 is empty"]),
        ({"labels": ["a", " "]}, ["prompt 1 is empty"]),
        ({"labels": None}, ["at least one prompt"]),
        ({"labels": []}, ["at least one prompt"]),
        ({"labels": ["a", "b"], "num_images": 3}, ["2 prompts", "3 images"]),
        ({"labels": [3]}, ["prompt 0", "3"]),
        ({"labels": "a", "negative_prompt": 3}, ["negative prompt", "3"]),
        ({"labels": "a", "aspect": "wide"}, ["16:9", "wide"]),
        ({"labels": "a", "budget": "2M"}, ["1M", "2M"]),
        ({"labels": "a", "size": "12"}, ["1024x768", "12"]),
        ({"labels": "a", "size": "12x12", "aspect": "1:1"}, ["both"]),
        ({"labels": "a", "cfg": [1.0, 2.0]}, ["3 scales", "2"]),
        ({"labels": "a", "guidance_blocks": [-7]}, ["-3", "-7"]),
    ],
)
def test_bad_requests(pipe, arguments, words):
    with refused(*words):
        pipe(**arguments)


def test_the_wrong_text_encoder(pipe):
    pipe.set_text_encoder(WordEncoder(width=TEXT_WIDTH + 1))
    with refused(TEXT_WIDTH, TEXT_WIDTH + 1):
        pipe("a bee")
    pipe.set_text_encoder("")
    with refused("no text encoder"):
        pipe("a bee")
    with refused("class labels"):
        ns.Pipeline.from_pretrained(device="cpu").set_text_encoder("google/flan-t5-xl")


def test_prompts_of_any_script(pipe):
    result = pipe(["🦊 in the ❄️", "ثعلب في الثلج", "שלום עולם"], seed=[1, 2, 3])
    assert len(result.images) == 3


# ---- editing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["inpaint", "outpaint"])
@pytest.mark.parametrize("prompt", ["a bee", None])
def test_kept_pixels_stay_and_hidden_ones_have_no_influence(pipe, photo, mode, prompt):
    arguments: dict[str, Any] = {"box": (0, 0, 0.34, 1), "mode": mode, "seed": [1, 2], "num_images": 2}
    result = pipe.edit(photo, labels=prompt, **arguments)
    kept = ~result.plan.hidden.numpy()
    assert kept.any() and not kept.all() and result.prompts == [prompt or ""] * 2
    base = np.asarray(result.plan.image)
    assert all((np.asarray(image)[kept] == base[kept]).all() for image in result.images)
    changed = np.asarray(photo).copy()
    changed[: 2 if mode == "inpaint" else 0] = 0  # the kernel that resizes the image is 15 pixels wide
    changed[18 if mode == "outpaint" else 30 :] = 0
    again = pipe.edit(Image.fromarray(changed), labels=prompt, **arguments)
    assert same(result.tokens, again.tokens)


def test_a_prompt_of_an_edit_has_two_names(pipe, photo):
    region = {"box": (0, 0, 0.5, 1), "seed": [1]}
    named = pipe.edit(photo, prompt="a bee", **region)
    assert named.prompts == ["a bee"] and same(named.tokens, pipe.edit(photo, labels="a bee", **region).tokens)
    kept, again = (pipe.continue_from(photo, 2, **{name: "a bee"}) for name in ("prompt", "labels"))
    assert same(kept.tokens, again.tokens)
    for call in (pipe, lambda *labels, **more: pipe.edit(photo, labels=labels[0], **region, **more)):
        with refused("both"):
            call("a bee", prompt="a fox")


def test_a_variant_alone_is_that_of_a_batch(pipe, photo):
    both = pipe.edit(photo, box=(0, 0, 0.5, 1), labels=["a bee", "two red cars"], num_images=2, seed=[1, 2])
    alone = pipe.edit(photo, box=(0, 0, 0.5, 1), labels="two red cars", seed=[2])
    assert alone.images[0].tobytes() == both.images[1].tobytes()


def test_variations_keep_the_first_scales(pipe, photo):
    result = pipe.continue_from(photo, 2, labels="a bee", seed=[3])
    edit = result.plan.edit
    merged = edit.put(result.tokens, result.plan.schedule)
    assert same(merged[:2], list(edit.tokens[:2])) and same(merged[2:], result.tokens[2:])
    keep = pipe.tokenizer.encode(to_tensor(result.plan.image)[None])
    sampled = ns.sample(
        pipe.tokenizer,
        pipe.model,
        WordEncoder().encode(["a bee"]),
        seed=[3],
        settings=pipe.settings,
        keep_scales=keep[:2],
    )
    assert same(sampled.tokens[2:], result.tokens[2:])


def test_an_edit_takes_the_shape_of_the_image(any_shape):
    wide = Image.new("RGB", (300, 150), (90, 120, 200))
    result = any_shape.edit(wide, box=(0, 0, 1, 0.5), labels="a bee", seed=[1])
    assert result.plan.schedule == ScaleSchedule.infinity("0.06M", 0.5) and result.images[0].size == (44, 22)
    square = any_shape.edit(wide, box=(0, 0, 1, 0.5), labels="a bee", seed=[1], aspect="1:1")
    assert square.images[0].size == (32, 32)


# ---- saving ----------------------------------------------------------------------------------------------------------


def test_a_saved_model_brings_its_text_encoder(pipe, tmp_path):
    t5 = write_t5(tmp_path / "t5", d_model=TEXT_WIDTH)
    pipe.set_text_encoder(str(t5))
    pipe.settings = pipe.settings.changed(cfg=2.5, guidance_blocks=[0, -1])
    pipe.save_pretrained(tmp_path / "model")
    loaded = ns.Pipeline.from_pretrained(tmp_path / "model", device="cpu", dtype="float32")
    assert loaded.settings == pipe.settings and loaded.text_encoder == str(tmp_path / "model" / "text_encoder")
    for prompt in PROMPTS:
        assert same(loaded(prompt, seed=[2]).tokens, pipe(prompt, seed=[2]).tokens)
    loaded.save_pretrained(tmp_path / "model", torch.bfloat16)  # in place
    assert ns.Pipeline.from_pretrained(tmp_path / "model", device="cpu")("a bee").images


def test_a_text_encoder_on_the_hub_is_named(pipe, tmp_path):
    pipe.set_text_encoder("google/flan-t5-xl")
    pipe.save_pretrained(tmp_path / "model")
    assert ns.Pipeline.from_pretrained(tmp_path / "model", device="cpu").text_encoder == "google/flan-t5-xl"
