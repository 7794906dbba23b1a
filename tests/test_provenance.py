"""Provenance of images: writing, reading and repeating."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from tiny import refused

import nextscale as ns
from nextscale.editing.spec import EditSpec
from nextscale.imaging.images import save_image
from nextscale.io.video_writer import write_video
from nextscale.provenance import KEY, LARGEST, MOST, EditProvenance, Provenance, printable, read_provenance
from nextscale.sampling.settings import FOR_VIDEOS, SamplingSettings
from nextscale.scales.image_shape import ImageShape

MADE = Provenance(model="runs/my var", weights="ab cd", labels=("dress", "hat"), num_images=4, seed=(7, 8, 9, 10))
EDIT = EditProvenance(spec=EditSpec(box=(0.25, 0, 1, 0.5), softness=2.0), image="a b.png", image_sha256="ef")
MASKED = EditSpec(mode="outpaint", leak_free=False)
ALL = [
    MADE,
    replace(MADE, seed=3, index=2, settings=SamplingSettings(temperature=0.5, more_smooth=True), scales="1,2,3,4"),
    replace(MADE, labels=(), edit=EDIT),
    replace(MADE, edit=replace(EDIT, spec=MASKED, mask="m.png", mask_sha256="01")),
    replace(MADE, edit=EditProvenance(spec=EditSpec(scales_kept=3), image="a.png", image_sha256="ef")),
    replace(MADE, edit=EditProvenance(spec=EditSpec(upscale=True), image="a.png", image_sha256="ef")),
    replace(MADE, edit=EditProvenance(spec=EditSpec(extend="video"), image="a.mp4", image_sha256="ef"), frames=161),
]


def png(path: Path, text: object, key: str = KEY) -> Path:
    info = PngInfo()
    info.add_text(key, text if isinstance(text, str) else json.dumps(text))
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("made", ALL)
def test_what_is_written_is_read(tmp_path, made):
    save_image(Image.new("RGB", (2, 2)), tmp_path / "a.png", made.to_png_info())
    assert read_provenance(tmp_path / "a.png") == made


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.bmp", "a.gif"])
def test_other_formats_are_written_without(tmp_path, name):
    save_image(Image.new("RGB", (2, 2)), tmp_path / name, MADE.to_png_info())
    assert KEY.encode() not in (tmp_path / name).read_bytes()
    with refused(name, "expected a PNG"):
        read_provenance(tmp_path / name)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("made", ALL)
def test_lossy_formats_have_it_in_their_user_comment(tmp_path, kind, made):
    Image.new("RGB", (2, 2)).save(tmp_path / "a", kind, exif=made.to_exif())
    assert read_provenance(tmp_path / "a") == made


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("comment", "words"),
    [
        (b"", "has no provenance"),
        (b"ASCII\0\0\0a holiday", "has no provenance"),
        (b'ASCII\0\0\0{"nextscale": {}}', "invalid provenance"),
        (b'ASCII\0\0\0{"nextscale": \xff}', "incomplete or damaged"),
        (b'ASCII\0\0\0{"nextscale": ' + b"[" * 30_000 + b"}", "nested too deeply"),
    ],
)
def test_user_comments_of_others(tmp_path, kind, comment, words):
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: comment}
    Image.new("RGB", (2, 2)).save(tmp_path / "a", kind, exif=exif)
    with refused(words):
        read_provenance(tmp_path / "a")


def test_one_image_of_a_call():
    assert MADE.of_image(2) == replace(MADE, labels=("dress",), num_images=1, seed=(9,))
    assert replace(MADE, labels=()).of_image(3) == replace(MADE, labels=(), num_images=1, seed=(10,))
    for shared in (replace(MADE, seed=5), replace(MADE, settings=SamplingSettings(more_smooth=True))):
        assert shared.of_image(2) == replace(shared, index=2)


def test_the_command_quotes_what_a_shell_would_part():
    words = shlex.split(replace(MADE, edit=EDIT, labels=("it's",)).command("my out.png"))
    assert words[:5] == ["nextscale", "edit", "a b.png", "--box", "0.25,0.0,1.0,0.5"]
    assert "it's" in words and "runs/my var" in words and words[-1] == "my out.png"


def test_softness_counts_only_where_the_result_is_laid_over_the_image():
    assert replace(EDIT.spec, composite=False).softness == 0 and EDIT.spec.softness == 2


def test_python_saves_all_images():
    assert "images[0].save" in replace(MADE, labels=(), num_images=1, seed=3).python()
    assert "images[2].save('image.png')" in replace(MADE, seed=3, index=2).python()
    for made, stem in ((MADE, "image"), (replace(MADE, edit=EDIT), "edited")):
        assert made.python().endswith(
            f"for i, image in enumerate(result.images): image.save(f'{stem}-{{i:03d}}.png')\n"
        )


@pytest.mark.parametrize("made", ALL)
def test_python_is_python(made):
    tree = ast.parse(made.python())
    assert any(isinstance(node, ast.Call) and ast.unparse(node.func).startswith("pipe") for node in ast.walk(tree))


WRONG = {
    "model": [3, None, "a\nb", "\x1b[31m"],
    "labels": ["dress", [1], ["a"] * 9, [["a"]], {}],
    "num_images": [0, -1, "4", 4.0, True, MOST + 1],
    "seed": [[1, 2], [1, 2, 3, "4"], "7", None, 1.5, [True] * 4],
    "settings": [3, [], {"cfg": 4, "unknown": 1}],
    "index": [4, -1, "0", True],
    "dtype": [None],
    "edit": [3, [], {}, {"image": "a"}, {"image": "a", "image_sha256": "b"}, {"spec": {}}],
    "unknown": [1],
}
WRONG_SETTINGS = {
    "cfg": ["4", None, 1e9, [[4]]],
    "temperature": [0, "1", None, [[1]]],
    "top_k": [-1, 2.5, None, True],
    "top_p": [2, "x"],
    "more_smooth": [1, "yes"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_wrong_fields(tmp_path, field, value):
    with refused("a.png", "invalid provenance"):
        read_provenance(png(tmp_path / "a.png", asdict(MADE) | {field: value}))


@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG_SETTINGS.items() for value in values]
)
def test_wrong_settings(tmp_path, field, value, layout):
    with refused("a.png", "invalid provenance"):
        read_provenance(png(tmp_path / "a.png", changed(MADE, layout, {field: value}, {})))


def changed(made: Provenance, layout: str, settings: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Metadata with other settings and another edit; "flat" is the layout of older versions."""
    stored = asdict(made)
    edit, settings = stored["edit"], stored["settings"] | settings
    spec = edit["spec"] | spec if edit else {}
    if layout == "nested":
        return stored | {"settings": settings, "edit": edit and edit | {"spec": spec}}
    del stored["settings"]
    if edit:
        del edit["spec"]
        stored["edit"] = edit | spec
    return stored | settings


