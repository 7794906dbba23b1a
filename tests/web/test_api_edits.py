"""Edits through the API, and how images describe themselves."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tiny_client import EDIT, RED, ask, edit, events, generated, opened, refusal
from tiny_web import SETTINGS, pixels, png

import nextscale as ns
from nextscale.cli.main import main
from nextscale.provenance import read_provenance
from nextscale.web.engine import Engine
from nextscale.web.limits import Limits
from nextscale.web.server import build_app


def test_an_edit_is_that_of_the_pipeline(client, pipeline):
    plain = ns.Pipeline(pipeline.tokenizer, pipeline.model, pipeline.class_names)
    fields = {"box": "0,0.5,1,1", "mode": "outpaint", "leak_free": "false", "softness": "2"}
    response = edit(client, prompt="dress", n=2, seed=3, **fields)
    expected = plain.edit(
        Image.open(io.BytesIO(RED)),
        box=(0, 0.5, 1, 1),
        mode="outpaint",
        labels="dress",
        num_images=2,
        leak_free=False,
        softness=2,
        seed=[3, 4],
        **vars(SETTINGS),
    )
    assert generated(response) == pixels(expected.images)
    assert [entry["label"] for entry in response.json()["data"]] == ["dress"] * 2
    assert generated(edit(client, prompt="dress", n=2, seed=3, composite="false", **fields)) != pixels(expected.images)


def test_kept_scales_and_small_images(client, pipeline):
    plain = ns.Pipeline(pipeline.tokenizer, pipeline.model, pipeline.class_names)
    expected = plain.continue_from(Image.open(io.BytesIO(RED)), 2, labels="hat", seed=[3])
    assert generated(edit(client, scales_kept=2, prompt="hat", seed=3)) == pixels(expected.images)
    small = Image.new("RGB", (5, 5), (200, 30, 30))
    expected = plain.continue_from(small, labels="hat", seed=[3])
    assert generated(edit(client, {"image": png(small)}, upscale="true", prompt="hat", seed=3)) == pixels(
        expected.images
    )


def test_a_kept_pixel_stays(client):
    (image,) = [opened(e) for e in edit(client, box="0,0,0.5,1", seed=3).json()["data"]]
    assert {image.getpixel((x, y)) for x in range(8) for y in range(4, 8)} == {(200, 30, 30)}
    assert image.getpixel((0, 0)) != (200, 30, 30)


def half(mode: str, upper: Any, lower: Any) -> bytes:
    mask = Image.new(mode, (20, 20), lower)
    mask.paste(upper, (0, 0, 20, 10))
    return png(mask)


def test_a_mask_is_transparent_or_white_where_it_is_drawn_anew(client):
    by_box = generated(edit(client, box="0,0,0.5,1", seed=3))
    for mask in (half("L", 255, 0), half("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)), half("1", 1, 0)):
        assert generated(edit(client, {"image": RED, "mask": mask}, seed=3)) == by_box
    own = half("RGBA", (200, 30, 30, 0), (200, 30, 30, 255))  # as OpenAI has it
    assert generated(edit(client, {"image": own}, seed=3)) == by_box


def test_an_edit_streams_too(client):
    *partial, last = events(edit(client, box="0,0,0.5,1", seed=3, stream="true", partial_images=2).text)
    assert [e["type"] for e in partial] == ["image_edit.partial_image"] * 2 and last["type"] == "image_edit.completed"
    assert [opened(last).tobytes()] == generated(edit(client, box="0,0,0.5,1", seed=3))
    assert {opened(e).getpixel((4, 7)) for e in partial} == {(200, 30, 30)}  # laid over the image as well


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "expected a mask, a box, or an image with transparent pixels"),
        ({"box": "1,2"}, "a box is y0,x0,y1,x1"),
        ({"box": "a,b,c,d"}, "a box is y0,x0,y1,x1"),
        ({"box": "0,0,nan,1"}, "a box is y0,x0,y1,x1"),
        ({"box": "0.5,0,0.5,1"}, "a box is y0,x0,y1,x1"),
        ({"box": "0,0,1,1", "mode": "outpaint"}, "leaves no token to generate"),
        ({"box": "0,0,1,1", "mode": "sideways"}, "mode: input should be"),
        (
            {"box": "0,0,1,1", "mode": "class"},
            "mode class needs a class label: expected a class name or number, got none",
        ),
        ({"box": "0,0,1,1", "mode": "class", "prompt": "none"}, "expected a class name or number, got none"),
        ({"box": "0,0,1,1", "softness": "inf"}, "softness:"),
        ({"box": "0,0,1,1", "softness": "-1"}, "softness:"),
        ({"box": "0,0,1,1", "scales_kept": "2"}, "got box, scales_kept"),
        ({"scales_kept": "0"}, "scales_kept:"),
        ({"scales_kept": "4"}, "scales_kept must be from 1 to 3"),
        ({"scales_kept": "2", "mode": "outpaint"}, "mode: only for"),
        ({"upscale": "true"}, "an image of 20 x 20 pixels is not smaller than the model's 8 x 8"),
        ({"box": "0,0,1,1", "n": "many"}, "n: input should be a valid integer"),
        ({"box": "0,0,1,1", "n": "17"}, "at most 16 images"),
        ({"box": "0,0,1,1", "composite": "perhaps"}, "composite:"),
        ({"box": "0,0,1,1", "prompt": "zebra"}, "zebra"),
        ({"box": "0,0,1,1", "strength": "0.5"}, "strength: no such field"),
        ({"box": "0,0,1,1", "response_format": "url"}, "b64_json"),
    ],
)
def test_bad_edits_get_one_sentence(client, fields, words):
    assert words in refusal(edit(client, **fields), 400)["message"]


def test_masks_that_do_not_fit(client):
    assert "got mask, box" in refusal(edit(client, {"image": RED, "mask": RED}, box="0,0,1,1"), 400)["message"]
    wide = png(Image.new("L", (30, 20), 255))
    assert "does not fit" in refusal(edit(client, {"image": RED, "mask": wide}), 400)["message"]
    black = png(Image.new("L", (20, 20), 0))
    assert "no pixel to generate" in refusal(edit(client, {"image": RED, "mask": black}), 400)["message"]


def test_an_edit_needs_an_image(client):
    assert refusal(client.post(EDIT, data={"box": "0,0,1,1"}), 400)["param"] == "image"
    text = refusal(client.post(EDIT, data={"box": "0,0,1,1", "image": "text"}), 400)
    assert text["message"] == "image: expected a file, not text"


def saved(entry: dict[str, Any], path) -> Any:
    path.write_bytes(base64.b64decode(entry["b64_json"]))
    return read_provenance(path)


def test_images_say_how_they_were_made(client, pipeline, tmp_path):
    entries = ask(client, n=2, seed=5, cfg=2.5).json()["data"]
    made = saved(entries[1], tmp_path / "a.png")
    assert (made.model, made.labels, made.seed, made.num_images, made.settings.cfg) == ("tiny", ("hat",), (6,), 1, 2.5)
    assert made.weights == pipeline.fingerprint
    assert "--labels hat" in made.command() and "--seeds 6" in made.command()
    assert saved(ask(client, prompt="").json()["data"][0], tmp_path / "b.png").labels == ("none",)


def test_edited_images_say_how(client, tmp_path):
    made = saved(edit(client, box="0,0,0.5,1", seed=3).json()["data"][0], tmp_path / "a.png")
    assert made.edit.image == "image.png" and made.edit.spec.box == (0, 0, 0.5, 1)


@pytest.mark.parametrize("own", [False, True])
def test_the_command_line_repeats_an_edit_by_transparency(client, pipeline, tmp_path, own):
    seen = half("RGBA", (200, 30, 30, 0), (200, 30, 30, 255))
    files = {"image": seen} if own else {"image": RED, "mask": seen}
    (entry,) = edit(client, files, seed=3).json()["data"]
    made = saved(entry, tmp_path / "a.png")
    for name, content in files.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    assert made.edit.mask == ("image.png" if own else "mask.png")
    pipeline.save_pretrained(tmp_path / "model")
    again = ["edit", str(tmp_path / "image.png"), "--like", str(tmp_path / "a.png"), "--model", str(tmp_path / "model")]
    main([*again, "--mask", str(tmp_path / made.edit.mask), "--out", str(tmp_path / "b.png")])
    with Image.open(tmp_path / "b.png") as image:
        assert image.tobytes() == opened(entry).tobytes()


@pytest.mark.parametrize("classes", [("none", "shirt"), ("Unconditional", "None")])
@pytest.mark.parametrize("prompt", ["none", "None", "", "unconditional", "a"])
def test_a_class_called_none_is_one_for_the_api_and_the_command_line(start, pipeline, tmp_path, classes, prompt):
    pipeline = ns.Pipeline(pipeline.tokenizer, pipeline.model, (*classes, "a", "b", "c"))
    engine = Engine(pipeline, str(tmp_path / "model"), Limits())
    client = TestClient(build_app(engine))
    pipeline.save_pretrained(tmp_path / "model")
    like = ["--like", str(tmp_path / "a.png"), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "b.png")]
    (entry,) = ask(client, prompt=prompt, seed=5).json()["data"]
    (tmp_path / "a.png").write_bytes(base64.b64decode(entry["b64_json"]))
    main(["sample", *like])
    assert opened(entry).tobytes() == Image.open(tmp_path / "b.png").tobytes()
    (again,) = ask(client, prompt=entry["label"], seed=5).json()["data"]
    assert again["b64_json"] == entry["b64_json"]
    (entry,) = edit(client, prompt=prompt, seed=5, box="0,0,0.5,1").json()["data"]
    (tmp_path / "a.png").write_bytes(base64.b64decode(entry["b64_json"]))
    (tmp_path / "image.png").write_bytes(RED)
    main(["edit", str(tmp_path / "image.png"), *like])
    assert opened(entry).tobytes() == Image.open(tmp_path / "b.png").tobytes()
    engine.close(0)
