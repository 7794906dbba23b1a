"""What happens behind the tab Edit."""

from __future__ import annotations

import hashlib
import io
import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import refused
from tiny_page import images_of, words_of
from tiny_web import SETTINGS, png

from nextscale.provenance import read_provenance
from nextscale.web.limits import Limits
from nextscale.web.studio import figures
from nextscale.web.studio.edit import CONTINUE, EditRequest, edit, show_box, take
from nextscale.web.studio.image_input import read_upload, sample_one
from nextscale.web.studio.painting import PREFIX, read_paint
from nextscale.web.studio.served_model import Model


@pytest.fixture
def request_(model) -> EditRequest:
    """A box in a drawn image, two variants."""
    image = sample_one(model, 1)
    return EditRequest(image, "inpaint", None, (0.5, 0.5, 1, 1), 2, 2, True, True, 0, 2, SETTINGS, 7)


def run(model, request: EditRequest) -> tuple[Any, ...]:
    *_, last = edit(model, request)
    return last


def expected(model, request: EditRequest, **changes: Any) -> list[bytes]:
    drawing: dict[str, Any] = {"seed": [7, 8], "num_images": 2, **vars(SETTINGS)}
    assert request.image is not None
    where = {"box": request.box} if request.box else {"mask": request.mask}
    how = {"mode": request.mode, "labels": 2, "leak_free": request.leak_free, "softness": request.softness, **where}
    return [p.tobytes() for p in model.pipeline.edit(request.image, **{**how, **drawing, **changes}).images]


def test_variants_are_those_of_the_pipeline(model, request_):
    last = run(model, request_)
    assert words_of(last[0]) == "2 variants"
    assert [p.tobytes() for p in images_of(last[2])] == expected(model, request_)


@pytest.mark.parametrize("mode", ["inpaint", "outpaint", "class"])
@pytest.mark.parametrize("changes", [{"softness": 2}, {"leak_free": False}, {"composite": False}])
def test_every_setting_counts(model, request_, mode, changes):
    request = replace(request_, mode=mode, **changes)
    how = {"composite": request.composite}
    assert [p.tobytes() for p in images_of(run(model, request)[2])] == expected(model, request, **how)


def test_a_painted_mask_is_what_is_drawn(model, request_):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 32))
    before, after = np.asarray(request_.image), images_of(run(model, replace(request_, mask=mask, box=None))[2])
    changed = (np.asarray(after[0].convert("RGB")) != before).any(-1)
    assert changed[:4, :4].any() and not changed[4:].any() and not changed[:, 4:].any()


def test_continuation_keeps_scales(model, request_):
    request = replace(request_, mode=CONTINUE, scales=3)
    result = model.pipeline.continue_from(
        request.image, 3, labels=2, num_images=2, seed=[7, 8], **vars(SETTINGS)
    ).images
    assert [p.tobytes() for p in images_of(run(model, request)[2])] == [p.tobytes() for p in result]


def test_what_is_not_laid_over_is_told_of_without_softness(model, request_, tmp_path):
    last = run(model, replace(request_, composite=False, softness=4))
    assert "--no-composite" in last[5] and "--softness" not in last[5] and "softness=0.0" in last[6]
    (tmp_path / "a.png").write_bytes(images_of(last[2])[0].fp.getvalue())  # type: ignore[union-attr]
    edited = read_provenance(tmp_path / "a.png").edit
    assert edited is not None and (edited.softness, edited.composite) == (0, False)


def test_before_and_after_are_enlarged_pixel_by_pixel(model, request_):
    before, after = run(model, request_)[1]["value"]
    assert before.size == after.size == (512, 512)
    assert before.resize((8, 8), Image.Resampling.NEAREST).tobytes() == request_.image.tobytes()


def test_the_command_names_the_files_that_are_offered(model, request_):
    mask = Image.new("L", (64, 64), 255)
    last = run(model, replace(request_, mask=mask, box=None))
    words = shlex.split(last[5])
    assert words[:3] == ["nextscale", "edit", "image.png"] and words[words.index("--mask") + 1] == "mask.png"
    assert 'download="image.png"' in last[-1] and 'download="mask.png"' in last[-1]
    image, offered = images_of(last[-1])
    assert image.tobytes() == request_.image.tobytes() and offered.tobytes() == mask.tobytes()
    assert "mask.png" not in run(model, request_)[-1]
    assert "Image.open('image.png')" in last[6] and "save(f'edited-{i:03d}.png')" in last[6]
    assert "save('edited.png')" in run(model, replace(request_, variants=1))[6]


def test_the_files_are_those_that_are_meant(model, request_):
    made = request_.provenance(request_.image)
    (offered,) = images_of(run(model, request_)[-1])
    assert isinstance(offered.fp, io.BytesIO)
    assert made.image_sha256 == hashlib.sha256(offered.fp.getvalue()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "no image yet"),
        ({"box": None}, "nothing is marked"),
        ({"box": (0.5, 0.5, 0.2, 1)}, "a box is"),
        ({"mode": "class", "label": 5}, "expected its name or number, got none"),
        ({"mode": CONTINUE, "scales": 4}, "scales to keep"),
    ],
)
def test_mistakes_are_one_sentence(model, request_, changes, words):
    with refused(words):
        run(model, replace(request_, **changes))


def test_paint_is_white_and_nothing_is_none():
    canvas = Image.new("RGBA", (4, 2))
    assert (
        read_paint(figures.data_url(canvas), Limits()) is None
        and read_paint("", Limits()) is None
        and read_paint(None, Limits()) is None
    )
    canvas.putpixel((1, 0), (255, 255, 255, 255))
    canvas.putpixel((2, 0), (255, 255, 255, 60))
    mask = read_paint(figures.data_url(canvas), Limits())
    assert mask is not None and np.asarray(mask).tolist() == [[0, 255, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("text", ["mask", PREFIX + "!", PREFIX + "AAAA", PREFIX + "A" * 2**23])
def test_what_is_no_paint_is_refused(text):
    with refused("the mask"):
        read_paint(text, Limits())


def test_a_new_image_has_nothing_painted_on_it():
    image = Image.new("RGB", (16, 8), (255, 0, 0))
    state, painting, boxed = take(image, (0.25, 0, 0.5, 1))
    assert state is image and images_of(painting)[0].tobytes() == image.tobytes()
    assert '<canvas width="512" height="256">' in painting
    assert "top:25%;left:0%;height:25%;width:100%" in boxed and show_box(None, (0, 0, 1, 1)) == ""


def test_an_upload_gets_the_model_s_size(model):
    assert read_upload(png(Image.new("L", (40, 30), 90), "JPEG"), model).size == (8, 8)
    with refused("not an image"):
        read_upload(b"no image", model)
    with refused("not an image"):
        read_upload(png(Image.new("L", (40, 30), 90), "TIFF"), model)  # not a format that strangers may feed


def test_uploads_and_masks_have_the_limits_of_the_api(start):
    few = Model(start(upload_pixels=100))
    large = Image.new("L", (11, 10), 255)
    with refused("the upload has 11 x 10 pixels"):
        read_upload(png(large), few)
    with refused("the mask has 11 x 10 pixels"):
        read_paint(figures.data_url(large), few.engine.limits)
