"""Edits of images whose size or aspect ratio is not the model's: cropped, padded, and pasted in at full size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import SCHEDULES, make_tokenizer, make_var, refused, same

import nextscale as ns
from nextscale.editing.plan import plan_edit
from nextscale.editing.spec import EditSpec

few = settings(deadline=None, max_examples=12)
names = st.sampled_from(["square", "rectangular"])
fits = st.sampled_from(["crop", "pad"])
shapes = st.tuples(st.integers(5, 40), st.integers(5, 40))
seeds = st.integers(0, 2**32 - 1)


def pipeline(name: str = "square") -> ns.Pipeline:
    schedule = SCHEDULES[name]
    return ns.Pipeline(make_tokenizer(schedule), make_var(schedule), device="cpu")


def noise(shape: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8))


def rectangle(shape: tuple[int, int], seed: int) -> np.ndarray:
    rng, mask = np.random.default_rng(seed), np.zeros(shape, dtype=bool)
    y, x = rng.integers(shape[0]), rng.integers(shape[1])
    mask[y : y + rng.integers(1, shape[0] + 1), x : x + rng.integers(1, shape[1] + 1)] = True
    return mask


@few
@given(names, shapes, fits, seeds, st.booleans(), st.floats(0, 4), st.sampled_from(["inpaint", "outpaint"]))
def test_all_other_pixels_of_the_image_stay(name, shape, fit, seed, leak_free, softness, mode):
    pipe, photo, mask = pipeline(name), noise(shape, seed), rectangle(shape, seed)
    options: Any = {"mode": mode, "leak_free": leak_free, "softness": softness, "fit": fit, "full_size": True}
    try:
        result = pipe.edit(photo, mask, num_images=2, seed=[seed, 1], **options)
    except ns.InputError as error:
        assert "leaves no pixel to generate" in str(error)
        return
    kept = mask if mode == "outpaint" else ~mask
    for image in result.images:
        assert image.size == photo.size and image.mode == "RGB"
        assert (np.asarray(image)[kept] == np.asarray(photo)[kept]).all()
    plain = pipe.edit(photo, mask, num_images=2, seed=[seed, 1], **options | {"full_size": False})
    assert same(plain.tokens, result.tokens)


@few
@given(names, shapes, fits, seeds, st.booleans(), st.floats(0, 4), st.booleans())
def test_hidden_pixels_leak_nowhere(name, shape, fit, seed, full_size, softness, composite):
    pipe, photo, mask = pipeline(name), noise(shape, seed), rectangle(shape, seed)
    hidden = Image.fromarray(np.where(mask[..., None], noise(shape, seed + 1), photo))  # type: ignore[arg-type]
    options: Any = {"fit": fit, "full_size": full_size and composite, "composite": composite, "softness": softness}
    plan = {"seed": seed, "leak_free": True}
    try:
        ours, other = (pipe.edit(image, mask, **options, **plan) for image in (photo, hidden))
    except ns.InputError as error:
        assert "leaves no pixel to generate" in str(error)
        return
    if fit == "crop":  # a hidden pixel outside of the crop is not generated, so it stays
        inside = ours.plan.placement.region(torch.ones(pipe.tokenizer.config.image_size, dtype=torch.bool))
        if options["full_size"] and (mask & ~inside).any():
            return
    assert ours.images[0].tobytes() == other.images[0].tobytes() and same(ours.tokens, other.tokens)


@few
@given(names, shapes, seeds, st.sampled_from(["inpaint", "outpaint"]), st.booleans())
def test_padded_results_have_the_image_s_shape(name, shape, seed, mode, leak_free):
    pipe, photo = pipeline(name), noise(shape, seed)
    height, width = pipe.tokenizer.config.image_size
    result = pipe.edit(photo, box=(0, 0, 1, 0.5), mode=mode, fit="pad", leak_free=leak_free)
    (image,) = result.images
    assert (image.height, image.width) == result.plan.result_size == result.plan.placement.scaled
    assert image.height == height or image.width == width
    kept = ~result.plan.placement.trim(result.plan.hidden).numpy()
    given = np.asarray(result.plan.placement.scale(photo))
    assert (np.asarray(image)[kept] == given[kept]).all()


def test_the_borders_do_not_show_in_the_tokens_of_a_grey_image():
    """They continue the image smoothly, so that a plain image stays plain."""
    pipe, grey = pipeline(), Image.new("RGB", (4, 16), (90, 90, 90))
    plan = plan_edit(EditSpec(box=(0, 0, 0.5, 1), fit="pad"), pipe.tokenizer, grey)
    assert plan.placement.borders.any() and np.asarray(plan.base).std() == 0 == np.asarray(plan.image).std()


def test_borders_are_generated_only_when_nothing_is_kept():
    pipe, photo = pipeline(), noise((16, 8))
    plan = plan_edit(EditSpec(box=(0, 0, 0.5, 1), fit="pad"), pipe.tokenizer, photo)
    assert not (plan.hidden & plan.placement.borders).any() and plan.hidden.any()
    outside = plan_edit(EditSpec(box=(0, 0, 0.5, 1), fit="pad", mode="outpaint"), pipe.tokenizer, photo)
    assert outside.hidden[plan.placement.borders].all()
    everything = pipe.edit(photo, np.ones((16, 8)), fit="pad", labels=2, seed=3)
    assert everything.plan.hidden.all() and same(everything.tokens, pipe([2], seed=3).tokens)


def test_full_size_of_an_image_of_the_model_s_size_changes_nothing():
    pipe, photo = pipeline(), noise((8, 8))
    options: Any = {"box": (0.25, 0.25, 0.75, 0.75), "softness": 1.5, "seed": 4}
    plain, full = pipe.edit(photo, **options), pipe.edit(photo, **options, full_size=True)
    assert plain.images[0].tobytes() == full.images[0].tobytes()


def test_the_region_is_the_generated_image_enlarged():
    pipe, photo = pipeline(), noise((32, 32))
    options: Any = {"box": (0, 0, 1, 1), "seed": 4}
    small, full = (pipe.edit(photo, **options, full_size=size).images[0] for size in (False, True))
    assert full.tobytes() == small.resize((32, 32), Image.Resampling.BICUBIC).tobytes()


@pytest.mark.parametrize(("fit", "expected"), [("crop", (8, 8)), ("pad", (4, 8))])
def test_continuations(fit, expected):
    pipe = pipeline()
    assert pipe.continue_from(noise((32, 16)), 2, fit=fit).images[0].size == expected
    assert pipe.continue_from(noise((6, 3)), fit=fit).images[0].size == expected


def test_previews_have_the_model_s_size():
    pipe, photo = pipeline(), noise((32, 16))
    plan = plan_edit(EditSpec(box=(0, 0, 1, 0.5), full_size=True), pipe.tokenizer, photo)
    step = next(pipe.scales([1], edit=plan.edit))
    assert pipe.images(step, plan)[0].size == (8, 8) and plan.result_size == (32, 16)
    assert plan.original is not None and plan_edit(EditSpec(box=(0, 0, 1, 1)), pipe.tokenizer, photo).original is None


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "F", "I;16"])
def test_images_of_every_mode(mode):
    pipe, grey = pipeline(), np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    photo = Image.fromarray(grey)
    if mode == "F":
        photo = Image.fromarray((grey / 255).astype(np.float32))
    elif mode == "I;16":
        photo = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        photo = photo.convert("RGB").convert(mode)
    (image,) = pipe.edit(photo, box=(0, 0, 0.5, 1), full_size=True).images
    assert image.mode == "RGB" and np.abs(np.asarray(image)[8:, :, 0].astype(int) - grey[8:]).max() <= 1


def test_a_region_without_a_pixel_of_a_small_image():
    """A token covers less than half of a pixel."""
    pipe, photo = pipeline(), noise((2, 2))
    spec = EditSpec(box=(0, 0, 0.25, 0.25), full_size=True)
    with refused("the box leaves no token to generate"):
        plan_edit(spec, pipe.tokenizer, photo)
