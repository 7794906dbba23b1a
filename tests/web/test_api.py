"""Image generation through the API, from the perspective of a client."""

from __future__ import annotations

import time

import pytest
from tiny_client import GENERATE, RED, ask, edit, events, generated, opened, refusal
from tiny_web import alone, pixels


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
    per_scale = {"cfg": [0, 1, 2, 3.5], "temperature": [2, 1, 1, 0.5]}
    ours = generated(ask(client, seed=1, guidance_blocks=[0], **per_scale))
    assert ours == pixels(alone(pipeline, 2, 1, **per_scale).images) != generated(ask(client, seed=1))


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
        ({"size": "8"}, "size: a size is written WIDTHxHEIGHT in pixels, such as 1024x768, not '8'"),
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
        ({"strength": 0.5}, "strength: no such field"),
        ({"negative_prompt": "blurry"}, "negative_prompt is for text-to-image models: this one takes class labels"),
        ({"positive_phrase": True}, "positive_phrase is for text-to-image models"),
        ({"aspect": "16:9"}, "of 8x8 pixels, not 16:9"),
        ({"budget": "1M"}, "of 8x8 pixels, not 1M"),
        ({"aspect": 1}, "aspect: input should be a valid string"),
        ({"cfg": [1, 2, 3]}, "expected one cfg, or one for each of the 4 scales, got 3"),
        ({"cfg": [1, 2, 3, "4"]}, "cfg: input should be a valid number"),
        ({"cfg": [1, 2, 3, 1001]}, "cfg:"),
        ({"temperature": []}, "expected one temperature, or one for each of the 4 scales, got 0"),
        ({"guidance_blocks": [0, -9]}, "guidance_blocks are 0 (the logits) or -1 (the last block), not -9"),
        ({"guidance_blocks": [-1]}, "VAR can be guided only on its logits"),
        ({"guidance_blocks": ["a"]}, "guidance_blocks.0: input should be a valid integer"),
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
        ({"aspect": "16:9"}, "aspect"),
        ({"negative_prompt": "grey"}, "negative_prompt"),
        ({"cfg": [1, 2]}, "cfg"),
        ({"guidance_blocks": [-9, 0]}, "guidance_blocks"),
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
    assert refusal(ask(client, strength=None), 400)["message"] == "strength: no such field"
    assert refusal(ask(client, prompt=None), 400)["param"] == "prompt"


@pytest.mark.parametrize("same", ['"n": 2.0, "seed": 5, "top_k": 1000', '"n": 2, "seed": 5.0, "top_k": 1e3'])
def test_an_integer_may_be_written_with_a_point(client, same):
    json_type = {"Content-Type": "application/json"}
    response = client.post(GENERATE, content=f'{{"prompt": "hat", {same}}}'.encode(), headers=json_type)
    assert generated(response) == generated(ask(client, n=2, seed=5, top_k=1000))
    assert refusal(ask(client, n=2.5), 400)["param"] == "n"


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
