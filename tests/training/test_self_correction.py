"""Bitwise self-correction: the reference's labels and inputs, and flips that do not depend on the division."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from golden_infinity import NAMES, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_images
from tiny_infinity import DIM, SCHEDULES, make_tokenizer, random_bits

import nextscale as ns
from nextscale.data.loader import BatchSlice
from nextscale.tokenizer.bsq import SignBits
from nextscale.tokenizer.pyramid import INFINITY_MOVES, ResidualPyramid
from nextscale.training.losses import scale_weights, token_loss
from nextscale.training.self_correction import corrected, corrected_tokens, random_flips
from nextscale.transformer.token_loss import token_losses

few = settings(deadline=None, max_examples=20)


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_inputs_of_the_reference(name):
    case = golden(name)
    flips = [case.to_tokens(case.arrays[f"bsc_mask_{k}"]) for k in range(case.info["flipped_scales"])]
    labels, inputs = corrected(case.models[0].pyramid, case.arrays["encoder_feature"], flips, case.schedule)
    assert torch.equal(torch.cat(labels, dim=1), case.arrays["bsc_labels"].bool())
    torch.testing.assert_close(inputs, case.arrays["bsc_input"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_of_the_reference(name):
    case = golden(name)
    losses = token_losses(case.arrays["logits"].unflatten(-1, (-1, 2)), case.arrays["labels"].long())
    for kind, weights in (("uniform", None), ("reweighted", scale_weights(case.schedule))):
        loss = token_loss(losses, case.schedule, weights)
        torch.testing.assert_close(loss.mean, case.arrays[f"loss_{kind}"].float(), atol=1e-6, rtol=0)
        torch.testing.assert_close(loss.per_scale, case.arrays["loss_per_scale"].float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("patchify", [False, True])
@pytest.mark.parametrize("schedule", [SCHEDULES[name] for name in ("square", "wide", "single")], ids=str)
def test_without_flips_labels_and_inputs_are_the_plain_ones(schedule, patchify):
    tokenizer = make_tokenizer(patchify, schedule=schedule)
    images = random_images(tokenizer)
    with torch.no_grad():
        tokens = tokenizer.encode(images)
        features = tokenizer.encode_features(images)
        labels, inputs = corrected(tokenizer.pyramid, features, [], schedule)
    assert torch.equal(torch.cat(labels, dim=1), torch.cat(tokens, dim=1))
    assert torch.equal(inputs, tokenizer.teacher_forcing_input(tokens))


def test_a_flip_damages_what_follows_and_not_its_own_label():
    tokenizer, schedule = make_tokenizer(), SCHEDULES["square"]
    with torch.no_grad():
        features = tokenizer.encode_features(random_images(tokenizer, 1))
    flips = [torch.zeros(1, n, DIM, dtype=torch.bool) for n in schedule.tokens_per_scale[:2]]
    plain, _ = corrected(tokenizer.pyramid, features, flips, schedule)
    flips[1][0, 2, 0] = True
    labels, inputs = corrected(tokenizer.pyramid, features, flips, schedule)
    assert all(torch.equal(a, b) for a, b in zip(labels[:2], plain[:2], strict=True))
    wrong = corrected(tokenizer.pyramid, features, flips[:1], schedule)[1]
    assert torch.equal(inputs[:, :4], wrong[:, :4]) and (inputs[:, 4:] - wrong[:, 4:]).abs().max() > 0.1


@pytest.mark.parametrize("patchify", [False, True])
def test_bits_without_flips_are_their_own_labels(patchify):
    pyramid, schedule = make_tokenizer(patchify).pyramid, SCHEDULES["wide"]
    tokens = random_bits(schedule, bits=pyramid.codebook.dim)
    labels, inputs = corrected_tokens(pyramid, tokens, [], schedule)
    assert all(torch.equal(*pair) for pair in zip(labels, tokens, strict=True))
    assert torch.equal(inputs, pyramid.next_inputs(tokens, schedule))


@pytest.mark.parametrize("most", [0.05, 0.2])
def test_labels_of_bits_are_near_those_of_their_features(most):
    """Nearer than the bits themselves, and than an encoding of their canvas."""
    schedule = ns.ScaleSchedule.square((1, 2, 4, 8, 16))
    pyramid, generator = ResidualPyramid(schedule, SignBits(16), 0.0, moves=INFINITY_MOVES), torch.Generator()
    coarse = [torch.randn(4, 16, *size, generator=generator.manual_seed(0)) for size in schedule.sizes]
    features = sum(F.interpolate(grid, size=(16, 16), mode="bilinear") * 0.25 for grid in coarse)
    tokens = pyramid.encode(features)
    flips = random_flips(schedule, 16, most, 13, BatchSlice(0, 4, 4), generator.manual_seed(1))
    exact, _ = corrected(pyramid, features, flips, schedule)
    ours, _ = corrected_tokens(pyramid, tokens, flips, schedule)
    again, _ = corrected(pyramid, pyramid.canvas(tokens, schedule), flips, schedule)
    assert error(ours, exact) < 0.9 * min(error(again, exact), error(tokens, exact))


def error(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The share of labels that differ."""
    return (torch.cat(ours, dim=1) != torch.cat(theirs, dim=1)).float().mean().item()


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 5), st.sampled_from([0.01, 0.3, 1.0]))
@few
def test_flips_of_an_image_do_not_depend_on_the_division(parts, scales, most):
    schedule, count = SCHEDULES["wide"], 8 // parts

    def flips(first: int, count: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        return random_flips(schedule, DIM, most, scales, BatchSlice(first, count, 8), generator)

    whole, divided = flips(0, 8), [flips(i * count, count) for i in range(parts)]
    assert len(whole) == min(scales, schedule.num_scales - 1)
    for k, expected in enumerate(whole):
        assert expected.shape == (8, schedule.tokens_per_scale[k], DIM)
        assert torch.equal(torch.cat([part[k] for part in divided]), expected)


def test_rates_are_steps_of_a_hundredth_up_to_the_largest():
    """Over many steps, and one for the whole batch."""
    schedule = SCHEDULES["wide"]
    seen = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        flips = random_flips(schedule, 40_000, 0.03, 99, BatchSlice(0, 1, 1), generator)
        seen += [part.float().mean().item() for part in flips]
    near = [round(100 * rate) for rate in seen]
    assert set(near) == {0, 1, 2, 3} and min(near.count(rate) for rate in range(4)) > 60
    assert random_flips(SCHEDULES["single"], DIM, 0.3, 13, BatchSlice(0, 2, 2), torch.Generator()) == []
