"""The functions of the Edit tab."""

from __future__ import annotations

import hashlib
import io
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from tiny import refused
from tiny_page import images_of, words_of
from tiny_web import CLASSES, SETTINGS, png

from nextscale.cli.edit import Options
from nextscale.editing.spec import EditSpec
from nextscale.provenance import read_provenance
from nextscale.web.limits import Limits
from nextscale.web.studio import figures
from nextscale.web.studio.edit import edit, show_box, take, visibility
from nextscale.web.studio.edit_inputs import EditInputs
from nextscale.web.studio.image_input import read_upload, read_whole, sample_one
from nextscale.web.studio.painting import PREFIX, read_paint
from nextscale.web.studio.served_model import Model
from nextscale.web.studio.studio import build_studio


@pytest.fixture
def inputs(model) -> EditInputs:
    """A box in a generated image, two variants."""
    image = sample_one(model, 1)
    return EditInputs(EditSpec(box=(0.5, 0.5, 1, 1)), image, None, 2, 2, SETTINGS, 7)


def run(model, inputs: EditInputs) -> tuple[Any, ...]:
    *_, last = edit(model, inputs)
    return last


def expected(model, inputs: EditInputs, **changes: Any) -> list[bytes]:
    sampling: dict[str, Any] = {"seed": [7, 8], "num_images": 2, **vars(SETTINGS)}
    assert inputs.image is not None
    how = {"labels": 2, "mask": inputs.mask}
    for name in ("box", "mode", "leak_free", "softness", "composite"):
        how[name] = getattr(inputs.spec, name)
    return [p.tobytes() for p in model.pipeline.edit(inputs.image, **{**how, **sampling, **changes}).images]


def test_variants_are_those_of_the_pipeline(model, inputs):
    last = run(model, inputs)
    assert words_of(last[0]) == "2 variants"
    assert [p.tobytes() for p in images_of(last[2])] == expected(model, inputs)


@pytest.mark.parametrize("mode", ["inpaint", "outpaint", "class"])
@pytest.mark.parametrize("changes", [{"softness": 2}, {"leak_free": False}, {"composite": False}])
def test_every_setting_counts(model, inputs, mode, changes):
    changed = replace(inputs, spec=replace(inputs.spec, mode=mode, **changes))
    assert [p.tobytes() for p in images_of(run(model, changed)[2])] == expected(model, changed)


def test_a_painted_mask_is_what_is_generated(model, inputs):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 32))
    before, after = np.asarray(inputs.image), images_of(run(model, replace(inputs, spec=EditSpec(), mask=mask))[2])
    changed = (np.asarray(after[0].convert("RGB")) != before).any(-1)
    assert changed[:4, :4].any() and not changed[4:].any() and not changed[:, 4:].any()


def test_continuation_keeps_scales(model, inputs):
    inputs = replace(inputs, spec=EditSpec(scales_kept=3))
    result = model.pipeline.continue_from(inputs.image, 3, labels=2, num_images=2, seed=[7, 8], **vars(SETTINGS)).images
    assert [p.tobytes() for p in images_of(run(model, inputs)[2])] == [p.tobytes() for p in result]


def test_without_compositing_there_is_no_softness(model, inputs, tmp_path):
    last = run(model, replace(inputs, spec=replace(inputs.spec, composite=False, softness=4)))
    assert "--no-composite" in last[5] and "--softness" not in last[5] and "softness=0.0" in last[6]
    (tmp_path / "a.png").write_bytes(images_of(last[2])[0].fp.getvalue())  # type: ignore[union-attr]
    edited = read_provenance(tmp_path / "a.png").edit
    assert edited is not None and (edited.spec.softness, edited.spec.composite) == (0, False)


def test_before_and_after_are_enlarged_pixel_by_pixel(model, inputs):
    before, after = run(model, inputs)[1]["value"]
    assert before.size == after.size == (512, 512)
    assert before.resize((8, 8), Image.Resampling.NEAREST).tobytes() == inputs.image.tobytes()


def test_the_command_names_the_files_that_are_offered(model, inputs):
    mask = Image.new("L", (64, 64), 255)
    last = run(model, replace(inputs, spec=EditSpec(), mask=mask))
    words = shlex.split(last[5])
    assert words[:3] == ["nextscale", "edit", "image.png"] and words[words.index("--mask") + 1] == "mask.png"
    assert 'download="image.png"' in last[-1] and 'download="mask.png"' in last[-1]
    image, offered = images_of(last[-1])
    assert image.tobytes() == inputs.image.tobytes() and offered.tobytes() == mask.tobytes()
    assert "mask.png" not in run(model, inputs)[-1]
    assert "Image.open('image.png')" in last[6] and "save(f'edited-{i:03d}.png')" in last[6]
    assert "save('edited.png')" in run(model, replace(inputs, variants=1))[6]


