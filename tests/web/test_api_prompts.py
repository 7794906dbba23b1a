"""The API with a text-to-image model."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tiny_client import ask, edit, events, generated, opened, refusal
from tiny_prompts import PROMPTS, SMALL, alone, held, plain, save_model
from tiny_web import HeldPipeline, pixels, png

from nextscale.cli.main import main
from nextscale.pipeline import Pipeline
from nextscale.provenance import read_provenance
from nextscale.sampling.settings import FOR_PROMPTS
from nextscale.scales.aspect import TEMPLATES
from nextscale.web.engine import Engine
from nextscale.web.server import build_app

FOX = PROMPTS[0]
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 71, 3), dtype=np.uint8))


@pytest.fixture
def pipeline() -> HeldPipeline:
    return held()


def test_images_are_those_of_the_pipeline(client):
    response = ask(client, prompt=FOX, n=2, seed=5)
    assert generated(response) == [alone(FOX, 5 + i).images[0].tobytes() for i in range(2)]
    assert [(entry["seed"], entry["label"]) for entry in response.json()["data"]] == [(5, FOX), (6, FOX)]
    assert response.json()["size"] == "32x32"


def test_settings_default_to_those_of_the_model(client, pipeline):
    pipeline.settings = FOR_PROMPTS.changed(cfg=2, temperature=1.5, guidance_blocks=[-1])
    changes: dict[str, Any] = {"cfg": 2, "temperature": 1.5, "guidance_blocks": [-1]}
    assert generated(ask(client, prompt=FOX, seed=1)) == pixels(alone(FOX, 1, **changes).images)
    changes |= {"cfg": [1, 1, 2, 2, 3, 3, 4], "top_p": 0.5, "guidance_blocks": [0, -2]}
    assert generated(ask(client, prompt=FOX, seed=1, **changes)) == pixels(alone(FOX, 1, **changes).images)


@pytest.mark.parametrize(
    "body, size",
    [
        ({}, "32x32"),
        ({"size": "auto"}, "32x32"),
        ({"size": "32x32"}, "32x32"),
        ({"size": "44x22"}, "44x22"),
        ({"size": "45x25"}, "42x24"),
        ({"size": "70x70"}, "64x64"),
        ({"aspect": "16:9"}, "42x24"),
        ({"aspect": "0.3"}, "54x18"),
        ({"aspect": "9:16", "budget": "0.06M"}, "24x42"),
    ],
)
def test_the_nearest_size_is_used_and_said(client, body, size):
    response = ask(client, prompt="a bee", seed=3, cfg=1, **body)
    shape = {name: value for name, value in body.items() if value != "auto"}
    assert generated(response) == pixels(alone("a bee", 3, cfg=1, **shape).images)
    assert response.json()["size"] == size == "{}x{}".format(*opened(response.json()["data"][0]).size)


def test_negative_prompts_and_the_positive_phrase(client):
    plain_image = generated(ask(client, prompt="a man", seed=1))
    for options in ({"negative_prompt": "a bee"}, {"positive_phrase": True}):
        ours = generated(ask(client, prompt="a man", seed=1, **options))
        assert ours == pixels(alone("a man", 1, **options).images) != plain_image


@pytest.mark.parametrize(
    "body, param, words",
    [
        ({"prompt": ""}, "prompt", "the prompt is empty"),
        ({"prompt": " \n"}, "prompt", "the prompt is empty"),
        ({"prompt": 3}, "prompt", "valid string"),
        ({"aspect": "wide"}, "aspect", "such as 16:9, or as height / width, not 'wide'"),
        ({"aspect": "0:0"}, "aspect", "not '0:0'"),
        ({"budget": "2M"}, "budget", "unknown pixel budget '2M': expected one of 0.06M, 0.25M, 0.60M, 1M"),
        ({"size": "32x32", "aspect": "1:1"}, "size", "got both"),
        ({"size": "0x9"}, "size", "a size is written WIDTHxHEIGHT in pixels, such as 1024x768, not '0x9'"),
        ({"negative_prompt": 3}, "negative_prompt", "valid string"),
        ({"positive_phrase": "yes"}, "positive_phrase", "valid boolean"),
        ({"cfg": [1, 2]}, "cfg", "one for each of the 7 scales, got 2"),
        ({"temperature": [1] * 10, "budget": "0.06M"}, "temperature", "7 scales, got 10"),
        ({"guidance_blocks": [-7]}, "guidance_blocks", "-1 to -3 (blocks), not -7"),
        ({"n": 17}, "n", "at most 16 images"),
    ],
)
def test_bad_fields_get_one_sentence(client, body, param, words):
    for stream in (False, True):
        error = refusal(ask(client, **{"prompt": FOX, "stream": stream, **body}), 400)
        assert words in error["message"] and error["param"] == param


def test_text_that_is_not_unicode(client):
    for field in ("prompt", "negative_prompt"):
        body = f'{{"prompt": "a", "{field}": "\\ud800"}}'.replace('"prompt": "a", "prompt"', '"prompt"')
        response = client.post("/v1/images/generations", content=body, headers={"Content-Type": "application/json"})
        error = refusal(response, 400)
        assert "not valid Unicode at position 0" in error["message"] and error["param"] == field


@pytest.mark.parametrize("prompt", ["🦊 in the ❄️", "ثعلب في الثلج", "none", "3", "x" * 60_000, "word " * 10_000])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_prompts_of_any_script_and_length(client, prompt, kind, tmp_path):
    response = ask(client, prompt=prompt, seed=1, output_format=kind)
    (entry,) = response.json()["data"]
    assert response.status_code == 200 and entry["label"] == prompt
    (tmp_path / "image").write_bytes(base64.b64decode(entry["b64_json"]))
    if kind != "jpeg" or len(prompt) < 1000:  # a JPEG has no room for more
        assert read_provenance(tmp_path / "image").prompts == (prompt,)


def test_a_stream_shows_the_scales_of_its_size(client):
    *partial, last = events(ask(client, prompt=FOX, seed=5, size="44x22", stream=True, partial_images=3).text)
    assert [event["scale"] for event in partial] == ["2x2", "3x6", "5x10"]
    assert {event["size"] for event in (*partial, last)} == {"44x22"}
    assert {opened(event).size for event in (*partial, last)} == {(44, 22)} and last["label"] == FOX
    assert pixels([opened(last)]) == generated(ask(client, prompt=FOX, seed=5, size="44x22"))


def test_models_say_what_they_take(client):
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["takes"], model["classes"], model["size"]) == ("prompt", [], "32x32")
    assert len(model["sizes"]) == len(TEMPLATES) and model["sizes"][0] == "32x32" and "42x24" in model["sizes"]
    assert model["scales"] == [f"{h}x{w}" for h, w in SMALL.sizes]


# ---- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, size",
    [
        ({"box": "0,0,0.5,1", "prompt": FOX}, (42, 24)),  # the template of the image
        ({"box": "0,0,0.5,1"}, (42, 24)),
        ({"box": "0,0,0.5,1", "aspect": "1:1", "negative_prompt": "grey"}, (32, 32)),
        ({"box": "0,0,0.5,1", "prompt": FOX, "mode": "outpaint", "size": "44x22"}, (44, 22)),
        ({"box": "0,0,0.5,1", "prompt": FOX, "mode": "class", "cfg": "1,1,2,2,3,3,4"}, (42, 24)),
        ({"scales_kept": 2, "prompt": FOX, "guidance_blocks": "0,-2"}, (42, 24)),
    ],
)
def test_edits_are_those_of_the_pipeline(client, fields, size):
    response = edit(client, {"image": png(PHOTO)}, seed=3, **fields)
    named: dict[str, Any] = {name: value for name, value in fields.items() if name not in ("box", "scales_kept")}
    for name in ("cfg", "guidance_blocks"):
        if name in named:
            named[name] = [int(number) for number in named[name].split(",")]
    named["labels"] = named.pop("prompt", "")
    call = plain().continue_from if "scales_kept" in fields else plain().edit
    where: Any = {"scales": 2} if "scales_kept" in fields else {"box": (0, 0, 0.5, 1)}
    assert generated(response) == pixels(call(PHOTO, seed=[3], **where, **named).images)
    assert opened(response.json()["data"][0]).size == size and response.json()["size"] == "{}x{}".format(*size)


def test_an_edit_at_the_size_of_its_image_and_as_a_stream(client):
    fields = {"box": "0,0,0.5,1", "prompt": FOX, "seed": 3}
    assert edit(client, {"image": png(PHOTO)}, full_size=True, **fields).json()["size"] == "71x40"
    *partial, last = events(edit(client, {"image": png(PHOTO)}, stream=True, **fields).text)
    assert len(partial) == 6 and {event["size"] for event in partial} == {"42x24"}
    assert pixels([opened(last)]) == generated(edit(client, {"image": png(PHOTO)}, **fields))


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"prompt": "x" * 70_000}, "prompt"),
        ({"aspect": "wide"}, "aspect"),
        ({"cfg": "1,2"}, "cfg"),
        ({"cfg": "1,a"}, "cfg"),
        ({"size": "32x32", "budget": "1M"}, "size"),
    ],
)
def test_bad_edits_get_one_sentence(client, fields, param):
    assert refusal(edit(client, {"image": png(PHOTO)}, box="0,0,0.5,1", **fields), 400)["param"] == param


# ---- repeating -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A saved model with a T5."""
    pytest.importorskip("transformers", reason="needs the text extra")
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder)
    return folder / "model"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a fox; in the 'snow'\n- at night", "n": 2},
        {"prompt": "-1", "size": "45x25", "negative_prompt": "-grey", "cfg": [1, 1, 2, 2, 3, 3, 4]},
        {"prompt": "ثعلب في الثلج", "aspect": "3:1", "positive_phrase": True, "guidance_blocks": [0, -1]},
    ],
)
@pytest.mark.parametrize("is_edit", [False, True])
def test_metadata_and_command_repeat_the_image(model, tmp_path, monkeypatch, body, is_edit):
    monkeypatch.chdir(tmp_path)
    engine = Engine(Pipeline.from_pretrained(model, "cpu", "float32"), str(model))
    client = TestClient(build_app(engine))
    if is_edit:
        (tmp_path / "image.png").write_bytes(png(PHOTO))
        lists = {name: ",".join(map(str, value)) for name, value in body.items() if isinstance(value, list)}
        response = edit(client, {"image": png(PHOTO)}, box="0,0,0.5,1", seed=7, **body | lists)
    else:
        response = ask(client, seed=7, **body)
    engine.close(0)
    assert response.status_code == 200, response.text
    entry = response.json()["data"][-1]
    (tmp_path / "a.png").write_bytes(base64.b64decode(entry["b64_json"]))
    made = read_provenance("a.png")
    assert made.prompts == (body["prompt"],) and made.num_images == 1
    verb = ["edit"] if is_edit else ["sample"]
    main([*verb, "--like", "a.png", "--model", str(model), "--out", "b.png"])
    main([*shlex.split(made.command("c.png"))[1:]])
    for name in ("b.png", "c.png"):
        with Image.open(name) as image:
            assert image.size == opened(entry).size and image.tobytes() == opened(entry).tobytes()