@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("box", [1, 2, 3]), ("box", "0,0,1,1"), ("mode", "paint"), ("softness", "2"), ("leak_free", 1), ("upscale", True)],
)
def test_wrong_fields_of_an_edit(tmp_path, field, value, layout):
    with refused("a.png", "invalid provenance"):
        read_provenance(png(tmp_path / "a.png", changed(replace(MADE, edit=EDIT), layout, {}, {field: value})))


OLD = {
    "sample": '{"model": "starter", "weights": "a b", "scales": "", "device": "cpu", "dtype": "float32", '
    '"labels": ["dress", "hat"], "num_images": 2, "seed": [7, 8], "cfg": 4.0, "top_k": 800, '
    '"top_p": 0.95, "more_smooth": false, "index": null, "edit": null}',
    "mask": '{"model": "starter", "weights": "a b", "scales": "", "device": "cpu", "dtype": "float32", '
    '"labels": ["hat"], "num_images": 2, "seed": [5, 6], "cfg": 3.0, "top_k": 900, "top_p": 0.95, '
    '"more_smooth": false, "index": null, "edit": {"picture": "dress.png", "picture_sha256": "34", '
    '"mask": "mask.png", "mask_sha256": "12", "box": null, "mode": "class", "leak_free": true, '
    '"softness": 2.0, "composite": true, "scales_kept": null, "upscale": false}}',
    "box": '{"model": "starter", "weights": "a b", "scales": "", "device": "cpu", "dtype": "float32", '
    '"labels": [], "num_images": 2, "seed": 0, "cfg": 4.0, "top_k": 900, "top_p": 0.95, '
    '"more_smooth": false, "index": null, "edit": {"picture": "dress.png", "picture_sha256": "34", '
    '"mask": "", "mask_sha256": "", "box": [0.25, 0.25, 0.75, 0.75], "mode": "inpaint", '
    '"leak_free": false, "softness": 0.0, "composite": false, "scales_kept": null, '
    '"upscale": false}}',
    "scales": '{"model": "starter", "weights": "a b", "scales": "", "device": "cpu", "dtype": "float32", '
    '"labels": ["dress"], "num_images": 1, "seed": 0, "cfg": 4.0, "top_k": 900, "top_p": 0.95, '
    '"more_smooth": false, "index": null, "edit": {"picture": "dress.png", "picture_sha256": "34", '
    '"mask": "", "mask_sha256": "", "box": null, "mode": "inpaint", "leak_free": true, '
    '"softness": 0.0, "composite": true, "scales_kept": 3, "upscale": false}}',
    "upscale": '{"model": "starter", "weights": "a b", "scales": "", "device": "cpu", "dtype": "float32", '
    '"labels": [], "num_images": 1, "seed": 0, "cfg": 4.0, "top_k": 900, "top_p": 0.95, '
    '"more_smooth": true, "index": null, "edit": {"picture": "small.png", "picture_sha256": "f5", '
    '"mask": "", "mask_sha256": "", "box": null, "mode": "inpaint", "leak_free": true, '
    '"softness": 0.0, "composite": true, "scales_kept": null, "upscale": true}}',
}
"""Metadata as versions before 30 November 2026 wrote it."""


