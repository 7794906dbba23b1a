"""Weights that are not finite give an error in every path to an image, never a black image."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import SCHEDULES, make_tokenizer, make_var, random_images, refused

import nextscale as ns
from nextscale.acceleration.ready import make_ready
from nextscale.analysis.inspection import inspect
from nextscale.cli.main import main
from nextscale.imaging.images import to_pil, to_pixels

SQUARE = SCHEDULES["square"]
DECODER = ("the decoder's values are not finite", "damaged weights")
VALUES = [torch.nan, torch.inf, -torch.inf]


@pytest.fixture
def pipe() -> ns.Pipeline:
    """A pipeline whose weights a test may change."""
    return ns.Pipeline(copy.deepcopy(make_tokenizer(SQUARE)), copy.deepcopy(make_var(SQUARE)), device="cpu")


@torch.no_grad()
def damage(pipe: ns.Pipeline, name: str, value: float) -> None:
    pipe.tokenizer.get_parameter(name).view(-1)[0] = value


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["post_quant_conv.bias", "decoder.conv_out.bias", "decoder.conv_out.weight"])
def test_sampling_with_a_damaged_decoder(pipe, name, value):
    damage(pipe, name, value)
    for seed in (0, [1, 2]):
        with refused(*DECODER):
            pipe(labels=[0, 3], seed=seed)
    with refused(*DECODER):
        ns.sample(pipe.tokenizer, pipe.model, [0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_prepared_decoder_hides_nothing(pipe, dtype):
    damage(pipe, "decoder.conv_out.bias", torch.inf)
    with refused(*DECODER):
        ns.Pipeline(pipe.tokenizer, pipe.model, device="cpu", dtype=dtype)(labels=[0])
    tokenizer, _ = make_ready(pipe.tokenizer, pipe.model, pipe.precision)
    assert tokenizer.decode([torch.zeros(1, n, dtype=torch.long) for n in SQUARE.tokens_per_scale]).isnan().any()


def test_editing_with_a_damaged_tokenizer(pipe):
    damage(pipe, "decoder.conv_out.bias", torch.nan)
    photo = Image.new("RGB", (8, 8), (90, 120, 40))
    with refused(*DECODER):
        pipe.edit(photo, box=(0, 0, 1, 0.5))
    damage(pipe, "encoder.conv_in.bias", torch.nan)
    with refused("the encoder's values are not finite"):
        pipe.edit(photo, box=(0, 0, 1, 0.5))
    with refused("the encoder's values are not finite"):
        inspect(photo, pipe.tokenizer)
    with refused("the encoder's values are not finite"):
        pipe.tokenizer.encode(random_images(pipe.tokenizer))


def test_reconstruction_with_a_damaged_decoder(pipe):
    damage(pipe, "post_quant_conv.bias", torch.nan)
    with refused("not finite"):
        inspect(Image.new("RGB", (8, 8)), pipe.tokenizer)


@pytest.mark.parametrize("value", VALUES)
def test_no_pixel_is_made_of_what_is_not_finite(value):
    images = torch.rand(2, 3, 4, 4)
    images[1, 2, 3, 0] = value
    for convert in (to_pixels, to_pil):
        with refused("not finite"):
            convert(images)


def test_infinite_values_are_not_clamped(pipe):
    tokens = [torch.zeros(1, n, dtype=torch.long) for n in SQUARE.tokens_per_scale]
    before = pipe.tokenizer.decode(tokens)
    assert before.isfinite().all() and before.abs().max() <= 1
    damage(pipe, "decoder.conv_out.bias", torch.inf)
    after = pipe.tokenizer.decode(tokens)
    assert after[:, 0].isnan().all() and torch.equal(after[:, 1:], before[:, 1:])


def test_the_command_writes_nothing(pipe, tmp_path, monkeypatch, capsys):
    damage(pipe, "post_quant_conv.bias", torch.nan)
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["sample", "--model", "model", "--num-images", "1"])
    assert stop.value.code == 2 and DECODER[0] in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["model"]
