"""Sampling bits scale by scale: settings of each scale, given scales, and stopping early."""

from __future__ import annotations

import pytest
import torch
from tiny import refused, same
from tiny_infinity import DIM, SCHEDULES, make_infinity, make_text, make_tokenizer, random_bits

import nextscale as ns
from nextscale.sampling.sampler import ScaleStep
from nextscale.transformer.infinity import Infinity

WIDE = SCHEDULES["wide"]

Models = tuple[ns.ImageTokenizer, Infinity]


@pytest.fixture(params=[False, True], ids=["plain", "patchify"])
def models(request) -> Models:
    return make_tokenizer(request.param), make_infinity(request.param)


@pytest.fixture
def plain() -> Models:
    return make_tokenizer(), make_infinity()


# ---- lists per scale ---------------------------------------------------------------------------------------------


def test_a_list_of_equal_numbers_is_that_number(plain: Models):
    text, k = make_text(5, 2), 3
    one = ns.sample(*plain, text, cfg=2.0, temperature=0.7)
    assert same(ns.sample(*plain, text, cfg=[2.0] * k, temperature=[0.7] * k).tokens, one.tokens)


def test_each_scale_has_its_own_cfg_and_temperature(plain: Models):
    """Changing one changes the logits of its scale and of none before, and a temperature none at all."""
    text = make_text(5, 2)

    def run(**options) -> list[ScaleStep]:
        return list(ns.sample_scales(*plain, text, top_k=1, **options))

    plain_run, changed = run(cfg=[2.0, 2.0, 2.0]), run(cfg=[2.0, 3.0, 2.0])
    assert torch.equal(plain_run[0].logits, changed[0].logits)
    assert not torch.equal(plain_run[1].logits, changed[1].logits)
    hot = run(cfg=[2.0, 2.0, 2.0], temperature=[1.0, 5.0, 1.0])
    assert same([step.tokens for step in hot], [step.tokens for step in plain_run])  # greedy


def test_a_low_temperature_is_greedy_at_its_scale(plain: Models):
    steps = list(ns.sample_scales(*plain, make_text(5, 2), cfg=2.0, temperature=[0.001, 1.0, 0.001], top_p=0))
    greedy = [torch.equal(step.tokens, step.logits.argmax(dim=-1).bool()) for step in steps]
    assert greedy == [True, False, True]


@pytest.mark.parametrize("name", ["cfg", "temperature"])
@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_lists_of_another_length(plain: Models, name, count):
    with refused(name, "3 scales", f"got {count}"):
        ns.sample_scales(*plain, make_text(4), **{name: [1.5] * count})


@pytest.mark.parametrize(("name", "value"), [("cfg", [1.0, "2", 3.0]), ("temperature", [1.0, 0.0, 1.0])])
def test_a_bad_value_in_a_list(plain: Models, name, value):
    with refused(name, repr(value[1])):
        ns.sample_scales(*plain, make_text(4), **{name: value})


# ---- given scales, and stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_given_scales_are_put_on_the_canvas(models: Models, count):
    given = random_bits(WIDE, bits=models[1].config.bits)
    steps = list(ns.sample_scales(*models, make_text(5, 2), schedule=WIDE, keep_scales=given[:count]))
    tokens = [*given[:count], *(step.tokens for step in steps[count:])]
    pyramid = models[0].pyramid
    for step, expected in zip(steps, pyramid.accumulate(tokens, WIDE), strict=True):
        torch.testing.assert_close(step.canvas, expected.canvas)
    if count == 0:
        assert same([s.tokens for s in steps], ns.sample(*models, make_text(5, 2), schedule=WIDE).tokens)


def test_random_numbers_are_used_up_by_given_scales_too(plain: Models):
    """As in the official code: what is sampled and then replaced leaves the later random numbers as they are."""
    text = make_text(5, 2)
    free = ns.sample(*plain, text, schedule=WIDE)
    kept = ns.sample(*plain, text, schedule=WIDE, keep_scales=free.tokens[:2])
    assert same(kept.tokens, free.tokens) and torch.equal(kept.images, free.images)