def test_metadata_of_older_versions(tmp_path):
    images = {name: read_provenance(png(tmp_path / "a.png", text)) for name, text in OLD.items()}
    both = SamplingSettings(cfg=4.0, top_k=800, top_p=0.95)
    assert images["sample"] == Provenance(
        model="starter", weights="a b", labels=("dress", "hat"), num_images=2, seed=(7, 8), settings=both
    )
    masked = images["mask"].edit
    assert masked == EditProvenance(
        spec=EditSpec(mode="class", softness=2.0),
        image="dress.png",
        image_sha256="34",
        mask="mask.png",
        mask_sha256="12",
    )
    assert images["mask"].settings == SamplingSettings(cfg=3.0, top_p=0.95)
    specs = {name: made.edit.spec for name, made in images.items() if made.edit}
    assert specs["box"] == EditSpec(box=(0.25, 0.25, 0.75, 0.75), leak_free=False, composite=False)
    assert specs["scales"] == EditSpec(scales_kept=3) and specs["upscale"] == EditSpec(upscale=True)
    assert images["upscale"].settings.more_smooth


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, '{"cfg": NaN}', "{}"])
def test_wrong_texts(tmp_path, text):
    with refused("a.png", "invalid provenance"):
        read_provenance(png(tmp_path / "a.png", text))


def test_cfg_that_is_no_number(tmp_path):
    with refused("a.png", "cfg"):
        read_provenance(png(tmp_path / "a.png", json.dumps(changed(MADE, "nested", {"cfg": float("nan")}, {}))))


def test_too_much_text(tmp_path):
    with refused("a.png", "too much metadata"):
        read_provenance(png(tmp_path / "a.png", asdict(MADE) | {"model": "a" * LARGEST}))
    info = PngInfo()
    info.add_text(KEY, "a" * 60_000_000, zip=True)
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png", pnginfo=info)
    with refused("b.png", "too much metadata"):
        read_provenance(tmp_path / "b.png")


def test_half_a_png(tmp_path):
    whole = png(tmp_path / "a.png", asdict(MADE)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:20])
    with refused("b.png", "incomplete or damaged"):
        read_provenance(tmp_path / "b.png")


def test_what_is_missing_is_named(tmp_path):
    made = asdict(replace(MADE, edit=EDIT))
    del made["weights"]
    with refused("Provenance lacks weights"):
        read_provenance(png(tmp_path / "a.png", made))
    made["weights"] = "ab"
    del made["edit"]["image"]
    with refused("EditProvenance lacks image"):
        read_provenance(png(tmp_path / "a.png", made))


def test_deep_metadata(tmp_path):
    with refused("a.png", "nested too deeply"):
        read_provenance(png(tmp_path / "a.png", "[" * 100_000))


@pytest.mark.parametrize(
    "field", ["model", "weights", "scales", "device", "labels", "num_images", "seed", "index", "cfg"]
)
@pytest.mark.parametrize("make", [lambda long: long, lambda long: [long], lambda long: {"x": long}])
def test_little_is_echoed(tmp_path, field, make):
    with pytest.raises(ns.InputError) as caught:
        read_provenance(png(tmp_path / "a.png", asdict(MADE) | {field: make("a" * 900_000)}))
    assert len(str(caught.value)) < 500
    with pytest.raises(ns.InputError) as caught:
        read_provenance(png(tmp_path / "a.png", asdict(MADE) | {"a" * 900_000: 1}))
    assert len(str(caught.value)) < 700


