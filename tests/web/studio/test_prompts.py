"""The functions of the studio's tabs with a text-to-image model."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from tiny import SCHEDULES, make_tokenizer, make_var, refused
from tiny_page import images_of, words_of
from tiny_prompts import PROMPTS, SMALL, alone, held, plain
from tiny_web import CLASSES, SETTINGS, HeldPipeline, pixels, png

import nextscale as ns
from nextscale.analysis.inspection import inspect, token_image
from nextscale.editing.spec import EditSpec
from nextscale.provenance import Provenance, read_provenance
from nextscale.sampling.settings import FOR_PROMPTS
from nextscale.scales.aspect import TEMPLATES
from nextscale.scales.image_shape import ImageShape
from nextscale.web.engine import Engine
from nextscale.web.studio.compare import compare, default_values
from nextscale.web.studio.controls import SHOWN, PromptInputs, read_settings
from nextscale.web.studio.edit import edit
from nextscale.web.studio.edit_inputs import EditInputs
from nextscale.web.studio.generate import generate, generate_first, make_job
from nextscale.web.studio.image_input import read_whole, sample_one
from nextscale.web.studio.inspection import inspect_image
from nextscale.web.studio.served_model import ASPECTS, Model
from nextscale.web.studio.studio import build_studio

FOX = PROMPTS[0]
WIDE = PromptInputs(FOX, "16:9", "grey")


@pytest.fixture
def pipeline() -> HeldPipeline:
    return held()


@pytest.fixture
def classes() -> Iterator[Model]:
    """A class-conditional model beside the text-to-image model."""
    schedule = SCHEDULES["square"]
    engine = Engine(ns.Pipeline(make_tokenizer(schedule), make_var(schedule), CLASSES), "classes")
    yield Model(engine)
    engine.close(0)


def saved(html: Any, i: int, path: Path) -> Provenance:
    """What an image of the page says of itself."""
    file = images_of(html)[i].fp
    assert isinstance(file, io.BytesIO)
    path.write_bytes(file.getvalue())
    return read_provenance(path)


def test_images_of_a_prompt_come_scale_by_scale(model, tmp_path):
    *steps, last = generate(model, make_job(model, WIDE, 2, FOR_PROMPTS, 7))
    schedule = ImageShape(aspect="16:9").schedule(SMALL, (32, 32))
    scales = [f"scale {k} of 7 ({h} × {w})" for k, (h, w) in enumerate(schedule.sizes, 1)]
    assert [words_of(step[0]) for step in steps] == ["waiting for the model …", *scales]
    expected = [alone(FOX, seed, aspect="16:9", negative_prompt="grey").images[0] for seed in (7, 8)]
    assert pixels(images_of(last[1])) == pixels(expected)
    assert words_of(last[1]) == f"{FOX} seed 7 PNG {FOX} seed 8 PNG"
    assert [(name, wanted) for name, _, wanted in last[3]] == [("seed 7", FOX), ("seed 8", FOX)]
    made = saved(last[1], 1, tmp_path / "a.png")
    assert (made.prompts, made.negative_prompt, made.shape.aspect, made.seed) == ((FOX,), "grey", "16:9", (8,))
    words = shlex.split(last[-2])
    assert words[:3] == ["nextscale", "sample", FOX] and words[words.index("--aspect") + 1] == "16:9"
    compile(last[-1], "shown", "exec")


def test_a_prompt_must_not_be_empty(model):
    for function in (lambda: make_job(model, PromptInputs(" \n"), 1, FOR_PROMPTS, 0), lambda: sample_one(model, "")):
        with refused("the prompt is empty"):
            function()


def test_a_long_prompt_is_cut_in_captions(model):
    prompt = "a very long prompt; " * 30
    *_, last = generate(model, make_job(model, PromptInputs(prompt), 1, FOR_PROMPTS, 7))
    assert words_of(last[1]) == "a very long prompt; a very … seed 7 PNG"
    assert 'download="a-very-long-prompt-a-very-7.png"' in last[1]


def test_the_page_begins_with_one_image(model):
    *_, last = generate_first(model)
    assert pixels(images_of(last[1])) == pixels(alone("a fox in the snow", 0).images)


def test_every_template_has_an_aspect(model):
    schedules = {ImageShape(aspect=aspect).schedule(SMALL, (32, 32)) for aspect in ASPECTS}
    assert len(schedules) == len(TEMPLATES) == len(model.aspects)
    assert ("1:1 square, 32 × 32", "") in model.aspects and ("16:9 wide, 42 × 24", "16:9") in model.aspects
    assert "15 aspects" in model.facts and "text to image" in model.facts


def controls_of(studio: gr.Blocks) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for block in studio.blocks.values():
        found.setdefault(str(getattr(block, "label", None)), []).append(block)
    return found


def test_controls_show_the_settings_of_the_model(start, pipeline):
    pipeline.settings = FOR_PROMPTS.changed(cfg=[1, 2, 3, 4, 5, 6, 7], temperature=0.7, guidance_blocks=[-1])
    controls = controls_of(build_studio(start()))
    assert {block.value for block in controls["Guidance scale (cfg)"][:2]} == {7.0}
    assert controls["Temperature"][0].value == 0.7 and controls["Top-k"][0].value == 900
    assert "Classes" not in controls and "Class of the generated part" not in controls and len(controls["Prompt"]) == 2
    assert "class" not in [value for _, value in controls["Mode"][0].choices]
    shown = default_values([Model(start())], 0)
    assert read_settings(*shown, settings=pipeline.settings) == pipeline.settings  # the list stays
    changed = dict(zip(SHOWN, shown, strict=True)) | {"cfg": 2.0}
    assert read_settings(*changed.values(), settings=pipeline.settings) == pipeline.settings.changed(cfg=2.0)


def test_a_model_of_one_size_has_no_aspect_picker(start, pipeline, monkeypatch):
    monkeypatch.setattr("nextscale.web.studio.served_model.follows_template", lambda schedule: False)
    controls = controls_of(build_studio(start()))
    assert "Aspect" not in controls and "Prompt" in controls


# ---- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("prompt", [FOX, ""])
def test_an_edit_takes_the_shape_of_the_upload(model, fit, prompt, tmp_path):
    upload = Image.effect_noise((100, 56), 80).convert("RGB")
    given = read_whole(png(upload), model)
    assert model.size_of(given.schedule) == (24, 42) and given.shown(model, "crop").size == (42, 24)
    spec = EditSpec(box=(0.25, 0, 0.75, 1), fit=fit)
    shown_part = given.shown(model, fit)
    inputs = EditInputs(spec, shown_part, None, prompt, 2, FOR_PROMPTS, 7, given.schedule)
    *_, last = edit(model, inputs)
    shown = [image.convert("RGB") for image in images_of(last[2])]
    result = plain().edit(shown_part, box=spec.box, fit=fit, labels=prompt, num_images=2, seed=[7, 8], size="42x24")
    assert pixels(shown) == pixels(result.images)
    made = saved(last[2], 0, tmp_path / "a.png")
    assert made.prompts == (prompt,) and made.shape.size == "42x24" and made.edit is not None
    assert "--size 42x24" in last[5] and ("--prompt" in last[5] or not prompt)


def test_a_negative_prompt_and_continuation(model):
    image = sample_one(model, FOX)
    text = PromptInputs(negative="grey ").text
    inputs = EditInputs(EditSpec(scales_kept=3), image, None, FOX, 1, FOR_PROMPTS, 7, None, text)
    *_, last = edit(model, inputs)
    result = plain().continue_from(image, 3, labels=FOX, seed=[7], negative_prompt="grey")
    assert pixels(images_of(last[2])) == pixels(result.images)
    with refused("no image yet"):
        list(edit(model, replace(inputs, image=None)))


# ---- other tabs ------------------------------------------------------------------------------------------------------


def test_a_token_map_of_bits_for_each_scale(model):
    image = Image.effect_noise((84, 48), 80).convert("RGB")
    original, pyramid, table = inspect_image(image, model)
    views = inspect(image, plain().tokenizer, model.schedule_for(image))
    shown = images_of(pyramid)
    assert [p.tobytes() for p in shown[::3]] == [token_image(v.tokens, model.colours).tobytes() for v in views]
    assert shown[-3].size == (21, 12) and shown[-1].size == (42, 24) and images_of(original)[0].size == (42, 24)
    assert '--aspect:42/24"' in pyramid and "6 bits" not in pyramid
    tokens = sum(view.tokens[..., 0].numel() for view in views)
    assert f"{6 * tokens:,} bits in all, 6 for each token" in words_of(table)
    assert "12 × 21 252 1,512" in words_of(table)


def test_two_settings_of_one_prompt(model):
    less = FOR_PROMPTS.changed(cfg=1.0)
    *_, last = compare([(model, FOR_PROMPTS), (model, less)], [], 2, 7, WIDE)
    options: dict[str, Any] = {"aspect": "16:9", "negative_prompt": "grey"}
    expected = [alone(FOX, seed, cfg=cfg, **options).images[0] for seed in (7, 8) for cfg in (3.0, 1.0)]
    assert pixels(images_of(last[1])) == pixels(expected)


def test_a_model_of_classes_beside_one_of_text(model, classes, tmp_path):
    *steps, last = compare([(model, FOR_PROMPTS), (classes, SETTINGS)], [2, 0], 1, 7, PromptInputs(FOX))
    left, right = images_of(last[1])[::2], images_of(last[1])[1::2]
    assert pixels(left) == pixels([alone(FOX, seed).images[0] for seed in (7, 8)])
    own = classes.pipeline(["hat", "Ankle boot"], seed=[7, 8], settings=SETTINGS)
    assert pixels(right) == pixels(own.images)
    assert saved(last[1], 2, tmp_path / "a.png").prompts == (FOX,)
    assert saved(last[1], 3, tmp_path / "a.png").labels == ("Ankle boot",)
    assert "B hat, seed 7" in words_of(last[1])
    assert any("A: scale 7 of 7" in words_of(step[0]) for step in steps)
    build_studio(model.engine, [classes.engine])
