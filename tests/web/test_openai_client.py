"""The API with OpenAI's own client."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from tiny_web import Served, alone, pixels, png

pytest.importorskip("openai", reason="needs the dev extra")

import openai

from nextscale.provenance import read_provenance

RED = png(Image.new("RGB", (20, 20), (200, 30, 30)))
UPPER: dict[str, Any] = {"box": "0,0,0.5,1", "seed": 3}


@pytest.fixture
def client(served: Callable[..., Served]) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served().address}/v1", api_key="any", max_retries=0) as client:
        yield client


def images_in(answer: Any) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(image.b64_json))) for image in answer.data]


def test_images(client, pipeline):
    answer = client.images.generate(prompt="hat", n=2, model="tiny", extra_body={"seed": 5, "cfg": 2})
    assert pixels(images_in(answer)) == [pixels(alone(pipeline, 2, 5 + i, cfg=2).images)[0] for i in range(2)]
    assert (answer.size, answer.output_format) == ("8x8", "png") and answer._request_id


def test_every_argument_of_the_client(client):
    answer = client.images.generate(
        prompt="hat",
        background="auto",
        moderation="low",
        n=1,
        output_compression=100,
        output_format="png",
        partial_images=None,
        quality="high",
        response_format="b64_json",
        size="auto",
        style="vivid",
        user="someone",
        extra_body={"seed": 5, "safety_identifier": "b", "complexity": "low"},
    )
    plain = client.images.generate(prompt="hat", extra_body={"seed": 5})
    assert pixels(images_in(answer)) == pixels(images_in(plain))


def test_edits_with_one_image_or_a_list_of_one(client):
    options: dict[str, Any] = {"prompt": "hat", "extra_body": UPPER}
    one, listed = (
        client.images.edit(image=image, **options)
        for image in (("a.png", RED, "image/png"), [("a.png", RED, "image/png")])
    )
    assert pixels(images_in(one)) == pixels(images_in(listed))
    mask = Image.new("RGBA", (20, 20), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 20, 10))
    masked = client.images.edit(
        image=io.BytesIO(RED),
        mask=("mask.png", png(mask), "image/png"),
        prompt="hat",
        background="opaque",
        input_fidelity="high",
        n=1,
        output_format="png",
        quality="medium",
        response_format="b64_json",
        size="8x8",
        user="someone",
        extra_body={"seed": 3},
    )
    assert pixels(images_in(masked)) == pixels(images_in(one))


def test_several_images_are_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=[("a.png", RED), ("b.png", RED)], prompt="hat", extra_body=UPPER)
    assert caught.value.param == "image" and "image is given 2 times: expected once" in caught.value.message


@pytest.mark.parametrize("name, kind", [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats_and_their_compression(client, tmp_path, name, kind):
    sizes = []
    for compression in (5, None):
        body = {"output_format": name, "output_compression": compression, "extra_body": {"seed": 5}}
        answer = client.images.generate(prompt="hat", **body)
        data = base64.b64decode(answer.data[0].b64_json)
        (tmp_path / "image").write_bytes(data)
        with Image.open(tmp_path / "image") as image:
            assert (image.format, image.size, answer.output_format) == (kind, (8, 8), name)
        made = read_provenance(tmp_path / "image")
        assert (made.labels, made.seed) == (("hat",), (5,))
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("method", ["generate", "edit"])
def test_streams(client, method):
    more = {"image": [("a.png", RED)]} if method == "edit" else {}
    body: dict[str, Any] = {"prompt": "hat", "extra_body": UPPER if method == "edit" else {"seed": 3}, **more}
    call = getattr(client.images, method)
    *partial, last = list(call(stream=True, partial_images=2, output_format="webp", **body))
    kind = f"image_{'edit' if method == 'edit' else 'generation'}"
    assert [event.type for event in partial] == [f"{kind}.partial_image"] * 2 and last.type == f"{kind}.completed"
    assert Image.open(io.BytesIO(base64.b64decode(last.b64_json))).format == "WEBP" and last.output_format == "webp"


@pytest.mark.parametrize(
    "body, param",
    [
        ({"prompt": "zebra"}, "prompt"),
        ({"size": "1024x1024"}, "size"),
        ({"model": "gpt-image-1"}, "model"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"response_format": "url"}, "response_format"),
    ],
)
def test_what_cannot_be_honoured_names_its_argument(client, body, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"prompt": "hat", **body})
    assert caught.value.param == param and caught.value.code == "invalid_value"
    answer: Any = caught.value.body
    assert caught.value.request_id == answer["request_id"]


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "nextscale"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_keys(served: Callable[..., Served]):
    address = f"{served(key='right').address}/v1"
    for key, is_right in (("right", True), ("wrong", False)):
        with openai.OpenAI(base_url=address, api_key=key, max_retries=0) as client:
            if is_right:
                assert client.images.generate(prompt="hat").data
            else:
                with pytest.raises(openai.AuthenticationError):
                    client.images.generate(prompt="hat")
