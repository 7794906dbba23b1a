"""``sample``, ``edit`` and ``convert`` with a video model."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_star import make_model, make_schedule, make_tokenizer
from tiny_t5 import write_t5
from tiny_videos import grey_frames, write

import nextscale as ns
from nextscale.io.videos import decode, read_info
from nextscale.provenance import read_provenance


@pytest.fixture(scope="module")
def star(tmp_path_factory) -> Path:
    """13 frames of 48 x 32 pixels."""
    folder = tmp_path_factory.mktemp("star")
    encoder = write_t5(folder / "t5", d_model=16)
    pipe = ns.Pipeline(make_tokenizer(make_schedule()), make_model(), device="cpu", text_encoder=str(encoder))
    pipe.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def sample(call, place, star):
    return lambda *flags: call("sample", *flags, "--model", star, "--device", "cpu")


@pytest.fixture
def edit(call, place, star):
    return lambda *flags: call("edit", *flags, "--model", star, "--device", "cpu")


def frames(path: str) -> np.ndarray:
    return np.stack([np.asarray(frame.image) for frame in decode(path)]).astype(int)


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def done(outcome) -> list[str]:
    assert outcome.code == 0, outcome.err
    return outcome.out.split()


def refused(outcome) -> str:
    assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome.err
    return outcome.err


def expected(star: Path, prompt: str, **arguments) -> np.ndarray:
    pipe = ns.Pipeline.from_pretrained(star, "cpu")
    return pipe(prompt, **arguments).videos[0].frames.astype(int)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_prompt_becomes_a_video_that_can_be_repeated(sample, call, star, suffix):
    assert done(sample("a fox in the snow", "--seed", 3, "--out", f"fox.{suffix}")) == [f"fox.{suffix}"]
    made = read_provenance(f"fox.{suffix}")
    assert made.prompts == ("a fox in the snow",) and made.frames == 13 and made.seed == 3
    info = read_info(f"fox.{suffix}")
    assert info.size == (32, 48) and info.fps == pytest.approx(16, rel=0.02)
    assert np.abs(frames(f"fox.{suffix}") - expected(star, "a fox in the snow", seed=3)).mean() < 12
    assert done(sample("--like", f"fox.{suffix}", "--out", "again.gif")) == ["again.gif"]
    if suffix == "gif":
        assert (frames("again.gif") == frames("fox.gif")).all()
    if suffix == "mp4":
        words = shlex.split(made.command("third.gif"))
        assert words[words.index("--guidance") + 1] == "apg" and "--clip-temperature" in words
        assert done(call(*words[1:])) == ["third.gif"]
        assert (frames("third.gif") == frames("again.gif")).all()
        ast.parse(made.python())
        assert "result.videos[0].save('video.mp4')" in made.python()


def test_the_default_file_is_an_mp4(sample):
    assert done(sample("a fox", "--seconds", 1)) == ["samples.mp4"]
    assert len(frames("samples.mp4")) == 17


def test_several_videos_form_a_grid(sample):
    flags = ("--seeds", 1, 2, "--separate", "--out")
    assert done(sample("a fox", "a red cat", *flags, "two.gif")) == ["two.gif", "two-000.gif", "two-001.gif"]
    both, first, second = map(frames, ("two.gif", "two-000.gif", "two-001.gif"))
    assert both.shape == (13, 32, 98, 3)
    assert np.abs(both[:, :, :48] - first).mean() < 12 and np.abs(both[:, :, 50:] - second).mean() < 12
    one = read_provenance("two-001.gif")
    assert one.num_images == 1 and one.seed == (2,) and one.prompts == ("a red cat",)
    done(sample("--like", "two-001.gif", "--out", "again.gif"))
    assert (frames("again.gif") == second).all()
    done(sample("a fox", "a red cat", "--seed", 5, "--separate", "--out", "shared.gif"))
    done(sample("--like", "shared-001.gif", "--out", "again.gif"))
    assert (frames("again.gif") == frames("shared-001.gif")).all()


def test_a_strip_of_frames(sample, star):
    assert done(sample("a fox", "--seed", 3, "--out", "strip.png")) == ["strip.png"]
    strip = pixels("strip.png")
    assert strip.shape == (32, 8 * 50 - 2, 3)
    video = expected(star, "a fox", seed=3)
    for i, k in enumerate((0, 2, 3, 5, 7, 9, 10, 12)):
        assert (strip[:, 50 * i : 50 * i + 48] == video[k]).all()
    done(sample("--like", "strip.png", "--out", "again.png"))
    assert (pixels("again.png") == strip).all()


def test_images_of_a_video_model(sample):
    assert done(sample("a fox", "--seconds", 0, "--num-images", 2)) == ["samples.png"]
    done(sample("--like", "samples.png", "--out", "again.png"))
    with Image.open("samples.png") as first, Image.open("again.png") as again:
        assert first.size == (98, 32) and first.tobytes() == again.tobytes()
    assert "generates images: expected one of the extensions .png" in refused(
        sample("a fox", "--seconds", 0, "--out", "a.mp4")
    )


def test_settings_as_flags(sample):
    done(sample("a fox", "--guidance", "cfg", "--cfg", 3, "--clip-temperature", 0.7, "--out", "a.gif"))
    settings = read_provenance("a.gif").settings
    assert (settings.guidance, settings.cfg, settings.clip_temperature) == ("cfg", 3.0, 0.7)
    assert "--guidance cfg" in read_provenance("a.gif").command()
    assert "clip_temperature must be a number" in refused(sample("a fox", "--clip-temperature", 0))


def test_image_to_video(edit, call, star):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8))
    image.save("first.png")
    assert done(edit("first.png", "--prompt", "a fox runs", "--seed", 2, "--out", "fox.mp4")) == ["fox.mp4"]
    made = read_provenance("fox.mp4")
    assert made.edit and made.edit.spec.extend == "image" and made.frames == 13
    assert np.abs(frames("fox.mp4") - expected(star, "a fox runs", seed=2, image="first.png")).mean() < 12
    done(edit("--image", "first.png", "--prompt", "a fox runs", "--seed", 2, "--out", "flag.gif"))
    done(call(*shlex.split(made.command("command.gif"))[1:]))
    done(edit("--like", "fox.mp4", "--out", "like.gif"))
    assert (frames("flag.gif") == frames("command.gif")).all() and (frames("like.gif") == frames("flag.gif")).all()
    code = made.python().replace("video.mp4", "python.gif")
    exec(compile(code, "python", "exec"), {})
    assert (frames("python.gif") == frames("flag.gif")).all()
    image.transpose(Image.Transpose.ROTATE_90).save("first.png")
    assert "first.png is not the file that fox.mp4 was made from" in refused(edit("--like", "fox.mp4"))
    Path("first.png").unlink()
    assert "was made from first.png, which does not exist: add IMAGE" in refused(edit("--like", "fox.mp4"))


def test_continuation(edit, star):
    write(Path("in.mp4"), grey_frames(20, (48, 64)), fps=24)
    assert done(edit("in.mp4", "--prompt", "a fox", "--out", "out.webm")) == ["out.webm"]
    made = read_provenance("out.webm")
    assert made.edit and made.edit.spec.extend == "video"
    assert np.abs(frames("out.webm") - expected(star, "a fox", video="in.mp4")).mean() < 12
    done(edit("--like", "out.webm", "--out", "again.gif"))
    assert done(edit("in.mp4", "--variants", 2, "--seeds", 1, 2, "--separate")) == [
        "edited.mp4",
        "edited-000.mp4",
        "edited-001.mp4",
    ]
    assert "has 0.21 seconds that can be read: expected at least 0.5" in refused(
        edit(write(Path("short.mp4"), grey_frames(5), fps=24))
    )


def test_edits_that_are_refused(edit, call, model, star):
    Image.new("RGB", (48, 32)).save("first.png")
    Path("text.mp4").write_text("no video")
    for flags, problem in (
        (("text.mp4",), "not a video, damaged, or of an unknown format"),
        (("none.mp4",), "cannot read none.mp4: No such file"),
        ((), "expected an image or a video to begin with, got none"),
        (("first.png", "--seconds", 0), "has at least 1 second, not 0"),
        (("first.png", "--mask", "first.png", "--extend", "image"), "--mask is for models that generate images"),
        (("first.png", "--label", "hat"), "--label is for models that generate images"),
        (("first.png", "--fit", "pad"), "fit pad is for editing images"),
        (("first.png", "--out", "first.png"), "first.png is the image, which would be overwritten"),
        (("first.png", "--box", "0,0,1,1"), "InfinityStar extends images and videos: expected no mask, box"),
    ):
        assert problem in refused(edit(*flags))
    assert "generates images: expected a video model" in refused(
        call("edit", "first.png", "--extend", "image", "--model", model)
    )
    assert "seconds is for video models" in refused(call("sample", "--model", model, "--seconds", 5))
    assert "generates images: expected one of the extensions" in refused(
        call("sample", "--model", model, "--out", "a.mp4")
    )


def test_what_is_for_images_only(call, star, place):
    for verb in (
        ("reconstruct", "photos/0.png"),
        ("bench", "sample"),
        ("evaluate", "--reconstruction", "--data", "photos", "--out", "e"),
        ("serve", "--port", 0),
    ):
        error = refused(call(*verb, "--model", star, "--device", "cpu"))
        assert "is for models that generate images, and this one generates videos" in error


def test_info(call, star):
    out = call("info", star, "--seconds", 1).out
    for line in (
        "videos           17 frames of 32 x 48 pixels, 16 per second",
        "visits           12, in clips of 1, 2, 2 latent frames",
        "tokens           45 of 16 or 64 bits; 54 over all visits",
        "2 heads of keys and values",
        "GB for 1 video in float32",
        "FLOPs per video",
    ):
        assert line in out, out
    assert "FLOPs per image" in call("info", star, "--seconds", 0).out


def test_without_pyav(sample, monkeypatch):
    monkeypatch.setattr("nextscale.runtime.extras.find_spec", lambda name: None)
    assert "av is not installed: run" in refused(sample("a fox", "--out", "a.mp4"))


def test_show_scales_is_for_images(sample):
    assert "--show-scales is for images" in refused(sample("a fox", "--show-scales", "--out", "a.gif"))
    assert done(sample("a fox", "--show-scales", "--seconds", 0)) == ["samples.png", "samples-scales.png"]


def test_official_files_both_ways(call, star, place):
    """Two files, as the official code loads them, and back."""
    out = done(call("convert", "--model", star, "--to", "official", "--out", "official"))
    assert out == ["official/infinitystar_videovae.pth", "official/infinitystar.pth"]
    assert done(call("convert", "--model", ",".join(out), "--out", "back")) == ["back"]
    first, second = (ns.Pipeline.from_pretrained(folder, "cpu") for folder in (star, "back"))
    for one, other in ((first.model, second.model), (first.tokenizer, second.tokenizer)):
        assert all(torch.equal(a, other.state_dict()[name]) for name, a in one.state_dict().items())
    assert second.tokenizer.schedule == ns.ScaleSchedule.spacetime("0.40M", 9 / 16, 5)