def test_files_that_do_not_say(tmp_path):
    with refused("nowhere.png", "no such file"):
        read_provenance(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("text")
    with refused("text.png", "expected a PNG"):
        read_provenance(tmp_path / "text.png")
    with refused("plain.png", "has no provenance"):
        read_provenance(png(tmp_path / "plain.png", "Somebody", key="Author"))


@pytest.mark.parametrize("field", ["cfg", "top_p", "num_images", "index"])
def test_long_numbers_are_cut(tmp_path, field):
    with pytest.raises(ns.InputError) as caught:
        read_provenance(png(tmp_path / "a.png", asdict(MADE) | {field: 10**4000}))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (replace(MADE, model="-m"), "--model=-m"),
        (replace(MADE, labels=("-x",)), "--labels=-x"),
        (replace(MADE, labels=("dress", "-x")), "--labels dress ' -x'"),
        (replace(MADE, num_images=1, labels=(), seed=(-7,)), "--seeds=-7"),
        (replace(MADE, seed=(-7, 8, -9, 10)), "--seeds -7 8 -9 10"),
        (replace(MADE, settings=SamplingSettings(cfg=-1.5)), "--cfg=-1.5"),
        (replace(MADE, edit=replace(EDIT, image="-a.png")), "edit ./-a.png --box"),
        (replace(MADE, edit=replace(EDIT, image="./-a.png")), "edit ./-a.png --box"),
        (replace(MADE, edit=replace(EDIT, spec=MASKED, mask="-m.png", mask_sha256="01")), "--mask=-m.png"),
        (replace(MADE, edit=replace(EDIT, spec=EditSpec(box=(0, 0, 1, 1), fit="pad"))), "--fit pad --model"),
        (replace(MADE, edit=replace(EDIT, spec=EditSpec(box=(0, 0, 1, 1), full_size=True))), "--full-size --model"),
    ],
)
def test_values_that_look_like_flags(made, words):
    assert f" {words} " in f" {made.command()} "


def test_an_output_that_looks_like_a_flag():
    assert MADE.command("-o.png").endswith(" --out=-o.png") and MADE.command("o.png").endswith(" --out o.png")


def test_texts_that_cannot_be_printed():
    assert printable("a b/ü.png") == "a b/ü.png" and printable("a\udce9\nb") == "a??b"
    assert EditProvenance(spec=EDIT.spec, image=printable("a\udce9"), image_sha256="ef").image == "a?"


VIDEO = replace(
    MADE, labels=(), prompts=("a fox – “quick”",), frames=81, shape=ImageShape(seconds=5), settings=FOR_VIDEOS
)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_videos_have_it_in_their_comments(tmp_path, suffix):
    for made in (VIDEO, replace(VIDEO, prompts=("word " * 20_000,))):
        write_video(tmp_path / f"a{suffix}", np.zeros((3, 16, 16, 3), np.uint8), 16, made.to_comment())
        assert read_provenance(tmp_path / f"a{suffix}") == made


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_videos_of_others(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for comment, words in (
        ("", "has no provenance"),
        ("a holiday", "has no provenance"),
        ('{"nextscale": {}}', "invalid provenance"),
        ('{"nextscale": ' + "[" * 30_000 + "}", "nested too deeply"),
    ):
        write_video(path, np.zeros((3, 16, 16, 3), np.uint8), 16, comment)
        with refused(words):
            read_provenance(path)
    path.write_bytes(path.read_bytes()[:20])
    with refused(path, "cannot read"):
        read_provenance(path)


def test_the_command_of_a_video_states_what_video_models_have_as_defaults():
    words = VIDEO.command()
    assert "--guidance apg" in words and "--clip-temperature 0.4" in words and "--seconds 5" in words
    assert words.endswith("--out video.mp4")
    plain = replace(VIDEO, settings=replace(FOR_VIDEOS, guidance="cfg", clip_temperature=None, temperature=0.5))
    assert "--guidance cfg" in plain.command() and "--clip-temperature 0.5" in plain.command()
    listed = replace(VIDEO, settings=replace(FOR_VIDEOS, temperature=(0.5,) * 28))
    assert "--clip-temperature" not in listed.command()
    assert "--seconds 0" in replace(VIDEO, frames=1, shape=ImageShape(seconds=0)).command()
    for wrong in (0, "4", True, 1.5):
        with refused("frames must be an integer"):
            replace(VIDEO, frames=wrong)
