"""The API from the perspective of a client."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import Any

import pytest
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from PIL import Image
from tiny_web import SETTINGS, alone, pixels, png

import nextscale as ns
from nextscale.cli.main import main
from nextscale.provenance import read_provenance
from nextscale.web.engine import Engine
from nextscale.web.limits import Limits
from nextscale.web.server import build_app

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
RED = png(Image.new("RGB", (20, 20), (200, 30, 30)))


def ask(client: TestClient, **body: Any) -> Any:
    return client.post(GENERATE, json={"prompt": "hat", **body})


def edit(client: TestClient, files: Any = None, **fields: Any) -> Any:
    uploads = {name: (f"{name}.png", data, "image/png") for name, data in (files or {"image": RED}).items()}
    return client.post(EDIT, files=uploads, data={name: str(value) for name, value in fields.items()})


def opened(entry: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(entry["b64_json"])))


def generated(response: Any) -> list[bytes]:
    assert response.status_code == 200, response.text
    return pixels([opened(entry) for entry in response.json()["data"]])


def refusal(response: Any, status: int) -> dict[str, Any]:
    """What a refusal says, which always has the same form."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"] and list(body["error"]) == ["message", "type", "code", "param", "request_id"]
    assert body["error"]["request_id"] == response.headers["X-Request-Id"] != ""
    assert "\n" not in body["error"]["message"] and "Traceback" not in response.text
    return body["error"]


