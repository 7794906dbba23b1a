"""``nextscale edit``, and repeating commands with ``--like``."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import nextscale as ns
from nextscale.editing.spec import EditSpec
from nextscale.imaging.images import read_image, save_image
from nextscale.provenance import KEY, EditProvenance, Provenance, read_provenance

BOX = ("--box", "0.25,0.25,0.75,0.75")
SIDE = 8


@pytest.fixture
def pair(place):
    """An image and a mask of its shape."""
    mask = np.zeros((22, 28), dtype=np.uint8)
    mask[8:14, 10:20] = 255
    save_image(Image.fromarray(mask).convert("RGB"), place / "mask.png")
    return "photos/0.png", "mask.png"


def pixels(path) -> bytes:
    return read_image(path).tobytes()


def grid_of(result) -> bytes:
    (image,) = result.images
    return image.tobytes()


def test_edit_does_what_the_pipeline_does(call, model, pair):
    image, mask = pair
    flags = ("--mode", "class", "--label", "hat", "--softness", 1, "--no-leak-free", "--cfg", 2, "--seed", 5)
    code, out, err = call("edit", image, "--mask", mask, "--model", model, *flags)
    assert (code, out) == (0, "edited.png\n") and "scale 4/4" in err
    pipe = ns.Pipeline.from_pretrained(model)
    expected = pipe.edit(
        Image.open(image), Image.open(mask), mode="class", labels="hat", softness=1, leak_free=False, cfg=2, seed=5
    )
    assert pixels("edited.png") == grid_of(expected)


def test_kept_scales_and_small_images(call, model, place):
    pipe = ns.Pipeline.from_pretrained(model)
    image = read_image("photos/0.png")
    assert call("edit", "photos/0.png", "--scales-kept", 2, "--model", model).code == 0
    assert pixels("edited.png") == grid_of(pipe.continue_from(image, 2))
    save_image(image.resize((5, 5)), "small.png")
    assert call("edit", "small.png", "--upscale", "--label", "dress", "--model", model).code == 0
    assert pixels("edited.png") == grid_of(pipe.continue_from(read_image("small.png"), labels="dress"))


@pytest.mark.parametrize(
    ("flags", "size", "said"),
    [
        ((), (8, 8), "11 x 11 are used, resized to 8 x 8 (--fit pad uses the whole image, --full-size keeps"),
        (("--fit", "pad"), (8, 6), "14 x 11 pixels, resized to 8 x 6 (--full-size keeps the size of the image)"),
        (("--full-size",), (14, 11), "11 x 11 are used, resized to 8 x 8 (--fit pad uses the whole image)"),
        (("--full-size", "--fit", "pad"), (14, 11), "14 x 11 pixels, resized to 8 x 6\n"),
    ],
)
def test_sizes_and_what_is_said_about_them(call, model, place, flags, size, said):
    code, out, err = call("edit", "photos/0.png", *BOX, "--model", model, "--show", *flags)
    assert code == 0 and out == "edited.png\nedited-show.png\n"
    assert err.startswith("photos/0.png has 14 x 11 pixels, ") and said in err
    assert read_image("edited.png").size == size
    if "--full-size" in flags:
        before, after = (np.asarray(read_image(name)) for name in ("photos/0.png", "edited.png"))
        changed = (before != after).any(-1)
        assert changed.any() and not changed[:2].any() and not changed[:, :2].any()
    save_image(read_image("photos/0.png").resize((8, 8)), "fits.png")
    assert "pixels" not in call("edit", "fits.png", *BOX, "--model", model, *flags).err


def test_a_name_with_a_dash_is_repeated(call, model, place):
    for name, source in (("-photo.png", "photos/0.png"), ("-mask.png", "photos/1.png")):
        shutil.copy(source, name)
    save_image(Image.new("L", read_image("-mask.png").size, 255), "-mask.png")
    command = ("edit", "./-photo.png", "--mask=-mask.png", "--model", model, "--seeds", "-3")
    assert call(*command, "--separate", "--out=-a.png").code == 0
    for file in ("-a.png", "-a-000.png"):
        assert call("edit", f"--like={file}", "--model", model, "--out", "b.png").code == 0
        assert pixels("b.png") == pixels(file)
        words = shlex.split(read_provenance(file).command("-c.png"))
        assert call(*words[1:]).code == 0 and pixels("-c.png") == pixels(file)


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not text")
def test_a_name_that_is_no_text(call, model, place):
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy("photos/0.png", name)
    assert call("edit", name, *BOX, "--model", model, "--out", "a.png").code == 0
    again = ("edit", "--like", "a.png", "--model", model, "--out", "b.png")
    assert_refused(call(*again), "caf?.png, which does not exist: add IMAGE with its new path")
    assert call(*again[:1], name, *again[1:]).code == 0 and pixels("b.png") == pixels("a.png")


def test_the_files_of_variants(call, model, place):
    out = call("edit", "photos/0.png", *BOX, "--model", model, "--variants", 2, "--separate", "--show").out
    assert out.split() == ["edited.png", "edited-000.png", "edited-001.png", "edited-show.png"]
    assert pixels("edited-000.png") != pixels("edited-001.png")


CALLS = {
    "temperature": ("sample", "--seeds", 7, 8, 9, "--temperature", 0.7),
    "sample": ("sample", "--num-images", 3, "--cfg", 1.5, "--top-k", 9, "--top-p", 0.5, "--seed", 4),
    "labels": ("sample", "--labels", "Ankle boot", "none", "--num-images", 3),
    "seeds": ("sample", "--seeds", 7, 8, 9, "--labels", "hat", "dress"),
    "random labels": ("sample", "--seeds", 7, 8, 9),
    "smooth": ("sample", "--seeds", 7, 8, 9, "--more-smooth"),
    "box": ("edit", "photos/0.png", *BOX, "--variants", 3, "--mode", "class", "--label", "shoes", "--softness", 1.5),
    "mask": ("edit", "photos/0.png", "--mask", "mask.png", "--seeds", 7, 8, 9, "--mode", "outpaint"),
    "official": ("edit", "photos/0.png", *BOX, "--seeds", 7, 8, 9, "--no-leak-free", "--no-composite"),
    "continuation": ("edit", "photos/0.png", "--scales-kept", 2, "--variants", 3),
    "upscale": ("edit", "mask-small.png", "--upscale", "--variants", 3),
    "padded": ("edit", "photos/0.png", *BOX, "--fit", "pad", "--seeds", 7, 8, 9),
    "padded continuation": ("edit", "photos/0.png", "--scales-kept", 2, "--fit", "pad", "--variants", 3),
    "full size": ("edit", "photos/0.png", "--mask", "mask.png", "--full-size", "--seeds", 7, 8, 9, "--softness", 2),
    "padded at full size": ("edit", "photos/0.png", *BOX, "--fit", "pad", "--full-size", "--variants", 3),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_an_image_says_makes_it_again(call, model, pair, place, name):
    save_image(read_image("photos/1.png").resize((6, 5)), "mask-small.png")
    arguments = (*CALLS[name], "--model", model)
    assert call(*arguments, "--separate", "--out", "a.png").code == 0
    for file in ("a.png", "a-002.png"):
        code, out, err = call(arguments[0], "--like", file, "--model", model, "--out", "b.png")
        assert code == 0 and out == "b.png\n", err
        assert (place / "b.png").read_bytes() == (place / file).read_bytes()
        made = read_provenance(file)
        words = shlex.split(made.command("c.png"))
        assert words[0] == "nextscale" and call(*words[1:]).code == 0
        again = "c.png" if made.index is None else f"c-{made.index:03d}.png"
        assert pixels(again) == pixels(file)
    exec(made.python(), {})
    stem = "edited" if made.edit else "image"
    assert pixels(f"{stem}.png") == pixels("a-002.png")
    exec(read_provenance("a.png").python(), {})
    for i in range(3):
        assert pixels(f"{stem}-{i:03d}.png") == pixels(f"a-{i:03d}.png")


@pytest.mark.parametrize(("name", "written"), [("edited.png", "new-edited.png"), ("image.png", "edited.png")])
def test_python_and_the_command_overwrite_no_input(call, model, place, name, written):
    shutil.move("photos/0.png", name)
    before = Path(name).read_bytes()
    assert call("edit", name, *BOX, "--model", model, "--seeds", 7, "--out", "a.png").code == 0
    made = read_provenance("a.png")
    exec(made.python(), {})
    assert Path(name).read_bytes() == before and pixels(written) == pixels("a.png")
    assert shlex.split(made.command())[-2:] == ["--out", written]


def test_the_image_is_not_overwritten_by_default(call, model, place):
    shutil.move("photos/0.png", "edited.png")
    before = Path("edited.png").read_bytes()
    assert_refused(call("edit", "edited.png", *BOX, "--model", model), "edited.png is the image", "--out")
    assert Path("edited.png").read_bytes() == before
    assert call("edit", "edited.png", *BOX, "--model", model, "--out", "a.png").code == 0
    again = ("edit", "--like", "a.png", "--model", model)
    assert_refused(call(*again), "edited.png is the image")
    assert call(*again, "--out", "b.png").code == 0 and pixels("b.png") == pixels("a.png")


def test_one_of_several_is_written_alone(call, model, place):
    call_of_two = ("edit", "photos/0.png", *BOX, "--model", model, "--variants", 2, "--separate", "--out", "a.png")
    assert call(*call_of_two).code == 0
    shutil.copy("photos/0.png", "b-001.png")
    again = ("edit", "b-001.png", "--like", "a-001.png", "--model", model, "--separate", "--out", "b.png")
    assert call(*again).code == 0 and pixels("b-000.png") == pixels("a-001.png")


def test_softness_without_effect_is_neither_written_nor_in_the_way(call, model, place):
    flags = (*BOX, "--no-composite", "--model", model, "--seeds", 7, "--out", "a.png")
    assert call("edit", "photos/0.png", *flags).code == 0
    made = read_provenance("a.png")
    assert made.edit is not None
    stored = asdict(made)
    stored["edit"]["spec"]["softness"] = 4.0  # as old files have it
    info = PngInfo()
    info.add_text(KEY, json.dumps(stored))
    save_image(read_image("a.png"), "old.png", info)
    assert call("edit", "--like", "old.png", "--model", model, "--out", "b.png").code == 0
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()


@pytest.mark.parametrize("out", ["/proc/x.png", "/proc/new/x.png", "/sys/x.png"])
@pytest.mark.parametrize("verb", [("sample",), ("edit", "photos/0.png", *BOX)])
@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_an_unwritable_place_is_told_before_drawing(call, model, place, verb, out):
    outcome = call(*verb, "--model", model, "--out", out)
    assert_refused(outcome, f"cannot write {out}")
    assert "drawing" not in outcome.err


def test_a_batch_changes_no_image_with_a_seed_of_its_own(call, model, place):
    assert call("sample", "--model", model, "--labels", "hat", "--seeds", 7, 8, 9, "--separate").code == 0
    assert call("sample", "--model", model, "--labels", "hat", "--seeds", 8, "--out", "b.png").code == 0
    assert pixels("samples-001.png") == pixels("b.png")


def test_inputs_that_changed_or_left(call, model, pair, place):
    image, mask = pair
    assert call("edit", image, "--mask", mask, "--model", model).code == 0
    again = ("edit", "--like", "edited.png", "--out", "b.png", "--model", model)
    shutil.move(mask, "moved.png")
    assert_refused(call(*again), "edited.png", "mask.png", "does not exist", "--mask")
    assert call(*again, "--mask", "moved.png").code == 0
    assert_refused(call(*again, "--mask", image), "not the mask", image)
    shutil.copy("photos/1.png", image)
    assert_refused(call(*again, "--mask", "moved.png"), "not the image", image)


@pytest.mark.parametrize("named", ["FoundationVision/var:d30", "d16", "/etc", "x.pth", "a.pth,b.pth", "a" * 4000])
def test_no_model_is_loaded_because_a_file_names_it(call, place, monkeypatch, named):
    opened: list[object] = []
    monkeypatch.setattr("nextscale.pipeline.load_source", lambda source, *_: opened.append(source))
    edit = EditProvenance(spec=EditSpec(box=(0, 0, 1, 1)), image="/etc/passwd", image_sha256="0")
    for verb, made in (("sample", None), ("edit", edit)):
        made = Provenance(model=named, weights="0", edit=made)
        save_image(Image.new("RGB", (8, 8)), "theirs.png", made.to_png_info())
        outcome = call(verb, "--like", "theirs.png")
        assert_refused(outcome, f"theirs.png was made with model '{named[:90]}", "add --model", "if you trust it")
        assert not opened and len(outcome.err) < 500


def test_a_starter_of_a_file_is_the_starter(call, place):
    pipe = ns.Pipeline.from_pretrained("starter")
    made = Provenance(model="starter", weights=pipe.fingerprint, labels=("dress",), seed=(7,))
    save_image(Image.new("RGB", (8, 8)), "theirs.png", made.to_png_info())
    assert call("sample", "--like", "theirs.png", "--out", "b.png").code == 0
    assert pixels("b.png") == grid_of(pipe(["dress"], seed=[7]))


@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_file_that_an_image_names_is_decoded_only_if_it_is_the_same(call, model, pair, monkeypatch, which):
    image, mask = pair
    hashes = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in pair]
    files = {"image": image, "image_sha256": hashes[0], "mask": mask, "mask_sha256": hashes[1]}
    Path("secret.txt").write_text("secret")
    decoded: list[str] = []
    monkeypatch.setattr(
        "nextscale.cli.edit.read_as_stored", lambda file, name: decoded.append(str(name)) or Image.new("RGB", (28, 22))
    )
    for name, said in (
        ("secret.txt", f"not the {which} that theirs.png was made from"),
        ("/dev/zero", "does not exist"),
    ):
        made = Provenance(model="x", weights="0", edit=EditProvenance(spec=EditSpec(), **{**files, which: name}))
        save_image(Image.new("RGB", (8, 8)), "theirs.png", made.to_png_info())
        assert_refused(call("edit", "--like", "theirs.png", "--model", model), name, said)
        assert name not in decoded
    made = Provenance(model="x", weights="0", edit=EditProvenance(spec=EditSpec(), **{**files, which: "a" * 4000}))
    save_image(Image.new("RGB", (8, 8)), "theirs.png", made.to_png_info())
    outcome = call("edit", "--like", "theirs.png", "--model", model)
    assert_refused(outcome, "cannot read aaa", "too long")
    assert len(outcome.err) < 300


def test_a_transparent_mask_marks_its_transparent_pixels(call, model, pair):
    image, mask = pair
    white = Image.open(mask).convert("L")
    seen = Image.new("RGBA", white.size, (255, 255, 255, 255))
    seen.putalpha(white.point(lambda level: 255 - level))
    save_image(seen, "seen.png")
    for name in (mask, "seen.png"):
        assert call("edit", image, "--mask", name, "--model", model, "--seed", 3, "--out", f"by-{name}").code == 0
    assert pixels("by-mask.png") == pixels("by-seen.png")


def flattened(made: Provenance) -> dict[str, Any]:
    """Metadata with the layout of older versions, in which settings and edit were flat."""
    stored = asdict(made)
    settings, edit = stored.pop("settings"), stored["edit"]
    del settings["temperature"]
    if edit:
        spec, files = edit.pop("spec"), edit
        names = {"image": "picture", "image_sha256": "picture_sha256"}
        stored["edit"] = {names.get(name, name): value for name, value in files.items()} | spec
    return stored | settings


@pytest.mark.parametrize("name", [name for name in CALLS if name != "temperature"])
def test_metadata_of_older_versions_is_repeated(call, model, pair, place, name):
    save_image(read_image("photos/1.png").resize((6, 5)), "mask-small.png")
    assert call(*CALLS[name], "--model", model, "--separate", "--out", "a.png").code == 0
    for file in ("a.png", "a-002.png"):
        info = PngInfo()
        info.add_text(KEY, json.dumps(flattened(read_provenance(file))))
        save_image(read_image(file), "old.png", info)
        assert read_provenance("old.png") == read_provenance(file)
        assert call(CALLS[name][0], "--like", "old.png", "--model", model, "--out", "b.png").code == 0
        assert Path("b.png").read_bytes() == Path(file).read_bytes()


def test_other_weights_are_noticed(call, model, place):
    assert call("sample", "--model", model, "--num-images", 1).code == 0
    other = ns.Pipeline.from_pretrained(model)
    other.model.head.weight.data[0, 0] += 1
    other.save_pretrained("other")
    assert_refused(call("sample", "--like", "samples.png", "--model", "other"), "other weights", "samples.png")


def test_like_takes_no_other_settings(call, model, place):
    assert call("sample", "--model", model, "--num-images", 1).code == 0
    assert_refused(call("sample", "--like", "samples.png", "--cfg", 2, "--top-k", 5), "--cfg, --top-k")
    assert_refused(call("edit", "--like", "samples.png"), "nextscale sample --like")
    assert_refused(call("sample", "--like", "photos/0.png"), "has no provenance")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "one of mask, box, scales_kept and upscale, got none"),
        ((*BOX, "--upscale"), "got box, upscale"),
        (("--box", "0,0,1"), "y0,x0,y1,x1"),
        (("--box", "0.5,0,0.5,1"), "y0 < y1"),
        (("--mask", "photos/0.png", "--box", "0,0,1,1"), "got mask, box"),
        (("--mask", "nowhere.png"), "nowhere.png"),
        (
            ("--mask", "black.png"),
            "transparent or white pixels are generated, and only the middle of the image is used",
        ),
        (("--mask", "white.png", "--mode", "outpaint"), "transparent or white pixels are kept, and only"),
        (("--mask", "wide.png"), "does not fit"),
        ((*BOX, "--mode", "class"), "expected a class name or number, got none"),
        ((*BOX, "--mode", "class", "--label", "none"), "expected a class name or number, got none"),
        ((*BOX, "--mode", "class", "--label", "unconditional"), "expected a class name or number, got none"),
        ((*BOX, "--label", "zebra"), "zebra"),
        ((*BOX, "--variants", 0), "variants"),
        ((*BOX, "--variants", 2, "--seeds", 1), "one seed for each of the 2"),
        ((*BOX, "--seed", 1, "--seeds", 1), "both"),
        ((*BOX, "--softness", -1), "softness"),
        ((*BOX, "--softness", 1, "--no-composite"), "--softness"),
        (("--upscale",), "give scales_kept instead"),
        (("--scales-kept", 4), "1 to 3"),
        (("--scales-kept", 2, "--mode", "outpaint"), "mode: only for an edit with a mask or a box"),
        ((*BOX, "--full-size", "--no-composite"), "--full-size pastes the result into the image"),
        (("--scales-kept", 2, "--full-size"), "full_size: only for an edit with a mask or a box"),
        (
            ("--mask", "black.png", "--fit", "pad"),
            "white pixels are generated, and the whole image is used",
        ),
        ((*BOX, "--out", "a.xyz"), ".xyz"),
        ((*BOX, "--out", "photos/0.png"), "photos/0.png is the image, which would be overwritten"),
        ((*BOX, "--out", "photos/../photos/0.png"), "the image"),
        ((*BOX, "--out", "link.png"), "the image"),
        ((*BOX, "--mask", "black.png", "--out", "black.png"), "got mask, box"),
        (("--mask", "white.png", "--out", "white.png"), "white.png is the mask"),
        (("--mask", "a-001.png", "--variants", 2, "--separate", "--out", "a.png"), "a-001.png is the mask"),
        (("--mask", "a-show.png", "--show", "--out", "a.png"), "a-show.png is the mask"),
        ((*BOX, "--out", "a" * 300 + ".png"), "cannot write aaa"),
    ],
)
def test_bad_input(call, model, place, flags, said):
    save_image(Image.new("RGB", (28, 22)), "black.png")
    save_image(Image.new("RGB", (28, 22), "white"), "white.png")
    save_image(Image.new("RGB", (90, 22)), "wide.png")
    for name in ("a-001.png", "a-show.png"):
        shutil.copy("white.png", name)
    Path("link.png").symlink_to("photos/0.png")
    before = set(place.rglob("*"))
    assert_refused(call("edit", "photos/0.png", "--model", model, *flags), said)
    assert set(place.rglob("*")) == before


def test_no_image(call, model, place):
    assert_refused(call("edit", *BOX, "--model", model), "expected an image")
    assert_refused(call("edit", "nowhere.png", *BOX, "--model", model), "nowhere.png")


def assert_refused(outcome, *words: str) -> None:
    code, out, err = outcome
    assert code == 2 and not out and err.count("\n") == 1, err
    assert all(word in err for word in words), err
