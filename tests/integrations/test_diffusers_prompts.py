"""A text-to-image model as a diffusers pipeline."""

from __future__ import annotations

import pytest
import torch
from tiny import refused
from tiny_infinity import WordEncoder, make_infinity, make_tokenizer
from tiny_words import make_word_model, word_pipeline

import nextscale as ns
from nextscale.scales.schedule import ScaleSchedule

pytest.importorskip("diffusers")

from nextscale.integrations.diffusers import NextScalePipeline, seeds_from

SMALL = ScaleSchedule.infinity("0.06M")


@pytest.fixture
def parts() -> tuple[ns.ImageTokenizer, ns.Infinity]:
    return make_tokenizer(schedule=SMALL, channels=32, multipliers=(1, 1)), make_infinity(schedule=SMALL)


@pytest.fixture
def pipe(parts) -> NextScalePipeline:
    adapter = NextScalePipeline(*parts, text_encoder=WordEncoder())
    adapter.set_progress_bar_config(disable=True)
    return adapter


@pytest.fixture
def ours(parts) -> ns.Pipeline:
    return ns.Pipeline(*parts, device="cpu", dtype="float32", text_encoder=WordEncoder())


def pixels(images) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_prompts_are_those_of_our_pipeline(pipe, ours):
    generator = torch.Generator().manual_seed(3)
    images = pipe(
        prompt=["a fox", "two red cars"],
        negative_prompt="grey",
        num_images_per_prompt=2,
        guidance_scale=2.5,
        generator=generator,
    ).images
    seeds = seeds_from(torch.Generator().manual_seed(3), 4)
    prompts = ["a fox", "a fox", "two red cars", "two red cars"]
    assert pixels(images) == pixels(ours(prompts, negative_prompt="grey", cfg=2.5, seed=seeds).images)


def test_the_default_settings_are_those_of_the_model(pipe, ours):
    seeds = seeds_from(torch.Generator().manual_seed(3), 1)
    image = pipe(prompt="a fox", generator=torch.Generator().manual_seed(3)).images[0]
    assert image.tobytes() == ours("a fox", seed=seeds).images[0].tobytes()


@pytest.mark.parametrize("guidance_scale", [1.0, 0.0])
def test_no_guidance(pipe, ours, guidance_scale):
    seeds = seeds_from(torch.Generator().manual_seed(3), 1)
    image = pipe(prompt="a fox", guidance_scale=guidance_scale, generator=torch.Generator().manual_seed(3)).images[0]
    assert image.tobytes() == ours("a fox", cfg=1.0, seed=seeds).images[0].tobytes()


def test_height_and_width(pipe):
    assert pipe(prompt="a fox", height=22, width=44).images[0].size == (44, 22)
    assert pipe(prompt="a fox", output_type="pt", height=32).images.shape == (1, 3, 32, 32)


def test_callbacks_see_the_scales_of_the_size(pipe):
    seen = []
    pipe(prompt="a fox", width=44, height=22, callback_on_step_end=lambda *step: seen.append((step[1], step[2])))
    assert seen == list(enumerate(ScaleSchedule.infinity("0.06M", 0.5).sizes))


def test_another_pipeline_of_the_same_parts(pipe):
    again = NextScalePipeline.from_pipe(pipe)
    assert isinstance(again, NextScalePipeline)
    again.set_progress_bar_config(disable=True)
    image = [p(prompt="a fox", generator=torch.Generator().manual_seed(1)).images[0].tobytes() for p in (pipe, again)]
    assert image[0] == image[1]


def test_a_saved_model(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    loaded = NextScalePipeline.from_pretrained(tmp_path / "model")
    assert isinstance(loaded.transformer, ns.Infinity)


def test_bad_calls(pipe):
    with refused("class_labels or a prompt"):
        pipe()
    with refused("prompt 0 is empty"):
        pipe(prompt="")
    with refused("guidance_scale"):
        pipe(prompt="a fox", cfg=3.0)


def test_a_model_with_a_text_encoder_of_its_own(tmp_path, capsys):
    pipe = NextScalePipeline(make_tokenizer(), make_word_model())
    pipe.set_progress_bar_config(disable=True)
    seeds = seeds_from(torch.Generator().manual_seed(3), 1)
    image = pipe(prompt="a red zebra", generator=torch.Generator().manual_seed(3)).images[0]
    assert image.tobytes() == word_pipeline()("a red zebra", seed=seeds).images[0].tobytes()
    assert "does not know the word 'zebra'" in capsys.readouterr().err
    pipe.save_pretrained(tmp_path / "model")
    again = NextScalePipeline.from_pretrained(tmp_path / "model")
    again.set_progress_bar_config(disable=True)
    assert pixels([again(prompt="a red zebra", generator=torch.Generator().manual_seed(3)).images[0]]) == pixels(
        [image]
    )
