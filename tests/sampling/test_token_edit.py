"""Keeping tokens of a given image while sampling."""

from __future__ import annotations

import pytest
import torch
from tiny import CODES, SCHEDULES, Models, random_tokens, refused, same

import nextscale as ns
from nextscale.sampling.token_edit import ALWAYS_KEPT, box_mask

LABELS = torch.tensor([0, 3])


def random_mask(schedule: ns.ScaleSchedule, seed: int, batch: tuple[int, ...] = ()) -> torch.Tensor:
    return torch.rand(*batch, *schedule.final_size, generator=torch.Generator().manual_seed(seed)).round()


def test_keeping_everything_gives_the_image_back(models: Models, schedule):
    given = random_tokens(schedule)
    *_, step = ns.sample_scales(*models, LABELS, edit=ns.TokenEdit(given, torch.ones(schedule.final_size)))
    assert torch.equal(step.canvas, models[0].pyramid.canvas(given))


def test_keeping_nothing_still_keeps_the_small_scales(models: Models, schedule):
    given = random_tokens(schedule)
    steps = list(ns.sample_scales(*models, LABELS, edit=ns.TokenEdit(given, torch.zeros(schedule.final_size))))
    taken = [g if g.shape[1] <= ALWAYS_KEPT else step.tokens for g, step in zip(given, steps, strict=True)]
    assert torch.equal(steps[-1].canvas, models[0].pyramid.canvas(taken))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch", [(), (1,), (2,)], ids=str)
def test_kept_tokens_never_change(models: Models, schedule, seed, batch):
    given = random_tokens(schedule, seed=seed)
    edit = ns.TokenEdit(given, random_mask(schedule, seed, batch))
    steps = list(ns.sample_scales(*models, LABELS, seed=seed, edit=edit))
    taken = [given[k].where(edit.kept(k, schedule), step.tokens) for k, step in enumerate(steps)]
    assert torch.equal(steps[-1].canvas, models[0].pyramid.canvas(taken))


def test_smoothing_keeps_kept_tokens(models: Models, schedule):
    given = random_tokens(schedule)
    edit = ns.TokenEdit(given, torch.ones(schedule.final_size))
    *_, step = ns.sample_scales(*models, LABELS, edit=edit, more_smooth=True)
    assert torch.equal(step.canvas, models[0].pyramid.canvas(given))


def test_one_given_image_for_all(models: Models, schedule):
    given = random_tokens(schedule, batch=1)
    mask = random_mask(schedule, 0)
    one = ns.sample(*models, LABELS, edit=ns.TokenEdit(given, mask))
    each = ns.sample(*models, LABELS, edit=ns.TokenEdit([g.repeat(2, 1) for g in given], mask))
    assert same(one.tokens, each.tokens)
    assert torch.equal(one.images, each.images)


def test_a_mask_may_be_boolean(models: Models, schedule):
    given, mask = random_tokens(schedule), random_mask(schedule, 0)
    first, second = (ns.sample(*models, LABELS, edit=ns.TokenEdit(given, m)) for m in (mask, mask.bool()))
    assert same(first.tokens, second.tokens)


def test_the_last_scale_keeps_what_the_mask_says(schedule):
    mask = random_mask(schedule, 0)
    kept = ns.TokenEdit(random_tokens(schedule), mask).kept(schedule.num_scales - 1, schedule)
    assert torch.equal(kept, mask.bool().flatten()[None])


def test_half_a_mask_on_smaller_scales():
    schedule = ns.ScaleSchedule.square((1, 2, 4))
    mask = box_mask((0, 0, 1, 0.5), schedule)
    assert mask.tolist() == [[1, 1, 0, 0]] * 4
    edit = ns.TokenEdit(random_tokens(schedule), mask)
    assert edit.kept(1, schedule).tolist() == [[True, False, True, False]]
    assert edit.kept(0, schedule).tolist() == [[True]]


def test_a_box_on_a_rectangle():
    mask = box_mask((0.5, 0.25, 1, 0.75), ns.ScaleSchedule(((2, 4),)))
    assert mask.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (float("nan"),) * 4]
)
def test_what_is_no_box(box):
    with refused("y0 < y1", box):
        box_mask(box, SCHEDULES["square"])


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (4,), (1, 2, 4, 4)])
def test_a_mask_of_another_size(square: Models, shape):
    with refused((4, 4), shape):
        ns.sample(*square, LABELS, edit=ns.TokenEdit(random_tokens(square[0].schedule), torch.ones(shape)))


def test_masks_and_tokens_for_other_numbers_of_images(square: Models):
    tokens = random_tokens(square[0].schedule, batch=3)
    with refused("tokens", "3 images", "2 are sampled"):
        ns.sample(*square, LABELS, edit=ns.TokenEdit(tokens, torch.ones(4, 4)))
    with refused("mask", "3 images", "2 are sampled"):
        ns.sample(*square, LABELS, edit=ns.TokenEdit([t[:2] for t in tokens], torch.ones(3, 4, 4)))


def test_tokens_outside_the_codebook(square: Models):
    tokens = random_tokens(square[0].schedule)
    tokens[2][0, 0] = CODES
    with refused("scale 2", CODES, CODES - 1):
        ns.sample(*square, LABELS, edit=ns.TokenEdit(tokens, torch.ones(4, 4)))


@pytest.mark.parametrize("count", [0, 3])
def test_tokens_of_another_number_of_scales(square: Models, count):
    tokens = random_tokens(square[0].schedule)[:count]
    with refused("4 scales", f"got {count}"):
        ns.sample(*square, LABELS, edit=ns.TokenEdit(tokens, torch.ones(4, 4)))


@pytest.mark.parametrize("scales", [-1, 5])
def test_more_scales_to_keep_than_there_are(square: Models, scales):
    with refused("0 to 4", scales):
        tokens = random_tokens(square[0].schedule)
        ns.sample(*square, LABELS, edit=ns.TokenEdit(tokens, torch.ones(4, 4), scales_kept=scales))


@pytest.mark.parametrize(("tokens", "scales", "whole"), [(0, 0, 0), (3, 0, 1), (4, 0, 2), (0, 3, 3), (16, 0, 4)])
def test_scales_kept_whole(tokens, scales, whole):
    schedule = SCHEDULES["square"]
    edit = ns.TokenEdit(random_tokens(schedule), torch.zeros(4, 4), tokens, scales)
    assert [bool(edit.kept(k, schedule).all()) for k in range(4)] == [k < whole for k in range(4)]