def test_one_image_s_scales_for_all(plain: Models):
    given = random_bits(WIDE, batch=1)[:2]
    one, each = (
        ns.sample(*plain, make_text(5, 2), schedule=WIDE, keep_scales=bits)
        for bits in (given, [b.repeat(2, 1, 1) for b in given])
    )
    assert torch.equal(one.images, each.images)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: random_bits(WIDE, batch=3)[:2], ("3 images", "2")),
        (lambda: random_bits(SCHEDULES["square"])[:2], (f"(2, 6, {DIM})", f"(2, 4, {DIM})")),
        (lambda: [b.long() for b in random_bits(WIDE)[:2]], ("bool", "int64")),
        (lambda: random_bits(WIDE, bits=DIM - 1)[:1], (f"(2, 1, {DIM})", f"(2, 1, {DIM - 1})")),
        (lambda: random_bits(WIDE) * 2, ("3 scales", "got 6")),
    ],
)
def test_given_scales_that_do_not_fit(plain: Models, given, words):
    with refused(*words):
        ns.sample_scales(*plain, make_text(5, 2), schedule=WIDE, keep_scales=given())


def test_an_edit_and_given_scales(plain: Models):
    given = random_bits(WIDE)
    with refused("edit or keep_scales"):
        ns.sample_scales(
            *plain,
            make_text(5, 2),
            schedule=WIDE,
            keep_scales=given[:1],
            edit=ns.TokenEdit(given, torch.ones(WIDE.final_size)),
        )


def test_an_edit_keeps_bits(models: Models):
    """Kept tokens go to the canvas, the others are sampled."""
    given = random_bits(WIDE, bits=models[1].config.bits)
    keep = torch.zeros(WIDE.final_size)
    keep[:, :2] = 1
    edit = ns.TokenEdit(given, keep)
    steps = list(ns.sample_scales(*models, make_text(5, 2), schedule=WIDE, edit=edit))
    tokens = edit.put([step.tokens for step in steps], WIDE)
    assert torch.equal(tokens[0], given[0])  # a scale of so few tokens is always kept
    last = (grid.unflatten(1, WIDE.final_size) for grid in (tokens[-1], given[-1], steps[-1].tokens))
    found, kept, sampled = last
    assert torch.equal(found[:, :, :2], kept[:, :, :2]) and torch.equal(found[:, :, 2:], sampled[:, :, 2:])
    torch.testing.assert_close(steps[-1].canvas, models[0].pyramid.canvas(tokens, WIDE))

    everything = ns.TokenEdit(given, torch.ones(WIDE.final_size))
    images = ns.sample(*models, make_text(5, 2), schedule=WIDE, edit=everything).images
    torch.testing.assert_close(images, models[0].decode(given, WIDE) / 2 + 0.5, atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_stopping_early(models: Models, count):
    text = make_text(5, 2)
    steps = list(ns.sample_scales(*models, text, schedule=WIDE, stop_after=count))
    assert len(steps) == count
    assert [step.is_last for step in steps] == [False] * (count - 1) + [True]
    whole = list(ns.sample_scales(*models, text, schedule=WIDE))
    for step, expected in zip(steps, whole, strict=False):
        assert torch.equal(step.canvas, expected.canvas) and torch.equal(step.tokens, expected.tokens)
    result = ns.sample(*models, text, schedule=WIDE, stop_after=count)
    assert torch.equal(result.images, whole[count - 1].image()) and len(result.tokens) == count


@pytest.mark.parametrize("count", [0, -1, 4, 1.5, "2", True])
def test_stopping_nowhere(plain: Models, count):
    with refused("stop_after", "1 to 3", count):
        ns.sample_scales(*plain, make_text(4), stop_after=count)
