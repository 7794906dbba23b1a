"""``sample``, ``edit``, ``reconstruct`` and ``convert`` with a text-to-image model."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_infinity import TEXT_WIDTH, make_infinity, make_tokenizer
from tiny_runs import make_images
from tiny_t5 import write_t5

import nextscale as ns
from nextscale.cli.settings_flags import SettingsFlags, given
from nextscale.conditioning import t5
from nextscale.provenance import read_provenance
from nextscale.scales.schedule import ScaleSchedule

SMALL = ScaleSchedule.infinity("0.06M")
PROMPTS = ("a fox in the snow", "-- two red cars, at night")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5"), d_model=TEXT_WIDTH)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory, encoder) -> Path:
    """Two pixels per side of a token, so 32 x 32 pixels for 0.06M."""
    folder = tmp_path_factory.mktemp("text") / "model"
    tokenizer = make_tokenizer(schedule=SMALL, channels=32, multipliers=(1, 1))
    model = make_infinity(schedule=SMALL, text_rows=16)
    ns.Pipeline(tokenizer, model, device="cpu", text_encoder=str(encoder)).save_pretrained(folder)
    return folder


@pytest.fixture
def sample(call, place, text_model):
    return lambda *flags: call("sample", *flags, "--model", text_model)


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def load(model: Path) -> ns.Pipeline:
    return ns.Pipeline.from_pretrained(model, device="cpu")


def test_prompts_become_images(sample, text_model):
    outcome = sample("a fox in the snow", "two red cars", "--seeds", 1, 2, "--separate", "--out", "a.png")
    assert outcome.code == 0 and outcome.out.split() == ["a.png", "a-000.png", "a-001.png"]
    images = load(text_model)(["a fox in the snow", "two red cars"], seed=[1, 2]).images
    for i, image in enumerate(images):
        assert pixels(f"a-00{i}.png") == image.tobytes()
    assert read_provenance("a-001.png").prompts == ("two red cars",)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--aspect", "16:9", "--negative-prompt", "grey -- and dull", "--cfg", 2],
        ["--size", "30x15", "--temperature", 1, "--positive-phrase", "--guidance-blocks", 0, -2],
        ["--cfg", 3, 3, 3, 2, 2, 1, 1, "--budget", "0.06M", "--top-p", 0.9],
    ],
)
def test_like_repeats_an_image(sample, call, text_model, flags):
    assert sample(*PROMPTS[:1], *flags, "--num-images", 2, "--seeds", 5, 6, "--separate", "--out", "a.png").code == 0
    assert call("sample", "--like", "a.png", "--model", text_model, "--out", "b.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert call("sample", "--like", "a-001.png", "--model", text_model, "--out", "c.png").code == 0
    assert pixels("a-001.png") == pixels("c.png")


@pytest.mark.parametrize("prompt", [*PROMPTS, "a 'quoted' \"fox\"\nin two lines", "🦊 ثعلب", "-5", "--seed"])
def test_the_command_and_the_code_repeat_an_image(sample, call, text_model, prompt):
    words = f" {prompt}" if prompt.startswith("-") else prompt
    assert sample(words, "--seeds", 3, "--aspect", "2:1", "--out", "a.png").code == 0
    made = read_provenance("a.png")
    assert made.prompts == (prompt,)
    verb, *arguments = shlex.split(made.command("b.png"))[1:]
    assert call(verb, *arguments).code == 0
    assert pixels("a.png") == pixels("b.png")
    exec(made.python("c"), {})
    assert pixels("a.png") == pixels("c.png")


def test_prompts_from_a_file(sample):
    Path("prompts.txt").write_text("a fox\n\n  two cars\n", encoding="utf-8")
    assert sample("--prompts-file", "prompts.txt", "--num-images", 3, "--out", "a.png").code == 0
    assert read_provenance("a.png").prompts == ("a fox", "two cars") and read_provenance("a.png").num_images == 3


def test_the_size_that_is_used_is_said(sample):
    outcome = sample("a fox", "--size", "30x15", "--out", "a.png")
    assert "44 x 22 pixels, the nearest size to 30x15" in outcome.err and size("a.png") == (44, 22)
    assert "nearest" not in sample("a fox", "--size", "32x32", "--out", "a.png").err


def test_a_long_prompt_is_cut_and_that_is_said(sample):
    outcome = sample("fox " * 10_000, "--out", "a.png")
    assert outcome.code == 0 and "cut to the first 16" in outcome.err


def test_a_prompt_for_a_model_of_classes_is_a_class(call, place, model):
    assert call("sample", "hat", "dress", "--model", model, "--seed", 1, "--out", "a.png").code == 0
    assert call("sample", "--labels", "hat", "dress", "--model", model, "--seed", 1, "--out", "b.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_the_text_encoder_of_a_flag_and_a_cache_of_features(sample, call, encoder, text_model, monkeypatch):
    expected = sample("a fox", "--seeds", 1, "--out", "a.png")
    flags = ("--text-encoder", encoder, "--text-cache", "cache", "--text-dtype", "float32", "--unload-text")
    assert expected.code == sample("a fox", "--seeds", 1, *flags, "--out", "b.png").code == 0
    monkeypatch.setattr(t5.T5TextEncoder, "_load", lambda self: 1 / 0)
    assert sample("a fox", "--seeds", 1, *flags, "--out", "c.png").code == 0
    images = [pixels(f"{name}.png") for name in "abc"]
    assert images[0] == images[1] == images[2]
    assert read_provenance("b.png").text_encoder == str(encoder)


def test_less_memory_gives_the_same_images(sample, call, place, text_model, encoder, monkeypatch):
    monkeypatch.setattr("nextscale.acceleration.strips.WHOLE", 2**12)
    monkeypatch.setattr("nextscale.acceleration.strips.STRIP", 2**14)
    for name, *flags in (("a",), ("b", "--offload"), ("c", "--offload", "--tiles", "--text-encoder", encoder)):
        assert sample("a fox", "--seeds", 1, *flags, "--out", f"{name}.png").code == 0
    assert pixels("a.png") == pixels("b.png")
    levels = [torch.tensor(list(pixels(f"{name}.png"))) for name in "ac"]
    assert (levels[0] - levels[1]).abs().max() <= 1
    assert sample("--like", "a.png", "--offload", "--out", "d.png").code == 0
    assert pixels("a.png") == pixels("d.png")
    (photo, *_) = make_images(place / "mine", 1, size=(30, 30)).glob("*.png")
    edit = ("edit", photo, "--model", text_model, "--seeds", 1, "--box", "0,0,0.5,1", "--prompt", "a fox")
    for name, *flags in (("e",), ("f", "--offload")):
        assert call(*edit, *flags, "--out", f"{name}.png").code == 0
    assert pixels("e.png") == pixels("f.png")


@pytest.mark.long
def test_memory_with_less_of_it(call, text_model):
    outcome = call("info", text_model, "--budget", "1M", "--offload", "--tiles")
    assert outcome.code == 0 and "after transformer and cache are freed" in outcome.out
    assert "for the text encoder, before the transformer is prepared" in outcome.out
    found = [call("info", text_model, "--budget", "1M", *flags).out for flags in ((), ("--offload",))]
    peaks = [float(text.partition("memory           ")[2].split()[0]) for text in found]
    assert peaks[0] >= peaks[1]


def test_edit_with_a_prompt(call, place, text_model):
    (photo, *_) = sorted(make_images(place / "wide", 1, size=(60, 30)).glob("*.png"))
    edit = ("edit", photo, "--model", text_model, "--seeds", 1, 2, "--variants", 2)
    assert call(*edit, "--box", "0,0,0.5,1", "--prompt", "a fox", "--out", "a.png", "--separate", "--show").code == 0
    result = load(text_model).edit(photo, box=(0, 0, 0.5, 1), labels="a fox", num_images=2, seed=[1, 2])
    assert [pixels(f"a-00{i}.png") for i in range(2)] == [image.tobytes() for image in result.images]
    assert call("edit", "--like", "a-001.png", "--model", text_model, "--out", "b.png").code == 0
    assert pixels("a-001.png") == pixels("b.png")
    assert call(*edit, "--scales-kept", 3, "--out", "c.png").code == 0
    assert call("edit", "--like", "c.png", "--model", text_model, "--out", "d.png").code == 0
    assert Path("c.png").read_bytes() == Path("d.png").read_bytes()


def test_reconstruct_images_of_any_aspect(call, place, text_model):
    wide, tall = (
        next(make_images(place / name, 1, size=size).glob("*.png")) for name, size in (("w", (60, 30)), ("t", (30, 60)))
    )
    outcome = call("reconstruct", wide, tall, "--model", text_model, "--out", "r.png")
    assert outcome.code == 0 and outcome.out.count(" dB") == 2
    assert call("reconstruct", wide, "--model", text_model, "--aspect", "1:1", "--out", "s.png").code == 0
    assert size("r.png")[0] > size("s.png")[0]  # 44 and 32 pixels per image


def test_convert_both_ways(call, place, text_model):
    assert call("convert", "--model", text_model, "--to", "official", "--out", "official").code == 0
    pair = ("--model", "official/infinity_vae.pth,official/infinity.pth", "--scales", "1,2,4,6,8,12,16")
    assert call("convert", *pair, "--out", "ours", "--dtype", "bfloat16").code == 0
    ours, theirs = load(Path("ours")), load(text_model)
    assert ours.text_encoder == "google/flan-t5-xl"
    for part in ("tokenizer", "model"):
        states = getattr(ours, part).state_dict(), getattr(theirs, part).state_dict()
        assert all(torch.equal(tensor.bfloat16(), states[1][name].bfloat16()) for name, tensor in states[0].items())


@pytest.mark.parametrize(
    "flags, words",
    [
        ([""], ["prompt 0 is empty"]),
        ([], ["at least one prompt"]),
        (["a", "--labels", "b"], ["PROMPT or --labels"]),
        (["--labels", "b"], ["text-to-image model", "prompt"]),
        (["a", "--prompts-file", "none.txt"], ["none.txt"]),
        (["a", "b", "--num-images", 1], ["2 prompts", "1 images"]),
        (["a", "--aspect", "wide"], ["16:9", "wide"]),
        (["a", "--size", "5"], ["1024x768", "5"]),
        (["a", "--size", "5x5", "--budget", "1M"], ["both"]),
        (["a", "--budget", "9M"], ["1M", "9M"]),
        (["a", "--cfg", 1, 2], ["7 scales", "2"]),
        (["a", "--guidance-blocks", 3], ["-3", "3"]),
        (["a", "--text-encoder", "nowhere"], ["nowhere"]),
        (["a", "--text-encoder", "model"], ["t5"]),
    ],
)
def test_bad_prompts(sample, place, text_model, flags, words):
    (place / "model").symlink_to(text_model / "transformer")
    outcome = sample(*flags, "--out", "a.png")
    assert outcome.code == 2 and not Path("a.png").exists()
    (sentence,) = [line for line in outcome.err.splitlines() if line.startswith("nextscale: ")]
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--prompts-file", "prompts.txt"], ["class-conditional model", "--labels"]),
        (["--negative-prompt", "grey"], ["negative_prompt", "class labels"]),
        (["--aspect", "16:9"], ["8x8 pixels", "16:9"]),
        (["--text-encoder", "google/flan-t5-xl"], ["class labels"]),
        (["--guidance-blocks", -1], ["VAR", "logits"]),
    ],
)
def test_flags_that_a_model_of_classes_does_not_take(call, place, model, flags, words):
    Path("prompts.txt").write_text("a fox")
    outcome = call("sample", "--model", model, *flags, "--out", "a.png")
    assert outcome.code == 2 and all(word in outcome.err for word in words), outcome.err


def test_given_settings_are_those_of_flags():
    assert given(SettingsFlags()) == {}
    assert given(SettingsFlags(cfg=4.0, top_k=0, more_smooth=True)) == {"cfg": 4.0, "top_k": 0, "more_smooth": True}


def test_the_model_has_its_own_default_settings(sample, text_model, call):
    assert sample("a fox", "--seeds", 1, "--out", "a.png").code == 0
    made = read_provenance("a.png").settings
    assert made == load(text_model).settings and (made.cfg, made.temperature, made.top_p) == (3.0, 0.5, 0.97)
    assert (
        sample("a fox", "--seeds", 1, "--cfg", 4, "--out", "b.png").code == 0
    )  # the default of class-conditional models
    assert read_provenance("b.png").settings.cfg == 4.0


def test_an_image_of_a_seed_is_that_of_python(sample, text_model):
    assert sample("a fox", "--seed", 9, "--out", "a.png").code == 0
    assert pixels("a.png") == load(text_model)("a fox", seed=9).images[0].tobytes()


def test_like_takes_the_settings_of_the_image_not_those_of_the_model(sample, call, text_model):
    """Also a setting that is off, where the model has it on."""
    assert sample("a fox", "--seeds", 1, "--out", "a.png").code == 0
    pipeline = load(text_model)
    pipeline.settings = pipeline.settings.changed(more_smooth=True, cfg=2.0, guidance_blocks=(-1,))
    pipeline.save_pretrained("smooth")
    assert call("sample", "--like", "a.png", "--model", "smooth", "--out", "b.png").code == 0
    assert pixels("a.png") == pixels("b.png")
