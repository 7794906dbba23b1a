"""Every verb works with a tiny model."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_infinity import make_infinity
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.imaging.images import CAPTION_HEIGHT
from nextscale.sampling.run import SamplingRun

SIDE, GAP, SCALES = 8, 2, 4


def size_of(path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def sheet(columns: int, rows: int, extra: int = 0) -> tuple[int, int]:
    """Size of a grid of images that are ``extra`` higher than wide."""
    return columns * (SIDE + GAP) - GAP, rows * (SIDE + extra + GAP) - GAP


def test_sample_writes_a_grid(call, model, place):
    code, out, _ = call("sample", "--model", model, "--num-images", 5)
    assert code == 0 and out == "samples.png\n"
    assert size_of("samples.png") == sheet(3, 2)


def test_sample_makes_20_images_and_the_folder_for_them(call, model, place):
    assert call("sample", "--model", model, "--out", "new/folder/a.jpg").code == 0
    assert size_of("new/folder/a.jpg") == sheet(5, 4)


def test_separate_images_and_the_scales(call, model, place):
    code, out, err = call(
        "sample", "--model", model, "--labels", 0, 1, 2, "--separate", "--show-scales", "--out", "a.png"
    )
    assert code == 0 and "scale 4/4" in err
    assert out.split() == ["a.png", "a-scales.png", "a-000.png", "a-001.png", "a-002.png"]
    assert size_of("a-scales.png") == sheet(SCALES, 3, CAPTION_HEIGHT)
    with Image.open("a.png") as grid, Image.open("a-001.png") as alone, Image.open("a-scales.png") as scales:
        assert grid.crop((SIDE + GAP, 0, 2 * SIDE + GAP, SIDE)).tobytes() == alone.tobytes()
        left, top = 3 * (SIDE + GAP), SIDE + CAPTION_HEIGHT + GAP
        assert scales.crop((left, top, left + SIDE, top + SIDE)).tobytes() == alone.tobytes()


def test_the_same_command_draws_the_same_images(call, model, place):
    for out, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        assert call("sample", "--model", model, "--num-images", 2, "--seed", seed, "--out", out).code == 0
    a, b, c = ((place / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_free_memory_is_kept_while_sample_draws_and_no_longer(call, model, place, monkeypatch):
    events = []

    @contextmanager
    def kept(device, largest=0):
        events.append(device.type)
        yield
        events.append("given back")

    def result(*arguments):
        events.append("drawn")
        return result_of_run(*arguments)

    result_of_run = SamplingRun.result
    monkeypatch.setattr("nextscale.cli.sampling.kept", kept)
    monkeypatch.setattr(SamplingRun, "result", result)
    assert call("sample", "--model", model, "--num-images", 1).code == 0
    assert events == ["cpu", "drawn", "given back"]


def test_sample_draws_what_the_pipeline_draws(call, model, place):
    assert call("sample", "--model", model, "--labels", "hat", "--cfg", 1.5, "--seed", 3, "--more-smooth").code == 0
    (ours,) = ns.Pipeline.from_pretrained(model)(["hat"], cfg=1.5, seed=3, more_smooth=True).images
    with Image.open("samples.png") as image:
        assert image.tobytes() == ours.tobytes()


@pytest.mark.parametrize("labels", [("ankle BOOT", "Hat"), ("Ankle boot", "hat"), ("0", "2")])
def test_labels_are_names_or_numbers(call, model, place, labels):
    assert call("sample", "--model", model, "--labels", *labels, "--num-images", 4).code == 0
    expected = ns.Pipeline.from_pretrained(model)([0, 2, 0, 2]).images
    with Image.open("samples.png") as image:
        assert image.crop((0, 0, SIDE, SIDE)).tobytes() == expected[0].tobytes()
        assert image.crop((SIDE + GAP, 0, 2 * SIDE + GAP, SIDE)).tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("name", ["none", "unconditional"])
def test_names_of_no_class(call, model, place, name):
    assert call("sample", "--model", model, "--labels", name, "--num-images", 1).code == 0
    (expected,) = ns.Pipeline.from_pretrained(model)("unconditional", num_images=1).images
    with Image.open("samples.png") as image:
        assert image.tobytes() == expected.tobytes()


def test_reconstruct(call, model, place):
    code, out, _ = call("reconstruct", "photos/0.png", "photos/1.png", "--model", model)
    assert code == 0 and out.count(" dB\n") == 2 and "photos/1.png: " in out
    assert size_of("reconstruction.png") == sheet(SCALES + 1, 2, CAPTION_HEIGHT)


def test_info(call, model, place):
    code, out, _ = call("info", model)
    pipeline = ns.Pipeline.from_pretrained(model)
    assert code == 0
    assert "1 2 3 4" in out and "Ankle boot, dress" in out and "8 x 8" in out
    for module in (pipeline.tokenizer, pipeline.model):
        assert f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M" in out
    assert call("info", "--model", model).out == out


@pytest.mark.parametrize(
    ("name", "parameters"), [("d16", 310.28), ("FoundationVision/var:d20", 600.92), ("d36", 2353.89)]
)
def test_info_of_official_models_needs_no_weights(call, name, parameters):
    code, out, _ = call("info", name)
    assert code == 0 and f"{parameters} M transformer" in out and "108.95 M tokenizer" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("infinity-2b", "--budget", "1M", "--dtype", "bfloat16"), ["2204.56 M transformer", "1024 x 1024", "3.37 KV"]),
        (("infinity-8b", "--num-images", 2), ["8375.79 M transformer", "10521 of 56 bits", "for 2 images in float32"]),
        (("infinity-8b-512", "--size", "512x512"), ["512 x 512 pixels", "1223.53 M text encoder"]),
    ],
)
def test_info_of_text_to_image_models_tells_their_memory(call, arguments, words):
    code, out, _ = call("info", *arguments)
    assert code == 0 and "without a published FID" in out and "GFLOP" in out and "KV cache" in out
    assert all(word in out for word in words)


def test_info_of_a_folder_of_a_text_to_image_model(call, place):
    ns.Pipeline(make_bits_tokenizer(), make_infinity(), device="cpu").save_pretrained("text")
    code, out, _ = call("info", "text")
    assert code == 0 and "14 of 6 bits" in out and "no text encoder" in out and "classes" not in out
    assert call("info", "text", "--num-images", 0).code == 2
    assert call("info", "starter", "--budget", "1M").code == 2


def test_convert_to_official_and_back(call, model, place):
    assert call("convert", "--model", model, "--to", "official", "--out", "official").code == 0
    pair = "official/vae_ch160v4096z32.pth,official/var.pth"
    assert call("convert", "--model", pair, "--scales", "1,2,3,4", "--out", "back").code == 0
    for part in ("tokenizer", "transformer"):
        ours, theirs = (load_file(folder / part / "model.safetensors") for folder in (model, place / "back"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_convert_stores_less_precision(call, model, place):
    assert call("convert", "--model", model, "--dtype", "bfloat16", "--out", "small").code == 0
    stored = load_file(place / "small" / "transformer" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert ns.Pipeline.from_pretrained("small").class_names == ns.Pipeline.from_pretrained(model).class_names


def test_train_both_then_sample_and_reconstruct(call, place):
    common = ("--data", "data", "--preset", "tiny", "--steps", 2)
    assert call("train", "tokenizer", *common, "--out", "tokenizer").code == 0
    assert call("train", "var", *common, "--tokenizer", "tokenizer", "--out", "var").code == 0
    assert call("train", "var", *common, "--tokenizer", "var", "--out", "second").code == 0
    assert call("sample", "--model", "var", "--labels", "Dress").code == 0
    assert call("reconstruct", "photos/0.png", "--model", "var").code == 0
    assert "boot, dress" in call("info", "var").out
