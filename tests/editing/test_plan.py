"""Plans of edits: kept tokens, generated tokens, and the merged image."""

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
from nextscale.editing.masks import fit
from nextscale.editing.plan import plan_edit
from nextscale.editing.spec import EditSpec, parse_box
from nextscale.imaging.images import to_tensor
from nextscale.sampling.token_edit import ALWAYS_KEPT, box_mask

few = settings(deadline=None, max_examples=8)
names = st.sampled_from(sorted(SCHEDULES))
seeds = st.integers(0, 2**32 - 1)
MIDDLE = (0.25, 0.25, 0.75, 0.75)


def pipeline(name: str) -> ns.Pipeline:
    schedule = SCHEDULES[name]
    return ns.Pipeline(make_tokenizer(schedule), make_var(schedule), device="cpu")


@pytest.fixture
def square() -> ns.Pipeline:
    return pipeline("square")


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def random_mask(size: tuple[int, int], seed: int) -> np.ndarray:
    """A rectangle, or scattered pixels, at least one of them white."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=bool)
    y, x = rng.integers(size[0]), rng.integers(size[1])
    mask[y : y + rng.integers(1, size[0] + 1), x : x + rng.integers(1, size[1] + 1)] = True
    return mask if rng.random() < 0.7 else mask & (rng.random(size) < 0.5) | (np.indices(size) == [[[y]], [[x]]]).all(0)


def changed(image: Image.Image, hidden: np.ndarray, seed: int) -> Image.Image:
    """The image with other pixels where it is hidden."""
    return Image.fromarray(np.where(hidden[..., None], noise(hidden.shape, seed), image))  # type: ignore[arg-type]


def bytes_of(result) -> list[bytes]:
    return [image.tobytes() for image in result.images]


@few
@given(names, seeds, st.booleans(), st.floats(0, 4), st.sampled_from(["inpaint", "outpaint"]), st.integers(1, 3))
def test_kept_pixels_and_tokens_stay(name, seed, leak_free, softness, mode, zoom):
    pipe = pipeline(name)
    size = tuple(zoom * side for side in pipe.tokenizer.config.image_size)
    mask = random_mask(size, seed)
    if mode == "outpaint" and mask.all():
        return
    photo = noise(size, seed)
    options: Any = {"mode": mode, "leak_free": leak_free, "softness": softness}
    result = pipe.edit(photo, mask, num_images=2, seed=[seed, 1], **options)
    plan, schedule = result.plan, pipe.tokenizer.schedule
    kept = ~plan.hidden.numpy()
    assert kept.any() == bool((plan.weight == 0).any())
    crop = np.asarray(fit(photo, pipe.tokenizer.config.image_size))
    for image in result.images:
        assert (np.asarray(image)[kept] == crop[kept]).all()
    given = pipe.tokenizer.encode(to_tensor(plan.base)[None])
    assert same(given, list(plan.edit.tokens))
    taken = plan.edit.put(result.tokens, schedule)
    for k, tokens in enumerate(taken):
        where = plan.edit.kept(k, schedule).expand_as(tokens)
        assert torch.equal(tokens[where], given[k].expand_as(tokens)[where])
        assert torch.equal(tokens[~where], result.tokens[k][~where])
    *_, step = pipe.scales("unconditional", num_images=2, seed=[seed, 1], edit=plan.edit)
    torch.testing.assert_close(step.canvas, pipe.tokenizer.pyramid.canvas(taken))


@few
@given(names, seeds, st.floats(0, 4), st.booleans(), st.sampled_from([(1, 1), (3, 2), (1, 2), (2, 3)]))
def test_what_is_hidden_leaks_nowhere(name, seed, softness, composite, zoom):
    pipe = pipeline(name)
    h, w = pipe.tokenizer.config.image_size
    size = (h * zoom[0] // zoom[1] + 3, w * zoom[0] // zoom[1] + 1) if zoom != (1, 1) else (h, w)
    mask = random_mask(size, seed)
    photo = noise(size, seed)
    options: Any = {"num_images": 2, "softness": softness, "composite": composite, "seed": seed, "leak_free": True}
    try:
        result = pipe.edit(photo, mask, **options)
    except ns.InputError:  # what is hidden is cropped away
        return
    other = pipe.edit(changed(photo, mask, seed + 1), mask, **options)
    assert bytes_of(result) == bytes_of(other)
    assert same(result.tokens, other.tokens) and same(list(result.plan.edit.tokens), list(other.plan.edit.tokens))


def test_officially_what_is_hidden_leaks(square):
    mask = box_mask(MIDDLE, square.tokenizer.schedule).repeat_interleave(2, 0).repeat_interleave(2, 1).numpy() > 0
    photo = noise((8, 8))
    plans = [plan_edit(EditSpec(leak_free=False), square.tokenizer, p, mask) for p in (photo, changed(photo, mask, 5))]
    assert not same(*(list(plan.edit.tokens) for plan in plans))


def test_the_official_edit_is_one_setting(square):
    photo = noise((8, 8))
    given = square.tokenizer.encode(to_tensor(photo)[None])
    for mode, keep in (
        ("inpaint", 1 - box_mask(MIDDLE, square.tokenizer.schedule)),
        ("outpaint", box_mask(MIDDLE, square.tokenizer.schedule)),
    ):
        ours = square.edit(photo, box=MIDDLE, mode=mode, leak_free=False, composite=False, labels=2, seed=3)
        official = square([2], seed=3, edit=ns.TokenEdit(given, keep))
        assert same(ours.tokens, official.tokens) and bytes_of(ours) == bytes_of(official)
        assert ours.plan.edit.always_kept == ALWAYS_KEPT


@pytest.mark.parametrize("pixel", [(0, 0), (3, 4), (7, 7)])
def test_a_token_with_a_hidden_pixel_is_drawn(square, pixel):
    mask = np.zeros((8, 8), dtype=bool)
    mask[pixel] = True
    plan = plan_edit(EditSpec(), square.tokenizer, noise((8, 8)), mask)
    assert (plan.edit.keep == 0).nonzero().tolist() == [[pixel[0] // 2, pixel[1] // 2]]
    assert (plan.hidden.numpy() == mask).all()


def test_out_is_all_but_in(square):
    photo, mask = noise((8, 8)), random_mask((8, 8), 3)
    inside, outside = (
        plan_edit(EditSpec(mode=mode), square.tokenizer, photo, mask).hidden for mode in ("inpaint", "outpaint")
    )
    assert torch.equal(inside, ~outside)


@pytest.mark.parametrize("name", SCHEDULES)
def test_hiding_everything_is_drawing(name):
    pipe = pipeline(name)
    size = pipe.tokenizer.config.image_size
    ours = pipe.edit(noise(size), np.ones(size), labels=[0, 3], seed=[1, 2])
    assert bytes_of(ours) == bytes_of(pipe([0, 3], seed=[1, 2]))
    assert bytes_of(pipe.edit(noise(size), box=(0, 0, 1, 1), labels=1)) == bytes_of(pipe([1]))


def test_without_compositing_the_tokenizer_shows_all(square):
    photo = noise((8, 8))
    plain = square.edit(photo, box=MIDDLE, composite=False)
    laid = square.edit(photo, box=MIDDLE)
    a, b, given = (np.asarray(image) for image in (plain.images[0], laid.images[0], photo))
    kept = ~laid.plan.hidden.numpy()
    assert (a[~kept] == b[~kept]).all() and (b[kept] == given[kept]).all() and (a[kept] != given[kept]).any()


def test_a_soft_edge_lies_between_what_is_filled_and_what_is_drawn(square):
    photo = noise((8, 8))
    soft = square.edit(photo, box=(0, 0, 1, 0.75), softness=2)
    drawn, base, result = (
        np.asarray(i, dtype=int)
        for i in (square.edit(photo, box=(0, 0, 1, 0.75)).images[0], soft.plan.base, soft.images[0])
    )
    weight = np.array([1, 1, 1, 1, 2 / 3, 1 / 3, 0, 0])[None, :, None]
    expected = base + weight * (drawn - base)
    assert np.abs(result - expected).max() <= 1


def test_variants_have_their_own_seeds(square):
    photo = noise((8, 8))
    many = square.edit(photo, box=MIDDLE, labels="2", num_images=3, seed=[7, 8, 9])
    assert many.labels == [2, 2, 2]
    for seed, image in zip((7, 8, 9), many.images, strict=True):
        assert bytes_of(square.edit(photo, box=MIDDLE, labels=[2], seed=[seed])) == [image.tobytes()]
    assert len(set(bytes_of(many))) > 1


def test_labels_of_edits(square):
    photo, no_class = noise((8, 8)), square.model.config.num_classes
    assert square.edit(photo, box=MIDDLE).labels == [no_class]
    assert square.edit(photo, box=MIDDLE, num_images=2).labels == [no_class] * 2
    assert square.edit(photo, box=MIDDLE, labels=[1, "none"]).labels == [1, no_class]
    for name in ("none", "unconditional"):
        assert square.edit(photo, box=MIDDLE, labels=name).labels == [no_class]
        assert square.edit(photo, box=MIDDLE, labels=name, num_images=2).labels == [no_class] * 2
        assert square.continue_from(photo, 2, labels=name).labels == [no_class]
    assert square.edit(photo, box=MIDDLE, labels=torch.tensor([4])).labels == [4]


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_continuing_keeps_the_first_scales(square, scales):
    photo = noise((8, 8))
    given = square.tokenizer.encode(to_tensor(photo)[None])
    result = square.continue_from(photo, scales, labels=1, num_images=2, seed=[0, 1])
    edit, schedule = result.plan.edit, square.tokenizer.schedule
    taken = edit.put(result.tokens, schedule)
    for k in range(schedule.num_scales):
        assert bool(edit.kept(k, schedule).all()) == (k < scales)
        assert torch.equal(taken[k], given[k].expand(2, -1) if k < scales else result.tokens[k])
    decoded = square.tokenizer.decode([t[:1] for t in taken])[0].permute(1, 2, 0)
    assert (np.asarray(result.images[0]) == decoded.add(1).mul(0.5).mul(255).round().byte().numpy()).all()


@pytest.mark.parametrize(
    ("size", "scales"), [((7, 7), 3), ((6, 6), 3), ((5, 9), 2), ((4, 4), 2), ((2, 3), 1), ((1, 1), 1)]
)
def test_a_small_image_has_few_scales(square, size, scales):
    assert plan_edit(EditSpec(upscale=True), square.tokenizer, noise(size)).edit.scales_kept == scales


def test_what_cannot_be_edited(square):
    photo, tokenizer = noise((8, 8)), square.tokenizer
    with refused("one of mask, box, scales_kept and upscale", "none"):
        plan_edit(EditSpec(), tokenizer, photo)
    with refused("mask, box"):
        plan_edit(EditSpec(box=MIDDLE), tokenizer, photo, np.ones((8, 8)))
    with refused("mask, upscale"):
        plan_edit(EditSpec(upscale=True), tokenizer, photo, np.ones((8, 8)))
    with refused("no pixel to generate", "mask"):
        plan_edit(EditSpec(), tokenizer, photo, np.zeros((8, 8)))
    with refused("no token to generate", "box"):
        plan_edit(EditSpec(box=(0.0, 0.0, 0.1, 0.1)), tokenizer, photo)
    with refused("no pixel to generate", "outpaint"):
        plan_edit(EditSpec(mode="outpaint"), tokenizer, photo, np.ones((8, 8)))
    with refused("16 x 8", "8 x 8"):
        plan_edit(EditSpec(), tokenizer, photo, np.ones((8, 16)))
    with refused("paint", "inpaint, outpaint, class"):
        EditSpec(mode="paint")  # type: ignore[arg-type]
    for softness in (-1, float("nan"), float("inf")):
        with refused("softness", softness):
            EditSpec(box=MIDDLE, softness=softness)
    for labels in (None, "none", "unconditional", 5, [1, 5], ["1", "none"], torch.tensor([5]), np.array([5])):
        with refused("mode class", "a class name or number", "none"):
            square.edit(photo, box=MIDDLE, mode="class", labels=labels)
    with refused("2 labels", "3"):
        square.edit(photo, box=MIDDLE, labels=[0, 1], num_images=3)
    with refused("num_images", 0):
        square.edit(photo, box=MIDDLE, num_images=0)
    for scales in (0, 4, -1):
        with refused("1 to 3", scales):
            square.continue_from(photo, scales)
    with refused("8 x 8", "scales_kept"):
        square.continue_from(photo)
    for text in ("", "1,2,3", "a,b,c,d"):
        with refused("y0,x0,y1,x1"):
            parse_box(text)


def test_a_single_scale_cannot_be_continued():
    pipe = pipeline("single")
    with refused("a single scale"):
        pipe.continue_from(noise((4, 6)), 1)


def test_files_do_as_well(square, tmp_path):
    photo, mask = noise((8, 8)), random_mask((8, 8), 3)
    photo.save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    files = square.edit(tmp_path / "a.png", str(tmp_path / "m.png"))
    assert bytes_of(files) == bytes_of(square.edit(photo, mask))
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:-60])
    with refused("half.png"):
        square.edit(tmp_path / "half.png", mask)
    with Image.open(tmp_path / "half.png") as half, refused("cannot be read"):
        square.edit(half, mask)
    with refused("PIL image", "ndarray"):
        square.edit(np.asarray(photo), mask)
