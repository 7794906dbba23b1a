"""The API of a text-to-image model with OpenAI's own client."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from tiny_prompts import PROMPTS, alone, held, plain
from tiny_web import HeldPipeline, Served, pixels, png

pytest.importorskip("openai", reason="needs the dev extra")

import openai

FOX = PROMPTS[0]
PHOTO = Image.new("RGB", (80, 45), (200, 30, 30))


@pytest.fixture
def pipeline() -> HeldPipeline:
    return held()


@pytest.fixture
def client(served: Callable[..., Served]) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served().address}/v1", api_key="any", max_retries=0) as client:
        yield client


def images_in(answer: Any) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(image.b64_json))) for image in answer.data]


def test_images(client):
    more = {"seed": 5, "cfg": [2] * 7, "negative_prompt": "grey"}
    answer = client.images.generate(prompt=FOX, n=2, model="tiny", size="44x22", extra_body=more)
    expected = [alone(FOX, 5 + i, cfg=2, negative_prompt="grey", size="44x22").images[0] for i in range(2)]
    assert pixels(images_in(answer)) == pixels(expected) and answer.size == "44x22"


def test_an_edit(client):
    image = ("a.png", png(PHOTO), "image/png")
    answer = client.images.edit(image=image, prompt=FOX, extra_body={"box": "0,0,0.5,1", "seed": 3})
    expected = plain().edit(PHOTO, box=(0, 0, 0.5, 1), labels=FOX, seed=[3])
    assert pixels(images_in(answer)) == pixels(expected.images) and answer.size == "42x24"


def test_a_stream(client):
    *partial, last = client.images.generate(
        prompt=FOX, size="44x22", stream=True, partial_images=2, extra_body={"seed": 3}
    )
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    image = Image.open(io.BytesIO(base64.b64decode(last.b64_json)))
    assert image.tobytes() == alone(FOX, 3, size="44x22").images[0].tobytes() and last.size == "44x22"


@pytest.mark.parametrize(
    "body, param",
    [({"prompt": ""}, "prompt"), ({"extra_body": {"budget": "9M"}}, "budget"), ({"size": "square"}, "size")],
)
def test_what_cannot_be_honoured_names_its_argument(client, body, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"prompt": FOX, **body})
    assert caught.value.param == param


def test_models(client):
    (model,) = client.models.list()
    assert model.takes == "prompt" and "42x24" in model.sizes