def events(text: str) -> list[dict[str, Any]]:
    """The data of server-sent events, whose names agree with it."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


# ---- generations -----------------------------------------------------------------------------------------------------


def test_images_are_those_of_the_pipeline(client, pipeline):
    response = ask(client, n=3, seed=5)
    assert generated(response) == [alone(pipeline, 2, 5 + i).images[0].tobytes() for i in range(3)]
    body = response.json()
    assert [(entry["seed"], entry["label"]) for entry in body["data"]] == [(5, "hat"), (6, "hat"), (7, "hat")]
    assert body["model"] == "tiny" and body["size"] == "8x8" and abs(body["created"] - time.time()) < 60


def test_settings_are_heeded(client, pipeline):
    ours = generated(ask(client, seed=1, cfg=0, temperature=1.5, top_k=2, top_p=0.5, more_smooth=True))
    assert ours == pixels(alone(pipeline, 2, 1, cfg=0, temperature=1.5, top_k=2, top_p=0.5, more_smooth=True).images)
    assert ours != generated(ask(client, seed=1))


@pytest.mark.parametrize(
    "prompt, label",
    [("hat", 2), ("HAT", 2), ("3", 3), (" Ankle boot ", 0), ("", 5), ("none", 5), ("None", 5), ("unconditional", 5)],
)
def test_a_prompt_is_a_class(client, pipeline, prompt, label):
    response = ask(client, prompt=prompt, seed=1)
    assert generated(response) == pixels(alone(pipeline, label, 1).images)
    assert response.json()["data"][0]["label"] == [*pipeline.class_names, "none"][label]


def test_without_a_seed_images_differ_and_say_theirs(client):
    first, second = (ask(client).json()["data"][0] for _ in range(2))
    assert first["seed"] != second["seed"] and first["b64_json"] != second["b64_json"]
    assert ask(client, seed=first["seed"]).json()["data"][0]["b64_json"] == first["b64_json"]


def test_fields_of_openai_clients_are_taken(client):
    everything = {"model": "tiny", "size": "8x8", "response_format": "b64_json", "user": "someone", "quality": "auto"}
    assert len(generated(ask(client, **everything, background="opaque", output_format="png", n=2))) == 2
    without_effect = dict.fromkeys(UNUSED, "high")
    assert generated(ask(client, **without_effect, seed=5)) == generated(ask(client, seed=5))
    fields = {"box": "0,0,0.5,1", "seed": 3}
    assert generated(edit(client, **without_effect, **fields)) == generated(edit(client, **fields))


UNUSED = ("complexity", "input_fidelity", "moderation", "quality", "safety_identifier", "style", "user")


@pytest.mark.parametrize(
    "body, words",
    [
        ({"prompt": "zebra"}, "unknown class 'zebra'"),
        ({"prompt": "hta"}, "such as hat"),
        ({"prompt": "99"}, "label 99 is out of range"),
        ({"prompt": "9" * 200}, "out of range"),
        ({"prompt": "x" * 201}, "prompt: string should have at most 200"),
        ({"prompt": 3}, "prompt: input should be a valid string"),
        ({"prompt": None}, "prompt:"),
        ({"n": 0}, "n: input should be greater"),
        ({"n": 17}, "at most 16 images, not 17"),
        ({"n": 10**9}, "at most 16 images"),  # nor is anything of that length made
        ({"n": 10**30}, "at most 16 images"),
        ({"n": "2"}, "n: input should be a valid integer"),
        ({"n": True}, "n:"),
        ({"size": "512x512"}, "of 8x8 pixels, not 512x512"),
        ({"size": "8"}, "size: string should match"),
        ({"model": "dall-e-3"}, "no model 'dall-e-3' is served here: expected 'tiny'"),
        ({"response_format": "url"}, "expected 'b64_json'"),
        ({"seed": -1}, "seed:"),
        ({"seed": 2**53}, "seed:"),
        ({"seed": 1.5}, "seed:"),
        ({"cfg": 1001}, "cfg:"),
        ({"cfg": "4"}, "cfg:"),
        ({"temperature": 0}, "temperature:"),
        ({"temperature": 1001}, "temperature:"),
        ({"top_k": -1}, "top_k:"),
        ({"top_p": 1.1}, "top_p:"),
        ({"more_smooth": "yes"}, "more_smooth:"),
        ({"quality": 3}, "quality:"),
        ({"style": "x" * 201}, "style: string should have at most 200"),
        ({"output_format": "gif"}, "output_format: input should be 'png', 'jpeg' or 'webp'"),
        ({"output_format": "jpeg", "output_compression": 101}, "output_compression:"),
        ({"output_compression": 50}, "PNG is lossless"),
        ({"background": "transparent"}, "background:"),
        ({"negative_prompt": "blurry"}, "negative_prompt: no such field"),
    ],
)
def test_bad_fields_get_one_sentence(client, body, words):
    error = refusal(ask(client, **body), 400)
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    if ":" in words and " " not in words.partition(":")[0]:
        assert error["param"] == words.partition(":")[0]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "the body is empty"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b'{"prompt": hat}', "not JSON: Expecting value at character 11"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"prompt": "\xff"}', "not UTF-8 (byte 12)"),
        (b'{"prompt": "hat", "cfg": NaN}', "cfg: input should be a finite number"),
        (b'{"prompt": "hat", "cfg": 1e999}', "cfg: input should be a finite number"),
        (b'{"prompt": "\\ud800"}', "prompt"),
        (b'{"prompt": "hat", "\\ud800": 1}', "the body"),
        (b'{"prompt": "hat\\u0000"}', "unknown class"),
        (b'{"prompt": "hat", "seed": ' + b"9" * 5000 + b"}", "too many digits"),
    ],
)
def test_bad_bodies_get_one_sentence(client, content, words):
    response = client.post(GENERATE, content=content, headers={"Content-Type": "application/json"})
    assert words in refusal(response, 400)["message"]


@pytest.mark.parametrize(
    "content, name",
    [
        (b'{"prompt": "hat", "seed": 1, "seed": 2}', "seed"),
        (b'{"prompt": "hat", "prompt": "hat"}', "prompt"),
        (b'{"prompt": "hat", "n": 1, "\\u006e": 1}', "n"),
    ],
)
def test_a_key_that_comes_twice_is_refused(client, content, name):
    error = refusal(client.post(GENERATE, content=content, headers={"Content-Type": "application/json"}), 400)
    assert error["message"] == f"{name} is given 2 times: expected once" and error["param"] == name


def test_a_form_is_not_json(client):
    assert "Content-Type: application/json" in refusal(client.post(GENERATE, data={"prompt": "hat"}), 400)["message"]


def test_a_body_has_a_size(client):
    too_much = b'{"prompt": "' + b"x" * 2**16 + b'"}'
    headers = {"Content-Type": "application/json"}
    assert "65,536 bytes" in refusal(client.post(GENERATE, content=too_much, headers=headers), 413)["message"]
    in_parts = client.post(GENERATE, content=iter([too_much[:40_000], too_much[40_000:]]), headers=headers)
    assert refusal(in_parts, 413)["code"] == "too_large"  # its size was not announced


@pytest.mark.parametrize(
    "body, param",
    [
        ({"prompt": "zebra"}, "prompt"),
        ({"size": "512x512"}, "size"),
        ({"model": "dall-e-3"}, "model"),
        ({"response_format": "url"}, "response_format"),
        ({"n": 17}, "n"),
    ],
)
def test_refusals_name_the_field(client, body, param):
    assert refusal(ask(client, **body), 400)["param"] == param
    assert refusal(edit(client, box="0,0,1,1", **{"prompt": "hat", **body}), 400)["param"] == param


def test_refusals_of_edits_name_the_field(client):
    assert refusal(edit(client, box="1,2"), 400)["param"] == "box"
    assert refusal(edit(client, {"image": b"text"}, box="0,0,1,1"), 400)["param"] == "image"
    assert refusal(edit(client, {"image": RED, "mask": b"text"}), 400)["param"] == "mask"
    assert refusal(edit(client, box="0,0,1,1", mode="class"), 400)["param"] == "prompt"


OPTIONAL = (
    "model",
    "n",
    "size",
    "response_format",
    "seed",
    "cfg",
    "temperature",
    "top_k",
    "top_p",
    "more_smooth",
    "stream",
)


def test_null_is_left_out(client):
    formats = ("background", "output_format", "output_compression")
    nothing = dict.fromkeys((*OPTIONAL, *UNUSED, *formats, "partial_images"))
    assert generated(ask(client, **nothing | {"seed": 5})) == generated(ask(client, seed=5))
    assert refusal(ask(client, negative_prompt=None), 400)["message"] == "negative_prompt: no such field"
    assert refusal(ask(client, prompt=None), 400)["param"] == "prompt"


@pytest.mark.parametrize("same", ['"n": 2.0, "seed": 5, "top_k": 1000', '"n": 2, "seed": 5.0, "top_k": 1e3'])
def test_an_integer_may_be_written_with_a_point(client, same):
    json_type = {"Content-Type": "application/json"}
    response = client.post(GENERATE, content=f'{{"prompt": "hat", {same}}}'.encode(), headers=json_type)
    assert generated(response) == generated(ask(client, n=2, seed=5, top_k=1000))
    assert refusal(ask(client, n=2.5), 400)["param"] == "n"


@pytest.fixture(params=["alone", "beside a page"])
def either(request, start) -> TestClient:
    """The API, without and with a page that takes all other paths."""
    app = build_app(start())
    if request.param == "beside a page":
        app.mount("/", lambda scope, receive, send: PlainTextResponse("a page")(scope, receive, send))
    return TestClient(app)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/images", "/v1/images/generations/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_routes(either, path, method):
    assert refusal(either.request(method, path), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    "path, allowed",
    [
        (GENERATE, "POST"),
        (EDIT, "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/models/tiny", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ],
)
def test_unknown_methods(either, path, allowed):
    for method in {"GET", "POST", "PUT", "DELETE", "OPTIONS", "PAINT"} - set(allowed.split(", ")):
        response = either.request(method, path)
        assert refusal(response, 405)["code"] == "method_not_allowed"
        assert response.headers["Allow"] == allowed
    assert either.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/healthz", "/metrics", "/openapi.json", "/docs"])
def test_head_is_get_without_a_body(either, path):
    head, get = either.head(path), either.get(path)
    assert head.status_code == get.status_code == 200 and not head.content
    assert head.headers["Content-Type"] == get.headers["Content-Type"] and int(head.headers["Content-Length"]) > 0


def test_head_of_what_is_missing(either):
    assert either.head("/v1/nothing").status_code == 404 and either.head("/v1/models/other").status_code == 404
    assert either.head(GENERATE).status_code == 405


def test_a_page_has_the_other_paths(start):
    app = build_app(start())
    assert refusal(TestClient(app).get("/v2"), 404)
    app.mount("/", PlainTextResponse("a page"))
    for path in ("/", "/v2", "/v1x", "/assets/v1/a.js"):
        assert TestClient(app).get(path).text == "a page"


def test_the_description_tells_of_our_own_refusals(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert "ErrorBody" in schemas and not [name for name in schemas if "Validation" in name]


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_shows_every_scale_and_then_the_images(client, pipeline):
    response = ask(client, n=2, seed=5, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    *partial, first, second = events(response.text)
    assert [(e["partial_image_index"], e["index"]) for e in partial] == [(k, i) for k in range(3) for i in range(2)]
    assert [e["scale"] for e in partial[::2]] == ["1x1", "2x2", "3x3"]
    assert {e["type"] for e in partial} == {"image_generation.partial_image"}
    assert first["type"] == second["type"] == "image_generation.completed"
    assert pixels([opened(first), opened(second)]) == generated(ask(client, n=2, seed=5))
    assert (second["seed"], second["label"], second["size"]) == (6, "hat", "8x8")
    assert all(len({e["b64_json"] for e in partial if e["index"] == i}) == 3 for i in range(2))


@pytest.mark.parametrize("count, scales", [(0, []), (1, [1]), (2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2])])
def test_partial_images_are_spread_evenly(client, count, scales):
    *partial, _ = events(ask(client, seed=5, stream=True, partial_images=count).text)
    assert [e["partial_image_index"] for e in partial] == scales


def test_bad_input_is_refused_before_the_stream(client):
    assert "zebra" in refusal(ask(client, prompt="zebra", stream=True), 400)["message"]


def test_a_stream_that_fails_says_so_in_an_event(client, pipeline, caplog):
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable")
    (event,) = events(ask(client, stream=True).text)
    assert event["type"] == "error" and "RuntimeError" in event["error"]["message"]
    assert "cable" not in event["error"]["message"]


# ---- edits -----------------------------------------------------------------------------------------------------------


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


# ---- metadata --------------------------------------------------------------------------------------------------------


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


# ---- the other routes ------------------------------------------------------------------------------------------------


def test_models(client, pipeline):
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["size"]) == ("tiny", "model", "8x8")
    assert model["classes"] == pipeline.class_names and model["scales"] == ["1x1", "2x2", "3x3", "4x4"]


def test_one_model(start, pipeline):
    client = TestClient(build_app(start()))
    assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]
    error = refusal(client.get("/v1/models/runs/var"), 404)
    assert error["message"] == "no model 'runs/var' is served here: expected 'tiny'" and error["param"] == "model"
    engine = Engine(pipeline, "FoundationVision/var:d16", Limits())
    named = TestClient(build_app(engine))
    assert named.get("/v1/models/FoundationVision/var:d16").json()["id"] == "FoundationVision/var:d16"
    engine.close(0)


def test_health_follows_the_engine(start):
    engine = start()
    client = TestClient(build_app(engine))
    assert client.get("/healthz").json() == {"status": "ready", "waiting": 0}
    engine.close()
    response = client.get("/healthz")
    assert response.status_code == 503 and response.json()["status"] == "shutting down"
    error = refusal(ask(client), 503)
    assert error["type"] == "server_error" and "shutting down" in error["message"]


def test_metrics(client):
    ask(client, n=3)
    ask(client, n=0)
    client.get("/v1/models/../../etc")
    text = client.get("/metrics").text
    for line in (
        f'nextscale_requests_total{{method="POST",route="{GENERATE}",status="200"}} 1.0',
        f'nextscale_requests_total{{method="POST",route="{GENERATE}",status="400"}} 1.0',
        'nextscale_requests_total{method="GET",route="other",status="404"} 1.0',
        "nextscale_images_total 3.0",
        'nextscale_batch_images_bucket{le="2.0"} 0.0',
        'nextscale_batch_images_bucket{le="4.0"} 1.0',
        "nextscale_queue_seconds_count 1.0",
        "nextscale_sampling_seconds_count 1.0",
        "nextscale_queue_images 0.0",
    ):
        assert line in text, line


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_try_again(start, pipeline, hold):
    client = TestClient(build_app(start(queue_images=2)))
    with hold():
        threads = [threading.Thread(target=ask, args=(client,), kwargs={"n": 2}) for _ in range(2)]
        threads[0].start()
        assert pipeline.begun.wait(10)
        threads[1].start()
        while client.get("/healthz").json()["waiting"] < 2:
            time.sleep(0.01)
        response = ask(client)
        assert refusal(response, 429)["type"] == "rate_limit_error"
        assert int(response.headers["Retry-After"]) >= 1
        assert client.get("/metrics").text.count("nextscale_queue_images 2.0") == 1
    for thread in threads:
        thread.join(10)
    assert ask(client).status_code == 200


def test_the_time_limit(start, hold):
    client = TestClient(build_app(start(seconds=0.2)))
    with hold():
        assert "time limit of 0.2 s" in refusal(ask(client), 504)["message"]
        (event,) = events(ask(client, stream=True).text)
        assert event["error"]["code"] == "time_limit"


def test_a_failure_is_not_a_traceback(client, pipeline, caplog):
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable")
    error = refusal(ask(client), 500)
    assert error["type"] == "server_error" and "cable" not in error["message"]
    pipeline.trouble = lambda seeds: None
    assert ask(client).status_code == 200


def test_a_mistake_of_ours_is_not_a_traceback_either(client, monkeypatch):
    monkeypatch.setattr("nextscale.web.api.label_of", lambda *_: 1 / 0)
    assert "ZeroDivision" not in refusal(ask(client), 500)["message"]


@pytest.mark.parametrize(
    "seed, n, status", [(2**53 - 1, 1, 200), (2**53 - 2, 2, 200), (2**53 - 1, 2, 400), (-1, 1, 400)]
)
def test_seeds_are_what_javascript_can_count_to(client, seed, n, status):
    response = client.post("/v1/images/generations", json={"prompt": "hat", "seed": seed, "n": n})
    assert response.status_code == status
    if status == 200:
        assert [image["seed"] for image in response.json()["data"]] == list(range(seed, seed + n))