def test_the_files_are_those_that_are_meant(model, inputs):
    made = inputs.provenance(inputs.image)
    (offered,) = images_of(run(model, inputs)[-1])
    assert isinstance(offered.fp, io.BytesIO)
    assert made.image_sha256 == hashlib.sha256(offered.fp.getvalue()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "no image yet"),
        ({"spec": EditSpec()}, "no region is selected"),
        ({"spec": EditSpec(box=(0.5, 0.5, 0.2, 1))}, "a box is"),
        ({"spec": EditSpec(mode="class", box=(0, 0, 1, 1)), "wanted": 5}, "expected a class name or number, got none"),
        ({"spec": EditSpec(scales_kept=4)}, "scales_kept must be from 1 to 3"),
    ],
)
def test_mistakes_are_one_sentence(model, inputs, changes, words):
    with refused(words):
        run(model, replace(inputs, **changes))


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


@pytest.mark.parametrize("where", ["Brush", "Box"])
@pytest.mark.parametrize("mode", ["inpaint", "outpaint", "class", "continue"])
def test_a_mode_shows_the_controls_that_it_uses(mode, where):
    marking, painting, box, blending, scales = (update["visible"] for update in visibility(mode, where))
    region = mode != "continue"
    assert (marking, blending, scales) == (region, region, not region)
    assert (painting, box) == (region and where == "Brush", region and where == "Box")


def test_the_mask_is_in_no_group(start):
    """When a group becomes visible, Gradio shows the hidden controls in it."""
    (paint,) = [block for block in build_studio(start()).blocks.values() if getattr(block, "label", None) == "Paint"]
    above = paint.parent
    while above is not None:
        assert not isinstance(above, gr.Group)
        above = above.parent


def test_the_initial_values_are_those_of_the_command_line(start, pipeline):
    controls = {getattr(b, "label", None): getattr(b, "value", None) for b in tab_of(build_studio(start()), "Edit")}
    command = Options()
    settings = command.changed_settings(pipeline)
    assert not command.label and command.variants is None  # no class, and one result
    assert (controls["Class of the generated part"], controls["Variants"]) == (len(CLASSES), 1)
    assert (controls["Mode"], controls["Softness"]) == (command.edit.mode, command.edit.softness)
    assert controls["Fit"] == command.edit.fit
    assert controls["Keep all other pixels"] == command.edit.composite
    assert controls["Hide the region from the model"] == command.edit.leak_free
    assert controls["Guidance scale (cfg)"] == settings.cfg and controls["Top-p"] == settings.top_p
    assert controls["Temperature"] == settings.temperature
    assert controls["Smoother images"] == settings.more_smooth


def tab_of(studio: gr.Blocks, label: str) -> list[Any]:
    """The blocks of a tab."""

    def inside(block: Any) -> Iterator[Any]:
        yield block
        for child in getattr(block, "children", ()):
            yield from inside(child)

    (tab,) = [block for block in studio.blocks.values() if isinstance(block, gr.Tab) and block.label == label]
    return list(inside(tab))


def test_a_new_image_has_nothing_painted_on_it():
    image = Image.new("RGB", (16, 8), (255, 0, 0))
    state, painting, boxed = take(image, (0.25, 0, 0.5, 1))
    assert state is image and images_of(painting)[0].tobytes() == image.tobytes()
    assert '<canvas width="512" height="256">' in painting
    assert "top:25%;left:0%;height:25%;width:100%" in boxed and show_box(None, (0, 0, 1, 1)) == ""


def tall() -> Image.Image:
    """8 x 24 pixels: red, green and blue squares."""
    image = Image.new("RGB", (8, 24), "red")
    image.paste("lime", (0, 8, 8, 16))
    image.paste("blue", (0, 16, 8, 24))
    return image


def test_an_image_of_another_shape_is_cropped_or_whole_and_says_so(model):
    given = read_whole(png(tall().resize((16, 48), Image.Resampling.NEAREST)), model)
    cropped, whole = given.shown(model, "crop"), given.shown(model, "pad")
    assert (cropped.size, whole.size) == ((8, 8), (8, 24))
    assert [image.getpixel((4, 4)) for image in (cropped, whole)] == [(0, 255, 0), (255, 0, 0)]
    assert given.describe(model) == (
        "The image has 16 x 48 pixels, of which the middle 16 x 16 are used, resized to 8 x 8."
    )
    assert given.describe(model, "pad") == "The image has 16 x 48 pixels, resized to 3 x 8."
    assert not read_whole(png(Image.new("RGB", (8, 8))), model).describe(model)


def test_a_padded_image_is_edited_as_a_whole(model, inputs, tmp_path):
    image = read_whole(png(tall()), model).shown(model, "pad")
    spec = EditSpec(box=(0, 0, 0.5, 1), fit="pad")
    *_, step, last = edit(model, replace(inputs, image=image, spec=spec))
    expected = model.pipeline.edit(
        image, box=spec.box, fit="pad", labels=2, num_images=2, seed=[7, 8], **vars(SETTINGS)
    )
    assert [p.tobytes() for p in images_of(last[2])] == [p.tobytes() for p in expected.images]
    assert {p.size for p in [*images_of(step[2]), *images_of(last[2])]} == {(3, 8)}
    before, after = last[1]["value"]
    assert before.size == after.size == (3 * 64, 8 * 64)
    assert "--fit pad" in last[5] and "fit='pad'" in last[6]
    (offered,) = images_of(last[-1])
    assert offered.tobytes() == image.tobytes()


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
